"""`--debug`: what JAX's checks find is one line that names the source, and then they are off."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from rl3jax import Config, make_trainer
from rl3jax.checks import ConfigError
from rl3jax.debugging import check_indices, jax_checks
from rl3jax.envs import Bandit

HERE = rf"at {re.escape(__file__)}:\d+$"


def settings():
    """Of JAX, in this thread."""
    return [jax.debug_nans.value, jax.debug_key_reuse.value, jax.check_tracer_leaks.value]


def divide_by_zero():
    jax.jit(lambda x: x / x)(jnp.zeros(())).block_until_ready()


def use_a_key_twice():
    key = jax.random.key(0)
    jax.random.normal(key) + jax.random.normal(key)


def leak_a_tracer():
    kept = []
    jax.jit(lambda x: kept.append(x))(jnp.zeros(()))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (divide_by_zero, "invalid value .*nan.*"),
        (use_a_key_twice, "Previously-consumed key .*"),
        (leak_a_tracer, "Leaked .*"),
    ],
)
def test_what_is_found_is_one_line_with_its_source(wrong, found):
    before = settings()
    with pytest.raises(ConfigError, match=f"^--debug: {found}, {HERE}") as error, jax_checks():
        wrong()
    assert "\n" not in str(error.value)
    assert settings() == before


def test_later_calls_are_checked_too_after_a_nan_that_is_meant():
    divide = jax.jit(lambda x: x / x)
    with jax_checks():
        for _ in range(3):
            divide(jnp.ones(()))
            with jax.debug_nans(False):
                divide(jnp.zeros(()))
        with pytest.raises(FloatingPointError, match=r"invalid value .*nan"):
            divide(jnp.zeros(()))


def test_other_errors_are_as_ever():
    before = settings()
    with pytest.raises(AssertionError, match="of ours, while True"), jax_checks():
        raise AssertionError(f"of ours, while {all(settings())}")
    assert settings() == before


class Lost(Bandit):
    """A bandit in a state that it does not have."""

    def state_index(self, state):
        return super().state_index(state) + 3


def test_an_index_out_of_bounds_in_an_episode_is_found():
    config = Config(env="bandit", network="markov", width=4, n_tasks=2, horizon=2, minibatches=1)
    trainer = make_trainer(config)
    state = trainer.init(jax.random.key(0))
    check_indices(trainer, state, jax.random.key(1))
    lost = dataclasses.replace(trainer, env=Lost())
    with pytest.raises(ConfigError, match=r"^--debug: out-of-bounds indexing .*") as error:
        check_indices(lost, state, jax.random.key(1))
    assert "\n" not in str(error.value)
