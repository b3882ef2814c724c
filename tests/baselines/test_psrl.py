import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rl3jax import ConfigError, evaluate_agent, make_env
from rl3jax.baselines.psrl import (
    OptimisticPsrlAgent,
    PsrlAgent,
    sample_reward,
    sample_transition_probs,
)

DRAWS = 20_000
SEEN = [2] * 4 + [0]  # next states of (0, 1)


@pytest.fixture(scope="module")
def experience():
    """Of 3 states and 2 actions: (0, 1) five times, with rewards 1, …, 5; room for 8."""
    agent = PsrlAgent(num_states=3, num_actions=2, task_horizon=4).for_horizon(8)
    seen = agent.no_experience()
    for i, s_next in enumerate(SEEN):
        seen = seen.add(jnp.int32(0), jnp.int32(1), jnp.asarray(i + 1.0), jnp.int32(s_next))
    return seen


def test_the_log_by_hand(experience):
    np.testing.assert_array_equal(experience.log, [5, 5, 5, 5, 3, 18, 18, 18])  # 18 = 3 · 2 · 3
    np.testing.assert_array_equal(experience.counts[0, 1], [1, 0, 4])
    assert experience.t == 5


@pytest.mark.parametrize("prior_mean", [0.0, 1.0])
def test_sampled_rewards_have_the_posterior_distribution(experience, prior_mean):
    keys = jax.random.split(jax.random.key(0), DRAWS)
    draws = jax.vmap(sample_reward, (0, None, None))(keys, experience, prior_mean)
    known = scipy.stats.norm((prior_mean + 15) / 6, np.sqrt(1 / 6))
    assert scipy.stats.kstest(draws[:, 0, 1], known.cdf).pvalue > 1e-3
    assert scipy.stats.kstest(draws[:, 2, 0], scipy.stats.norm(prior_mean, 1).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(draws[:, 0, 1], draws[:, 2, 0])[0, 1]) < 4 / np.sqrt(DRAWS)


def test_sampled_transitions_have_the_posterior_distribution(experience):
    keys = jax.random.split(jax.random.key(1), DRAWS)
    draws = np.asarray(jax.vmap(sample_transition_probs, (0, None))(keys, experience), float)
    np.testing.assert_allclose(draws.sum(axis=-1), 1, rtol=1e-5)
    for s, a, concentration in ((0, 1, (2, 1, 5)), (1, 0, (1, 1, 1))):
        total = sum(concentration)
        for s_next, c in enumerate(concentration):  # a Dirichlet's marginals are beta
            marginal = scipy.stats.beta(c, total - c)
            assert scipy.stats.kstest(draws[:, s, a, s_next], marginal.cdf).pvalue > 1e-3
        covariance = scipy.stats.dirichlet(concentration).cov()
        np.testing.assert_allclose(np.cov(draws[:, s, a].T), covariance, atol=2e-3)
    assert abs(np.corrcoef(draws[:, 0, 1, 2], draws[:, 0, 0, 2])[0, 1]) < 4 / np.sqrt(DRAWS)


def test_optimism_is_the_upper_envelope_of_samples(experience):
    plain = PsrlAgent(num_states=3, num_actions=2, task_horizon=4)
    optimistic = OptimisticPsrlAgent(num_states=3, num_actions=2, task_horizon=4, num_samples=3)
    q = optimistic.q_values(experience, jax.random.key(2))
    samples = [plain.q_values(experience, k) for k in jax.random.split(jax.random.key(2), 3)]
    np.testing.assert_allclose(q, np.max(samples, axis=0), rtol=1e-5)
    assert len({float(sample[0, 0, 0]) for sample in samples}) == 3


def test_needs_to_know_its_horizon():
    with pytest.raises(ConfigError, match="PsrlAgent needs to know its horizon"):
        PsrlAgent(num_states=3, num_actions=2, task_horizon=4).init(jnp.int32(0))


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("horizon", "n_tasks", "prior_mean", "known", "known_stderr"),
    [
        (100, 2000, 0.0, 138.1, 0.9),  # RL², Duan et al.: the score of a prior mean of 0
        (100, 2000, 1.0, 133.8, 0.2),  # a simulation in NumPy, 20 000 tasks
        (500, 500, 1.0, 903.3, 1.3),  # likewise, 8 000 tasks; Duan et al. have 904.4
    ],
)
def test_scores_as_known(horizon, n_tasks, prior_mean, known, known_stderr):
    env = make_env("mdp")
    agent = PsrlAgent.for_env(env, prior_mean=prior_mean)
    result = evaluate_agent(agent, env, horizon, n_tasks, jax.random.key(3))
    assert abs(result.mean - known) < 2 * np.hypot(result.stderr, known_stderr)
