"""What classifiers are shown of a pair of meta-episodes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.task_identification.evidence import Evidence


def see_q(one: Evidence, other: Evidence) -> jax.Array:
    """Features of Q alone."""
    x, y = values(one), values(other)
    return jnp.concatenate([jnp.abs(x - y), x + y], axis=-1)


def see_q_and_counts(one: Evidence, other: Evidence) -> jax.Array:
    """Features of Q and N."""
    return with_counts(values(one), values(other), one, other)


def see_model(one: Evidence, other: Evidence) -> jax.Array:
    """Features of mean rewards, transition frequencies and N."""
    return with_counts(frequencies(one), frequencies(other), one, other)


def values(evidence: Evidence) -> jax.Array:
    """`[S, A, 2]`: Q, and what of it is not common to the whole table."""
    return jnp.stack([evidence.q, evidence.q - evidence.q.mean()], axis=-1)


def frequencies(evidence: Evidence) -> jax.Array:
    """`[S, A, 1 + S]`: mean reward and shares of the next states; 0 where never tried."""
    sums = jnp.concatenate([evidence.rewards[..., None], evidence.transitions], axis=-1)
    return sums / jnp.maximum(evidence.visits, 1)[..., None]


def with_counts(x: jax.Array, y: jax.Array, one: Evidence, other: Evidence) -> jax.Array:
    """Features of estimates x and y, `[S, A, C]`, and of the counts that they rest on."""
    n, m = one.visits[..., None], other.visits[..., None]
    # A difference of means has variance in proportion to 1/n + 1/m.
    precision = jnp.sqrt(n * m / jnp.maximum(n + m, 1))
    gap = jnp.abs(x - y)
    counts = [(n + m) / 10, jnp.abs(n - m) / 10, precision]
    return jnp.concatenate([gap, precision * gap, x + y, *counts], axis=-1)


INPUTS: dict[str, Callable[[Evidence, Evidence], jax.Array]] = {
    "q-counts": see_q_and_counts,
    "q": see_q,
    "model": see_model,
}
"""From a pair of meta-episodes to features `[S, A, F]`, the same in either order."""
