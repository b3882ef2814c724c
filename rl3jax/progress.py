"""Progress of a training run on the terminal: a bar, or plain lines where there is none."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from rl3jax.config import Resolved
from rl3jax.statistics import Estimate

SECONDS_BETWEEN_LINES = 5.0
HEIGHTS = "▁▂▃▄▅▆▇█"
WIDTH = 20
"""Of a curve on the terminal, in characters."""


class Progress:
    """A context that shows each iteration's line of metrics."""

    def __init__(self, config: Resolved, folder: Path | None, iteration: int) -> None:
        self._config = config
        self._folder = folder
        self._first = iteration
        self._console = Console(highlight=False)
        self._bar = RichProgress(
            TextColumn("iteration"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (self._console.is_terminal or self._console.is_jupyter),
        )
        self._returns: list[float] = []
        self._task = self._bar.add_task(
            "train", total=config.iterations, completed=iteration, status="compiling …"
        )

    def __enter__(self) -> "Progress":
        config = self._config
        steps = config.n_tasks * config.horizon
        self._print(
            f"{config.algo} ({config.network}) on {config.env}: {config.iterations} iterations of "
            f"{config.n_tasks} tasks × {config.horizon} steps = {steps:,} env steps each, "
            f"on {jax.devices()[0].device_kind}"
        )
        if self._folder is not None:
            self._print(f"run folder: {self._folder}")
        self._started = self._last_line = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, line: dict[str, Any]) -> None:
        """One finished iteration."""
        done, total = line["iteration"], self._config.iterations
        status = f"return {line['mean_return']:.1f}  {line['steps_per_second']:,.0f} env steps/s"
        self._returns.append(line["mean_return"])
        self._bar.update(self._task, completed=done, status=f"{curve(self._returns)}  {status}")
        validated = "validation_return" in line
        if validated:
            score = Estimate(line["validation_return"], line["validation_stderr"])
            status += f"  validation, greedy {score}"
        late = time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES
        if validated or (self._bar.disable and (late or done == self._first + 1)):
            left = (time.monotonic() - self._started) / (done - self._first) * (total - done)
            self._print(f"iteration {done}/{total}  {status}  {left:.0f} s left")

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(text, soft_wrap=True, markup=False)


def curve(values: Sequence[float]) -> str:
    """Values as a curve of at most `WIDTH` characters, from the lowest to the highest.

    What is not finite is a gap.
    """
    shown = [part.mean() for part in np.array_split(values, min(len(values), WIDTH))]
    finite = [x for x in shown if np.isfinite(x)] or [0.0]
    low, span = min(finite), np.ptp(finite) or 1.0

    def height(x: float) -> str:
        return HEIGHTS[round((x - low) / span * (len(HEIGHTS) - 1))] if np.isfinite(x) else " "

    return "".join(map(height, shown))
