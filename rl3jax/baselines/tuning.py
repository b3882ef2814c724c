"""Choosing the constant of a baseline, on tasks of their own."""

from collections.abc import Callable
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rl3jax.agent import Agent
from rl3jax.envs import Environment
from rl3jax.rollout import rollouts, sample_tasks
from rl3jax.seeding import tuning_key

Family = Callable[[Environment, int, Float[Array, ""]], Agent]
"""From environment, horizon and the value of a constant to the agent with it."""

TUNING_TASKS = 300


@lru_cache
def best_constant(
    family: Family, constants: tuple[float, ...], env: Environment, horizon: int
) -> float:
    """The constant with the highest mean return in `horizon` env steps of 300 tuning tasks.

    All constants meet the same tasks, which no score is ever reported on (`seeding.tuning_key`).
    """
    returns = _mean_returns(family, env, horizon, jnp.asarray(constants), tuning_key())
    return constants[int(returns.argmax())]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _mean_returns(
    family: Family, env: Environment, horizon: int, constants: Float[Array, " C"], key: PRNGKeyArray
) -> Float[Array, " C"]:
    key_tasks, key_episodes = jax.random.split(key)
    tasks = sample_tasks(env, jax.random.split(key_tasks, TUNING_TASKS))
    keys = jax.random.split(key_episodes, TUNING_TASKS)

    def mean_return(constant: Float[Array, ""]) -> Float[Array, ""]:
        agent = family(env, horizon, constant).for_horizon(horizon)
        # The same chance for every constant: what differs is the constant alone.
        trajectory = rollouts(agent, env, tasks, horizon, jax.random.clone(keys))
        return trajectory.reward.sum(axis=0).mean()

    return jax.lax.map(mean_return, constants)
