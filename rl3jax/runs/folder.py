"""The files of one training run.

config.json       the resolved config; without it a folder is no run
provenance.json   versions, commit and device, one entry each time the run was started
metrics.jsonl     a line an iteration
checkpoints/      the last two
agent/            the last policy, what `load_agent` reads
best_agent/       the one with the best validation score
curve.png         returns over env steps
drawings/         what training drew of its policies, by iteration
evaluations/      what `rl3jax.evaluate` wrote
.lock             held by the process that trains
"""

import contextlib
import datetime
import hashlib
import itertools
import json
import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock, Timeout

from rl3jax.checks import ConfigError, one_line
from rl3jax.config import Config, Resolved
from rl3jax.files import (
    FileError,
    check_regular,
    forget_temporaries,
    json_text,
    read_json,
    replacing,
    write_json,
)
from rl3jax.seeding import generator

LONGEST_LINE, LARGEST_METRICS = 2**16, 2**30
"""Bytes of metrics.jsonl: some fifty times what our lines have; a million of ours."""
PACKAGE = Path(__file__).resolve().parents[1]
RECORDED_PACKAGES = ("rl3jax", "jax", "jaxlib", "flax", "optax", "distrax", "gymnax", "numpy")


class _Digested:
    """The first lines of a file that grows, as far as they were read: their size and SHA-256."""

    def __init__(self) -> None:
        self.lines, self.size, self.sha256 = 0, 0, hashlib.sha256()

    def extend(self, path: Path, lines: int) -> None:
        """Reads on, until so many lines or the end; there is no way back."""
        assert lines >= self.lines
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(self.size)
            while self.lines < lines and (line := file.readline(LONGEST_LINE)):
                self.lines, self.size = self.lines + 1, self.size + len(line)
                self.sha256.update(line)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and what reads and writes them."""

    path: Path
    _digested: _Digested = field(default_factory=_Digested, repr=False, compare=False)

    @property
    def checkpoints(self) -> Path:
        """Folder of all checkpoints."""
        return self.path / "checkpoints"

    @property
    def agent(self) -> Path:
        """Folder of the last policy."""
        return self.path / "agent"

    @property
    def best_agent(self) -> Path:
        """Folder of the policy with the best validation score."""
        return self.path / "best_agent"

    @property
    def evaluations(self) -> Path:
        """Folder of scores on held-out tasks."""
        return self.path / "evaluations"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, a line an iteration."""
        return self.path / "metrics.jsonl"

    @property
    def is_taken(self) -> bool:
        """Whether a run is, or was, in this folder."""
        return (self.path / "config.json").exists() or self.metrics.exists()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from training into the folder; ends with the process at the latest.

        Raises:
            ConfigError: if another one does already.
        """
        try:
            with FileLock(self.path / ".lock", timeout=0):
                for folder in (self.path, self.agent, self.best_agent, self.path / "drawings"):
                    forget_temporaries(folder)
                yield
        except Timeout as error:
            raise ConfigError(f"{self.path} is in use: another process trains into it") from error

    def write_config(self, config: Config) -> None:
        """Replaces config.json."""
        write_json(self.path / "config.json", config.to_dict(), indent=2)

    def read_config(self, named_env: str | None = None) -> Resolved:
        """The config of the run.

        An environment `module:Class` is code that a folder from somebody else could choose: it is
        accepted only if the user named it as well.

        Raises:
            ConfigError: if the folder is no run, its config not allowed, or its environment one
                that the user has not named.
            FileError: if its config is not readable.
        """
        file = self.path / "config.json"
        if not file.exists():
            raise ConfigError(f"{self.path} is no run folder (no config.json)")
        values = read_json(file)
        env = values.get("env")
        is_own = isinstance(env, str) and ":" in env and not env.startswith("rl3jax.")
        if is_own and env != named_env:
            raise ConfigError(
                f"{self.path} was trained in {env}, which is code that comes with neither; "
                f"to run that code, say so: --env {env}"
            )
        return Config.from_dict(values).resolve()

    def add_provenance(self) -> None:
        """Appends what this process runs on.

        Raises:
            FileError: if what is there is damaged.
        """
        file = self.path / "provenance.json"
        entries = read_json(file, kind=list) if file.exists() else []
        write_json(file, [*entries, provenance()], indent=2)

    def append_metrics(self, line: dict[str, Any]) -> None:
        """One more line, whole or not at all."""
        with self.metrics.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            data = (json_text(line) + "\n").encode()
            try:
                written = file.write(data)
                if written < len(data):  # the next write of a full disk says why
                    file.write(data[written:])
            except OSError as error:
                file.truncate(before)
                raise OSError(error.errno, error.strerror, str(self.metrics)) from error

    def metrics_digest(self, iteration: int) -> str:
        """SHA-256 of the lines up to an iteration, by which a checkpoint knows its metrics.

        Lines are read once: the next digest goes on from there.
        """
        self._digested.extend(self.metrics, iteration)
        return self._digested.sha256.hexdigest()

    def read_metrics(self) -> list[dict[str, Any]]:
        """All complete lines.

        Raises:
            FileError: if a line is damaged.
        """
        check_regular(self.metrics, LARGEST_METRICS)
        try:
            text = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            lines = [json.loads(line) for line in text if line.endswith("\n")]
            if not all(isinstance(x, dict) and type(x.get("iteration")) is int for x in lines):
                raise ValueError("a line is no JSON object with an iteration")
            return lines
        except (ValueError, RecursionError) as error:
            raise FileError(f"{self.metrics} is damaged: {one_line(error)}") from error

    def truncate_metrics(self, iteration: int, digest: str) -> None:
        """Forgets lines after `iteration`, which will be written again.

        Raises:
            FileError: if those up to it are not those of `digest`.
        """
        kept = _Digested()
        kept.extend(self.metrics, iteration)
        if kept.sha256.hexdigest() != digest:
            raise FileError(
                f"{self.metrics} is damaged: its lines up to iteration {iteration} are not those "
                "that the checkpoint was written with"
            )
        with replacing(self.metrics) as temporary:
            temporary.touch()
            if self.metrics.is_file():
                shutil.copyfile(self.metrics, temporary)
                os.truncate(temporary, kept.size)


def title(config: Resolved) -> str:
    """What was trained on what, for figures and tables."""
    return f"{config.algo} ({config.network}) on {config.env}, H = {config.horizon}"


@contextlib.contextmanager
def new_run(config: Resolved, out: str | None) -> Iterator[RunFolder]:
    """A new run's folder, held; it becomes a run by its config, which is to be written last.

    Raises:
        ConfigError: if `out` already holds a run, is in use, or cannot be made.
    """
    folder = _make(out, f"{_name(config)}-s{config.seed}")
    with folder.held():
        if folder.is_taken:
            raise ConfigError(
                f"--out {folder.path} already holds a run; to go on with it: --resume {folder.path}"
            )
        yield folder


def new_sweep(config: Resolved, out: str | None) -> RunFolder:
    """A new sweep's folder; of a run's files it has the config and the best agent.

    Raises:
        ConfigError: if `out` already holds a sweep or a run, or cannot be made.
    """
    folder = _make(out, f"sweep-{_name(config)}")
    if folder.is_taken:
        raise ConfigError(f"--out {folder.path} already holds a sweep or a run; name a new folder")
    folder.write_config(config)
    return folder


def _name(config: Config) -> str:
    env = config.env.replace(":", ".").replace("/", "-")
    return f"{env}-{config.algo}-{config.network}-h{config.horizon}"


def _make(out: str | None, name: str) -> RunFolder:
    """The folder `out`, or else `runs/{name}`, with -2, -3, … if another process made that."""
    for count in itertools.count(1):
        default = Path("runs") / (name if count == 1 else f"{name}-{count}")
        path = default if out is None else Path(out)
        try:
            path.mkdir(parents=True, exist_ok=out is not None)
            break
        except OSError as error:
            if out is not None or not isinstance(error, FileExistsError):
                raise ConfigError(f"--out {path} cannot be made: {error.strerror}") from error
    return RunFolder(path)


def provenance() -> dict[str, Any]:
    """Versions, commit and device of this process."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in RECORDED_PACKAGES},
        "commit": _commit(),
        "random": generator(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": str(jax.devices()[0].device_kind),
        "devices": jax.device_count(),
        "platform": jax.default_backend(),
    }


def _processor() -> str:
    """The CPU's name."""
    with contextlib.suppress(OSError):  # no Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit(package: Path = PACKAGE) -> str | None:
    """Of the source checkout that this package runs from, with + if it has local changes.

    `None` if it runs from none: it may be installed inside somebody else's repository.
    """
    project: Any = {}
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is no TOML
        project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))
    is_ours = project.get("project", {}).get("name") == "rl3jax"
    if not is_ours or _git(package, "rev-parse", "--show-toplevel") != str(package.parent):
        return None
    return _git(package, "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *command: str) -> str | None:
    """What git says of a folder, if anything; a hook's variables would name another repository."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        said = subprocess.check_output(
            ["git", *command], cwd=folder, env=env,
            stderr=subprocess.DEVNULL, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return said.strip() or None
