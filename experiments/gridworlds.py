"""`python -m experiments.gridworlds`: table 4 of the paper, gridworlds in seven variations.

RL², RL³ and RL³-coarse, trained on 11x11 and on 13x13 grids; the latter are also played, never
retrained, in five variations that differ in one respect each. Beside them our own defaults, whose
object-level RL learns what kinds of states there are, and plans with them; and these plans alone.
"""

import dataclasses
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment, Measured
from experiments.gathered import OPTIMAL, Gathered
from experiments.published import published
from experiments.rows import Row, Training
from experiments.scoring import algorithm_title, score_agents
from rl3jax import baselines

ALGORITHMS = ("rl2", "rl3", "rl3-coarse", "rl3-markov")
KINDS = "rl3-kinds"
"""Ours in figures."""
SUFFIX = "-kinds"
"""Of names of rows that are played by them."""
SHIFTED = ("dense", "deterministic", "watery", "dangerous", "corner")
BUDGET = {"11x11": 250, "13x13": 350}

SIZES: dict[str, dict[str, Any]] = {
    "quick": {
        "recurrent": {"network": "gru", "width": 32, "n_tasks": 32, "iterations": 6},
        "markov": {"network": "markov", "n_tasks": 64, "iterations": 20},
        "kinds": {"n_tasks": 64, "minibatches": 4, "iterations": 6},
    },
    "cpu": {
        "recurrent": {"network": "gru", "width": 64, "n_tasks": 128, "iterations": 150},
        "markov": {"network": "markov", "n_tasks": 128, "iterations": 800},
    },
}


def rows(preset: str) -> list[Row]:
    """Those of table 4, and the same with our defaults, which are trained on their own."""
    return [*table_rows(preset), *kinds_rows(preset)]


def kinds_rows(preset: str) -> list[Row]:
    """Table 4 by learned kinds of states."""
    return [
        dataclasses.replace(row, name=row.name + SUFFIX, trainings={"rl3": _kinds(preset, row)})
        for row in table_rows(preset)
    ]


def _kinds(preset: str, row: Row) -> Training:
    trained_on = str(row.variation).partition("-")[0]
    config = {"env": "gridworld", "variation": trained_on, "algo": "rl3", "horizon": row.horizon}
    sizes = SIZES.get(preset, {}).get("kinds", {})  # the defaults, which take minutes
    return Training(f"gridworld-{trained_on}-rl3-kinds", config | sizes)


def table_rows(preset: str) -> list[Row]:
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


def measure(row: Row, seed: int, agents: dict[str, Any]) -> Measured:
    """Scores of trained agents, and of the plans of those that learn kinds."""
    del seed
    plans = baselines.planners(agents["rl3"]) if row.name.endswith(SUFFIX) else {}
    return Measured(score_agents(row, agents, plans))


def baseline_rows() -> list[Row]:
    """All variations."""
    return [dataclasses.replace(row, trainings={}) for row in table_rows("paper")]


def section(found: Gathered) -> str:
    """Table 4, ours beside it, the classical algorithms, and the costs."""
    return tables.comparison(
        table_rows("paper"),
        ALGORITHMS,
        baseline_rows(),
        found,
        more=_kinds_table(found),
        trained_rows=rows("paper"),
    )


PLANS = {"planner": "its planner", "planner-switch": "its planner, that switches"}


def _kinds_table(found: Gathered) -> str:
    """Agents that learn kinds of states beside the paper's, and beside their own plans."""
    header = [
        "tasks and budget", "preset, seeds × tasks", "greedy", "sampled", *PLANS.values(),
        "greedy − planner", "paper: RL²", "RL³", "RL³-coarse", "optimum",
    ]  # fmt: skip
    intro = (
        "Our defaults: object-level RL that learns from the tasks of training what kinds of states "
        "there are (`docs/method.md`), and a policy that starts as its plan. Shifted tasks are "
        "played by the agent of 13x13. Plans alone, without a policy, beside it:"
    )
    pairs = zip(kinds_rows("paper"), table_rows("paper"), strict=True)
    lines = [_kinds_line(row, theirs, found) for row, theirs in pairs]
    return "\n\n".join([intro, tables.table(header, lines)])


def _kinds_line(row: Row, theirs: Row, found: Gathered) -> list[str]:
    results = found.trained.get(row.name, [])
    published_cells = [
        tables.published_cell(number) if number else tables.NOTHING
        for number in (published(theirs.name, algo) for algo in ("rl2", "rl3", "rl3-coarse"))
    ]
    optimum = found.scores(row, OPTIMAL)
    last = tables.scores_cell(optimum) if optimum else tables.NOTHING
    if not results:
        return [row.title, tables.NOTHING, tables.NOT_RUN, *[tables.NOTHING] * 4,
                *published_cells, last]  # fmt: skip
    scores = [found.scores(row, name) for name in ("rl3 greedy", "rl3 sampled", *PLANS)]
    cells = [tables.scores_cell(own) if own else tables.NOTHING for own in scores]
    better = tables.paired_cell(results, "rl3 greedy", "planner")
    return [row.title, tables.preset_cell(results), *cells, better, *published_cells, last]


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
    shown = table_rows("paper")
    contenders = (*ALGORITHMS, KINDS)
    width = 0.8 / len(contenders)
    for i, algo in enumerate(contenders):
        bars = [_bar(row, algo, found) if ours else _published_bar(row, algo) for row in shown]
        places = [j + (i - (len(contenders) - 1) / 2) * width for j, bar in enumerate(bars) if bar]
        values, errors = zip(*filter(None, bars), strict=True) if any(bars) else ((), ())
        axis.bar(
            places, values, width, yerr=errors, capsize=2,
            color=figures.color_of(algo), label=algorithm_title(algo),
        )  # fmt: skip
    labels = [str(row.variation).replace("13x13-", "") for row in shown]
    axis.set_xticks(range(len(shown)), labels, rotation=30, ha="right")


def _bar(row: Row, algo: str, found: Gathered) -> tuple[float, float] | None:
    """Mean over seeds, and half their range, or with one seed the standard error over tasks."""
    if algo == KINDS:
        row, algo = dataclasses.replace(row, name=row.name + SUFFIX), "rl3"
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
    "gridworlds", "Gridworlds (table 4)", rows, measure, section, draw, baseline_rows
)

if __name__ == "__main__":
    main(EXPERIMENT)
