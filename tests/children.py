"""Processes for tests, forked by a server that has imported what takes long.

They do what `python -c CODE …` and `python -m MODULE …` would, seconds sooner. rl3jax they import
themselves: gymnax, which comes with it, makes an array, and then JAX has threads.
"""

import atexit
import gc
import itertools
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "jax.experimental.multihost_utils", "flax.linen", "optax", "chex", "distrax",
        "scipy.stats", "matplotlib.pyplot", "seaborn", "PIL.Image", "rich.progress", "tyro",
    ]
)  # fmt: skip

_FOLDER = Path(tempfile.mkdtemp())
_NUMBERS = itertools.count()
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


class Child:
    """A process, used like `subprocess.Popen`'s: it has text pipes and a process group of its own.

    Args:
        arguments: what would follow `python`.
        folder: where it works (default: here).
        environment: what is other than in the environment of the first child.
        options: of JAX's config, without `jax_`.
    """

    def __init__(
        self,
        *arguments: Any,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        number = next(_NUMBERS)
        self._said = [_FOLDER / f"{number}.{stream}" for stream in ("stdout", "stderr")]
        for path in self._said:
            path.touch()
        command, folder = [str(argument) for argument in arguments], folder or Path.cwd()
        self._process = SERVER.Process(
            target=_run, args=(self._said, command, folder, environment or {}, options), daemon=True
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, minus the signal that ended it, or `None` while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def communicate(self, timeout: float | None = None) -> list[str]:
        """What it has said on stdout and stderr by its end, which must come in so many seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a child", timeout or 0)
        return self.said()

    def said(self) -> list[str]:
        """What it has said on stdout and stderr so far."""
        return [path.read_text() for path in self._said]

    def send_signal(self, number: int) -> None:
        """Sends it a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it."""
        self.send_signal(signal.SIGKILL)


def run(*arguments: Any, timeout: float = 300, **how: Any) -> "subprocess.CompletedProcess[str]":
    """A child that has ended; the arguments are those of `Child`."""
    child = Child(*arguments, **how)
    try:
        output, error = child.communicate(timeout)
    finally:
        child.kill()
    return subprocess.CompletedProcess(arguments, child.returncode, output, error)


def _run(said, arguments, folder, environment, options) -> None:
    warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")
    gc.freeze()  # what is imported is no garbage
    os.setsid()
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    sys.stdout.reconfigure(line_buffering=True)
    os.chdir(folder)
    os.environ.update(environment)
    for name, value in options.items():
        jax.config.update(f"jax_{name}", value)
    kind, program, *rest = arguments
    sys.argv = [program, *rest]
    try:
        if kind == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()
