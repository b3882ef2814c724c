"""What the commands share: arguments from dataclasses, errors as one clear line, exit codes."""

import contextlib
import io
import itertools
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import jax
import tyro

from rl3jax.checks import ConfigError, one_line, shown
from rl3jax.config.flags import parse_flags
from rl3jax.cores import use_all_cores
from rl3jax.files import FileError

Args = TypeVar("Args")

NOT_FINITE = 1
BAD_INPUT = 2
INTERRUPTED = 130

LONGEST_ARGUMENT = 4096  # no path is longer, and messages show arguments whole
STDERR = 2


def parse(args_type: type[Args], argv: Sequence[str] | None, program: str) -> Args:
    """The command line as a dataclass; bad input ends the process with exit code 2."""
    argv, program = sys.argv[1:] if argv is None else argv, f"python -m rl3jax.{program}"
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # whoever started this process has closed it
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):  # a terminal may lack some of our characters
            stream.reconfigure(errors="replace")
    with one_line_errors():
        for argument in argv:
            if len(argument) > LONGEST_ARGUMENT:
                raise ConfigError(
                    f"an argument has {len(argument)} characters, over {LONGEST_ARGUMENT}: "
                    f"{shown(argument)}"
                )
        if "config" in getattr(args_type, "__dataclass_fields__", {}):
            return parse_flags(args_type, argv, program)
        return tyro.cli(args_type, prog=program, args=argv)


def distinct_names(algorithms: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """What runs are called beside each other: by algorithm, or, if these are the same, by folder.

    Raises:
        ConfigError: if a run is there twice.
    """
    for names in (algorithms, [path.name for path in paths], [str(path) for path in paths]):
        if len(set(names)) == len(names):
            return list(names)
    raise ConfigError(f"{paths[-1]} is the same run as another")


def free_path(name: str) -> Path:
    """A file of that name in the working directory, with -2, -3, … in it if that is taken."""
    path = Path(name)
    counted = (path.with_stem(f"{path.stem}-{count}") for count in itertools.count(2))
    return next(free for free in itertools.chain([path], counted) if not free.exists())


def prepare_jax(cores: int | None = None) -> None:
    """Cores of a CPU become devices (default: all); compiled programs are kept from run to run.

    What the environment says of either goes first. To be called before anything is computed.
    """
    use_all_cores(cores)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        try:
            folder = _cache_folder()
        except (OSError, RuntimeError) as error:
            print(f"warning: compiled programs are not kept: {one_line(error)}", file=sys.stderr)
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _cache_folder() -> Path:
    """Where a user's programs keep what they can make again.

    Raises:
        OSError: if it cannot be written to.
        RuntimeError: if the user has no home.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(caches) / "rl3jax" / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors that are the user's into one line on stderr and exit code 2."""
    try:
        yield
        sys.stdout.flush()
    except (ConfigError, FileError) as error:
        fail(str(error))
    except OSError as error:
        _let_go_of_output()
        fail(f"{error.filename or 'standard output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


def _let_go_of_output() -> None:
    """If nothing can be written to stdout any more: Python would try once more at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = io.StringIO()


def fail(message: str, code: int = BAD_INPUT) -> NoReturn:
    """Prints one line on stderr and ends the process."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGINT or SIGTERM came; a second one acts as ever.

    None is caught outside the main thread, where Python has none.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: object) -> None:
        del frame
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])
        # Not by print: the signal may have come in the middle of one.
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        with contextlib.suppress(OSError):  # it may be closed
            os.write(STDERR, "\nstopping after this iteration …\n".encode(encoding, "replace"))

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
