"""Bayesian linear regression, an observation at a time, exact to rounding in float32.

What is kept is a square root of the posterior's covariance, by Potter's update (Bierman 1977,
chapter II), so that no system is ever solved. Beside it, solving with the Gram matrix in float32
loses a hundred times as much, and updating the inverse ten times.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class Posterior:
    """What is believed of the weights `[p, n]` of n outputs, on the scale of each output's noise.

    They are normal, with one covariance for all outputs: times an output's noise variance it is
    that of its weights.

    Attributes:
        mean: `[p, n]`.
        root: `[p, p]`, S of the covariance S Sᵀ = (Gram matrix + prior precision)⁻¹.
        squares: `[n]`, sums of squared errors of prediction, each over its variance.
        number: `[]`, of observations; `squares / number` estimates the noise variances.
    """

    mean: jax.Array
    root: jax.Array
    squares: jax.Array
    number: jax.Array


class Gain(NamedTuple):
    """How an observation has changed a posterior.

    Attributes:
        weights: `[p]`: the mean has moved by weights · errorᵀ.
        variance: `[]`, of the prediction, noise included: the covariance has lost
            variance · weights · weightsᵀ.
    """

    weights: jax.Array
    variance: jax.Array


def ridge(num_models: int, size: int, num_outputs: int, penalty: float) -> Posterior:
    """Posteriors before any data: weights of 0, with the precision `penalty`."""
    return Posterior(
        mean=jnp.zeros((num_models, size, num_outputs)),
        root=jnp.tile(jnp.eye(size) / jnp.sqrt(penalty), (num_models, 1, 1)),
        squares=jnp.zeros((num_models, num_outputs)),
        number=jnp.zeros(num_models),
    )


def observe(
    posterior: Posterior, features: Float[Array, " p"], outputs: Float[Array, " n"]
) -> tuple[Posterior, Gain]:
    """The posterior after one more observation."""
    seen = features @ posterior.root
    variance = 1 + seen @ seen
    weights = posterior.root @ seen / variance
    error = outputs - features @ posterior.mean
    shrink = 1 / (1 + 1 / jnp.sqrt(variance))
    after = Posterior(
        mean=posterior.mean + jnp.outer(weights, error),
        root=posterior.root - jnp.outer(shrink * weights, seen),
        squares=posterior.squares + jnp.square(error) / variance,
        number=posterior.number + 1,
    )
    return after, Gain(weights, variance)


def uncertainty(root: Float[Array, "*k p p"], features: Float[Array, " p"]) -> Float[Array, "*k"]:
    """Variance of a prediction, without noise: x = phiᵀ (Gram matrix + prior precision)⁻¹ phi."""
    # A sum of products: XLA's product of arrays of all tasks takes four times as long.
    column = features.reshape(*[1] * (root.ndim - 2), -1, 1)
    return jnp.square((root * column).sum(axis=-2)).sum(axis=-1)


def visits(x: Float[Array, "*k"], penalty: float) -> Float[Array, "*k"]:
    """How often a pair was tried, by its uncertainty: exact where features are one-hot."""
    return jnp.maximum(1 / jnp.maximum(x, 1 / MOST_VISITS) - penalty, 0)


MOST_VISITS = 1e6


def cholesky(covariance: Float[Array, "p p"]) -> Float[Array, "p p"]:
    """L of L Lᵀ = covariance; rounding that leaves a pivot not positive is undone.

    In plain `lax`, since LAPACK's calls for batches may block each other on CPU.
    """
    least = 1e-7 * jnp.diagonal(covariance)

    def eliminate(rest: Float[Array, "p p"], j: Array) -> tuple[Array, Array]:
        pivot = jnp.maximum(rest[j, j], least[j])
        column = jnp.where(jnp.arange(len(rest)) > j, rest[:, j], 0.0).at[j].set(pivot)
        column = column / jnp.sqrt(pivot)
        return rest - jnp.outer(column, column), column

    return jax.lax.scan(eliminate, covariance, jnp.arange(len(covariance)))[1].T
