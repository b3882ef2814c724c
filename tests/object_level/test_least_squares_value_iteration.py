"""Least-squares value iteration beside plain NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from rl3jax.object_level import least_squares_value_iteration

A, DISCOUNT, BONUS, PENALTY, LENGTH = 2, 0.8, 0.5, 0.05, 14
LEARNER = least_squares_value_iteration(
    (-1.0,), (1.0,), A, LENGTH, DISCOUNT, BONUS, 1.0, 2, num_frequencies=5, ridge_penalty=PENALTY
)


def phi(u):
    frequencies, phases = LEARNER.phi.waves
    waves = np.sqrt(2 / 5) * np.cos(u[:, None] @ frequencies + phases)
    return np.concatenate([waves, u[:, None], np.ones((len(u), 1))], axis=1)


def plain(s, a, r, s_next, ended):
    """Q and Q⁺ `[A, 2]` of the last state, by the definition."""
    size = phi(s).shape[1]
    weights = np.zeros((A, size, 2))
    for t in range(2, len(s) + 1, 2):
        low = min(0, r[:t].min() / (1 - DISCOUNT))
        high = max(1, r[:t].max() / (1 - DISCOUNT))
        grams = [phi(s[:t][a[:t] == k]) for k in range(A)]
        inverse = [np.linalg.inv(f.T @ f + PENALTY * np.eye(size)) for f in grams]

        def values(u, inverse=inverse, weights=weights, low=low, high=high):
            f = phi(u)
            x = np.stack([np.einsum("ip,pq,iq->i", f, c, f) for c in inverse])
            q = np.einsum("ip,apn->ain", f, weights)
            q[..., 1] += BONUS * np.sqrt(x)
            return np.clip(q, low, high)

        v = np.where(ended[:t], 0, values(s_next[:t]).max(axis=0).T).T
        targets = r[:t, None] + DISCOUNT * v
        weights = np.stack(
            [inverse[k] @ phi(s[:t][a[:t] == k]).T @ targets[a[:t] == k] for k in range(A)]
        )
    f = phi(s_next[-1:])[0]
    q = np.einsum("p,apn->an", f, weights)
    q[:, 1] += BONUS * np.sqrt([f @ c @ f for c in inverse])
    return np.clip(q, low, high)


def test_estimates_are_those_of_plain_numpy_in_float64():
    rng = np.random.default_rng(0)
    s, s_next = rng.uniform(-1, 1, size=(2, LENGTH))
    a, r, ended = rng.integers(A, size=LENGTH), rng.normal(size=LENGTH), rng.random(LENGTH) < 0.3
    update = jax.jit(LEARNER.update)
    table = LEARNER.init()
    assert LEARNER.estimates(table, jnp.zeros(1)).q_optimistic.tolist() == [1, 1]  # the optimism
    for i in range(LENGTH):
        table = update(
            table, jnp.asarray(s[i : i + 1], "f4"), a[i], float(r[i]),
            jnp.asarray(s_next[i : i + 1], "f4"), ended[i],
        )  # fmt: skip
    found = LEARNER.estimates(table, jnp.asarray(s_next[-1:], "f4"))
    both = jnp.stack([found.q, found.q_optimistic], axis=1)
    np.testing.assert_allclose(both, plain(s, a, r, s_next, ended), rtol=1e-3, atol=1e-3)
    assert not LEARNER.overflowed(table)
    table = update(table, jnp.zeros(1), 0, 0.0, jnp.zeros(1), False)
    assert LEARNER.overflowed(table)
    assert np.isnan(LEARNER.estimates(table, jnp.zeros(1)).q).all()
