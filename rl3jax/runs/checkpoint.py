"""Training states on disk: atomic to write, verified when read, nothing executed.

A checkpoint is a folder: an archive with the state's arrays, and a manifest with its digest,
without which a checkpoint does not count.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from rl3jax.archive import named_leaves, open_archive, write_archive
from rl3jax.files import FileError, check_regular, json_text, read_json, write_text

CHECKPOINT_FORMAT = "rl3jax-checkpoint-2"
STATE_FILE = "state.npz"
MANIFEST = "manifest.json"
MANIFEST_FIELDS = {
    "iteration": int, "description": dict, "arrays": dict, "bytes": int, "sha256": str,
}  # fmt: skip
KEPT_CHECKPOINTS = 2
MEMBER_BYTES = 2**10
"""What an array needs in an archive besides its data, at most."""


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
        data = jax.device_get(_without_typed_keys(state))  # no matter which devices held it
        file = temporary / STATE_FILE
        write_archive(file, named_leaves(data))
        manifest = {
            "format": CHECKPOINT_FORMAT,
            "iteration": iteration,
            "description": description,
            "arrays": _signature(data),
            "bytes": file.stat().st_size,
            "sha256": _digest_of_file(file),
        }
        manifest["digest"] = _digest_of(manifest)
        write_text(temporary / MANIFEST, json_text(manifest, indent=2))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    for old in checkpoints(folder)[KEPT_CHECKPOINTS:]:
        shutil.rmtree(old)
    return final


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
    most = sum(x.size * x.dtype.itemsize + MEMBER_BYTES for x in jax.tree.leaves(template))
    size = check_regular(file, most)
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
        arrays = archive.arrays(named_leaves(template))
    data = jax.tree.unflatten(jax.tree.structure(template), list(arrays.values()))
    return _with_typed_keys(data, like)


def _signature(tree: Any) -> dict[str, str]:
    """Type and shape of every array, by its path."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_typed_keys(state: Any) -> Any:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _with_typed_keys(data: Any, like: Any) -> Any:
    arrays = jax.tree.map(jnp.asarray, data)
    return jax.tree.map(lambda x, a: jax.random.wrap_key_data(a) if _is_key(x) else a, like, arrays)


def _digest_of_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(manifest: dict[str, Any]) -> str:
    """SHA-256 of what a manifest says, however it is spelled."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
