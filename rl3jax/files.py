"""Files: written whole or not at all, and read only if they are what they should be."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl3jax.checks import one_line

LARGEST_JSON = 2**22
"""Bytes of a JSON file; ours have some thousands."""


class FileError(ValueError):
    """A file is not there, not ours or damaged; the message is one line."""


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


def write_text(path: Path, text: str) -> None:
    """Replaces `path` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
