"""`python -m tests.faults.struck ACTION NUMBER FOLDER …`: `rl3jax.train …`, struck by a fault.

Counts what the process does to files below FOLDER: opens to write, makes, renames, removes. At the
given one it is killed there (`kill`), or that and all later writes fail: `full`, as on a full disk,
or `denied`, as in a folder that has become read-only. `count` only counts, into FOLDER.count.
"""

import atexit
import errno
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
REMOVING = ("os.remove", "os.rmdir")  # these work on a full disk
CHANGING = ("os.rename", "os.mkdir", "os.truncate", *REMOVING)


def changes(event: str, args: tuple[Any, ...], folder: str) -> bool:
    """Whether an audited event changes files below a folder."""
    if event != "open" and event not in CHANGING:
        return False
    if event == "open" and not (args[2] or 0) & WRITING:
        return False
    path = args[0]
    return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(folder)


def fail(number: int) -> Callable[[str], None]:
    """A fault that raises the error of that number, unless something is only removed."""

    def raise_error(event: str) -> None:
        if event not in REMOVING:
            raise OSError(number, os.strerror(number), "the disk")

    return raise_error


def kill(event: str) -> None:
    """The end, here and now."""
    del event
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS: dict[str, Callable[[str], None]] = {
    "count": lambda event: None,
    "kill": kill,
    "full": fail(errno.ENOSPC),
    "denied": fail(errno.EACCES),
}


def main() -> None:
    """The command."""
    action, number, folder, *arguments = sys.argv[1:]
    fault, first, done = FAULTS[action], int(number), 0

    def audit(event: str, args: tuple[Any, ...]) -> None:
        nonlocal done
        if changes(event, args, folder):
            done += 1
            if done >= first:
                fault(event)

    sys.addaudithook(audit)
    if action == "count":
        atexit.register(lambda: Path(f"{folder}.count").write_text(str(done)))
    sys.argv = ["rl3jax.train", *arguments]
    runpy.run_module("rl3jax.train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
