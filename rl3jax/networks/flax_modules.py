"""Flax modules of anyone's as memories."""

from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from rl3jax.checks import ConfigError, shown
from rl3jax.networks.base import Memory
from rl3jax.networks.layers import in_default_float


class Recurrent(Memory):
    """A recurrent flax module as a memory: one with `initialize_carry`, (carry, x) → (carry, y).

    Attributes:
        cell: the module, for instance `flax.linen.OptimizedLSTMCell(64)`.
    """

    cell: nn.Module

    def initial_carry(self, horizon: int, num_inputs: int) -> Any:
        """The cell's own, drawn from a fixed key if it is random."""
        del horizon
        return self._initial_carry((num_inputs,))

    def _initial_carry(self, input_shape: tuple[int, ...]) -> Any:
        carry = self.cell.initialize_carry(jax.random.key(0), input_shape)
        return jax.tree.map(in_default_float, carry)

    def __call__(self, carry: Any, x: Float[Array, " D"]) -> tuple[Any, Float[Array, " F"]]:
        """The cell's step."""
        return self.cell(carry, x)

    def unroll(self, xs: Float[Array, "T *batch D"]) -> Float[Array, "T *batch F"]:
        """The cell's outputs at every step."""
        scan = nn.scan(
            lambda cell, carry, x: cell(carry, x),
            variable_broadcast="params",
            split_rngs={"params": False},
        )
        return scan(self.cell, self._initial_carry(xs.shape[1:]), xs)[1]


class FeedForward(Memory):
    """A flax module without a carry, x → y, as a memory that remembers nothing."""

    module: nn.Module

    def __call__(self, carry: tuple[()], x: Float[Array, " D"]) -> tuple[Any, Float[Array, " F"]]:
        """The module's output."""
        return carry, self.module(x)

    def unroll(self, xs: Float[Array, "T *batch D"]) -> Float[Array, "T *batch F"]:
        """The module's outputs, each for itself."""
        return self.module(xs)


def as_memory(network: Any) -> Memory:
    """A memory as it is, or a flax module of anyone's as one.

    It is recurrent if it has `initialize_carry`. Modules of flax.nnx come by `nnx.bridge.ToLinen`.

    Raises:
        ConfigError: if it is no flax module, or has fields that cannot be hashed, by which programs
            are told apart.
    """
    if not isinstance(network, nn.Module):
        raise ConfigError(f"network must be a flax.linen module, not {shown(network)}")
    network = _with_floats(network).clone(name=None, parent=None)
    try:
        hash(network)
    except TypeError as error:
        raise ConfigError(
            f"network {type(network).__name__} has a field that does not hash, a list, dict or "
            "array; use tuples and numbers"
        ) from error
    if isinstance(network, Memory):
        return network
    recurrent = hasattr(network, "initialize_carry")
    return Recurrent(network) if recurrent else FeedForward(network)


def _with_floats(network: nn.Module) -> nn.Module:
    """Whole numbers in float fields as floats: modules with 1 and 1.0 would be taken for one."""
    changes: dict[str, Any] = {}
    for name, field in network.__dataclass_fields__.items():
        value = getattr(network, name, None)
        if isinstance(value, nn.Module) and name != "parent":
            changes[name] = _with_floats(value)
        elif type(value) is int and field.type in (float, "float"):
            changes[name] = float(value)
    return network.clone(**changes)
