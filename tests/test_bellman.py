"""Backward induction by hand."""

import jax.numpy as jnp
import numpy as np

from rl3jax import backward_induction


def test_one_state_by_hand():
    """Action 0 pays 1 and action 1 nothing, so q = steps to go, less 1 for action 1."""
    reward = jnp.array([[1.0, 0.0]])
    v, q = backward_induction(lambda v: reward + v[:, None], jnp.zeros(1), 3, keep=lambda q: q)
    np.testing.assert_array_equal(q, [[[3, 2]], [[2, 1]], [[1, 0]]])
    np.testing.assert_array_equal(v, [3])


def test_it_begins_at_the_end_and_keeps_what_it_is_asked_to():
    """States are pairs; the first action leaves half of the value, the second less."""
    v_end = jnp.array([[8.0, 0.0, 16.0], [0.0, 32.0, 24.0]])

    def backup(v):
        return jnp.stack([v / 2, v / 2 - 1], axis=-1)

    v, actions = backward_induction(backup, v_end, 2, keep=lambda q: q.argmax(axis=-1))
    np.testing.assert_array_equal(v, v_end / 4)
    np.testing.assert_array_equal(actions, np.zeros((2, 2, 3)))
    v, nothing = backward_induction(backup, v_end, 0, keep=lambda q: None)
    np.testing.assert_array_equal(v, v_end)
    assert nothing is None
