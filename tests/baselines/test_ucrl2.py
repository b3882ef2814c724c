import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from rl3jax import evaluate_agent, make_env
from rl3jax.baselines.beb import BebAgent
from rl3jax.baselines.episodic import Experience
from rl3jax.baselines.ucrl2 import Ucrl2Agent, confidence, optimistic_mean

# --- the best distribution in an L1 ball ----------------------------------------------------------


@pytest.mark.parametrize(
    ("radius", "mean"),
    [
        (0.0, 1.7),  # 0.5 · 1 + 0.3 · 2 + 0.2 · 3
        (0.2, 1.9),  # 0.1 from the worst to the best
        (1.0, 2.7),  # 0.5 from the worst to the best
        (1.4, 2.9),  # and 0.2 of the second to the best
        (1.6, 3.0),
        (9.0, 3.0),
    ],
)
def test_optimistic_mean_by_hand(radius, mean):
    probs = jnp.array([0.2, 0.5, 0.3])
    best = optimistic_mean(probs, jnp.array([3.0, 1.0, 2.0]), jnp.asarray(radius))
    np.testing.assert_allclose(best, mean, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_optimistic_mean_solves_the_linear_programme(seed):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(6), size=(6, 2))
    probs[0, 0] = np.eye(6)[2]
    v = np.round(rng.normal(size=6), 1 if seed else 0)  # the first with ties
    radius = rng.uniform(0, 2.2, size=(6, 2))
    best = optimistic_mean(*(jnp.asarray(x, float) for x in (probs, v, radius)))
    for s, a in np.ndindex(6, 2):
        np.testing.assert_allclose(best[s, a], by_lp(probs[s, a], v, radius[s, a]), atol=1e-5)


def by_lp(probs, v, radius):
    """Over (p, u): max p · v with u ≥ |p − probs|, Σ u ≤ radius, p ≥ 0, Σ p = 1."""
    eye, zero, one = np.eye(len(v)), np.zeros(len(v)), np.ones(len(v))
    solution = linprog(
        -np.concatenate([v, zero]),
        A_ub=np.block([[eye, -eye], [-eye, -eye], [zero[None], one[None]]]),
        b_ub=np.concatenate([probs, -probs, [radius]]),
        A_eq=np.concatenate([one, zero])[None],
        b_eq=[1.0],
    )
    return -solution.fun


# --- the agent ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def experience():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, size=(3, 2, 3))
    rewards = rng.normal(1, 1, size=(3, 2)) * counts.sum(axis=-1)
    return Experience(jnp.asarray(counts, jnp.int32), jnp.asarray(rewards, float))


def agent(scale):
    return Ucrl2Agent(num_states=3, num_actions=2, task_horizon=4, scale=scale)


def test_confidence_by_hand():
    """S = 3, A = 2, n(0, 1) = 4, n(2, 0) = 1, so t = 6 and, with δ = 0.05, 2 A t / δ = 480."""
    visits = jnp.zeros((3, 2), jnp.int32).at[0, 1].set(4).at[2, 0].set(1)
    width = confidence(visits)
    for pair, n in (((0, 1), 4), ((2, 0), 1), ((1, 1), 1)):  # never visited is as visited once
        reward = np.sqrt(7 * np.log(3 * 480) / (2 * n))
        np.testing.assert_allclose(width.reward[pair], reward, rtol=1e-5)
        transition = np.sqrt(14 * 3 * np.log(480) / n)
        np.testing.assert_allclose(width.transition[pair], transition, rtol=1e-5)


def test_the_last_step_is_the_upper_bound_of_the_reward(experience):
    q = agent(0.2).q_values(experience, jax.random.key(0))
    mean = (1 + experience.reward_sum) / (1 + experience.visits)
    upper = mean + 0.2 * confidence(experience.visits).reward
    np.testing.assert_allclose(q[-1], upper, rtol=1e-6)


def test_in_theory_almost_anything_is_plausible_at_first(experience):
    """Then every next state is the best one: the q of one more step is up by the best v."""
    q = agent(1.0).q_values(experience, jax.random.key(0))
    best_next = q[1:].max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(q[:-1], q[-1:] + best_next, rtol=1e-5)


def test_without_confidence_sets_it_is_certainty_equivalence(experience):
    greedy = BebAgent(num_states=3, num_actions=2, task_horizon=4, beta=0.0)
    np.testing.assert_allclose(
        agent(0.0).q_values(experience, jax.random.key(0)),
        greedy.q_values(experience, jax.random.key(0)),
        rtol=1e-5,
    )


def test_q_grows_with_the_confidence_sets(experience):
    qs = [agent(scale).q_values(experience, jax.random.key(0)) for scale in (0.0, 0.01, 0.1, 1.0)]
    for smaller, larger in itertools.pairwise(qs):
        assert (larger > smaller).all()


def test_scores_at_least_as_published():
    """RL², Duan et al.: 146.6 with a tuned constant."""
    env = make_env("mdp")
    result = evaluate_agent(Ucrl2Agent.for_env(env, scale=0.02), env, 100, 1000, jax.random.key(1))
    assert 146.6 < result.mean < 156
