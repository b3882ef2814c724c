"""What holds of every distribution of actions: ours, and one that is written here."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnax.environments import spaces

from rl3jax import ConfigError
from rl3jax.policy import ActionDistribution, Categorical, distribution_over


@dataclass(frozen=True)
class Gaussian(ActionDistribution):
    """Independent normal distributions of D numbers; parameters are means and log-deviations."""

    size: int

    @property
    def num_params(self):
        return 2 * self.size

    @property
    def shown_size(self):
        return self.size

    def no_action(self):
        return jnp.zeros(self.size)

    def show(self, action):
        return action

    def sample(self, params, key):
        mean, log_std = jnp.split(params, 2, axis=-1)
        return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)

    def mode(self, params):
        return params[..., : self.size]

    def log_prob(self, params, action):
        mean, log_std = jnp.split(params, 2, axis=-1)
        z = (action - mean) * jnp.exp(-log_std)
        return -0.5 * (z**2 + 2 * log_std + math.log(2 * math.pi)).sum(axis=-1)

    def entropy(self, params):
        return (params[..., self.size :] + 0.5 * math.log(2 * math.pi * math.e)).sum(axis=-1)

    def kl(self, params, other):
        mean, log_std = jnp.split(params, 2, axis=-1)
        other_mean, other_log_std = jnp.split(other, 2, axis=-1)
        variances = jnp.exp(2 * log_std) + (mean - other_mean) ** 2
        kl = other_log_std - log_std + 0.5 * (variances * jnp.exp(-2 * other_log_std) - 1)
        return kl.sum(axis=-1)


DISTRIBUTIONS = {"categorical": Categorical(4), "gaussian": Gaussian(2)}
SAMPLES = 20_000


@pytest.fixture(params=list(DISTRIBUTIONS.values()), ids=list(DISTRIBUTIONS))
def policy(request):
    return request.param


def make_params(policy, *batch):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(*batch, policy.num_params)), float)


def test_it_is_static(policy):
    assert policy == type(policy)(**vars(policy))
    assert hash(policy) == hash(type(policy)(**vars(policy)))


def test_batches_of_any_shape_are_distributions_each_for_itself(policy):
    params, other = make_params(policy, 2, 3), -make_params(policy, 2, 3)
    actions = policy.sample(params, jax.random.key(0))
    assert actions.shape[:2] == (2, 3)
    assert policy.mode(params).dtype == actions.dtype == policy.no_action().dtype
    for quantity, args in (
        (policy.mode, (params,)),
        (policy.log_prob, (params, actions)),
        (policy.entropy, (params,)),
        (policy.kl, (params, other)),
    ):
        one_by_one = jax.vmap(jax.vmap(quantity))(*args)
        np.testing.assert_allclose(quantity(*args), one_by_one, rtol=1e-5, atol=1e-6)


def test_what_is_shown_of_actions(policy):
    none = policy.show(policy.no_action())
    np.testing.assert_array_equal(none, np.zeros(policy.shown_size))
    shown = policy.show(policy.sample(make_params(policy), jax.random.key(0)))
    assert shown.shape == none.shape
    assert jnp.any(shown != 0)


def test_samples_agree_with_the_exact_quantities(policy):
    """Entropy is −E log p, KL is E (log p − log q), and the mode is at least as likely as any."""
    params, other = make_params(policy, 2)
    keys = jax.random.split(jax.random.key(1), SAMPLES)
    actions = jax.vmap(lambda key: policy.sample(params, key))(keys)
    log_prob = jax.vmap(policy.log_prob, in_axes=(None, 0))(params, actions)
    log_other = jax.vmap(policy.log_prob, in_axes=(None, 0))(other, actions)
    for exact, draws in (
        (policy.entropy(params), -log_prob),
        (policy.kl(params, other), log_prob - log_other),
    ):
        np.testing.assert_allclose(draws.mean(), exact, atol=4 * draws.std() / SAMPLES**0.5)
    assert policy.log_prob(params, policy.mode(params)) >= log_prob.max() - 1e-6


def test_kl_is_zero_of_itself_alone(policy):
    params, other = make_params(policy, 2)
    np.testing.assert_allclose(policy.kl(params, params), 0, atol=1e-6)
    assert policy.kl(params, other) > 0
    assert not np.isclose(policy.kl(params, other), policy.kl(other, params))


def test_probabilities_sum_to_one():
    params = make_params(Categorical(4))
    log_probs = jax.vmap(Categorical(4).log_prob, in_axes=(None, 0))(params, jnp.arange(4))
    np.testing.assert_allclose(jnp.exp(log_probs).sum(), 1, rtol=1e-6)


# --- categorical by hand ------------------------------------------------------------------------

LOGITS = jnp.log(jnp.array([0.1, 0.6, 0.3])) + 7.0  # a constant in all logits changes nothing


def test_categorical_by_hand():
    policy = Categorical(3)
    assert (policy.num_params, policy.shown_size, policy.no_action()) == (3, 3, -1)
    np.testing.assert_allclose(policy.log_prob(LOGITS, jnp.int32(2)), np.log(0.3), rtol=1e-5)
    expected = scipy.stats.entropy([0.1, 0.6, 0.3])
    np.testing.assert_allclose(policy.entropy(LOGITS), expected, rtol=1e-5)
    np.testing.assert_allclose(policy.kl(LOGITS, jnp.zeros(3)), np.log(3) - expected, rtol=1e-5)
    np.testing.assert_array_equal(policy.show(jnp.int32(1)), [0, 1, 0])
    assert policy.mode(LOGITS) == 1
    assert policy.mode(jnp.array([0.0, 2.0, 2.0])) == 1  # the first of equals


def test_categorical_samples_as_often_as_probable_and_never_the_impossible():
    keys = jax.random.split(jax.random.key(2), SAMPLES)
    logits = jnp.append(LOGITS, -jnp.inf)
    actions = jax.vmap(lambda key: Categorical(4).sample(logits, key))(keys)
    assert actions.dtype == jnp.int32
    counts = np.bincount(actions, minlength=4)
    assert counts[3] == 0
    assert scipy.stats.chisquare(counts[:3], np.array([0.1, 0.6, 0.3]) * SAMPLES).pvalue > 1e-3


def test_an_action_that_is_impossible_leaves_entropy_and_kl_finite():
    logits = jnp.append(LOGITS, -jnp.inf)
    expected = scipy.stats.entropy([0.1, 0.6, 0.3])
    np.testing.assert_allclose(Categorical(4).entropy(logits), expected, rtol=1e-5)
    np.testing.assert_allclose(Categorical(4).kl(logits, logits), 0, atol=1e-6)


# --- by space -----------------------------------------------------------------------------------


def test_a_space_has_its_distribution():
    assert distribution_over(spaces.Discrete(5)) == Categorical(5)
    with pytest.raises(ConfigError, match=r"actions must be spaces\.Discrete, not Dict"):
        distribution_over(spaces.Dict({}))
    with pytest.raises(ConfigError, match="num_actions must be a whole number of at least 1"):
        Categorical(0)
