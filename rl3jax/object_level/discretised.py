"""Learners of tables for states that are vectors: tiles, and prototypes."""

import abc
import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from rl3jax.checks import ConfigError
from rl3jax.object_level.base import Estimates, Features, Table, TabularLearner
from rl3jax.object_level.q_learning import q_learning
from rl3jax.object_level.value_iteration import value_iteration
from rl3jax.object_level.vector import VectorLearner, scales_of
from rl3jax.ranges import Positive, Probability, Size


@struct.dataclass
class DiscretisedTable:
    """What is kept of a task.

    Attributes:
        learner: table of the learner on indices.
        points: `[m, D]`, scaled states that prototypes are at, those of the first `number`.
        number: int32, of prototypes.
    """

    learner: Table
    points: jax.Array
    number: jax.Array


@dataclass(frozen=True)
class Discretised(VectorLearner):
    """A learner of tables, to which states that lie together are one.

    Attributes:
        learner: its states are 0 … S − 2, and S − 1 for all that end an episode.
    """

    learner: TabularLearner

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.learner, TabularLearner):
            raise ConfigError(f"learner must be a TabularLearner, not {self.learner!r:.50}")
        if self.learner.num_states < self.least_states:
            raise ConfigError(
                f"learner must have num_states of at least {self.least_states}, one of them for "
                f"all states that end an episode, not {self.learner.num_states}"
            )

    @property
    def least_states(self) -> int:
        """Of the learner's."""
        return 2

    @abc.abstractmethod
    def index(self, table: DiscretisedTable, u: Float[Array, " D"]) -> Int[Array, ""]:
        """What a scaled state is to the learner."""

    def meet(self, table: DiscretisedTable, u: Float[Array, " D"]) -> DiscretisedTable:
        """The table after meeting a state: the same, unless overridden."""
        del u
        return table

    def init_params(self, key: PRNGKeyArray) -> Any:
        """Those of the learner on indices."""
        return self.learner.init_params(key)

    def bind(self, params: Any) -> "Discretised":
        """Its learner with these parameters."""
        return replace(self, learner=self.learner.bind(params)) if jax.tree.leaves(params) else self

    def init(self) -> DiscretisedTable:
        """No data, no prototypes."""
        return DiscretisedTable(self.learner.init(), jnp.zeros((0, self.num_dims)), jnp.int32(0))

    def update(
        self,
        table: DiscretisedTable,
        s: Float[ArrayLike, " D"],
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: Float[ArrayLike, " D"],
        terminated: Bool[ArrayLike, ""],
    ) -> DiscretisedTable:
        """Shows the learner the transition between indices."""
        u, u_next = self.scaled(s), self.scaled(s_next)
        table = self.meet(self.meet(table, u), u_next)
        last = self.learner.num_states - 1
        entered = jnp.where(terminated, last, self.index(table, u_next))
        inner = self.learner.update(table.learner, self.index(table, u), a, r, entered, terminated)
        return replace(table, learner=inner)

    def estimates(self, table: DiscretisedTable, s: Float[ArrayLike, " D"]) -> Estimates:
        """Those of the state's index."""
        return self.learner.estimates(table.learner, self.index(table, self.scaled(s)))

    def features(self, table: DiscretisedTable, s: Float[ArrayLike, " D"]) -> Features:
        """Those of the state's index."""
        return self.learner.features(table.learner, self.index(table, self.scaled(s)))

    def overflowed(self, table: DiscretisedTable) -> Bool[ArrayLike, ""]:
        """Whether the learner's table did."""
        return self.learner.overflowed(table.learner)


@dataclass(frozen=True)
class Tiles(Discretised):
    """Tiles of equal size; see `tiles`."""

    bins: tuple[int, ...]

    @property
    def least_states(self) -> int:
        """As many as tiles, and one."""
        return math.prod(self.bins) + 1

    def index(self, table: DiscretisedTable, u: Float[Array, " D"]) -> Int[Array, ""]:
        """The tile; outside of the box, the nearest."""
        del table
        bins = jnp.asarray(self.bins)
        tile = jnp.clip(jnp.floor((u + 1) / 2 * bins).astype(jnp.int32), 0, bins - 1)
        strides = [math.prod(self.bins[d + 1 :]) for d in range(self.num_dims)]
        return tile @ jnp.asarray(strides, jnp.int32)


@dataclass(frozen=True)
class Prototypes(Discretised):
    """Prototypes where states were met; see `prototypes`."""

    radius: Positive

    def init(self) -> DiscretisedTable:
        """No data, no prototypes."""
        return replace(
            super().init(), points=jnp.zeros((self.learner.num_states - 1, self.num_dims))
        )

    def index(self, table: DiscretisedTable, u: Float[Array, " D"]) -> Int[Array, ""]:
        """The nearest prototype."""
        return self._distances(table, u).argmin().astype(jnp.int32)

    def meet(self, table: DiscretisedTable, u: Float[Array, " D"]) -> DiscretisedTable:
        """With a prototype more, if none is near and there is room."""
        is_far = self._distances(table, u).min() >= self.radius
        opens = is_far & (table.number < len(table.points))
        there = (jnp.arange(len(table.points)) == table.number) & opens
        points = jnp.where(there[:, None], u[None], table.points)
        return replace(table, points=points, number=table.number + opens)

    def _distances(self, table: DiscretisedTable, u: Float[Array, " D"]) -> Float[Array, " m"]:
        far = jnp.sqrt(jnp.square(table.points - u[None]).sum(axis=1))
        return jnp.where(jnp.arange(len(far)) < table.number, far, jnp.inf)


def tiles(learner: TabularLearner, low: Any, high: Any, bins: Any) -> Tiles:
    """A learner of tables on tiles of vector states.

    Args:
        learner: its states are the tiles, and one more, its last, for all that end an episode.
        low: of each of the D numbers of a state, where the tiles begin; a state outside is in the
            nearest one.
        high: likewise, where they end.
        bins: tiles along each dimension: D whole numbers, or one for all.

    Raises:
        ConfigError: if an argument is not allowed.
    """
    bins = (bins,) * len(tuple(low)) if isinstance(bins, int) else tuple(int(n) for n in bins)
    if len(bins) != len(tuple(low)) or min(bins, default=0) < 1:
        raise ConfigError(f"bins must be {len(tuple(low))} whole numbers of at least 1, not {bins}")
    return Tiles(low, high, _num_actions(learner), learner, bins)


def prototypes(learner: TabularLearner, low: Any, high: Any, radius: float) -> Prototypes:
    """A learner of tables on prototypes of vector states (Kveton and Theocharous 2012).

    A state becomes a prototype if none before lies nearer than `radius`, as long as the learner has
    room; others share the nearest one's estimates.

    Args:
        learner: its states are the prototypes, and one more, its last, for all that end an episode.
        low: of each of the D numbers of a state, what is −1 on its scale.
        high: likewise, what is 1.
        radius: Euclidean distance of scaled states.

    Raises:
        ConfigError: if an argument is not allowed.
    """
    return Prototypes(low, high, _num_actions(learner), learner, radius)


def _num_actions(learner: Any) -> int:
    return getattr(learner, "num_actions", 1)  # what is no learner is refused when it is made


def make_tiles(
    env: Any,
    horizon: int,
    tiles_along: Size = 8,
    planning_discount: Probability = 0.98,
    initial_value: float = 0.0,
) -> Tiles:
    """Q-learning on tiles, for an environment whose states are vectors.

    Args:
        env: the environment.
        horizon: steps of a meta-episode.
        tiles_along: Tiles along each dimension of states.
        planning_discount: Discount of object-level RL, per env step.
        initial_value: Q before any data.
    """
    del horizon
    low, high, num_actions = scales_of(env, "tiles")
    num_states = tiles_along ** len(low) + 1
    inner = q_learning(num_states, num_actions, planning_discount, None, initial_value)
    return tiles(inner, low, high, tiles_along)


def make_prototypes(
    env: Any,
    horizon: int,
    num_prototypes: Size = 127,
    prototype_radius: Positive = 0.2,
    planning_discount: Probability = 0.98,
    sweeps_per_step: Size = 5,
    optimism: float | None = 0.0,
) -> Prototypes:
    """Value iteration on prototypes, for an environment whose states are vectors.

    Args:
        env: the environment.
        horizon: steps of a meta-episode.
        num_prototypes: Prototypes at most.
        prototype_radius: A state becomes one if none is nearer, where states go from -1 to 1.
        planning_discount: Discount of object-level RL, per env step.
        sweeps_per_step: Sweeps per env step, on from the last values.
        optimism: What was never tried is worth this to a second, exploring plan, in reward units.
            None: no such plan.
    """
    del horizon
    low, high, num_actions = scales_of(env, "prototypes")
    inner = value_iteration(
        num_prototypes + 1,
        num_actions,
        planning_discount,
        smoothing=0.01,
        known="visited",
        sweeps_per_step=sweeps_per_step,
        optimism=optimism,
    )
    return prototypes(inner, low, high, prototype_radius)
