"""Networks of one's own: any flax module, recurrent or not, trained, saved and loaded."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rl3jax import Config, ConfigError, load_agent, make_trainer, save_agent
from rl3jax.archive import open_archive
from rl3jax.files import FileError
from rl3jax.networks import FeedForward, Gru, Recurrent, as_memory
from tests import children

SMALL = Config(env="bandit", algo="rl2", num_arms=3, n_tasks=4, horizon=3, minibatches=1, epochs=1)


class Scaled(nn.Module):
    """Feed-forward, and remembers nothing."""

    scale: float = 1.0
    activation: Callable[..., Any] = nn.relu
    sizes: Any = (8,)
    inner: nn.Module | None = None

    @nn.compact
    def __call__(self, x):
        for size in self.sizes:
            x = self.activation(nn.Dense(size)(x)) * self.scale
        return x if self.inner is None else self.inner(x)


def trained(network):
    """A trainer, and its state after an update."""
    trainer = make_trainer(SMALL, network=network)
    return trainer, trainer.update(trainer.init(jax.random.key(0)))[0]


def decide(agent):
    return agent.decide(agent.init(jnp.int32(0)), jax.random.key(0))[0]


# --- which kind of memory -----------------------------------------------------------------------


def test_a_module_is_recurrent_if_it_has_an_initial_carry():
    assert as_memory(nn.GRUCell(8)) == Recurrent(nn.GRUCell(8))
    assert as_memory(Scaled()) == FeedForward(Scaled())
    assert as_memory(Gru(width=8)) == Gru(width=8)
    assert as_memory(Scaled(name="own")) == as_memory(Scaled())


def test_whole_numbers_in_float_fields_are_floats():
    """1 == 1.0, so either would run the program that was compiled for the other."""
    memory = as_memory(Scaled(scale=2, inner=Scaled(scale=3)))
    assert memory == as_memory(Scaled(scale=2.0, inner=Scaled(scale=3.0)))
    assert type(memory.module.scale) is type(memory.module.inner.scale) is float


@pytest.mark.parametrize("sizes", [[8], {8: 8}, np.array([8]), jnp.array([8])])
def test_fields_that_do_not_hash_are_refused_in_one_line(sizes):
    with pytest.raises(ConfigError, match="network Scaled has a field that does not hash") as error:
        make_trainer(SMALL, network=Scaled(sizes=sizes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("network", ["lstm", nn.Dense, None])
def test_what_is_no_module_is_refused_in_one_line(network):
    with pytest.raises(ConfigError, match=r"network must be a flax\.linen module, not ") as error:
        as_memory(network)
    assert "\n" not in str(error.value)


class Raising(nn.Module):
    def __call__(self, x):
        raise KeyError("no\nsuch weights")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Raising(), "cannot be used: .*such weights"),
        (nn.BatchNorm(use_running_average=True), "variables that are no parameters.*batch_stats"),
    ],
)
def test_what_cannot_be_a_network_is_refused_in_one_line(network, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_trainer(SMALL, network=network)
    assert "\n" not in str(error.value)


# --- training -----------------------------------------------------------------------------------

SEEDS_AND_DEVICES = """
import flax.linen as nn, jax
from rl3jax import Config, make_trainer

sizes = dict(algo="rl2", n_tasks=4, horizon=3, iterations=1, minibatches=1, epochs=1)
keys = jax.random.split(jax.random.key(0), 8)
trainer = make_trainer(Config(devices=2, **sizes), network=nn.OptimizedLSTMCell(256))
_, history = jax.vmap(trainer.train)(keys)
assert all(jax.numpy.isfinite(x).all() for x in jax.tree.leaves(history))
print("trained")
"""


@pytest.mark.slow
def test_a_cell_of_flax_trains_under_vmap_and_over_two_devices():
    """In a process with a time limit: decompositions at once would wait for each other for ever."""
    result = children.run("-c", SEEDS_AND_DEVICES, num_cpu_devices=2)
    assert result.stdout.strip() == "trained", result.stderr[-2000:]


def nnx_layer():
    num_inputs = make_trainer(SMALL).layout.size
    return nnx.bridge.ToLinen(nnx.Linear, args=(num_inputs, 8))


MODULES = {
    "lstm": lambda: nn.OptimizedLSTMCell(8),
    "feed-forward": lambda: Scaled(scale=2, inner=Scaled()),
    "nnx": nnx_layer,
}


@pytest.mark.parametrize("make", MODULES.values(), ids=list(MODULES))
def test_every_weight_of_a_module_trains_and_is_saved(make, tmp_path):
    network = make()
    trainer = make_trainer(SMALL, network=network)
    before = trainer.init(jax.random.key(0))
    after, _ = trainer.update(before)
    moved = jax.tree.map(lambda a, b: (a != b).any(), before.models, after.models)
    assert all(jax.tree.leaves((moved["actor"].params, moved["critic"].params)))

    agent = trainer.agent(after)
    save_agent(tmp_path, agent)
    loaded = load_agent(tmp_path, network=network)
    assert loaded.network == agent.network
    chex.assert_trees_all_equal(decide(loaded), decide(agent))


# --- files --------------------------------------------------------------------------------------


def test_code_of_ones_own_is_not_imported_unless_it_is_given(tmp_path):
    network = Scaled(scale=2, activation=nn.tanh)
    trainer, state = trained(network)
    save_agent(tmp_path, trainer.agent(state))
    with open_archive(tmp_path / "agent.npz") as archive:
        held = archive.header("agent")["memory"]["module"]
    assert held == {
        "class": f"{Scaled.__module__}:Scaled", "scale": 2.0,
        "activation": {"name": "flax.linen:tanh"},
    }  # fmt: skip
    with pytest.raises(FileError, match=r"neither rl3jax's nor flax's.*network=") as error:
        load_agent(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(FileError) as error:  # another one has other weights
        load_agent(tmp_path, network=Scaled(sizes=(9,)))
    assert "\n" not in str(error.value)
    assert load_agent(tmp_path, network=network).network == trainer.settings.actor
