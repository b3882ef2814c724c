"""Arrays in one file: a zip of .npy members, as `numpy.savez` writes it, and JSON beside them.

To be read from strangers: nothing in it is executed, and names, types, shapes and sizes are checked
before any data are read.
"""

import io
import json
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rl3jax.checks import one_line
from rl3jax.files import FileError, check_regular, json_text, replacing

LARGEST_FILE = 2**31
LARGEST_DIRECTORY = 2**20
"""Bytes of a file, and of the zip's list of members."""
LARGEST_HEADER = 2**20
_END = struct.Struct("<4s4H2LH")  # of a zip without a comment: signature, …, directory's size, …


def write_archive(path: Path, arrays: Mapping[str, Any], **headers: dict[str, Any]) -> None:
    """Writes `{name}.npy` for each array and `{name}.json` for each header, or nothing at all.

    Equal contents are equal files: members have no dates.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, header in headers.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.json"), json_text(header, indent=2))
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())


@contextmanager
def open_archive(path: Path) -> Iterator["Archive"]:
    """An archive to read from.

    Raises:
        FileError: if it is none of ours, or damaged, as far as is read.
    """
    size = check_regular(path, LARGEST_FILE)
    try:
        _check_end(path, size)
        with zipfile.ZipFile(path) as file:
            yield Archive(file)
    except FileError:
        raise
    except Exception as error:  # of all kinds, in the hands of damaged data
        raise FileError(f"{path} is damaged or not ours: {one_line(error)}") from error


class Archive:
    """An open archive, whose members are listed and checked, and not read."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        members = file.infolist()
        self._file = file
        self._members = {member.filename: member for member in members}
        if len(self._members) < len(members):
            raise ValueError("two members of one name")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ValueError(f"{member.filename} is compressed or encrypted")
            if member.file_size != member.compress_size:
                raise ValueError(f"{member.filename} has two sizes")

    def __len__(self) -> int:
        return len(self._members)

    def header(self, name: str) -> dict[str, Any]:
        """The JSON object of that name."""
        if self._members[f"{name}.json"].file_size > LARGEST_HEADER:
            raise ValueError(f"{name}.json has more than {LARGEST_HEADER} bytes")
        header = json.loads(self._file.read(f"{name}.json"))
        if not isinstance(header, dict):
            raise ValueError(f"{name}.json is no JSON object")
        return header

    def shape_and_dtype(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Those that an array says that it has."""
        with self._file.open(f"{name}.npy") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            return shape, dtype

    def arrays(self, expected: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """All arrays, which must have just these names, and shapes and dtypes like these."""
        stored = {name.removesuffix(".npy") for name in self._members if name.endswith(".npy")}
        for name in stored ^ expected.keys():
            raise ValueError(f"{name} is {'missing' if name in expected else 'not expected'}")
        return {name: self._array(name, like) for name, like in expected.items()}

    def _array(self, name: str, like: Any) -> np.ndarray:
        member, dtype = self._members[f"{name}.npy"], np.dtype(like.dtype)
        with self._file.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"{name} is of version {version} of the format")
            shape, fortran, stored = np.lib.format.read_array_header_1_0(file)
            plain = f"V{dtype.itemsize}" if dtype.kind == "V" else dtype  # of bfloat16 and its like
            if (shape, stored) != (like.shape, np.dtype(plain)) or fortran:
                raise ValueError(f"{name} is {stored}{list(shape)}, not {dtype}{list(like.shape)}")
            num_bytes = math.prod(shape) * dtype.itemsize
            if member.file_size != file.tell() + num_bytes:
                raise ValueError(f"{name} has not the size of {stored}{list(shape)}")
            return np.frombuffer(file.read(num_bytes), dtype).reshape(shape)


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by their path, such as `params/body/kernel`, in the order of the tree."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {
        "/".join(jax.tree_util.keystr((k,), simple=True) for k in path): leaf
        for path, leaf in leaves
    }


def _check_end(path: Path, size: int) -> None:
    """Refuses a zip whose list of members is too long to be ours, before that is read."""
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size))
        end = file.read()
    if len(end) < _END.size:
        raise ValueError("no zip file")
    signature, *_, directory, _, comment = _END.unpack(end)
    if signature != b"PK\5\6" or comment:
        raise ValueError("no zip file as this package writes it")
    if directory > LARGEST_DIRECTORY:
        raise ValueError(f"its list of members has {directory:,} bytes")
