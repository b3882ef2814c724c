import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import evaluate_agent, make_env
from rl3jax.baselines.beb import BebAgent
from rl3jax.baselines.episodic import (
    Experience,
    expected_reward,
    expected_transition_probs,
)
from rl3jax.baselines.optimal import finite_horizon_plan
from rl3jax.envs import TabularModel


@pytest.fixture(scope="module")
def experience():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, size=(3, 2, 3))
    rewards = rng.normal(1, 1, size=(3, 2)) * counts.sum(axis=-1)
    return Experience(jnp.asarray(counts, jnp.int32), jnp.asarray(rewards, float))


def agent(beta, task_horizon=4):
    return BebAgent(num_states=3, num_actions=2, task_horizon=task_horizon, beta=beta)


def test_the_bonus_by_hand():
    counts = jnp.zeros((3, 2, 3), jnp.int32).at[0, 1, 2].set(4)
    experience = Experience(counts, jnp.zeros((3, 2)).at[0, 1].set(6.0))
    q = agent(beta=5.0, task_horizon=2).q_values(experience, jax.random.key(0))
    # E[R] + β / (1 + n): 7/5 + 5/5 after four visits, 1 + 5 after none.
    np.testing.assert_allclose(q[1], [[6, 2.4], [6, 6], [6, 6]], rtol=1e-6)
    np.testing.assert_allclose(q[0], q[1] + 6, rtol=1e-6)


def test_without_bonus_it_is_certainty_equivalence(experience):
    q = agent(beta=0.0).q_values(experience, jax.random.key(0))
    probs, reward = expected_transition_probs(experience), expected_reward(experience, 1.0)
    model = TabularModel(probs, reward, start=jnp.eye(3)[0], terminal=jnp.zeros(3, bool))
    value, actions = finite_horizon_plan(model, 4, 4)
    np.testing.assert_allclose(q[0, 0].max(), value, rtol=1e-6)
    for e in range(4):
        np.testing.assert_array_equal(q[e].argmax(axis=-1), actions[e, e])


def test_q_rises_with_the_bonus_at_most_by_its_largest_sum(experience):
    q_0, q_1 = (agent(beta).q_values(experience, jax.random.key(0)) for beta in (0.0, 0.5))
    steps_left = 4 - jnp.arange(4)[:, None, None]
    assert (q_1 > q_0).all()
    assert (q_1 <= q_0 + 0.5 * steps_left + 1e-5).all()


def test_a_grid_of_constants_is_one_batched_agent(experience):
    betas = jnp.array([0.0, 0.5, 2.0])
    together = jax.vmap(lambda beta: agent(beta).q_values(experience, jax.random.key(0)))(betas)
    for beta, q in zip(betas, together, strict=True):
        alone = agent(beta).q_values(experience, jax.random.key(0))
        np.testing.assert_allclose(q, alone, rtol=1e-6)


def test_scores_as_published():
    """RL², Duan et al.: 150.2 with a tuned constant; too much exploration costs dearly."""
    env = make_env("mdp")
    tuned, too_much = (
        evaluate_agent(BebAgent.for_env(env, beta=beta), env, 100, 1000, jax.random.key(1))
        for beta in (0.35, 3.0)
    )
    assert abs(tuned.mean - 150.2) < 3 * np.hypot(tuned.stderr, 0.9)
    assert too_much.mean < 130
