"""One run in several processes, on one machine or many: how they meet, agree and end together."""

import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, TypeVar

import jax
import numpy as np
import tyro
from jax.experimental import multihost_utils

from rl3jax.checks import ConfigError

Result = TypeVar("Result")

MEETING_SECONDS = 60
BEAT_SECONDS = 1
SILENT_BEATS = 20  # a process that leaves out so many is lost, and ends the others
PATIENCE_SECONDS = 3  # for what a lost process sent before it was, and for the news of a loss
NEVER_SECONDS = 10**6
CONFIG_BYTES = 2**14
EXCHANGE_ERRORS = (jax.errors.JaxRuntimeError, ValueError)  # what JAX raises if an exchange fails


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
    meeting = _THREAD.submit(_meet, coordinator, num_processes, process_id)
    try:
        meeting.result(MEETING_SECONDS)
    except TimeoutError as error:
        raise ConfigError(
            f"the {num_processes} processes did not all come to {coordinator} "
            f"within {MEETING_SECONDS} s"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"no meeting at coordinator {coordinator}: {reason}") from error


def _meet(coordinator: str, num_processes: int, process_id: int) -> None:
    """Joins the processes in JAX, then by a line of our own: who is lost is up to the line."""
    jax.config.update("jax_enable_preemption_service", False)  # it swallows SIGTERM
    jax.distributed.initialize(
        coordinator if process_id == 0 else _door_to(coordinator),
        num_processes,
        process_id,
        initialization_timeout=2 * MEETING_SECONDS,
        heartbeat_timeout_seconds=NEVER_SECONDS,
        shutdown_timeout_seconds=MEETING_SECONDS,
    )
    _LINE.open(coordinator, num_processes, process_id)


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


# --- who is lost --------------------------------------------------------------------------------


class LostProcessError(RuntimeError):
    """Another process of the run has ended or is silent."""


class Line:
    """Beats between process 0 and each of the others: one that stops sending them is lost.

    Attributes:
        lost: set once a process is lost.
        news: which one, and why.
    """

    def __init__(self) -> None:
        self.lost = threading.Event()
        self.news = ""

    def open(self, coordinator: str, num_processes: int, process_id: int) -> None:
        """Connects process 0, at some free port, with the others."""
        host, _, _ = coordinator.partition(":")
        with _listener() as listener:
            port, *_ = _gather(listener.getsockname()[1])
            if process_id > 0:
                peer = socket.create_connection((host, port))
                peer.sendall(process_id.to_bytes(4, "big"))
                self.hold(peer, 0)
                return
            missing = set(range(1, num_processes))
            while missing:
                peer, _ = listener.accept()
                number = int.from_bytes(peer.recv(4, socket.MSG_WAITALL), "big")
                if number in missing:
                    missing.remove(number)
                    self.hold(peer, number)

    def hold(self, peer: socket.socket, number: int) -> None:
        """From now on sends beats to a process and listens for its own."""
        peer.settimeout(BEAT_SECONDS)
        _in_background(_beat, peer)
        _in_background(self._listen, peer, number)

    def _listen(self, peer: socket.socket, number: int) -> None:
        with peer:
            reason = _await_loss(peer)
        self.news = self.news or f"process {number} of this run was lost ({reason})"
        self.lost.set()


_LINE = Line()
_THREAD = ThreadPoolExecutor(max_workers=1)


def _beat(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            peer.sendall(b".")
            time.sleep(BEAT_SECONDS)


def _await_loss(peer: socket.socket) -> str:
    """Why a process is lost, once it is."""
    silence = 0  # counted, not timed: this process may have been suspended as well
    while silence < SILENT_BEATS:
        try:
            if not peer.recv(1024):
                return "it ended"
            silence = 0
        except TimeoutError:
            silence += 1
        except OSError:  # reset, since it was killed
            return "it ended"
    return f"silent for {silence * BEAT_SECONDS} s"


def _listener() -> socket.socket:
    """Listens at a free port of all the addresses of this machine."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _in_background(function: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=function, args=args, daemon=True).start()


def _door_to(coordinator: str) -> str:
    """An address of this machine that leads to the coordinator, and stays open without it.

    JAX aborts with a stack trace when its connection to process 0 ends.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    host, _, port = coordinator.partition(":")

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            with contextlib.suppress(OSError):
                server = socket.create_connection((host, int(port)))
                _in_background(_connect, client, server)

    _in_background(serve)
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _connect(client: socket.socket, server: socket.socket) -> None:
    """Hands on what each sends to the other, for as long as the client wants."""
    with client, server:
        _in_background(_forward, server, client)
        _forward(client, server)


def _forward(source: socket.socket, target: socket.socket) -> None:
    """Hands on all that comes; drops what the target no longer takes: the source shall not know."""
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            with contextlib.suppress(OSError):
                target.sendall(data)


def together(function: Callable[[], Result]) -> Result:
    """What `function` returns, which needs the other processes.

    It runs in a thread: waiting for a process that is lost may never end.

    Raises:
        LostProcessError: if one is lost meanwhile.
    """
    if not jax.distributed.is_initialized():
        return function()
    result = _THREAD.submit(function)
    while not result.done():
        lost = _LINE.lost.is_set()
        wait([result], PATIENCE_SECONDS)
        if lost and not result.done():
            raise LostProcessError(_LINE.news)
    try:
        return result.result()
    except EXCHANGE_ERRORS as error:
        # Other errors of ours are ValueErrors too, but not bare ones.
        if type(error) in EXCHANGE_ERRORS and _LINE.lost.wait(PATIENCE_SECONDS):
            raise LostProcessError(_LINE.news) from error
        raise


# --- what they agree on -------------------------------------------------------------------------


def _gather(value: int) -> list[int]:
    """That of every process."""
    values = multihost_utils.process_allgather(np.array([value], np.int32))
    return [int(value) for value in np.ravel(values)]


def in_any(flag: bool) -> bool:
    """Whether the flag is set in any process; all must ask.

    Raises:
        LostProcessError: if one is lost.
    """
    if not jax.distributed.is_initialized():
        return flag
    return any(together(lambda: _gather(int(flag))))


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


# --- how they end -------------------------------------------------------------------------------


def part() -> None:
    """Waits for the other processes at the end of a run.

    Raises:
        LostProcessError: if one is lost.
    """
    if jax.distributed.is_initialized():
        in_any(False)
        jax.distributed.shutdown()


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """If the body fails, ends a process of several without waiting for the others, as JAX would."""
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        leave(error.code if isinstance(error, SystemExit) else 1)


def leave(code: Any) -> NoReturn:
    """Ends this process at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
