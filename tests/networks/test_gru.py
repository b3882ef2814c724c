import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.networks import Gru, gru
from rl3jax.networks.gru import Cell, GruWeights
from rl3jax.networks.layers import Dense
from rl3jax.policy import Network, PlainHead

NETWORK = Network(Gru(width=6, embedding=5), PlainHead(2))


def plain_unroll(params, xs):
    """A scan of single steps, which automatic differentiation takes apart by itself."""

    def unroll_one(xs):
        carry = NETWORK.initial_carry(len(xs), xs.shape[-1])
        return jax.lax.scan(lambda h, x: NETWORK.step(params, h, x), carry, xs)[1]

    return jax.vmap(unroll_one, in_axes=1, out_axes=1)(xs)


def weighted_sum(unroll):
    """A loss in which every output counts differently."""

    def loss(params, xs):
        ys = unroll(params, xs)
        return jnp.sum(ys * jnp.sin(jnp.arange(ys.size)).reshape(ys.shape))

    return loss


def assert_trees_close(actual, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), actual, expected
    )


def test_hand_computed_steps():

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    weights = GruWeights(
        embedding=Dense(jnp.array([[2.0]]), jnp.array([-1.0])),
        cell=Cell(
            inputs=Dense(jnp.array([[0.5, -0.3, 0.8]]), jnp.array([0.1, 0.2, -0.4])),
            recurrent=jnp.array([[0.7, -0.6, 0.9]]),
            memory_bias=jnp.array([0.3]),
        ),
    )
    h, expected = 0.0, []
    for x in (1.5, 0.25, 0.75):
        embedded = max(0.0, 2 * x - 1)
        reset = sigmoid(0.5 * embedded + 0.1 + 0.7 * h)
        update = sigmoid(-0.3 * embedded + 0.2 - 0.6 * h)
        candidate = np.tanh(0.8 * embedded - 0.4 + reset * (0.9 * h + 0.3))
        h = (1 - update) * candidate + update * h
        expected.append([h])

    xs = jnp.array([[1.5], [0.25], [0.75]])
    ys = Gru(width=1, embedding=1).apply({"params": {"weights": weights}}, xs, method="unroll")
    np.testing.assert_allclose(ys, expected, rtol=1e-5)


@pytest.mark.parametrize("rows", [7, 1000])
def test_backward_pass_equals_automatic_differentiation(make_params, rows, monkeypatch):
    monkeypatch.setattr(gru, "rows_per_block", lambda: rows)
    with jax.enable_x64(True):
        params = make_params(NETWORK, 3)
        xs = jax.random.normal(jax.random.key(1), (8, 3, 3))
        actual, expected = (
            jax.jit(jax.value_and_grad(weighted_sum(unroll), argnums=(0, 1)))(params, xs)
            for unroll in (NETWORK.unroll, plain_unroll)
        )
        assert_trees_close(actual, expected)


def test_backward_pass_under_vmap_over_seeds(make_params):
    def gradients_of_each(unroll):
        return jax.vmap(jax.grad(weighted_sum(unroll), argnums=(0, 1)))

    def gradient_of_the_sum(unroll):
        return jax.grad(lambda *args: jax.vmap(weighted_sum(unroll))(*args).sum(), argnums=(0, 1))

    with jax.enable_x64(True):
        seed = make_params(NETWORK, 3)
        params = jax.tree.map(lambda leaf: jnp.stack([leaf, -0.5 * leaf]), seed)
        xs = jax.random.normal(jax.random.key(1), (2, 8, 3, 3))
        expected = jax.jit(gradients_of_each(plain_unroll))(params, xs)
        for differentiate in (gradients_of_each, gradient_of_the_sum):
            assert_trees_close(jax.jit(differentiate(NETWORK.unroll))(params, xs), expected)


def paper_sized():
    network = Network(Gru(), PlainHead(5))
    params = jax.jit(network.init, static_argnums=1)(jax.random.key(0), 30)
    return network, params, params["memory"]["params"]["weights"]


def test_sizes():
    network, params, weights = paper_sized()
    assert weights.embedding.kernel.shape == (30, 64)
    assert weights.cell.inputs.kernel.shape == (64, 768)
    assert weights.cell.recurrent.shape == (256, 768)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == 31 * 64 + 65 * 768 + 256 * 768 + 256 + 257 * 5
    assert network.initial_carry(100, 30).shape == (256,)


def test_every_gate_begins_glorot_uniform_as_a_layer_of_its_own():
    cell = paper_sized()[2].cell
    for kernel, bound in ((cell.inputs.kernel, 6 / (64 + 256)), (cell.recurrent, 6 / (256 + 256))):
        largest = jnp.abs(kernel).max()
        np.testing.assert_allclose(largest, np.sqrt(bound), rtol=1e-3)
        assert largest <= np.sqrt(bound)
    np.testing.assert_array_equal(cell.inputs.bias, 0)
    np.testing.assert_array_equal(cell.memory_bias, 0)
