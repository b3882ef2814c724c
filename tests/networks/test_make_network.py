import re

import flax.linen as nn
import jax
import pytest

from rl3jax.networks import (
    NETWORKS,
    S5,
    Gru,
    Markov,
    MinGru,
    Recurrent,
    Transformer,
    make_network,
)
from rl3jax.policy import Network, PlainHead


def test_every_kind_has_its_sizes_by_default():
    assert make_network("markov", horizon=250) == Markov(width=64)
    assert make_network("gru", horizon=250) == Gru(width=256, embedding=64)
    assert make_network("transformer", horizon=250) == Transformer(
        width=64, layers=2, heads=4, horizon=250
    )
    assert make_network("mingru", horizon=250) == MinGru(
        width=128, layers=1, embedding=64, horizon=250
    )
    assert make_network("s5", horizon=250) == S5(width=64, layers=2, states=64)
    assert make_network("lstm", horizon=250) == Recurrent(nn.OptimizedLSTMCell(128))


@pytest.mark.parametrize("name", NETWORKS)
def test_width_is_an_option(name):
    memory = make_network(name, width=32, horizon=100)
    width = memory.cell.features if name == "lstm" else memory.width
    assert width == 32
    params = jax.eval_shape(lambda: Network(memory, PlainHead(5)).init(jax.random.key(0), 3))
    features = memory.embedding if name == "mingru" else 32
    assert params["head"]["params"]["Dense_0"]["kernel"].shape == (features, 5)


@pytest.mark.parametrize(
    ("name", "nearest"), [("transfomer", "transformer"), ("GRU", "gru"), ("markow", "markov")]
)
def test_unknown_names_are_answered_with_the_nearest(name, nearest):
    allowed = "gru, lstm, markov, mingru, s5, transformer"
    message = f"unknown network {name!r}; did you mean {nearest!r}? Allowed: {allowed}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_network(name, horizon=100)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("width", [0, -4, True])
def test_width_must_be_a_positive_integer(name, width):
    with pytest.raises(
        ValueError, match=f"^width must be (at least 1|a whole number), not {width}$"
    ):
        make_network(name, width=width, horizon=100)


def test_horizon_must_be_a_positive_integer():
    with pytest.raises(ValueError, match=r"^horizon must be at least 1, not 0$"):
        make_network("transformer", horizon=0)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"^width must be a multiple of heads \(4\).*, got 30$"):
        make_network("transformer", width=30, horizon=100)
