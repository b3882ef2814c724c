"""No object-level RL: this is RL²."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from rl3jax.object_level.base import Estimates, ObjectLearner, State
from rl3jax.ranges import Size, check_fields


@struct.dataclass
class NoTable:
    """Nothing: a pytree without leaves."""


@dataclass(frozen=True)
class NoLearner(ObjectLearner):
    """Learns nothing; see `none`. Where states are vectors, `num_states` is `None`."""

    num_states: Size | None
    num_actions: Size

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self) -> NoTable:
        """The empty table."""
        return NoTable()

    def update(
        self,
        table: NoTable,
        s: State,
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: State,
        terminated: Bool[ArrayLike, ""],
    ) -> NoTable:
        """The empty table."""
        del s, a, r, s_next, terminated
        return table

    def estimates(self, table: NoTable, s: State) -> Estimates:
        """Values and counts of 0, whatever was done."""
        del table, s
        return Estimates(
            q=jnp.zeros(self.num_actions), visits=jnp.zeros(self.num_actions, jnp.int32)
        )

    def q_table(self, table: NoTable) -> Float[Array, "S A"]:
        """Values of 0."""
        del table
        assert self.num_states is not None
        return jnp.zeros((self.num_states, self.num_actions))


def none(num_states: int | None, num_actions: int) -> NoLearner:
    """No object-level RL: RL² (Duan et al., 2016).

    Its policy is not shown estimates, so that nothing is kept: values and visit counts are 0.

    Args:
        num_states: S; `None` where states are vectors.
        num_actions: A.

    Raises:
        ValueError: if a size is no positive integer. The message is one line.
    """
    return NoLearner(num_states, num_actions)
