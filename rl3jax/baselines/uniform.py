"""The floor: uniformly random actions."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import Agent, Interaction
from rl3jax.ranges import box_ends


class _Careless(Agent):
    """Base of agents to whom nothing matters."""

    @override
    def init(self, s: ArrayLike) -> tuple[()]:
        del s
        return ()

    @override
    def take_in(self, carry: tuple[()], interaction: Interaction) -> tuple[()]:
        del interaction
        return carry


class UniformAgent(_Careless):
    """Every action with the same probability, whatever was seen."""

    num_actions: int = struct.field(pytree_node=False)

    @override
    def act(self, carry: tuple[()], key: PRNGKeyArray) -> tuple[Int[Array, ""], tuple[()]]:
        return jax.random.randint(key, (), 0, self.num_actions, dtype=jnp.int32), carry


class UniformBoxAgent(_Careless):
    """Every action of a box with the same density, whatever was seen."""

    low: tuple[float, ...] = struct.field(pytree_node=False)
    high: tuple[float, ...] = struct.field(pytree_node=False)

    @override
    def act(self, carry: tuple[()], key: PRNGKeyArray) -> tuple[Float[Array, " n"], tuple[()]]:
        low, high = jnp.asarray(self.low), jnp.asarray(self.high)
        return jax.random.uniform(key, low.shape, minval=low, maxval=high), carry


def uniform_agent(space: spaces.Discrete | spaces.Box) -> UniformAgent | UniformBoxAgent:
    """The agent that acts uniformly at random in a space of gymnax's."""
    if isinstance(space, spaces.Discrete):
        return UniformAgent(int(space.n))
    return UniformBoxAgent(*(tuple(map(float, end)) for end in box_ends(space)))
