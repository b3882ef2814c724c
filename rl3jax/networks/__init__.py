"""Networks of actor and critic: sequence models over a meta-episode. They know no environment."""

from rl3jax.checks import check_choice
from rl3jax.networks.base import Network
from rl3jax.networks.gru import Gru
from rl3jax.networks.mlp import Markov
from rl3jax.networks.transformer import Transformer

__all__ = ["NETWORKS", "Gru", "Markov", "Network", "Transformer", "make_network"]

NETWORKS: dict[str, type[Network]] = {"markov": Markov, "gru": Gru, "transformer": Transformer}


def make_network(name: str, *, width: int | None = None, horizon: int) -> Network:
    """Makes a network of a kind named in `NETWORKS`, with one output.

    Args:
        name: "markov", "gru" or "transformer".
        width: units of a layer (markov, gru) or size of the embeddings (transformer); the kind's
            own default if None.
        horizon: steps of the meta-episodes it will be trained on; only the transformer needs it.

    Raises:
        ValueError: the name is unknown, or a size is not allowed.
    """
    check_choice("network", name, NETWORKS)
    sizes = {} if width is None else {"width": width}
    if name == "transformer":
        sizes["horizon"] = horizon
    return NETWORKS[name](**sizes)
