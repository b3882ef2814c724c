"""Features of vectors: Fourier features, the vector itself, and 1."""

import statistics
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rl3jax.ranges import Count, Positive, Size


@dataclass(frozen=True)
class FourierFeatures:
    """phi(u) = [√(2/F) cos(Ω u + b), u, 1] (random Fourier features: Rahimi and Recht 2007).

    Weights on phi are functions like those of a Gaussian process, whose values at two places are
    correlated by exp(−|u − u'|² / 2 length²). Frequencies are normal, but not drawn: points of a
    sequence of low discrepancy approximate better (Yang, Sindhwani, Avron and Mahoney 2014), and
    are the same for ever.

    Attributes:
        num_dims: D.
        num_frequencies: F.
        length: the scale on which functions change.
    """

    num_dims: Size
    num_frequencies: Count
    length: Positive

    @property
    def size(self) -> int:
        """The number of features, p = F + D + 1."""
        return self.num_frequencies + self.num_dims + 1

    @cached_property
    def waves(self) -> tuple[np.ndarray, np.ndarray]:
        """Ω `[D, F]` and b `[F]`."""
        normal = np.vectorize(statistics.NormalDist().inv_cdf, otypes=[float])
        points = spread(self.num_frequencies, self.num_dims + 1)
        return normal(points[:, :-1]).T / self.length, 2 * np.pi * points[:, -1]

    def __call__(self, u: Float[Array, "*n D"]) -> Float[Array, "*n p"]:
        """The features of each vector."""
        frequencies, phases = (jnp.asarray(x, u.dtype) for x in self.waves)
        angles = u @ frequencies
        waves = jnp.cos(angles + phases.reshape(*[1] * (u.ndim - 1), -1))
        scale = np.sqrt(2 / max(self.num_frequencies, 1))
        return jnp.concatenate([scale * waves, u, jnp.ones_like(u[..., :1])], axis=-1)


def spread(num_points: int, num_dims: int) -> np.ndarray:
    """Points `[n, D]` that fill the unit cube evenly (Roberts's sequence, 2018)."""
    ratio = 2.0
    for _ in range(64):  # of ratio^(D + 1) = ratio + 1, the golden ratio's relative
        ratio = (1 + ratio) ** (1 / (num_dims + 1))
    steps = ratio ** -np.arange(1.0, num_dims + 1)
    return (0.5 + np.arange(1, num_points + 1)[:, None] * steps) % 1
