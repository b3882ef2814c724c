"""`python -m experiments.continuous`: physics that differ between tasks, beyond the paper's tables.

RL², and RL³ by each object-level learner of vectors, on pendulums, mountain cars, cart poles and
point robots. Beside them the plans of RL³'s own learners alone, and the optimum: plans on fine
grids of each task's true model, or a law that is known to be best.
"""

from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure

from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment, Measured
from experiments.gathered import OPTIMAL, Gathered
from experiments.results import Score
from experiments.rows import Row, Training
from experiments.scoring import algorithm_title, score_agents
from rl3jax import baselines

LEARNERS: dict[str, dict[str, Any]] = {
    "rl2": {"algo": "rl2", "network": "gru"},
    "rl3": {"algo": "rl3"},
    "rl3-unlearned": {"algo": "rl3", "prior": "none", "trust": 0.12},
    "rl3-lsvi": {"algo": "rl3", "object_level": "least_squares_value_iteration"},
    "rl3-tiles": {"algo": "rl3", "object_level": "tiles"},
    "rl3-prototypes": {"algo": "rl3", "object_level": "prototypes"},
}
"""By algorithm: rl3 is by our defaults, a linear model whose prior is learned."""
EVERYWHERE = ("rl2", "rl3")

DOMAINS: tuple[tuple[str, str, str | None, int, tuple[str, ...]], ...] = (
    ("pendulum", "pendulum", "uniform", 1000, tuple(LEARNERS)),
    ("pendulum, sign", "pendulum", "sign", 1000, EVERYWHERE),
    ("mountain car", "mountain-car", None, 1000, tuple(LEARNERS)),
    ("cart pole, sign", "cartpole", "sign", 1000, EVERYWHERE),
    ("point robot", "point-robot", "sparse", 300, EVERYWHERE),
)
"""Title, environment, variation, budget, and algorithms."""
EPISODES = 5

SIZES: dict[str, dict[str, Any]] = {
    "quick": {"n_tasks": 16, "minibatches": 4, "iterations": 2},
    "cpu": {"n_tasks": 64, "minibatches": 8, "iterations": 60},
    "paper": {},  # the defaults
}
N_TASKS = {"quick": 40, "cpu": 200, "paper": 1000}


def rows(preset: str) -> list[Row]:
    """One for each domain."""
    return [_row(preset, *domain) for domain in DOMAINS]


def _row(
    preset: str, title: str, env: str, variation: str | None, horizon: int, algos: Iterable[str]
) -> Row:
    name = "-".join(filter(None, (env, variation)))
    common = {"env": env, "horizon": horizon} | ({"variation": variation} if variation else {})
    trainings = {
        algo: Training(f"{name}-{algo}", common | LEARNERS[algo] | SIZES[preset]) for algo in algos
    }
    full = f"{name}-h{horizon}"
    return Row(full, title, env, variation, horizon, trainings, N_TASKS[preset], batch_size=50)


PLANS = {"planner": False, "careful planner": True}
"""Greedy in Q⁺, or in Q: whether by the careful plan."""


def measure(row: Row, seed: int, agents: dict[str, Any]) -> Measured:
    """Scores of trained agents, and of their learners' plans alone."""
    del seed
    plans: dict[str, Any] = {}
    for algo, agent in agents.items():
        own = baselines.planners(agent).get("planner")
        if own is not None:
            plans |= {f"{algo} {name}": own.replace(careful=c) for name, c in PLANS.items()}
    return Measured(score_agents(row, agents, plans))


def baseline_rows() -> list[Row]:
    """All domains, without trainings."""
    return [_row("cpu", *domain[:-1], ()) for domain in DOMAINS]


def section(found: Gathered) -> str:
    """Returns of every episode, and of whole meta-episodes."""
    header = ["tasks", "agent", *(f"episode {k + 1}" for k in range(EPISODES)), "all"]
    lines = [line for row in rows("paper") for line in _lines(row, found)]
    by_episode = "\n\n".join(
        [
            "Returns of every episode, of greedy policies, of the plans of their learners alone "
            "(greedy in Q⁺, or carefully in Q), and of the optimum, which knows the task:",
            tables.table(header, lines),
        ]
    )
    return tables.comparison(rows("paper"), EVERYWHERE, baseline_rows(), found, more=by_episode)


def _lines(row: Row, found: Gathered) -> list[list[str]]:
    """One for each contender that has played."""
    contenders = {
        f"{algo} {manner}": f"{algorithm_title(algo)}, {manner}"
        for algo in row.trainings
        for manner in ("greedy", *PLANS)
    } | {"random": "random", OPTIMAL: "optimum"}
    cells = {title: _episodes(found.scores(row, name)) for name, title in contenders.items()}
    played = [[row.title, title, *own] for title, own in cells.items() if own]
    return played or [[row.title, tables.NOT_RUN, *[tables.NOTHING] * (EPISODES + 1)]]


def _episodes(scores: list[Score]) -> list[str]:
    """A cell for each, and for all together: over tasks, or over the seeds of a training."""
    curves = [score.per_episode for score in scores]
    if not curves:
        return []
    number = min(EPISODES, *(len(curve.mean) for curve in curves))
    cells = [
        tables.over_tasks(curves[0].mean[k], curves[0].stderr[k])
        if len(curves) == 1
        else tables.over_seeds([curve.mean[k] for curve in curves])
        for k in range(number)
    ]
    return [*cells, *[tables.NOTHING] * (EPISODES - number), tables.scores_cell(scores)]


def draw(found: Gathered) -> dict[str, Figure]:
    """Returns by episode."""
    contenders = {
        "rl3 greedy": "RL³", "rl3 planner": "its plans alone", "rl2 greedy": "RL²",
        "random": "random", OPTIMAL: "optimum",
    }  # fmt: skip
    shown = [row for row in rows("paper") if row.name in found.trained]
    if not shown:
        return {}
    figure = figures.within_meta_episode(
        shown, contenders, found, "per_episode", "return of an episode"
    )
    return {"continuous": figure}


EXPERIMENT = Experiment(
    "continuous", "Physics of vector states", rows, measure, section, draw, baseline_rows
)

if __name__ == "__main__":
    main(EXPERIMENT)
