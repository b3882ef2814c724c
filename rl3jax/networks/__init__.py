"""Memories of actor and critic: sequence models over a meta-episode. They know no environment."""

import inspect
from typing import Any

import flax.linen as nn

from rl3jax.checks import ConfigError, nearest_name
from rl3jax.networks.base import Memory
from rl3jax.networks.flax_modules import FeedForward, Recurrent, as_memory
from rl3jax.networks.gru import Gru
from rl3jax.networks.markov import Markov
from rl3jax.networks.mingru import MinGru
from rl3jax.networks.s5 import S5
from rl3jax.networks.transformer import Transformer
from rl3jax.ranges import Size, check_value
from rl3jax.registry import Registry

__all__ = [
    "NETWORKS",
    "S5",
    "FeedForward",
    "Gru",
    "Markov",
    "Memory",
    "MinGru",
    "Recurrent",
    "Transformer",
    "as_memory",
    "make_network",
    "register",
]


def lstm(width: Size = 128) -> nn.Module:
    """Flax's long short-term memory.

    Args:
        width: units of the recurrent layer.
    """
    return nn.OptimizedLSTMCell(check_value("width", width, Size))


NETWORKS: Registry[Any] = Registry(
    "network",
    {
        "markov": Markov,
        "gru": Gru,
        "mingru": MinGru,
        "transformer": Transformer,
        "lstm": lstm,
        "s5": S5,
    },
    hidden=("width", "horizon", "name", "parent"),
)

register = NETWORKS.register
"""Makes `Config(network=name)` know a network: `register(name, factory)`, a class or a function.

It makes a `Memory`, or any flax module (`as_memory`). Its arguments are options; if it has them,
`width` is Config's and `horizon` the meta-episodes'.
"""


def make_network(name: str, *, width: int | None = None, horizon: int, **options: Any) -> Memory:
    """Makes a memory of a kind named in `NETWORKS`.

    Args:
        name: "markov", "gru", "mingru", "transformer", "lstm", "s5", or one that was registered.
        width: units of a layer (markov), of the recurrent layers (gru, mingru, lstm) or size of
            the embeddings (transformer, s5); the kind's own default if None.
        horizon: steps of the meta-episodes it will be trained on; for the transformer and mingru.
        **options: the kind's other sizes; None is its own default.

    Raises:
        ConfigError: the name is unknown, or a size is not allowed.
    """
    factory = NETWORKS.find(name)
    taken = inspect.signature(factory).parameters
    given = {k: v for k, v in {"width": width, **options}.items() if v is not None}
    for option in given.keys() - taken.keys():
        raise ConfigError(f"network {name!r} has no {option}; {nearest_name(option, taken)}")
    return as_memory(factory(**given, **({"horizon": horizon} if "horizon" in taken else {})))
