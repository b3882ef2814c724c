import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rl3jax.envs import sample_index


def sample_many(probs, n, seed=0):
    keys = jax.random.split(jax.random.key(seed), n)
    return np.asarray(jax.jit(jax.vmap(sample_index, (0, None)))(keys, jnp.asarray(probs)))


@pytest.mark.parametrize("probs", [[0.1, 0.2, 0.3, 0.4], [0.7, 0.0, 0.3]])
def test_indices_have_their_probabilities(probs):
    n = 20_000
    counts = np.bincount(sample_many(probs, n), minlength=len(probs))
    possible = np.asarray(probs) > 0
    assert counts[~possible].sum() == 0
    assert scipy.stats.chisquare(counts[possible], n * np.asarray(probs)[possible]).pvalue > 1e-3


@pytest.mark.parametrize("probs", [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0]])
def test_an_impossible_index_is_never_drawn(probs):
    assert (sample_many(probs, 10_000) == np.argmax(probs)).all()


def test_rounding_of_the_sum_does_no_harm():
    short = np.full(3, 0.3)  # as if rounding had lost a tenth
    counts = np.bincount(sample_many(short, 30_000), minlength=3)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_an_index_is_int32():
    assert sample_index(jax.random.key(0), jnp.ones(2) / 2).dtype == jnp.int32
