"""What every object-level learner is: pure functions on the table of one task."""

import abc
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from rl3jax.ranges import Size, check_fields

Table: TypeAlias = Any
"""A learner's own pytree of arrays."""


@struct.dataclass
class Estimates:
    """What object-level RL knows of one state.

    Attributes:
        q: `[A]` float, estimated values of the actions, in reward units.
        visits: `[A]` int32, how often each action was taken in this state.
        q_stderr: `[A]`, standard errors of `q`; `None` from a learner that keeps none.
        v_stderr: `[]`, that of max_a q(a); `None` likewise.
        q_optimistic: `[A]`, values in which what was not tried is worth much; `None` likewise.
        mean_reward: `[A]`, of each action's rewards in this state, 0 before any; `None` likewise.
    """

    q: jax.Array
    visits: jax.Array
    q_stderr: jax.Array | None = None
    v_stderr: jax.Array | None = None
    q_optimistic: jax.Array | None = None
    mean_reward: jax.Array | None = None


@dataclass(frozen=True)
class ObjectLearner(abc.ABC):
    """Ordinary RL inside a meta-episode, on the data of its task (RL³, Bhatia et al., algorithm 1).

    A learner is static: frozen and hashable. Whatever changes is in its table, a pytree of arrays
    that lives for one meta-episode. The methods are written for one task; vmap them for more. An
    episode's restart is the caller's: the jump to the start state is no transition to `update` on.

    Attributes:
        num_states: S.
        num_actions: A.

    Raises:
        ValueError: on construction, if a field's value is not allowed.
    """

    num_states: Size
    num_actions: Size

    def __post_init__(self) -> None:
        check_fields(self)

    @abc.abstractmethod
    def init(self) -> Table:
        """The table before any data."""

    @abc.abstractmethod
    def update(
        self,
        table: Table,
        s: Int[ArrayLike, ""],
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: Int[ArrayLike, ""],
        terminated: Bool[ArrayLike, ""],
    ) -> Table:
        """The table after action `a` in state `s` paid `r` and led to `s_next`.

        Args:
            table: the table before.
            s: state index in [0, S).
            a: action index in [0, A).
            r: reward.
            s_next: state index in [0, S); after an episode's end the state that ended it, not
                the start state.
            terminated: whether `s_next` is terminal; False at a time limit.
        """

    @abc.abstractmethod
    def estimates(self, table: Table, s: Int[ArrayLike, ""]) -> Estimates:
        """Estimates of state `s`, from all data so far."""

    @abc.abstractmethod
    def q_table(self, table: Table) -> Float[Array, "S A"]:
        """Estimated values of every state and action, in reward units."""

    def overflowed(self, table: Table) -> Bool[ArrayLike, ""]:
        """Whether data no longer fitted into the table, whose estimates are then void (NaN)."""
        del table
        return False
