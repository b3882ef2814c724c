import csv
import json
import math
import os
import re
import signal
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rl3jax import Config, load_agent, make_trainer, plots, sweep, train
from rl3jax.devices import Devices
from rl3jax.runs import batch
from rl3jax.runs.batch import Batch, configs_of, make_points, parse_grid
from rl3jax.runs.outcome import Outcome, make_table
from rl3jax.trainer import Trainer
from tests.children import Child

SMALL = "--n-tasks 16 --horizon 6 --minibatches 2 --epochs 1 --width 8 --validation-tasks 20"
FILES = {"config.json", "sweep.json", "sweep.csv", "sweep.png", "best_agent"}


def run(arguments):
    sweep.main(arguments.split())


def report(folder):
    return json.loads((folder / "sweep.json").read_text())


def lines(folder):
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def refused(capsys, arguments):
    """The one line of a refusal with exit code 2 (tyro's box counts as one)."""
    with pytest.raises(SystemExit) as caught:
        run(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two values × three seeds."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(f"{SMALL} --iterations 3 --grid learning-rate=1e-3,2e-2 --seeds 3 --seed 5 --out {folder}")
    return folder


# --- what it writes ----------------------------------------------------------------------------


def test_the_folder_holds_what_is_promised(whole):
    assert {path.name for path in whole.iterdir()} == FILES
    written = report(whole)
    assert written["grid"] == {"learning_rate": [1e-3, 2e-2]}
    assert written["seeds"] == [5, 6, 7]
    assert written["iterations"] == 3
    assert written["provenance"]["packages"]["jax"] == jax.__version__
    runs = [(r["values"]["learning_rate"], r["seed"]) for r in written["runs"]]
    assert runs == [(1e-3, 5), (1e-3, 6), (1e-3, 7), (2e-2, 5), (2e-2, 6), (2e-2, 7)]
    assert all(len(r["mean_return"]) == 3 and r["diverged_in"] is None for r in written["runs"])
    assert written["env_steps_per_second"] > 0
    assert json.loads((whole / "config.json").read_text())["horizon"] == 6
    with Image.open(whole / "sweep.png") as picture:
        assert picture.size[0] > 1000 > picture.size[1] > 400


def test_the_csv_is_the_json_without_histories(whole):
    for line, record in zip(lines(whole), report(whole)["runs"], strict=True):
        assert float(line["learning_rate"]) == record["values"]["learning_rate"]
        assert int(line["seed"]) == record["seed"]
        assert float(line["validation_return"]) == record["validation_return"]
        assert float(line["last_mean_return"]) == record["mean_return"][-1]
        assert line["diverged_in"] == ""


def test_the_best_run_is_the_best(whole):
    written = report(whole)
    best = max(written["runs"], key=lambda r: r["validation_return"])
    assert written["best"] == {k: best[k] for k in ("values", "seed", "validation_return")}
    assert load_agent(whole / "best_agent").greedy


def test_values_and_seeds_make_different_runs(whole):
    returns = [tuple(r["mean_return"]) for r in report(whole)["runs"]]
    assert len(set(returns)) == 6
    assert len({first for first, *_ in returns}) == 3  # before any update only the seed counts


def test_seeds_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run(f"{SMALL} --iterations 1 --algo rl2 --seeds 2")
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["sweep-bandit-rl2-markov-h6", "sweep-bandit-rl2-markov-h6-2"]
    folder = tmp_path / "runs" / names[1]
    assert {path.name for path in folder.iterdir()} == FILES
    assert [r["values"] for r in report(folder)["runs"]] == [{}, {}]
    assert "grid points: 1, seeds: 2; 2 runs" in capsys.readouterr().out


def test_every_run_is_that_of_the_train_command_in_float64(tmp_path):
    flags = (
        "--env mdp --n-tasks 6 --horizon 12 --iterations 3 --minibatches 3 --epochs 2 --width 8 "
        "--validation-tasks 10 --final-learning-rate 1e-3"
    )
    grid = "--grid learning_rate=1e-2,3e-2 discount=0.9 --seeds 2 --seed 3"
    with jax.enable_x64(True):
        run(f"{flags} {grid} --out {tmp_path / 'sweep'}")
        written = report(tmp_path / "sweep")
        assert len(written["runs"]) == 4
        for i, record in enumerate(written["runs"]):
            values = [f"--{k.replace('_', '-')}={v}" for k, v in record["values"].items()]
            folder = tmp_path / str(i)
            own = [*values, f"--seed={record['seed']}", "--validate-every=0", f"--out={folder}"]
            train.main([*flags.split(), *own])
            lines = (folder / "metrics.jsonl").read_text().splitlines()
            returns = [json.loads(line)["mean_return"] for line in lines]
            assert record["mean_return"] == pytest.approx(returns, rel=0, abs=1e-9)
            if {k: record[k] for k in ("seed", "values")}.items() <= written["best"].items():
                best = i
        ours, other = (
            load_agent(tmp_path / path) for path in ("sweep/best_agent", f"{best}/agent")
        )
        chex.assert_trees_all_close(ours, other, rtol=0, atol=1e-9)


def test_one_program_for_all_iterations_and_the_parameters_of_every_run(monkeypatch):
    """Each run's hyper-parameters and key are its own; `update` is compiled once."""
    config = Config(n_tasks=4, horizon=5, iterations=3, minibatches=2, epochs=1, width=8)
    trainer = make_trainer(config)
    configs = configs_of(config, make_points({"entropy": (0.0, 0.1), "clip": (0.1, 0.2, 0.3)}))
    states = Batch(trainer, configs, range(2), Devices()).start()
    np.testing.assert_allclose(states.hyperparams.entropy, [0] * 6 + [0.1] * 6)
    np.testing.assert_allclose(states.hyperparams.clip, [0.1, 0.1, 0.2, 0.2, 0.3, 0.3] * 2)
    keys = jax.random.key_data(states.key)
    np.testing.assert_array_equal(keys[0], keys[2])
    assert (keys[0] != keys[1]).any()
    compiled = batch.update._cache_size()
    for _ in range(3):
        states, metrics = batch.update(trainer, Devices(), states)
    assert batch.update._cache_size() == compiled + 1
    assert metrics.mean_return.shape == (12,)


# --- runs that diverge, runs that are stopped ---------------------------------------------------


def broken_from(iteration, when):
    """`Trainer.update` with NaN parameters in the runs where `when(state)`, from `iteration` on."""
    original = Trainer.update

    def update(self, state):
        state, metrics = original(self, state)
        bad = (state.iteration >= iteration) & when(state)
        actor = state.models["actor"]
        params = jax.tree.map(lambda x: jnp.where(bad, jnp.nan, x), actor.params)
        models = state.models | {"actor": actor.replace(params=params)}
        return state.replace(models=models), metrics

    return update


@pytest.fixture
def fresh_programs():
    """`batch.update` is traced anew, before and after."""
    batch.update.clear_cache()
    yield
    batch.update.clear_cache()


@pytest.mark.usefixtures("fresh_programs")
def test_a_diverged_run_is_reported_and_harms_no_other(tmp_path, capsys, monkeypatch):
    flags = f"{SMALL} --iterations 4 --grid entropy=0.01,0.5 --seeds 3"
    run(f"{flags} --out {tmp_path / 'good'}")
    whole_table = capsys.readouterr().out
    batch.update.clear_cache()
    first_draw = jax.random.key_data(Batch(
        make_trainer(Config(width=8, horizon=6)), [Config().resolve()], [1], Devices()
    ).start().key)[0, 0]  # fmt: skip
    monkeypatch.setattr(
        Trainer, "update",
        broken_from(3, lambda s: (s.hyperparams.entropy > 0.1)
                    & (jax.random.key_data(s.key)[0] == first_draw)),
    )  # fmt: skip
    run(f"{flags} --out {tmp_path / 'bad'}")
    good, bad = report(tmp_path / "good")["runs"], report(tmp_path / "bad")["runs"]
    assert [r["diverged_in"] for r in bad] == [None] * 4 + [3, None]
    assert bad[4]["validation_return"] is None
    assert bad[4]["mean_return"] == pytest.approx(good[4]["mean_return"][:2], abs=1e-4)
    assert lines(tmp_path / "bad")[4]["diverged_in"] == "3"
    for i in (0, 1, 2, 3, 5):
        assert bad[i]["mean_return"] == pytest.approx(good[i]["mean_return"], abs=1e-4)
    table = capsys.readouterr().out
    assert ("1 of 3" in table, "1 of 3" in whole_table) == (True, False)


@pytest.mark.usefixtures("fresh_programs")
def test_if_all_diverge_the_sweep_ends_early_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Trainer, "update", broken_from(2, lambda state: True))
    with pytest.raises(SystemExit) as caught:
        run(f"{SMALL} --iterations 50 --seeds 2 --grid clip=0.1,0.2 --out {tmp_path / 'a'}")
    assert caught.value.code == 1
    assert "every run diverged" in capsys.readouterr().err
    written = report(tmp_path / "a")
    assert written["iterations"] == 2
    assert written["best"] is None
    assert {path.name for path in (tmp_path / "a").iterdir()} == FILES - {"best_agent"}


def test_ctrl_c_finishes_the_iteration_and_ends_with_what_there_is(tmp_path):
    folder = tmp_path / "stopped"
    flags = f"{SMALL} --iterations 100000 --seeds 2 --out {folder}"
    process = Child("-m", "rl3jax.sweep", *flags.split())
    while "\niteration 1/" not in process.said()[0]:
        assert process.poll() is None, process.said()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    done = report(folder)["iterations"]
    assert f"stopped after iteration {done} of 100000" in output
    assert {path.name for path in folder.iterdir()} == FILES


# --- the table and the figure -------------------------------------------------------------------


def outcome(points, scores, returns=None):
    scores = np.array(scores, float)
    if returns is None:
        returns = np.repeat(scores[..., None], 4, axis=-1)
    return Outcome(
        points, range(scores.shape[1]), returns, scores, scores / 10, np.array([9.0, 1, 2, 3]), 80
    )


def rows_of(table):
    return [list(cells) for cells in zip(*(column.cells for column in table.columns), strict=True)]


def test_the_table_is_sorted_and_counts_what_diverged():
    points = [{"clip": 0.1}, {"clip": 0.2}, {"clip": 0.3}, {"clip": 0.4}]
    nan = math.nan
    scores = [[1, 2, 3], [4, 5, 9], [nan, nan, nan], [nan, 7, 3]]
    rows = rows_of(make_table(outcome(points, scores), "title"))
    assert [row[1] for row in rows] == ["0.2", "0.4", "0.1", "0.3"]
    assert [row[0] for row in rows] == ["best", "", "", ""]
    assert rows[0][2] == "6.00 ± 1.53"  # √(7 / 3)
    assert rows[0][4] == "2 (9.00)"
    assert [row[5] for row in rows] == ["0 of 3", "1 of 3", "0 of 3", "3 of 3"]
    assert rows[1][2] == "5.00 ± 2.00"
    assert rows[1][3] == "–"  # two seeds give no interval
    assert rows[2][3].startswith("2.00 [")
    assert rows[3][2:5] == ["–", "–", "–"]


def test_speed_is_of_all_runs_together_without_compilation():
    assert outcome([{}], [[1, 2]]).steps_per_second == 80 * 2 / 2
    assert outcome([{}], [[1, 2]]).best == (0, 1)
    assert outcome([{}], [[math.nan]]).best is None


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize(
    "grid",
    [
        {},
        {"clip": (0.1, 0.2)},
        {"grad_clip": (0.5, math.inf)},
        {"learning_rate": (1e-4, 1e-2, 1e-3), "entropy": (0.0, 0.01)},
        {"entropy": (0.0, 0.001, 0.1), "clip": (0.1, 0.2, 0.3), "discount": (0.9, 0.95, 0.99)},
    ],
)
def test_figures_of_any_number_of_swept_values(grid, lost, tmp_path):
    points = make_points({name: tuple(values) for name, values in grid.items()})
    scores = np.random.default_rng(0).normal(size=(len(points), 3))
    returns = np.repeat(scores[..., None], 4, axis=-1)
    if lost:
        scores[0, 1], returns[0, 1, 2:] = math.nan, math.nan
    plots.sweep(points, scores, returns, 100, "title", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 400
        assert len(set(picture.convert("L").tobytes())) > 20  # it is not blank


# --- the command line ---------------------------------------------------------------------------


def test_a_grid_is_the_product_of_its_values():
    grid = parse_grid(["learning-rate=1e-3,2e-3", "grad_clip=0.5,inf"], Config())
    assert grid == {"learning_rate": (1e-3, 2e-3), "grad_clip": (0.5, math.inf)}
    points = make_points(grid)
    assert [tuple(p.values()) for p in points] == [
        (1e-3, 0.5), (1e-3, math.inf), (2e-3, 0.5), (2e-3, math.inf)
    ]  # fmt: skip
    assert make_points({}) == [{}]


def test_a_value_decides_what_its_preset_derives_from_it():
    configs = configs_of(Config(preset="paper"), make_points({"learning_rate": (1e-3, 1e-4)}))
    assert [config.final_learning_rate for config in configs] == [1e-3, 1e-4]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--seeds 0", "seeds must be a whole number of at least 1, not 0"),
        ("--seeds many", "many"),
        ("--grid horizon=5", "horizon shapes the program; only learning_rate, final_learning"),
        ("--grid iterations=5,6", "iterations shapes the program"),
        ("--grid seed=1,2", "--seeds"),
        ("--grid learnin_rate=1", "did you mean 'learning_rate'"),
        ("--grid", "--grid has no values"),
        ("--grid entropy", "--grid takes NAME=VALUE,VALUE"),
        ("--grid entropy=", "no values of entropy"),
        ("--grid entropy=0.1,high", "entropy must be a number, not 'high'"),
        ("--grid entropy=0.1,0.2,1e-1", "entropy = 0.1 twice"),
        ("--grid entropy=0.1 entropy=0.2", "--grid has entropy twice"),
        ("--grid learning_rate=1e-3,-1", "learning_rate must be larger than 0, not -1"),
        ("--grid discount=0.9,1.5", "discount must lie in [0, 1], not 1.5"),
        ("--grid entropy=nan", "entropy must be finite, not nan"),
        ("--grid entropy=0.1 --entropy 0.2", "entropy is given twice: by --entropy and in --grid"),
        ("--checkpoint-every 5 --draw-every 2", "it takes no --checkpoint-every, --draw-every"),
        ("--env bandid", "did you mean 'bandit'"),
        ("--n-tasks 0", "n_tasks must be at least 1, not 0"),
        ("--resume somewhere", "resume"),
    ],
)
def test_bad_flags(capsys, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, arguments)
    assert expected in error
    assert "--help" in error or error.count("\n") == 1  # tyro's box, or ours
    assert list(tmp_path.iterdir()) == []


def test_a_taken_folder_is_refused(whole, capsys):
    before = (whole / "sweep.json").read_text()
    assert "already holds a sweep" in refused(capsys, f"{SMALL} --iterations 1 --out {whole}")
    assert (whole / "sweep.json").read_text() == before


def test_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        run("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    flags = re.findall(r"(--[a-z][a-z-]*) +[A-Z{\[]", text)
    fields = {"seeds", "grid"} | Config().names
    assert sorted(flags) == sorted("--" + field.replace("_", "-") for field in fields)
    assert text.count("(default:") >= len(flags)
    assert all(name in text for name in batch.SWEPT)
    assert "cannot be" in text
    assert "resumed" in text
