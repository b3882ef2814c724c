"""How near the exact values of tasks come to each other, and the estimates to them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.task_identification.evidence import in_blocks

DISCOUNT = 0.95
"""Of values, exact and estimated, as published."""

SWEEPS_TO_CONVERGE = 400
"""0.95^400 is 1e-9."""

ABSOLUTE, RELATIVE = (0.01, 0.1, 1.0), (0.01, 0.1, 0.25)
"""Distances δ: in reward units, and as fractions of the median distance of two tasks."""

LEVELS = np.linspace(0.0, 1.0, 101)
"""Quantiles that are kept of a distribution over tasks."""


def distance(q: jax.Array, other: jax.Array) -> jax.Array:
    """Largest difference over states and actions, the last two axes."""
    return jnp.abs(q - other).max(axis=(-2, -1))


@jax.jit
def nearest_other(q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each of N tables `[N, S, A]` the nearest other one: how far it is, and which."""

    def of_one(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        distances = distance(q, q[i][None]).at[i].set(jnp.inf)
        return distances.min(), distances.argmin()

    return in_blocks(of_one, jnp.arange(len(q)))


def duplicates(q: jax.Array) -> dict[str, Any]:
    """How near tables `[N, S, A]` come to each other, and whether it matters to greedy policies.

    The i-th task and the one before it stand for any two.
    """
    nearest, neighbour = nearest_other(q)
    apart = distance(q, jnp.roll(q, 1, axis=0))
    deltas = [*ABSOLUTE, *(fraction * float(jnp.median(apart)) for fraction in RELATIVE)]
    policy = q.argmax(axis=-1)
    return {
        "apart": quantiles(apart),
        "nearest": quantiles(nearest),
        "within": [int((nearest <= delta).sum()) for delta in deltas],
        "nearest_agree": float((policy == policy[neighbour]).mean()),
        "apart_agree": float((policy == jnp.roll(policy, 1, axis=0)).mean()),
    }


def estimation_errors(q: jax.Array, limit: jax.Array) -> list[dict[str, Any]]:
    """How far each Q_t, `[T, N, S, A]`, is from what it tends to, beside the nearest other task."""
    nearest, _ = nearest_other(limit)
    errors = distance(q, limit[None])
    return [
        {"error": quantiles(error), "other_is_nearer": float((nearest <= error).mean())}
        for error in errors
    ]


def quantiles(x: jax.Array) -> list[float]:
    """At `LEVELS`, to six significant digits."""
    return [float(f"{value:.6g}") for value in np.quantile(np.asarray(x), LEVELS)]


def median(at_levels: Sequence[float]) -> float:
    """Of `quantiles`."""
    return at_levels[len(LEVELS) // 2]
