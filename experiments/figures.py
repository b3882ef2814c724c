"""Figures that experiments share, in one style; each as PNG to look at and SVG to print."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.gathered import Gathered
from experiments.results import Curve
from experiments.rows import Row
from experiments.scoring import algorithm_title

BAND = 1.96
"""Standard errors in the half-width of a 95 % band."""

COLORS = {
    "rl3": "#1f5fa8",
    "rl2": "#d1622b",
    "rl3-markov": "#6aa5d8",
    "rl3-coarse": "#3d9a6c",
    "rl3-kinds": "#7b3fa0",
    "optimal": "#222222",
    "random": "#aaaaaa",
}
"""Of the contenders that every figure shows; classical baselines take the others in turn."""

OTHERS = ("#8a5fb0", "#c9a227", "#4c9f9f", "#b0476f", "#7a7a3a", "#9c6b4e", "#5b6ee1", "#708090")


def color_of(contender: str, others: Sequence[str] = ()) -> str:
    """The same in every figure of an experiment; `others` are the baselines it shows."""
    algo = contender.removesuffix(" greedy").removesuffix(" sampled")
    if algo in COLORS:
        return COLORS[algo]
    return OTHERS[list(others).index(contender) % len(OTHERS)] if contender in others else "#555555"


def panels(
    count: int, width: float = 4.2, height: float = 3.4, columns: int = 3
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, in rows of at most `columns`."""
    across = min(count, columns)
    down = -(-count // across)
    figure = Figure(figsize=(width * across, height * down + 0.4), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    for axes in grid[:count]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure, list(grid[:count])


def by_row(
    rows: Sequence[Row], draw: Callable[[Axes, Row], None], ylabel: str, **sizes: Any
) -> Figure:
    """A panel a row, which `draw` fills; `sizes` are those of `panels`."""
    figure, axes = panels(max(len(rows), 1), **sizes)
    for axis, row in zip(axes, rows, strict=False):
        draw(axis, row)
        axis.set(title=row.title)
    axes[0].set_ylabel(ylabel)
    if rows:
        legend(figure, axes)
    return figure


def line(axes: Axes, curves: Sequence[Curve], label: str, color: str, scale: float = 1.0) -> None:
    """A curve and its band: of one run 95 % over tasks, of several their mean and range."""
    x = scale * np.asarray(curves[0].x)
    means = np.asarray([curve.mean for curve in curves])
    half = BAND * np.nan_to_num(np.asarray(curves[0].stderr)) if len(curves) == 1 else 0.0
    axes.plot(x, means.mean(axis=0), label=label, color=color, linewidth=1.4)
    low, high = means.min(axis=0) - half, means.max(axis=0) + half
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


def within_meta_episode(
    rows: Sequence[Row], contenders: Mapping[str, str], found: Gathered, what: str, ylabel: str
) -> Figure:
    """A panel a row: `what` ("regret" or "per_episode") of contenders, by object-level episode.

    Args:
        rows: those to show; the ones that no trained agent has played are left out.
        contenders: titles by name; a name is a baseline's, or like "rl3 greedy".
        found: results.
        what: field of a score.
        ylabel: of the leftmost panels.
    """
    names = [name for name in contenders if not name.startswith("rl")]

    def draw(axis: Axes, row: Row) -> None:
        for name, title in contenders.items():
            curves = [getattr(score, what) for score in found.scores(row, name)]
            if curves:
                line(axis, curves, title, color_of(name, names))
        axis.set_xlabel("env step" if what == "regret" else "object-level episode")

    return by_row([row for row in rows if row.name in found.trained], draw, ylabel)


def learning_curves(
    rows: Sequence[Row], curves_of: Callable[[Row, str], Sequence[Curve]], ylabel: str, **sizes: Any
) -> Figure:
    """A panel a row: the curves of its trainings, by env steps.

    Args:
        rows: those to show.
        curves_of: from a row and an algorithm to the latter's curves, one a seed.
        ylabel: of the leftmost panels.
        sizes: of `panels`.
    """

    def draw(axis: Axes, row: Row) -> None:
        for algo in row.trainings:
            curves = curves_of(row, algo)
            if curves:
                line(axis, curves, algorithm_title(algo), color_of(algo), scale=1e-6)
        axis.set(xlabel="env steps (millions)", xscale="log")

    return by_row(rows, draw, ylabel, **sizes)


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One for all panels, below them."""
    entries: dict[str, Artist] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        entries = {**dict(zip(labels, handles, strict=True)), **entries}
    figure.legend(
        list(entries.values()), list(entries),
        loc="outside lower center", ncols=max(1, int(figure.get_figwidth() / 1.8)), frameon=False,
    )  # fmt: skip


def save(figure: Figure, stem: Path) -> None:
    """As stem.png and stem.svg."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    # Without a date and with fixed ids, so that equal figures are equal files.
    with mpl.rc_context({"svg.hashsalt": "rl3jax"}):
        figure.savefig(stem.with_suffix(".png"), dpi=130)
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
