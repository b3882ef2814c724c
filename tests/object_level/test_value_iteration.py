import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl3jax.object_level import value_iteration
from rl3jax.object_level.model import empty_model, record
from rl3jax.object_level.planning import sweep

S, A, T = 4, 2, 12

rewards = st.floats(-10, 10, width=32)
transition_lists = st.lists(
    st.tuples(
        st.integers(0, S - 1),
        st.integers(0, A - 1),
        rewards,
        st.integers(0, S - 1),
        st.booleans(),
    ),
    min_size=T,
    max_size=T,  # one length, so that one compilation does for all examples
)


def columns(transitions):
    return tuple(np.array(column) for column in zip(*transitions, strict=True))


# --- golden cases -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["value_iteration_release", "value_iteration_v4"])
def test_golden_mdp(name, replay, golden):
    case, transitions = golden("mdp")
    expected = case[name]
    learner = value_iteration(
        case["num_states"],
        case["num_actions"],
        discount=expected["discount"],
        smoothing=expected["smoothing"],
        max_sweeps=expected["sweeps"],
        tolerance=expected["tolerance"],
        known=expected.get("known", case["known_release"]),
    )
    _, q = replay(learner, transitions)
    for step, q_after in expected["q_after_step"].items():
        np.testing.assert_allclose(q[int(step) - 1], q_after, atol=1e-4)


def gridworld_learner(case, expected, warm_start):
    return value_iteration(
        len(case["entry_reward"]),
        num_actions=5,
        discount=expected["discount"],
        smoothing=expected["smoothing"],
        max_sweeps=expected["sweeps"],
        tolerance=expected["tolerance"],
        known=expected["known"],
        warm_start=warm_start,
    )


def test_golden_gridworld_from_a_cold_start(golden):
    """A cold plan depends on the data alone, so that only the listed steps are planned."""
    case, transitions = golden("gridworld")
    expected = case["value_iteration_cold"]
    learner = gridworld_learner(case, expected, warm_start=False)

    @jax.jit
    def record_all(model, transitions):
        return jax.lax.scan(lambda m, x: (record(m, *x), None), model, transitions)[0]

    update = jax.jit(learner.update)
    for step, q_after in expected["q_after_step"].items():
        past = tuple(column[: int(step) - 1] for column in transitions)
        last = tuple(column[int(step) - 1] for column in transitions)
        table = learner.init()
        if int(step) > 1:
            table = dataclasses.replace(table, model=record_all(table.model, past))
        q = learner.q_table(update(table, *last))
        np.testing.assert_allclose(q, q_after, atol=1e-3)


def test_golden_gridworld_from_a_warm_start(replay, golden):
    case, transitions = golden("gridworld")
    expected = case["value_iteration_warm"]
    _, q = replay(gridworld_learner(case, expected, warm_start=True), transitions)
    for step, q_after in expected["q_after_step"].items():
        np.testing.assert_allclose(q[int(step) - 1], q_after, atol=1e-3)


# --- the definition, once more and plainly --------------------------------------------------------


class PlainValueIteration:
    """The same learner as loops over its definition, in NumPy and double precision."""

    def __init__(self, learner):
        self.learner = learner
        self.data = []
        self.known = set(range(S)) if learner.known == "all" else set()
        self.absorbing = set()
        self.q = np.zeros((S, A))

    def observe(self, s, a, r, s_next, terminated):
        self.data.append((s, a, r, s_next))
        known_before = set(self.known)
        self.known |= {s, s_next}
        if terminated:
            self.absorbing.add(s_next)
        if not (self.learner.warm_start and self.known == known_before):
            self.q = np.zeros((S, A))
        self.q[list(self.absorbing)] = 0
        for _ in range(self.learner.max_sweeps):
            q = self.backup(self.q.max(axis=1))
            change, self.q = np.abs(q - self.q).max(), q
            if change < self.learner.tolerance:
                break

    def backup(self, v):
        q = np.zeros((S, A))
        for s in self.known - self.absorbing:
            for a in range(A):
                for s_next in self.known:
                    reward = self.mean_reward(s, a, s_next)
                    value = reward + self.learner.discount * v[s_next]
                    q[s, a] += self.probability(s, a, s_next) * value
        return q

    def probability(self, s, a, s_next):
        visits = sum((s, a) == x[:2] for x in self.data)
        count = sum((s, a, s_next) == (*x[:2], x[3]) for x in self.data)
        smoothing, num_known = self.learner.smoothing, len(self.known)
        if visits == 0:
            return 1 / num_known
        return (count + smoothing) / (visits + smoothing * num_known)

    def mean_reward(self, s, a, s_next):
        seen = [x[2] for x in self.data if (s, a, s_next) == (*x[:2], x[3])]
        return np.mean(seen) if seen else 0.0


@pytest.mark.parametrize("known", ["all", "visited"])
@pytest.mark.parametrize("smoothing", [0, 0.1])
@pytest.mark.parametrize("warm_start", [False, True])
def test_agrees_with_its_definition(known, smoothing, warm_start, replay):
    learner = value_iteration(
        S, A, smoothing=smoothing, max_sweeps=4, known=known, warm_start=warm_start, tolerance=0.3
    )

    @settings(max_examples=15)
    @given(transitions=transition_lists)
    def check(transitions):
        with jax.enable_x64(True):
            _, q = replay(learner, columns(transitions))
        plain = PlainValueIteration(learner)
        for q_t, transition in zip(q, transitions, strict=True):
            plain.observe(*transition)
            np.testing.assert_allclose(q_t, plain.q, atol=1e-9)

    check()


# --- identities -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("discount", "smoothing"), [(0, 0), (0.95, 0.1), (1, 7)])
def test_of_one_state_and_one_sweep_q_is_the_mean_reward(discount, smoothing, replay):
    learner = value_iteration(1, A, discount=discount, smoothing=smoothing, max_sweeps=1)
    arms = np.arange(T) % 3 % A
    zeros = np.zeros(T, int)

    @settings(max_examples=20)
    @given(payouts=st.lists(rewards, min_size=T, max_size=T))
    def check(payouts):
        _, q = replay(learner, (zeros, arms, payouts, zeros, zeros))
        expected = [np.mean(np.array(payouts)[arms == a]) for a in range(A)]
        np.testing.assert_allclose(q[-1, 0], expected, rtol=1e-4, atol=1e-4)

    check()


def test_an_arm_never_pulled_is_worth_0():
    learner = value_iteration(1, 3, max_sweeps=1)
    table = learner.update(learner.init(), 0, 1, 1.0, 0, False)
    np.testing.assert_allclose(learner.q_table(table), [[0, 1, 0]], rtol=1e-6)


@pytest.mark.parametrize("known", ["all", "visited"])
def test_the_order_of_transitions_does_not_matter(known, replay):
    learner = value_iteration(S, A, known=known)

    @settings(max_examples=30)
    @given(transitions=transition_lists, order=st.permutations(range(T)))
    def check(transitions, order):
        table, _ = replay(learner, columns(transitions))
        shuffled, _ = replay(learner, columns([transitions[i] for i in order]))
        for x, y in zip(jax.tree.leaves(table), jax.tree.leaves(shuffled), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-3)

    check()


def test_unknown_states_have_no_values():
    learner = value_iteration(3, 2, known="visited")
    table = learner.update(learner.init(), 0, 0, 1.0, 1, False)
    q = learner.q_table(table)
    assert (q[:2] != 0).all()
    assert (q[2] == 0).all()


def test_a_truncation_is_no_termination():
    learner = value_iteration(2, 1, smoothing=0, discount=0.5, max_sweeps=2)
    back_and_forth = learner.update(learner.init(), 1, 0, 1.0, 1, False)
    truncated = learner.update(back_and_forth, 0, 0, 1.0, 1, False)
    terminated = learner.update(back_and_forth, 0, 0, 1.0, 1, True)
    np.testing.assert_allclose(learner.q_table(truncated), [[1.5], [1.5]])
    np.testing.assert_allclose(learner.q_table(terminated), [[1.0], [0.0]])


def test_a_warm_start_goes_on_where_the_last_plan_ended():
    """With the same data, one sweep an update comes to what many sweeps of one plan do."""
    once = value_iteration(1, 1, smoothing=0, max_sweeps=1, warm_start=True)
    table = once.init()
    for k in range(1, 6):
        table = once.update(table, 0, 0, 1.0, 0, False)
        expected = (1 - 0.95**k) / (1 - 0.95)
        np.testing.assert_allclose(once.q_table(table), [[expected]], rtol=1e-5)


def test_a_warm_start_begins_again_when_a_state_becomes_known():
    warm = value_iteration(3, 1, max_sweeps=1, known="visited", warm_start=True)
    cold = dataclasses.replace(warm, warm_start=False)
    warm_table, cold_table = warm.init(), cold.init()
    same = []
    for s, s_next in [(0, 0), (0, 0), (0, 1), (1, 0), (1, 2), (2, 2)]:
        warm_table = warm.update(warm_table, s, 0, 1.0, s_next, False)
        cold_table = cold.update(cold_table, s, 0, 1.0, s_next, False)
        same.append(bool(jnp.allclose(warm_table.q, cold_table.q)))
    assert same == [True, False, True, False, True, False]


# --- towards the truth ----------------------------------------------------------------------------


@partial(jax.jit, static_argnums=4)
def model_of(s, a, r, s_next, size):
    def step(model, transition):
        return record(model, *transition, False), None

    transitions = (s[:size], a[:size], r[:size], s_next[:size])
    return jax.lax.scan(step, empty_model(S, A, all_known=True), transitions)[0]


def true_values(transition_probs, mean_reward, discount, max_sweeps):
    def backup(v):
        return (mean_reward + discount * transition_probs @ v).T

    return sweep(backup, jnp.zeros_like(mean_reward.T), max_sweeps, tolerance=0.0).T


def test_with_much_data_on_every_pair_q_is_that_of_the_true_model():
    rng = np.random.default_rng(0)
    n, discount, max_sweeps = 40_000, 0.95, 10
    transition_probs = rng.dirichlet(np.ones(S), size=(S, A))
    mean_reward = rng.normal(size=(S, A))
    s, a = np.divmod(np.arange(n) % (S * A), A)
    cdf = transition_probs.cumsum(axis=-1)[s, a]
    s_next = (rng.uniform(size=(n, 1)) > cdf).sum(axis=-1).clip(max=S - 1)
    r = mean_reward[s, a] + rng.normal(size=n)

    learner = value_iteration(S, A, discount=discount, max_sweeps=max_sweeps, tolerance=0.0)
    expected = true_values(
        jnp.asarray(transition_probs), jnp.asarray(mean_reward), discount, max_sweeps
    )
    errors = []
    for size in (400, n):
        table = dataclasses.replace(learner.init(), model=model_of(s, a, r, s_next, size))
        q = learner.q_table(learner.update(table, s[0], a[0], r[0], s_next[0], False))
        errors.append(float(jnp.abs(q - expected).max()))
    assert errors[1] < 0.15
    assert errors[1] < errors[0] / 3


def test_data_in_exact_proportion_gives_the_true_model_exactly(replay):
    """P of quarters, four transitions a pair, no smoothing and no noise."""
    rng = np.random.default_rng(1)
    s_next = rng.integers(S, size=(S, A, 4))
    mean_reward = rng.normal(size=(S, A))
    transition_probs = (s_next[..., None] == np.arange(S)).mean(axis=2)
    s, a, _ = (index.ravel() for index in np.indices(s_next.shape))
    transitions = (s, a, mean_reward[s, a], s_next.ravel(), np.zeros(s.shape, bool))

    learner = value_iteration(S, A, smoothing=0, tolerance=0.0)
    table, _ = replay(learner, transitions)
    expected = true_values(jnp.asarray(transition_probs), jnp.asarray(mean_reward), 0.95, 10)
    np.testing.assert_allclose(learner.q_table(table), expected, rtol=1e-4, atol=1e-4)


# --- mean rewards -------------------------------------------------------------------------------


@settings(max_examples=20)
@given(transition_lists)
def test_mean_rewards_are_those_of_the_data(transitions):
    learner = value_iteration(S, A, mean_rewards=True)
    table, update = learner.init(), jax.jit(learner.update)
    for s, a, r, s_next, terminated in transitions:
        table = update(table, s, a, r, s_next, terminated)
    for s in range(S):
        found = [[r for s_, a_, r, *_ in transitions if (s_, a_) == (s, a)] for a in range(A)]
        expected = [np.mean(r) if r else 0.0 for r in found]
        np.testing.assert_allclose(learner.estimates(table, s).mean_reward, expected, atol=1e-5)


def test_mean_rewards_are_given_if_asked_for():
    assert value_iteration(S, A).estimates(value_iteration(S, A).init(), 0).mean_reward is None
