"""GridNavi by hand, and what is known of the best returns in it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import ConfigError, evaluate_agent, make_env
from rl3jax.baselines import OptimalPolicy, names
from rl3jax.baselines.gridnavi import GridNaviAgent, best_search
from rl3jax.envs.gridnavi import GridNaviTask
from rl3jax.rollout import rollouts

ENV = make_env("gridnavi")
NOOP, UP, RIGHT, DOWN, LEFT = range(5)
TASKS = GridNaviTask(jnp.asarray(ENV.goals, jnp.int32))


@pytest.mark.parametrize(
    ("start", "action", "end"),
    [(0, NOOP, 0), (0, UP, 5), (0, RIGHT, 1), (0, DOWN, 0), (0, LEFT, 0), (12, DOWN, 7),
     (12, LEFT, 11), (24, UP, 24), (24, RIGHT, 24), (24, DOWN, 19)],
)  # fmt: skip
def test_moves_by_hand(start, action, end):
    for goal, reward in ((end, 1.0), (end + 1, -0.1)):
        task = GridNaviTask(jnp.int32(goal))
        drawn = ENV.transition(jax.random.key(0), jnp.int32(start), jnp.int32(action), task)
        assert drawn.next_state_index == end
        assert drawn.reward == pytest.approx(reward)
        assert not drawn.terminated


def test_goals_are_all_cells_but_those_at_the_start():
    goals = jax.vmap(ENV.sample_task)(jax.random.split(jax.random.key(0), 2000)).goal
    counts = np.bincount(goals, minlength=25)
    assert set(np.flatnonzero(counts == 0)) == {0, 1, 5, 6}
    likely = 2000 / 21
    assert np.abs(counts[counts > 0] - likely).max() < 4 * np.sqrt(likely)


def test_the_known_goal_is_worth_what_it_is():
    returns = jax.vmap(OptimalPolicy(ENV, 60).expected_return)(TASKS)
    assert returns.mean() == pytest.approx(44.286, abs=1e-3)
    assert returns.min() == pytest.approx(4 * (8 - 7 * 0.1), abs=1e-3)  # the far corner


def test_the_best_search_is_proven_best():
    """37.214 is what two independent beam searches found; 4 of it is an episode's alone."""
    for horizon, value in ((15, 4.0), (60, 37.214)):
        found, narrow = best_search(horizon), best_search(horizon, width=300)
        assert found.value == pytest.approx(value, abs=1e-3)
        assert found.limit == pytest.approx(found.value)
        assert narrow.limit > narrow.value == pytest.approx(found.value)


@functools.cache
def plain_value(cell, left, t, horizon):
    """Bellman's equation on cells and goals left, as in a textbook; of an episode alone."""
    if t == horizon:
        return 0.0
    return max(_after(int(s), left, t, horizon) for s in ENV.targets[cell])


def _after(s, left, t, horizon):
    rest = left - {s}
    found = (len(left) - len(rest)) * float(horizon - t)
    return found - 0.1 * len(rest) + (plain_value(s, rest, t + 1, horizon) if rest else 0.0)


def test_the_search_of_a_plain_recursion():
    goals = frozenset(ENV.goals.tolist())
    for horizon in (1, 3, 5):
        expected = plain_value(0, goals, 0, horizon) / len(goals)
        assert best_search(horizon).value == pytest.approx(expected)


def test_the_agent_earns_its_value():
    agent = GridNaviAgent.create(60)
    keys = jax.random.split(jax.random.key(0), len(ENV.goals))
    rewards = np.asarray(rollouts(agent, ENV, TASKS, 60, keys).reward, np.float64)
    assert rewards.sum(axis=0).mean() == pytest.approx(best_search(60).value, abs=1e-4)
    distance = ENV.state_coordinates[ENV.goals].sum(axis=1)  # of the start
    last = rewards[45:].sum(axis=0)  # in the last episode all goals are known
    np.testing.assert_allclose(last, 16 - distance - 0.1 * (distance - 1), atol=1e-4)
    assert agent.for_horizon(60) is agent
    assert len(agent.for_horizon(15).search) == 15


def test_it_is_a_baseline_by_name():
    assert "bayes-optimal" in names(ENV, 60)
    result = evaluate_agent("bayes-optimal", ENV, 60, 300, jax.random.key(1))
    assert abs(result.mean - 37.214) < 4 * result.stderr


@pytest.mark.parametrize(("horizon", "width"), [(0, 1), (1, 0)])
def test_refused_sizes(horizon, width):
    with pytest.raises(ConfigError, match=r"(horizon|width) must be .*at least 1, not 0"):
        best_search(horizon, width)
