"""Memories of actor and critic: sequence models over a meta-episode. They know no environment."""

from collections.abc import Callable

import flax.linen as nn

from rl3jax.checks import check_choice, check_size
from rl3jax.networks.base import Memory
from rl3jax.networks.flax_modules import FeedForward, Recurrent, as_memory
from rl3jax.networks.gru import Gru
from rl3jax.networks.markov import Markov
from rl3jax.networks.transformer import Transformer

__all__ = [
    "NETWORKS",
    "FeedForward",
    "Gru",
    "Markov",
    "Memory",
    "Recurrent",
    "Transformer",
    "as_memory",
    "make_network",
]


def _lstm(width: int = 128) -> nn.Module:
    check_size("width", width)
    return nn.OptimizedLSTMCell(width)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "markov": Markov,
    "gru": Gru,
    "transformer": Transformer,
    "lstm": _lstm,
}


def make_network(name: str, *, width: int | None = None, horizon: int) -> Memory:
    """Makes a memory of a kind named in `NETWORKS`.

    Args:
        name: "markov", "gru", "lstm" or "transformer".
        width: units of a layer (markov), of the recurrent layer (gru, lstm) or size of the
            embeddings (transformer); the kind's own default if None.
        horizon: steps of the meta-episodes it will be trained on; only the transformer needs it.

    Raises:
        ValueError: the name is unknown, or a size is not allowed.
    """
    check_choice("network", name, NETWORKS)
    sizes = {} if width is None else {"width": width}
    if name == "transformer":
        sizes["horizon"] = horizon
    return as_memory(NETWORKS[name](**sizes))
