import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.networks import Transformer, transformer
from rl3jax.networks.transformer import Cache, Window, prefix_lengths, window_start
from rl3jax.policy import Network, PlainHead

NUM_INPUTS = 3


def make_network(horizon, heads=2):
    return Network(Transformer(width=8, heads=heads, horizon=horizon), PlainHead(2))


@pytest.fixture
def small(make_params):
    """A network trained on ten steps, and its weights."""
    network = make_network(10)
    return network, make_params(network, NUM_INPUTS)


def dense(layer, x):
    return x @ np.asarray(layer.kernel) + np.asarray(layer.bias)


def norm(layer, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * np.asarray(layer.scale) + np.asarray(layer.bias)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attend(attention, x, heads):
    """Position by position and head by head: a softmax-weighted mean of the values so far."""
    query, key, value = (dense(layer, x) for layer in attention[:3])
    mixed = np.zeros_like(x)
    for t in range(len(x)):
        for head in np.split(np.arange(x.shape[1]), heads):
            scores = key[: t + 1, head] @ query[t, head] / np.sqrt(len(head))
            weights = np.exp(scores) / np.exp(scores).sum()
            mixed[t, head] = weights @ value[: t + 1, head]
    return dense(attention.output, mixed)


@functools.cache
def paper_sized():
    network = Network(Transformer(), PlainHead(5))
    params = jax.jit(network.init, static_argnums=1)(jax.random.key(0), 30)
    return params["memory"]["params"]["weights"], params


@functools.partial(jax.jit, static_argnums=0)
def unroll(network, params, xs):
    return network.unroll(params, xs)


@functools.partial(jax.jit, static_argnums=(0, 3))
def act(network, params, xs, horizon):
    carry = network.initial_carry(horizon, NUM_INPUTS)
    return jax.lax.scan(lambda carry, x: network.step(params, carry, x), carry, xs)[1]


def in_numpy(network, params, xs):
    weights, head = params["memory"]["params"]["weights"], params["head"]["params"]["Dense_0"]
    x = np.maximum(dense(weights.expand, np.asarray(xs)), 0)
    x = norm(weights.norm, np.maximum(dense(weights.contract, x), 0))
    x = x + np.asarray(weights.positions)[: len(x)]
    for layer in weights.layers:
        x = norm(layer.attention_norm, x + attend(layer.attention, x, network.memory.heads))
        fed_forward = dense(layer.contract, gelu(dense(layer.expand, x)))
        x = norm(layer.feed_forward_norm, x + fed_forward)
    return np.maximum(x, 0) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_equals_plain_numpy(make_params, heads):
    network = make_network(9, heads)
    params = make_params(network, NUM_INPUTS)
    xs = jax.random.normal(jax.random.key(2), (9, NUM_INPUTS))
    expected = in_numpy(network, params, xs)
    np.testing.assert_allclose(unroll(network, params, xs), expected, atol=1e-5)


def test_sizes():
    weights, params = paper_sized()
    assert weights.expand.kernel.shape == (30, 256)
    assert weights.contract.kernel.shape == (256, 64)
    assert weights.positions.shape == (101, 64)
    assert len(weights.layers) == 2
    assert weights.layers[0].attention.query.kernel.shape == (64, 64)
    assert weights.layers[0].expand.kernel.shape == (64, 256)
    assert weights.layers[0].contract.kernel.shape == (256, 64)

    embedding = 31 * 256 + 257 * 64 + 2 * 64 + 101 * 64
    layer = 4 * 65 * 64 + 65 * 256 + 257 * 64 + 4 * 64
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == embedding + 2 * layer + 65 * 5


def test_layers_differ_at_the_start():
    first, second = paper_sized()[0].layers
    assert not jnp.array_equal(first.expand.kernel, second.expand.kernel)
    assert not jnp.array_equal(first.attention.key.kernel, first.attention.query.kernel)


def test_positions_begin_small():
    positions = paper_sized()[0].positions
    np.testing.assert_allclose(positions.mean(), 0, atol=5e-4)
    np.testing.assert_allclose(positions.std(), 0.01, rtol=0.05)


def test_norms_begin_neutral():
    weights, _ = paper_sized()
    first, second = weights.layers
    for norm in (weights.norm, second.attention_norm, first.feed_forward_norm):
        np.testing.assert_array_equal(norm.scale, 1)
        np.testing.assert_array_equal(norm.bias, 0)


def test_the_carry_is_a_cache_up_to_the_trained_horizon_and_a_window_beyond():
    network = Transformer(width=8, heads=2, horizon=10)
    cache = network.initial_carry(10, NUM_INPUTS)
    assert isinstance(cache, Cache)
    assert [layer[0].keys.shape for layer in cache.layers] == [(2, 4, 10)] * 2
    window = network.initial_carry(11, NUM_INPUTS)
    assert isinstance(window, Window)
    assert window.embeddings.shape == (11, 8)


def test_the_paper_s_window():
    observations = jnp.array([1, 100, 250, 251, 500, 749, 750, 751, 800, 999, 1000])
    length = observations - window_start(observations, 1000, 500)
    expected = [1, 100, 250, 250, 250, 250, 250, 251, 300, 499, 500]
    np.testing.assert_array_equal(length, expected)


@pytest.mark.parametrize(("trained", "horizon"), [(8, 19), (5, 6), (1, 3)])
def test_beyond_the_trained_horizon_only_the_window_counts(make_params, trained, horizon):
    network = make_network(trained)
    params = make_params(network, NUM_INPUTS)
    xs = jax.random.normal(jax.random.key(2), (horizon, 2, NUM_INPUTS))  # of two tasks
    ys = jax.vmap(act, in_axes=(None, None, 1, None), out_axes=1)(network, params, xs, horizon)

    context = max(1, trained // 2)
    for n in range(1, horizon + 1):
        start = min(max(0, n - context), horizon - trained)
        # Padded to one length, so that it compiles once; what comes later has no effect.
        window = np.zeros((trained, 2, NUM_INPUTS), np.float32)
        window[: n - start] = xs[start:n]
        expected = unroll(network, params, jnp.asarray(window))[n - start - 1]
        np.testing.assert_allclose(ys[n - 1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("horizon", "lengths"),
    [
        (1, [1]),
        (256, [256]),
        (257, [256, 257]),
        (600, [256, 512, 600]),
        (2048, [256, 512, 1024, 2048]),
    ],
)
def test_copies_of_a_cache_double(horizon, lengths):
    assert list(prefix_lengths(horizon)) == lengths


def test_acting_across_copies_of_the_cache_equals_the_whole_sequence(make_params):
    network = make_network(600)
    params = make_params(network, NUM_INPUTS)
    xs = jax.random.normal(jax.random.key(2), (600, 2, NUM_INPUTS))  # of two tasks
    ys = jax.vmap(act, in_axes=(None, None, 1, None), out_axes=1)(network, params, xs, 600)
    np.testing.assert_allclose(ys, unroll(network, params, xs), atol=1e-5)
    alone = act(network, params, xs[:, 0], 600)
    np.testing.assert_allclose(alone, ys[:, 0], atol=1e-5)


def test_tasks_at_different_steps_see_their_own_past(make_params):
    network = make_network(600)
    params = make_params(network, NUM_INPUTS)
    xs = jax.random.normal(jax.random.key(2), (600, NUM_INPUTS))

    def step_after(carry, t):
        return network.step(params, carry, xs[t])[1]

    def carries(carry, x):
        return network.step(params, carry, x)[0], carry

    _, before = jax.jit(
        lambda xs: jax.lax.scan(carries, network.initial_carry(600, NUM_INPUTS), xs)
    )(xs)
    steps = jnp.array([0, 5, 255, 256, 511, 512, 599])
    chosen = jax.tree.map(lambda x: x[steps], before)
    ys = jax.jit(jax.vmap(step_after))(chosen, steps)
    np.testing.assert_allclose(ys, unroll(network, params, xs)[steps], atol=1e-5)


def test_a_window_that_drops_nothing_equals_the_cache(small):
    network, params = small
    xs = jax.random.normal(jax.random.key(2), (5, NUM_INPUTS))
    with_window, with_cache = (act(network, params, xs, horizon) for horizon in (25, 10))
    np.testing.assert_allclose(with_window, with_cache, atol=1e-5)


def test_longer_training_sequences_than_the_horizon_are_refused(small):
    network, params = small
    with pytest.raises(ValueError, match="T must be at most the trained horizon 10, got 11"):
        network.unroll(params, jnp.zeros((11, NUM_INPUTS)))


def test_a_carry_needs_a_horizon():
    with pytest.raises(ValueError, match="horizon must be a whole number of at least 1, not 0"):
        Transformer().initial_carry(0, NUM_INPUTS)


# --- on GPUs --------------------------------------------------------------------------------------


def test_fused_attention_is_the_same_but_for_bfloat16():
    query, keys, values = jax.random.normal(jax.random.key(0), (3, 2, 33, 8)) / 2
    plain = transformer._mix_causally(query, keys, values)
    fused = transformer._mix_causally_fused(query, keys, values, "xla")
    assert fused.dtype == plain.dtype
    np.testing.assert_allclose(fused, plain, atol=0.02)


def test_fused_attention_is_used_where_there_is_any(monkeypatch):
    called = []

    def fused(query, keys, values, implementation):
        called.append(implementation)
        return values

    monkeypatch.setattr(transformer, "has_flash_attention", lambda: True)
    monkeypatch.setattr(transformer, "_mix_causally_fused", fused)
    transformer._mix_causally(*jnp.zeros((3, 2, 5, 8)))
    assert called == ["cudnn"]
    transformer._mix_causally(*jnp.zeros((3, 2, 5, 4)))  # heads too small for it
    assert called == ["cudnn"]
