"""Files: written whole or not at all, and read only if they are what they should be."""

import errno
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rl3jax.checks import one_line

LONGEST_STEM = 100
"""Of a file's name in that of a temporary one beside it."""
LARGEST_JSON = 2**22
"""Bytes of a JSON file; ours have some thousands."""


class FileError(ValueError):
    """A file is not there, not ours or damaged; the message is one line."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, of this writer alone, moved onto it on success.

    Raises:
        OSError: if it cannot be written; it names `path`.
    """
    own = f".{path.stem[:LONGEST_STEM]}.{secrets.token_hex(4)}.tmp{path.suffix}"
    temporary = path.with_name(own)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise OSError(error.errno or errno.EIO, reason, str(path)) from error
    finally:
        with suppress(OSError):  # where the folder cannot be written to, there is none
            temporary.unlink(missing_ok=True)


def forget_temporaries(folder: Path) -> None:
    """Removes what writers that were killed have left; to be called where none is at work."""
    for left in folder.glob(".*.tmp*"):
        left.unlink()


def write_text(path: Path, text: str) -> None:
    """Replaces `path` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as strict JSON: null where a number is not finite."""
    return json.dumps(json_ready(value), indent=indent, allow_nan=False)


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Replaces `path` by a line, or by lines, of strict JSON, whole or not at all."""
    write_text(path, json_text(value, indent) + "\n")


def json_ready(value: Any) -> Any:
    """`value` with `None` for NaN and infinity, neither of which JSON has, and arrays as lists."""
    if hasattr(value, "tolist"):  # of NumPy or JAX
        value = value.tolist()
    if isinstance(value, dict):
        return {name: json_ready(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_regular(path: Path, largest: int) -> int:
    """The size of a file in bytes.

    Raises:
        FileError: if there is none, if it is no regular file (to read a pipe may take for ever), or
            if it has more than `largest` bytes.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {one_line(error)}") from error
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path} is no regular file")
    if status.st_size > largest:
        raise FileError(f"{path} is damaged: {status.st_size:,} bytes, of at most {largest:,}")
    return status.st_size


def read_json(path: Path, kind: type = dict, largest: int = LARGEST_JSON) -> Any:
    """What a JSON file holds.

    Raises:
        FileError: if it is no readable JSON of this kind (an object, unless said otherwise).
    """
    check_regular(path, largest)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged: {one_line(error)}") from error
    if not isinstance(value, kind):
        raise FileError(f"{path} is damaged: no JSON {'array' if kind is list else 'object'}")
    return value
