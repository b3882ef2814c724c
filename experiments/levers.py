"""`python -m experiments.levers`: what each part of the method is worth, on random MDPs.

One setting at a time is changed from our defaults, and four seeds are trained of each: object-level
RL, what the policy is shown of it, standard errors and optimism, GAE's lambda, and the schedules of
entropy and learning rate. Everything else, tasks included, is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment, measure_nothing
from experiments.gathered import Gathered
from experiments.rows import Row, Training

HORIZON = 100
SEEDS_EACH = 4

SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "markov": {"width": 32, "n_tasks": 128, "iterations": 5, "minibatches": 4},
        "gru": {"width": 16, "n_tasks": 32, "iterations": 3, "minibatches": 4},
    },
    "cpu": {
        "markov": {"width": 128, "n_tasks": 512, "iterations": 50, "minibatches": 16},
        "gru": {"width": 64, "n_tasks": 256, "iterations": 30, "minibatches": 8},
    },
    "paper": {
        "markov": {"width": 128, "n_tasks": 1024, "iterations": 300, "minibatches": 16},
        "gru": {"width": 128, "n_tasks": 1024, "iterations": 300, "minibatches": 16},
    },
}

NOT_SHOWN = {"mean_rewards": False}
V4 = {"planning_discount": 1.0, "smoothing": 0.0, "known_states": "visited"}


@dataclass(frozen=True)
class Variant:
    """A setting that differs from our defaults.

    Attributes:
        title: in the table.
        changes: fields of `rl3jax.Config`.
        network: that is trained.
    """

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    network: str = "markov"


VARIANTS: dict[str, Variant] = {
    "common": Variant("our defaults: value iteration as released, mean rewards shown"),
    "planning-v4": Variant("value iteration as in version 4", V4),
    "q-learning": Variant("Q-learning, no mean rewards", {"object_level": "q_learning"}),
    "no-values": Variant("values not shown, mean rewards neither", {"shown": "no-values"}),
    "no-counts": Variant("counts not shown", {"shown": "no-counts"}),
    "estimates": Variant("values, counts, mean rewards alone shown", {"shown": "estimates"}),
    "none": Variant("nothing of these shown (RL²)", {"algo": "rl2"}),
    "not-squashed": Variant("values and counts shown as published", {"squash_values": False}),
    "standard-errors": Variant("standard errors shown as well", {"standard_errors": True}),
    "optimism-2": Variant("optimistic values shown as well (2)", {"optimism": 2.0}),
    "optimism-15": Variant("optimistic values shown as well (15)", {"optimism": 15.0}),
    "no-mean-rewards": Variant("mean rewards not shown", NOT_SHOWN),
    "lambda-0.3": Variant("λ = 0.3, the paper's", {"gae_lambda": 0.3}),
    "lambda-0.6": Variant("λ = 0.6", {"gae_lambda": 0.6}),
    "lambda-0.95": Variant("λ = 0.95", {"gae_lambda": 0.95}),
    "discount-1": Variant("discount 1", {"discount": 1.0}),
    "entropy-constant": Variant("entropy bonus constant at 0.01", {"final_entropy": 0.01}),
    "entropy-none": Variant("no entropy bonus", {"entropy": 0.0}),
    "entropy-released": Variant("entropy bonus 0.1 → 0, as released", {"entropy": 0.1}),
    "rate-constant": Variant("learning rate constant at 0.002", {"final_learning_rate": 2e-3}),
    "gru": Variant("our defaults, with a memory (GRU)", network="gru"),
    "gru-planning-v4": Variant("value iteration as in version 4 (GRU)", V4, "gru"),
    "gru-no-mean-rewards": Variant("mean rewards not shown (GRU)", NOT_SHOWN, "gru"),
    "gru-q-learning": Variant(
        "Q-learning, no mean rewards (GRU)", {"object_level": "q_learning"}, "gru"
    ),
    "gru-none": Variant("none: RL² (GRU)", {"algo": "rl2"}, "gru"),
}
COMMON = {"env": "mdp", "algo": "rl3", "horizon": HORIZON}
BASES = {"markov": "common", "gru": "gru"}


def rows(preset: str) -> list[Row]:
    """One for each variant."""
    return [_row(preset, name, variant) for name, variant in VARIANTS.items()]


def _row(preset: str, name: str, variant: Variant) -> Row:
    sizes = SIZES[preset][variant.network]
    config = {**COMMON, "network": variant.network, **sizes, **variant.changes}
    training = Training(f"lever-{name}", config, SEEDS_EACH)
    return Row(f"lever-{name}", variant.title, "mdp", "iid", HORIZON, {"rl3": training})


def scores(name: str, found: Gathered) -> list[float]:
    """Greedy on the validation tasks, one a seed."""
    return [run["score"] for run in found.seeds(f"lever-{name}", "rl3")]


def section(found: Gathered) -> str:
    """A line a variant; differences are paired by seed with the setting they are changed from."""
    header = ["setting", "preset, seeds", "return", "difference", "seeds better"]
    intro = (
        f"Greedy return of the last policy on 1 000 validation tasks, random MDPs, H = {HORIZON}. "
        "Each line changes one thing of the defaults above it. Difference: mean over seeds, "
        "which see the same tasks in training, ± standard error."
    )
    lines = [_line(name, variant, found) for name, variant in VARIANTS.items()]
    return "\n\n".join([intro, tables.table(header, lines), tables.costs(rows("paper"), found)])


def _line(name: str, variant: Variant, found: Gathered) -> list[str]:
    own, base = scores(name, found), scores(BASES[variant.network], found)
    if not own:
        return [variant.title, tables.NOTHING, tables.NOT_RUN, tables.NOTHING, tables.NOTHING]
    preset = tables.seeds_cell(found.trained[f"lever-{name}"], len(own))
    is_alone = name in BASES.values() or len(own) != len(base)
    difference = [tables.NOTHING] * 2 if is_alone else _difference(own, base)
    return [variant.title, preset, tables.over_seeds(own), *difference]


def _difference(own: Sequence[float], base: Sequence[float]) -> list[str]:
    change = np.subtract(own, base)
    stderr = float(change.std(ddof=1) / np.sqrt(len(change)))
    better = f"{(change > 0).sum()} of {len(change)}"
    return [tables.over_tasks(float(change.mean()), stderr), better]


def draw(found: Gathered) -> dict[str, Figure]:
    """A dot a seed, a row a variant."""
    shown = {name: scores(name, found) for name in VARIANTS}
    shown = {name: values for name, values in shown.items() if values}
    if not shown:
        return {}
    figure = Figure(figsize=(8, 1 + 0.28 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for y, (name, values) in enumerate(shown.items()):
        color = figures.color_of("rl3-markov" if VARIANTS[name].network == "markov" else "rl3")
        axes.plot(values, [y] * len(values), "o", color=color, alpha=0.6, markersize=5)
        axes.plot(np.mean(values), y, "|", color="black", markersize=14)
    axes.set_yticks(range(len(shown)), [VARIANTS[name].title for name in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("greedy return: a dot a seed, a line their mean")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return {"levers": figure}


EXPERIMENT = Experiment(
    "levers", "What each part of the method is worth", rows, measure_nothing, section, draw,
    seeds={"quick": 1, "cpu": 1, "paper": 1},  # of SEEDS_EACH, trained together
)  # fmt: skip

if __name__ == "__main__":
    main(EXPERIMENT)
