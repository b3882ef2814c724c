"""A network of actor or critic: a memory and a head, as pure functions of their parameters."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, PRNGKeyArray

from rl3jax.checks import check_size
from rl3jax.devices import replicated
from rl3jax.networks import Memory
from rl3jax.networks.layers import in_default_float
from rl3jax.policy.heads import Head

Params: TypeAlias = Any
"""`{"memory": …, "head": …}`: what flax has made for either, in JAX's default float type."""


@dataclass(frozen=True)
class Network:
    """A memory that reads observations, and a head that reads its features and the observation.

    Static and hashable; actor and critic are two of them with parameters of their own. `step` acts
    one observation at a time, `unroll` reads whole meta-episodes: both give the same outputs.
    """

    memory: Memory
    head: Head

    @property
    def rows_at_a_time(self) -> int | None:
        """Rows (steps × meta-episodes) that are best trained on together; `None`: all there are."""
        return self.memory.rows_at_a_time

    def init(self, key: PRNGKeyArray, num_inputs: int) -> Params:
        """Draws parameters for observations of `num_inputs` numbers; the key is consumed.

        Raises:
            ValueError: `num_inputs` is not a positive integer.
        """
        check_size("num_inputs", num_inputs)
        impl = jax.random.key_impl(key)

        # One after another under vmap: batched QR decompositions, of which flax's recurrent cells
        # have several, wait for each other for ever on CPU.
        @custom_vmap
        def draw(key_data: Array) -> Params:
            key_memory, key_head = jax.random.split(jax.random.wrap_key_data(key_data, impl=impl))
            x = jnp.zeros(num_inputs)
            carry = self.initial_carry(1, num_inputs)
            (_, features), memory = self.memory.init_with_output(key_memory, carry, x)
            head = self.head.init(key_head, features, x)
            return jax.tree.map(in_default_float, {"memory": memory, "head": head})

        @draw.def_vmap
        def draw_all(size: int, batched: Any, key_data: Array) -> tuple[Params, Any]:
            del size, batched
            params = jax.lax.map(draw, replicated(key_data))
            return params, jax.tree.map(lambda _: True, params)

        return draw(jax.random.key_data(key))

    def initial_carry(self, horizon: int, num_inputs: int) -> Any:
        """What the memory holds of one task before the first of `horizon` steps."""
        return self.memory.initial_carry(horizon, num_inputs)

    def step(
        self, params: Params, carry: Any, x: Float[Array, " D"]
    ) -> tuple[Any, Float[Array, " num_outputs"]]:
        """Takes in one task's next observation and gives the outputs for it.

        A batch of tasks is a `jax.vmap` over `carry` and `x`.
        """
        carry, features = self._apply(self.memory, params["memory"], carry, x)
        return carry, self._apply(self.head, params["head"], features, x)

    def unroll(
        self, params: Params, xs: Float[Array, "T *batch D"]
    ) -> Float[Array, "T *batch num_outputs"]:
        """Gives the outputs at every step of meta-episodes that begin with a fresh carry."""
        features = self._apply(self.memory, params["memory"], xs, method="unroll")
        return self._apply(self.head, params["head"], features, xs)

    @staticmethod
    def _apply(module: nn.Module, params: Params, *args: Any, **options: Any) -> Any:
        return module.apply(params, *args, **options)
