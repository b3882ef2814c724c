import errno
import hashlib
import json
import os

import jax
import pytest

from rl3jax import Config, make_trainer
from rl3jax.files import FileError
from rl3jax.runs.checkpoint import (
    check_state,
    checkpoints,
    read_manifest,
    restore_checkpoint,
    save_checkpoint,
)


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


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


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
