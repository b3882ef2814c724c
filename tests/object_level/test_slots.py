"""Models with few slots for next states, and what planning by a fixed number of sweeps does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl3jax.envs import make_env
from rl3jax.object_level import value_iteration
from rl3jax.object_level.model import empty_model, record

S, A, T, K = 6, 2, 16, 3

rewards = st.floats(-10, 10, width=32)


@st.composite
def sparse_transitions(draw):
    """Transitions of a model in which a pair leads to K states at most."""
    successors = draw(
        st.lists(
            st.lists(st.integers(0, S - 1), min_size=K, max_size=K), min_size=S * A, max_size=S * A
        )
    )
    transitions = []
    for _ in range(T):
        s, a, k = (
            draw(st.integers(0, S - 1)),
            draw(st.integers(0, A - 1)),
            draw(st.integers(0, K - 1)),
        )
        s_next = successors[s * A + a][k]
        transitions.append((s, a, draw(rewards), s_next, s_next == S - 1))
    return transitions


def columns(transitions):
    return tuple(np.array(column) for column in zip(*transitions, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"smoothing": 0.1, "known": "all", "standard_errors": True},
        {"smoothing": 0.0, "known": "visited", "standard_errors": True, "optimism": 5.0},
        {"smoothing": 0.01, "known": "visited", "warm_start": True, "optimism": 5.0},
        {"smoothing": 0.01, "known": "visited", "sweeps_per_step": 3, "optimism": -2.0},
    ],
    ids=["all-known", "visited", "warm", "fixed-sweeps"],
)
def test_few_slots_hold_what_a_slot_for_every_state_does(options, replay):
    dense = value_iteration(S, A, tolerance=0.01, **options)
    sparse = dataclasses.replace(dense, slots=K)

    @settings(max_examples=20)
    @given(transitions=sparse_transitions())
    def check(transitions):
        with jax.enable_x64(True):
            dense_table, dense_q = replay(dense, columns(transitions))
            sparse_table, sparse_q = replay(sparse, columns(transitions))
            np.testing.assert_allclose(sparse_q, dense_q, atol=1e-9)
            for s in range(S):
                expected = dense.estimates(dense_table, s)
                estimates = sparse.estimates(sparse_table, s)
                for x, y in zip(jax.tree.leaves(estimates), jax.tree.leaves(expected), strict=True):
                    np.testing.assert_allclose(x, y, atol=1e-6)
        assert not sparse.overflowed(sparse_table)

    check()


@pytest.mark.parametrize(("start", "slots"), [("cold", 3), ("cold", 6), ("warm", 3), ("warm", 6)])
def test_golden_gridworld(start, slots, golden):
    """Cold plans depend on the data alone, so that only the listed steps are planned."""
    case, transitions = golden("gridworld")
    expected = case[f"value_iteration_{start}"]
    learner = value_iteration(
        169,
        5,
        discount=expected["discount"],
        smoothing=expected["smoothing"],
        max_sweeps=expected["sweeps"],
        tolerance=expected["tolerance"],
        known=expected["known"],
        warm_start=start == "warm",
        slots=slots,
    )
    steps = [int(step) for step in expected["q_after_step"]]

    @jax.jit
    def planned_at_steps(transitions):
        def step(carry, x):
            t, table = carry
            recorded = dataclasses.replace(table, model=record(table.model, *x))
            is_planned = jnp.isin(t, jnp.array(steps)) | (start == "warm")
            table = jax.lax.cond(is_planned, lambda: learner.update(table, *x), lambda: recorded)
            return (t + 1, table), learner.q_table(table)

        return jax.lax.scan(step, (1, learner.init()), transitions)[1]

    q = planned_at_steps(tuple(jnp.asarray(column) for column in transitions))
    for step, q_after in expected["q_after_step"].items():
        np.testing.assert_allclose(q[int(step) - 1], q_after, atol=1e-3)


# --- overflow -------------------------------------------------------------------------------------


def after(learner, *transitions):
    table = learner.init()
    for s, a, s_next in transitions:
        table = learner.update(table, s, a, 1.0, s_next, False)
    return table


def test_a_pair_with_more_next_states_than_slots_overflows_and_its_estimates_are_void():
    learner = value_iteration(4, 2, slots=2, optimism=1.0)
    fits = after(learner, (0, 0, 0), (0, 0, 1), (0, 1, 2), (0, 1, 3), (0, 0, 1))
    assert not learner.overflowed(fits)
    assert jnp.isfinite(learner.q_table(fits)).all()
    full = learner.update(fits, 0, 0, 1.0, 3, False)
    assert learner.overflowed(full)
    assert jnp.isnan(learner.q_table(full)).all()
    estimates = learner.estimates(full, 2)
    assert jnp.isnan(estimates.q).all()
    assert jnp.isnan(estimates.q_optimistic).all()
    assert learner.overflowed(learner.update(full, 0, 0, 1.0, 1, False))  # and stays so


def test_a_count_beyond_its_integers_overflows():
    model = empty_model(4, 2, all_known=True, slots=2)
    most = jnp.iinfo(model.counts).max
    model = dataclasses.replace(model, counts=model.counts.at[0, 1, 2].set(most - 1))
    model = record(model, 2, 1, 0.0, 0, False)
    assert model.counts[0, 1, 2] == most
    assert not model.overflowed
    assert record(model, 2, 1, 0.0, 0, False).overflowed
    assert not record(model, 2, 0, 0.0, 0, False).overflowed


def test_with_a_slot_for_every_state_nothing_can_overflow():
    for slots in (None, 4, 9):
        learner = value_iteration(4, 2, slots=slots)
        table = after(learner, *((0, 0, s) for s in range(4)))
        assert not learner.overflowed(table)
        assert table.model.successors is None


def test_the_table_of_a_13x13_gridworld_is_below_64_kib():
    env = make_env("gridworld")
    for slots in (3, 6):
        learner = value_iteration(env.num_states, env.num_actions, slots=slots, optimism=30.0)
        table = jax.eval_shape(learner.init)
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(table))
        assert size <= 2**16


# --- a fixed number of sweeps ---------------------------------------------------------------------


def test_fixed_sweeps_go_on_also_when_a_state_becomes_known():
    learner = value_iteration(3, 1, smoothing=0, known="visited", discount=0.5, sweeps_per_step=1)
    table = after(learner, (0, 0, 0))  # q(0) = 1
    table = learner.update(table, 1, 0, 1.0, 0, False)
    # 1 + 0.5 · 1 in both: state 0 went on from q = 1, and state 1 saw it.
    np.testing.assert_allclose(learner.q_table(table), [[1.5], [1.5], [0.0]])


def test_fixed_sweeps_come_to_the_plan_of_many(replay, random_transitions):
    """The same data again and again change the model no more, and the sweeps add up."""
    transitions = random_transitions(S, A, 30)
    options = {"known": "visited", "smoothing": 0.0, "discount": 0.8}
    to_tolerance = value_iteration(S, A, max_sweeps=500, tolerance=1e-7, **options)
    fixed = value_iteration(S, A, sweeps_per_step=1, **options)
    table, _ = replay(to_tolerance, transitions)
    again, _ = replay(fixed, type(transitions)(*(np.tile(c, 20) for c in transitions)))
    np.testing.assert_allclose(fixed.q_table(again), to_tolerance.q_table(table), rtol=0.05)


def test_fixed_sweeps_forget_what_a_state_was_worth_before_it_ended_an_episode():
    learner = value_iteration(2, 1, smoothing=0, known="visited", discount=0.5, sweeps_per_step=2)
    table = after(learner, (1, 0, 1), (0, 0, 1))
    table = learner.update(table, 0, 0, 1.0, 1, True)
    np.testing.assert_allclose(learner.q_table(table), [[1.0], [0.0]])
