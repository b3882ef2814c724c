"""Anchors: places in [−1, 1]ᴰ that hold values; elsewhere, values are averages of theirs.

Weights are not negative and sum to 1, so that Bellman backups with them contract (averagers:
Gordon 1995).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rl3jax.object_level.fourier import spread

MOST_ON_GRID = 729
"""Anchors of a grid at most."""
MOST_ALONG = 21
"""Anchors along a dimension at most."""
NUM_SCATTERED = 256
KERNEL_WIDTH = 0.5


@dataclass(frozen=True)
class Grid:
    """Anchors on a regular grid, with multilinear interpolation between them.

    Attributes:
        shape: anchors along each dimension, at least 2.
    """

    shape: tuple[int, ...]

    @cached_property
    def points(self) -> np.ndarray:
        """`[m, D]`, in C order."""
        sides = (np.linspace(-1, 1, n) for n in self.shape)
        return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, len(self.shape))

    def interpolate(
        self, values: Float[Array, "m n"], u: Float[Array, "*k D"]
    ) -> Float[Array, "*k n"]:
        """Values at any places; outside of the box, those at the nearest place inside."""
        last = jnp.asarray(self.shape, u.dtype) - 1
        grid = values.reshape(*self.shape, values.shape[-1])

        def at(u: Float[Array, " D"]) -> Float[Array, " n"]:
            place = (jnp.clip(u, -1, 1) + 1) / 2 * last
            first = jnp.minimum(jnp.floor(place), last - 1)
            corner = (*first.astype(jnp.int32), jnp.int32(0))
            # A slice of the whole cell: on CPU five times as fast as its corners, one by one.
            cell = jax.lax.dynamic_slice(grid, corner, (2,) * len(self.shape) + grid.shape[-1:])
            for share in place - first:
                cell = cell[0] * (1 - share) + cell[1] * share
            return cell

        flat = jax.vmap(at)(u.reshape(-1, u.shape[-1]))
        return flat.reshape(*u.shape[:-1], values.shape[-1])


@dataclass(frozen=True)
class Scattered:
    """Anchors spread evenly, with normalised Gaussian kernels, where a grid has too many corners.

    Attributes:
        num_dims: D.
        number: m.
    """

    num_dims: int
    number: int

    @cached_property
    def points(self) -> np.ndarray:
        """`[m, D]`."""
        return 2 * spread(self.number, self.num_dims) - 1

    def interpolate(
        self, values: Float[Array, "m n"], u: Float[Array, "*k D"]
    ) -> Float[Array, "*k n"]:
        """Values at any places; outside of the box, those at the nearest place inside."""
        u, points = jnp.clip(u, -1, 1), jnp.asarray(self.points, u.dtype)
        far = jnp.square(points).sum(axis=1).reshape(*[1] * (u.ndim - 1), -1) - 2 * u @ points.T
        return jax.nn.softmax(-far / (2 * KERNEL_WIDTH**2 * self.num_dims), axis=-1) @ values


Anchors: TypeAlias = Grid | Scattered


def anchors_for(num_dims: int, number_along: int | None = None) -> Anchors:
    """A grid with so many anchors along each dimension; by default as fine as `MOST_ON_GRID` allow.

    Where that is less than 3, anchors are scattered.
    """
    finest = max(n for n in range(2, MOST_ALONG + 1) if n == 2 or n**num_dims <= MOST_ON_GRID)
    if number_along is None and finest < 3:
        return Scattered(num_dims, NUM_SCATTERED)
    return Grid((number_along or finest,) * num_dims)
