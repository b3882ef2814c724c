"""What the commands share: arguments from dataclasses, errors as one clear line, exit codes."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import tyro

from rl3jax.checkpoint import CheckpointError
from rl3jax.checks import ConfigError

Args = TypeVar("Args")

NOT_FINITE = 1
BAD_INPUT = 2
INTERRUPTED = 130


def parse(
    args_type: type[Args] | Callable[..., Args], argv: Sequence[str] | None, program: str
) -> Args:
    """The command line as a dataclass; bad input ends the process with exit code 2."""
    with one_line_errors():
        return tyro.cli(args_type, prog=f"python -m rl3jax.{program}", args=argv)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors that are the user's into one line on stderr and exit code 2."""
    try:
        yield
    except (ConfigError, CheckpointError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def fail(message: str, code: int = BAD_INPUT) -> None:
    """Prints one line on stderr and ends the process."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGINT or SIGTERM came; a second one acts as ever."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: object) -> None:
        del frame
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])
        print("\nstopping after this iteration …", file=sys.stderr)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
