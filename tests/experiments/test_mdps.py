"""Random MDPs by budget: fractions of the optimal policy's return."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import mdps
from experiments.gathered import Gathered

IID, OOD = mdps.figure_rows("paper")[0]


@pytest.fixture
def found(make_result, make_score):
    """Results of the smallest budget: one list of returns a seed, for the agent and the optimum."""

    def make(*seeds, row=IID):
        results = [
            make_result(
                row, "mdps", "quick", seed, n_tasks=len(returns),
                scores={
                    "rl3 greedy": make_score(returns=returns),
                    "optimal": make_score(returns=optimal),
                },
            )
            for seed, (returns, optimal) in enumerate(seeds)
        ]  # fmt: skip
        return Gathered({row.name: results}, {}, [])

    return make


def line(found):
    """The first line of the table by budget."""
    (text,) = [x for x in mdps.budget_table(found).splitlines() if x.startswith("| H = 128 |")]
    return [cell.strip() for cell in text.strip("|").split("|")]


def test_a_fraction_is_a_ratio_of_means(found):
    # Means 3 and 5; the tasks' own ratios, 1 and 1/3, would have another mean.
    (estimate,) = mdps.normalised(IID, "rl3", found(([4, 2], [4, 6])))
    assert estimate.value == pytest.approx(0.6)
    # Of returns − 0.6 × optimum: 1.6 and −1.6, so 1.6 / 5.
    assert estimate.stderr == pytest.approx(0.32)


def test_one_seed_has_the_error_over_tasks(found):
    cells = line(found(([4, 2], [4, 6])))
    assert cells == [
        "H = 128", "not yet run", "0.752", "0.6 ± 0.3", "0.746",
        "not yet run", "0.742", "not yet run", "0.742",
    ]  # fmt: skip


def test_several_seeds_have_their_range(found):
    cells = line(found(([4, 2], [4, 6]), ([4, 5], [4, 6])))
    assert cells[3] == "0.750 (0.600 … 0.900)"


def test_shifted_tasks_have_columns_of_their_own(found):
    cells = line(found(([4, 2], [4, 6]), row=OOD))
    assert cells[3] == "not yet run"
    assert cells[7] == "0.6 ± 0.3"


def test_seeds_that_agree_can_be_drawn(found):
    """The mean of three equal numbers may differ from them in the last bit."""
    same = ([1.0, 1.0], [10.0, 10.0])
    results = found(same, same, same)
    fractions = [estimate.value for estimate in mdps.normalised(IID, "rl3", results)]
    assert np.mean(fractions) > max(fractions)
    figure = mdps.budget_figure(results)
    figure.canvas.draw()
    plt.close(figure)


def test_every_budget_has_two_rows_of_the_same_trainings():
    for iid, ood in mdps.figure_rows("quick"):
        assert (iid.variation, ood.variation) == ("iid", mdps.OOD)
        assert iid.trainings == ood.trainings
        assert iid.horizon == ood.horizon
