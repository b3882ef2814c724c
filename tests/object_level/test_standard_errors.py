"""Standard errors of value iteration: their definition, plainly, and Monte Carlo estimates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl3jax.object_level import value_iteration
from rl3jax.object_level.model import bellman_backup, empty_model, record, variance_backup

S, A, T = 4, 2, 12

rewards = st.floats(-10, 10, width=32)
transition_lists = st.lists(
    st.tuples(
        st.integers(0, S - 1), st.integers(0, A - 1), rewards, st.integers(0, S - 1), st.booleans()
    ),
    min_size=T,
    max_size=T,
)


def columns(transitions):
    return tuple(np.array(column) for column in zip(*transitions, strict=True))


def plain_estimates(learner, transitions):
    """q and its variance after all transitions, as loops over the definition."""
    known = set(range(S))
    if learner.known == "visited":
        known = {state for t in transitions for state in (t[0], t[3])}
    live = known - {t[3] for t in transitions if t[4]}
    q, variance = np.zeros((S, A)), np.zeros((S, A))
    for _ in range(learner.max_sweeps):
        v = q.max(axis=1)
        var_v = variance[np.arange(S), q.argmax(axis=1)]
        q_next, variance = np.zeros((S, A)), np.zeros((S, A))
        for s, a, s_next in itertools.product(live, range(A), known):
            p, var_p = plain_probability(learner, transitions, s, a, s_next, len(known))
            mean, var_mean = plain_reward(transitions, s, a, s_next)
            outcome = mean + learner.discount * v[s_next]
            w = var_mean + learner.discount**2 * var_v[s_next]
            q_next[s, a] += p * outcome
            variance[s, a] += p**2 * w + outcome**2 * var_p + w * var_p
        change, q = np.abs(q_next - q).max(), q_next
        if change < learner.tolerance:
            break
    return q, variance


def plain_probability(learner, transitions, s, a, s_next, num_known):
    visits = sum(t[:2] == (s, a) for t in transitions)
    if visits == 0:
        return 1 / num_known, 1 / 12
    total = visits + learner.smoothing * num_known
    p = (sum((*t[:2], t[3]) == (s, a, s_next) for t in transitions) + learner.smoothing) / total
    return p, p * (1 - p) / total


def plain_reward(transitions, s, a, s_next):
    seen = np.array([t[2] for t in transitions if (*t[:2], t[3]) == (s, a, s_next)])
    mean = seen.mean() if len(seen) else 0.0
    if len(seen) <= 1:
        return mean, 1.0
    return mean, max((seen**2).mean() - mean**2, 0) / (len(seen) - 1)


@pytest.mark.parametrize("known", ["all", "visited"])
@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_agrees_with_its_definition(known, smoothing, replay):
    learner = value_iteration(
        S, A, smoothing=smoothing, max_sweeps=3, known=known, tolerance=0.3, standard_errors=True
    )

    @settings(max_examples=15)
    @given(transitions=transition_lists)
    def check(transitions):
        with jax.enable_x64(True):
            table, _ = replay(learner, columns(transitions))
            estimates = [learner.estimates(table, s) for s in range(S)]
        q, variance = plain_estimates(learner, transitions)
        for s, (q_s, variance_s) in enumerate(zip(q, variance, strict=True)):
            np.testing.assert_allclose(estimates[s].q, q_s, atol=1e-9)
            np.testing.assert_allclose(estimates[s].q_stderr ** 2, variance_s, atol=1e-6, rtol=1e-6)
            greedy = estimates[s].q_stderr[np.argmax(estimates[s].q)]
            np.testing.assert_allclose(estimates[s].v_stderr, greedy)

    check()


def test_values_are_those_without_standard_errors(replay, random_transitions):
    transitions = random_transitions(S, A, 30)
    _, plain = replay(value_iteration(S, A, known="visited"), transitions)
    _, q = replay(value_iteration(S, A, known="visited", standard_errors=True), transitions)
    np.testing.assert_allclose(q, plain, rtol=1e-5, atol=1e-5)


def test_an_arm_pulled_n_times_has_the_standard_error_of_its_mean_reward():
    learner = value_iteration(1, 2, max_sweeps=1, standard_errors=True)
    table = learner.init()
    for payout in (1.0, 0.0, 0.0, 1.0, 1.0):
        table = learner.update(table, 0, 0, payout, 0, False)
    estimates = learner.estimates(table, 0)
    # sqrt(p (1 − p) / (n − 1)) of p = 0.6, n = 5. The other arm: p = 1 exactly known to be
    # uncertain by 1/12, W = 1: sqrt(1 + 0 + 1/12).
    np.testing.assert_allclose(estimates.q_stderr, [np.sqrt(0.24 / 4), np.sqrt(13 / 12)], rtol=1e-5)


def test_over_many_data_sets_a_mean_reward_errs_by_its_standard_error():
    """Monte Carlo: the mean squared standard error is the variance of Q over data sets."""
    n_sets, pulls = 20_000, 10
    payouts = np.random.default_rng(0).normal(2.0, 3.0, size=(n_sets, pulls)).astype(np.float32)
    learner = value_iteration(1, 1, max_sweeps=1, standard_errors=True)

    @jax.jit
    @jax.vmap
    def estimate(payouts):
        def pull(table, payout):
            return learner.update(table, 0, 0, payout, 0, False), None

        estimates = learner.estimates(jax.lax.scan(pull, learner.init(), payouts)[0], 0)
        return estimates.q[0], estimates.q_stderr[0]

    q, stderr = estimate(payouts)
    np.testing.assert_allclose(jnp.mean(stderr**2), np.var(q), rtol=0.03)  # 9 / 10
    np.testing.assert_allclose(np.var(q), 0.9, rtol=0.03)


def test_one_backup_spreads_as_a_monte_carlo_estimate_does(random_transitions):
    """P̂, R̂ and v drawn independently about their means: q spreads by the propagated variance."""
    model = empty_model(S, A, all_known=True, keep_squares=True)
    for transition in zip(*random_transitions(S + 1, A, 60), strict=True):
        if transition[3] < S:
            model = record(model, *transition[:4], False)
    assert (model.visits > 0).all()
    discount, smoothing, n_draws = 0.9, 0.1, 100_000
    v, var_v = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.3, 1.0, 0.1, 2.0])
    predicted = variance_backup(model, discount, smoothing)(jnp.asarray(v), jnp.asarray(var_v))

    rng = np.random.default_rng(1)
    counts = np.asarray(model.counts, float)  # [S', A, S]
    total = counts.sum(axis=0) + smoothing * S
    p = (counts + smoothing) / total
    mean = np.asarray(model.reward_sums) / np.maximum(counts, 1)
    spread = np.asarray(model.reward_squares) / np.maximum(counts, 1) - mean**2
    var_mean = np.where(counts <= 1, 1.0, np.maximum(spread, 0) / np.maximum(counts - 1, 1))
    q = np.zeros((n_draws, A, S))
    for s_next in range(S):  # of which every term is independent
        shape = (n_draws, A, S)
        p_drawn = rng.normal(p[s_next], np.sqrt(p * (1 - p) / total)[s_next], shape)
        r_drawn = rng.normal(mean[s_next], np.sqrt(var_mean[s_next]), shape)
        v_drawn = rng.normal(v[s_next], np.sqrt(var_v[s_next]), shape)
        q += p_drawn * (r_drawn + discount * v_drawn)
    np.testing.assert_allclose(predicted, q.var(axis=0), rtol=0.03)
    backup = bellman_backup(model, discount, smoothing)(jnp.asarray(v))
    np.testing.assert_allclose(backup, q.mean(axis=0), atol=0.05)


def test_absorbing_and_unknown_states_have_none():
    learner = value_iteration(4, 2, known="visited", standard_errors=True)
    table = learner.update(learner.init(), 0, 0, 1.0, 1, True)
    for s in (1, 2, 3):
        estimates = learner.estimates(table, s)
        assert (estimates.q_stderr == 0).all()
        assert estimates.v_stderr == 0
    assert (learner.estimates(table, 0).q_stderr > 0).all()


def test_they_shrink_with_data():
    learner = value_iteration(2, 1, standard_errors=True)
    table, errors, update = learner.init(), [], jax.jit(learner.update)
    for t in range(60):
        table = update(table, t % 2, 0, float(t % 3), (t // 2) % 2, False)
        errors.append(float(learner.estimates(table, 0).q_stderr[0]))
    assert errors[-1] < errors[20] < errors[5]


def test_sweeps_from_the_last_q_and_standard_errors_exclude_each_other():
    with pytest.raises(ValueError, match="standard_errors are planned from 0"):
        value_iteration(2, 2, standard_errors=True, sweeps_per_step=2)
