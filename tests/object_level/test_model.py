"""The estimated model, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.object_level.model import _take, bellman_backup, empty_model, record, visits


def model_of(transitions, num_states=3, num_actions=2, all_known=True):
    model = empty_model(num_states, num_actions, all_known)
    for transition in transitions:
        model = record(model, *transition)
    return model


SEEN = [(0, 0, 2.0, 1, False), (0, 0, 4.0, 1, False), (0, 0, 1.0, 0, False)]


def test_counts_sums_and_masks():
    model = model_of([*SEEN, (1, 1, 9.0, 2, True)], num_states=4, all_known=False)
    np.testing.assert_array_equal(model.counts[:, 0, 0], [1, 2, 0, 0])
    np.testing.assert_array_equal(model.reward_sums[:, 0, 0], [1, 6, 0, 0])
    np.testing.assert_array_equal(model.known, [True, True, True, False])
    np.testing.assert_array_equal(model.absorbing, [False, False, True, False])
    np.testing.assert_array_equal(visits(model, 0), [3, 0])
    assert model.counts.sum() == 4


def test_a_state_once_absorbing_stays_so():
    model = model_of([(0, 0, 0.0, 1, True), (0, 0, 0.0, 1, False)])
    np.testing.assert_array_equal(model.absorbing, [False, True, False])


def test_backup_without_smoothing():
    backup = bellman_backup(model_of(SEEN), discount=0.5, smoothing=0)
    q = backup(jnp.array([3.0, 6.0, 9.0])).T
    # N = 1, 2, 0 of 3; mean rewards 1, 3: (1 (1 + 1.5) + 2 (3 + 3)) / 3. Else the mean of v.
    np.testing.assert_allclose(q, [[14.5 / 3, 3.0], [3.0, 3.0], [3.0, 3.0]], rtol=1e-6)


def test_backup_with_smoothing():
    backup = bellman_backup(model_of(SEEN), discount=0.5, smoothing=0.5)
    q = backup(jnp.array([3.0, 6.0, 9.0])).T
    # P = (1.5, 2.5, 0.5) / 4.5, R = 1, 3, 0: (1.5 · 2.5 + 2.5 · 6 + 0.5 · 4.5) / 4.5.
    np.testing.assert_allclose(q[0], [21 / 4.5, 3.0], rtol=1e-6)


def test_backup_among_visited_states():
    model = model_of(SEEN, all_known=False)
    q = bellman_backup(model, discount=0.5, smoothing=0.5)(jnp.array([3.0, 6.0, 0.0])).T
    # K = 2: P = (1.5, 2.5) / 4; a pair never tried leads to either with 1/2.
    expected = [[(1.5 * 2.5 + 2.5 * 6) / 4, 2.25], [2.25, 2.25], [0.0, 0.0]]
    np.testing.assert_allclose(q, expected, rtol=1e-6)


def test_absorbing_states_have_no_value():
    model = model_of([(0, 0, 1.0, 1, True), (1, 0, 5.0, 0, False)])
    q = bellman_backup(model, discount=0.5, smoothing=0.1)(jnp.array([2.0, 0.0, 2.0])).T
    np.testing.assert_array_equal(q[1], [0, 0])


@pytest.mark.parametrize("smoothing", [0, 0.1])
@pytest.mark.parametrize("all_known", [True, False])
def test_backups_are_finite(smoothing, all_known):
    model = model_of([(0, 0, 1.0, 0, False)], all_known=all_known)
    assert jnp.isfinite(bellman_backup(model, 1.0, smoothing)(jnp.zeros(3))).all()


@pytest.mark.parametrize("in_axes", [(0, 0), (0, None), (None, 0)])
def test_values_at_next_states_of_several_tasks(in_axes):
    v = jnp.array([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 10.0, 11.0]])
    s_next = jnp.array([[1, 3], [0, 0], [2, 1]])
    v, s_next = (x[1] if axis is None else x for x, axis in zip((v, s_next), in_axes, strict=True))
    taken = jax.vmap(_take, in_axes)(v, s_next)
    every_v, every_s_next = jnp.broadcast_to(v, (3, 4)), jnp.broadcast_to(s_next, (3, 2))
    np.testing.assert_array_equal(taken, np.take_along_axis(every_v, every_s_next, axis=1))
