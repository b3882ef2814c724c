"""Thompson sampling and UCB1: counts, rules by hand, frequencies, published scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from rl3jax import evaluate_agent, make_env
from rl3jax.baselines.bandit import ArmCounts, ThompsonAgent, Ucb1Agent
from rl3jax.envs.bandit import BanditTask
from rl3jax.rollout import rollout

UCB1_CONSTANT = 0.3  # the best at horizons 100 and 500, on other tasks


def counts(successes, pulls):
    return ArmCounts(jnp.array(successes, jnp.int32), jnp.array(pulls, jnp.int32))


def frequencies(agent, carry, n=20_000):
    """How often each arm is pulled with these counts."""
    act = jax.jit(jax.vmap(agent.act, in_axes=(None, 0), out_axes=(0, None)))
    actions, _ = act(carry, jax.random.split(jax.random.key(0), n))
    assert actions.dtype == jnp.int32
    return np.bincount(actions, minlength=agent.num_arms) / n


@pytest.mark.parametrize("agent", [ThompsonAgent(3), Ucb1Agent(3)])
def test_pulls_and_successes_are_counted(agent):
    carry = agent.init(jnp.int32(0))
    no = jnp.bool_(False)
    for arm, reward in [(0, 1.0), (2, 0.0), (0, 0.0), (0, 1.0)]:
        state = jnp.int32(0)
        carry = agent.observe(carry, jnp.int32(arm), jnp.array(reward), state, no, no, state)
    np.testing.assert_array_equal(carry.successes, [2, 0, 0])
    np.testing.assert_array_equal(carry.pulls, [3, 0, 1])
    np.testing.assert_array_equal(carry.failures, [1, 0, 1])


def test_bounds_by_hand():
    """means 1/2 and 1/3 after 5 pulls; √(2 ln 5 / n) is 1.2686 for n = 2 and 1.0358 for n = 3."""
    bounds = Ucb1Agent(2).scores(counts([1, 1], [2, 3]), jax.random.key(0))
    np.testing.assert_allclose(bounds, [1.76864, 1.36917], atol=1e-5)


def test_the_constant_decides_how_much_is_explored():
    carry = counts([3, 1], [4, 2])  # means 3/4 and 1/2
    best = jax.vmap(lambda c: Ucb1Agent(2, c).act(carry, jax.random.key(0))[0])
    # equal bounds where c √(ln 6) (1/√2 − 1/2) = 1/4, at c = 0.9018
    np.testing.assert_array_equal(best(jnp.array([0.0, 0.89, 0.91])), [0, 0, 1])


def test_a_batch_of_constants_is_that_of_each_alone():
    env = make_env("bandit")
    task = env.sample_task(jax.random.key(1))
    constants = np.array([0.0, 0.2, 1.0])

    @jax.jit
    def actions(c):
        return rollout(Ucb1Agent(5, c), env, task, 30, jax.random.key(2)).action

    batch = jax.vmap(actions)(jnp.asarray(constants))
    alone = [actions(c) for c in constants]
    np.testing.assert_array_equal(batch, alone)
    assert len({tuple(row) for row in np.asarray(batch)}) == 3


def test_ucb1_tries_every_arm_first_in_any_order():
    env = make_env("bandit", num_arms=4)
    task = env.sample_task(jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), 2000)
    run = jax.jit(jax.vmap(lambda key: rollout(Ucb1Agent(4), env, task, 4, key).action))
    orders = np.asarray(run(keys))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.broadcast_to(range(4), (2000, 4)))
    share = np.mean(orders[:, :, None] == np.arange(4), axis=0)  # [step, arm]
    np.testing.assert_allclose(share, 0.25, atol=0.04)  # 4 standard errors


def test_ties_are_broken_evenly():
    share = frequencies(Ucb1Agent(3), counts([2, 1, 2], [3, 3, 3]))
    np.testing.assert_allclose(share, [0.5, 0.0, 0.5], atol=0.015)


@pytest.mark.parametrize(
    ("successes", "pulls"), [((0, 0), (0, 0)), ((3, 1), (4, 1)), ((0, 8), (1, 20))]
)
def test_thompson_pulls_an_arm_as_often_as_it_is_the_best(successes, pulls):
    a, b = [beta(1 + s, 1 + n - s) for s, n in zip(successes, pulls, strict=True)]
    first_is_best, _ = quad(lambda p: a.pdf(p) * b.cdf(p), 0.0, 1.0)
    share = frequencies(ThompsonAgent(2), counts(successes, pulls))
    assert share[0] == pytest.approx(first_is_best, abs=0.015)  # 4 standard errors


@pytest.mark.parametrize("agent", [ThompsonAgent(2), Ucb1Agent(2, UCB1_CONSTANT)])
def test_a_clear_case_is_soon_settled(agent):
    """One arm always pays, the other never: hardly a pull of 100 is wasted."""
    env = make_env("bandit", num_arms=2)
    task = BanditTask(success_prob=jnp.array([0.0, 1.0]))
    run = jax.jit(jax.vmap(lambda key: rollout(agent, env, task, 100, key).reward.sum()))
    assert run(jax.random.split(jax.random.key(3), 200)).mean() > 96


@pytest.mark.parametrize(
    ("agent", "horizon", "n_tasks", "published"),
    [
        (ThompsonAgent(5), 100, 400, 74.7),
        (Ucb1Agent(5, UCB1_CONSTANT), 100, 2000, 78.2),
        (Ucb1Agent(5, UCB1_CONSTANT), 500, 500, 405.1),
    ],
)
def test_scores_are_the_published_ones(agent, horizon, n_tasks, published):
    """RL³ (RLC 2025) on 1000 tasks, whose standard error adds to ours."""
    result = evaluate_agent(agent, make_env("bandit"), horizon, n_tasks, jax.random.key(4))
    published_stderr = result.returns.std() / np.sqrt(1000)
    assert abs(result.mean - published) < 2 * np.hypot(result.stderr, published_stderr)
