"""The floor: uniformly random actions."""

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import Agent, Interaction


class UniformAgent(Agent):
    """Every action with the same probability, whatever was seen."""

    num_actions: int = struct.field(pytree_node=False)

    @override
    def init(self, s: ArrayLike) -> tuple[()]:
        del s
        return ()

    @override
    def act(self, carry: tuple[()], key: PRNGKeyArray) -> tuple[Int[Array, ""], tuple[()]]:
        return jax.random.randint(key, (), 0, self.num_actions, dtype=jnp.int32), carry

    @override
    def take_in(self, carry: tuple[()], interaction: Interaction) -> tuple[()]:
        del interaction
        return carry
