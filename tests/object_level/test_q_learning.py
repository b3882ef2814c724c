import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.object_level import q_learning


def test_updates_by_hand():
    learner = q_learning(2, 2, discount=0.5)
    table = learner.update(learner.init(), 0, 1, 4.0, 1, False)
    np.testing.assert_allclose(learner.q_table(table), [[0, 4], [0, 0]])
    table = learner.update(table, 1, 0, 1.0, 0, False)  # 1 + 0.5 · 4
    np.testing.assert_allclose(learner.q_table(table), [[0, 4], [3, 0]])
    table = learner.update(table, 0, 1, 2.0, 1, False)  # 4 + (2 + 0.5 · 3 − 4) / 2
    np.testing.assert_allclose(learner.q_table(table), [[0.0, 3.75], [3.0, 0.0]])
    table = learner.update(table, 0, 1, 0.75, 1, True)  # 3.75 + (0.75 − 3.75) / 3: no next value
    np.testing.assert_allclose(learner.q_table(table), [[0.0, 2.75], [3.0, 0.0]])
    np.testing.assert_array_equal(table.visits, [[0, 3], [1, 0]])


def test_constant_step_size_and_initial_value():
    learner = q_learning(2, 1, discount=0.5, step_size=0.1, initial_value=10)
    table = learner.update(learner.init(), 0, 0, 1, 1, False)
    np.testing.assert_allclose(learner.q_table(table), [[10 + 0.1 * (1 + 5 - 10)], [10.0]])


def test_with_one_visit_each_step_size_1_over_n_is_an_average():
    learner = q_learning(1, 2, discount=0)
    table = learner.init()
    for r in (1.0, 2.0, 6.0):
        table = learner.update(table, 0, 0, r, 0, False)
    np.testing.assert_allclose(learner.estimates(table, 0).q, [3, 0], rtol=1e-6)


def test_golden_case(replay, golden):
    case, transitions = golden("mdp")
    expected = case["q_learning"]
    assert expected["step_size"] == "1/N(s,a)"
    learner = q_learning(case["num_states"], case["num_actions"], discount=expected["discount"])
    table, _ = replay(learner, transitions)
    np.testing.assert_allclose(learner.q_table(table), expected["q_final"], atol=1e-4)
    np.testing.assert_array_equal(table.visits, expected["visits_final"])


def test_averages_are_in_double_precision_when_enabled(replay):
    zeros = np.zeros(3, int)
    with jax.enable_x64(True):
        _, q = replay(q_learning(1, 1, discount=0), (zeros, zeros, [0.0, 2.0, -2.0], zeros, zeros))
    np.testing.assert_allclose(q[-1], [[0.0]], atol=1e-15)


@pytest.mark.parametrize("step_size", [None, 0.3])
def test_an_update_touches_one_pair(step_size, replay, random_transitions):
    learner = q_learning(4, 3, step_size=step_size)
    transitions = random_transitions(4, 3, 25)
    _, q = replay(learner, transitions)
    changed = jnp.diff(q, axis=0, prepend=0) != 0
    others = changed.at[jnp.arange(25), transitions.s, transitions.a].set(False)
    assert not others.any()
