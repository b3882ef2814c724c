"""Agents and training states on disk: atomic to write, verified when read, nothing executed.

An agent is an archive (`agent.npz`): a readable `agent.json` with its static parts, and one array
a parameter. A checkpoint is a folder: an archive with the state's arrays, and a manifest with its
digest, without which a checkpoint does not count.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rl3jax.agent import PolicyAgent
from rl3jax.archive import Archive, open_archive, write_archive
from rl3jax.files import FileError, check_regular, read_json, write_text
from rl3jax.networks import NETWORKS, Network
from rl3jax.object_level import LEARNERS, ObjectLearner
from rl3jax.observation import ObservationLayout

AGENT_FILE = "agent.npz"
AGENT_FORMAT = "rl3jax-agent-1"
CHECKPOINT_FORMAT = "rl3jax-checkpoint-2"
STATE_FILE = "state.npz"
MANIFEST = "manifest.json"
MANIFEST_FIELDS = {
    "iteration": int, "description": dict, "arrays": dict, "bytes": int, "sha256": str,
}  # fmt: skip
KEPT_CHECKPOINTS = 2
MEMBER_BYTES = 2**10
"""What an array needs in an archive besides its data, at most."""
PRECISIONS = ("float32", "float64")


# --- agents -------------------------------------------------------------------------------------


def save_agent(path: str | os.PathLike[str], agent: PolicyAgent) -> None:
    """Writes `agent` into the folder `path` (made if missing), replacing one that is there.

    Raises:
        TypeError: if the agent is no `PolicyAgent`, or has parts that are not rl3jax's own.
    """
    if not isinstance(agent, PolicyAgent):
        raise TypeError(f"only a meta-trained policy can be saved, not {type(agent).__name__}")
    header = {
        "format": AGENT_FORMAT,
        "network": _describe(agent.network, NETWORKS),
        "learner": _describe(agent.learner, LEARNERS),
        "layout": dataclasses.asdict(agent.layout),
        "greedy": agent.greedy,
    }
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"state_features": agent.state_features, **_named_leaves("params", agent.params)}
    write_archive(folder / AGENT_FILE, arrays, agent=header)


def load_agent(path: str | os.PathLike[str]) -> PolicyAgent:
    """The agent that `save_agent` wrote into the folder `path`.

    Raises:
        FileError: if there is none, or the file is damaged or not ours.
    """
    file = Path(path) / AGENT_FILE
    if not file.exists():
        raise FileError(f"{path} holds no agent (no {AGENT_FILE})")
    with open_archive(file) as archive:
        return _read_agent(archive)


def _read_agent(archive: Archive) -> PolicyAgent:
    header = archive.header("agent")
    if header["format"] != AGENT_FORMAT:
        raise ValueError(f"format {header['format']!r}, this version reads {AGENT_FORMAT!r}")
    layout = ObservationLayout(**header["layout"])
    network: Network = _rebuild(header["network"], NETWORKS)
    learner: ObjectLearner = _rebuild(header["learner"], LEARNERS)
    _check_parts(layout, network, learner)
    if getattr(network, "layers", 0) > len(archive):
        raise ValueError(f"{network} has more layers than there are arrays")
    dtype = archive.dtype("state_features")
    if dtype not in PRECISIONS:
        raise ValueError(f"parameters are {dtype}, not {' or '.join(PRECISIONS)}")
    expected = jax.eval_shape(lambda key: network.init(key, layout.size), jax.random.key(0))
    shapes = {"state_features": (learner.num_states, layout.num_features)}
    shapes |= {name: leaf.shape for name, leaf in _named_leaves("params", expected).items()}
    arrays = archive.arrays({n: jax.ShapeDtypeStruct(s, dtype) for n, s in shapes.items()})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    precise = {n: jnp.asarray(a, jax.dtypes.canonicalize_dtype(dtype)) for n, a in arrays.items()}
    state_features = precise.pop("state_features")
    params = jax.tree.unflatten(jax.tree.structure(expected), list(precise.values()))
    return PolicyAgent(params, state_features, network, learner, layout, bool(header["greedy"]))


def _check_parts(layout: ObservationLayout, network: Network, learner: ObjectLearner) -> None:
    """Raises ValueError unless they are of one agent."""
    if not layout.num_actions == network.num_outputs == learner.num_actions:
        raise ValueError("its parts have different numbers of actions")
    given = jax.eval_shape(lambda: learner.estimates(learner.init(), 0))
    for flag, estimate in (
        (layout.standard_errors, given.q_stderr),
        (layout.optimism, given.q_optimistic),
        (layout.mean_rewards, given.mean_reward),
    ):
        if flag and estimate is None:
            raise ValueError("its layout shows estimates that its learner does not make")


def _describe(part: Any, registry: Mapping[str, type]) -> dict[str, Any]:
    """A static part as its registered name and its fields, of which some may be parts as well."""
    kinds = [kind for kind, cls in registry.items() if cls is type(part)]
    if not kinds:
        raise TypeError(f"{type(part).__name__} is not one of rl3jax's own: {', '.join(registry)}")
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    described = {
        name: _describe(value, registry) if dataclasses.is_dataclass(value) else value
        for name, value in fields.items()
    }
    return {"kind": kinds[0], **described}


def _rebuild(description: dict[str, Any], registry: Mapping[str, type]) -> Any:
    """The part that `_describe` described; lists, as JSON has no tuples, become tuples."""

    def rebuild(value: Any) -> Any:
        if isinstance(value, dict):
            return _rebuild(value, registry)
        return tuple(map(rebuild, value)) if isinstance(value, list) else value

    fields = {name: rebuild(value) for name, value in dict(description).items()}
    return registry[fields.pop("kind")](**fields)


def _named_leaves(root: str, tree: Any) -> dict[str, Any]:
    """Leaves by their path, such as `params/body/kernel`, in the order of the tree."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {
        "/".join([root, *(jax.tree_util.keystr((k,), simple=True) for k in path)]): leaf
        for path, leaf in leaves
    }


# --- checkpoints --------------------------------------------------------------------------------


def save_checkpoint(folder: Path, iteration: int, state: Any, description: dict[str, Any]) -> Path:
    """Writes `folder/{iteration}`, complete or not at all, and forgets all but the last two.

    Args:
        folder: that of all checkpoints of a run.
        iteration: meta-iterations done.
        state: pytree of arrays; typed keys allowed.
        description: JSON-ready, kept in the manifest.

    Raises:
        OSError: if it cannot be written; those that are there stay.
    """
    final = folder / f"{iteration:08d}"
    for left in folder.glob(".*.tmp"):  # by a process that was killed
        shutil.rmtree(left)
    temporary = folder / f".{final.name}.tmp"
    temporary.mkdir(parents=True)
    try:
        _write_checkpoint(temporary, iteration, state, description)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    for old in checkpoints(folder)[KEPT_CHECKPOINTS:]:
        shutil.rmtree(old)
    return final


def _write_checkpoint(
    folder: Path, iteration: int, state: Any, description: dict[str, Any]
) -> None:
    data = jax.device_get(_without_typed_keys(state))  # which devices held it is of no importance
    file = folder / STATE_FILE
    write_archive(file, _named_leaves("state", data))
    manifest = {
        "format": CHECKPOINT_FORMAT,
        "iteration": iteration,
        "description": description,
        "arrays": _signature(data),
        "bytes": file.stat().st_size,
        "sha256": _digest_of_file(file),
    }
    manifest["digest"] = _digest_of(manifest)
    write_text(folder / MANIFEST, json.dumps(manifest, indent=2))


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, the newest first."""
    if not folder.is_dir():
        return []
    names = [p for p in folder.iterdir() if p.name.isdecimal() and (p / MANIFEST).is_file()]
    return sorted(names, key=lambda p: int(p.name), reverse=True)


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; `check_state` says whether that is so.

    Raises:
        FileError: if the manifest is not as it was written, or is another checkpoint's.
    """
    manifest = read_json(checkpoint / MANIFEST)
    if manifest.get("format") != CHECKPOINT_FORMAT:
        raise FileError(
            f"{checkpoint} has format {manifest.get('format')!r}; this version reads "
            f"{CHECKPOINT_FORMAT!r}"
        )
    if manifest.pop("digest", None) != _digest_of(manifest):
        raise FileError(f"{checkpoint} is damaged: its manifest is not as it was written")
    if not all(isinstance(manifest.get(name), kind) for name, kind in MANIFEST_FIELDS.items()):
        raise FileError(f"{checkpoint} is damaged: its manifest is not complete")
    if f"{manifest['iteration']:08d}" != checkpoint.name:
        raise FileError(f"{checkpoint} is that of iteration {manifest['iteration']}")
    return manifest


def check_state(checkpoint: Path, manifest: dict[str, Any], like: Any) -> None:
    """Checks that a checkpoint's state is as it was written, and of the kind of `like`.

    Raises:
        FileError: if it is not.
    """
    template = jax.eval_shape(_without_typed_keys, like)
    wanted, stored = _signature(template), manifest["arrays"]
    for name in {**stored, **wanted}:
        if stored.get(name) != wanted.get(name):
            raise FileError(
                f"{checkpoint} has {name} {stored.get(name)}, wanted {wanted.get(name)}"
            )
    file = checkpoint / STATE_FILE
    size = check_regular(file, _most_bytes(template))
    if size != manifest["bytes"] or _digest_of_file(file) != manifest["sha256"]:
        raise FileError(f"{checkpoint} is damaged: its state is not as it was written")


def restore_checkpoint(checkpoint: Path, like: Any) -> Any:
    """The state in a checkpoint of the structure and shapes of `like`.

    Raises:
        FileError: if it is damaged, or another kind of state.
    """
    check_state(checkpoint, read_manifest(checkpoint), like)
    template = jax.eval_shape(_without_typed_keys, like)
    with open_archive(checkpoint / STATE_FILE) as archive:
        arrays = archive.arrays(_named_leaves("state", template))
    data = jax.tree.unflatten(jax.tree.structure(template), list(arrays.values()))
    return _with_typed_keys(data, like)


def _signature(tree: Any) -> dict[str, str]:
    """Type and shape of every array, by its path."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def _most_bytes(tree: Any) -> int:
    """Of an archive of arrays like these."""
    return sum(x.size * x.dtype.itemsize + MEMBER_BYTES for x in jax.tree.leaves(tree))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_typed_keys(state: Any) -> Any:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _with_typed_keys(data: Any, like: Any) -> Any:
    def restore(leaf: Any, x: Any) -> Any:
        x = jnp.asarray(x)
        return jax.random.wrap_key_data(x) if _is_key(leaf) else x

    return jax.tree.map(restore, like, data)


def _digest_of_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(manifest: dict[str, Any]) -> str:
    """SHA-256 of what a manifest says, however it is spelled."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
