"""The kinds of faults. Each takes a harness, strikes once, and says how it was survived."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.children import Child
from tests.faults.harness import (
    BAD_INPUT,
    DONE,
    INTERRUPTED,
    REFUSED,
    SAME,
    Harness,
    LossError,
    check_lines,
)

KILLED = -signal.SIGKILL
Fault = Callable[[Harness], str]


def killed_at_any_moment(harness: Harness) -> str:
    """SIGKILL, some time between the first file and the end."""
    run = harness.new_folder()
    process = harness.start(run)
    _wait_for(run, process)
    time.sleep(harness.rng.uniform(0, 1.5))
    os.killpg(process.pid, signal.SIGKILL)
    harness.wait(process).check(KILLED, DONE)
    return harness.recover(run)


def killed_at_a_file(harness: Harness) -> str:
    """SIGKILL just before some change of a file, so also in the middle of a checkpoint."""
    run = harness.new_folder()
    number = int(harness.rng.integers(1, _file_changes(harness) + 1))
    harness.wait(harness.start(run, fault=("kill", number))).check(KILLED)
    return harness.recover(run)


def stopped_by_a_signal(harness: Harness) -> str:
    """SIGINT or SIGTERM; before the first iteration it may also end at once."""
    run = harness.new_folder()
    process = harness.start(run)
    _wait_for(run, process)
    time.sleep(harness.rng.uniform(0, 1.0))
    number = harness.rng.choice([signal.SIGINT, signal.SIGTERM])
    os.killpg(process.pid, number)
    harness.wait(process).check(INTERRUPTED, DONE, -number)
    return harness.recover(run)


def disk_full(harness: Harness) -> str:
    """From some change of a file on there is no space left."""
    return _writes_fail(harness, "full")


def folder_read_only(harness: Harness) -> str:
    """From some change of a file on nothing may be written."""
    return _writes_fail(harness, "denied")


def _writes_fail(harness: Harness, action: str) -> str:
    run = harness.new_folder()
    number = int(harness.rng.integers(1, _file_changes(harness) + 1))
    harness.wait(harness.start(run, fault=(action, number))).check(BAD_INPUT, DONE)
    return harness.recover(run)


def small_disk(harness: Harness) -> str:
    """A file system with too little space for the whole run; then the run is moved to a larger."""
    with _file_system(harness.new_folder(), int(harness.rng.integers(16, 120))) as disk:
        harness.wait(harness.start(disk / "run")).check(BAD_INPUT)
        if not (disk / "run").exists():
            return REFUSED
        check_lines(disk / "run")
        run = harness.copy(disk / "run")
    return harness.recover(run)


def damaged_file(harness: Harness) -> str:
    """Some file of an interrupted run is cut, changed in a bit, emptied or deleted."""
    run = harness.copy(_interrupted(harness))
    files = sorted(p for p in run.rglob("*") if p.is_file() and p.name != ".lock")
    file = files[harness.rng.integers(len(files))]
    data = bytearray(file.read_bytes())
    place = int(harness.rng.integers(len(data)))
    damage = harness.rng.choice(["cut", "bit", "empty", "delete"])
    if damage == "delete":
        file.unlink()
    else:
        data[place] ^= 1 << int(harness.rng.integers(8))
        file.write_bytes({"cut": data[:place], "bit": data, "empty": b""}[damage])
    return harness.recover_or_refuse(run)


def swapped_file(harness: Harness) -> str:
    """Two checkpoints change places, or a file comes from a run with another seed."""
    run = harness.copy(_interrupted(harness))
    if harness.rng.random() < 0.3:
        first, second = sorted((run / "checkpoints").iterdir())
        first.rename(run / "between")
        second.rename(first)
        (run / "between").rename(second)
    else:
        other = _other_seed(harness)
        names = [p.relative_to(other) for p in sorted(other.rglob("*")) if p.is_file()]
        names = [name for name in names if (run / name).is_file() and name.name != ".lock"]
        name = names[harness.rng.integers(len(names))]
        (run / name).write_bytes((other / name).read_bytes())
    return harness.recover_or_refuse(run)


def two_at_once(harness: Harness) -> str:
    """Two trainings into one folder, or two that go on with one run."""
    if harness.rng.random() < 0.5:
        run = harness.new_folder()
        both = [harness.start(run) for _ in range(2)]
    else:
        run = harness.copy(_interrupted(harness))
        both = [harness.popen(f"--resume={run}") for _ in range(2)]
    ended = [harness.wait(process).check(DONE, BAD_INPUT) for process in both]
    if DONE not in [e.code for e in ended]:
        raise LossError("each refused because of the other")
    harness.check_same(run)
    return SAME


def another_setting(harness: Harness) -> str:
    """The run goes on under another version, another config, or on other devices."""
    run = harness.copy(_interrupted(harness))
    what = harness.rng.choice(["version", "config", "devices"])
    if what == "devices":  # allowed: the sums are in another order, that is all
        harness.wait(harness.popen(f"--resume={run}", "--devices=1")).check(DONE)
        harness.check_same(run)
        return SAME
    if what == "version":
        (manifest,) = {max((run / "checkpoints").iterdir()) / "manifest.json"}
        manifest.write_text(manifest.read_text().replace('"rl3jax": "', '"rl3jax": "9'))
        return harness.recover_or_refuse(run)
    config = json.loads((run / "config.json").read_text())
    name = harness.rng.choice([k for k, v in config.items() if isinstance(v, int | float)])
    config[name] = config[name] * 2 + 1
    (run / "config.json").write_text(json.dumps(config))
    return harness.recover_or_refuse(run)


KINDS: dict[str, Fault] = {
    "killed at any moment": killed_at_any_moment,
    "killed at a file": killed_at_a_file,
    "stopped by a signal": stopped_by_a_signal,
    "disk full": disk_full,
    "folder read-only": folder_read_only,
    "small disk": small_disk,
    "damaged file": damaged_file,
    "swapped file": swapped_file,
    "two at once": two_at_once,
    "another setting": another_setting,
}


def can_mount(scratch: Path) -> bool:
    """Whether this process may make the file systems of `small_disk`."""
    try:
        with _file_system(scratch / "mounted", 64):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _file_system(path: Path, kibibytes: int) -> Iterator[Path]:
    """One of its own in memory, of this size."""
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(path)]
    subprocess.run(["mount", *options], check=True, capture_output=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _wait_for(run: Path, process: Child) -> None:
    """Until the first file is there."""
    while not run.exists() and process.poll() is None:
        time.sleep(0.01)


def _file_changes(harness: Harness) -> int:
    """Of a whole run."""
    run = harness.scratch / "counted"
    count = harness.scratch / "counted.count"
    if not count.exists():
        harness.wait(harness.start(run, fault=("count", 1))).check(DONE)
    return int(count.read_text())


def _interrupted(harness: Harness, name: str = "interrupted", *flags: str) -> Path:
    """A run that was stopped in order somewhere in the middle."""
    run = harness.scratch / name
    if not run.exists():
        process = harness.start(run, *flags)
        while (
            not (run / "metrics.jsonl").exists()
            or len((run / "metrics.jsonl").read_text().splitlines()) < 8
        ):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        harness.wait(process).check(INTERRUPTED)
    return run


def _other_seed(harness: Harness) -> Path:
    return _interrupted(harness, "other", "--seed=1")
