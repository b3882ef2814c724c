"""Object-level RL on clusters of states that lie close together, formed as states are met."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

from rl3jax.checks import ConfigError
from rl3jax.object_level.around import AroundTables, num_actions_of
from rl3jax.object_level.base import Estimates, Features, Table, TabularLearner, count_feature
from rl3jax.ranges import Positive, Size


@struct.dataclass
class AbstractionTable:
    """What is kept of a task: 4 · (3 S + S · A + 2) bytes, and the inner learner's table.

    Attributes:
        learner: table of the learner on clusters.
        cluster: `[S]` int32, each state's cluster; -1 if the state was not met.
        order: `[S]` int32, how many states were met before this one; 0 if it was not met.
        members: `[S]` int32, how many states each cluster has; a closed one counts as full.
        num_met: `[]` int32, states met.
        num_clusters: `[]` int32, clusters opened; the others have no data.
        visits: `[S, A]` int32, N(s, a) of the states themselves.
    """

    learner: Table
    cluster: jax.Array
    order: jax.Array
    members: jax.Array
    num_met: jax.Array
    num_clusters: jax.Array
    visits: jax.Array


@dataclass(frozen=True)
class Abstraction(AroundTables, TabularLearner):
    """A learner on clusters of neighbouring states (RL³, Bhatia et al., RL³-coarse).

    See `abstraction`. Coordinates are kept as tuples, so that the learner is hashable.
    """

    coordinates: tuple[tuple[float, ...], ...]
    radius: Positive
    size: Size

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_learner()
        if self.learner.num_actions != self.num_actions:
            raise ConfigError(
                f"learner must have num_actions {self.num_actions}, not {self.learner.num_actions}"
            )
        if self.learner.num_states < self.num_states:
            raise ConfigError(
                f"learner must have num_states of at least {self.num_states}, as many as there are "
                f"states, not {self.learner.num_states}"
            )
        coordinates = _coordinates(self.coordinates)
        if len(coordinates) != self.num_states:
            raise ConfigError(
                f"coordinates must have num_states = {self.num_states} rows, not {len(coordinates)}"
            )
        object.__setattr__(self, "coordinates", coordinates)

    def init(self) -> AbstractionTable:
        """No state met, no cluster opened."""
        S, A = self.num_states, self.num_actions
        return AbstractionTable(
            learner=self.learner.init(),
            cluster=jnp.full(S, -1, jnp.int32),
            order=jnp.zeros(S, jnp.int32),
            members=jnp.zeros(S, jnp.int32),
            num_met=jnp.int32(0),
            num_clusters=jnp.int32(0),
            visits=jnp.zeros((S, A), jnp.int32),
        )

    def update(
        self,
        table: AbstractionTable,
        s: Int[ArrayLike, ""],
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: Int[ArrayLike, ""],
        terminated: Bool[ArrayLike, ""],
    ) -> AbstractionTable:
        """Puts both states into clusters, if new, and shows the learner the clusters' transition.

        A state stays in its cluster, also if it was met first and ends an episode later.
        """
        table = self._meet(table, s, False)
        table = self._meet(table, s_next, terminated)
        c, c_next = table.cluster[s], table.cluster[s_next]
        return replace(
            table,
            learner=self.learner.update(table.learner, c, a, r, c_next, terminated),
            visits=table.visits.at[s, a].add(1),
        )

    def _meet(
        self, table: AbstractionTable, s: Int[ArrayLike, ""], terminal: Bool[ArrayLike, ""]
    ) -> AbstractionTable:
        """The table after meeting `s`: unchanged unless it is new."""
        # Of the states that s may join, the nearest has the least key, and of several at that
        # distance the first met. A row's filler, s itself, is in no cluster when s is new.
        near, rank = (jnp.asarray(columns)[s] for columns in self._neighbours)
        candidates = table.cluster[near]
        size = min(self.size, self.num_states)
        can_join = (candidates >= 0) & (table.members[candidates] < size)
        can_join &= jnp.logical_not(terminal)
        never = jnp.iinfo(jnp.int32).max
        key = jnp.where(can_join, rank * self.num_states + table.order[near], never)
        best = key.argmin()
        joins = can_join[best]

        is_new = table.cluster[s] < 0
        cluster = jnp.where(joins, candidates[best], table.num_clusters)
        cluster = jnp.where(is_new, cluster, table.cluster[s])
        places = jnp.where(terminal, size, 1)  # a terminal state takes all: its cluster is closed
        return replace(
            table,
            cluster=table.cluster.at[s].set(cluster),
            order=table.order.at[s].set(jnp.where(is_new, table.num_met, table.order[s])),
            members=table.members.at[cluster].add(jnp.where(is_new, places, 0)),
            num_met=table.num_met + is_new,
            num_clusters=table.num_clusters + (is_new & ~joins),
        )

    @cached_property
    def _neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """The states within the radius of each, `[S, K]`, and the ranks of their distances.

        A row's nearest have rank 0; those at one distance have the same. K is the most that a state
        has, at least 1. Where a state has fewer, it fills the row itself.
        """
        points = np.array(self.coordinates)
        distance = np.linalg.norm(points[:, None] - points, axis=-1)
        np.fill_diagonal(distance, np.inf)
        distance[distance >= self.radius] = np.inf
        num_near = max(int(np.isfinite(distance).sum(axis=1).max()), 1)
        near = np.argsort(distance, axis=1)[:, :num_near]
        distance = np.take_along_axis(distance, near, axis=1)
        near = np.where(np.isfinite(distance), near, np.arange(len(points))[:, None])
        farther = distance[:, 1:] > distance[:, :-1]
        rank = np.pad(farther.cumsum(axis=1), ((0, 0), (1, 0)))
        return near.astype(np.int32), rank.astype(np.int32)

    def estimates(self, table: AbstractionTable, s: Int[ArrayLike, ""]) -> Estimates:
        """The estimates of the cluster of `s`, but the visit counts of `s` itself."""
        estimates = self.learner.estimates(table.learner, _shown(table)[s])
        return replace(estimates, visits=table.visits[s])

    def features(self, table: AbstractionTable, s: Int[ArrayLike, ""]) -> Features:
        """Those of the cluster of `s`, but the visit counts of `s` itself."""
        features = self.learner.features(table.learner, _shown(table)[s])
        return features | {"visits": count_feature(table.visits[s])}

    def q_table(self, table: AbstractionTable) -> Float[Array, "S A"]:
        """The values of each state's cluster."""
        return self.learner.q_table(table.learner)[_shown(table)]


def _shown(table: AbstractionTable) -> Int[Array, " S"]:
    """The cluster whose estimates each state shows: if it was not met, one without data.

    There is one as long as a state was not met: no cluster has less than one state.
    """
    return jnp.where(table.cluster < 0, table.num_clusters, table.cluster)


def _coordinates(coordinates: Any) -> tuple[tuple[float, ...], ...]:
    """Rows of numbers as tuples.

    Raises:
        ConfigError: if they are anything else.
    """
    try:
        points = np.asarray(coordinates, dtype=float)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.size == 0 or not np.isfinite(points).all():
        raise ConfigError("coordinates must be a row of finite numbers for each state")
    return tuple(tuple(row) for row in points.tolist())


def abstraction(learner: TabularLearner, coordinates: Any, radius: float, size: int) -> Abstraction:
    """Object-level RL on clusters of states, whichever `learner` it is (RL³-coarse).

    A state that is met for the first time joins the cluster of the nearest state met before, ties
    going to the one met first, among those strictly within `radius` whose cluster has fewer than
    `size` states. If there is none, or it ends the episode, it opens a cluster; one opened by a
    terminal state is never joined. The learner sees transitions between clusters. Estimates of a
    state are its cluster's, but visit counts its own. (RL³, Bhatia et al., RL³-coarse)

    Args:
        learner: its states are the clusters, of which there may be as many as there are states.
        coordinates: `[S, D]`, where each state lies.
        radius: Euclidean distance below which states may share a cluster.
        size: states a cluster may have.

    Raises:
        ValueError: if an argument is not allowed. The message is one line.
    """
    rows = _coordinates(coordinates)
    return Abstraction(len(rows), num_actions_of(learner), learner, rows, radius=radius, size=size)
