import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, load_agent, make_trainer, save_agent
from rl3jax.baselines import UniformAgent
from rl3jax.files import FileError
from rl3jax.object_level import QLearning, abstraction, q_learning
from rl3jax.runs.checkpoint import (
    check_state,
    checkpoints,
    read_manifest,
    restore_checkpoint,
    save_checkpoint,
)


def make_agent(**changes):
    values = dict(env="mdp", n_tasks=4, horizon=9, width=8)
    trainer = make_trainer(Config(**(values | changes)))
    return trainer.agent(trainer.init(jax.random.key(3)))


def logits_of(agent):
    decision, _ = agent.decide(agent.init(jnp.int32(0)), jax.random.key(0))
    return np.asarray(decision.logits)


# --- agents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["markov", "gru", "transformer"])
@pytest.mark.parametrize("algo", ["rl2", "rl3"])
def test_a_saved_agent_is_the_same_agent(tmp_path, network, algo):
    agent = make_agent(network=network, algo=algo)
    save_agent(tmp_path / "a", agent)
    loaded = load_agent(tmp_path / "a")
    assert jax.tree.structure(loaded) == jax.tree.structure(agent)
    chex.assert_trees_all_equal(loaded, agent)


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
        "np.save(sys.argv[2], decision.logits)\n"
    )
    out = tmp_path / "logits.npy"
    subprocess.run([sys.executable, "-c", script, tmp_path, out], check=True, timeout=120)
    np.testing.assert_array_equal(np.load(out), logits_of(agent))


def test_only_policies_of_our_own_parts_are_saved(tmp_path):
    with pytest.raises(TypeError, match="UniformAgent"):
        save_agent(tmp_path / "a", UniformAgent(3))
    assert not (tmp_path / "a").exists()


class OwnLearner(QLearning):
    pass


def test_nor_are_parts_of_parts_that_are_not_our_own(tmp_path):
    own = OwnLearner(10, 5, discount=0.9, step_size=None, initial_value=0.0)
    with pytest.raises(TypeError, match="OwnLearner is not one of rl3jax's own"):
        save_agent(tmp_path / "a", on_clusters(make_agent(), own))
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


FIRST = "params/first/kernel.npy"
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
    "unknown kind": lambda file: edit_header(file, lambda h: h["network"].update(kind="mamba")),
    "no part": lambda file: edit_header(file, lambda h: h.update(learner="none")),
    "unknown inner part": lambda file: edit_header(
        file, lambda h: h["learner"].update(discount={"kind": "mamba"})
    ),
    "bad size": lambda file: edit_header(file, lambda h: h["network"].update(width=-1)),
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


# --- checkpoints -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state():
    trainer = make_trainer(Config(n_tasks=4, horizon=5, width=8))
    return trainer.init(jax.random.key(0))


def test_a_checkpoint_restores_every_bit(tmp_path, state):
    path = save_checkpoint(tmp_path, 7, state, {"note": 1})
    manifest = read_manifest(path)
    assert (manifest["iteration"], manifest["description"]) == (7, {"note": 1})
    restored = restore_checkpoint(path, jax.eval_shape(lambda: state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype
        assert (a == b).all()


def test_the_last_two_are_kept(tmp_path, state):
    for iteration in (0, 5, 10, 15):
        save_checkpoint(tmp_path, iteration, state, {})
    assert [path.name for path in checkpoints(tmp_path)] == ["00000015", "00000010"]


def test_a_checkpoint_without_a_manifest_does_not_count(tmp_path, state):
    save_checkpoint(tmp_path, 1, state, {})
    path = save_checkpoint(tmp_path, 2, state, {})
    (path / "manifest.json").unlink()
    assert [path.name for path in checkpoints(tmp_path)] == ["00000001"]


DAMAGES = {
    "flip": flip_a_bit,
    "truncate": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "delete": lambda file: file.unlink(),
    "grow": lambda file: os.truncate(file, 2**33),
    "pipe": lambda file: (file.unlink(), os.mkfifo(file)),
}


@pytest.mark.parametrize("file", ["manifest.json", "state.npz"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_noticed(tmp_path, state, damage, file):
    path = save_checkpoint(tmp_path, 1, state, {})
    DAMAGES[damage](path / file)
    with pytest.raises(FileError, match=r"damaged|cannot be read|regular") as caught:
        check_state(path, read_manifest(path), state)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_under_another_name_is_noticed(tmp_path, state):
    save_checkpoint(tmp_path, 1, state, {}).rename(tmp_path / "00000002")
    with pytest.raises(FileError, match="is that of iteration 1"):
        read_manifest(tmp_path / "00000002")


@pytest.mark.parametrize(
    "change", [{"iteration": 2}, {"description": {"a": 1}}, {"bytes": 10**12}, {"sha256": "0"}]
)
def test_a_changed_manifest_is_noticed(tmp_path, state, change):
    path = save_checkpoint(tmp_path, 1, state, {})
    manifest = json.loads((path / "manifest.json").read_text()) | change
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FileError, match="not as it was written"):
        read_manifest(path)


def test_how_a_manifest_is_spelled_does_not_matter(tmp_path, state):
    path = save_checkpoint(tmp_path, 1, state, {"note": 1})
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest, sort_keys=True))
    check_state(path, read_manifest(path), state)


@pytest.mark.parametrize("missing", ["iteration", "description", "arrays", "bytes", "sha256"])
def test_a_manifest_with_a_digest_of_its_own_is_no_better(tmp_path, state, missing):
    path = save_checkpoint(tmp_path, 1, state, {})
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest[missing], manifest["digest"]
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest | {"digest": digest}))
    with pytest.raises(FileError, match="not complete"):
        read_manifest(path)


@pytest.mark.parametrize("manifest", ["{", "[]", "{}", '{"format": 3}', "[" * 100_000])
def test_an_unreadable_manifest_is_noticed(tmp_path, state, manifest):
    path = save_checkpoint(tmp_path, 1, state, {})
    (path / "manifest.json").write_text(manifest)
    with pytest.raises(FileError):
        read_manifest(path)


def test_what_a_killed_process_left_is_removed(tmp_path, state):
    (tmp_path / ".00000003.tmp").mkdir()
    save_checkpoint(tmp_path, 4, state, {})
    assert [path.name for path in tmp_path.iterdir()] == ["00000004"]


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path, state, monkeypatch):
    save_checkpoint(tmp_path, 1, state, {})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, 2, state, {})
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]


def test_a_state_of_another_shape_is_refused(tmp_path, state):
    path = save_checkpoint(tmp_path, 1, state, {})
    other = make_trainer(Config(n_tasks=4, horizon=5, width=16)).init(jax.random.key(0))
    with pytest.raises(FileError, match="kernel"):
        restore_checkpoint(path, jax.eval_shape(lambda: other))
