"""Exact Bayes-optimal play: values by hand, a plain recursion, and the agent against its value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import evaluate_agent, make_env
from rl3jax.baselines import UniformAgent
from rl3jax.baselines.bandit import ArmCounts, ThompsonAgent, Ucb1Agent
from rl3jax.baselines.bayes_optimal import (
    BayesOptimalAgent,
    bayes_optimal_return,
    bayes_optimal_values,
)
from rl3jax.baselines.gittins import GittinsAgent
from rl3jax.checks import ConfigError


def test_values_by_hand():
    assert bayes_optimal_return(2, 1) == pytest.approx(1 / 2)
    # success: the same arm, now of mean 2/3; failure: the other, of mean 1/2
    assert bayes_optimal_return(2, 2) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3 + 1 / 2 * 1 / 2)


@pytest.mark.parametrize("horizon", [1, 5, 40])
def test_one_arm_pays_half(horizon):
    assert bayes_optimal_return(1, horizon) == pytest.approx(horizon / 2)


@functools.cache
def plain_value(arms, pulls_left):
    """Bellman's equation on tuples of (successes, failures), as in a textbook."""
    if pulls_left == 0:
        return 0.0
    return max(plain_action_value(arms, arm, pulls_left) for arm in range(len(arms)))


def plain_action_value(arms, arm, pulls_left):
    s, f = arms[arm]
    p = (1 + s) / (2 + s + f)
    success = (*arms[:arm], (s + 1, f), *arms[arm + 1 :])
    failure = (*arms[:arm], (s, f + 1), *arms[arm + 1 :])
    after_success = 1 + plain_value(success, pulls_left - 1)
    return p * after_success + (1 - p) * plain_value(failure, pulls_left - 1)


@pytest.mark.parametrize(("num_arms", "horizon"), [(2, 3), (2, 12), (3, 6), (4, 4)])
def test_return_of_a_plain_recursion(num_arms, horizon):
    expected = plain_value(((0, 0),) * num_arms, horizon)
    assert bayes_optimal_return(num_arms, horizon) == pytest.approx(expected)


@pytest.mark.parametrize(
    "arms", [((0, 0), (0, 0), (0, 0)), ((1, 0), (0, 2), (0, 0)), ((2, 1), (1, 1), (0, 0))]
)
def test_action_values_of_a_plain_recursion(arms):
    horizon = 7
    successes, failures = jnp.array(arms, jnp.int32).T
    scores = BayesOptimalAgent.create(3, horizon).scores(
        ArmCounts(successes, successes + failures), jax.random.key(0)
    )
    pulls_left = horizon - sum(map(sum, arms))
    expected = [plain_action_value(arms, arm, pulls_left) for arm in range(3)]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_there_is_one_row_for_every_vector_of_counts():
    q = bayes_optimal_values(2, 4)
    assert q.shape == (1 + 4 + 10 + 20, 2)  # totals 0, 1, 2 and 3 of four counts
    assert np.all(q > 0)


@pytest.mark.parametrize(("num_arms", "horizon"), [(0, 5), (2, 0), (2, 1000), (50, 10)])
def test_refused_sizes(num_arms, horizon):
    with pytest.raises(ConfigError, match=r"num_arms|horizon") as error:
        bayes_optimal_return(num_arms, horizon)
    assert "\n" not in str(error.value)


def test_the_refusal_names_what_is_allowed():
    with pytest.raises(ConfigError, match=r"num_arms=2 .* horizon=104 .* allowed are 1\.0e\+07"):
        BayesOptimalAgent.create(2, 104)


def test_the_horizon_decides_the_table():
    agent = BayesOptimalAgent.create(2, 6)
    assert agent.for_horizon(6) is agent
    np.testing.assert_array_equal(agent.for_horizon(4).q, BayesOptimalAgent.create(2, 4).q)


@pytest.mark.parametrize(("num_arms", "horizon"), [(2, 12), (3, 8)])
def test_the_agent_earns_its_value(num_arms, horizon):
    env = make_env("bandit", num_arms=num_arms)
    agent = BayesOptimalAgent.create(num_arms, horizon)
    result = evaluate_agent(agent, env, horizon, 20_000, jax.random.key(1))
    assert abs(result.mean - bayes_optimal_return(num_arms, horizon)) < 4 * result.stderr < 0.12


@pytest.mark.parametrize(
    ("agent", "n_tasks", "falls_short"),
    [
        (GittinsAgent.create(2, 12), 10_000, False),
        (Ucb1Agent(2, 0.3), 10_000, True),
        (Ucb1Agent(2), 2000, True),
        (ThompsonAgent(2), 2000, True),
        (UniformAgent(2), 2000, True),
    ],
)
def test_nobody_earns_more(agent, n_tasks, falls_short):
    env = make_env("bandit", num_arms=2)
    result = evaluate_agent(agent, env, 12, n_tasks, jax.random.key(2))
    shortfall = bayes_optimal_return(2, 12) - result.mean
    assert shortfall > -3 * result.stderr
    assert (shortfall > 2 * result.stderr) == falls_short
