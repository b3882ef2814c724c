"""Experiments whose trainings are sweeps: several seeds as one program."""

import json

import numpy as np
import pytest

import rl3jax
from experiments import levers, sample_efficiency, training
from experiments.command import main
from experiments.gathered import gather
from experiments.results import read_result
from experiments.rows import PRESETS, Training
from rl3jax.commands import parse
from rl3jax.sweep import SweepArgs

EVERY = [
    (preset, trained)
    for preset in PRESETS
    for module in (levers, sample_efficiency)
    for row in module.rows(preset)
    for trained in row.trainings.values()
]


@pytest.mark.parametrize(
    ("preset", "trained"), EVERY, ids=[f"{preset}-{t.name}" for preset, t in EVERY]
)
def test_the_command_line_says_what_is_trained(preset, trained):
    module, name, *flags = training.command(trained, seed=3)
    assert (module, name) == ("-m", "rl3jax.sweep")
    args = parse(SweepArgs, flags, "sweep")
    assert args.config == rl3jax.Config(**trained.config, seed=3)
    assert (args.seeds, args.grid) == (4, None)
    rl3jax.make_trainer(args.config)  # whose parts fit together


def test_a_lever_is_all_that_differs():
    """So that a difference between two lines of the table is that lever's doing."""
    resolved = {
        name: rl3jax.Config(**row.trainings["rl3"].config).resolve().to_dict()
        for name, row in zip(levers.VARIANTS, levers.rows("cpu"), strict=True)
    }
    for name, variant in levers.VARIANTS.items():
        base = resolved[levers.BASES[variant.network]]
        both = resolved[name].keys() & base.keys()  # options of other parts come with the part
        changed = {field for field in both if base[field] != resolved[name][field]}
        assert changed == set(variant.changes), name


def test_both_algorithms_train_alike():
    for preset in PRESETS:
        for row in sample_efficiency.rows(preset):
            rl2, rl3 = (dict(row.trainings[algo].config) for algo in ("rl2", "rl3"))
            assert (rl2.pop("algo"), rl3.pop("algo")) == ("rl2", "rl3")
            assert rl2 == {k: v for k, v in rl3.items() if k != "mean_rewards"}  # of estimates
            if preset != "quick":
                steps = rl2["n_tasks"] * rl2["horizon"] * rl2["iterations"]
                assert steps == pytest.approx(10e6, rel=0.01)


SWEPT = Training("swept", {"env": "bandit", "iterations": 3}, seeds=2)


@pytest.fixture
def swept(tmp_path):
    """What a finished sweep of two seeds leaves."""
    folder = training.run_folder(tmp_path, SWEPT, 0)
    folder.mkdir()
    config = rl3jax.Config(**SWEPT.config).to_dict()
    (folder / "config.json").write_text(json.dumps(config))
    runs = [
        {"seed": 0, "validation_return": 5.0, "mean_return": [1.0, 2.0, 3.0]},
        {"seed": 1, "validation_return": 7.0, "mean_return": [3.0, 6.0, 9.0]},
    ]
    sweep = {
        "iterations": 3, "env_steps_per_iteration": 100, "seconds": 12.5, "runs": runs,
        "provenance": rl3jax.provenance(),
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(sweep))
    return folder


def test_a_record_is_over_seeds(swept):
    record = training.record(SWEPT, 0, swept)
    assert record.command.endswith("rl3jax.sweep --env=bandit --iterations=3 --seeds=2 --seed=0")
    assert (record.env_steps, record.iterations, record.seconds) == (300, 3, 12.5)
    assert record.curve.x == [100, 200, 300]
    assert record.curve.mean == [2, 4, 6]
    assert record.curve.stderr == pytest.approx([1, 2, 3])  # of 1 and 3: √2 / √2


def test_every_seed_has_its_score_and_curve(swept):
    first, second = training.seeds_of(swept)
    assert first == {
        "seed": 0, "score": 5.0, "env_steps": [100, 200, 300], "returns": [1, 2, 3],
    }  # fmt: skip
    assert (second["seed"], second["score"]) == (1, 7.0)
    assert training.seeds_of(swept.parent) == []


def test_a_finished_sweep_is_not_run_again(swept):
    assert training.is_finished(swept)
    assert training.agent_folder(swept) == swept / "best_agent"
    before = sorted(swept.iterdir())
    training.train(SWEPT, 0, swept)
    assert sorted(swept.iterdir()) == before


def test_one_that_stopped_early_is_not_finished(swept):
    sweep = json.loads((swept / "sweep.json").read_text())
    (swept / "sweep.json").write_text(json.dumps(sweep | {"iterations": 2}))
    assert not training.is_finished(swept)


def test_differences_are_paired_by_seed():
    # Changes of 1, 2 and 3: mean 2, standard deviation 1, over √3 seeds.
    assert levers._difference([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == ["2.0 ± 0.6", "3 of 3"]


@pytest.mark.slow
def test_a_sweep_from_its_command_to_its_section(tmp_path):
    out = tmp_path / "results"
    flags = ["--rows", "lever-common", "--jobs", "1", "--out", str(out), "--runs", str(tmp_path)]
    main(levers.EXPERIMENT, flags)
    result = read_result(out / "levers" / "quick" / "lever-common-s0.json")
    seeds = result.extra["seeds"]["rl3"]
    assert [run["seed"] for run in seeds] == [0, 1, 2, 3]
    assert len({run["score"] for run in seeds}) == 4
    found = gather(out, "levers", PRESETS)
    assert levers.scores("common", found) == [run["score"] for run in seeds]
    assert "| quick, 4 |" in levers.section(found)
    means = np.mean([run["returns"] for run in seeds], axis=0)
    np.testing.assert_allclose(result.trainings["rl3"].curve.mean, means, rtol=1e-4)
    (figure,) = levers.draw(found).values()
    assert figure.axes
