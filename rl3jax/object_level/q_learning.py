"""Object-level RL by Q-learning: no model, one entry of the table a step."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from rl3jax.object_level.base import Estimates, TabularLearner, num_states_of
from rl3jax.ranges import Fraction, Probability


@struct.dataclass
class QLearningTable:
    """What Q-learning keeps of a task.

    Attributes:
        q: `[S, A]`, in reward units.
        visits: `[S, A]` int32, N(s, a).
    """

    q: jax.Array
    visits: jax.Array


@dataclass(frozen=True)
class QLearning(TabularLearner):
    """Tabular Q-learning (Watkins and Dayan, 1992); see `q_learning`."""

    discount: Probability
    step_size: Fraction | None
    initial_value: float

    def init(self) -> QLearningTable:
        """No data; every value is the initial one."""
        size = (self.num_states, self.num_actions)
        return QLearningTable(
            q=jnp.full(size, self.initial_value, dtype=float), visits=jnp.zeros(size, jnp.int32)
        )

    def update(
        self,
        table: QLearningTable,
        s: Int[ArrayLike, ""],
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: Int[ArrayLike, ""],
        terminated: Bool[ArrayLike, ""],
    ) -> QLearningTable:
        """Q(s,a) ← Q(s,a) + α (r + discount · max_a' Q(s',a') − Q(s,a)), without Q(s') if terminal.

        α is the step size or 1 / N(s, a), where N counts this visit.
        """
        visits = table.visits.at[s, a].add(1)
        n = visits[s, a].astype(table.q.dtype)
        step_size = 1 / n if self.step_size is None else self.step_size
        v_next = jnp.where(terminated, 0.0, table.q[s_next].max())
        error = r + self.discount * v_next - table.q[s, a]
        return QLearningTable(q=table.q.at[s, a].add(step_size * error), visits=visits)

    def estimates(self, table: QLearningTable, s: Int[ArrayLike, ""]) -> Estimates:
        """The table's row of state `s`."""
        return Estimates(q=table.q[s], visits=table.visits[s])

    def q_table(self, table: QLearningTable) -> Float[Array, "S A"]:
        """The table's values."""
        return table.q


def q_learning(
    num_states: int,
    num_actions: int,
    discount: float = 0.95,
    step_size: float | None = None,
    initial_value: float = 0.0,
) -> QLearning:
    """Object-level RL by tabular Q-learning (Watkins and Dayan, 1992).

    Args:
        num_states: S.
        num_actions: A.
        discount: of the object-level values, per step, in [0, 1].
        step_size: α, constant in (0, 1]; `None` is 1 / N(s, a).
        initial_value: Q before any data, in reward units; large is optimistic.

    Raises:
        ValueError: if an argument is out of its range. The message is one line.
    """
    return QLearning(
        num_states,
        num_actions,
        discount=discount,
        step_size=step_size,
        initial_value=initial_value,
    )


def make_q_learning(
    env: Any,
    horizon: int,
    planning_discount: Probability = 0.95,
    step_size: Fraction | None = None,
    initial_value: float = 0.0,
) -> QLearning:
    """The learner for an environment's states and actions.

    Args:
        env: the environment.
        horizon: steps of a meta-episode.
        planning_discount: Discount of object-level RL, per env step.
        step_size: Step size. None: 1/N(s, a).
        initial_value: Q before any data, in reward units.
    """
    del horizon
    num_states = num_states_of(env, "q_learning")
    return q_learning(num_states, env.num_actions, planning_discount, step_size, initial_value)
