"""`python -m experiments.training_curves`: figures 4 to 6 of the paper, and when RL³ catches up.

The trainings are those of the tables; whatever a table has trained is not trained again.
"""

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from experiments import bandits, figures, gridworlds, mdps, tables
from experiments.command import main
from experiments.experiment import Experiment, measure_nothing
from experiments.gathered import Gathered
from experiments.published import TO_CONVERGE, TO_MATCH, published
from experiments.results import Curve
from experiments.rows import SEEDS, Row
from experiments.scoring import algorithm_title

ALGORITHMS = ("rl2", "rl3", "rl3-markov", "rl3-coarse")
FIGURES = {"bandit": "figure 4", "mdp": "figure 5", "gridworld": "figure 6"}
SMOOTHED = 0.05
"""Share of a curve's points that a running mean takes."""
CONVERGED = 0.99
"""Share of a training's whole gain after which it counts as converged."""
LAST = 0.1
"""Share of a training that its final return is the mean of."""


def rows(preset: str) -> list[Row]:
    """Every row whose agents are trained on its own tasks, so that trainings appear once."""
    trained: dict[str, Row] = {}
    for row in [*bandits.rows(preset), *mdps.rows(preset), *gridworlds.table_rows(preset)]:
        names = "+".join(training.name for training in row.trainings.values())
        trained.setdefault(names, row)
    return [row for row in trained.values() if not row.name.endswith("-window")]


def section(found: Gathered) -> str:
    """Returns at the end of training, and when RL³ had what RL² reached."""
    header = ["trained on", "preset, seeds"]
    header += [f"{algorithm_title(algo)}, at the end" for algo in ALGORITHMS]
    header += ["RL³ matches RL² after", "paper", "RL³ converges after", "paper"]
    intro = (
        "Mean return of the sampling policy over the last tenth of meta-training, and the share of "
        "RL²'s env steps after which RL³ had reached that of RL², and after which it had made 99 % "
        "of its own gain."
    )
    lines = [_line(row, found) for row in rows("paper")]
    return "\n\n".join([intro, tables.table(header, lines), tables.costs(rows("paper"), found)])


def _line(row: Row, found: Gathered) -> list[str]:
    results = found.trained.get(row.name, [])
    pairs = [
        (result.trainings["rl3"].curve, result.trainings["rl2"].curve)
        for result in results
        if {"rl2", "rl3"} <= result.trainings.keys()
    ]
    line = [f"{row.env}, {row.title}", tables.seeds_cell(results)]
    for algo in ALGORITHMS:
        finals = [final_return(curve) for curve in curves(row, algo, found)]
        absent = tables.NOT_RUN if algo in row.trainings else tables.NOTHING
        line.append(tables.over_seeds(finals) if finals else absent)
    for share, name in ((share_to_match, TO_MATCH), (share_to_converge, TO_CONVERGE)):
        line.append(_share_cell([share(rl3, rl2) for rl3, rl2 in pairs]))
        line.append(tables.published_cell(published(row.name, "rl3", name)))
    return line


def _share_cell(shares: list[float | None]) -> str:
    """Mean over the seeds that got there."""
    reached = [share for share in shares if share is not None]
    if not shares:
        return tables.NOT_RUN
    if not reached:
        return "never"
    return f"{np.mean(reached):.2f}" + ("" if len(reached) == len(shares) else " (not all)")


def curves(row: Row, algo: str, found: Gathered) -> list[Curve]:
    """Of an algorithm's trainings, one a seed."""
    results = found.trained.get(row.name, [])
    return [result.trainings[algo].curve for result in results if algo in result.trainings]


def final_return(curve: Curve) -> float:
    """Mean return over the last tenth."""
    return float(np.mean(curve.mean[-max(1, round(LAST * len(curve.mean))) :]))


def share_to_match(curve: Curve, other: Curve) -> float | None:
    """Env steps until a curve reaches the other's final return, as a share of the other's.

    Both are smoothed by a running mean; None if it never does.
    """
    reached = np.flatnonzero(smoothed(curve) >= final_return(other))
    return curve.x[reached[0]] / other.x[-1] if len(reached) else None


def share_to_converge(curve: Curve, other: Curve) -> float:
    """Env steps until a curve has made 99 % of its gain, as a share of the other's env steps."""
    means = smoothed(curve)
    goal = means[0] + CONVERGED * (final_return(curve) - means[0])
    gets_there = means >= goal if goal >= means[0] else means <= goal
    first = int(np.argmax(gets_there)) if gets_there.any() else -1
    return curve.x[first] / other.x[-1]


def smoothed(curve: Curve) -> np.ndarray:
    """Mean of a point and those before it, as many as `SMOOTHED` says."""
    width = max(1, round(SMOOTHED * len(curve.mean)))
    sums = np.cumsum(np.concatenate([[0.0], curve.mean]))
    ends = np.arange(1, len(curve.mean) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw(found: Gathered) -> dict[str, Figure]:
    """One figure for each domain, a panel for each training."""
    drawn = {}
    for env, name in FIGURES.items():
        shown = [row for row in rows("paper") if row.env == env and row.name in found.trained]
        if shown:
            drawn[f"training-{name.replace(' ', '-')}-{env}"] = figures.learning_curves(
                shown, partial(curves, found=found), "mean return", columns=4
            )
    return drawn


EXPERIMENT = Experiment(
    "training_curves", "Training curves (figures 4 to 6)", rows, measure_nothing, section, draw,
    seeds=SEEDS | {"quick": 1},  # of many trainings
)  # fmt: skip

if __name__ == "__main__":
    main(EXPERIMENT)
