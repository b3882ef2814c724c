"""Results made up for the tables and figures: plausible, quick, and the same every time."""

import dataclasses
import zlib

import numpy as np
import pytest

from experiments import training
from experiments.results import Curve, Result, Score, TrainingRecord
from rl3jax import baselines, make_env

N_TASKS = 12
PROVENANCE = {
    "commit": "0123456789abcdef+",
    "platform": "cpu",
    "processor": "Abacus 3000",
    "cores": 2,
    "device": "cpu",
    "devices": 1,
}


def random(*names):
    """The same numbers for the same names."""
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


def curve(rng, size):
    return Curve.of(range(1, size + 1), rng.normal(50, 5, size), rng.uniform(0.1, 1, size))


@pytest.fixture
def make_score():
    """A score of the returns given, or of random ones."""

    def make(title="RL³, greedy", returns=None, points=8, horizon=100, constant=None):
        rng = random(title, horizon)
        if returns is None:
            returns = rng.uniform(0.5, 0.9, N_TASKS) * horizon
        returns = [float(value) for value in returns]
        return Score(title, returns, curve(rng, points), curve(rng, points), 1.5, constant)

    return make


@pytest.fixture
def make_record():
    """What a training of a row would have left."""

    def make(trained, seed):
        rng = random(trained.name, seed)
        mean = np.linspace(10, 60, 40) + rng.normal(0, 1, 40)
        learning = Curve.of(np.arange(1, 41) * 1000, mean, rng.uniform(0.1, 1, 40))
        command = training.command_line(trained, seed)
        return TrainingRecord(command, 40_000, 40, 90.0, PROVENANCE, learning)

    return make


@pytest.fixture
def make_result(make_score, make_record):
    """A result of a row's trained agents for a seed, with any fields replaced."""

    def make(row, experiment="bandits", preset="quick", seed=0, **changes):
        scores = {"optimal": make_score("optimal policy", None, 8, 2 * row.horizon)}
        for algo in row.trainings:
            for manner in ("greedy", "sampled"):
                name = f"{algo} {manner}"
                scores[name] = make_score(f"{name} {row.name} {seed}", horizon=row.horizon)
        records = {algo: make_record(trained, seed) for algo, trained in row.trainings.items()}
        result = Result(
            experiment, preset, row.name, seed, row.horizon, N_TASKS,
            "python -m experiments.bandits", PROVENANCE, scores, records,
        )  # fmt: skip
        return dataclasses.replace(result, **changes)

    return make


@pytest.fixture
def make_baselines(make_score):
    """A result of all classical algorithms on a row."""

    def make(row, experiment="bandits", preset="quick"):
        names = baselines.names(make_env(row.env, variation=row.variation), row.horizon)
        scores = {
            name: make_score(
                baselines.BASELINES[name].title,
                horizon=2 * row.horizon if name == "optimal" else row.horizon,
                constant=0.5 if baselines.BASELINES[name].constants else None,
            )
            for name in names
        }
        return Result(
            experiment, preset, row.name, None, row.horizon, N_TASKS,
            "python -m experiments.bandits", PROVENANCE, scores,
        )  # fmt: skip

    return make


@pytest.fixture
def fill(make_result, make_baselines):
    """Writes results of every row of an experiment, as its command would."""

    def write(folder, experiment, preset="quick", seeds=2, with_baselines=True):
        for row in experiment.rows(preset):
            for seed in range(seeds):
                path = folder / experiment.name / preset / f"{row.name}-s{seed}.json"
                make_result(row, experiment.name, preset, seed).write(path)
        for row in experiment.baseline_rows() if with_baselines else ():
            path = folder / "baselines" / f"{row.name}.json"
            make_baselines(row, experiment.name, preset).write(path)

    return write


@pytest.fixture
def assert_tables_are_well_formed():
    """Every line of a Markdown table has as many cells as its header, none of them empty."""

    def check(text):
        count, rules = None, 0
        for line in text.splitlines():
            if not line.startswith("|"):
                count = None
                continue
            assert line.startswith("| ")
            assert line.endswith(" |")
            cells = [cell.strip() for cell in line[1:-1].split("|")]
            assert all(cells), line
            assert count in (None, len(cells)), line
            rules += cells[0] == "---"
            count = len(cells)
        assert rules == text.count("| --- |")
        return rules

    return check
