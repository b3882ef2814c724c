"""Agents and training states on disk: atomic to write, verified when read, nothing executed.

An agent is one zip file (`agent.npz`): a readable `agent.json` with its static parts, and one array
a parameter. A checkpoint is a folder: the state as written by orbax, and a manifest with the
digest of every file, without which a checkpoint does not count.
"""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from rl3jax.agent import PolicyAgent
from rl3jax.networks import NETWORKS, Network
from rl3jax.object_level import LEARNERS, ObjectLearner
from rl3jax.observation import ObservationLayout

AGENT_FILE = "agent.npz"
AGENT_FORMAT = "rl3jax-agent-1"
CHECKPOINT_FORMAT = "rl3jax-checkpoint-1"
MANIFEST = "manifest.json"
KEPT_CHECKPOINTS = 2


class CheckpointError(ValueError):
    """What was asked to be read is not there, not ours, or damaged; the message is one line."""


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
    arrays = {"state_features": agent.state_features, **_named_leaves(agent.params)}
    with replacing(folder / AGENT_FILE) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _write_member(archive, "agent.json", json.dumps(header, indent=2).encode())
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            _write_member(archive, f"{name}.npy", buffer.getvalue())


def load_agent(path: str | os.PathLike[str]) -> PolicyAgent:
    """The agent that `save_agent` wrote into the folder `path`.

    Raises:
        CheckpointError: if there is none, or the file is damaged or not ours.
    """
    file = Path(path) / AGENT_FILE
    if not file.is_file():
        raise CheckpointError(f"{path} holds no agent (no {AGENT_FILE})")
    try:
        with zipfile.ZipFile(file) as archive:
            return _read_agent(archive)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, OSError) as error:
        raise CheckpointError(f"{file} is no readable agent: {_one_line(error)}") from error


def _read_agent(archive: zipfile.ZipFile) -> PolicyAgent:
    header = json.loads(archive.read("agent.json"))
    if header["format"] != AGENT_FORMAT:
        raise ValueError(f"format {header['format']!r}, this version reads {AGENT_FORMAT!r}")
    layout = ObservationLayout(**header["layout"])
    network: Network = _rebuild(header["network"], NETWORKS)
    learner: ObjectLearner = _rebuild(header["learner"], LEARNERS)
    expected = jax.eval_shape(lambda key: network.init(key, layout.size), jax.random.key(0))
    shapes = {"state_features": (learner.num_states, layout.num_features)}
    shapes |= {name: leaf.shape for name, leaf in _named_leaves(expected).items()}
    arrays = {name: _read_array(archive, name, shape) for name, shape in shapes.items()}
    state_features = arrays.pop("state_features")
    params = jax.tree.unflatten(jax.tree.structure(expected), list(arrays.values()))
    return PolicyAgent(params, state_features, network, learner, layout, bool(header["greedy"]))


def _read_array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> jax.Array:
    """One float array, whose header is checked before its data are read."""
    with archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        stored_shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if stored_shape != shape or dtype.kind != "f":
            raise ValueError(f"{name} is {dtype}{stored_shape}, expected float{shape}")
    with archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return jnp.asarray(array, dtype=jax.dtypes.canonicalize_dtype(array.dtype))


def _write_member(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Without a date, so that equal agents are equal files."""
    archive.writestr(zipfile.ZipInfo(name), data)


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


def _named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by their path, such as `params/body/kernel`, in the order of the tree."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {
        "/".join(["params", *(jax.tree_util.keystr((k,), simple=True) for k in path)]): leaf
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
        CheckpointError, OSError: if it cannot be written; those that are there stay.
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
    temporary: Path, iteration: int, state: Any, description: dict[str, Any]
) -> None:
    data = jax.device_get(_without_typed_keys(state))  # which devices held it is of no importance
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(temporary.absolute() / "state", data)
    except (ValueError, RuntimeError) as error:  # what orbax makes of a full disk
        raise CheckpointError(f"{temporary} cannot be written: {_one_line(error)}") from error
    manifest = {
        "format": CHECKPOINT_FORMAT,
        "iteration": iteration,
        "description": description,
        "arrays": _signature(data),
        "files": _digests(temporary),
    }
    write_text(temporary / MANIFEST, json.dumps(manifest, indent=2))


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, the newest first."""
    if not folder.is_dir():
        return []
    names = [p for p in folder.iterdir() if p.name.isdigit() and (p / MANIFEST).is_file()]
    return sorted(names, key=lambda p: int(p.name), reverse=True)


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as they were written.

    Raises:
        CheckpointError: if anything differs.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        recorded = manifest["files"]
        if manifest["format"] != CHECKPOINT_FORMAT:
            raise CheckpointError(f"{checkpoint} has format {manifest['format']!r}")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{checkpoint} has no readable manifest") from error
    if _digests(checkpoint) != recorded:
        raise CheckpointError(f"{checkpoint} is damaged: its files do not match its manifest")
    return manifest


def restore_checkpoint(checkpoint: Path, like: Any) -> Any:
    """The state in a checkpoint of the structure and shapes of `like`.

    Raises:
        CheckpointError: if it is damaged, or another kind of state.
    """
    template = jax.eval_shape(_without_typed_keys, like)
    stored, wanted = read_manifest(checkpoint)["arrays"], _signature(template)
    for name in {**stored, **wanted}:
        if stored.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{checkpoint} has {name} {stored.get(name)}, wanted {wanted.get(name)}"
            )
    here = SingleDeviceSharding(jax.local_devices()[0])
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), template
    )
    with _checkpointer() as checkpointer:
        data = checkpointer.restore(checkpoint.absolute() / "state", template)
    return _with_typed_keys(data, like)


def _checkpointer() -> ocp.StandardCheckpointer:
    """Of this process alone, whether it is one of several or not."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=options)


def _signature(tree: Any) -> dict[str, str]:
    """Type and shape of every array, by its path."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_typed_keys(state: Any) -> Any:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _with_typed_keys(data: Any, like: Any) -> Any:
    def restore(leaf: Any, x: Any) -> Any:
        x = jnp.asarray(np.asarray(x))  # free to go to any devices
        return jax.random.wrap_key_data(x) if _is_key(leaf) else x

    return jax.tree.map(restore, like, data)


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` but the manifest, by relative path."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != MANIFEST)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# --- files --------------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Replaces `path` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it on success."""
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
