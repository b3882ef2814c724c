"""The minimal gated recurrent unit, whose gates do not look at the state.

So all products are of whole meta-episodes, and the recurrence is one of numbers (`recurrence`).
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rl3jax.devices import on_cpu
from rl3jax.networks.base import Memory
from rl3jax.networks.layers import Dense, dense, init_dense, standardised
from rl3jax.networks.recurrence import recurrence
from rl3jax.ranges import Layers, Size


class Layer(NamedTuple):
    """Weights of a residual layer."""

    gates: Dense  # [embedding, 2 U]: update gate and candidate, side by side
    output: Dense  # [U, embedding]


class MinGruWeights(NamedTuple):
    """Weights of a `MinGru`, in the order of use."""

    embedding: Dense  # [num_inputs, embedding]
    layers: tuple[Layer, ...]


class MinGru(Memory):
    """A dense relu layer, residual layers of minimal gated recurrent units, and a relu.

    A layer (Feng et al. 2024, arXiv 2410.01201) adds to x a linear map of its units' states,

        h_t = (1 - z) h_{t-1} + z g(W' n(x)),    z = sigmoid(W n(x)),

    where n normalises and g(u) is u + 1/2 if u ≥ 0, else sigmoid(u). At the start the units forget
    over 2 to `horizon` steps, log-uniformly.

    Attributes:
        width: units of each layer, U.
        layers: number of layers.
        embedding: units of the dense layer before them, and features after them.
        horizon: steps of the meta-episodes it is trained on.

    Raises:
        ValueError: a size is not a positive integer.
    """

    width: Size = 128
    layers: Layers = 1
    embedding: Size = 64
    horizon: Size = 100

    @property
    def rows_at_a_time(self) -> int | None:
        """Rows (steps × meta-episodes) that it is best trained on together."""
        return 1600 if on_cpu() else None

    def initial_carry(self, horizon: int, num_inputs: int) -> Float[Array, "layers U"]:
        """The states of zeros."""
        del horizon, num_inputs
        return jnp.zeros((self.layers, self.width))

    def __call__(
        self, carry: Float[Array, "layers U"], x: Float[Array, " D"]
    ) -> tuple[Float[Array, "layers U"], Float[Array, " E"]]:
        """Takes in one observation; the carry are the layers' states."""
        features, states = _read(self._weights(x.shape[-1]), x[None], carry)
        return states[:, 0], features[0]

    def unroll(self, xs: Float[Array, "T *batch D"]) -> Float[Array, "T *batch E"]:
        """Gives the features at every step of meta-episodes."""
        before = jnp.zeros((self.layers, *xs.shape[1:-1], self.width))
        return _read(self._weights(xs.shape[-1]), xs, before)[0]

    @nn.compact
    def _weights(self, num_inputs: int) -> MinGruWeights:
        return self.param("weights", self._init_weights, num_inputs)

    def _init_weights(self, key: PRNGKeyArray, num_inputs: int) -> MinGruWeights:
        """Draws Glorot-uniform kernels, and the update gates' biases; the key is consumed."""
        embedding_key, layers_key = jax.random.split(key)
        return MinGruWeights(
            embedding=init_dense(embedding_key, num_inputs, self.embedding),
            layers=tuple(
                _init_layer(layer_key, self.embedding, self.width, self.horizon)
                for layer_key in jax.random.split(layers_key, self.layers)
            ),
        )


def _init_layer(key: PRNGKeyArray, embedding: int, width: int, horizon: int) -> Layer:
    gates_key, steps_key, output_key = jax.random.split(key, 3)
    gates = init_dense(gates_key, embedding, width, blocks=2)
    log_steps = jax.random.uniform(steps_key, (width,), maxval=math.log(max(horizon, 2) / 2))
    bias = -jnp.log(2 * jnp.exp(log_steps) - 1)  # of a gate that is open for 1 / steps
    return Layer(
        gates=gates._replace(bias=gates.bias.at[:width].set(bias)),
        output=init_dense(output_key, width, embedding),
    )


def _read(
    weights: MinGruWeights, xs: Float[Array, "T *batch D"], before: Float[Array, "layers *batch U"]
) -> tuple[Float[Array, "T *batch E"], Float[Array, "layers T *batch U"]]:
    """The features at every step, and the layers' states, which are `before` at first."""
    x, states = jax.nn.relu(dense(weights.embedding, xs)), []
    for layer, before_it in zip(weights.layers, before, strict=True):
        gate, candidate = jnp.split(dense(layer.gates, standardised(x)), 2, axis=-1)
        update = jax.nn.sigmoid(gate)
        states.append(recurrence(1 - update, update * _positive(candidate), before_it))
        x = x + dense(layer.output, states[-1])
    return jax.nn.relu(x), jnp.stack(states)


def _positive(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The candidate's nonlinearity, g: continuous, and larger than 0."""
    return jnp.where(x >= 0, x + 0.5, jax.nn.sigmoid(x))
