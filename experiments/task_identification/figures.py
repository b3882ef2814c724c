"""Figures of what both parts found."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures
from experiments.gathered import Gathered
from experiments.results import Curve
from experiments.rows import Row
from experiments.task_identification.domains import rows
from experiments.task_identification.duplicates import LEVELS
from experiments.task_identification.evidence import STEPS
from experiments.task_identification.tables import SHOWN

COLORS = {"posterior": "#222222", "model": "#3d9a6c", "q-counts": "#1f5fa8", "q": "#d1622b"}
ERROR_COLORS = {10: "#a9c9e8", 100: "#4f8fc9", 1000: "#123f73"}


def draw(found: Gathered) -> dict[str, Figure]:
    """Distances of tasks beside errors of estimates, and the accuracy of the classifiers."""
    shown = [row for row in rows("paper") if row.name in found.trained]
    panels = {
        "distances": (_draw_distances, "% of tasks, cumulated"),
        "accuracy": (_draw_accuracy, "accuracy (%)"),
    }
    return {
        f"task-identification-{name}": figures.by_row(shown, partial(draw_row, found), ylabel)
        for name, (draw_row, ylabel) in panels.items()
    }


def _draw_distances(found: Gathered, axis: Axes, row: Row) -> None:
    """Distribution functions over tasks, a line a seed."""
    results = found.trained[row.name]
    for result in results:
        limit, errors = result.extra["limit"], result.extra["errors"]
        lines = [
            ("nearest other task", "#222222", limit["nearest"]),
            ("any other task", "#aaaaaa", limit["apart"]),
            *(
                (f"its own estimate, t = {t}", ERROR_COLORS[t], at_t["error"])
                for t, at_t in zip(STEPS, errors, strict=True)
                if t in ERROR_COLORS
            ),
        ]
        for label, color, x in lines:
            is_first = result is results[0]
            axis.plot(
                x, 100 * LEVELS, color=color, linewidth=1.4, label=label if is_first else None
            )
    axis.set(xlabel="distance from a task's Q∞ (reward units)", xscale="log", ylim=(0, 100))
    axis.xaxis.set_major_formatter("{x:g}")


def _draw_accuracy(found: Gathered, axis: Axes, row: Row) -> None:
    for name, title in SHOWN.items():
        reached = [result.extra["classifiers"][name] for result in found.trained[row.name]]
        curves = [
            Curve.of(STEPS, *(100 * np.asarray(r[k]) for k in ("accuracy", "stderr")))
            for r in reached
        ]
        figures.line(axis, curves, title, COLORS[name])
    axis.axhline(50, color="#222222", linestyle=":", linewidth=1, label="chance")
    axis.set(xlabel="env steps t in each meta-episode", xscale="log", ylim=(48, 101))
    axis.set_xticks(STEPS, [str(t) for t in STEPS], minor=False)
    axis.minorticks_off()
