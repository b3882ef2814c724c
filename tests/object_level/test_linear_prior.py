"""What tasks' weights have in common: beside plain NumPy, and from a known distribution."""

import jax
import jax.numpy as jnp
import numpy as np

from rl3jax.object_level import Transitions, linear_model
from rl3jax.object_level.linear_prior import learn_shared, nothing_shared, summarise_task
from rl3jax.object_level.regression import observe, ridge

SIZE, OUTPUTS, PENALTY, NOISE = 2, 2, 0.01, 0.1
MEAN = np.array([[1.0, -0.5], [0.2, 0.8]])
ROOT = np.array([[3.0, 0.0], [2.0, 1.0]])


def draw_tasks(rng, tasks, length):
    """Features `[B, T, p]` and outputs `[B, T, n]` of weights from N(MEAN, noise² ROOT ROOTᵀ)."""
    weights = MEAN + NOISE * ROOT @ rng.normal(size=(tasks, SIZE, OUTPUTS))
    features = rng.normal(size=(tasks, length, SIZE))
    noise = NOISE * rng.normal(size=(tasks, length, OUTPUTS))
    return jnp.asarray(features, "f4"), jnp.asarray(features @ weights + noise, "f4")


@jax.jit
def iteration(prior, shared, features, outputs, least=(1e-8, 1e-8)):
    """Posteriors of the tasks, and what is learned of them."""

    def task(features, outputs):
        one = jax.tree.map(lambda x: x[0], prior)
        posterior, _ = jax.lax.scan(
            lambda p, x: (observe(p, *x)[0], None), one, (features, outputs)
        )
        posterior = jax.tree.map(lambda x: x[None], posterior)
        return posterior, summarise_task(prior, shared, posterior)

    posteriors, summaries = jax.vmap(task)(features, outputs)
    summary = jax.tree.map(lambda x: x.sum(axis=0), summaries)
    return posteriors, learn_shared(prior, shared, summary, jnp.asarray(least))


def test_weights_distribution_is_found():
    rng = np.random.default_rng(0)
    prior = ridge(1, SIZE, OUTPUTS, PENALTY)
    shared = nothing_shared(prior)
    for _ in range(8):
        _, (prior, shared) = iteration(prior, shared, *draw_tasks(rng, 200, 20))
    np.testing.assert_allclose(prior.mean[0], MEAN, atol=0.05)
    covariance = prior.root[0] @ prior.root[0].T
    np.testing.assert_allclose(covariance, ROOT @ ROOT.T, rtol=0.2, atol=0.3)
    np.testing.assert_allclose(np.sqrt(shared.noise), NOISE, rtol=0.15)


def test_a_step_is_that_of_plain_numpy():
    """With exact posteriors by the normal equations, and moments about the new mean."""
    rng = np.random.default_rng(1)
    prior = ridge(1, SIZE, OUTPUTS, PENALTY)
    shared = nothing_shared(prior)
    _, (prior, shared) = iteration(prior, shared, *draw_tasks(rng, 5, 30))
    features, outputs = draw_tasks(rng, 5, 4)
    _, (learned, after) = iteration(prior, shared, features, outputs)
    precision = np.linalg.inv(np.asarray(prior.root[0] @ prior.root[0].T, float))
    x, y = np.asarray(features, float), np.asarray(outputs, float)
    covariances = [np.linalg.inv(f.T @ f + precision) for f in x]
    means = [
        c @ (f.T @ o + precision @ np.asarray(prior.mean[0], float))
        for c, f, o in zip(covariances, x, y, strict=True)
    ]
    mean = np.mean(means, axis=0)
    np.testing.assert_allclose(learned.mean[0], mean, rtol=1e-4, atol=1e-5)
    scaled = (np.array(means) - mean) / np.sqrt(np.asarray(shared.noise[0]))
    covariance = np.mean(covariances, axis=0)
    covariance = covariance + np.einsum("bpn,bqn->pq", scaled, scaled) / OUTPUTS / 5
    np.testing.assert_allclose(learned.root[0] @ learned.root[0].T, covariance, rtol=1e-3)
    assert after.tasks == 5
    assert (after.noise >= shared.noise).all()


def test_noise_is_never_less_than_it_was():
    rng = np.random.default_rng(2)
    prior = ridge(1, SIZE, OUTPUTS, PENALTY)
    shared, least = nothing_shared(prior), (1e-8, 100.0)
    features, outputs = draw_tasks(rng, 5, 30)
    found = []
    for y in (0 * outputs, outputs, 0 * outputs):  # at first nothing happens
        _, (prior, shared) = iteration(prior, shared, features, y, least)
        found.append(np.asarray(shared.noise[0]))
    np.testing.assert_allclose(found[0], least)
    assert found[1][0] > 0.005
    np.testing.assert_array_equal(found[2], found[1])
    assert found[2][1] == 100


def test_a_task_begins_with_the_plan_by_what_was_learned():
    """Every step costs 1 whatever one does: known before a task's first step."""
    learner = linear_model(
        (-1.0,), (1.0,), 2, "learned", discount=0.9, num_frequencies=4, anchors_along=3
    )
    params = learner.init_params(jax.random.key(0))
    s = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, size=(40, 1)), "f4")

    a, r = jnp.arange(40) % 2, -jnp.ones(40)
    transitions = Transitions(s, a, r, s, r > 0)

    @jax.jit
    def learn(params):
        bound = learner.bind(params)
        table, _ = jax.lax.scan(
            lambda table, x: (bound.update(table, *x), None), bound.init(), transitions
        )
        return bound.learn(bound.summarise(table, transitions))

    for _ in range(2):
        params = learn(params)
    bound = learner.bind(params)
    found = bound.estimates(bound.init(), jnp.array([0.5]))
    np.testing.assert_allclose(found.q, [-10, -10], rtol=0.02)
