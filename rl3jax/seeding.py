"""Keys of the purposes that must never share random numbers.

Training tasks come from the run's seed, validation tasks (which choose the best policy) and test
tasks (which score it) from keys of their own, the same for every run and method compared.
"""

import jax
from jaxtyping import PRNGKeyArray

_TRAINING, _VALIDATION, _TEST = range(3)


def training_key(seed: int) -> PRNGKeyArray:
    """The key of a training run."""
    return jax.random.fold_in(jax.random.key(seed), _TRAINING)


def validation_key() -> PRNGKeyArray:
    """The key of the tasks that choose among a run's policies."""
    return jax.random.fold_in(jax.random.key(0), _VALIDATION)


def test_key() -> PRNGKeyArray:
    """The key of the held-out tasks that scores are reported on."""
    return jax.random.fold_in(jax.random.key(0), _TEST)
