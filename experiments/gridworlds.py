"""`python -m experiments.gridworlds`: table 4 of the paper, gridworlds in seven variations.

RL², RL³ and RL³-coarse, trained on 11x11 and on 13x13 grids; the latter are also played, never
retrained, in five variations that differ in one respect each. Beside them our own defaults, whose
object-level RL learns what kinds of states there are, and plans with them; and these plans alone.
"""

import dataclasses
from typing import Any

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
    """Ours, then table 4 as the paper has it, the classical algorithms, and the costs."""
    as_published = tables.comparison(
        table_rows("paper"), ALGORITHMS, baseline_rows(), found, trained_rows=rows("paper")
    )
    intro = "With the paper's object-level RL, value iteration on every tile as a state of its own:"
    return "\n\n".join([_kinds_table(found), intro, as_published])


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
    """Returns by variation: the paper's pale, ours beside them, the optimum a line above."""
    figure, (axis,) = figures.panels(1, width=10.0, height=3.8)
    shown = table_rows("paper")
    theirs = [(algo, 0.4, [_published_bar(row, algo) for row in shown]) for algo in ALGORITHMS]
    ours = [(algo, 1.0, [_bar(row, algo, found) for row in shown]) for algo in (*ALGORITHMS, KINDS)]
    series = [(algo, alpha, bars) for algo, alpha, bars in theirs + ours if any(bars)]
    width = 0.8 / len(series)
    for i, (algo, alpha, bars) in enumerate(series):
        places = [j + (i - (len(series) - 1) / 2) * width for j, bar in enumerate(bars) if bar]
        values, errors = zip(*filter(None, bars), strict=True)
        axis.bar(
            places, values, width, yerr=errors, capsize=2, color=figures.color_of(algo),
            alpha=alpha, label=f"{algorithm_title(algo)}, {'ours' if alpha == 1 else 'paper'}",
        )  # fmt: skip
    for j, row in enumerate(kinds_rows("paper")):
        for score in found.scores(row, OPTIMAL):
            axis.hlines(score.mean, j - 0.4, j + 0.4, figures.color_of(OPTIMAL), label="optimum")
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_xticks(range(len(shown)), [str(row.variation).replace("13x13-", "") for row in shown])
    axis.set_ylabel("meta-episode return, greedy")
    figures.legend(figure, [axis])
    return {"gridworlds": figure}


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
