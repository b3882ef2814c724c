import dataclasses
import json
import os
import pickle
import zipfile
from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, load_agent, make_trainer, save_agent
from rl3jax.baselines import UniformAgent
from rl3jax.files import FileError
from rl3jax.networks import NETWORKS
from rl3jax.object_level import VALUE, Feature, QLearning, abstraction, q_learning
from tests import children


def make_agent(**changes):
    values = dict(env="mdp", n_tasks=4, horizon=9, width=8)
    trainer = make_trainer(Config(**(values | changes)))
    return trainer.agent(trainer.init(jax.random.key(3)))


def logits_of(agent):
    decision, _ = agent.decide(agent.init(jnp.int32(0)), jax.random.key(0))
    return np.asarray(decision.behaviour)


@pytest.mark.parametrize(
    ("network", "algo", "options"),
    [
        ("markov", "rl2", {"belief": "varibad", "belief_width": 5}),
        ("markov", "rl3", {"head": "state", "head_width": 5}),
        ("gru", "rl2", {"head": "hyper", "hyper_width": 4}),
        ("gru", "rl3", {}),
        ("transformer", "rl2", {}),
        ("transformer", "rl3", {}),
    ],
)
def test_a_saved_agent_is_the_same_agent(tmp_path, network, algo, options):
    agent = make_agent(network=network, algo=algo, **options)
    save_agent(tmp_path / "a", agent)
    loaded = load_agent(tmp_path / "a")
    assert jax.tree.structure(loaded) == jax.tree.structure(agent)
    chex.assert_trees_all_equal(loaded, agent)


@pytest.mark.parametrize("network", ["gru", "s5", "transformer"])
def test_an_agent_acts_in_the_precision_of_the_process(tmp_path, network):
    save_agent(tmp_path / "a", make_agent(network=network))
    with jax.enable_x64(True):
        agent = load_agent(tmp_path / "a")
        assert {x.dtype for x in jax.tree.leaves(agent)} == {np.dtype("float64")}

        def step(carry, key):
            action, carry = agent.act(carry, key)
            return agent.observe(carry, action, 1, 0, False, False, 0), action

        jax.lax.scan(step, agent.init(0), jax.random.split(jax.random.key(0), 2))
        save_agent(tmp_path / "b", agent)
    chex.assert_trees_all_equal(load_agent(tmp_path / "b"), load_agent(tmp_path / "a"))


def on_clusters(agent, learner):
    places = np.random.default_rng(0).normal(size=(learner.num_states, 2))
    return agent.replace(learner=abstraction(learner, places, radius=0.1, size=2))


def test_a_learner_within_a_learner_is_saved_too(tmp_path):
    agent = make_agent(mean_rewards=False)  # which Q-learning has not
    for path, learner in ("a", agent.learner), ("b", q_learning(10, 5, step_size=0.1)):
        nested = on_clusters(agent, learner)
        save_agent(tmp_path / path, nested)
        loaded = load_agent(tmp_path / path)
        assert loaded.learner == nested.learner
        assert hash(loaded.learner) == hash(nested.learner)
        assert loaded.learner.learner == learner
        chex.assert_trees_all_equal(loaded, nested)


def test_equal_agents_are_equal_files(tmp_path):
    for name in ("a", "b"):
        save_agent(tmp_path / name, make_agent())
    a, b = ((tmp_path / name / "agent.npz").read_bytes() for name in ("a", "b"))
    assert a == b


def test_a_saved_agent_acts_identically_in_a_new_process(tmp_path):
    agent = make_agent(object_level="q_learning", network="gru")
    save_agent(tmp_path, agent)
    script = (
        "import sys, jax, jax.numpy as jnp, numpy as np, rl3jax\n"
        "agent = rl3jax.load_agent(sys.argv[1])\n"
        "decision, _ = agent.decide(agent.init(jnp.int32(0)), jax.random.key(0))\n"
        "np.save(sys.argv[2], decision.behaviour)\n"
    )
    out = tmp_path / "logits.npy"
    assert children.run("-c", script, tmp_path, out).returncode == 0
    np.testing.assert_array_equal(np.load(out), logits_of(agent))


def test_only_policies_are_saved(tmp_path):
    with pytest.raises(TypeError, match="UniformAgent"):
        save_agent(tmp_path / "a", UniformAgent(3))
    assert not (tmp_path / "a").exists()


class Wave(nn.Module):
    """A network of one's own, with fields of every kind that can be saved."""

    features: int = 4
    scale: float = 1.0
    wave: Callable = jnp.sin
    inner: tuple[nn.Module, ...] = (nn.LayerNorm(epsilon=1e-3), nn.Sequential((nn.relu,)))
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        x = self.wave(self.scale * nn.Dense(self.features, kernel_init=self.kernel_init)(x))
        for module in self.inner:
            x = module(x)
        return x


def trained_with(**parts):
    trainer = make_trainer(Config(env="mdp", n_tasks=4, horizon=9), **parts)
    return trainer.agent(trainer.init(jax.random.key(3)))


OF_FLAX = {
    "recurrent": nn.OptimizedLSTMCell(8, gate_fn=nn.hard_sigmoid),
    "nested": nn.Sequential((nn.Dense(8), nn.tanh, nn.LayerNorm(epsilon=1e-3), nn.Dense(4))),
}


@pytest.mark.parametrize("network", OF_FLAX)
def test_an_agent_with_a_network_of_flax_is_loaded_unasked(tmp_path, network):
    agent = trained_with(network=OF_FLAX[network])
    save_agent(tmp_path, agent)
    loaded = load_agent(tmp_path)
    assert loaded.network == agent.network
    chex.assert_trees_all_equal(loaded, agent)


def test_a_network_of_ones_own_is_given_to_whoever_loads_it(tmp_path):
    network = Wave(scale=2, kernel_init=nn.initializers.normal(0.5))
    agent = trained_with(network=network)
    save_agent(tmp_path, agent)
    with pytest.raises(FileError, match=r"Wave'.*give its network .*network=…"):
        load_agent(tmp_path)
    chex.assert_trees_all_equal(load_agent(tmp_path, network=network), agent)
    with pytest.raises(FileError, match=r"not expected|missing|not float32"):
        load_agent(tmp_path, network=nn.Dense(5))


def test_a_registered_network_of_ones_own_is_loaded_unasked(tmp_path, monkeypatch):
    agent = trained_with(network=Wave(scale=2))
    save_agent(tmp_path, agent)
    monkeypatch.setitem(NETWORKS, "wave", Wave)
    chex.assert_trees_all_equal(load_agent(tmp_path), agent)


class OwnLearner(QLearning):
    """A learner with a parameter."""

    def init_params(self, key):
        return {"initial": jax.random.normal(key)}

    def features(self, table, s):
        return super().features(table, s) | {
            "initial": Feature(self.params["initial"][None], VALUE)
        }


def test_so_is_a_learner_of_ones_own_with_its_parameters(tmp_path):
    own = OwnLearner(10, 5, discount=0.9, step_size=None, initial_value=0.0)
    agent = trained_with(learner=own)
    assert agent.learner_params["initial"] != 0
    save_agent(tmp_path, agent)
    with pytest.raises(FileError, match="OwnLearner"):
        load_agent(tmp_path)
    loaded = load_agent(tmp_path, learner=own)
    chex.assert_trees_all_equal(loaded, agent)
    assert (logits_of(loaded) == logits_of(agent)).all()


@pytest.mark.parametrize(
    "field", [{"wave": lambda x: x}, {"inner": {1, 2}}, {"scale": jnp.ones(1)}]
)
def test_a_field_that_cannot_be_saved_is_named(tmp_path, field):
    agent = trained_with(network=Wave())
    memory = agent.network.memory.clone(module=Wave(**field))
    network = dataclasses.replace(agent.network, memory=memory)
    with pytest.raises(TypeError, match=f"{next(iter(field))} of Wave is .* cannot be saved"):
        save_agent(tmp_path / "a", agent.replace(network=network))
    assert not (tmp_path / "a").exists()


def rewrite(path, **members):
    """The agent file with some members replaced (None: left out)."""
    with zipfile.ZipFile(path) as archive:
        data = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (data | members).items():
            if content is not None:
                archive.writestr(name, content)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def edit_header(file, edit):
    with zipfile.ZipFile(file) as archive:
        header = json.loads(archive.read("agent.json"))
    edit(header)
    rewrite(file, **{"agent.json": json.dumps(header)})


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


FIRST = "params/memory/params/Dense_0/kernel.npy"
ABSURD = b"\x93NUMPY\x01\x00v\x00" + (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
)
HARMS = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "flipped": flip_a_bit,
    "no header": lambda file: rewrite(file, **{"agent.json": None}),
    "other format": lambda file: edit_header(file, lambda h: h.update(format="rl3jax-agent-9")),
    "unknown kind": lambda file: edit_header(
        file, lambda h: h["memory"].update({"class": "rl3jax:Mamba"})
    ),
    "no part": lambda file: edit_header(file, lambda h: h.update(learner="none")),
    "unknown inner part": lambda file: edit_header(
        file, lambda h: h["learner"].update(discount={"class": "rl3jax:Mamba"})
    ),
    "bad size": lambda file: edit_header(file, lambda h: h["memory"].update(width=-1)),
    "no array": lambda file: rewrite(file, **{FIRST: None}),
    "pickle": lambda file: rewrite(file, **{FIRST: pickle.dumps(Harmful())}),
    "shape": lambda file: rewrite(file, **{FIRST: ABSURD}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_no_agent_is_refused_in_one_line(tmp_path, harm, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_agent("agent", make_agent())
    HARMS[harm](tmp_path / "agent" / "agent.npz")
    with pytest.raises(FileError) as caught:
        load_agent("agent")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
