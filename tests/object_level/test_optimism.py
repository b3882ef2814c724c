"""Optimistic values: what was not tried is worth much."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.object_level import value_iteration
from rl3jax.object_level.model import LEAVING_PRIOR, empty_model, optimistic_backup, record

OPTIMISM = 30.0


def model_of(transitions, num_states=4, num_actions=2, slots=None):
    model = empty_model(num_states, num_actions, all_known=False, slots=slots)
    for transition in transitions:
        model = record(model, *transition)
    return model


def backup_of(transitions, v, **options):
    model = model_of(transitions, num_states=len(v), **options)
    return optimistic_backup(model, discount=0.5, optimism=OPTIMISM)(jnp.asarray(v)).T


def test_before_any_data_everything_is_worth_the_optimism():
    learner = value_iteration(3, 2, optimism=OPTIMISM)
    estimates = learner.estimates(learner.init(), 1)
    np.testing.assert_array_equal(estimates.q_optimistic, [OPTIMISM, OPTIMISM])
    np.testing.assert_array_equal(estimates.q, [0, 0])


def test_a_pair_that_was_tried_has_its_unsmoothed_estimate():
    q = backup_of([(0, 0, 1.0, 1, False), (0, 0, 3.0, 2, False)], [0.0, 10.0, 20.0, 0.0])
    np.testing.assert_allclose(q[0, 0], (1 + 3) / 2 + 0.5 * (10 + 20) / 2)


@pytest.mark.parametrize("slots", [None, 2])
def test_an_untried_pair_stays_or_leads_to_the_unknown_as_its_action_does_elsewhere(slots):
    # Action 0 stayed twice (paying −1 and −2) and left once; action 1 was never tried.
    tried = [(0, 0, -1.0, 0, False), (0, 0, -2.0, 0, False), (1, 0, 5.0, 2, False)]
    q = backup_of(tried, [4.0, 0.0, 8.0, 0.0], slots=slots)
    stays = 2 / (3 + LEAVING_PRIOR)
    expected = stays * (-1.5 + 0.5 * 8.0) + (1 - stays) * OPTIMISM
    np.testing.assert_allclose(q[2], [expected, OPTIMISM], rtol=1e-6)


def test_the_end_of_an_episode_is_worth_nothing_more():
    q = backup_of([(0, 0, 100.0, 1, True)], [0.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(q[1], [0, 0])
    np.testing.assert_array_equal(q[0], [100, OPTIMISM])


def test_an_action_without_effect_stops_looking_like_exploration():
    """Action 0 does nothing anywhere; only action 1 leads on."""
    learner = value_iteration(6, 2, optimism=OPTIMISM, known="visited", sweeps_per_step=50)
    table, update = learner.init(), jax.jit(learner.update)
    for _ in range(4):
        table = update(table, 0, 0, -1.0, 0, False)
    for s in range(3):
        table = update(table, s, 1, -1.0, s + 1, False)
    q = jnp.stack([learner.estimates(table, s).q_optimistic for s in range(4)])
    assert (q[:, 1] > q[:, 0]).all()
    # The untried pair at the end of the corridor is worth the optimism, and the way there less by
    # a step each.
    np.testing.assert_allclose(q[3, 1], OPTIMISM)
    for s in (2, 1, 0):
        np.testing.assert_allclose(q[s, 1], -1 + 0.95 * q[s + 1].max(), rtol=1e-5)


def test_greedy_optimism_explores_a_whole_corridor_and_finds_its_end():
    """With Q⁺ alone an agent visits every state of a chain; with Q it never leaves the start."""
    length = 8
    learner = value_iteration(
        length, 3, optimism=50.0, known="visited", smoothing=0, sweeps_per_step=20
    )

    @jax.jit
    def step(table, s):
        a = learner.estimates(table, s).q_optimistic.argmax()
        s_next = jnp.clip(s + jnp.array([0, -1, 1])[a], 0, length - 1)
        at_end = s_next == length - 1
        table = learner.update(table, s, a, jnp.where(at_end, 10.0, -1.0), s_next, at_end)
        return table, jnp.where(at_end, 0, s_next), at_end

    table, s, found = learner.init(), jnp.int32(0), False
    for _ in range(3 * length):
        table, s, at_end = step(table, s)
        found = found or bool(at_end)
    assert found
    assert (learner.q_table(table)[: length - 1].max(axis=1) != 0).all()


def test_optimism_leaves_q_alone(replay, random_transitions):
    transitions = random_transitions(4, 2, 30)
    options = {"known": "visited", "warm_start": True, "tolerance": 0.1}
    _, plain = replay(value_iteration(4, 2, **options), transitions)
    _, q = replay(value_iteration(4, 2, optimism=OPTIMISM, **options), transitions)
    np.testing.assert_array_equal(q, plain)


def test_in_a_bandit_an_arm_never_pulled_is_worth_the_optimism():
    learner = value_iteration(1, 3, max_sweeps=1, optimism=1.0)
    table = learner.update(learner.init(), 0, 1, 0.25, 0, False)
    np.testing.assert_allclose(learner.estimates(table, 0).q_optimistic, [1, 0.25, 1])


def test_with_all_tried_optimism_is_gone(replay, random_transitions):
    """Then Q⁺ is the unsmoothed Q."""
    s, a = np.divmod(np.arange(8), 2)
    transitions = (s, a, np.arange(8.0), (s + 1 + a) % 4, np.zeros(8, bool))
    learner = value_iteration(4, 2, smoothing=0, optimism=1e6, max_sweeps=7, tolerance=0)
    table, _ = replay(learner, transitions)
    for state in range(4):
        estimates = learner.estimates(table, state)
        np.testing.assert_allclose(estimates.q_optimistic, estimates.q, rtol=1e-5)
