"""What a memory is: the part of a network that reads a meta-episode and knows what came before."""

import abc
from typing import Any, TypeAlias

import flax.linen as nn
from jaxtyping import Array, Float

from rl3jax.ranges import check_fields

Carry: TypeAlias = Any
"""What a memory holds of one task's meta-episode so far: a pytree of arrays, maybe empty."""


class Memory(nn.Module):
    """Base of memories: (carry, observation) → (carry, features), as a flax module.

    It acts one observation of one task at a time (`__call__`) and is trained on whole meta-episodes
    (`unroll`): both must give the same features, so each kind writes its arithmetic once and uses
    it in both. Fields are sizes and constants, hashable.
    """

    def __post_init__(self) -> None:
        check_fields(self)
        super().__post_init__()

    @property
    def rows_at_a_time(self) -> int | None:
        """Rows (steps × meta-episodes) that it is best trained on together; `None`: all there are.

        On CPU the activations of so many rows stay in the caches between forward and backward pass.
        An accelerator has to be filled.
        """
        return None

    def initial_carry(self, horizon: int, num_inputs: int) -> Carry:
        """The carry before the first of `horizon` observations of `num_inputs` numbers."""
        del horizon, num_inputs
        return ()

    @abc.abstractmethod
    def __call__(self, carry: Carry, x: Float[Array, " D"]) -> tuple[Carry, Float[Array, " F"]]:
        """Takes in one task's next observation and gives the features for it."""

    @abc.abstractmethod
    def unroll(self, xs: Float[Array, "T *batch D"]) -> Float[Array, "T *batch F"]:
        """Gives the features at every step of meta-episodes that begin with a fresh carry."""
