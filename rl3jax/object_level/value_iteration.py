"""Object-level RL by planning in an estimated model: the paper's choice."""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from rl3jax.checks import ConfigError
from rl3jax.object_level.base import Estimates, TabularLearner, num_states_of
from rl3jax.object_level.model import (
    Backup,
    EstimatedModel,
    bellman_backup,
    empty_model,
    mean_reward_of,
    optimistic_backup,
    record,
    variance_backup,
    visits,
)
from rl3jax.object_level.planning import sweep, sweep_with_variance
from rl3jax.ranges import Count, NonNegative, OneOf, Probability, Size

Known = Annotated[str, OneOf(("all", "visited"))]


@struct.dataclass
class ValueIterationTable:
    """What value iteration keeps of a task; `None` is for options that are off.

    Attributes:
        model: counts of the transitions so far.
        q: `[A, S]`, the last plan's values, in reward units.
        q_variance: `[A, S]`, their variances.
        q_optimistic: `[A, S]`, the last optimistic plan's values, in reward units.
    """

    model: EstimatedModel
    q: jax.Array
    q_variance: jax.Array | None
    q_optimistic: jax.Array | None


@dataclass(frozen=True)
class ValueIteration(TabularLearner):
    """Value iteration in the estimated model, anew after every step; see `value_iteration`."""

    discount: Probability
    smoothing: NonNegative
    max_sweeps: Size
    tolerance: NonNegative
    known: Known
    warm_start: bool
    sweeps_per_step: Size | None
    slots: Size | None
    standard_errors: bool
    optimism: float | None
    mean_rewards: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sweeps_per_step is None:
            return
        if self.discount == 1:
            raise ConfigError(
                "sweeps_per_step needs a discount below 1, or values never settle; without it, "
                "planning is to the tolerance"
            )
        if self.standard_errors:
            raise ConfigError("standard_errors are planned from 0; they exclude sweeps_per_step")

    def init(self) -> ValueIterationTable:
        """No data; every value is 0, and every optimistic value the optimism."""
        model = empty_model(
            self.num_states,
            self.num_actions,
            all_known=self.known == "all",
            slots=self.slots,
            keep_squares=self.standard_errors,
        )
        zeros = jnp.zeros((self.num_actions, self.num_states))
        return ValueIterationTable(
            model=model,
            q=zeros,
            q_variance=zeros if self.standard_errors else None,
            q_optimistic=None if self.optimism is None else jnp.full_like(zeros, self.optimism),
        )

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
        q, q_variance = self._plan(table, model)
        return ValueIterationTable(model, q, q_variance, self._plan_optimistically(table, model))

    def _plan(
        self, table: ValueIterationTable, model: EstimatedModel
    ) -> tuple[Float[Array, "A S"], Float[Array, "A S"] | None]:
        """Values, and their variances if these are wanted."""
        backup = bellman_backup(model, self.discount, self.smoothing)
        if self.standard_errors:
            variance = variance_backup(model, self.discount, self.smoothing)
            start = jnp.zeros_like(table.q)
            return sweep_with_variance(backup, variance, start, self.max_sweeps, self.tolerance)
        return self._sweep(backup, self._start(table.q, table.model, model)), None

    def _plan_optimistically(
        self, table: ValueIterationTable, model: EstimatedModel
    ) -> Float[Array, "A S"] | None:
        if self.optimism is None:
            return None
        backup = optimistic_backup(model, self.discount, self.optimism)
        assert table.q_optimistic is not None
        return self._sweep(backup, self._start(table.q_optimistic, table.model, model))

    def _sweep(self, backup: Backup, q: Float[Array, "A S"]) -> Float[Array, "A S"]:
        if self.sweeps_per_step is not None:
            return sweep(backup, q, self.sweeps_per_step, tolerance=None)
        return sweep(backup, q, self.max_sweeps, self.tolerance)

    def _start(
        self, last_q: Float[Array, "A S"], last_model: EstimatedModel, model: EstimatedModel
    ) -> Float[Array, "A S"]:
        """What the sweeps start from: 0, or the last q (if warm: while no state becomes known)."""
        last_q = jnp.where(model.absorbing[None, :], 0.0, last_q)
        if self.sweeps_per_step is not None:
            return last_q
        if not self.warm_start:
            return jnp.zeros_like(last_q)
        return jnp.where(jnp.all(model.known == last_model.known), last_q, 0.0)

    def estimates(self, table: ValueIterationTable, s: Int[ArrayLike, ""]) -> Estimates:
        """The last plan's values of state `s`, and its visit counts."""
        q = self._unless_overflowed(table, table.q[:, s])
        q_stderr = v_stderr = q_optimistic = mean_reward = None
        if table.q_variance is not None:
            q_stderr = jnp.sqrt(table.q_variance[:, s])
            v_stderr = q_stderr[q.argmax()]
        if table.q_optimistic is not None:
            q_optimistic = self._unless_overflowed(table, table.q_optimistic[:, s])
        if self.mean_rewards:
            mean_reward = self._unless_overflowed(table, mean_reward_of(table.model, s))
        return Estimates(q, visits(table.model, s), q_stderr, v_stderr, q_optimistic, mean_reward)

    def q_table(self, table: ValueIterationTable) -> Float[Array, "S A"]:
        """The last plan's values."""
        return self._unless_overflowed(table, table.q.T)

    def overflowed(self, table: ValueIterationTable) -> Bool[ArrayLike, ""]:
        """Whether a pair had more next states than `slots`."""
        return False if table.model.overflowed is None else table.model.overflowed

    def _unless_overflowed(
        self, table: ValueIterationTable, x: Float[Array, "*any"]
    ) -> Float[Array, "*any"]:
        return x if self.slots is None else jnp.where(self.overflowed(table), jnp.nan, x)


def value_iteration(  # noqa: PLR0913 (a learner is made of its options)
    num_states: int,
    num_actions: int,
    discount: float = 0.95,
    smoothing: float = 0.1,
    max_sweeps: int = 10,
    tolerance: float = 0.01,
    known: str = "all",
    warm_start: bool = False,
    *,
    sweeps_per_step: int | None = None,
    slots: int | None = None,
    standard_errors: bool = False,
    optimism: float | None = None,
    mean_rewards: bool = False,
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
        warm_start: sweeps go on from the last q while no state becomes known; else from 0 (as
            they always do with standard errors).
        sweeps_per_step: instead of planning to the tolerance: every update goes on from the last
            q by this many sweeps, whatever has become known.
        slots: next states kept of a pair of state and action, where it is less than S: a table of
            S·A·slots in place of S·A·S. A task with more of them has overflowed: its estimates
            are NaN from then on. `None` is a slot for every state.
        standard_errors: also estimate the standard errors of q and of max_a q, as the paper's
            program can.
        optimism: also keep a second table, `q_optimistic`, in which a pair that was never tried
            is worth this, in reward units (R-max; not in the paper).
        mean_rewards: also give the mean reward of each action, `mean_reward` (not in the paper).

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
        sweeps_per_step=sweeps_per_step,
        slots=slots,
        standard_errors=standard_errors,
        optimism=optimism,
        mean_rewards=mean_rewards,
    )


def make_value_iteration(  # noqa: PLR0913 (each is a flag)
    env: Any,
    horizon: int,
    planning_discount: Probability = 0.95,
    smoothing: NonNegative = 0.1,
    max_sweeps: Size | None = None,
    tolerance: NonNegative = 0.01,
    known_states: Known = "all",
    warm_start: bool = False,
    sweeps_per_step: Count = 0,
    successor_slots: Size | None = None,
    standard_errors: bool = False,
    optimism: float | None = None,
    mean_rewards: bool = False,
) -> ValueIteration:
    """The learner for an environment's states and actions.

    Args:
        env: the environment.
        horizon: steps of a meta-episode.
        planning_discount: Discount of object-level RL, per env step.
        smoothing: Pseudo-count added to every transition of the estimated model.
        max_sweeps: Value-iteration sweeps per env step at most. None: the environment's task
            horizon.
        tolerance: Value iteration ends below this change of q, in reward units.
        known_states: States in the estimated model: all or visited.
        warm_start: Sweeps go on from the last q while the known states are the same.
        sweeps_per_step: Instead of planning to the tolerance: sweeps per env step, always going on
            from the last q; 0: plan to the tolerance.
        successor_slots: Next states that the model can hold of a state and action. None: what the
            environment needs.
        standard_errors: Also estimate and show standard errors of the values.
        optimism: Also plan and show optimistic values, in which a state and action never tried are
            worth this, in reward units. None: off.
        mean_rewards: Also show the mean rewards of the actions in the current state.
    """
    return value_iteration(
        num_states_of(env, "value_iteration"),
        env.num_actions,
        planning_discount,
        smoothing,
        max_sweeps or env.task_horizon or horizon,
        tolerance,
        known_states,
        warm_start,
        sweeps_per_step=sweeps_per_step or None,
        slots=successor_slots or env.max_successors,
        standard_errors=standard_errors,
        optimism=optimism,
        mean_rewards=mean_rewards,
    )
