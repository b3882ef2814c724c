"""Simplified structured state spaces: linear recurrences with complex decays, between dense layers.

As in `mingru`, all products are of whole meta-episodes.
"""

import functools
import math
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from rl3jax.devices import on_cpu
from rl3jax.networks.base import Memory
from rl3jax.networks.layers import Dense, dense, init_dense, product, standardised
from rl3jax.networks.recurrence import recurrence
from rl3jax.ranges import Layers, Size


class Layer(NamedTuple):
    """Weights of a residual layer. Complex numbers are real parts, then imaginary ones."""

    log_rate: Array  # [S]: of the states' decay, in continuous time
    frequency: Array  # [S]
    log_step: Array  # [S]: how much of that time passes in a step
    read: Array  # [width, 2 S]
    write: Array  # [2 S, width]
    skip: Array  # [width]
    gate: Dense  # [width, width]


class S5Weights(NamedTuple):
    """Weights of an `S5`, in the order of use."""

    embedding: Dense  # [num_inputs, width]
    layers: tuple[Layer, ...]


class S5(Memory):
    """A dense relu layer and residual layers of diagonal state spaces (S5), each with a gate.

    A layer (Smith et al. 2023, arXiv 2208.04933; as a memory for reinforcement learning Lu et al.
    2023, arXiv 2303.03982) adds y · sigmoid(G y) to x, with y = gelu(Re(C h) + D n(x)) and

        h_t = Ā h_{t-1} + B̄ n(x),    Ā = exp(λ Δ),    B̄ = (Ā - 1) / λ · B,

    where n normalises. At the start λ are the eigenvalues of HiPPO-LegS, normal part, one of each
    conjugate pair, and log Δ is uniform over log 0.001 … log 0.1.

    Attributes:
        width: size of what the layers read and write.
        layers: number of layers.
        states: complex numbers that each layer keeps, S.

    Raises:
        ValueError: a size is not a positive integer.
    """

    width: Size = 64
    layers: Layers = 2
    states: Annotated[int, Ge(1), Le(1024)] = 64

    @property
    def rows_at_a_time(self) -> int | None:
        """Rows (steps × meta-episodes) that it is best trained on together."""
        return 1600 if on_cpu() else None

    def initial_carry(self, horizon: int, num_inputs: int) -> Complex[Array, "layers S"]:
        """The states of zeros."""
        del horizon, num_inputs
        return jnp.zeros((self.layers, self.states), complex)

    def __call__(
        self, carry: Complex[Array, "layers S"], x: Float[Array, " D"]
    ) -> tuple[Complex[Array, "layers S"], Float[Array, " width"]]:
        """Takes in one observation; the carry are the layers' states."""
        features, states = _read(self._weights(x.shape[-1]), x[None], carry)
        return states[:, 0], features[0]

    def unroll(self, xs: Float[Array, "T *batch D"]) -> Float[Array, "T *batch width"]:
        """Gives the features at every step of meta-episodes."""
        before = jnp.zeros((self.layers, *xs.shape[1:-1], self.states), complex)
        return _read(self._weights(xs.shape[-1]), xs, before)[0]

    @nn.compact
    def _weights(self, num_inputs: int) -> S5Weights:
        return self.param("weights", self._init_weights, num_inputs)

    def _init_weights(self, key: PRNGKeyArray, num_inputs: int) -> S5Weights:
        """Draws all weights but λ; the key is consumed."""
        embedding_key, layers_key = jax.random.split(key)
        return S5Weights(
            embedding=init_dense(embedding_key, num_inputs, self.width),
            layers=tuple(
                _init_layer(layer_key, self.width, self.states)
                for layer_key in jax.random.split(layers_key, self.layers)
            ),
        )


def _init_layer(key: PRNGKeyArray, width: int, states: int) -> Layer:
    step_key, read_key, write_key, skip_key, gate_key = jax.random.split(key, 5)
    low, high = math.log(0.001), math.log(0.1)
    return Layer(
        log_rate=jnp.full(states, math.log(0.5)),
        frequency=jnp.asarray(hippo_frequencies(states), float),
        log_step=jax.random.uniform(step_key, (states,), minval=low, maxval=high),
        # In the eigenvectors' basis, which is unitary, normal numbers are complex normal ones.
        read=jax.random.normal(read_key, (width, 2 * states)) / math.sqrt(2 * width),
        write=jax.random.normal(write_key, (2 * states, width)) / math.sqrt(states / 2),
        skip=jax.random.normal(skip_key, (width,)),
        gate=init_dense(gate_key, width, width),
    )


@functools.cache
def hippo_frequencies(states: int) -> Float[np.ndarray, " S"]:
    """Imaginary parts of the eigenvalues of HiPPO-LegS of size 2 S, normal part, that are positive.

    All real parts are -1/2; the other half are the conjugates.
    """
    root = np.sqrt(2 * np.arange(2 * states) + 1)
    product = np.outer(root, root) / 2
    skew = np.triu(product, 1) - np.tril(product, -1)
    return np.linalg.eigvalsh(1j * skew)[states:]


def _read(
    weights: S5Weights, xs: Float[Array, "T *batch D"], before: Complex[Array, "layers *batch S"]
) -> tuple[Float[Array, "T *batch width"], Complex[Array, "layers T *batch S"]]:
    """The features at every step, and the layers' states, which are `before` at first."""
    stream, states = jax.nn.relu(dense(weights.embedding, xs)), []
    for layer, before_it in zip(weights.layers, before, strict=True):
        x = standardised(stream)
        states.append(_states(layer, x, before_it))
        kept = jnp.concatenate([states[-1].real, states[-1].imag], axis=-1)
        y = jax.nn.gelu(product(kept, layer.write) + x * jnp.broadcast_to(layer.skip, x.shape))
        stream = stream + y * jax.nn.sigmoid(dense(layer.gate, y))
    return stream, jnp.stack(states)


def _states(
    layer: Layer, x: Float[Array, "T *batch width"], before: Complex[Array, "*batch S"]
) -> Complex[Array, "T *batch S"]:
    rate = jax.lax.complex(-jnp.exp(layer.log_rate), layer.frequency)
    decay = jnp.exp(rate * jnp.exp(layer.log_step))  # of a step, with its inputs held constant
    inputs = jax.lax.complex(*jnp.split(product(x, layer.read), 2, axis=-1))
    decay, scale = (jnp.broadcast_to(a, inputs.shape) for a in (decay, (decay - 1) / rate))
    return recurrence(decay, scale * inputs, before)
