"""Linear models beside plain NumPy in float64, hand-computed numbers, and tiny solved problems."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.object_level import linear_model
from rl3jax.object_level.anchors import Grid, Scattered, anchors_for
from rl3jax.object_level.fourier import FourierFeatures, spread
from rl3jax.object_level.regression import cholesky, observe, ridge, uncertainty, visits

A, D, DISCOUNT = 2, 2, 0.9
LOW, HIGH = (-1.0, -8.0), (1.0, 8.0)
OPTIONS = dict(discount=DISCOUNT, optimism=3.0, optimism_weight=0.5, num_frequencies=16,
               length_scale=1.0, anchors_along=4, steps_per_sweep=3)  # fmt: skip


# --- regression ---------------------------------------------------------------------------------


def solved(features, outputs, penalty):
    """Weights and covariance by the normal equations."""
    covariance = np.linalg.inv(features.T @ features + penalty * np.eye(features.shape[1]))
    return covariance @ features.T @ outputs, covariance


def ridge_of_one(size, num_outputs, penalty):
    return jax.tree.map(lambda x: x[0], ridge(1, size, num_outputs, penalty))


def test_a_regression_of_one_feature_is_what_a_hand_computes():
    posterior, gain = observe(ridge_of_one(1, 1, 0.5), jnp.array([2.0]), jnp.array([3.0]))
    # Gram matrix 4, sums 6, precision 0.5: the mean is 6 / 4.5, the covariance 1 / 4.5.
    assert posterior.mean[0, 0] == pytest.approx(6 / 4.5)
    assert posterior.root[0, 0] ** 2 == pytest.approx(1 / 4.5)
    assert gain.variance == pytest.approx(1 + 4 / 0.5)
    assert posterior.squares[0] == pytest.approx(9 / 9)


def test_float32_stays_with_float64_over_2_000_updates():
    rng, penalty = np.random.default_rng(0), 0.01
    walk = np.cumsum(rng.normal(size=(2000, 3)) * 0.05, axis=0)
    phi = FourierFeatures(3, 64, 1.5)
    with jax.enable_x64(True):
        features = np.asarray(phi(jnp.asarray(np.sin(walk))))
    outputs = np.stack([np.sin(3 * walk[:, 0]) * walk[:, 1], np.cos(walk[:, 2])], axis=1)
    weights, covariance = solved(features, outputs, penalty)
    posterior, _ = jax.lax.scan(
        lambda p, x: (observe(p, *x)[0], None),
        ridge_of_one(phi.size, 2, penalty),
        (jnp.asarray(features, jnp.float32), jnp.asarray(outputs, jnp.float32)),
    )
    assert posterior.root.dtype == jnp.float32
    predicted = features @ np.asarray(posterior.mean, float)
    np.testing.assert_allclose(predicted, features @ weights, atol=1e-3)
    x = jax.vmap(uncertainty, in_axes=(None, 0))(posterior.root, jnp.asarray(features[:50], "f4"))
    exact = np.einsum("ip,pq,iq->i", features[:50], covariance, features[:50])
    np.testing.assert_allclose(x, exact, rtol=1e-3)


def test_visits_of_one_hot_features_are_counts():
    posterior = ridge_of_one(3, 1, 0.1)
    for i in (0, 0, 2, 0):
        posterior, _ = observe(posterior, jnp.eye(3)[i], jnp.ones(1))
    x = jax.vmap(uncertainty, in_axes=(None, 0))(posterior.root, jnp.eye(3))
    np.testing.assert_allclose(visits(x, 0.1), [3, 0, 1], atol=1e-5)


def test_a_factor_is_that_of_lapack():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(5, 5))
    a = a @ a.T + np.eye(5)
    factor = cholesky(jnp.asarray(a, jnp.float32))
    np.testing.assert_allclose(factor, np.linalg.cholesky(a), rtol=1e-4, atol=1e-5)


# --- features and anchors -----------------------------------------------------------------------


def test_features_have_the_kernel_of_their_length():
    phi = FourierFeatures(2, 500, 0.7)
    u = jnp.asarray(2 * spread(40, 2) - 1, float)
    waves = phi(u)[:, :500]
    far = np.square(u[:, None] - u[None]).sum(axis=-1)
    np.testing.assert_allclose(waves @ waves.T, np.exp(-far / (2 * 0.7**2)), atol=0.03)
    np.testing.assert_array_equal(phi(u)[:, 500:502], u)


@pytest.mark.parametrize("anchors", [Grid((3, 4)), Scattered(2, 20)], ids=["grid", "scattered"])
def test_between_anchors_values_are_averages(anchors):
    m = len(anchors.points)
    u = jnp.asarray(3 * spread(30, 2) - 1.5, float)
    weights = anchors.interpolate(jnp.eye(m), u)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), np.ones(30), rtol=1e-5)
    inside = jnp.clip(u, -1, 1)
    np.testing.assert_allclose(weights, anchors.interpolate(jnp.eye(m), inside), atol=1e-6)
    if isinstance(anchors, Grid):
        np.testing.assert_allclose(weights @ anchors.points, inside, atol=1e-6)
        np.testing.assert_allclose(anchors.interpolate(jnp.eye(m), jnp.asarray(anchors.points,
                                   float)), np.eye(m), atol=1e-6)  # fmt: skip


def test_anchors_are_as_fine_as_they_may_be():
    shapes = [anchors_for(d).shape for d in (1, 2, 3, 4, 6)]
    assert shapes == [(21,), (21, 21), (9, 9, 9), (5,) * 4, (3,) * 6]
    assert len(anchors_for(17).points) == 256


# --- the learner beside plain NumPy -------------------------------------------------------------


class Plain:
    """The definition in float64: everything is kept, and solved anew."""

    def __init__(self, learner):
        self.o = learner
        self.entering = learner.paid_for == "entering"
        self.data = [([], []) for _ in range(A)]
        self.paid = [], []
        self.places = learner.anchors.points
        self.v = np.stack([np.zeros(len(self.places)), np.full(len(self.places), 3.0)], axis=1)
        self.next = 0

    def phi(self, u):
        frequencies, phases = self.o.phi.waves
        waves = np.sqrt(2 / len(phases)) * np.cos(u @ frequencies + phases)
        return np.concatenate([waves, u, [1]])

    def scaled(self, s):
        return 2 * (np.asarray(s) - LOW) / np.subtract(HIGH, LOW) - 1

    def between(self, of_anchors, u):
        place = (np.clip(u, -1, 1) + 1) / 2 * 3
        first = np.minimum(place.astype(int), 2)
        total = 0
        for corner in itertools.product((0, 1), repeat=D):
            share = np.where(corner, place - first, 1 - (place - first)).prod()
            total = total + share * of_anchors[(first + corner) @ (4, 1)]
        return total

    def backup(self, u):
        q = np.zeros((A, 2))
        for a, (features, outputs) in enumerate(self.data):
            features = np.reshape(features, (-1, self.o.phi.size))
            outputs = np.reshape(outputs, (-1, D + 2))
            weights, covariance = solved(features, outputs, self.o.ridge_penalty)
            *du, r, t = self.phi(u) @ weights
            x = self.phi(u) @ covariance @ self.phi(u)
            if self.entering:
                r, more = self.between(self.pay(), u + du)
                x += more
            q[a] = r + DISCOUNT * (1 - np.clip(t, 0, 1)) * self.between(self.v, u + du)
            n = max(1 / x - self.o.ridge_penalty, 0)
            q[a, 1] = (n * q[a, 1] + 0.5 * 3) / (n + 0.5)
        return q

    def pay(self):
        """What entering the anchors pays, and how uncertain that is."""
        features = np.reshape(self.paid[0], (-1, self.o.phi.size))
        weights, covariance = solved(features, np.array(self.paid[1]), self.o.ridge_penalty)
        places = np.array([self.phi(u) for u in self.places])
        x = np.einsum("mp,pq,mq->m", places, covariance, places)
        return np.stack([places @ weights, x], axis=1)

    def update(self, s, a, r, s_next, terminated):
        u, u_next = self.scaled(s), self.scaled(s_next)
        self.paid[0].append(self.phi(u_next))
        self.paid[1].append(r)
        self.data[a][0].append(self.phi(u))
        self.data[a][1].append([*(u_next - u), r, terminated])
        chosen = range(min(self.next, 16 - 6), min(self.next, 16 - 6) + 6)
        new = [self.backup(self.places[i]).max(axis=0) for i in chosen]
        self.v[list(chosen)] = new
        self.next = chosen[-1] + 1 if chosen[-1] + 1 < 16 else 0


def swing(length, seed=0):
    """Transitions of a pendulum with little friction, the rest of whose states is random."""
    rng = np.random.default_rng(seed)
    s = np.stack([rng.uniform(-1, 1, length), rng.uniform(-4, 4, length)], axis=1)
    a = rng.integers(A, size=length)
    s_next = s + 0.1 * np.stack([s[:, 1], 9 * np.sin(s[:, 0]) + 4 * a - 2], axis=1)
    return s, a, -np.square(s).sum(axis=1), s_next, np.abs(s_next[:, 0]) > 1


@pytest.mark.parametrize("paid_for", ["leaving", "entering"])
def test_estimates_are_those_of_plain_numpy_in_float64(paid_for):
    learner = linear_model(LOW, HIGH, A, **OPTIONS, paid_for=paid_for)
    plain, table = Plain(learner), learner.init()
    update, estimates = jax.jit(learner.update), jax.jit(learner.estimates)
    for i, transition in enumerate(zip(*swing(40), strict=True)):
        plain.update(*transition)
        s, a, r, s_next, t = transition
        table = update(table, jnp.asarray(s, "f4"), a, float(r), jnp.asarray(s_next, "f4"), t)
        if i % 8 == 0:
            found = estimates(table, jnp.asarray(s_next, "f4"))
            expected = plain.backup(plain.scaled(s_next))
            both = jnp.stack([found.q, found.q_optimistic], axis=1)
            np.testing.assert_allclose(both, expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(table.values, plain.v, rtol=2e-3, atol=2e-3)


def test_a_corridor_is_solved():
    """To the right lies the end, at 1; every step costs 1."""
    learner = linear_model((0.0,), (1.0,), 2, discount=0.9, length_scale=0.15, anchors_along=11,
                           steps_per_sweep=1)  # fmt: skip
    rng = np.random.default_rng(0)
    s = rng.integers(0, 10, size=300) / 10
    a = rng.integers(2, size=300)
    s_next = np.maximum(s + np.where(a == 1, 0.1, -0.1), 0)

    def step(table, x):
        return learner.update(table, x[0][None], x[1], -1.0, x[2][None], x[2] > 0.95), None

    columns = jnp.asarray(s, float), jnp.asarray(a, jnp.int32), jnp.asarray(s_next, float)
    table, _ = jax.lax.scan(step, learner.init(), columns)
    for steps in (2, 5, 9):
        found = learner.estimates(table, jnp.array([1 - steps / 10]))
        assert found.q.argmax() == 1
        assert found.q[1] == pytest.approx(-(1 - 0.9**steps) / 0.1, abs=0.6)


def test_standard_errors_are_those_of_one_step():
    options = {"num_frequencies": 0, "anchors_along": 2, "discount": 0.5}
    learner = linear_model((-1.0,), (1.0,), 1, **options, standard_errors=True)

    @jax.jit
    def run():
        table = learner.init()
        for r in (1.0, 3.0, 2.0, 0.0):
            table = learner.update(table, jnp.zeros(1), 0, r, jnp.zeros(1), False)
        # At 0 the features are (0, 1): the mean of four rewards, no displacement and no end, whose
        # values do not matter since all anchors have the same.
        table = table.replace(values=jnp.zeros_like(table.values))
        return learner.estimates(table, jnp.zeros(1))

    found = run()
    gram, rewards = 4 + 0.01, np.array([1.0, 3.0, 2.0, 0.0])
    squares = np.square(rewards).sum() - rewards.sum() ** 2 / gram
    assert found.q_stderr[0] == pytest.approx(np.sqrt(squares / 4 / gram), rel=1e-4)
    assert found.v_stderr == found.q_stderr[0]
    assert found.visits.tolist() == [4]


def test_a_pendulums_table_is_small():
    table = jax.eval_shape(linear_model((-1, -1, -8), (1, 1, 8), 3).init)
    assert sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(table)) <= 96 * 1024
