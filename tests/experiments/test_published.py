"""The numbers of the papers: copied as they are, each of a row that exists and a source."""

import json
import math
from pathlib import Path

import pytest

import experiments
from experiments import bandits, gridworlds, mdps, memories, popgym
from experiments.published import (
    NORMALISED,
    RETURN,
    SCORE,
    TO_CONVERGE,
    TO_MATCH,
    published,
    sources,
    training_time,
)
from rl3jax import baselines

EXPERIMENTS = (bandits, mdps, gridworlds, popgym, memories)
FILE = Path(experiments.__file__).with_name("published.json")
NUMBERS = json.loads(FILE.read_text(encoding="utf-8"))["numbers"]


def rows():
    """All rows there are, by name."""
    every = [row for m in EXPERIMENTS for row in [*m.rows("paper"), *m.EXPERIMENT.baseline_rows()]]
    return {row.name: row for row in every}


@pytest.mark.parametrize(
    ("row", "contender", "measure", "value", "stderr", "source"),
    [
        ("bandit-iid-h100", "rl3", RETURN, 77.5, 0.5, "v4"),
        ("bandit-iid-h500", "rl3-markov", RETURN, 391.75, 2.6, "v4"),
        ("bandit-ood-h500", "rl2", RETURN, 430.2, 2.8, "v4"),
        ("mdp-iid-h100", "rl2", RETURN, 159.5, 0.8, "v4"),
        ("mdp-iid-h1000-window", "rl3", RETURN, 1916.8, 7.4, "v4"),
        ("gridworld-13x13-h350", "rl3", RETURN, 902, 27, "v4"),
        ("gridworld-13x13-corner-h350", "rl3-coarse", RETURN, 645, 23, "v4"),
        ("mdp-iid-h2048", "rl3", NORMALISED, 0.924, None, "rlc2025"),
        ("mdp-ood-dirichlet-h2048", "rl2", NORMALISED, 0.803, None, "rlc2025"),
        ("mdp-iid-h1024", "rl3", TO_MATCH, 0.02, None, "rlc2025"),
        ("mdp-iid-h1024", "rl3", TO_CONVERGE, 0.33, None, "rlc2025"),
        ("bandit-iid-h500", "gittins", RETURN, 405.8, None, "duan2016"),
        ("mdp-iid-h1000", "opsrl", RETURN, 1973.9, None, "duan2016"),
        ("bandit-popgym-easy-h200", "gru", SCORE, 0.619, None, "popgym"),
        ("bandit-popgym-hard-h600", "best", SCORE, 0.574, None, "popgym"),
    ],
)
def test_spot_checks(row, contender, measure, value, stderr, source):
    number = published(row, contender, measure)
    assert number is not None
    assert (number.value, number.stderr, number.source) == (value, stderr, source)


def test_what_was_not_published_is_none():
    assert published("bandit-iid-h100", "rl3-coarse") is None
    assert published("bandit-iid-h101", "rl3") is None
    assert published("bandit-iid-h100", "rl3", NORMALISED) is None
    assert training_time("bandit-iid-h10") is None


def test_no_number_is_there_twice():
    keys = [(n["row"], n["contender"], n["measure"]) for n in NUMBERS]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("source", ["v4", "rlc2025", "duan2016", "popgym"])
def test_every_row_of_a_source_is_a_row_of_an_experiment(source):
    named = {n["row"] for n in NUMBERS if n["source"] == source}
    assert named
    assert named <= rows().keys()


def test_trainings_whose_time_is_known_are_of_rows():
    times = json.loads(FILE.read_text(encoding="utf-8"))["training_times"]
    assert times.keys() <= rows().keys()
    assert all(training_time(row) == time for row, time in times.items())


def test_every_contender_is_trained_there_or_is_a_baseline():
    for number in NUMBERS:
        known = {*rows()[number["row"]].trainings, *baselines.BASELINES, "rl2-duan", "ucrl2"}
        known |= popgym.PUBLISHED.keys() | memories.PUBLISHED.keys()
        # The rows of baselines alone shadow none of the trained ones in the check above.
        trained = {algo for m in EXPERIMENTS for r in m.rows("paper") for algo in r.trainings}
        assert number["contender"] in known | trained, number


def test_sources_exist_and_are_used():
    assert {n["source"] for n in NUMBERS} == sources().keys()
    for source in sources().values():
        assert source.title
        assert source.note


def test_numbers_are_of_the_measures_that_are_shown():
    assert {n["measure"] for n in NUMBERS} == {RETURN, NORMALISED, SCORE, TO_CONVERGE, TO_MATCH}
    for n in NUMBERS:
        assert math.isfinite(n["value"])
        assert n["stderr"] is None or n["stderr"] > 0
        if n["measure"] != RETURN:
            assert 0 < n["value"] <= 1, n
        elif n["row"].startswith("bandit"):
            assert n["value"] < rows()[n["row"]].horizon, n


def test_every_row_of_the_papers_tables_has_its_numbers():
    """Of RL² and RL³, wherever version 4 or the figure has a row."""
    for row in [*bandits.rows("paper"), *mdps.table_rows("paper"), *gridworlds.table_rows("paper")]:
        assert published(row.name, "rl2"), row.name
        assert published(row.name, "rl3"), row.name
    for pair in mdps.figure_rows("paper"):
        for row in pair:
            assert published(row.name, "rl2", NORMALISED), row.name
            assert published(row.name, "rl3", NORMALISED), row.name
