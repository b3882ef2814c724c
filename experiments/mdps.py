"""`python -m experiments.mdps`: table 3 of the paper and the figure of its RLC version.

RL² and RL³ on random MDPs: at H = 100 and 500, on both shifted distributions, trained at 500 and
played at 1 000 on a moving window, and by budget from 128 to 2 048; beside classical exploration.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures, pretrained, published, tables
from experiments.command import main
from experiments.experiment import Experiment
from experiments.gathered import OPTIMAL, Gathered
from experiments.rows import SEEDS, Row, Training
from experiments.scoring import algorithm_title, measure_scores
from rl3jax import statistics

ALGORITHMS = ("rl2", "rl3", "rl3-markov")
BY_BUDGET = ("rl2", "rl3")
BUDGETS = (128, 256, 512, 1024, 1500, 2048)
OOD = "ood-dirichlet"

# Of an iteration: env steps in all; and how many there are. Only a transformer has a window.
SIZES: dict[str, dict[str, Any]] = {
    "quick": {
        "recurrent": {"network": "gru", "width": 32, "steps": 8_192, "iterations": 8},
        "markov": {"network": "markov", "width": 64, "steps": 65_536, "iterations": 10},
        "window": {"network": "transformer", "width": 16, "steps": 4_096, "iterations": 4},
        "window_tasks": 8,
        "budget_tasks": 200,
        "budgets": (128, 2048),
    },
    "cpu": {
        "recurrent": {"network": "gru", "width": 128, "steps": 65_536, "iterations": 60},
        "markov": {
            "network": "markov", "width": 128, "optimism": 15.0, "steps": 131_072,
            "iterations": 150,
        },
        "window": {"network": "transformer", "width": 32, "steps": 65_536, "iterations": 60},
        "window_tasks": 200,
    },
}  # fmt: skip
MINIBATCHES = 8


def rows(preset: str) -> list[Row]:
    """Those of table 3, then those of the figure."""
    return [*table_rows(preset), *(row for pair in figure_rows(preset) for row in pair)]


def table_rows(preset: str) -> list[Row]:
    """Of table 3 (arXiv version 4)."""
    at_100, at_500 = (trainings(preset, horizon, "paper-v4") for horizon in (100, 500))
    shifted = "ood-uniform-reward"
    return [
        Row("mdp-iid-h100", "H = 100", "mdp", "iid", 100, at_100),
        Row("mdp-iid-h500", "H = 500", "mdp", "iid", 500, at_500),
        Row(f"mdp-{shifted}-h500", "H = 500, OOD (uniform rewards)", "mdp", shifted, 500, at_500),
        _window_row(preset, at_500),
    ]


def _window_row(preset: str, at_500: dict[str, Training]) -> Row:
    """Trained at 500 and played at 1 000, twice as long as any context trained on."""
    n_tasks = 1000
    if preset != "paper":  # whose networks at H = 500 are transformers already
        n_tasks = SIZES[preset]["window_tasks"]
        at_500 = at_500 | {
            algo: Training(f"mdp-h500-{algo}-window", _config(preset, algo, 500, "window"))
            for algo in ("rl2", "rl3")
        }
    title = "H = 1 000, trained at 500"
    return Row("mdp-iid-h1000-window", title, "mdp", "iid", 1000, at_500, n_tasks, batch_size=100)


def figure_rows(preset: str) -> list[tuple[Row, Row]]:
    """Of the figure (RLC 2025): for every budget, tasks as trained on, and shifted ones."""
    pairs = []
    for horizon in SIZES.get(preset, {}).get("budgets", BUDGETS):
        trained = trainings(preset, horizon, "paper-rlc", BY_BUDGET)
        n_tasks = SIZES.get(preset, {}).get("budget_tasks", 1000)
        batch_size = 250 if horizon > 1000 else None
        iid, ood = (
            Row(
                f"mdp-{variation}-h{horizon}",
                f"H = {horizon}{', OOD' if variation == OOD else ''}",
                "mdp",
                variation,
                horizon,
                trained,
                n_tasks,
                batch_size,
            )
            for variation in ("iid", OOD)
        )
        pairs.append((iid, ood))
    return pairs


def trainings(
    preset: str, horizon: int, paper: str, algos: tuple[str, ...] = ALGORITHMS
) -> dict[str, Training]:
    """One for each algorithm; with the hyper-parameters of `paper` in the preset "paper"."""
    trained = {}
    for algo in algos:
        network = "markov" if algo.endswith("-markov") else "recurrent"
        config = _config(paper if preset == "paper" else preset, algo, horizon, network)
        trained[algo] = Training(f"mdp-h{horizon}-{algo}", config)
    return trained


def _config(preset: str, algo: str, horizon: int, network: str) -> dict[str, Any]:
    config = {"env": "mdp", "algo": algo.removesuffix("-markov"), "horizon": horizon}
    if preset.startswith("paper"):
        network = "markov" if network == "markov" else "transformer"
        return {**config, "preset": preset, "network": network}
    sizes = dict(SIZES[preset][network])
    n_tasks = max(1, round(sizes.pop("steps") / horizon / MINIBATCHES)) * MINIBATCHES
    return {**config, **sizes, "n_tasks": n_tasks, "minibatches": MINIBATCHES}


def baseline_rows() -> list[Row]:
    """Budgets with published scores of classical algorithms, the shifted tasks, the longest."""
    return [
        *(
            Row(f"mdp-iid-h{horizon}", f"H = {horizon}", "mdp", "iid", horizon, batch_size=500)
            for horizon in (100, 250, 500, 750, 1000)
        ),
        *(
            Row(f"mdp-{shifted}-h500", f"H = 500, {shifted}", "mdp", shifted, 500, batch_size=500)
            for shifted in ("ood-uniform-reward", OOD)
        ),
    ]


def section(found: Gathered) -> str:
    """Table 3, the figure's numbers, the classical algorithms, and the costs."""
    by_budget = (
        "By budget, return as a fraction of the optimal policy's (greedy; the paper's values are "
        "read off its figure; in ours, stars are agents that come with the package):\n\n"
        f"{budget_table(found)}"
    )
    return tables.comparison(
        table_rows("paper"), ALGORITHMS, baseline_rows(), found, by_budget, rows("paper")
    )


def budget_table(found: Gathered) -> str:
    """Oracle-normalised scores by budget, for tasks as trained on and shifted ones."""
    header = ["budget"]
    for tasks in ("", ", OOD"):
        for algo in BY_BUDGET:
            header += [algorithm_title(algo) + tasks, "paper"]
    lines = []
    for pair in figure_rows("paper"):
        line = [pair[0].title]
        for row in pair:
            for algo in BY_BUDGET:
                theirs = published.published(row.name, algo, published.NORMALISED)
                line += [normalised_cell(row, algo, found), tables.published_cell(theirs)]
        lines.append(line)
    return tables.table(header, lines)


def normalised_cell(row: Row, algo: str, found: Gathered) -> str:
    """Fraction of the optimum, with its error over tasks or its range over seeds."""
    scores = normalised(row, algo, found)
    if not scores:
        return tables.NOT_RUN
    if len(scores) == 1:
        return tables.over_tasks(*scores[0])
    return tables.over_seeds([score.value for score in scores])


def normalised(row: Row, algo: str, found: Gathered) -> list[statistics.Estimate]:
    """Fractions of the optimum, one a seed."""
    optimal = [np.asarray(score.returns) for score in found.scores(row, OPTIMAL)]
    return [
        statistics.oracle_normalised(np.asarray(score.returns), optimal[0])
        for score in found.scores(row, f"{algo} greedy")
    ]


def draw(found: Gathered) -> dict[str, Figure]:
    """The figure, and learning within the meta-episode."""
    contenders = {f"{algo} greedy": algorithm_title(algo) for algo in ALGORITHMS}
    contenders |= {"psrl": "PSRL", "beb": "BEB", OPTIMAL: "optimum"}
    episodes = figures.within_meta_episode(
        table_rows("paper"), contenders, found, "per_episode", "return of an episode"
    )
    return {"mdps-budgets": budget_figure(found), "mdps-episodes": episodes}


def budget_figure(found: Gathered) -> Figure:
    """Fraction of the optimum by budget, ours beside the published."""
    figure, axes = figures.panels(2, width=5.0, height=3.8)
    for axis, rows_shown, title in zip(
        axes, zip(*figure_rows("paper"), strict=True), ("tasks as trained on", "shifted tasks"),
        strict=True,
    ):  # fmt: skip
        for algo in BY_BUDGET:
            _budget_lines(axis, rows_shown, algo, found)
        axis.set(title=title, xlabel="interaction budget H", xscale="log")
        axis.set_xticks(BUDGETS, [str(budget) for budget in BUDGETS], minor=False)
        axis.minorticks_off()
    axes[0].set_ylabel("return / optimal return")
    figures.legend(figure, axes)
    return figure


def _budget_lines(axis: Axes, rows_shown: tuple[Row, ...], algo: str, found: Gathered) -> None:
    """One algorithm: our mean over seeds with its range, the package's agents, the paper's."""
    color, title = figures.color_of(algo), algorithm_title(algo)
    ours = {row.horizon: [s.value for s in normalised(row, algo, found)] for row in rows_shown}
    ours = {horizon: scores for horizon, scores in ours.items() if scores}
    if ours:
        means = np.array([np.mean(scores) for scores in ours.values()])
        low, high = np.array([(min(scores), max(scores)) for scores in ours.values()]).T
        axis.errorbar(  # rounding may take a mean past seeds that are all the same
            list(ours), means, np.maximum((means - low, high - means), 0.0),
            color=color, marker="o", markersize=4, capsize=2, label=f"{title}, ours",
        )  # fmt: skip
    packaged = {
        row.horizon: statistics.fraction_of(score.greedy[0], score.optimal[0])
        for row in rows_shown
        for card, score in pretrained.cards_of(row.name)
        if card.config["algo"] == algo
    }
    if packaged:
        axis.plot(
            list(packaged), list(packaged.values()),
            color=color, linestyle="none", marker="*", markersize=10,
            label=f"{title}, agents of the package",
        )  # fmt: skip
    theirs = {
        row.horizon: value.value
        for row in rows_shown
        if (value := published.published(row.name, algo, published.NORMALISED))
    }
    axis.plot(
        list(theirs), list(theirs.values()),
        color=color, linestyle=":", marker="x", markersize=5, label=f"{title}, paper",
    )  # fmt: skip


EXPERIMENT = Experiment(
    "mdps", "Random MDPs (table 3, and the figure by budget)",
    rows, measure_scores, section, draw, baseline_rows,
    seeds=SEEDS | {"quick": 1},  # of many trainings
)  # fmt: skip

if __name__ == "__main__":
    main(EXPERIMENT)
