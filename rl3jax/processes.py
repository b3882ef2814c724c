"""One run in several processes, on one machine or many: how they meet, and that they agree."""

import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import jax
import numpy as np
import tyro
from jax.experimental import multihost_utils

from rl3jax.checks import ConfigError

MEETING_SECONDS = 60
HEARTBEAT_SECONDS = 30  # a process that is silent for so long is lost, and ends the others
CONFIG_BYTES = 2**14
BAD_INPUT = 2


@dataclass(frozen=True)
class Processes:
    """Where the processes of a run meet; all `None`: there is only this one."""

    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Address where process 0 of several listens, the same in all. None: one process."""
    num_processes: int | None = None
    """Processes of the run. None: one."""
    process_id: int | None = None
    """Number of this process, from 0. None: the only one."""


def join(processes: Processes) -> None:
    """Meets the other processes of the run; JAX must not have looked for devices yet.

    Raises:
        ConfigError: if the arguments do not fit together or the others do not come.
    """
    given = vars(processes)
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return
    if missing:
        raise ConfigError(f"{', '.join(given)} go together; {', '.join(missing)} is missing")
    coordinator, num_processes, process_id = given.values()
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise ConfigError(
            f"process_id must be from 0 to num_processes - 1 ({num_processes - 1}), "
            f"not {process_id}"
        )
    if not re.fullmatch(r"[^:]+:\d+", coordinator):
        raise ConfigError(f"coordinator must be HOST:PORT, not {coordinator!r}")
    if process_id > 0:
        _await_listener(coordinator)
    with _time_limit(f"the {num_processes} processes did not all come to {coordinator}"):
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=2 * MEETING_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )


@contextlib.contextmanager
def _time_limit(complaint: str) -> Iterator[None]:
    """Ends this process with one line if the body takes too long; JAX would abort with a trace."""

    def give_up() -> None:
        print(f"error: {complaint} within {MEETING_SECONDS} s", file=sys.stderr)
        leave(BAD_INPUT)

    timer = threading.Timer(MEETING_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _await_listener(coordinator: str) -> None:
    """Returns once something accepts connections there."""
    host, _, port = coordinator.partition(":")
    end = time.monotonic() + MEETING_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ConfigError(
                    f"coordinator {coordinator} did not answer within {MEETING_SECONDS} s "
                    f"({error}); is process 0 running there?"
                ) from error
            time.sleep(0.5)


def check_agreement(config: dict[str, Any]) -> None:
    """Raises ConfigError, in every process, unless all have the same config."""
    if jax.process_count() == 1:
        return
    text = json.dumps(config).encode().ljust(CONFIG_BYTES)
    texts = multihost_utils.process_allgather(np.frombuffer(text, np.uint8))
    first, *others = (json.loads(bytes(np.asarray(text))) for text in texts)
    for number, other in enumerate(others, start=1):
        for name, value in first.items():
            if other[name] != value:
                raise ConfigError(
                    f"process {number} has {name} = {other[name]!r}, process 0 has {value!r}; all "
                    "processes of a run must have the same flags"
                )


class LostProcessError(RuntimeError):
    """Another process of the run has gone."""


@contextlib.contextmanager
def others_needed() -> Iterator[None]:
    """Tells errors of talking to other processes from others.

    Raises:
        LostProcessError: if an exchange between processes failed.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise LostProcessError("another process of this run was lost") from error


def leave(code: int) -> NoReturn:
    """Ends this process at once: an orderly end would wait for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
