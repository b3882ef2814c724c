"""Object-level RL by planning in an estimated model: the paper's choice."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from rl3jax.checks import check_choice, check_number, check_size
from rl3jax.object_level.base import Estimates, ObjectLearner
from rl3jax.object_level.model import EstimatedModel, bellman_backup, empty_model, record, visits
from rl3jax.object_level.planning import sweep

KNOWN = ("all", "visited")


@struct.dataclass
class ValueIterationTable:
    """What value iteration keeps of a task.

    Attributes:
        model: counts of the transitions so far.
        q: `[S, A]`, the last plan's values, in reward units.
    """

    model: EstimatedModel
    q: jax.Array


@dataclass(frozen=True)
class ValueIteration(ObjectLearner):
    """Value iteration in the estimated model, anew after every step; see `value_iteration`."""

    discount: float
    smoothing: float
    max_sweeps: int
    tolerance: float
    known: str
    warm_start: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("discount", self.discount, 0, 1)
        check_number("smoothing", self.smoothing, 0)
        check_size("max_sweeps", self.max_sweeps)
        check_number("tolerance", self.tolerance, 0)
        check_choice("known", self.known, KNOWN)
        if not isinstance(self.warm_start, bool):
            raise ValueError(f"warm_start must be True or False, not {self.warm_start!r}")

    def init(self) -> ValueIterationTable:
        """No data; every value is 0."""
        model = empty_model(self.num_states, self.num_actions, all_known=self.known == "all")
        return ValueIterationTable(model, q=jnp.zeros((self.num_states, self.num_actions)))

    def update(
        self,
        table: ValueIterationTable,
        s: Int[ArrayLike, ""],
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: Int[ArrayLike, ""],
        terminated: Bool[ArrayLike, ""],
    ) -> ValueIterationTable:
        """Records the transition and plans again."""
        model = record(table.model, s, a, r, s_next, terminated)
        backup = bellman_backup(model, self.discount, self.smoothing)
        q = sweep(backup, self._first_q(table, model), self.max_sweeps, self.tolerance)
        return ValueIterationTable(model, q)

    def _first_q(self, table: ValueIterationTable, model: EstimatedModel) -> Float[Array, "S A"]:
        """What the sweeps start from: 0, or the last q as long as no state has become known."""
        if not self.warm_start:
            return jnp.zeros_like(table.q)
        unchanged = jnp.all(model.known == table.model.known)
        return jnp.where((unchanged & ~model.absorbing)[:, None], table.q, 0.0)

    def estimates(self, table: ValueIterationTable, s: Int[ArrayLike, ""]) -> Estimates:
        """The last plan's values of state `s`, and its visit counts."""
        return Estimates(q=table.q[s], visits=visits(table.model, s))

    def q_table(self, table: ValueIterationTable) -> Float[Array, "S A"]:
        """The last plan's values."""
        return table.q


def value_iteration(
    num_states: int,
    num_actions: int,
    discount: float = 0.95,
    smoothing: float = 0.1,
    max_sweeps: int = 10,
    tolerance: float = 0.01,
    known: str = "all",
    warm_start: bool = False,
) -> ValueIteration:
    """Object-level RL by value iteration in the estimated model (RL³, Bhatia et al., algorithm 1).

    Args:
        num_states: S.
        num_actions: A.
        discount: of the object-level values, per step, in [0, 1].
        smoothing: pseudo-count of every transition of a pair that was tried.
        max_sweeps: sweeps per update at most.
        tolerance: an update ends after a sweep whose largest change of q is below it, in reward
            units.
        known: states in the model: "all", or those "visited" so far, where a state never met has
            q = 0.
        warm_start: sweeps go on from the last q while no state becomes known; else from 0.

    Raises:
        ValueError: if an argument is out of its range. The message is one line.
    """
    return ValueIteration(
        num_states,
        num_actions,
        discount=discount,
        smoothing=smoothing,
        max_sweeps=max_sweeps,
        tolerance=tolerance,
        known=known,
        warm_start=warm_start,
    )
