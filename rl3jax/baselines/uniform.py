"""The floor: uniformly random actions."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import Agent


class UniformAgent(Agent):
    """Every action with the same probability, whatever was seen."""

    num_actions: int = struct.field(pytree_node=False)

    @override
    def init(self, s: Int[Array, ""]) -> tuple[()]:
        del s
        return ()

    @override
    def act(self, carry: tuple[()], key: PRNGKeyArray) -> tuple[Int[Array, ""], tuple[()]]:
        return jax.random.randint(key, (), 0, self.num_actions, dtype=jnp.int32), carry

    @override
    def observe(self, carry: tuple[()], *transition: Any) -> tuple[()]:
        del transition
        return carry
