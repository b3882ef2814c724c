import functools
import inspect
import warnings

import gymnasium.utils.env_checker
import jax
import numpy as np
import pytest
from gymnax.wrappers import GymnaxToGymWrapper


@pytest.fixture
def unchecked():
    """A dataclass's constructor as it is without the tests' check of annotations.

    What the constructor itself says of a value of a wrong type is for users, who have no check.
    """

    def constructor(cls):
        @functools.wraps(cls)
        def construct(*args, **kwargs):
            instance = object.__new__(cls)
            inspect.unwrap(cls.__init__)(instance, *args, **kwargs)
            return instance

        return construct

    return constructor


class Seeded(GymnaxToGymWrapper):
    """With what gymnasium's checker wants, and gymnax's wrapper has not: a seed, and no JAX."""

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        return np.asarray(super().reset(seed=seed)[0]), {}

    def step(self, action):
        obs, reward, terminated, truncated, _ = super().step(action)
        return np.asarray(obs), float(reward), bool(terminated), bool(truncated), {}


@pytest.fixture
def check_by_gymnasium():
    """Gymnasium's checker of an environment of gymnax's."""

    def check(env):
        with warnings.catch_warnings(), jax.debug_key_reuse(False):  # the wrapper reuses its own
            warnings.simplefilter("ignore")  # of spaces that are not between −1 and 1, and the like
            gymnasium.utils.env_checker.check_env(Seeded(env), skip_render_check=True)

    return check
