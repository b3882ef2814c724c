import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.networks import S5, MinGru, mingru, recurrence, s5
from rl3jax.networks.layers import Dense
from rl3jax.policy import Network, PlainHead


def plain(decay, inputs, before):
    """Step by step, for automatic differentiation."""
    states = [before]
    for decay_t, inputs_t in zip(decay, inputs, strict=True):
        states.append(decay_t * states[-1] + inputs_t)
    return jnp.stack(states[1:])


@pytest.mark.parametrize("is_cpu", [True, False])
@pytest.mark.parametrize("dtype", [float, complex])
def test_values_and_gradients_are_those_of_single_steps(is_cpu, dtype, monkeypatch):
    monkeypatch.setattr(recurrence, "on_cpu", lambda: is_cpu)

    def outcome(recurrence):
        def loss(*args):
            states = recurrence(*args)
            return jnp.sum(jnp.sin(states.real) + jnp.cos(states.imag)), states

        holomorphic = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
        return jax.tree.leaves(jax.jit(holomorphic)(decay, inputs, before))

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        shapes = ((7, 2, 3), (7, 2, 3), (2, 3))
        decay, inputs, before = map(lambda k, s: jax.random.normal(k, s, dtype), keys, shapes)
        for actual, expected in zip(outcome(recurrence.recurrence), outcome(plain), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


# --- mingru -------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_mingru_by_hand():
    weights = mingru.MinGruWeights(
        embedding=Dense(jnp.array([[2.0, -1.0]]), jnp.array([0.0, 3.0])),
        layers=(
            mingru.Layer(
                gates=Dense(jnp.array([[0.5, -0.8], [0.2, 0.7]]), jnp.array([0.1, -0.4])),
                output=Dense(jnp.array([[0.6, -1.5]]), jnp.array([-0.7, 0.9])),
            ),
        ),
    )
    h, expected = 0.0, []
    for x in (1.5, -0.25, 0.75):
        embedded = np.maximum([2 * x, 3 - x], 0)
        first, second = (embedded - embedded.mean()) / np.sqrt(embedded.var() + 1e-5)
        update = sigmoid(0.5 * first + 0.2 * second + 0.1)
        u = -0.8 * first + 0.7 * second - 0.4
        h = (1 - update) * h + update * (u + 0.5 if u >= 0 else sigmoid(u))
        expected.append(np.maximum(embedded + h * np.array([0.6, -1.5]) + [-0.7, 0.9], 0))
    network = MinGru(width=1, embedding=2)
    xs = jnp.array([[1.5], [-0.25], [0.75]])
    ys = network.apply({"params": {"weights": weights}}, xs, method="unroll")
    np.testing.assert_allclose(ys, expected, rtol=1e-4)


@pytest.mark.parametrize("horizon", [1, 100])
def test_mingru_forgets_over_all_lengths_up_to_the_horizon(horizon):
    network = Network(MinGru(width=256, layers=2, horizon=horizon), PlainHead(5))
    params = jax.jit(network.init, static_argnums=1)(jax.random.key(0), 30)
    for layer in params["memory"]["params"]["weights"].layers:
        log_steps = jnp.log(1 / jax.nn.sigmoid(layer.gates.bias[:256]))
        low, high = np.log(2), np.log(max(2, horizon))
        assert low - 1e-5 <= log_steps.min() <= log_steps.max() <= high + 1e-5
        np.testing.assert_allclose(
            log_steps.mean(), (low + high) / 2, atol=1e-5 + 0.06 * (high - low)
        )
        np.testing.assert_array_equal(layer.gates.bias[256:], 0)


# --- s5 -----------------------------------------------------------------------------------------


def test_s5_begins_with_the_eigenvalues_of_hippo_legs():
    order = np.arange(12)
    legs = -np.tril(np.sqrt(np.outer(2 * order + 1, 2 * order + 1)), -1) - np.diag(order + 1)
    normal = legs + np.outer(np.sqrt(order + 0.5), np.sqrt(order + 0.5))
    eigenvalues = np.linalg.eigvals(normal)
    frequencies = s5.hippo_frequencies(6)
    both = np.concatenate([-frequencies, frequencies])
    np.testing.assert_allclose(np.sort(eigenvalues.imag), np.sort(both), atol=1e-9)
    np.testing.assert_allclose(eigenvalues.real, -0.5)

    layers = S5(states=6).init(jax.random.key(0), S5(states=6).initial_carry(1, 3), jnp.zeros(3))
    for layer in layers["params"]["weights"].layers:
        np.testing.assert_allclose(layer.frequency, frequencies, rtol=1e-6)
        np.testing.assert_allclose(-jnp.exp(layer.log_rate), -0.5, rtol=1e-6)
        assert np.log(0.001) <= layer.log_step.min() < layer.log_step.max() <= np.log(0.1)


def test_s5_holds_its_inputs_over_a_step():
    """A step is the continuous system's, integrated finely, with the input constant meanwhile."""
    layer = s5.Layer(
        log_rate=jnp.log(jnp.array([0.5])), frequency=jnp.array([3.0]),
        log_step=jnp.log(jnp.array([0.4])), read=jnp.array([[0.7, -0.2]]), write=None, skip=None,
        gate=None,
    )  # fmt: skip
    xs, h, expected = (1.0, -2.0), 0.3 + 0.1j, []
    for x in xs:
        for _ in range(20_000):
            h += ((-0.5 + 3j) * h + (0.7 - 0.2j) * x) * 0.4 / 20_000
        expected.append([h])
    states = s5._states(layer, jnp.array(xs)[:, None], jnp.array([0.3 + 0.1j]))
    np.testing.assert_allclose(states, expected, rtol=1e-3)
