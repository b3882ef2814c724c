"""The command of an experiment: what is there stays, what is missing runs."""

import contextlib
import json
import os
import pickle
import shlex
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import tyro
from PIL import Image

import rl3jax
from experiments import (
    bandits,
    command,
    continuous,
    figures,
    gridworlds,
    mdps,
    scoring,
    tables,
    training,
    training_curves,
)
from experiments.command import Args, main
from experiments.experiment import Experiment, Measured
from experiments.results import read_result
from experiments.rows import PRESETS, SEEDS, Row, Training
from experiments.training import TrainingError
from rl3jax import baselines, train

CONFIG = {
    "env": "bandit", "network": "markov", "width": 8, "horizon": 10, "n_tasks": 8,
    "iterations": 2, "minibatches": 2, "epochs": 1,
}  # fmt: skip
TRAININGS = {algo: Training(f"tiny-{algo}", CONFIG | {"algo": algo}) for algo in ("rl2", "rl3")}
# Two rows that share their trainings, and one for baselines alone.
ROW, SHIFTED = (
    Row(f"bandit-{variation}-h10", "H = 10", "bandit", variation, 10, TRAININGS, n_tasks=16)
    for variation in ("iid", "ood")
)
ALONE = Row("bandit-iid-h5", "H = 5", "bandit", "iid", 5, n_tasks=16)


def experiment(rows, baseline_rows, measure):
    def section(found):
        return "\n\n".join(
            [tables.meta_rl(rows, ("rl2", "rl3"), found, "greedy"), tables.costs(rows, found)]
        )

    def draw(found):
        contenders = {"rl2 greedy": "RL²", "rl3 greedy": "RL³", "random": "random"}
        return {
            "tiny-regret": figures.within_meta_episode(rows, contenders, found, "regret", "regret")
        }

    return Experiment(
        "tiny", "A tiny one", lambda _: rows, measure, section, draw, lambda: baseline_rows
    )


def run(tiny, folder, arguments=""):
    """In this process alone, as `tiny` cannot be sent to another."""
    folders = [f"--out={folder / 'results'}", f"--runs={folder / 'runs'}"]
    main(tiny, ["--jobs=1", *arguments.split(), *folders])


def refused(capsys, code=2):
    """A context in which the command ends in one line on stderr; that line."""

    @contextlib.contextmanager
    def context():
        capsys.readouterr()
        line = []
        with pytest.raises(SystemExit) as caught:
            yield line
        assert caught.value.code == code
        line.append(capsys.readouterr().err)
        assert line[0].startswith("error: ")
        assert line[0].count("\n") == 1

    return context()


# --- with real trainings -----------------------------------------------------------------------


def train_here(trained, seed, folder):
    """Trains as the command would, in this process."""
    train.main([*training.command(trained, seed)[2:], f"--out={folder}"])


def interrupt_after_an_iteration(monkeypatch, trained, seed, folder):
    """Trains until asked to stop by SIGTERM, and leaves a line cut short; the whole line before."""
    show = train.Progress.show

    def show_and_stop(self, line):
        show(self, line)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train.Progress, "show", show_and_stop)
        with pytest.raises(SystemExit) as caught:
            train_here(trained, seed, folder)
    assert caught.value.code == 130
    (first_line,) = (folder / "metrics.jsonl").read_text().splitlines()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 2, "env_st')
    return first_line


def check_files(results):
    """Result files, tables of tasks, the section and its figure; nothing else."""
    names = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    page = {"tiny/quick/section.md", "tiny/quick/tiny-regret.png", "tiny/quick/tiny-regret.svg"}
    stems = [f"tiny/quick/{ROW.name}-s{seed}" for seed in (0, 1)] + [f"baselines/{ROW.name}"]
    assert names == page | {stem + ending for stem in stems for ending in (".json", ".csv")}
    with Image.open(results / "tiny/quick/tiny-regret.png") as picture:
        assert min(picture.size) > 300
    assert "<svg" in (results / "tiny/quick/tiny-regret.svg").read_text()
    section = (results / "tiny/quick/section.md").read_text()
    assert "quick, 2" in section
    assert "![tiny regret](tiny-regret.png)" in section


def check_result(result, seed, runs):
    """A row's scores are those that one gets by hand."""
    assert (result.seed, result.horizon, result.n_tasks) == (seed, 10, 16)
    manners = ("greedy", "sampled")
    played = [f"{algo} {manner}" for algo in TRAININGS for manner in manners]
    assert list(result.scores) == ["optimal", *played]
    assert all(score.regret.x[-1] == 10 for score in result.scores.values())
    agent = rl3jax.load_agent(runs / f"tiny-rl2-s{seed}" / "agent")
    by_hand = rl3jax.evaluate_agent(agent, rl3jax.make_env("bandit"), 10, 16, rl3jax.held_out_key())
    assert result.scores["rl2 greedy"].returns == pytest.approx(by_hand.returns)
    for algo, record in result.trainings.items():
        assert (record.iterations, record.env_steps) == (2, 160)
        assert record.command == training.command_line(TRAININGS[algo], seed)


def check_starts(runs, half, first_line):
    """The interrupted training went on after its first iteration; all others ran once."""
    lines = (half / "metrics.jsonl").read_text().splitlines()
    assert lines[0] == first_line
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2]
    starts = {
        folder.name: len(json.loads((folder / "provenance.json").read_text()))
        for folder in runs.iterdir()
    }
    assert starts == {"tiny-rl2-s0": 1, "tiny-rl2-s1": 1, "tiny-rl3-s0": 1, "tiny-rl3-s1": 2}


def no_training(*arguments, **options):
    raise AssertionError("trains again")


@pytest.mark.slow
def test_an_experiment_runs_once_and_mends_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "names", lambda env, horizon: ("random", "optimal", "thompson"))
    runs, results = tmp_path / "runs" / "quick", tmp_path / "results"
    tiny = experiment([ROW], [ROW], bandits.EXPERIMENT.measure)

    # Of four trainings two are finished, and one was interrupted.
    train_here(TRAININGS["rl3"], 0, runs / "tiny-rl3-s0")
    train_here(TRAININGS["rl2"], 1, runs / "tiny-rl2-s1")
    half = runs / "tiny-rl3-s1"
    first_line = interrupt_after_an_iteration(monkeypatch, TRAININGS["rl3"], 1, half)

    # All of it.
    run(tiny, tmp_path)
    output = capsys.readouterr().out
    assert "1 rows × 2 seeds, 2 to run; 1 rows of baselines to run" in output
    assert output.count("  trained tiny-") == 4
    check_files(results)
    first, lost = (results / f"tiny/quick/{ROW.name}-s{seed}.json" for seed in (0, 1))
    for seed, path in enumerate((first, lost)):
        check_result(read_result(path), seed, runs)
    check_starts(runs, half, first_line)
    played = read_result(results / f"baselines/{ROW.name}.json").scores
    assert list(played) == ["optimal", "random", "thompson"]
    # Everybody plays the same tasks.
    assert played["optimal"].returns == read_result(first).scores["optimal"].returns

    # Again: nothing.
    def stamps():
        files = [*results.rglob("*-s*.*"), *(results / "baselines").iterdir()]
        return {path: path.stat().st_mtime_ns for path in files}

    before = stamps()
    with monkeypatch.context() as patch:
        patch.setattr(training, "subprocess", SimpleNamespace(run=no_training, STDOUT=None))
        patch.setattr(scoring, "_play", no_training)
        run(tiny, tmp_path)
    assert "0 to run; 0 rows of baselines to run" in capsys.readouterr().out
    assert stamps() == before
    assert len(before) == 6

    # One result lost: that one, from the agents that are there.
    scores = read_result(lost).scores
    lost.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(training, "subprocess", SimpleNamespace(run=no_training, STDOUT=None))
        run(tiny, tmp_path)
    assert "1 to run; 0 rows of baselines to run" in capsys.readouterr().out
    again = {path for path, stamp in stamps().items() if stamp != before[path]}
    assert again == {lost, lost.with_suffix(".csv")}
    for name, score in read_result(lost).scores.items():
        assert score.returns == scores[name].returns


# --- with trainings made up --------------------------------------------------------------------


class Fake(NamedTuple):
    """An experiment of which nothing is trained or played, and what it did, in order."""

    tiny: Experiment
    log: list


@pytest.fixture
def fake(monkeypatch, make_score, make_record):
    log = []

    def train_one(trained, seed, folder):
        log.append(("train", folder.name))

    def measure(row, seed, agents):
        log.append(("measure", row.name, seed, sorted(agents)))
        names = ["optimal", *(f"{algo} greedy" for algo in agents)]
        return Measured({name: make_score(name, range(row.n_tasks)) for name in names})

    def play(row):
        log.append(("baselines", row.name))
        yield "random", make_score("random", range(row.n_tasks))

    monkeypatch.setattr(training, "train", train_one)
    monkeypatch.setattr(training, "record", lambda trained, seed, _: make_record(trained, seed))
    monkeypatch.setattr(rl3jax, "load_agent", lambda path: path)
    monkeypatch.setattr(scoring, "score_baselines", play)
    return Fake(experiment([ROW, SHIFTED], [ROW, ALONE], measure), log)


def measured(row, *seeds):
    return [("measure", row.name, seed, ["rl2", "rl3"]) for seed in seeds]


def trained(*seeds):
    return [("train", f"tiny-{algo}-s{seed}") for seed in seeds for algo in ("rl2", "rl3")]


def test_rows_share_their_trainings(fake, tmp_path):
    run(fake.tiny, tmp_path)
    assert fake.log == [
        ("baselines", ROW.name), ("baselines", ALONE.name),
        *trained(0, 1), *measured(ROW, 0, 1), *measured(SHIFTED, 0, 1),
    ]  # fmt: skip


def test_more_seeds_run_those_alone(fake, tmp_path):
    run(fake.tiny, tmp_path, "--seeds 1")
    fake.log.clear()
    run(fake.tiny, tmp_path, "--seeds 3")
    assert fake.log == [*trained(1, 2), *measured(ROW, 1, 2), *measured(SHIFTED, 1, 2)]
    assert "quick, 3" in (tmp_path / "results/tiny/quick/section.md").read_text()


@pytest.mark.parametrize("preset", PRESETS)
def test_the_default_number_of_seeds_is_the_presets(fake, tmp_path, preset):
    run(fake.tiny, tmp_path, f"--preset {preset}")
    folder = tmp_path / "results" / "tiny" / preset
    assert len(list(folder.glob(f"{ROW.name}-s*.json"))) == SEEDS[preset]


def test_rows_may_be_chosen_also_those_of_baselines_alone(fake, tmp_path):
    run(fake.tiny, tmp_path, f"--rows {SHIFTED.name} --seeds 1")
    assert fake.log == [*trained(0), *measured(SHIFTED, 0)]
    fake.log.clear()
    run(fake.tiny, tmp_path, f"--rows {ALONE.name} {ROW.name} --seeds 1")
    assert fake.log == [
        ("baselines", ROW.name), ("baselines", ALONE.name), *trained(0), *measured(ROW, 0),
    ]  # fmt: skip


def test_presets_share_baselines_and_nothing_else(fake, tmp_path):
    run(fake.tiny, tmp_path, "--seeds 1")
    fake.log.clear()
    run(fake.tiny, tmp_path, "--seeds 1 --preset cpu")
    assert fake.log == [*trained(0), *measured(ROW, 0), *measured(SHIFTED, 0)]


def test_a_dry_run_only_lists(fake, tmp_path, capsys):
    run(fake.tiny, tmp_path, "--dry-run")
    assert fake.log == []
    assert list(tmp_path.iterdir()) == []
    lines = capsys.readouterr().out.splitlines()
    assert f"baselines on {ALONE.name}" in lines
    for seed in (0, 1):
        assert lines.count(training.command_line(TRAININGS["rl3"], seed)) == 1
        assert f"score {SHIFTED.name}, seed {seed}" in lines


def test_what_was_measured_before_a_failure_stays(fake, tmp_path, capsys):
    def fail_on_shifted(row, seed, agents):
        if row.name == SHIFTED.name:
            raise rl3jax.ConfigError("no such thing")
        return fake.tiny.measure(row, seed, agents)

    broken = experiment([ROW, SHIFTED], [ROW], fail_on_shifted)
    with refused(capsys) as line:
        run(broken, tmp_path, "--seeds 1")
    assert line[0] == "error: no such thing\n"
    fake.log.clear()
    run(fake.tiny, tmp_path, "--seeds 1")
    assert ("measure", SHIFTED.name, 0, ["rl2", "rl3"]) in fake.log
    assert ("measure", ROW.name, 0, ["rl2", "rl3"]) not in fake.log


def test_a_failed_training_is_one_line_and_nothing_is_measured(fake, tmp_path, capsys, monkeypatch):
    def train_one(trained, seed, folder):
        if trained.name == "tiny-rl3" and seed == 1:
            raise TrainingError(f"{folder.name} failed (exit code 1); see {folder / 'train.log'}")

    monkeypatch.setattr(training, "train", train_one)
    with refused(capsys) as line:
        run(fake.tiny, tmp_path)
    assert "tiny-rl3-s1 failed" in line[0]
    assert not [entry for entry in fake.log if entry[0] == "measure"]


def test_an_interrupt_says_how_to_go_on(fake, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupt)
    with refused(capsys, code=130) as line:
        run(fake.tiny, tmp_path)
    assert "the same command goes on from here" in line[0]


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--rows bandit-h10", "unknown row 'bandit-h10'; the preset has bandit-iid-h10, "),
        ("--seeds 0", "seeds must be at least 1, not 0"),
        ("--seeds -1", "seeds must be at least 1, not -1"),
        ("--jobs 0", "jobs must be at least 1, not 0"),
    ],
)
def test_bad_flags(fake, tmp_path, capsys, arguments, expected):
    with refused(capsys) as line:
        run(fake.tiny, tmp_path, arguments)
    assert expected in line[0]
    assert fake.log == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", ["--preset cheap", "--seeds two", "--no-such-flag 1"])
def test_bad_flags_that_tyro_refuses(fake, tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        run(fake.tiny, tmp_path, arguments)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert fake.log == []


def changed(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "of another version": lambda path: changed(path, rl3jax="0.0.1"),
    "is no result file": lambda path: path.write_text("[]"),
    "is no complete result": lambda path: changed(path, scores={"rl3 greedy": {}}),
    "horizon: 99, now: 10": lambda path: changed(path, horizon=99),
}


@pytest.mark.parametrize("expected", DAMAGES)
@pytest.mark.parametrize("name", [f"tiny/quick/{ROW.name}-s0.json", f"baselines/{ROW.name}.json"])
def test_a_result_that_cannot_be_used_is_named_and_stays(fake, tmp_path, capsys, expected, name):
    run(fake.tiny, tmp_path, "--seeds 1")
    fake.log.clear()
    path = tmp_path / "results" / name
    DAMAGES[expected](path)
    content = path.read_bytes()
    with refused(capsys) as line:
        run(fake.tiny, tmp_path, "--seeds 1")
    assert str(path) in line[0]
    assert expected in line[0]
    assert fake.log == []
    assert path.read_bytes() == content


def test_a_damaged_result_of_a_row_not_asked_for_does_not_stop_the_others(fake, tmp_path):
    run(fake.tiny, tmp_path, "--seeds 1")
    damaged = tmp_path / "results" / "tiny" / "quick" / f"{ROW.name}-s0.json"
    damaged.write_text("{")
    run(fake.tiny, tmp_path, f"--seeds 1 --rows {SHIFTED.name}")
    section = (damaged.parent / "section.md").read_text()
    assert f"- Not used: {damaged} was cut short or damaged" in section


def test_a_result_of_other_trainings_is_not_mixed_with_todays(fake, tmp_path, capsys, monkeypatch):
    run(fake.tiny, tmp_path, "--seeds 1")
    other = {**TRAININGS, "rl3": Training("tiny-rl3", {**CONFIG, "algo": "rl3", "iterations": 9})}
    row = Row(ROW.name, ROW.title, ROW.env, ROW.variation, ROW.horizon, other, ROW.n_tasks)
    with refused(capsys) as line:
        run(experiment([row], [], fake.tiny.measure), tmp_path, "--seeds 2")
    assert f"{ROW.name}-s0.json is of other settings (rl3: python" in line[0]
    assert "--iterations=2" in line[0]
    assert "--iterations=9" in line[0]


@pytest.mark.parametrize("flag", ["out", "runs"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys, flag):
    (tmp_path / "file").write_text("")
    folders = {"out": tmp_path / "results", "runs": tmp_path / "runs"}
    folders[flag] = tmp_path / "file" / "folder"
    row = ROW if flag == "runs" else Row(ROW.name, ROW.title, ROW.env, "iid", 10)
    tiny = experiment([row], [], lambda row, seed, agents: Measured())
    with refused(capsys) as line:
        main(tiny, ["--seeds=1", *(f"--{name}={path}" for name, path in folders.items())])
    assert str(folders[flag]) in line[0]


# --- what is promised --------------------------------------------------------------------------


MODULES = (bandits, mdps, gridworlds, continuous, training_curves)


@pytest.mark.parametrize("module", MODULES)
def test_recorded_commands_repeat_what_they_are_recorded_with(module, tmp_path, monkeypatch):
    """Every row's command is one that the experiment understands, and runs that row and seed."""
    commands = []

    class Recorder:
        def __init__(self, **fields):
            commands.append(fields["command"])

        def write(self, path):
            pass

    monkeypatch.setattr(command, "Result", Recorder)
    work = command.Work(module.EXPERIMENT, "quick", tmp_path, tmp_path)
    trained_rows, baseline_rows = module.rows("quick"), module.EXPERIMENT.baseline_rows()
    wanted = [*((row, 3) for row in trained_rows), *((row, None) for row in baseline_rows)]
    for row, seed in wanted:
        work._write(row, seed)
    for (row, seed), line in zip(wanted, commands, strict=True):
        python, m, name, *flags = shlex.split(line)
        assert (python, m, name) == ("python", "-m", f"experiments.{module.EXPERIMENT.name}")
        assert module.__name__ == name
        args = tyro.cli(Args, args=flags)
        rows, baselines_of = command._chosen(module.EXPERIMENT, args.preset, args.rows)
        assert row.name in [r.name for r in (baselines_of if seed is None else rows)]
        assert seed is None or seed < args.seeds


def test_help_explains_every_flag(fake, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(fake.tiny, ["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for field in Args.__dataclass_fields__:
        assert f"--{field.replace('_', '-')}" in text
    assert text.count("(default:") >= len(Args.__dataclass_fields__)


@pytest.mark.parametrize("jobs", [1, 2])
def test_rows_are_scored_as_many_at_a_time_as_jobs(tmp_path, jobs):
    folders = [tmp_path / name for name in "abc"]
    command._each(os.mkdir, [(folder,) for folder in folders], jobs)
    assert all(folder.is_dir() for folder in folders)
    command._each(os.mkdir, [], jobs)
    with pytest.raises(FileExistsError):
        command._each(os.mkdir, [(folder,) for folder in folders], jobs)


def test_experiments_can_be_sent_to_other_processes():
    for module in MODULES:
        work = command.Work(module.EXPERIMENT, "quick", Path("results"), Path("runs"))
        assert pickle.loads(pickle.dumps(work)) == work
