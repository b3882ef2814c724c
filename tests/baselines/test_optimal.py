"""Plans of known tasks for a whole meta-episode."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl3jax.baselines.optimal import finite_horizon_plan
from rl3jax.envs import Bandit, RandomMdp, TabularModel


def test_in_a_bandit_the_best_arm_is_best_throughout():
    env = Bandit()
    task = env.sample_task(jax.random.key(0))
    value, actions = finite_horizon_plan(env.tabular(task), env.task_horizon, budget=100)
    np.testing.assert_allclose(value, 100 * task.success_prob.max(), rtol=1e-5)
    assert actions.shape == (100, 1, 1)
    assert actions.dtype == jnp.int8
    assert (actions == task.success_prob.argmax()).all()


@pytest.mark.parametrize(("num_arms", "dtype"), [(127, jnp.int8), (128, jnp.int32)])
def test_many_actions_do_not_fit_int8(num_arms, dtype):
    env = Bandit(num_arms=num_arms)
    task = env.sample_task(jax.random.key(1))
    _, actions = finite_horizon_plan(env.tabular(task), env.task_horizon, budget=2)
    assert actions.dtype == dtype
    assert (actions == task.success_prob.argmax()).all()


def random_model(rng, num_states, num_actions, terminal):
    transition_probs = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
    start = np.where(terminal, 0, rng.uniform(size=num_states))
    return TabularModel(
        transition_probs,
        rng.normal(size=(num_states, num_actions)),
        start / start.sum(),
        np.asarray(terminal),
    )


def best_return(model, task_horizon, steps_left, s, episode_step):
    """The optimum from state `s` by trying every action in every history."""
    transition_probs, mean_reward, start, terminal = model
    if steps_left == 0:
        return 0.0

    def after(s_next):
        if terminal[s_next] or episode_step + 1 == task_horizon:
            return sum(
                p * best_return(model, task_horizon, steps_left - 1, s, 0)
                for s, p in enumerate(start)
            )
        return best_return(model, task_horizon, steps_left - 1, s_next, episode_step + 1)

    continuation = np.array([after(s_next) for s_next in range(len(start))])
    return (mean_reward[s] + transition_probs[s] @ continuation).max()


def policy_return(model, task_horizon, actions):
    """The exact return of a plan, by carrying the distribution over (e, s) forward."""
    transition_probs, mean_reward, start, terminal = model
    episode = np.zeros((actions.shape[1], len(start)))
    episode[0] = start
    total = 0.0
    for actions_t in actions:
        following = np.zeros_like(episode)
        for e, s in itertools.product(*map(range, episode.shape)):
            a, mass = actions_t[e, s], episode[e, s]
            total += mass * mean_reward[s, a]
            for s_next, p in enumerate(transition_probs[s, a]):
                if terminal[s_next] or e + 1 == task_horizon:
                    following[0] += mass * p * start
                else:
                    following[e + 1 if task_horizon else 0, s_next] += mass * p
        episode = following
    return total


@pytest.mark.parametrize("terminal", [[False, False], [False, True]])
@pytest.mark.parametrize("task_horizon", [None, 1, 2, 3])
def test_a_plan_is_as_good_as_trying_everything(terminal, task_horizon):
    budget = 4  # with a task horizon of 3 the last episode is a partial one
    solve = jax.jit(finite_horizon_plan, static_argnums=(1, 2))

    @settings(max_examples=5)
    @given(seed=st.integers(0, 2**16))
    def check(seed):
        model = random_model(np.random.default_rng(seed), 2, 2, terminal)
        with jax.enable_x64(True):
            value, actions = solve(jax.tree.map(jnp.asarray, model), task_horizon, budget)
        expected = sum(
            p * best_return(model, task_horizon, budget, s, 0) for s, p in enumerate(model[2])
        )
        assert actions.shape == (budget, task_horizon or 1, 2)
        np.testing.assert_allclose(value, expected, atol=1e-9)
        achieved = policy_return(model, task_horizon, np.asarray(actions))
        np.testing.assert_allclose(achieved, expected, atol=1e-9)

    check()


@pytest.mark.parametrize("max_successors", [2, 3, 5, 9])
def test_few_next_states_make_the_same_plan(max_successors):
    """Every pair leads to two of five states; the others may be left out of the sums."""
    rng = np.random.default_rng(0)
    probs, mean_reward, start, terminal = random_model(rng, 5, 2, [False] * 4 + [True])
    probs *= probs >= np.sort(probs)[..., -2:-1]
    model = TabularModel(*map(jnp.asarray, (probs, mean_reward, start, terminal)))
    value, actions = finite_horizon_plan(model, 3, 7)
    same_value, same_actions = finite_horizon_plan(model, 3, 7, max_successors)
    np.testing.assert_allclose(same_value, value, rtol=1e-5)
    np.testing.assert_array_equal(same_actions, actions)


def test_restarts_are_worth_seeking():
    """A terminal goal pays 10 and leads back to the start; staying pays 1."""
    transition_probs = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    mean_reward = jnp.array([[1.0, 10.0], [0.0, 0.0]])
    start, terminal = jnp.array([1.0, 0.0]), jnp.array([False, True])
    model = TabularModel(transition_probs, mean_reward, start, terminal)
    value, actions = finite_horizon_plan(model, None, 7)
    assert value == 70
    assert (actions[:, 0, 0] == 1).all()


def test_a_partial_last_episode_has_the_optimum_of_its_length():
    env = RandomMdp(num_states=4, num_actions=3, task_horizon=5)
    model = env.tabular(env.sample_task(jax.random.key(2)))
    value = {budget: finite_horizon_plan(model, 5, budget)[0] for budget in (2, 5, 12)}
    np.testing.assert_allclose(value[12], 2 * value[5] + value[2], rtol=1e-5)


def test_the_optimum_of_random_mdps():
    """About 21.8 per 10 steps, the normaliser of RL³'s RLC 2025 scores."""
    env = RandomMdp()

    def optimum(key):
        return finite_horizon_plan(env.tabular(env.sample_task(key)), env.task_horizon, 10)[0]

    optima = jax.jit(jax.vmap(optimum))(jax.random.split(jax.random.key(3), 1000))
    assert abs(optima.mean() - 21.8) < 0.3
