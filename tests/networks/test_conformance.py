"""What holds of every kind of memory in a network, ours and anybody's."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.networks import (
    S5,
    FeedForward,
    Gru,
    Markov,
    MinGru,
    Transformer,
    as_memory,
    gru,
    make_network,
)
from rl3jax.policy import HyperHead, Network, PlainHead, StateHead
from tests import children

HORIZON, NUM_INPUTS, NUM_OUTPUTS = 11, 3, 2

MEMORIES = {
    "markov": Markov(width=8),
    "gru": Gru(width=8, embedding=5),
    "mingru": MinGru(width=8, layers=2, embedding=5, horizon=HORIZON),
    "s5": S5(width=8, layers=2, states=4),
    "transformer": Transformer(width=8, heads=2, horizon=HORIZON),
    "lstm": as_memory(nn.OptimizedLSTMCell(8)),
    "feed-forward": as_memory(nn.Dense(8)),
}
NETWORKS = {kind: Network(memory, PlainHead(NUM_OUTPUTS)) for kind, memory in MEMORIES.items()} | {
    "gru, state head": Network(MEMORIES["gru"], StateHead(NUM_OUTPUTS, head_width=4)),
    "gru, hyper head": Network(
        MEMORIES["gru"], HyperHead(NUM_OUTPUTS, head_width=3, hyper_inputs=2, hyper_width=3)
    ),
}
every_kind = pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))


@pytest.fixture
def params(network, make_params):
    return make_params(network, NUM_INPUTS)


def make_observations(*batch, length=HORIZON):
    return jax.random.normal(jax.random.key(2), (length, *batch, NUM_INPUTS))


@functools.partial(jax.jit, static_argnums=0)
def unroll(network, params, xs):
    return network.unroll(params, xs)


@functools.partial(jax.jit, static_argnums=(0, 3))
def act(network, params, xs, horizon=HORIZON):
    """Outputs of a network that acts in one task, step by step."""
    carry = network.initial_carry(horizon, NUM_INPUTS)
    return jax.lax.scan(lambda carry, x: network.step(params, carry, x), carry, xs)[1]


def assert_trees_close(actual, expected, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), actual, expected)


@every_kind
def test_step_by_step_equals_whole_sequence(network, params):
    xs = make_observations()
    ys = unroll(network, params, xs)
    assert ys.shape == (HORIZON, NUM_OUTPUTS)
    np.testing.assert_allclose(act(network, params, xs), ys, atol=1e-5)


@every_kind
def test_networks_work_without_jit(network, params):
    xs = make_observations(length=2)
    carry, ys = network.initial_carry(2, NUM_INPUTS), network.unroll(params, xs)
    for x, y in zip(xs, ys, strict=True):
        carry, stepped = network.step(params, carry, x)
        np.testing.assert_allclose(stepped, y, atol=1e-5)


@every_kind
@pytest.mark.parametrize("batch", [(1,), (2, 3)])
def test_batches_are_separate_meta_episodes(network, params, batch):
    xs = make_observations(*batch)
    ys = unroll(network, params, xs)
    assert ys.shape == (HORIZON, *batch, NUM_OUTPUTS)
    act_in_all = functools.partial(act, network)
    for _ in batch:
        act_in_all = jax.vmap(act_in_all, in_axes=(None, 1), out_axes=1)
    np.testing.assert_allclose(act_in_all(params, xs), ys, atol=1e-5)


@every_kind
def test_shorter_meta_episodes_are_prefixes(network, params):
    xs = make_observations()
    whole = unroll(network, params, xs)
    np.testing.assert_allclose(unroll(network, params, xs[:5]), whole[:5], atol=1e-5)
    np.testing.assert_allclose(act(network, params, xs[:5], 5), whole[:5], atol=1e-5)


@every_kind
@pytest.mark.parametrize("t", [0, 4, HORIZON - 1])
def test_an_observation_changes_no_earlier_output(network, params, t):
    xs = make_observations()
    before, after = unroll(network, params, xs), unroll(network, params, xs.at[t].multiply(-1))
    np.testing.assert_array_equal(after[:t], before[:t])
    assert jnp.abs(after[t] - before[t]).max() > 1e-3
    forgotten = jnp.all(after[t + 1 :] == before[t + 1 :])
    assert forgotten == (isinstance(network.memory, Markov | FeedForward) or t == HORIZON - 1)


@every_kind
def test_gradients_of_one_meta_episode_reach_every_weight(network, params):
    xs = make_observations()
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(network.unroll(params, xs)))))
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient(params)))


@every_kind
def test_seeds_are_one_vmapped_program(network, params):
    gradient = jax.grad(lambda params, xs: jnp.mean(network.unroll(params, xs) ** 2))
    seeds = [params, jax.tree.map(lambda leaf: -0.5 * leaf, params)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seeds)
    xs = make_observations(2, 4)  # for two seeds
    gradients = jax.jit(jax.vmap(gradient, in_axes=(0, 1)))(together, xs)
    for i, alone in enumerate(map(jax.jit(gradient), seeds, xs.swapaxes(0, 1))):
        assert_trees_close(jax.tree.map(lambda leaf, i=i: leaf[i], gradients), alone, atol=1e-5)


@every_kind
def test_the_size_of_blocks_is_of_no_consequence(network, params, monkeypatch):
    def loss(params, xs):
        ys = network.unroll(params, xs)
        return jnp.mean(ys**2), ys

    def outcome(rows):
        monkeypatch.setattr(gru, "rows_per_block", lambda: rows)
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(in_float64, xs)

    with jax.enable_x64(True):
        in_float64 = jax.tree.map(lambda leaf: leaf.astype(float), params)
        xs = make_observations(5)
        in_one_block = outcome(rows=1000)
        for rows in (1, 25):
            assert_trees_close(outcome(rows), in_one_block, atol=1e-12)


@every_kind
def test_weights_and_outputs_have_the_default_float_type(network):
    def everything():
        params = network.init(jax.random.key(0), NUM_INPUTS)
        carry = network.initial_carry(HORIZON, NUM_INPUTS)
        stepped = network.step(params, carry, jnp.ones(NUM_INPUTS))
        return params, stepped, network.unroll(params, jnp.ones((HORIZON, NUM_INPUTS)))

    def float_types():
        leaves = jax.tree.leaves(jax.eval_shape(everything))
        return {leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)}

    assert float_types() == {jnp.dtype(jnp.float32)}
    with jax.enable_x64(True):
        assert float_types() == {jnp.dtype(jnp.float64)}


@every_kind
def test_networks_are_values(network):
    same = Network(network.memory.clone(), network.head.clone())
    assert same == network
    assert hash(same) == hash(network)
    assert dataclasses.replace(network, head=PlainHead(1)) != network


@every_kind
def test_different_keys_give_different_weights(network):
    init = jax.jit(network.init, static_argnums=1)
    first, second = (init(jax.random.key(seed), NUM_INPUTS) for seed in (0, 1))
    for part in ("memory", "head"):
        weights = (jax.tree.leaves(params[part]) for params in (first, second))
        assert any((a != b).any() for a, b in zip(*weights, strict=True))


@every_kind
def test_a_network_needs_inputs(network):
    with pytest.raises(ValueError, match="num_inputs must be a whole number of at least 1, not 0"):
        network.init(jax.random.key(0), 0)


def test_wide_networks_initialise_quickly_under_jit_and_vmap():
    # In a process of its own: the orthogonal initialisers of flax's cells would hang here, in
    # decompositions of several keys that wait for each other's threads.
    program = """
import jax
from rl3jax.networks import NETWORKS, make_network
from rl3jax.policy import Network, PlainHead
for seed, name in enumerate(NETWORKS):
    keys = jax.random.split(jax.random.key(seed), 8)
    network = Network(make_network(name, width=256, horizon=100), PlainHead(5))
    jax.block_until_ready(jax.jit(jax.vmap(lambda key: network.init(key, 30)))(keys))
"""
    ran = children.run("-c", program)
    assert ran.returncode == 0, ran.stderr


def is_dense(layer):
    """A layer of ours, or one of flax's."""
    return hasattr(layer, "kernel") or (isinstance(layer, dict) and "kernel" in layer)


@pytest.mark.parametrize("name", ["markov", "transformer"])
def test_dense_layers_begin_glorot_uniform_without_bias(name):
    network = Network(make_network(name, horizon=100), PlainHead(64))
    params = jax.jit(network.init, static_argnums=1)(jax.random.key(0), 30)
    layers = [x for x in jax.tree.leaves(params, is_leaf=is_dense) if is_dense(x)]
    assert len(layers) == (3 if name == "markov" else 2 + 2 * 6 + 1)
    for layer in layers:
        kernel, bias = (layer["kernel"], layer["bias"]) if isinstance(layer, dict) else layer
        bound = np.sqrt(6 / sum(kernel.shape))
        assert jnp.abs(kernel).max() <= bound
        np.testing.assert_allclose(jnp.abs(kernel).max(), bound, rtol=0.06)
        # Four standard errors of a uniform distribution's mean and standard deviation.
        error = 4 * bound / np.sqrt(kernel.size)
        np.testing.assert_allclose(kernel.mean(), 0, atol=error)
        np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), atol=error)
        np.testing.assert_array_equal(bias, 0)
