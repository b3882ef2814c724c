"""POPGym's scores: the best of a training, and those of held-out tasks."""

import pytest

from experiments import popgym
from experiments.gathered import Gathered
from experiments.published import SCORE, published
from rl3jax import Config, make_env


@pytest.mark.parametrize("preset", ["quick", "cpu", "paper"])
def test_trainings_keep_to_popgyms_budget(preset):
    for row in popgym.rows(preset):
        (training,) = row.trainings.values()
        config = Config(**training.config).resolve()
        usual = Config(env="bandit", variation=row.variation).resolve().horizon
        assert config.horizon == row.horizon == usual
        assert config.n_tasks * config.horizon * config.iterations <= 15e6
        num_arms, _ = popgym.BANDITS[row.variation.removeprefix("popgym-")]
        assert make_env("bandit", row.variation).num_arms == num_arms


def test_scores_by_hand():
    row = popgym.rows("paper")[0]
    assert popgym.score(0.0, 200) == -1
    assert popgym.score(150.0, 200) == 0.5
    assert popgym.best_arm(row) == pytest.approx(9 / 11)
    for row in popgym.rows("paper"):
        gru, best = (published(row.name, name, SCORE).value for name in popgym.PUBLISHED)
        assert gru < best < popgym.best_arm(row)


def test_the_table_has_the_best_of_a_training(make_result):
    row = popgym.rows("cpu")[0]
    result = make_result(row, "popgym", "cpu")
    (record,) = result.trainings.values()
    expected = 2 * max(record.curve.mean) / 200 - 1
    line = popgym.section(Gathered({row.name: [result]}, {}, [])).splitlines()[4]
    assert f"| {expected:z.3f} |".replace("-", "−") in line
    assert line.endswith("| 0.619 | 0.631 | not yet run | 0.818 |")
