"""Object-level learners of any options beside plain NumPy loops over their definitions."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl3jax.object_level import q_learning, value_iteration
from rl3jax.object_level.model import LEAVING_PRIOR
from tests.object_level.test_standard_errors import plain_estimates
from tests.object_level.test_value_iteration import PlainValueIteration, transition_lists

S, A = 4, 2  # as in the tests that these come from

quick = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])


class Plain(PlainValueIteration):
    """Value iteration with every option, in loops and double precision."""

    def __init__(self, learner):
        super().__init__(learner)
        self.q_optimistic = np.full((S, A), learner.optimism or 0.0)

    def observe(self, s, a, r, s_next, terminated):
        known_before, last_q = set(self.known), self.q
        super().observe(s, a, r, s_next, terminated)
        if self.learner.sweeps_per_step is not None:
            self.q = self.planned(last_q, self.backup)
        if self.learner.optimism is not None:
            goes_on = self.learner.sweeps_per_step is not None or (
                self.learner.warm_start and self.known == known_before
            )
            start = self.q_optimistic if goes_on else np.zeros((S, A))
            self.q_optimistic = self.planned(start, self.optimistic_backup)

    def planned(self, q, backup):
        """Sweeps from `q` on, in which the ends of episodes are worth nothing."""
        q = q.copy()
        q[list(self.absorbing)] = 0
        for _ in range(self.learner.sweeps_per_step or self.learner.max_sweeps):
            last, q = q, backup(q.max(axis=1))
            change = np.abs(q - last).max()
            if self.learner.sweeps_per_step is None and change < self.learner.tolerance:
                break
        return q

    def optimistic_backup(self, v):
        q = np.zeros((S, A))
        for s in range(S):
            for a in range(A):
                outcomes = [(x[2], x[3]) for x in self.data if x[:2] == (s, a)]
                if outcomes:
                    values = [r + self.learner.discount * v[s_next] for r, s_next in outcomes]
                    q[s, a] = np.mean(values)
                elif s not in self.absorbing:
                    q[s, a] = self.untried(a, self.learner.discount * v[s])
        return q

    def untried(self, a, value_of_staying):
        """As the action did elsewhere: it stays, or leads to what is worth the optimism."""
        taken = [x for x in self.data if x[1] == a]
        stayed = [x[2] for x in taken if x[0] == x[3]]
        share = len(stayed) / (len(taken) + LEAVING_PRIOR)
        paid = np.mean(stayed) if stayed else 0.0
        return share * (paid + value_of_staying) + (1 - share) * self.learner.optimism

    def mean_rewards(self, s):
        seen = [[x[2] for x in self.data if x[:2] == (s, a)] for a in range(A)]
        return [np.mean(r) if r else 0.0 for r in seen]


@partial(jax.jit, static_argnums=0)
def replay(learner, *columns):
    """The table after all transitions, and q after each."""

    def step(table, transition):
        table = learner.update(table, *transition)
        return table, learner.q_table(table)

    return jax.lax.scan(step, learner.init(), columns)


def replayed(learner, transitions):
    """The same, with the estimates of every state at the end."""
    dtypes = (jnp.int32, jnp.int32, float, jnp.int32, bool)
    columns = zip(*transitions, strict=True)
    with jax.enable_x64(True):
        table, q = replay(learner, *(jnp.array(c, d) for c, d in zip(columns, dtypes, strict=True)))
        return q, [learner.estimates(table, s) for s in range(S)]


def check_value_iteration(learner, transitions):
    """Against the loops, after every transition."""
    q, estimates = replayed(learner, transitions)
    plain = Plain(learner)
    for q_t, transition in zip(q, transitions, strict=True):
        plain.observe(*transition)
        np.testing.assert_allclose(q_t, plain.q, atol=1e-8)
    counts = np.zeros((S, A), int)
    np.add.at(counts, tuple(np.array([t[:2] for t in transitions]).T), 1)
    for s, found in enumerate(estimates):
        np.testing.assert_array_equal(found.visits, counts[s])
        if learner.mean_rewards:
            np.testing.assert_allclose(found.mean_reward, plain.mean_rewards(s), atol=1e-9)
        if learner.optimism is not None:
            np.testing.assert_allclose(found.q_optimistic, plain.q_optimistic[s], atol=1e-8)
    if learner.standard_errors:
        variance = plain_estimates(learner, transitions)[1]
        stderrs = np.array([found.q_stderr for found in estimates])
        np.testing.assert_allclose(stderrs**2, variance, rtol=1e-6, atol=1e-6)


RELEASE: dict[str, Any] = {"max_sweeps": 5}
V4: dict[str, Any] = {"discount": 1.0, "smoothing": 0.0, "known": "visited", "max_sweeps": 5}
SETTINGS = {
    "release": RELEASE | {"mean_rewards": True},
    "v4-warm-optimistic": V4 | {"warm_start": True, "optimism": 7.0, "slots": S},
    "errors": V4 | {"standard_errors": True, "optimism": -2.0, "tolerance": 0.5},
    "fixed-sweeps": {"known": "visited", "sweeps_per_step": 2, "optimism": 3.0, "smoothing": 0.5},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_value_iteration_is_its_definition(options):
    learner = value_iteration(S, A, **options)
    quick(
        given(transition_lists)(lambda transitions: check_value_iteration(learner, transitions))
    )()


@st.composite
def options_of_value_iteration(draw: st.DrawFn) -> dict[str, Any]:
    """Any that go together."""
    options: dict[str, Any] = {
        "discount": draw(st.floats(0, 1)),
        "smoothing": draw(st.floats(0, 2)),
        "max_sweeps": draw(st.integers(1, 6)),
        "tolerance": draw(st.floats(0, 1)),
        "known": draw(st.sampled_from(["all", "visited"])),
        "warm_start": draw(st.booleans()),
        "optimism": draw(st.none() | st.floats(-10, 10)),
        "mean_rewards": draw(st.booleans()),
        "slots": draw(st.none() | st.just(S)),
    }
    if draw(st.booleans()):
        options["standard_errors"] = draw(st.booleans())
    elif options["discount"] < 1:
        options["sweeps_per_step"] = draw(st.integers(1, 4))
    return options


@settings(quick, max_examples=3)
@given(options=options_of_value_iteration(), transitions=transition_lists)
def test_value_iteration_of_any_options_is_its_definition(options, transitions):
    check_value_iteration(value_iteration(S, A, **options), transitions)


def check_q_learning(learner, transitions):
    """Against the rule, entry by entry."""
    q, estimates = replayed(learner, transitions)
    table, counts = np.full((S, A), float(learner.initial_value)), np.zeros((S, A), int)
    for q_t, (s, a, r, s_next, terminated) in zip(q, transitions, strict=True):
        counts[s, a] += 1
        step_size = learner.step_size or 1 / counts[s, a]
        target = r + (0.0 if terminated else learner.discount * table[s_next].max())
        table[s, a] += step_size * (target - table[s, a])
        np.testing.assert_allclose(q_t, table, atol=1e-9)
    for s, found in enumerate(estimates):
        np.testing.assert_array_equal(found.visits, counts[s])


@pytest.mark.parametrize("options", [{}, {"step_size": 0.3, "initial_value": 5.0, "discount": 1.0}])
def test_q_learning_is_its_definition(options):
    learner = q_learning(S, A, **options)

    @quick
    @given(transition_lists)
    def check(transitions):
        check_q_learning(learner, transitions)

    check()
