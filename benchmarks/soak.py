"""`python -m benchmarks.soak`: an hour of training, then a hundred evaluations: does anything grow?

The training is `rl3jax.train` in a process of its own, which writes a checkpoint every few seconds
and is stopped by a signal at the end. Speed is taken by the processor second, so that other work on
the machine does not count. After a warm-up all of it should be flat: the exit code is 1 if not.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import rl3jax
from benchmarks.measure import COLOURS, machine, save

console = Console(highlight=False, soft_wrap=True)

TRAINING = (
    "--env=bandit", "--n-tasks=512", "--horizon=100", "--iterations=1000000",
    "--checkpoint-every=20", "--validate-every=100",
)  # fmt: skip
ENV_STEPS = 512 * 100
WARM_UP = 0.1  # of all samples
POINTS = 40  # of speed in the picture: a short sample says little
PARTS = 10  # into which the rest is cut; the median of each counts
MEMORY_BOUND, SPEED_BOUND = 0.02, 0.10


@dataclass
class Args:
    """Train for long and evaluate often; do memory, speed and open files stay as they are?"""

    minutes: float = 60.0
    """How long to train (default: 60)."""
    evaluations: int = 100
    """Evaluations afterwards (default: 100)."""
    n_tasks: int = 10_000
    """Tasks of each evaluation (default: 10000)."""
    every: float = 5.0
    """Seconds between samples of the training (default: 5)."""
    out: Path = Path("benchmarks/results/soak.json")
    """Where the figures go as JSON, with a picture beside it (default: …/soak.json)."""


@dataclass(frozen=True)
class Sample:
    """A process at one moment.

    Attributes:
        seconds: wall-clock since the first sample.
        processor_seconds: that it has used, of all its threads.
        work: done so far: iterations, or evaluations.
        mebibytes: resident.
        open_files: descriptors.
    """

    seconds: float
    processor_seconds: float
    work: int
    mebibytes: float
    open_files: int


@dataclass(frozen=True)
class Drift:
    """How far the parts of a series lie from its median, as a fraction of that, at most."""

    median: float
    drift: float
    bound: float

    @property
    def flat(self) -> bool:
        """Whether it stays within the bound."""
        return self.drift <= self.bound


def sample(process: psutil.Process, started: float, work: int) -> Sample:
    """What the process uses now."""
    with process.oneshot():
        times = process.cpu_times()
        return Sample(
            seconds=time.monotonic() - started,
            processor_seconds=times.user + times.system,
            work=work,
            mebibytes=process.memory_info().rss / 2**20,
            open_files=process.num_fds(),
        )


def train(args: Args, run: Path) -> list[Sample]:
    """Samples of a training of so many minutes, once its first iterations are done."""
    command = [sys.executable, "-m", "rl3jax.train", *TRAINING, f"--out={run}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        iterations = _line_counter(run / "metrics.jsonl")
        while iterations() < 3:
            if process.poll() is not None:
                raise RuntimeError(f"the training ended at once, exit code {process.returncode}")
            time.sleep(0.5)
        started, samples = time.monotonic(), []
        observed = psutil.Process(process.pid)
        while time.monotonic() - started < 60 * args.minutes:
            time.sleep(args.every)
            samples.append(sample(observed, started, iterations()))
        process.send_signal(signal.SIGINT)
    if process.returncode != 130:
        raise RuntimeError(f"the training did not stop in order, exit code {process.returncode}")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    if [json.loads(line)["iteration"] for line in lines] != list(range(1, len(lines) + 1)):
        raise RuntimeError("metrics.jsonl lacks iterations")
    return samples


def _line_counter(path: Path) -> Callable[[], int]:
    """A function that says how many lines a growing file has; it reads only what is new."""
    position = count = 0

    def lines() -> int:
        nonlocal position, count
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                new = file.read()
            position += len(new)
            count += new.count(b"\n")
        return count

    return lines


def evaluate(args: Args, run: Path) -> list[Sample]:
    """A sample of this process after each evaluation of the trained agent on held-out tasks."""
    agent, env = rl3jax.load_agent(run / "agent"), rl3jax.make_env("bandit")
    process, started = psutil.Process(), time.monotonic()
    keys = jax.random.split(rl3jax.held_out_key(), args.evaluations)
    samples = []
    for done, key in enumerate(keys, start=1):
        rl3jax.evaluate_agent(agent, env, 100, args.n_tasks, key)
        samples.append(sample(process, started, done))
    return samples


def drifts(samples: Sequence[Sample]) -> dict[str, Drift]:
    """Of memory, of work by the processor second, and of open files, after the warm-up."""
    kept = samples[int(len(samples) * WARM_UP) :]
    work, processor = (
        np.diff([getattr(s, name) for s in kept]) for name in ("work", "processor_seconds")
    )
    speeds = [np.sum(w) / np.sum(p) for w, p in zip(_parts(work), _parts(processor), strict=True)]
    memory = [np.median(part) for part in _parts([s.mebibytes for s in kept])]
    files = [np.median(part) for part in _parts([s.open_files for s in kept])]
    return {
        "resident memory, MiB": _drift(memory, MEMORY_BOUND),
        "work per processor second": _drift(speeds, SPEED_BOUND),
        "open files": _drift(files, 0.0),
    }


def _parts(values: Any) -> list[Any]:
    return np.array_split(np.asarray(values), min(PARTS, len(values)))


def _drift(parts: Sequence[float], bound: float) -> Drift:
    median = float(np.median(parts))
    return Drift(median, float(np.max(np.abs(np.asarray(parts) / median - 1))), bound)


def table_of(found: dict[str, dict[str, Drift]]) -> Table:
    """Every series, and whether it is flat."""
    table = Table()
    for column in ("of", "what", "median", "drift", "bound", ""):
        table.add_column(column)
    for name, series in found.items():
        for what, drift in series.items():
            table.add_row(
                name, what, f"{drift.median:,.4g}", f"{drift.drift:.2%}", f"{drift.bound:.0%}",
                "flat" if drift.flat else "NOT FLAT",
            )  # fmt: skip
    return table


def draw(series: dict[str, list[Sample]]) -> Figure:
    """Memory, speed and open files over time, relative to their medians; a row a series."""
    figure = Figure(figsize=(9, 2.6 * len(series)), layout="constrained")
    for row, (name, samples) in enumerate(series.items()):
        minutes = np.array([s.seconds for s in samples]) / 60
        shown = samples[:: max(1, len(samples) // POINTS)]
        work, processor = (
            np.diff([getattr(s, n) for s in shown]) for n in ("work", "processor_seconds")
        )
        panels: tuple[tuple[str, Any, Any], ...] = (
            ("resident memory, MiB", minutes, [s.mebibytes for s in samples]),
            ("work per processor second", [s.seconds / 60 for s in shown[1:]], work / processor),
            ("open files", minutes, [s.open_files for s in samples]),
        )
        for column, (title, x, y) in enumerate(panels):
            axes = figure.add_subplot(len(series), len(panels), row * len(panels) + column + 1)
            axes.plot(x, y, color=COLOURS[row], linewidth=1)
            axes.set_ylim(0, 1.3 * max(y))
            axes.set_title(f"{name}: {title}", fontsize=8)
            axes.set_xlabel("minutes", fontsize=8)
            axes.tick_params(labelsize=7)
    return figure


def main() -> None:
    """The command."""
    args = tyro.cli(Args, prog="python -m benchmarks.soak")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        series = {"training": train(args, run), "evaluation": evaluate(args, run)}
    found = {name: drifts(samples) for name, samples in series.items()}
    report = {
        "machine": machine(),
        "training": list(TRAINING),
        "env_steps_per_iteration": ENV_STEPS,
        "drifts": {
            name: {what: asdict(drift) | {"flat": drift.flat} for what, drift in each.items()}
            for name, each in found.items()
        },
        "samples": {name: [asdict(s) for s in samples] for name, samples in series.items()},
    }
    save(report, args.out, draw(series))
    console.print(table_of(found))
    console.print(f"written: {args.out}, {args.out.with_suffix('.png')}")
    if not all(drift.flat for each in found.values() for drift in each.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
