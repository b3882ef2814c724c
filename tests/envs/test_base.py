import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rl3jax.envs import RandomMdp, TabularModel, sample_index


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


def test_a_model_that_fails_or_is_none_is_none():
    for tabular in (lambda self, task: None, lambda self, task: 1 / 0):
        assert not type("Own", (RandomMdp,), {"tabular": tabular})().has_model
    assert RandomMdp().has_model


def test_action_values_of_a_corridor_by_hand():
    """From state 0 action 0 stays for nothing and action 1 ends in state 1, paying 2."""
    stay, go = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    model = TabularModel(
        transition_probs=jnp.stack([jnp.stack([stay, go]), jnp.stack([go, go])]),
        mean_reward=jnp.array([[0.0, 2.0], [0.0, 0.0]]),
        start=jnp.array([1.0, 0.0]),
        terminal=jnp.array([False, True]),
    )
    np.testing.assert_allclose(model.action_values(0.95, 1), [[0, 2], [0, 0]])
    np.testing.assert_allclose(model.action_values(0.95, 50), [[1.9, 2], [0, 0]], rtol=1e-6)


def test_action_values_solve_the_bellman_equation():
    env = RandomMdp()
    model = env.tabular(env.sample_task(jax.random.key(0)))
    q = model.action_values(0.95, 400)
    expected = model.mean_reward + 0.95 * model.transition_probs @ q.max(axis=1)
    np.testing.assert_allclose(q, expected, rtol=1e-5)
