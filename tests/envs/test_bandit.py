import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rl3jax import Config
from rl3jax.envs import Bandit, EnvState, describe_env
from rl3jax.envs.bandit import BanditTask


def success_probs(env, n_tasks=2000):
    keys = jax.random.split(jax.random.key(0), n_tasks)
    return np.asarray(jax.vmap(env.sample_task)(keys).success_prob)


def test_success_probabilities_are_uniform():
    probs = success_probs(Bandit(num_arms=5))
    assert probs.shape == (2000, 5)
    assert scipy.stats.kstest(probs.ravel(), "uniform").pvalue > 1e-3


def test_arms_are_independent():
    correlation = np.corrcoef(success_probs(Bandit(num_arms=3)), rowvar=False)
    assert np.abs(correlation - np.eye(3)).max() < 0.1


def test_ood_success_probabilities_are_clipped_normals():
    probs = success_probs(Bandit(num_arms=5, variation="ood")).ravel()
    outside = scipy.stats.norm.sf(1)  # 0 and 1 are one standard deviation from the mean
    for bound in (0, 1):
        assert scipy.stats.binomtest(int((probs == bound).sum()), len(probs), outside).pvalue > 1e-3
    inside = probs[(probs > 0) & (probs < 1)]
    expected = scipy.stats.truncnorm(-1, 1, loc=0.5, scale=0.5)
    assert scipy.stats.kstest(inside, expected.cdf).pvalue > 1e-3


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_certain_arms_are_certain(prob):
    env, task = Bandit(num_arms=2), BanditTask(jnp.array([prob, 1 - prob]))
    _, state = env.reset(jax.random.key(1), task)
    keys = jax.random.split(jax.random.key(2), 200)
    rewards = jax.vmap(env.step, (0, None, None, None))(keys, state, jnp.int32(0), task)[2]
    assert (rewards == prob).all()


def test_every_pull_ends_an_episode_by_truncation():
    env = Bandit()
    key_reset, key_step = jax.random.split(jax.random.key(3))
    obs, state = env.reset(key_reset)
    assert obs.shape == (0,)
    _, state, reward, terminated, truncated, _ = env.step(key_step, state, jnp.int32(1))
    assert reward in (0, 1)
    assert truncated
    assert not terminated
    assert state == EnvState(time=jnp.int32(0), index=jnp.int32(0))


def test_the_model_of_a_bandit():
    model = Bandit(num_arms=2).tabular(BanditTask(jnp.array([0.25, 0.75])))
    np.testing.assert_array_equal(model.transition_probs, [[[1], [1]]])
    np.testing.assert_array_equal(model.mean_reward, [[0.25, 0.75]])
    np.testing.assert_array_equal(model.start, [1])
    np.testing.assert_array_equal(model.terminal, [False])


@pytest.mark.parametrize("num_arms", [0, -1, 2.5, "5", True])
def test_a_bandit_needs_a_whole_number_of_arms(num_arms, unchecked):
    with pytest.raises(ValueError, match=r"num_arms must be (at least 1|a whole number)") as error:
        unchecked(Bandit)(num_arms=num_arms)
    assert repr(num_arms) in str(error.value)


@pytest.mark.parametrize(
    ("variation", "num_arms", "horizon"),
    [("iid", 5, 100), ("popgym-easy", 10, 200), ("popgym-medium", 20, 400),
     ("popgym-hard", 30, 600)],
)  # fmt: skip
def test_a_variation_has_its_arms_and_its_budget(variation, num_arms, horizon):
    assert Bandit(variation=variation) == Bandit(num_arms, variation)
    assert Bandit(num_arms=3, variation=variation).num_actions == 3
    config = Config(env="bandit", variation=variation).resolve()
    assert (config.horizon, config.num_arms) == (horizon, None)
    assert describe_env(Bandit(variation=variation)).get("num_arms") is None
    probs = success_probs(Bandit(variation=variation), n_tasks=200)
    assert probs.shape == (200, num_arms)
    assert scipy.stats.kstest(probs.ravel(), "uniform").pvalue > 1e-3


def test_an_unknown_variation_is_refused():
    with pytest.raises(ValueError, match=r"unknown variation 'odd'; did you mean 'ood'\?.*iid"):
        Bandit(variation="odd")
