"""What holds of every environment whose states are vectors."""

import dataclasses
import warnings

import gymnasium.utils.env_checker
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.wrappers import GymnaxToGymWrapper, LogWrapper

from rl3jax import Binned, GymnaxTasks, check_env, make_env
from rl3jax.envs import ENVIRONMENTS, VectorEnvironment

VARIATIONS = [("pendulum", "sign"), ("pendulum", "packer-e"), ("cartpole", "sign")]
ENVS = {
    **{name: make_env(name) for name, cls in ENVIRONMENTS.items()
       if issubclass(cls, VectorEnvironment)},
    **{f"{name}-{variation}": make_env(name, variation) for name, variation in VARIATIONS},
    "gymnax": GymnaxTasks("MountainCarContinuous-v0", {"power": (0.001, 0.002)}, time_limit=30),
    "binned": Binned(make_env("point-robot", variation="dense"), bins=4),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(ENVS.values()), ids=list(ENVS))
def env(request):
    return request.param


def test_the_check_finds_nothing(env):
    assert check_env(env, num_tasks=3) == ()


def test_it_is_equal_by_value(env):
    twin = type(env)(**{f.name: getattr(env, f.name) for f in dataclasses.fields(env)})
    assert twin == env
    assert hash(twin) == hash(env)
    assert sum(other == env for other in ENVS.values()) == 1


class Seeded(GymnaxToGymWrapper):
    """With what gymnasium's checker wants, and gymnax's wrapper has not: a seed, and no JAX."""

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        return np.asarray(super().reset(seed=seed)[0]), {}

    def step(self, action):
        obs, reward, terminated, truncated, _ = super().step(action)
        return np.asarray(obs), float(reward), bool(terminated), bool(truncated), {}


def test_gymnaxs_wrappers_and_gymnasiums_checker_take_it(env):
    logged = LogWrapper(env)
    _, state = logged.reset(jax.random.key(0), env.default_params)
    action = env.action_space().sample(jax.random.key(1))
    *_, info = logged.step(jax.random.key(2), state, action, env.default_params)
    assert info["returned_episode_lengths"].shape == ()
    with warnings.catch_warnings(), jax.debug_key_reuse(False):  # the wrapper reuses its own
        warnings.simplefilter("ignore")  # of spaces that are not between −1 and 1, and the like
        gymnasium.utils.env_checker.check_env(Seeded(env), skip_render_check=True)


def test_double_precision_is_used_when_enabled(env):
    with jax.enable_x64(True):
        task = env.sample_task(jax.random.key(0))
        _, state = env.reset(jax.random.key(1), task)
        action = env.action_space().sample(jax.random.key(2))
        _, after, reward, *_ = env.step(jax.random.key(3), state, action, task)
    floats = [x for x in jax.tree.leaves(task) if not jnp.issubdtype(x.dtype, jnp.integer)]
    assert all(x.dtype == jnp.float64 for x in (*floats, reward))
    assert env.learner_state(after).dtype == jnp.float64
    assert after.time.dtype == jnp.int32


def test_actions_beyond_the_box_count_as_its_ends(env):
    if not hasattr(env.action_space(), "low"):
        return
    task = env.default_params
    _, state = env.reset(jax.random.key(0), task)
    space = env.action_space()
    high = jnp.broadcast_to(jnp.asarray(space.high), space.shape)
    steps = [env.step(jax.random.key(1), state, a, task)[0] for a in (high, 7 * high)]
    np.testing.assert_array_equal(*steps)
