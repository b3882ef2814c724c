"""`python -m experiments.sample_efficiency`: how many env steps RL³ needs for what RL² reaches.

Both are trained on the same random MDPs for the same 10 million env steps, four seeds of each, with
the same network and hyper-parameters. The paper's figure has this after its full trainings.
"""

from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment, measure_nothing
from experiments.gathered import Gathered
from experiments.published import TO_MATCH, published
from experiments.results import Curve
from experiments.rows import Row, Training
from experiments.scoring import algorithm_title
from experiments.training_curves import final_return, share_to_match

ALGORITHMS = ("rl2", "rl3")
BUDGETS = (128, 512)
SEEDS_EACH = 4

AS_PUBLISHED = {"squash_values": False, "discount": 0.99}
OF_ESTIMATES = {"rl2": {}, "rl3": {"mean_rewards": False}}
# What a seed trains on: env steps of an iteration, and how many there are.
SIZES: dict[str, dict[str, Any]] = {
    "quick": {"network": "gru", "width": 16, "steps": 4_096, "iterations": 4, "minibatches": 4},
    "cpu": {"network": "gru", "width": 64, "steps": 65_536, "iterations": 153, "minibatches": 16},
    "paper": {
        "network": "transformer", "steps": 65_536, "iterations": 153, "minibatches": 16,
        "learning_rate": 5e-4,
    },
}  # fmt: skip


def rows(preset: str) -> list[Row]:
    """One for each budget."""
    return [
        Row(
            f"mdp-iid-h{horizon}",
            f"H = {horizon}",
            "mdp",
            "iid",
            horizon,
            {algo: _training(preset, algo, horizon) for algo in ALGORITHMS},
        )
        for horizon in BUDGETS
    ]


def _training(preset: str, algo: str, horizon: int) -> Training:
    sizes = dict(SIZES[preset])
    n_tasks = sizes.pop("steps") // horizon
    config = {"env": "mdp", "algo": algo, "horizon": horizon, **AS_PUBLISHED, **sizes}
    config |= OF_ESTIMATES[algo]
    return Training(f"efficiency-h{horizon}-{algo}", config | {"n_tasks": n_tasks}, SEEDS_EACH)


def curves(row: Row, algo: str, found: Gathered) -> list[Curve]:
    """Mean return of the sampling policy by env steps, one a seed."""
    runs = found.seeds(row.name, algo)
    return [Curve(run["env_steps"], run["returns"], [0.0] * len(run["returns"])) for run in runs]


def section(found: Gathered) -> str:
    """Where both end, and the share of RL²'s env steps that RL³ needs for RL²'s final return."""
    header = ["budget", "preset, seeds", *(f"{algorithm_title(a)}, at the end" for a in ALGORITHMS)]
    header += ["RL³ matches RL² after", "range over seeds", "paper"]
    intro = (
        "Mean return of the sampling policy over the last tenth of 10 M env steps of meta-training "
        "on random MDPs, and the share of these env steps after which RL³ had what RL² reached, "
        "seed by seed (both of a pair see the same tasks)."
    )
    lines = [_line(row, found) for row in rows("paper")]
    return "\n\n".join([intro, tables.table(header, lines), tables.costs(rows("paper"), found)])


def _line(row: Row, found: Gathered) -> list[str]:
    theirs = tables.published_cell(published(row.name, "rl3", TO_MATCH))
    ours = {algo: curves(row, algo, found) for algo in ALGORITHMS}
    if not ours["rl2"]:
        return [row.title, tables.NOTHING, *[tables.NOT_RUN] * 3, tables.NOTHING, theirs]
    finals = [tables.over_seeds([final_return(c) for c in ours[algo]]) for algo in ALGORITHMS]
    shares = [share_to_match(*pair) for pair in zip(ours["rl3"], ours["rl2"], strict=True)]
    reached = [share for share in shares if share is not None]
    preset = tables.seeds_cell(found.trained[row.name], len(shares))
    if len(reached) < len(shares):
        return [row.title, preset, *finals, "not all do", tables.NOTHING, theirs]
    ends = f"{min(reached):.3f} … {max(reached):.3f}"
    return [row.title, preset, *finals, f"{np.mean(reached):.3f}", ends, theirs]


def draw(found: Gathered) -> dict[str, Figure]:
    """Learning curves: mean over seeds with their range."""
    shown = [row for row in rows("paper") if row.name in found.trained]
    if not shown:
        return {}
    figure = figures.learning_curves(
        shown,
        partial(curves, found=found),
        "mean return of a meta-episode",
        width=5.0,
        height=3.6,
    )
    return {"sample-efficiency": figure}


EXPERIMENT = Experiment(
    "sample_efficiency", "RL³ against RL² on equal env steps (random MDPs)", rows,
    measure_nothing, section, draw,
    seeds={"quick": 1, "cpu": 1, "paper": 1},  # of SEEDS_EACH, trained together
)  # fmt: skip

if __name__ == "__main__":
    main(EXPERIMENT)
