"""Keys of the purposes that must never share random numbers.

Training tasks come from the run's seed; validation tasks (which choose the best policy), tuning
tasks (which choose the constants of baselines) and held-out tasks (which score them) from keys of
their own, the same for every run and method compared.
"""

from typing import Any

import jax
from jaxtyping import PRNGKeyArray

_TRAINING, _VALIDATION, _TEST, _TUNING = range(4)

SETTINGS = (
    "jax_default_prng_impl", "jax_threefry_partitionable", "jax_random_seed_offset",
    "jax_enable_x64",
)  # fmt: skip


def generator() -> dict[str, Any]:
    """JAX's settings that random numbers hang on, by name."""
    return {name: jax.config.values[name] for name in SETTINGS}


def training_key(seed: int) -> PRNGKeyArray:
    """The key of a training run."""
    return jax.random.fold_in(jax.random.key(seed), _TRAINING)


def validation_key() -> PRNGKeyArray:
    """The key of the tasks that choose among a run's policies."""
    return jax.random.fold_in(jax.random.key(0), _VALIDATION)


def held_out_key() -> PRNGKeyArray:
    """The key of the held-out tasks that scores are reported on."""
    return jax.random.fold_in(jax.random.key(0), _TEST)


def tuning_key() -> PRNGKeyArray:
    """The key of the tasks that choose the constants of classical baselines."""
    return jax.random.fold_in(jax.random.key(0), _TUNING)
