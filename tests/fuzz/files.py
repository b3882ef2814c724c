"""Files of a run with damages: bytes changed, lost or added, and values that nobody wrote."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from hypothesis import strategies as st

from rl3jax import load_agent, save_agent
from rl3jax.agent import PolicyAgent
from rl3jax.config import Config
from rl3jax.runs.folder import RunFolder
from rl3jax.trainer import make_trainer
from tests.fuzz.inputs import SMALL, nasty, outcome

KINDS = ("agent", "config", "metrics")
LINES = 3  # of metrics

Damage = tuple[str, str, Any]
"""Kind of file, kind of damage, and what about it."""

_JSON = st.recursive(
    nasty.filter(lambda x: x is None or isinstance(x, str | float | int)),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)

_bytes = st.tuples(
    st.sampled_from(["flip", "cut", "insert", "delete"]), st.floats(0, 1), st.binary(min_size=1)
)
_kinds = st.sampled_from(KINDS)
_whole = _JSON | st.sampled_from(["deep", "digits"])
damages: st.SearchStrategy[Damage] = st.one_of(
    st.tuples(_kinds, st.just("bytes"), st.lists(_bytes, min_size=1, max_size=3)),
    st.tuples(_kinds, st.just("value"), st.tuples(st.integers(0, 99), _JSON)),
    st.tuples(_kinds, st.just("whole"), _whole),
)


def abstract_agent(**changes: Any) -> PolicyAgent:
    """An agent whose arrays are zeros, with nothing compiled."""
    trainer = make_trainer(Config(**(SMALL | changes)))
    state = jax.eval_shape(trainer.init, jax.eval_shape(lambda: jax.random.key(0)))
    agent = trainer.agent(state)
    return agent.replace(params=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), agent.params))


class DamagedFiles:
    """A folder with a run's files, to be damaged again and again."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.folder.write_config(Config(**SMALL, env="mdp").resolve())
        for iteration in range(1, LINES + 1):
            self.folder.append_metrics({"iteration": iteration, "mean_return": 0.5})
        save_agent(self.folder.agent, abstract_agent(env="mdp"))
        self.files = {
            "agent": self.folder.agent / "agent.npz",
            "config": path / "config.json",
            "metrics": self.folder.metrics,
        }
        self.whole = {kind: file.read_bytes() for kind, file in self.files.items()}

    def outcome(self, damage: Damage) -> str:
        """Of reading a file that is so damaged."""
        kind, how, what = damage
        file = self.files[kind]
        file.write_bytes(HOW[how](kind, self.whole[kind], what, file))
        return outcome(lambda: READ[kind](self.folder))


def _damage_bytes(
    kind: str, data: bytes, edits: list[tuple[str, float, bytes]], file: Path
) -> bytes:
    for edit, place, added in edits:
        i = int(place * len(data))
        data = {
            "flip": data[:i] + bytes(b ^ added[0] for b in data[i : i + 1]) + data[i + 1 :],
            "cut": data[:i],
            "insert": data[:i] + added + data[i:],
            "delete": data[:i] + data[i + len(added) :],
        }[edit]
    return data


def _damage_value(kind: str, data: bytes, edit: tuple[int, Any], file: Path) -> bytes:
    place, value = edit
    if kind == "agent":
        file.write_bytes(data)
        with zipfile.ZipFile(file) as archive:
            header = json.loads(archive.read("agent.json"))
        return _with_header(file, data, json.dumps(_replaced(header, place, value)))
    lines = data.decode().splitlines(keepends=True) if kind == "metrics" else [data.decode()]
    i = place % len(lines)
    lines[i] = json.dumps(_replaced(json.loads(lines[i]), place, value)) + "\n"
    return "".join(lines).encode()


def _replaced(tree: dict[str, Any], place: int, value: Any) -> dict[str, Any]:
    """The tree with another value in one of its places, or an entry more."""
    parts = [tree, *(inner for inner in tree.values() if isinstance(inner, dict))]
    places = [(part, name) for part in parts for name in part]
    places += [(tree, str(value))]
    inner, name = places[place % len(places)]
    inner[name] = value
    return tree


def _damage_whole(kind: str, data: bytes, value: Any, file: Path) -> bytes:
    text = {"deep": "[" * 100_000, "digits": "9" * 5000}.get(str(value)) or json.dumps(value)
    return _with_header(file, data, text) if kind == "agent" else f"{text}\n".encode()


def _with_header(file: Path, data: bytes, header: str) -> bytes:
    file.write_bytes(data)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (members | {"agent.json": header.encode()}).items():
            archive.writestr(name, content)
    return file.read_bytes()


HOW: dict[str, Callable[..., bytes]] = {
    "bytes": _damage_bytes,
    "value": _damage_value,
    "whole": _damage_whole,
}


def _read_agent(folder: RunFolder) -> None:
    """What can be loaded can act."""
    agent = load_agent(folder.agent)

    def act() -> None:
        action, carry = agent.act(agent.init(jnp.int32(0)), jax.random.key(0))
        agent.observe(carry, action, jnp.zeros(()), action, action > 0, action > 0, action)

    jax.eval_shape(act)


def _read_config(folder: RunFolder) -> None:
    make_trainer(folder.read_config())


def _read_metrics(folder: RunFolder) -> None:
    folder.read_metrics()
    folder.truncate_metrics(LINES - 1, folder.metrics_digest(LINES - 1))


READ = {"agent": _read_agent, "config": _read_config, "metrics": _read_metrics}
