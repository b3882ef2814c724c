"""Files from strangers: refused in one line, at once and with little memory; nothing executed.

All are tried in one process of its own, whose memory and time are watched.
"""

import hashlib
import json
import os
import resource
import sys
import time
import warnings
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from rl3jax import Config, ConfigError, load_agent, make_trainer, save_agent
from rl3jax.files import FileError
from rl3jax.runs.checkpoint import check_state, read_manifest, save_checkpoint
from rl3jax.runs.folder import RunFolder
from tests import children

MOST_SECONDS, MOST_MEBIBYTES = 1.0, 200
GIGABYTES = 8 * 2**30
TRANSFORMER = Config(env="mdp", network="transformer", width=8, n_tasks=4, horizon=5)


# --- agents ------------------------------------------------------------------------------------


def rewritten(file, change, **options):
    """The agent's members, changed by a function of them all."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def header(file, edit):
    def change(members):
        values = json.loads(members["agent.json"])
        edit(values)
        members["agent.json"] = json.dumps(values).encode()

    rewritten(file, change)


def array(file, make):
    """One of the agent's arrays as another one."""

    def change(members):
        path = Path(file).with_name("array.npy")
        np.save(path, make(np.float32([[0.0]])))
        members[next(name for name in members if name.endswith(".npy"))] = path.read_bytes()

    rewritten(file, change)


def not_finite(file, value):
    def change(members):
        name = next(name for name in members if name.startswith("params"))
        members[name] = members[name][:-4] + np.float32(value).tobytes()

    rewritten(file, change)


def long_npy_header(members):
    name = next(name for name in members if name.endswith(".npy"))
    members[name] = b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65_535


def many_members(file):
    with zipfile.ZipFile(file, "a") as archive:
        for number in range(30_000):
            archive.writestr(f"{number}.npy", b"")


def two_of_a_name(file):
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("agent.json", b"{}")


def replace_by(make):
    def change(file):
        os.unlink(file)
        make(file)

    return change


def huge(file):
    """Gigabytes that take no space on the disk."""
    with open(file, "r+b") as stream:
        stream.truncate(GIGABYTES)


def part(cls, of="memory", /, **fields):
    """A part of that class in place of the memory, or of another one."""
    return lambda file: header(file, lambda h: h.update({of: {"class": cls, **fields}}))


def within(module):
    """A module of flax's as the memory."""
    return part(FEED_FORWARD, module=module)


def nested(depth):
    """Modules within modules, as text: JSON's own writer would not go that deep."""
    opening = b'{"class": "flax.linen.combinators:Sequential", "layers": ['
    return b'{"class": "%s", "module": ' % FEED_FORWARD.encode() + opening * depth + b"]}" * depth


def deep(depth):
    def change(members):
        values = json.loads(members["agent.json"]) | {"memory": "here"}
        text = json.dumps(values).encode()
        members["agent.json"] = text.replace(b'"here"', nested(depth) + b"}")

    return lambda file: rewritten(file, change)


FEED_FORWARD = "rl3jax.networks.flax_modules:FeedForward"
DENSE = {"class": "flax.linen.linear:Dense", "features": 8}
CODE = """
import pathlib, flax.linen
pathlib.Path("executed").touch()
class Net(flax.linen.Module):
    pass
"""

PARTS = {
    "a module of the reader's": part("strange:Net"),
    "a module of the reader's, by another name": part("rl3jax:strange.Net"),
    "a module not imported yet": part("flax.metrics.tensorboard:SummaryWriter"),
    "a class that is no part": part("rl3jax.runs.folder:RunFolder", path="executed"),
    "flax's, and no part": part("flax.linen.module:Scope", variables={}),
    "a part of another kind": part("rl3jax.object_level.none:NoLearner", num_actions=5),
    "a module that is no memory": part("flax.linen.linear:Dense", features=8),
    "an abstract part": part("rl3jax.networks.base:Memory"),
    "a function as class": part("rl3jax.networks:make_network", name="gru", horizon=1),
    "a way through attributes": part("flax.linen.module:os.mkdir"),
    "a class that is no text": part(["rl3jax"]),
    "a part without class": lambda file: header(file, lambda h: h["memory"].pop("class")),
    "a function that does more": within({**DENSE, "dot_general": {"name": "flax.linen:vmap"}}),
    "a function of anyone's": within({**DENSE, "dot_general": {"name": "os:mkdir"}}),
    "an unknown field": part(FEED_FORWARD, module=DENSE, path="executed"),
    "a parent": within({**DENSE, "parent": DENSE}),
    "parameters in the header": part(
        "rl3jax.object_level.none:NoLearner", "learner", num_states=10, num_actions=5, params=[1]
    ),
    "10 000 within each other": deep(10_000),
    "90 within each other": deep(90),
    "10 000 beside each other": within(
        {"class": "flax.linen.combinators:Sequential", "layers": [DENSE] * 10_000}
    ),
    "a billion units of flax's": within({**DENSE, "features": 10**9}),
    "units less than none": within({**DENSE, "features": -1}),
    "units that are text": within({**DENSE, "features": "8"}),
    "heads of half a number": lambda file: header(file, lambda h: h["memory"].update(heads=0.5)),
    "outputs that are none": lambda file: header(file, lambda h: h["head"].update(num_outputs=0)),
    "unknown features": lambda file: header(file, lambda h: h.update(features="pixels")),
    "features that are no text": lambda file: header(
        file, lambda h: h.update(features=["tabular"])
    ),
    "features of another kind": lambda file: header(file, lambda h: h.update(features="scaled")),
    "a scale that is NaN": lambda file: header(
        file, lambda h: h["layout"].update(value_scale=np.nan)
    ),
    "a horizon below zero": lambda file: header(file, lambda h: h["layout"].update(horizon=-1)),
    "greedy that is text": lambda file: header(file, lambda h: h.update(greedy="no")),
    "thousands of estimates": lambda file: header(
        file, lambda h: h["layout"].update(estimates=h["layout"]["estimates"] * 3000)
    ),
    "estimates twice": lambda file: header(
        file, lambda h: h["layout"].update(estimates=h["layout"]["estimates"] * 2)
    ),
}


AGENTS = PARTS | {
    "gigabytes": huge,
    "a pipe": replace_by(os.mkfifo),
    "a device without end": replace_by(lambda file: os.symlink("/dev/zero", file)),
    "a folder": replace_by(os.mkdir),
    "a link to another file": replace_by(lambda file: os.symlink("/etc/hostname", file)),
    "a link to itself": replace_by(lambda file: os.symlink(file, file)),
    "compressed": lambda file: rewritten(
        file,
        lambda m: m.update({"agent.json": b"{" + b" " * 10**8}),
        compression=zipfile.ZIP_DEFLATED,
    ),
    "a header of 100 MB": lambda file: rewritten(
        file, lambda m: m.update({"agent.json": b"{" + b" " * 10**8})
    ),
    "a deep header": lambda file: rewritten(file, lambda m: m.update({"agent.json": b"[" * 10**5})),
    "a header of digits": lambda file: rewritten(
        file, lambda m: m.update({"agent.json": b"9" * 10**5})
    ),
    "no object": lambda file: rewritten(file, lambda m: m.update({"agent.json": b"[]"})),
    "many members": many_members,
    "two of a name": two_of_a_name,
    "a path out of the folder": lambda file: rewritten(
        file, lambda m: m.update({"../../outside.npy": b""})
    ),
    "a billion units": lambda file: header(file, lambda h: h["memory"].update(width=10**9)),
    "a million layers": lambda file: header(file, lambda h: h["memory"].update(layers=10**6)),
    "a billion states": lambda file: header(file, lambda h: h["learner"].update(num_states=10**9)),
    "a billion actions": lambda file: header(file, lambda h: h["layout"].update(action_size=10**9)),
    "beyond 64 bits": lambda file: header(file, lambda h: h["memory"].update(width=10**30)),
    "another shape": lambda file: array(file, lambda x: x),
    "objects": lambda file: array(file, lambda x: np.array([None])),
    "integers": lambda file: array(file, lambda x: x.astype(int)),
    "a long npy header": lambda file: rewritten(file, long_npy_header),
    "NaN": lambda file: not_finite(file, np.nan),
    "infinity": lambda file: not_finite(file, np.inf),
}


# --- run folders -------------------------------------------------------------------------------


def text(content):
    return lambda file: Path(file).write_text(content)


TEXTS = {
    "gigabytes": huge,
    "a pipe": replace_by(os.mkfifo),
    "a device without end": replace_by(lambda file: os.symlink("/dev/zero", file)),
    "deep": text("[" * 10**5 + "\n"),
    "digits": text("9" * 10**5 + "\n"),
    "no object": text("[1, 2]\n"),
    "not UTF-8": lambda file: Path(file).write_bytes(b'{"\xff": 1}\n'),
}


def with_own_digest(checkpoint, **changes):
    """A manifest that is in order by itself."""
    file = Path(checkpoint) / "manifest.json"
    manifest = json.loads(file.read_text()) | changes
    del manifest["digest"]
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps(manifest | {"digest": digest}))


def huge_state(checkpoint):
    """Gigabytes, and a manifest that has them in order."""
    huge(Path(checkpoint) / "state.npz")
    with_own_digest(checkpoint, bytes=GIGABYTES)


CHECKPOINTS = {
    "gigabytes of state": lambda path: huge(Path(path) / "state.npz"),
    "gigabytes in order": huge_state,
    "gigabytes of manifest": lambda path: huge(Path(path) / "manifest.json"),
    "absurd shapes": lambda path: with_own_digest(path, arrays={"['a']": "float32[1000000000000]"}),
    "iteration of another kind": lambda path: with_own_digest(path, iteration="../../1"),
    "a state that is a pipe": lambda path: replace_by(os.mkfifo)(Path(path) / "state.npz"),
}


# --- the watched process -----------------------------------------------------------------------


class Watched:
    """Reads hostile files one by one, and keeps what each took."""

    def __init__(self):
        self.before = self.mebibytes()
        self.count = 0

    @staticmethod
    def mebibytes():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def refuses(self, name, read):
        started = time.perf_counter()
        with pytest.raises((FileError, ConfigError)) as caught:
            read()
        seconds = time.perf_counter() - started
        grown = self.mebibytes() - self.before
        assert "\n" not in str(caught.value), name
        assert len(str(caught.value)) < 1000, name
        assert seconds < MOST_SECONDS, f"{name}: {seconds:.2f} s"
        assert grown < MOST_MEBIBYTES, f"{name}: {grown:.0f} MiB"
        self.count += 1


def main():
    Path("strange.py").write_text(CODE)
    sys.path.insert(0, os.getcwd())
    trainer = make_trainer(TRANSFORMER)
    state = trainer.init(jax.random.key(0))
    agent = trainer.agent(state)
    run = RunFolder(Path("run"))
    save_agent(run.agent, agent)
    load_agent(run.agent)
    cases = []  # made before memory is watched: they take some to be made
    for name, harm in AGENTS.items():
        save_agent(folder := Path("agents") / name, agent)
        harm(str(folder / "agent.npz"))
        cases.append((name, lambda folder=folder: load_agent(folder)))
    for file, read in (
        ("config.json", RunFolder.read_config),
        ("metrics.jsonl", RunFolder.read_metrics),
        ("provenance.json", RunFolder.add_provenance),
    ):
        for name, harm in TEXTS.items():
            folder = RunFolder(Path("runs") / f"{name} of {file}")
            folder.path.mkdir(parents=True)
            (folder.path / file).write_text("{}")
            harm(str(folder.path / file))
            if (file, name) != ("provenance.json", "no object"):  # an array is what it should be
                cases.append((f"{name} of {file}", lambda folder=folder, read=read: read(folder)))
    for name, harm in CHECKPOINTS.items():
        path = save_checkpoint(Path("checkpoints") / name, 1, state, {})
        harm(str(path))
        cases.append((name, lambda path=path: check_state(path, read_manifest(path), state)))
    watched = Watched()
    for name, read in cases:
        watched.refuses(name, read)
    assert not Path("executed").exists()
    sys.stdout.write(str(watched.count))


def test_hostile_files_are_refused_within_a_second_and_200_mebibytes(tmp_path):
    ran = children.run("-m", "tests.test_hostile", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert int(ran.stdout) == len(AGENTS) + 3 * len(TEXTS) - 1 + len(CHECKPOINTS)


if __name__ == "__main__":
    main()
