"""What a network is, and the two layers that all of them are made of.

Actor and critic of RL³ are two networks of one kind, with different numbers of outputs. A network
is a frozen, hashable bundle of sizes with pure methods; its weights are an argument. It acts one
observation at a time (`step`) and is trained on whole meta-episodes (`unroll`): both must give the
same outputs, so each kind writes its arithmetic once and uses it in both.
"""

import abc
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rl3jax.devices import on_cpu
from rl3jax.ranges import Size, check_fields

Params = Any
"""A pytree of arrays in JAX's default float type; each kind of network documents its own."""

Carry = Any
"""What a network remembers of one task's meta-episode so far: a pytree of arrays, maybe empty."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network(abc.ABC):
    """A kind of network with its sizes, all of them positive integers.

    Attributes:
        num_outputs: size of the last dense layer: the number of actions for an actor, 1 for a
            critic.

    Raises:
        ValueError: a size is not a positive integer.
    """

    num_outputs: Size = 1

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def rows_at_a_time(self) -> int | None:
        """Rows (steps × meta-episodes) that it is best trained on together; `None`: all there are.

        On CPU the activations of so many rows stay in the caches between forward and backward pass.
        An accelerator has to be filled.
        """
        return None

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray, num_inputs: int) -> Params:
        """Draws weights for observations of `num_inputs` numbers; the key is consumed."""

    @abc.abstractmethod
    def initial_carry(self, horizon: int) -> Carry:
        """Returns one task's carry before the first of `horizon` steps of a meta-episode."""

    @abc.abstractmethod
    def step(
        self, params: Params, carry: Carry, x: Float[Array, " D"]
    ) -> tuple[Carry, Float[Array, " num_outputs"]]:
        """Takes in one task's next observation and gives the outputs for it.

        A batch of tasks is a `jax.vmap` over `carry` and `x`.
        """

    @abc.abstractmethod
    def unroll(
        self, params: Params, xs: Float[Array, "T *batch D"]
    ) -> Float[Array, "T *batch num_outputs"]:
        """Gives the outputs at every step of meta-episodes that begin with a fresh carry."""


class Dense(NamedTuple):
    """Weights of a dense layer."""

    kernel: Array  # [inputs, outputs]
    bias: Array  # [outputs]


def init_dense(key: PRNGKeyArray, num_inputs: int, num_outputs: int, blocks: int = 1) -> Dense:
    """Draws a Glorot-uniform kernel and a zero bias; the key is consumed.

    With `blocks` > 1 the layer is that many layers of `num_outputs` side by side, each with the
    bounds it would have alone.
    """
    bound = math.sqrt(6 / (num_inputs + num_outputs))
    shape = (num_inputs, blocks * num_outputs)
    kernel = jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    return Dense(kernel, jnp.zeros(blocks * num_outputs))


def dense(layer: Dense, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
    """Returns `x @ kernel + bias`."""
    # As rows of one matrix: the kernel's gradient is then a single plain product, and much faster.
    rows = x.reshape(-1, x.shape[-1])
    return (_product(rows, layer.kernel) + layer.bias[None]).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def _product(x: Float[Array, "rows m"], kernel: Float[Array, "m n"]) -> Float[Array, "rows n"]:
    return x @ kernel


def _product_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _product_backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    return dy @ kernel.T, outer_sum(x, dy)


_product.defvjp(_product_forward, _product_backward)


def outer_sum(x: Float[Array, "rows m"], y: Float[Array, "rows n"]) -> Float[Array, "m n"]:
    """Returns `x.T @ y`, the sum over rows of outer products, in the way that is fastest on CPU.

    There the second factor of such a product should be wide, and where it is not, the first one
    transposed beforehand: up to nine times as fast as written plainly.
    """
    if not on_cpu() or y.shape[1] >= 128:
        return x.T @ y
    if y.shape[1] < x.shape[1]:
        return jax.lax.optimization_barrier(y.T @ x).T
    return jax.lax.optimization_barrier(x.T) @ y


class LayerNorm(NamedTuple):
    """Weights of a layer normalisation."""

    scale: Array  # [features]
    bias: Array  # [features]


def init_layer_norm(num_features: int) -> LayerNorm:
    """Returns the weights that only normalise: scale 1, bias 0."""
    return LayerNorm(jnp.ones(num_features), jnp.zeros(num_features))


def layer_norm(layer: LayerNorm, x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Brings the last axis to mean 0 and variance 1, then scales and shifts it."""
    rows = jax.nn.standardize(x.reshape(-1, x.shape[-1]), axis=-1, epsilon=1e-5)
    return (rows * layer.scale[None] + layer.bias[None]).reshape(x.shape)
