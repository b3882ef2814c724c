"""Where states have neighbours: an action's effect is a displacement, the same kind everywhere."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from rl3jax.checks import ConfigError

ROUNDING = 6
"""Decimals to which displacements are told apart."""


@dataclass(frozen=True)
class Neighbourhood:
    """The K displacements of an environment, and where each leads to from each state.

    Attributes:
        rows: `[S][K]`, state indices; the first of a row is the state itself, as is every one that
            a displacement of which leads off the map.
    """

    rows: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        table = _integers(self.rows)
        num_states = len(table)
        if table.ndim != 2 or not ((table >= 0) & (table < num_states)).all():
            raise ConfigError(
                "neighbours must be a row of K state indices for each of the states, in [0, "
                f"{num_states})"
            )
        if not (table[:, 0] == np.arange(num_states)).all():
            raise ConfigError("the first of neighbours must be staying: each state itself")
        object.__setattr__(self, "rows", tuple(tuple(row) for row in table.tolist()))

    @property
    def num_moves(self) -> int:
        """K."""
        return len(self.rows[0])

    @cached_property
    def _table(self) -> Int[np.ndarray, "S K"]:
        return np.array(self.rows, np.int32)

    @property
    def array(self) -> Int[Array, "S K"]:
        """The rows as an array, int32."""
        return jnp.asarray(self._table)

    @cached_property
    def exists(self) -> Bool[np.ndarray, "K S"]:
        """Whether a displacement leads to another state; of staying, False."""
        return (self._table != np.arange(len(self.rows))[:, None]).T

    @cached_property
    def _offsets(self) -> list[int | None]:
        """Of each displacement, by how much indices differ, where that is the same everywhere."""
        away = [np.unique((self._table.T[k] - np.arange(len(self.rows)))[on])
                for k, on in enumerate(self.exists)]  # fmt: skip
        return [int(d[0]) if len(d) == 1 else 0 if len(d) == 0 else None for d in away]

    def displacement(
        self, s: Int[ArrayLike, ""], s_next: Int[ArrayLike, ""]
    ) -> tuple[Int[Array, ""], Bool[Array, ""]]:
        """Which displacement a transition was, the first of equals, and whether it was any."""
        is_there = self.array[s] == s_next
        return jnp.argmax(is_there).astype(jnp.int32), is_there.any()

    def around(self, x: Float[Array, "*n S"]) -> list[Float[Array, "*n S"]]:
        """For each displacement the x of the state that it leads to, by shifts where it is one."""
        num_states, width = len(self.rows), max(abs(d or 0) for d in self._offsets)
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(width, width)])
        exists = self.exists.reshape(-1, *[1] * (x.ndim - 1), num_states)
        return [
            x[..., self._table[:, k]]
            if offset is None
            else jnp.where(exists[k], padded[..., width + offset : width + offset + num_states], x)
            for k, offset in enumerate(self._offsets)
        ]


def neighbourhood_of(env: Any, radius: float) -> Neighbourhood:
    """An environment's own `neighbours`, or those by its `state_coordinates`.

    Raises:
        ConfigError: if it has neither.
    """
    neighbours = getattr(env, "neighbours", None)
    if neighbours is not None:
        return Neighbourhood(neighbours)
    coordinates = getattr(env, "state_coordinates", None)
    if coordinates is None:
        raise ConfigError(
            "object_level local_model needs states that have neighbours; "
            f"{type(env).__name__} has no state_coordinates, and no neighbours"
        )
    return Neighbourhood(neighbours_within(np.asarray(coordinates), radius))


def neighbours_within(
    coordinates: Float[np.ndarray, "S D"] | Int[np.ndarray, "S D"], radius: float
) -> tuple[tuple[int, ...], ...]:
    """Neighbours `[S][K]` by all displacements between states no farther apart than `radius`."""
    points = np.round(np.asarray(coordinates, float), ROUNDING)
    states = {tuple(point): s for s, point in reversed(list(enumerate(points.tolist())))}
    steps = np.round(points[:, None] - points[None], ROUNDING)
    near = np.linalg.norm(steps, axis=-1) <= radius
    moves = np.unique(steps[near] + 0.0, axis=0)
    moves = moves[np.argsort(np.linalg.norm(moves, axis=1), kind="stable")]  # staying first
    reached = np.round(points[:, None] + moves, ROUNDING) + 0.0
    return tuple(
        (s, *(states.get(tuple(point), s) for point in row[1:]))
        for s, row in enumerate(reached.tolist())
    )


def _integers(rows: Any) -> np.ndarray:
    try:
        table = np.asarray(rows)
    except ValueError:
        return np.empty((0,), int)
    is_whole = np.issubdtype(table.dtype, np.integer)
    return table if is_whole and table.ndim == 2 and table.size else np.empty((0,), int)
