"""`python -m experiments.bandits`: table 2 of the paper, Bernoulli bandits.

RL², RL³ and RL³-Markov at H = 100 and 500, and those of H = 500 on arms of another distribution,
beside the classical bandit algorithms.
"""

from typing import Any

from matplotlib.figure import Figure

from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment
from experiments.gathered import Gathered
from experiments.rows import Row, Training
from experiments.scoring import algorithm_title, measure_scores

ALGORITHMS = ("rl2", "rl3", "rl3-markov")

# What an iteration trains on and how many there are, by preset and horizon.
SIZES: dict[str, dict[str, Any]] = {
    "quick": {
        "recurrent": {"network": "gru", "width": 32, "n_tasks": 128, "minibatches": 4},
        "markov": {"network": "markov", "n_tasks": 1024, "minibatches": 16},
        "iterations": {100: 20, 500: 8},
    },
    "cpu": {
        "recurrent": {"network": "gru", "width": 64, "n_tasks": 1024, "minibatches": 32},
        "markov": {"network": "markov", "n_tasks": 4096, "minibatches": 64},
        "iterations": {100: 150, 500: 60},
    },
}


def rows(preset: str) -> list[Row]:
    """Those of table 2."""
    trained = {horizon: trainings(preset, horizon) for horizon in (100, 500)}
    return [
        Row("bandit-iid-h100", "H = 100", "bandit", "iid", 100, trained[100]),
        Row("bandit-iid-h500", "H = 500", "bandit", "iid", 500, trained[500]),
        Row("bandit-ood-h500", "H = 500, OOD", "bandit", "ood", 500, trained[500]),
    ]


def trainings(preset: str, horizon: int) -> dict[str, Training]:
    """One for each algorithm."""
    return {
        algo: Training(f"bandit-h{horizon}-{algo}", _config(preset, algo, horizon))
        for algo in ALGORITHMS
    }


def _config(preset: str, algo: str, horizon: int) -> dict[str, Any]:
    config = {"env": "bandit", "algo": algo.removesuffix("-markov"), "horizon": horizon}
    is_markov = algo.endswith("-markov")
    if preset == "paper":
        return {**config, "preset": "paper-v4", "network": "markov" if is_markov else "transformer"}
    sizes = SIZES[preset]
    network = sizes["markov" if is_markov else "recurrent"]
    return {**config, **network, "iterations": sizes["iterations"][horizon]}


def baseline_rows() -> list[Row]:
    """Budgets with published scores of classical algorithms, and the shifted arms."""
    published = [
        Row(f"bandit-iid-h{horizon}", f"H = {horizon}", "bandit", "iid", horizon)
        for horizon in (10, 100, 500)
    ]
    return [*published, Row("bandit-ood-h500", "H = 500, OOD", "bandit", "ood", 500)]


def section(found: Gathered) -> str:
    """Table 2, the classical algorithms, and the costs."""
    return tables.comparison(rows("paper"), ALGORITHMS, baseline_rows(), found)


def draw(found: Gathered) -> dict[str, Figure]:
    """Regret along the meta-episode."""
    contenders = {f"{algo} greedy": algorithm_title(algo) for algo in ALGORITHMS}
    contenders |= {"thompson": "Thompson", "ucb1": "UCB1", "gittins": "Gittins"}
    regret = figures.within_meta_episode(
        rows("paper"), contenders, found, "regret", "cumulative regret"
    )
    return {"bandits-regret": regret}


EXPERIMENT = Experiment(
    "bandits", "Bernoulli bandits (table 2)", rows, measure_scores, section, draw, baseline_rows
)

if __name__ == "__main__":
    main(EXPERIMENT)
