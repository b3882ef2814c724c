"""Training curves: final returns, and when one catches up with another."""

import numpy as np
import pytest

from experiments import bandits, gridworlds, mdps, tables, training_curves
from experiments.gathered import Gathered
from experiments.results import Curve, TrainingRecord
from experiments.training_curves import final_return, share_to_match, smoothed

ROW = bandits.rows("paper")[0]


def curve(mean, step=1000.0):
    size = len(mean)
    x = [step * (i + 1) for i in range(size)]
    return Curve(x, [float(value) for value in mean], [0.1] * size)


def test_the_final_return_is_the_mean_of_the_last_tenth():
    assert final_return(curve(range(100))) == np.mean(range(90, 100))
    assert final_return(curve(range(20))) == 18.5
    assert final_return(curve([1, 2, 7])) == 7
    assert final_return(curve([3])) == 3


def test_smoothing_is_a_running_mean_of_what_was():
    np.testing.assert_allclose(smoothed(curve(range(10))), range(10))
    # A twentieth of 60 points is three.
    values = np.arange(60.0) ** 2
    expected = [values[max(0, i - 2) : i + 1].mean() for i in range(60)]
    np.testing.assert_allclose(smoothed(curve(values)), expected)


def test_the_share_is_of_the_others_env_steps():
    other = curve([0, 0, 0, 0, 0, 0, 0, 0, 0, 5])
    assert share_to_match(curve([0, 5, 5, 5]), other) == pytest.approx(0.2)
    assert share_to_match(curve([5]), other) == pytest.approx(0.1)
    assert share_to_match(curve([0] * 19 + [6]), other) == pytest.approx(2.0)
    assert share_to_match(curve([0, 4.9, 4.9]), other) is None


def test_a_single_lucky_iteration_is_no_catching_up():
    other = curve([5] * 100)
    lucky = [0] * 100
    lucky[10] = 9
    assert share_to_match(curve(lucky), other) is None


def test_every_training_is_there_once():
    for preset in ("quick", "cpu", "paper"):
        names = [t.name for row in training_curves.rows(preset) for t in row.trainings.values()]
        assert len(names) == len(set(names))
        every = [*bandits.rows(preset), *mdps.rows(preset), *gridworlds.table_rows(preset)]
        shown = [row for row in every if not row.name.endswith("-window")]
        assert set(names) == {t.name for row in shown for t in row.trainings.values()}


@pytest.fixture
def line(make_result):
    """A row's line of the table, of the curves of RL³ and RL² for every seed."""

    def make(*seeds):
        def record(mean):
            return TrainingRecord("python", 1000, 10, 1.0, {}, curve(mean))

        results = [
            make_result(
                ROW, "training_curves", "cpu", seed, scores={},
                trainings={"rl3": record(rl3), "rl2": record(rl2)},
            )
            for seed, (rl3, rl2) in enumerate(seeds)
        ]  # fmt: skip
        return training_curves._line(ROW, Gathered({ROW.name: results} if seeds else {}, {}, []))

    return make


def test_a_line_of_the_table(line):
    slow, fast, never = [0] * 9 + [5], [0, 5] + [6] * 8, [1] * 10
    assert line((fast, slow)) == [
        "bandit, H = 100", "cpu, 1", "5.0", "6.0", "not yet run", "–",
        "0.20", "–", "0.30", "–",
    ]  # fmt: skip
    assert line((fast, slow), (slow, slow))[-4:] == ["0.60", "–", "0.65", "–"]
    assert line((fast, slow), (never, slow))[-4] == "0.20 (not all)"
    assert line((never, slow))[-4] == "never"
    assert line()[1:] == ["–", *["not yet run"] * 3, "–", *["not yet run", "–"] * 2]


def test_the_papers_share_stands_beside_ours(line):
    row = next(row for row in training_curves.rows("paper") if row.name == "mdp-iid-h1024")
    nothing = Gathered({}, {}, [])
    assert training_curves._line(row, nothing)[-3:] == ["0.020", tables.NOT_RUN, "0.330"]
    assert training_curves._line(row, nothing)[4:6] == [tables.NOTHING] * 2
