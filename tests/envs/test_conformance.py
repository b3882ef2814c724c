"""What holds of every environment, in every variation."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rl3jax.envs import Environment, EnvState, TabularModel, Transition, make_env


@dataclass(frozen=True)
class Corridor(Environment):
    """Random starts, slippery steps left or right, a goal at the right end that is terminal."""

    length: int = 4
    task_horizon: int | None = None
    num_actions = 2

    @property
    def num_states(self) -> int:
        return self.length

    def sample_task(self, key):
        return {"slip": jax.random.uniform(key, minval=0.2, maxval=0.5)}

    def start_index(self, key, task):
        return jax.random.randint(key, (), 0, self.length - 1)

    def transition(self, key, s, action, task):
        moves = jax.random.bernoulli(key, 1 - task["slip"])
        s_next = jnp.clip(s + moves * (2 * action - 1), 0, self.length - 1)
        at_goal = s_next == self.length - 1
        return Transition(s_next, reward=jnp.where(at_goal, 10, -1), terminated=at_goal)

    def tabular(self, task):
        states = jnp.arange(self.length)
        targets = jnp.stack([states - 1, states + 1], axis=-1).clip(0, self.length - 1)
        moved = jax.nn.one_hot(targets, self.length)
        stayed = jnp.eye(self.length)[:, None, :]
        transition_probs = task["slip"] * stayed + (1 - task["slip"]) * moved
        goal = states == self.length - 1
        return TabularModel(
            transition_probs=transition_probs,
            mean_reward=transition_probs @ jnp.where(goal, 10.0, -1.0),
            start=jnp.where(goal, 0.0, 1 / (self.length - 1)),
            terminal=goal,
        )


SMALL: dict[str, Any] = {"num_states": 4, "num_actions": 3, "task_horizon": 5}  # quick to compile
SMALL_GRID: dict[str, Any] = {
    "side": 5,
    "num_obstacle_sets": 1,
    "obstacle_set_len": 2,
    "num_water_sets": 1,
    "num_fatal": 1,
    "min_goal_manhat": 2,
}
ENVS = {
    "bandit": make_env("bandit"),
    "bandit-1": make_env("bandit", num_arms=1),
    "bandit-ood": make_env("bandit", variation="ood"),
    "mdp": make_env("mdp", **SMALL),
    "mdp-1-state": make_env("mdp", num_states=1, num_actions=1, task_horizon=1),
    "mdp-ood-dirichlet": make_env("mdp", variation="ood-dirichlet", **SMALL),
    "mdp-ood-uniform-reward": make_env("mdp", variation="ood-uniform-reward", **SMALL),
    "gridworld-11x11": make_env("gridworld", variation="11x11"),
    "gridworld-small": make_env("gridworld", **SMALL_GRID),
    "gridnavi": make_env("gridnavi"),
    "corridor": Corridor(),
    "corridor-limited": Corridor(task_horizon=3),
}


@pytest.fixture(scope="module", params=list(ENVS.values()), ids=list(ENVS))
def env(request):
    return request.param


class Step(NamedTuple):
    before: EnvState
    obs: Any
    after: EnvState
    reward: Any
    terminated: Any
    truncated: Any
    info: dict[str, Any]


def walk(env, task, key, num_steps=60):
    """Random actions through several restarts; every leaf of the `Step` is `[num_steps, ...]`."""
    key_reset, key_walk = jax.random.split(key)

    def step(state, key):
        key_action, key_step = jax.random.split(key)
        action = env.action_space().sample(key_action)
        obs, after, reward, terminated, truncated, info = env.step(key_step, state, action, task)
        return after, Step(state, obs, after, reward, terminated, truncated, info)

    _, start = env.reset(key_reset, task)
    _, steps = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(
        start, jax.random.split(key_walk, num_steps)
    )
    return steps


@pytest.fixture(scope="module")
def task(env):
    return env.sample_task(jax.random.key(1))


@pytest.fixture(scope="module")
def steps(env, task):
    return walk(env, task, jax.random.key(2))


def assert_trees_equal(left, right):
    chex.assert_trees_all_close(left, right, rtol=1e-5, atol=1e-6)


# --- gymnax's interface -------------------------------------------------------------------------


def test_reset_and_step_give_what_the_spaces_promise(env, task):
    key_reset, key_action, key_step = jax.random.split(jax.random.key(3), 3)
    obs, state = env.reset(key_reset, task)
    action = env.action_space(task).sample(key_action)
    assert env.action_space(task).contains(action)
    next_obs, next_state, reward, terminated, truncated, info = env.step(
        key_step, state, action, task
    )
    for o, s in ((obs, state), (next_obs, next_state)):
        assert o.shape == env.observation_space(task).shape
        assert o.dtype == env.observation_space(task).dtype
        assert env.observation_space(task).contains(o)
        assert env.state_space(task).contains(s)
        assert env.state_index(s).shape == ()
        assert env.state_index(s).dtype == jnp.int32
        assert s.time.dtype == jnp.int32
    assert reward.shape == ()
    assert reward.dtype == jnp.float32
    assert terminated.shape == truncated.shape == ()
    assert terminated.dtype == truncated.dtype == bool
    assert info["next_state_index"].dtype == jnp.int32


def test_sizes_agree(env, task):
    model = env.tabular(task)
    pairs = (env.num_states, env.num_actions)
    assert env.state_features.shape[0] == env.num_states
    assert env.state_features.dtype == jnp.float32
    assert model.transition_probs.shape == (*pairs, env.num_states)
    assert model.mean_reward.shape == pairs
    assert model.start.shape == model.terminal.shape == (env.num_states,)
    assert model.terminal.dtype == bool


def test_states_look_different(env):
    features = np.asarray(env.state_features)
    assert len({tuple(row) for row in features}) == env.num_states


def test_the_observation_is_the_features_of_the_state(env, steps):
    np.testing.assert_array_equal(steps.obs, env.state_features[steps.after.index])
    first = jax.tree.map(lambda x: x[0], steps)
    observed = env.observe(jax.random.key(0), first.after, None, None)
    np.testing.assert_array_equal(observed, first.obs)


def test_a_task_is_optional_and_then_fixed(env):
    key_reset, key_step = jax.random.split(jax.random.key(4))
    assert_trees_equal(env.default_params, env.default_params)
    _, state = env.reset(key_reset)
    action = jnp.int32(0)
    assert_trees_equal(
        env.step(jax.random.clone(key_step), state, action),
        env.step(key_step, state, action, env.default_params),
    )


def test_jit_changes_nothing(env, task):
    key_reset, key_step = jax.random.split(jax.random.key(5))
    action = jnp.int32(env.num_actions - 1)

    def episode_start():
        obs, state = env.reset(jax.random.clone(key_reset), task)
        return obs, env.step(jax.random.clone(key_step), state, action, task)

    jitted = episode_start()
    with jax.disable_jit():
        plain = episode_start()
    assert_trees_equal(jitted, plain)


def test_vmap_is_a_loop(env):
    n = 3
    key_tasks, key_resets, key_steps = jax.random.split(jax.random.key(6), 3)
    task_keys, reset_keys = jax.random.split(key_tasks, n), jax.random.split(key_resets, n)
    step_keys = jax.random.split(key_steps, n)
    actions = jnp.arange(n, dtype=jnp.int32) % env.num_actions

    def one(task_key, reset_key, step_key, action):
        task = env.sample_task(task_key)
        _, state = env.reset(reset_key, task)
        return task, env.step(step_key, state, action, task)

    clones = [jax.random.clone(keys) for keys in (task_keys, reset_keys, step_keys)]
    batch = jax.vmap(one)(clones[0], clones[1], clones[2], actions)
    for i in range(n):
        single = one(task_keys[i], reset_keys[i], step_keys[i], actions[i])
        assert_trees_equal(jax.tree.map(lambda x, i=i: x[i], batch), single)


def test_environments_are_equal_by_value(env):
    twin = type(env)(**{name: getattr(env, name) for name in env.__dataclass_fields__})
    assert twin == env
    assert hash(twin) == hash(env)
    assert all(other != env for other in ENVS.values() if other is not env)


# --- restarts -----------------------------------------------------------------------------------


def test_the_state_holds_nothing_of_the_task(env, steps):
    assert isinstance(steps.after, EnvState)
    assert len(jax.tree.leaves(steps.after)) == 2


def test_a_restart_is_a_reset_in_the_same_task(env, task, steps):
    done = np.asarray(steps.terminated | steps.truncated)
    assert done.any()
    np.testing.assert_array_equal(steps.after.time[done], 0)
    assert (env.tabular(task).start[steps.after.index[done]] > 0).all()
    after_a_restart = jax.tree.map(lambda x: x[np.flatnonzero(done)[0]], steps.after)
    fresh = EnvState(time=jnp.int32(0), index=after_a_restart.index)
    key = jax.random.key(7)
    assert_trees_equal(
        env.step(jax.random.clone(key), after_a_restart, jnp.int32(0), task),
        env.step(key, fresh, jnp.int32(0), task),
    )


def test_info_has_the_state_that_a_restart_hides(env, steps):
    next_index = steps.info["next_state_index"]
    done = np.asarray(steps.terminated | steps.truncated)
    np.testing.assert_array_equal(steps.after.index[~done], next_index[~done])
    np.testing.assert_array_equal(steps.info["final_observation"], env.state_features[next_index])


def test_a_time_limit_truncates_and_only_terminal_states_terminate(env, task, steps):
    terminal = env.tabular(task).terminal[steps.info["next_state_index"]]
    np.testing.assert_array_equal(steps.terminated, terminal)
    if env.task_horizon is None:
        assert not steps.truncated.any()
    else:
        np.testing.assert_array_equal(steps.truncated, steps.before.time + 1 == env.task_horizon)


def test_the_corridor_shows_both_ends_of_an_episode():
    env = ENVS["corridor-limited"]
    steps = walk(env, env.default_params, jax.random.key(8))
    assert (steps.terminated & ~steps.truncated).any()
    assert (steps.truncated & ~steps.terminated).any()


# --- the exact model ----------------------------------------------------------------------------


def test_the_model_holds_distributions(env, task):
    model = env.tabular(task)
    assert (model.transition_probs >= 0).all()
    np.testing.assert_allclose(model.transition_probs.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(model.start.sum(), 1, atol=1e-6)


def chi_square_p_value(counts, probs):
    """Goodness of fit of `counts [G, S]` to `probs [G, S]`, all groups together.

    In each group the outcomes that are expected fewer than 5 times are taken as one.
    """
    expected = probs / probs.sum(axis=1, keepdims=True) * counts.sum(axis=1, keepdims=True)
    assert (counts[expected == 0] == 0).all(), "an impossible outcome"
    rare = expected < 5
    observed_cells = np.column_stack([np.where(rare, 0, counts), (counts * rare).sum(axis=1)])
    expected_cells = np.column_stack([np.where(rare, 0, expected), (expected * rare).sum(axis=1)])
    used = expected_cells > 0
    statistic = ((observed_cells - expected_cells)[used] ** 2 / expected_cells[used]).sum()
    degrees = used.sum() - len(counts)
    return scipy.stats.chi2.sf(statistic, degrees) if degrees else 1.0


def test_the_chi_square_helper_tells_distributions_apart():
    probs = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    assert chi_square_p_value(np.array([[500, 300, 200], [1000, 0, 0]]), probs) > 0.99
    assert chi_square_p_value(np.array([[450, 350, 200], [1000, 0, 0]]), probs) < 0.01


def sample_pairs(env, task, key, n):
    """`n` draws from each pair of a state that is not terminal: `Transition` of `[G, n]`."""
    states = np.flatnonzero(~np.asarray(env.tabular(task).terminal))
    s, a = (x.ravel() for x in np.meshgrid(states, np.arange(env.num_actions), indexing="ij"))
    keys = jax.random.split(key, (len(s), n))

    def draw(key, s, a):
        _, state, reward, terminated, _ = env.step_env(key, EnvState(jnp.int32(0), s), a, task)
        return Transition(state.index, reward, terminated)

    draws = jax.jit(jax.vmap(jax.vmap(draw, (0, None, None))))(
        keys, jnp.asarray(s, jnp.int32), jnp.asarray(a, jnp.int32)
    )
    return (s, a), Transition(*(np.asarray(x) for x in draws))


def test_transitions_and_rewards_are_those_of_the_model(env, task):
    n = 2000
    model = env.tabular(task)
    (s, a), draws = sample_pairs(env, task, jax.random.key(9), n)
    counts = np.stack([np.bincount(row, minlength=env.num_states) for row in draws[0]])
    probs = np.asarray(model.transition_probs, np.float64)[s, a]
    assert chi_square_p_value(counts, probs) > 1e-3

    expected = np.asarray(model.mean_reward)[s, a]
    deviation = draws.reward.std(axis=1, ddof=1)
    error = np.abs(draws.reward.mean(axis=1) - expected)
    assert (error <= 4.5 * deviation / np.sqrt(n) + 1e-5).all()


def test_starts_are_those_of_the_model(env, task):
    n = 2000
    keys = jax.random.split(jax.random.key(10), n)
    _, states = jax.vmap(env.reset, (0, None))(keys, task)
    counts = np.bincount(states.index, minlength=env.num_states)[None]
    start = np.asarray(env.tabular(task).start, np.float64)[None]
    assert chi_square_p_value(counts, start) > 1e-3


def test_tasks_differ(env):
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(11), 3))
    assert any((leaf[1:] != leaf[:1]).any() for leaf in jax.tree.leaves(tasks))


def test_double_precision_is_used_when_enabled(env):
    with jax.enable_x64(True):
        task = env.sample_task(jax.random.key(12))
        steps = walk(env, task, jax.random.key(13), num_steps=3)
    floats = [x for x in jax.tree.leaves(task) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(leaf.dtype == jnp.float64 for leaf in floats)
    assert steps.reward.dtype == jnp.float64
    assert steps.after.index.dtype == steps.after.time.dtype == jnp.int32
