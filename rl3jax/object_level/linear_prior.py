"""The distribution that the weights of all tasks are from, learned by expectation-maximisation.

Empirical Bayes (ALPaCA: Harrison, Sharma and Pavone 2018). A task's weights of an action have the
mean W₀ and, times each output's noise variance, one covariance for all outputs.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from rl3jax.object_level.regression import Posterior, cholesky

DECAY = 0.9
"""Of what earlier iterations have said, per iteration."""
LEAST_NOISE = 1e-8
"""Variance of what is predicted exactly."""


@struct.dataclass
class LinearSummary:
    """What is expected of tasks, summed over them.

    Attributes:
        tasks: `[]`, how many.
        shift: `[A, p, n]`, sums of W − W₀.
        spread: `[A, p, p]`, sums of the covariances, and of (W − W₀)(W − W₀)ᵀ over the noise's
            variance, averaged over outputs.
        squares: `[A, n]`, and number: `[A]`, as of `Posterior`.
    """

    tasks: jax.Array
    shift: jax.Array
    spread: jax.Array
    squares: jax.Array
    number: jax.Array


@struct.dataclass
class Shared:
    """What earlier iterations have said, about the prior's mean.

    Attributes:
        tasks, spread: as of a summary, the earlier the less.
        noise: `[A, n]`, variances.
        iterations: int32.
    """

    tasks: jax.Array
    spread: jax.Array
    noise: jax.Array
    iterations: jax.Array


def nothing_shared(prior: Posterior) -> Shared:
    """Before the first iteration."""
    return Shared(
        tasks=jnp.zeros(()),
        spread=jnp.zeros_like(prior.root),
        noise=jnp.ones_like(prior.squares),
        iterations=jnp.int32(0),
    )


def summarise_task(prior: Posterior, shared: Shared, posterior: Posterior) -> LinearSummary:
    """Expectation: what a task's posterior says, which began as `prior`."""
    shift = posterior.mean - prior.mean
    covariance = jax.vmap(lambda root: root @ root.T)(posterior.root)
    return LinearSummary(
        tasks=jnp.ones(()),
        shift=shift,
        spread=covariance + _spread(shift, shared.noise),
        squares=posterior.squares,
        number=posterior.number,
    )


def learn_shared(
    prior: Posterior, shared: Shared, summary: LinearSummary, least_noise: Float[Array, " n"]
) -> tuple[Posterior, Shared]:
    """Maximisation: the prior after an iteration, and what all iterations have said.

    The first one teaches the mean and the noise, by which alone a spread can be judged. The noise
    then is never less, and at least `least_noise`: what features cannot express comes again at the
    same places, and to learn how little it is, once weights are known, would make every task too
    sure of itself, and its prior vague.
    """
    is_first = shared.iterations == 0
    tasks = DECAY * shared.tasks + summary.tasks
    shift = summary.shift / tasks
    spread = DECAY * shared.spread + summary.spread - tasks * _spread(shift, shared.noise)
    root = jax.vmap(cholesky)(spread / tasks)
    noise = summary.squares / jnp.maximum(summary.number, 1)[:, None]
    noise = jnp.maximum(noise, jnp.where(is_first, least_noise, shared.noise))
    learned = dataclasses.replace(
        prior, mean=prior.mean + shift, root=jnp.where(is_first, prior.root, root)
    )
    return learned, Shared(
        tasks=jnp.where(is_first, 0.0, tasks),
        spread=jnp.where(is_first, 0.0, spread),
        noise=noise,
        iterations=shared.iterations + 1,
    )


def _spread(shift: Float[Array, "A p n"], noise: Float[Array, "A n"]) -> Float[Array, "A p p"]:
    scaled = shift / jnp.sqrt(noise)[:, None]
    return jax.vmap(lambda w: w @ w.T)(scaled) / shift.shape[-1]
