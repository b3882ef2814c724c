"""Gittins indices against published tables and another method; the agent against known scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import evaluate_agent, make_env
from rl3jax.baselines.bandit import ArmCounts
from rl3jax.baselines.bayes_optimal import bayes_optimal_return
from rl3jax.baselines.gittins import GittinsAgent, gittins_indices
from rl3jax.checks import ConfigError

TOLERANCE = 1e-3


def tabulated(horizon):
    """Where a table has entries."""
    return np.add.outer(np.arange(horizon), np.arange(horizon)) < horizon


def test_without_a_future_an_arm_is_worth_its_mean():
    indices = gittins_indices(3, 0.0)
    np.testing.assert_allclose(
        indices, [[1 / 2, 1 / 3, 1 / 4], [2 / 3, 1 / 2, 0], [3 / 4, 0, 0]], atol=1e-12
    )


@pytest.mark.parametrize(
    ("discount", "published"),
    [
        (0.9, [[0.7029, 0.5001, 0.3796], [0.8001, 0.6346, 0.5163], [0.8452, 0.7072, 0.6010]]),
        (0.99, [[0.8699, 0.7005, 0.5671], [0.9102, 0.7844, 0.6726], [0.9285, 0.8268, 0.7308]]),
    ],
)
def test_published_indices(discount, published):
    """Gittins, Multi-armed Bandit Allocation Indices (1989), table of the Bernoulli process."""
    indices = gittins_indices(10, discount)
    np.testing.assert_allclose(indices[:3, :3], published, atol=TOLERANCE)


def restart_index(successes, failures, discount, depth):
    """The index by Katehakis & Veinott (1987): an arm that may be restarted in its first state."""
    levels = [
        (1 + successes + np.arange(n + 1)) / (2 + successes + failures + n) for n in range(depth)
    ]
    restart = 0.0
    for _ in range(1000):
        value = np.full(depth + 1, restart)
        for mean in reversed(levels):
            go_on = mean * (1 + discount * value[1:]) + (1 - mean) * discount * value[:-1]
            value = np.maximum(go_on, restart)
        if abs(go_on[0] - restart) < 1e-9:
            break
        restart = go_on[0]
    return (1 - discount) * restart


@pytest.mark.parametrize(("s", "f"), [(0, 0), (3, 1), (0, 6), (12, 7), (19, 0)])
def test_restarting_gives_the_same_indices(s, f):
    expected = restart_index(s, f, discount=0.9, depth=120)
    assert gittins_indices(20, 0.9)[s, f] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("discount", [0.5, 0.95])
def test_order_of_indices(discount):
    """More successes, fewer failures, or a longer future: a larger index, above the mean."""
    indices = gittins_indices(30, discount)
    s, f = np.indices(indices.shape)
    entries = tabulated(30)
    assert np.all((indices > (1 + s) / (2 + s + f))[entries])
    assert np.all((indices < gittins_indices(30, (1 + discount) / 2))[entries])
    assert np.all((np.diff(indices, axis=0) > 0)[entries[1:]])
    assert np.all((np.diff(indices, axis=1) < 0)[entries[:, 1:]])


def test_the_table_does_not_depend_on_its_size():
    indices = gittins_indices(80, 0.98)
    np.testing.assert_allclose(
        np.where(tabulated(20), indices[:20, :20], 0), gittins_indices(20, 0.98), atol=TOLERANCE
    )


@pytest.mark.parametrize(
    ("horizon", "discount"), [(0, 0.9), (5, 1.0), (5, -0.1), (5, float("nan"))]
)
def test_refused_arguments(horizon, discount):
    with pytest.raises(ConfigError, match="must be"):
        gittins_indices(horizon, discount)


def test_an_untried_arm_beats_one_of_a_larger_mean():
    agent = GittinsAgent.create(3, horizon=20, discount=0.9)
    carry = ArmCounts(jnp.array([0, 5, 1], jnp.int32), jnp.array([0, 8, 2], jnp.int32))
    scores = agent.scores(carry, jax.random.key(0))
    np.testing.assert_allclose(scores[jnp.array([0, 2])], [0.7029, 0.6346], atol=TOLERANCE)
    action, _ = agent.act(carry, jax.random.key(1))
    assert action == 0


def test_the_horizon_decides_the_table():
    agent = GittinsAgent.create(3, horizon=20)
    assert agent.for_horizon(20) is agent
    np.testing.assert_array_equal(
        agent.for_horizon(10).table, GittinsAgent.create(3, horizon=10).table
    )
    fixed = GittinsAgent.create(3, horizon=20, discount=0.9).for_horizon(30)
    np.testing.assert_allclose(fixed.table, gittins_indices(30, 0.9), rtol=1e-6)


def exact_return(table, horizon):
    """Expected return of two arms' play by the indices, by enumeration of what may be seen."""

    @functools.cache
    def value(s, f, s_other, f_other):
        if s + f + s_other + f_other == horizon:
            return 0.0
        if table[s, f] < table[s_other, f_other]:
            return value(s_other, f_other, s, f)
        p = (1 + s) / (2 + s + f)
        success = 1 + value(s + 1, f, s_other, f_other)
        return p * success + (1 - p) * value(s, f + 1, s_other, f_other)

    return value(0, 0, 0, 0)


@pytest.mark.parametrize("horizon", [2, 5, 12, 30])
def test_nearly_bayes_optimal(horizon):
    table = np.asarray(GittinsAgent.create(2, horizon).table)
    shortfall = 1 - exact_return(table, horizon) / bayes_optimal_return(2, horizon)
    assert -1e-9 < shortfall < 1e-3


def test_the_agent_earns_its_exact_return():
    agent = GittinsAgent.create(2, 12)
    result = evaluate_agent(agent, make_env("bandit", num_arms=2), 12, 10_000, jax.random.key(2))
    assert abs(result.mean - exact_return(np.asarray(agent.table), 12)) < 3 * result.stderr


@pytest.mark.parametrize(
    ("horizon", "n_tasks", "published"), [(100, 2000, 78.3), (500, 500, 405.8)]
)
def test_scores_are_the_published_ones(horizon, n_tasks, published):
    """RL³ (RLC 2025) on 1000 tasks, whose standard error adds to ours."""
    agent = GittinsAgent.create(5, horizon)
    result = evaluate_agent(agent, make_env("bandit"), horizon, n_tasks, jax.random.key(3))
    published_stderr = result.returns.std() / np.sqrt(1000)
    assert abs(result.mean - published) < 2 * np.hypot(result.stderr, published_stderr)
