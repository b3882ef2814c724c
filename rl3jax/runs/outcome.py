"""What came of a sweep: its files and its table."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.table import Table

from rl3jax import plots
from rl3jax.files import json_ready, write_json, write_text
from rl3jax.runs.batch import Values
from rl3jax.runs.folder import RunFolder, provenance
from rl3jax.statistics import MIN_SEEDS, mean_and_stderr, seed_interval


@dataclass(frozen=True)
class Outcome:
    """What came of P points with S seeds each, over I iterations.

    Attributes:
        points: the values of each.
        seeds: of every point.
        returns: `[P, S, I]`, of the sampling policy in the iteration's tasks; NaN from where a run
            diverged.
        scores: `[P, S]`, mean of the last greedy policy over validation tasks; NaN if diverged.
        stderrs: `[P, S]`, of these means, over tasks.
        seconds: `[I]`, of all runs together; the first iteration's include compilation.
        steps: env steps of a run in an iteration.
    """

    points: Sequence[Values]
    seeds: Sequence[int]
    returns: Float[np.ndarray, "P S I"]
    scores: Float[np.ndarray, "P S"]
    stderrs: Float[np.ndarray, "P S"]
    seconds: Float[np.ndarray, " I"]
    steps: int

    @property
    def best(self) -> tuple[int, int] | None:
        """Point and seed, as indices, of the run with the best score; None if all diverged."""
        if np.isnan(self.scores).all():
            return None
        point, seed = np.unravel_index(np.nanargmax(self.scores), self.scores.shape)
        return int(point), int(seed)

    @property
    def steps_per_second(self) -> float:
        """Env steps of all runs together, without the first iteration if there are others."""
        seconds = self.seconds[1:] if len(self.seconds) > 1 else self.seconds
        return float(self.steps * self.scores.size / seconds.mean())

    def finished_scores(self, point: int) -> Float[np.ndarray, " n"]:
        """Of the seeds of a point that have not diverged."""
        return self.scores[point][~np.isnan(self.scores[point])]


def write(outcome: Outcome, folder: RunFolder, title: str) -> None:
    """Writes sweep.json, sweep.csv and sweep.png."""
    write_json(folder.path / "sweep.json", _report(outcome))
    write_text(folder.path / "sweep.csv", _csv(outcome))
    plots.sweep(
        outcome.points, outcome.scores, outcome.returns, outcome.steps, title,
        folder.path / "sweep.png",
    )  # fmt: skip


def make_table(outcome: Outcome, title: str) -> Table:
    """A line a point, best first; means are over the seeds that have not diverged."""
    all_scores = [outcome.finished_scores(point) for point in range(len(outcome.points))]
    order = np.argsort([-s.mean() if s.size else np.inf for s in all_scores], kind="stable")
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in (*outcome.points[0], "mean ± s.e.", "IQM [95 %]", "best seed", "diverged"):
        table.add_column(name, justify="right", overflow="fold")
    for rank, point in enumerate(order.tolist()):
        n_finished = all_scores[point].size
        table.add_row(
            "best" if rank == 0 and n_finished else "",
            *(f"{value:g}" for value in outcome.points[point].values()),
            *(_cells(outcome, point) if n_finished else ("–", "–", "–")),
            f"{len(outcome.seeds) - n_finished} of {len(outcome.seeds)}",
            style="bold" if rank == 0 else None,
        )
    return table


def _cells(outcome: Outcome, point: int) -> tuple[str, str, str]:
    """Mean with its standard error, interval, best seed, of what a point's seeds scored."""
    scores = outcome.finished_scores(point)
    interval = seed_interval(scores) if len(scores) >= MIN_SEEDS else None
    best = int(np.nanargmax(outcome.scores[point]))
    return (
        str(mean_and_stderr(scores)),
        f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]" if interval else "–",
        f"{outcome.seeds[best]} ({outcome.scores[point, best]:.2f})",
    )


def _records(outcome: Outcome) -> list[dict[str, Any]]:
    """A run each, JSON-ready; its seconds are those of all, which ran side by side."""
    records = []
    for point, seed in np.ndindex(outcome.scores.shape):
        returns = outcome.returns[point, seed]
        finite = returns[~np.isnan(returns)]
        records.append(
            {
                "values": {n: _value(v) for n, v in outcome.points[point].items()},
                "seed": outcome.seeds[seed],
                "validation_return": float(outcome.scores[point, seed]),
                "validation_stderr": float(outcome.stderrs[point, seed]),
                "diverged_in": len(finite) + 1 if len(finite) < len(returns) else None,
                "seconds": float(outcome.seconds.sum()),
                "env_steps_per_second": outcome.steps_per_second / outcome.scores.size,
                "mean_return": finite.tolist(),
            }
        )
    return json_ready(records)


def _value(x: float) -> float | str:
    """A swept value as a config's JSON has it."""
    return "inf" if x == math.inf else x


def _report(outcome: Outcome) -> dict[str, Any]:
    names = outcome.points[0]
    records = _records(outcome)
    best = outcome.best
    return {
        "grid": {
            name: [_value(v) for v in dict.fromkeys(p[name] for p in outcome.points)]
            for name in names
        },
        "seeds": list(outcome.seeds),
        "iterations": outcome.returns.shape[-1],
        "env_steps_per_iteration": outcome.steps,
        "seconds": float(outcome.seconds.sum()),
        "env_steps_per_second": outcome.steps_per_second,
        "best": best and {k: records[best[0] * len(outcome.seeds) + best[1]][k]
                          for k in ("values", "seed", "validation_return")},
        "runs": records,
        "provenance": provenance(),
    }  # fmt: skip


def _csv(outcome: Outcome) -> str:
    """A line a run, without the history."""
    lines = []
    for record in _records(outcome):
        returns = record.pop("mean_return")
        values = record.pop("values")
        lines.append({**values, **record, "last_mean_return": returns[-1] if returns else None})
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
