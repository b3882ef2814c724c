"""`python -m experiments.gridworlds`: table 4 of the paper, gridworlds in seven variations.

RL², RL³ and RL³-coarse, trained on 11x11 and on 13x13 grids; the latter are also played, never
retrained, in five variations that differ in one respect each.
"""

import dataclasses
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment
from experiments.gathered import Gathered
from experiments.published import published
from experiments.rows import Row, Training
from experiments.scoring import algorithm_title, measure_scores

ALGORITHMS = ("rl2", "rl3", "rl3-coarse", "rl3-markov")
SHIFTED = ("dense", "deterministic", "watery", "dangerous", "corner")
BUDGET = {"11x11": 250, "13x13": 350}

SIZES: dict[str, dict[str, Any]] = {
    "quick": {
        "recurrent": {"network": "gru", "width": 32, "n_tasks": 32, "iterations": 6},
        "markov": {"network": "markov", "n_tasks": 64, "iterations": 20},
    },
    "cpu": {
        "recurrent": {"network": "gru", "width": 64, "n_tasks": 128, "iterations": 150},
        "markov": {"network": "markov", "n_tasks": 128, "iterations": 800},
    },
}


def rows(preset: str) -> list[Row]:
    """Those of table 4."""
    small, large = trainings(preset, "11x11"), trainings(preset, "13x13")
    n_tasks = 200 if preset == "quick" else 1000
    return [
        _row("11x11", small, n_tasks),
        _row("13x13", large, n_tasks),
        *(_row(f"13x13-{name}", large, n_tasks) for name in SHIFTED),
    ]


def _row(variation: str, trained: dict[str, Training], n_tasks: int) -> Row:
    horizon = BUDGET[variation.partition("-")[0]]
    name, title = f"gridworld-{variation}-h{horizon}", variation.replace("-", ", ")
    return Row(name, title, "gridworld", variation, horizon, trained, n_tasks, batch_size=250)


def trainings(preset: str, variation: str) -> dict[str, Training]:
    """One for each algorithm."""
    return {
        algo: Training(f"gridworld-{variation}-{algo}", _config(preset, algo, variation))
        for algo in ALGORITHMS
    }


def _config(preset: str, algo: str, variation: str) -> dict[str, Any]:
    is_markov = algo.endswith("-markov")
    config = {
        "env": "gridworld",
        "variation": variation,
        "algo": algo.removesuffix("-markov"),
        "object_level": "value_iteration",  # the paper's
        "horizon": BUDGET[variation],
    }
    if preset == "paper":
        return {**config, "preset": "paper-v4", "network": "markov" if is_markov else "transformer"}
    return {**config, **SIZES[preset]["markov" if is_markov else "recurrent"]}


def baseline_rows() -> list[Row]:
    """All variations."""
    return [dataclasses.replace(row, trainings={}) for row in rows("paper")]


def section(found: Gathered) -> str:
    """Table 4, the classical algorithms, and the costs."""
    return tables.comparison(rows("paper"), ALGORITHMS, baseline_rows(), found)


def draw(found: Gathered) -> dict[str, Figure]:
    """Returns by variation, ours beside the published."""
    figure, axes = figures.panels(2, width=6.0, height=3.8, columns=2)
    for axis, title in zip(axes, ("ours, greedy", "paper"), strict=True):
        _bars(axis, found, ours=title.startswith("ours"))
        axis.set(title=title)
        axis.axhline(0, color="#444444", linewidth=0.8)
    limits = np.array([axis.get_ylim() for axis in axes])
    for axis in axes:
        axis.set_ylim(limits.min(), limits.max())
    axes[0].set_ylabel("meta-episode return")
    figures.legend(figure, axes)
    return {"gridworlds": figure}


def _bars(axis: Axes, found: Gathered, ours: bool) -> None:
    shown = rows("paper")
    width = 0.8 / len(ALGORITHMS)
    for i, algo in enumerate(ALGORITHMS):
        bars = [_bar(row, algo, found) if ours else _published_bar(row, algo) for row in shown]
        places = [j + (i - (len(ALGORITHMS) - 1) / 2) * width for j, bar in enumerate(bars) if bar]
        values, errors = zip(*filter(None, bars), strict=True) if any(bars) else ((), ())
        axis.bar(
            places, values, width, yerr=errors, capsize=2,
            color=figures.color_of(algo), label=algorithm_title(algo),
        )  # fmt: skip
    labels = [row.variation.replace("13x13-", "") for row in shown]
    axis.set_xticks(range(len(shown)), labels, rotation=30, ha="right")


def _bar(row: Row, algo: str, found: Gathered) -> tuple[float, float] | None:
    """Mean over seeds, and half their range, or with one seed the standard error over tasks."""
    scores = found.scores(row, f"{algo} greedy")
    if not scores:
        return None
    means = [score.mean for score in scores]
    spread = (max(means) - min(means)) / 2 if len(means) > 1 else scores[0].stderr
    return sum(means) / len(means), spread


def _published_bar(row: Row, algo: str) -> tuple[float, float] | None:
    theirs = published(row.name, algo)
    return None if theirs is None else (theirs.value, theirs.stderr or 0.0)


EXPERIMENT = Experiment(
    "gridworlds", "Gridworlds (table 4)", rows, measure_scores, section, draw, baseline_rows
)

if __name__ == "__main__":
    main(EXPERIMENT)
