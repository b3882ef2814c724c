"""Networks of actor and critic: sequence models over a meta-episode. They know no environment."""

import inspect
from typing import Any

from rl3jax.checks import ConfigError, nearest_name
from rl3jax.networks.base import Network
from rl3jax.networks.gru import Gru
from rl3jax.networks.mlp import Markov
from rl3jax.networks.transformer import Transformer
from rl3jax.registry import Registry

__all__ = ["NETWORKS", "Gru", "Markov", "Network", "Transformer", "make_network", "register"]

NETWORKS: Registry[Any] = Registry(
    "network",
    {"markov": Markov, "gru": Gru, "transformer": Transformer},
    hidden=("width", "horizon", "num_outputs", "name", "parent"),
)

register = NETWORKS.register
"""Makes `Config(network=name)` know a network: `register(name, factory)`, a class or a function.

Its arguments are options; if it has them, `width` is Config's and `horizon` the meta-episodes'.
"""


def make_network(name: str, *, width: int | None = None, horizon: int, **options: Any) -> Network:
    """Makes a network of a kind named in `NETWORKS`, with one output.

    Args:
        name: "markov", "gru", "transformer", or one that was registered.
        width: units of a layer (markov, gru) or size of the embeddings (transformer); the kind's
            own default if None.
        horizon: steps of the meta-episodes it will be trained on; only the transformer needs it.
        **options: the kind's other sizes; None is its own default.

    Raises:
        ConfigError: the name is unknown, or a size is not allowed.
    """
    factory = NETWORKS.find(name)
    taken = inspect.signature(factory).parameters
    given = {k: v for k, v in {"width": width, **options}.items() if v is not None}
    for option in given.keys() - taken.keys():
        raise ConfigError(f"network {name!r} has no {option}; {nearest_name(option, taken)}")
    return factory(**given, **({"horizon": horizon} if "horizon" in taken else {}))
