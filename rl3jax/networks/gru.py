"""The gated recurrent unit, with a backward pass made for whole meta-episodes.

A meta-episode is a long, thin recurrence: hundreds of small products, one after another. Whatever
need not wait for the state before it is taken out of that chain, and done for a block of steps at
once. A block is large enough for fast products and small enough to stay in the processor's caches:

- the inputs' share of the gates is one product per block;
- the three gates are scanned as three arrays: slices of a single scanned array defeat XLA's
  vectoriser on CPU, and the loop then takes three times as long;
- the backward scan carries the state's cotangent and nothing else. It is linear in it, with factors
  known beforehand; the weights' gradients are products per block, where plain automatic
  differentiation would take a thin product, and add it to the sum, at every step.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rl3jax.checks import largest_divisor
from rl3jax.devices import on_cpu
from rl3jax.networks.base import Memory
from rl3jax.networks.layers import Dense, dense, init_dense, outer_sum
from rl3jax.ranges import Count, Size


class Cell(NamedTuple):
    """Weights of a gated recurrent unit: for reset, update and candidate gate, side by side."""

    inputs: Dense  # [embedding, 3 U]
    recurrent: Array  # [U, 3 U]
    memory_bias: Array  # [U]: added to the candidate's recurrent product


class GruWeights(NamedTuple):
    """Weights of a `Gru`, in the order of use."""

    embedding: Dense | None  # [num_inputs, embedding]
    cell: Cell


class Gates(NamedTuple):
    """One array `[..., U]` for each gate."""

    reset: Array
    update: Array
    candidate: Array


class Gru(Memory):
    """A dense relu layer and a gated recurrent unit.

    The reset gate acts after the recurrent product, as in cuDNN and flax's GRUCell. This is the
    kind of network RL² was introduced with (Duan et al. 2016, arXiv 1611.02779).

    Attributes:
        width: units of the recurrent layer, U.
        embedding: units of the dense layer before it; 0: there is none.

    Raises:
        ValueError: a size is not a positive integer.
    """

    width: Size = 256
    embedding: Count = 64

    def initial_carry(self, horizon: int, num_inputs: int) -> Float[Array, " U"]:
        """The state of zeros."""
        del horizon, num_inputs
        return jnp.zeros(self.width)

    def __call__(
        self, carry: Float[Array, " U"], x: Float[Array, " D"]
    ) -> tuple[Float[Array, " U"], Float[Array, " U"]]:
        """Takes in one observation; the features are the new state."""
        weights = self._weights(x.shape[-1])
        h = _next_state(weights.cell, _input_gates(weights.cell, _embed(weights, x)), carry)
        return h, h

    def unroll(self, xs: Float[Array, "T *batch D"]) -> Float[Array, "T *batch U"]:
        """Gives the states after every step of meta-episodes."""
        num_steps, *batch, num_inputs = xs.shape
        weights, num_episodes = self._weights(num_inputs), math.prod(batch)
        block = _block_length(num_steps, num_episodes)

        def unroll_block(
            h_before: Float[Array, "B U"], xs: Float[Array, "block B D"]
        ) -> tuple[Float[Array, "B U"], Float[Array, "block B U"]]:
            h = _states(weights.cell, _embed(weights, xs), h_before)
            return h[-1], h

        blocks = xs.reshape(num_steps // block, block, num_episodes, num_inputs)
        _, h = jax.lax.scan(unroll_block, jnp.zeros((num_episodes, self.width)), blocks)
        return h.reshape(num_steps, *batch, self.width)

    @nn.compact
    def _weights(self, num_inputs: int) -> GruWeights:
        return self.param("weights", self._init_weights, num_inputs)

    def _init_weights(self, key: PRNGKeyArray, num_inputs: int) -> GruWeights:
        """Draws Glorot-uniform weights, each gate as a layer of its own; the key is consumed."""
        embedding_key, inputs_key, recurrent_key = jax.random.split(key, 3)
        return GruWeights(
            embedding=init_dense(embedding_key, num_inputs, self.embedding)
            if self.embedding
            else None,
            cell=Cell(
                inputs=init_dense(inputs_key, self.embedding or num_inputs, self.width, blocks=3),
                recurrent=init_dense(recurrent_key, self.width, self.width, blocks=3).kernel,
                memory_bias=jnp.zeros(self.width),
            ),
        )


def rows_per_block() -> int:
    """Rows (steps × meta-episodes) whose gates are computed together: on CPU, what caches hold."""
    return 1600 if on_cpu() else 65_536


def _block_length(num_steps: int, num_episodes: int) -> int:
    """The most steps that divide the sequence evenly and are few enough rows for a block."""
    return largest_divisor(num_steps, max(1, rows_per_block() // num_episodes))


def _embed(weights: GruWeights, x: Float[Array, "*batch D"]) -> Float[Array, "*batch E"]:
    return x if weights.embedding is None else jax.nn.relu(dense(weights.embedding, x))


def _input_gates(cell: Cell, embedded: Float[Array, "*batch E"]) -> Gates:
    """What the input adds to each gate before its nonlinearity."""
    return _split_gates(dense(cell.inputs, embedded))


def _split_gates(x: Float[Array, "*batch gates"]) -> Gates:
    return Gates(*jnp.split(x, 3, axis=-1))


def _activations(
    cell: Cell, inputs: Gates, h_tm1: Float[Array, "*batch U"]
) -> tuple[Gates, Float[Array, "*batch U"]]:
    """The gates, and the memory: what the reset gate lets through to the candidate."""
    products = _split_gates(h_tm1 @ cell.recurrent)
    memory = products.candidate + jnp.broadcast_to(cell.memory_bias, h_tm1.shape)
    reset = jax.nn.sigmoid(inputs.reset + products.reset)
    update = jax.nn.sigmoid(inputs.update + products.update)
    candidate = jnp.tanh(inputs.candidate + reset * memory)
    return Gates(reset, update, candidate), memory


def _next_state(
    cell: Cell, inputs: Gates, h_tm1: Float[Array, "*batch U"]
) -> Float[Array, "*batch U"]:
    gates, _ = _activations(cell, inputs, h_tm1)
    return _mixed(gates, h_tm1)


def _mixed(gates: Gates, h_tm1: Float[Array, "*batch U"]) -> Float[Array, "*batch U"]:
    return gates.candidate + gates.update * (h_tm1 - gates.candidate)


@jax.custom_vjp
def _states(
    cell: Cell, embedded: Float[Array, "T B E"], h_before: Float[Array, "B U"]
) -> Float[Array, "T B U"]:
    """The states after every step of a block that begins in the states `h_before`."""

    def step(h_tm1: Array, inputs_t: Gates) -> tuple[Array, Array]:
        h_t = _next_state(cell, inputs_t, h_tm1)
        return h_t, h_t

    _, h = jax.lax.scan(step, h_before, _input_gates(cell, embedded))
    return h


class Residuals(NamedTuple):
    """What the backward pass needs to know of the forward pass over a block."""

    cell: Cell
    embedded: Array
    h_before: Array
    h: Array
    gates: Gates
    memory: Array


def _states_forward(cell: Cell, embedded: Array, h_before: Array) -> tuple[Array, Residuals]:
    def step(h_tm1: Array, inputs_t: Gates) -> tuple[Array, tuple[Array, Gates, Array]]:
        gates, memory = _activations(cell, inputs_t, h_tm1)
        h_t = _mixed(gates, h_tm1)
        return h_t, (h_t, gates, memory)

    _, (h, gates, memory) = jax.lax.scan(step, h_before, _input_gates(cell, embedded))
    return h, Residuals(cell, embedded, h_before, h, gates, memory)


def _states_backward(
    residuals: Residuals, dh_direct: Float[Array, "T B U"]
) -> tuple[Cell, Float[Array, "T B E"], Float[Array, "B U"]]:
    """Cotangents of the arguments of `_states`, from that of its result."""
    cell, embedded, h_before, h, gates, memory = residuals
    h_tm1 = jnp.concatenate([h_before[None], h[:-1]])

    # Derivatives of a state by its gates' inputs, and by its recurrent products.
    by_candidate = (1 - gates.update) * (1 - gates.candidate**2)
    by_update = (h_tm1 - gates.candidate) * gates.update * (1 - gates.update)
    by_reset = by_candidate * memory * gates.reset * (1 - gates.reset)
    by_memory = by_candidate * gates.reset
    by_inputs = Gates(by_reset, by_update, by_candidate)
    by_products = Gates(by_reset, by_update, by_memory)

    recurrent_transposed = cell.recurrent.T

    def step(dh_later: Array, factors_t: tuple[Array, Array, Gates]) -> tuple[Array, Array]:
        dh_direct_t, update_t, by_products_t = factors_t
        dh_t = dh_direct_t + dh_later
        d_products = jnp.concatenate([dh_t * by for by in by_products_t], axis=-1)
        return dh_t * update_t + d_products @ recurrent_transposed, dh_t

    factors = (dh_direct, gates.update, by_products)
    dh_before, dh = jax.lax.scan(step, jnp.zeros_like(h_before), factors, reverse=True)

    d_inputs = jnp.concatenate([dh * by for by in by_inputs], axis=-1)
    d_products = jnp.concatenate([dh * by for by in by_products], axis=-1)
    d_cell = Cell(
        inputs=Dense(_over_steps(embedded, d_inputs), d_inputs.sum(axis=(0, 1))),
        recurrent=_over_steps(h_tm1, d_products),
        memory_bias=(dh * by_memory).sum(axis=(0, 1)),
    )
    return d_cell, d_inputs @ cell.inputs.kernel.T, dh_before


def _over_steps(x: Float[Array, "T B m"], y: Float[Array, "T B n"]) -> Float[Array, "m n"]:
    """The sum of outer products over steps and meta-episodes."""
    return outer_sum(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))


_states.defvjp(_states_forward, _states_backward)
