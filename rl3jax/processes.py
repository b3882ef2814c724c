"""One run in several processes, on one machine or many: how they meet, agree and end together.

Who is lost is up to JAX: its heartbeats end the others.
"""

import contextlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from jax.experimental import multihost_utils

from rl3jax.checks import ConfigError

MEETING_SECONDS = 60
HEARTBEAT_SECONDS = 20  # a process that is silent for so long is lost, and JAX aborts the others
PATIENCE_SECONDS = 3  # of a process that fails: the others may be about to say why they do
CONFIG_BYTES = 2**14
BY_HAND = "--coordinator, --num-processes and --process-id"

_THREAD = ThreadPoolExecutor(max_workers=1)  # for what would wait for the others too long


@dataclass(frozen=True)
class Processes:
    """How the processes of a run find each other; nothing given: there is only this one."""

    distributed: bool = False
    """One of several processes, of which the cluster says how many they are and where (SLURM, Open
    MPI, Kubernetes, Cloud TPU)."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """By hand: address where process 0 of several listens, the same in all. None: one process."""
    num_processes: int | None = None
    """By hand: processes of the run. None: one."""
    process_id: int | None = None
    """By hand: number of this process, from 0. None: the only one."""


def join(processes: Processes) -> None:
    """Meets the other processes of the run; JAX must not have looked for devices yet.

    Raises:
        ConfigError: if the arguments do not fit together, there is no cluster that says where the
            others are, or they do not come.
    """
    address = _address(processes)
    if address is None:
        return
    place = processes.coordinator or "the address that the cluster gives"
    jax.config.update("jax_enable_preemption_service", False)  # it swallows SIGTERM
    # In a thread, with a time limit of ours: after its own, JAX aborts with a stack trace.
    meeting = _THREAD.submit(
        jax.distributed.initialize,
        **address,
        initialization_timeout=2 * MEETING_SECONDS,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=HEARTBEAT_SECONDS,
    )
    try:
        meeting.result(MEETING_SECONDS)
    except TimeoutError as error:
        raise ConfigError(
            f"the processes of this run did not all come to {place} within {MEETING_SECONDS} s; "
            "does process 0 listen there, and do the others run?"
        ) from error
    except ValueError as error:  # JAX misses what it was not given and did not find
        raise ConfigError(
            f"--distributed: no cluster here says where the processes are ({error}); give {BY_HAND}"
        ) from error
    except RuntimeError as error:
        raise ConfigError(f"no meeting at {place}: {str(error).splitlines()[0]}") from error


def _address(processes: Processes) -> dict[str, Any] | None:
    """JAX's arguments: empty if it shall ask the cluster, `None` if there is one process alone."""
    given = {name: value for name, value in vars(processes).items() if name != "distributed"}
    missing = [name for name, value in given.items() if value is None]
    if processes.distributed and len(missing) < len(given):
        raise ConfigError(f"--distributed asks the cluster; it goes without {BY_HAND}")
    if len(missing) == len(given):
        return {} if processes.distributed else None
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
    return {
        "coordinator_address": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }


def in_any(flag: bool) -> bool:
    """Whether the flag is set in any process; all must ask."""
    if not jax.distributed.is_initialized():
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array([flag], np.int32))))


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


def part() -> None:
    """Waits for the other processes at the end of a run."""
    if jax.distributed.is_initialized():
        in_any(False)  # however long they take: JAX's own wait has a limit
        jax.distributed.shutdown()


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """If the body fails, ends a process of several without waiting for the others, as JAX would.

    Those that fail as well, at the same time, each say so first: the end of one aborts the others.
    """
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if _is_loss(error):
            reason = str(error).splitlines()[0]
            print(
                f"error: another process of this run was lost ({reason}); --resume goes on from "
                "the last checkpoint",
                file=sys.stderr,
            )
        else:
            if not isinstance(error, SystemExit):
                traceback.print_exc()
            with contextlib.suppress(Exception):
                _THREAD.submit(jax.distributed.shutdown).result(PATIENCE_SECONDS)
        code: Any = error.code if isinstance(error, SystemExit) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _is_loss(error: BaseException) -> bool:
    """Whether an exchange with another process failed; JAX raises either of two bare errors."""
    bare = type(error) in (jax.errors.JaxRuntimeError, ValueError)
    return bare and re.search("gloo|nccl", str(error), re.IGNORECASE) is not None
