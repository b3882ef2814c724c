"""`python -m experiments.popgym`: POPGym's bandits within its 15 million env steps.

RL³ on Bernoulli bandits of 10, 20 and 30 arms beside the published scores, Thompson sampling and
the best arm. A score is 2 × mean reward − 1; POPGym's is the best of a training's course.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment
from experiments.gathered import Gathered
from experiments.published import SCORE, published
from experiments.results import Curve
from experiments.rows import Row, Training
from experiments.scoring import algorithm_title, measure_scores

ALGORITHMS = ("rl3",)
BANDITS = {"easy": (10, 200), "medium": (20, 400), "hard": (30, 600)}
"""Arms and pulls."""
PUBLISHED = {"gru": "POPGym: GRU", "best": "best of its 13"}

# Env steps of an iteration, and how many there are: at most 15 million in all.
SIZES: dict[str, dict[str, int]] = {
    "quick": {"steps": 48_000, "iterations": 10},
    "cpu": {"steps": 96_000, "iterations": 156},
    "paper": {"steps": 96_000, "iterations": 156},
}
MINIBATCHES = 16


def rows(preset: str) -> list[Row]:
    """One for each bandit."""
    return [_row(preset, name, *sizes) for name, sizes in BANDITS.items()]


def _row(preset: str, name: str, num_arms: int, horizon: int) -> Row:
    variation = f"popgym-{name}"
    trained = {
        algo: Training(f"bandit-{variation}-{algo}", _config(preset, algo, variation, horizon))
        for algo in ALGORITHMS
    }
    title = f"{name}: {num_arms} arms, H = {horizon}"
    return Row(f"bandit-{variation}-h{horizon}", title, "bandit", variation, horizon, trained)


def _config(preset: str, algo: str, variation: str, horizon: int) -> dict[str, Any]:
    sizes = SIZES[preset]
    return {
        "env": "bandit",
        "variation": variation,
        "algo": algo,
        "horizon": horizon,
        "n_tasks": sizes["steps"] // horizon // MINIBATCHES * MINIBATCHES,
        "minibatches": MINIBATCHES,
        "iterations": sizes["iterations"],
    }


def score(mean_return: float, horizon: int) -> float:
    """POPGym's, of a mean return."""
    return 2 * mean_return / horizon - 1


def best_arm(row: Row) -> float:
    """Expected score of whoever knows the best of n arms, each U(0, 1): (n − 1) / (n + 1)."""
    num_arms, _ = BANDITS[(row.variation or "").removeprefix("popgym-")]
    return (num_arms - 1) / (num_arms + 1)


def section(found: Gathered) -> str:
    """Scores beside the published; then returns of the classical algorithms, and the costs."""
    header = ["bandit", "preset, seeds × tasks"]
    for algo in ALGORITHMS:
        title = algorithm_title(algo)
        header += [f"{title}, best in training", "held out, greedy", "sampled"]
    header += [*PUBLISHED.values(), "Thompson", "best arm known"]
    intro = (
        "Score: 2 × mean reward − 1. That of a training is, as POPGym's, the best mean of all its "
        "iterations' tasks; those that are held out are played by the last policy. Published "
        "scores are as transcribed by others; there all memories train for 15 M env steps."
    )
    lines = [_line(row, found) for row in rows("paper")]
    return "\n\n".join(
        [
            intro,
            tables.table(header, lines),
            "Returns of classical algorithms (in parentheses, a tuned constant):",
            tables.baselines(baseline_rows(), found),
            tables.costs(rows("paper"), found),
        ]
    )


def _line(row: Row, found: Gathered) -> list[str]:
    line = [row.title, tables.preset_cell(found.trained.get(row.name, []))]
    for algo in ALGORITHMS:
        best = [score(max(curve.mean), row.horizon) for curve in curves(row, algo, found)]
        line.append(_cell(best))
        line += [_cell(_scores(row, f"{algo} {m}", found)) for m in ("greedy", "sampled")]
    line += [tables.published_cell(published(row.name, name, SCORE)) for name in PUBLISHED]
    return [*line, _cell(_scores(row, "thompson", found)), tables.number(best_arm(row))]


def _cell(scores: list[float]) -> str:
    return tables.over_seeds(scores) if scores else tables.NOT_RUN


def _scores(row: Row, contender: str, found: Gathered) -> list[float]:
    return [score(played.mean, row.horizon) for played in found.scores(row, contender)]


def curves(row: Row, algo: str, found: Gathered) -> list[Curve]:
    """Of an algorithm's trainings, one a seed."""
    results = found.trained.get(row.name, [])
    return [result.trainings[algo].curve for result in results if algo in result.trainings]


def baseline_rows() -> list[Row]:
    """All of them."""
    return rows("paper")


def draw(found: Gathered) -> dict[str, Figure]:
    """Scores in training, with lines at the published ones, Thompson sampling's and the best."""

    def panel(axis: Axes, row: Row) -> None:
        for algo in ALGORITHMS:
            shown = [_scored(curve, row.horizon) for curve in curves(row, algo, found)]
            figures.line(axis, shown, algorithm_title(algo), figures.color_of(algo), scale=1e-6)
        theirs = [(title, published(row.name, name, SCORE)) for name, title in PUBLISHED.items()]
        levels = [(title, number.value) for title, number in theirs if number]
        levels += [("best arm known", best_arm(row))]
        levels += [("Thompson", level) for level in _scores(row, "thompson", found)]
        for (title, level), style in zip(levels, (":", "--", "-", "-."), strict=False):
            axis.axhline(level, color="#555555", linestyle=style, linewidth=1, label=title)
        axis.set_xlabel("env steps (millions)")

    shown = [row for row in rows("paper") if row.name in found.trained]
    return {"popgym": figures.by_row(shown, panel, "score of the sampling policy")} if shown else {}


def _scored(curve: Curve, horizon: int) -> Curve:
    mean, stderr = np.asarray(curve.mean), np.asarray(curve.stderr)
    return Curve.of(curve.x, 2 * mean / horizon - 1, 2 * stderr / horizon)


EXPERIMENT = Experiment(
    "popgym", "POPGym's bandits", rows, measure_scores, section, draw, baseline_rows
)

if __name__ == "__main__":
    main(EXPERIMENT)
