"""What holds of every distribution of actions."""

import itertools
from collections import OrderedDict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnax.environments import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl3jax import ConfigError
from rl3jax.object_level import VALUE, Feature
from rl3jax.policy import Categorical, Gaussian, TanhGaussian, distribution_over
from rl3jax.policy.distributions import log_slope_of_tanh

BOX = (-1.0, 0.0), (3.0, 0.5)
ANCHORS = tuple(itertools.product(*((a, (a + b) / 2, b) for a, b in zip(*BOX, strict=True))))
GAUSSIAN, SQUASHED = Gaussian(*BOX, ANCHORS), TanhGaussian(*BOX, ANCHORS)
DISTRIBUTIONS = {"categorical": Categorical(4), "gaussian": GAUSSIAN, "squashed": SQUASHED}
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
    played = policy.played(policy.sample(make_params(policy), jax.random.key(0)))
    shown = policy.show(played)
    assert shown.shape == none.shape
    assert played.dtype == policy.no_action().dtype
    assert jnp.any(shown != 0)


def test_samples_agree_with_the_exact_quantities(policy):
    """Entropy is −E log p, KL is E (log p − log q), and the mode is at least as likely as any."""
    params, other = make_params(policy, 2)
    keys = jax.random.split(jax.random.key(1), SAMPLES)
    actions = jax.vmap(lambda key: policy.sample(params, key))(keys)
    log_prob = jax.vmap(policy.log_prob, in_axes=(None, 0))(params, actions)
    log_other = jax.vmap(policy.log_prob, in_axes=(None, 0))(other, actions)
    slope = log_slope_of_tanh(actions).sum(axis=-1) if policy is SQUASHED else 0.0
    for exact, draws in (
        (policy.entropy(params), slope - log_prob),
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


# --- Gaussians by hand --------------------------------------------------------------------------


def test_gaussians_are_those_of_their_mean_and_deviation():
    mean, std = np.array([0.3, -0.2]), np.exp([0.0, 1.0])
    params = jnp.array([*mean, 0.0, 100.0])  # 0 stands for a deviation of 1, 100 for the most
    exact = scipy.stats.norm(mean, std)
    u = jnp.array([0.5, 2.0])
    for policy in (GAUSSIAN, SQUASHED):
        np.testing.assert_allclose(policy.log_prob(params, u), exact.logpdf(u).sum(), rtol=1e-5)
        np.testing.assert_array_equal(policy.mode(params), params[:2])
    np.testing.assert_allclose(GAUSSIAN.entropy(params), exact.entropy().sum(), rtol=1e-5)
    kl = 0.5 * ((std**2 + (mean - 1) ** 2).sum() - 2 - 2 * np.log(std).sum())
    np.testing.assert_allclose(GAUSSIAN.kl(params, jnp.array([1.0, 1.0, 0.0, 0.0])), kl, rtol=1e-4)


def test_actions_are_played_in_the_box_and_shown_in_units_of_it():
    u = jnp.array([-0.5, 7.0])
    np.testing.assert_allclose(GAUSSIAN.played(u), [0.0, 0.5])
    np.testing.assert_allclose(GAUSSIAN.show(GAUSSIAN.played(u)), [-0.5, 1.0])
    np.testing.assert_allclose(SQUASHED.played(u), [1 - 2 * np.tanh(0.5), 0.5], rtol=1e-5)
    np.testing.assert_allclose(SQUASHED.show(SQUASHED.played(u)), np.tanh(u), rtol=1e-5)


def test_an_action_counts_for_its_nearest_anchor():
    assert GAUSSIAN.num_actions == 9
    for i, anchor in enumerate(ANCHORS):
        nearby = jnp.asarray(anchor) + jnp.array([0.9, 0.1])  # in units of the box: .45 and .4
        assert GAUSSIAN.index(jnp.clip(nearby, *map(jnp.asarray, BOX))) == i
    features = OrderedDict(advantages=Feature(-((jnp.arange(9.0) - 5) ** 2), VALUE))
    assert list(GAUSSIAN.with_actions(features)) == ["advantages", "best_action"]
    best = GAUSSIAN.with_actions(features)["best_action"]
    np.testing.assert_allclose(best.numbers, [0.0, 1.0])  # of anchor 5: (1, 0.5)
    assert Categorical(9).with_actions(features) is features


@partial(jax.jit, static_argnums=0)
def all_of(policy, params, key):
    """A draw, as it is played and shown, and every quantity with its gradient."""
    u = policy.sample(params, key)
    quantities = (
        lambda x: policy.log_prob(x, u),
        policy.entropy,
        lambda x: policy.kl(jnp.zeros(4), x),
    )
    played = policy.played(u)
    return played, policy.show(played), [jax.value_and_grad(q)(params) for q in quantities]


@settings(max_examples=60)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4), st.integers(0, 2**31))
def test_nothing_of_a_gaussian_is_ever_infinite(params, seed):
    """Nor any gradient, wherever the parameters lead: to the box's ends, or far beyond."""
    params = jnp.array(params)
    for policy in (GAUSSIAN, SQUASHED):
        played, *others = all_of(policy, params, jax.random.key(seed))
        assert ((played >= jnp.array(BOX[0])) & (played <= jnp.array(BOX[1]))).all()
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(others))


# --- by space -----------------------------------------------------------------------------------


def test_a_space_has_its_distribution():
    assert distribution_over(spaces.Discrete(5)) == Categorical(5)
    box, anchors = spaces.Box(-1.0, jnp.array([1.0, 2.0]), (2,)), np.zeros((1, 2))
    wanted = (-1.0, -1.0), (1.0, 2.0), ((0.0, 0.0),)
    assert distribution_over(box, anchors) == Gaussian(*wanted)
    squashed = distribution_over(box, anchors, squashed=True)
    assert squashed == TanhGaussian(*wanted)
    assert squashed != Gaussian(*wanted)
    with pytest.raises(ConfigError, match=r"Discrete or a spaces\.Box of vectors, not Dict"):
        distribution_over(spaces.Dict({}))
    with pytest.raises(ConfigError, match="must lie in a box of finite low < high"):
        distribution_over(spaces.Box(-1.0, jnp.inf, (1,)), np.zeros((1, 1)))
    with pytest.raises(ConfigError, match="num_actions must be a whole number of at least 1"):
        Categorical(0)
