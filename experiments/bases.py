"""`python -m experiments.bases`: whether value estimates help any base, as RL³'s authors say.

Six bases, each under RL² and RL³: the memories gru, mingru and transformer; a GRU whose head also
reads the observation, or has its weights generated; and VariBAD's belief. On the same tasks, for
the same env steps, four seeds of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment, measure_nothing
from experiments.gathered import Gathered
from experiments.rows import Row, Training
from experiments.scoring import algorithm_title

ALGORITHMS = ("rl2", "rl3")
SEEDS_EACH = 4


@dataclass(frozen=True)
class Base:
    """What an agent is beside its algorithm.

    Attributes:
        title: in the table.
        config: fields of `rl3jax.Config`.
    """

    title: str
    config: Mapping[str, Any]


BASES: dict[str, Base] = {
    "gru": Base("GRU", {"network": "gru", "head": "plain"}),
    "mingru": Base("minGRU", {"network": "mingru", "head": "plain"}),
    "transformer": Base("transformer", {"network": "transformer", "head": "plain"}),
    "state": Base("GRU, state head", {"network": "gru", "head": "state"}),
    "hyper": Base("GRU, hypernetwork head", {"network": "gru", "head": "hyper"}),
    "varibad": Base(
        "VariBAD", {"network": "markov", "head": "plain", "belief": "varibad", "width": 128}
    ),
}
DOMAINS: dict[str, tuple[str, str, int]] = {
    "bandit-h100": ("bandit, H = 100", "bandit", 100),
    "mdp-h100": ("random MDP, H = 100", "mdp", 100),
    "mdp-h500": ("random MDP, H = 500", "mdp", 500),
    "gridnavi": ("GridNavi", "gridnavi", 60),
}

# Env steps of an iteration, how many there are, and widths of memories, by preset.
SIZES: dict[str, dict[str, Any]] = {
    "quick": {"steps": 8_000, "iterations": 3, "gru": 16, "mingru": 16, "transformer": 16},
    "cpu": {"steps": 32_000, "iterations": 100, "gru": 64, "mingru": 64, "transformer": 32},
    "paper": {"steps": 100_000, "iterations": 300, "gru": 256, "mingru": 128, "transformer": 64},
}
MINIBATCHES = 8


def rows(preset: str) -> list[Row]:
    """One for each base in each domain."""
    return [row(preset, domain, base) for domain in DOMAINS for base in BASES]


def row(preset: str, domain: str, base: str) -> Row:
    """That of a base in a domain."""
    _, env, horizon = DOMAINS[domain]
    name = f"base-{domain}-{base}"
    trainings = {
        algo: Training(f"{name}-{algo}", _config(preset, algo, domain, base), SEEDS_EACH)
        for algo in ALGORITHMS
    }
    return Row(name, BASES[base].title, env, "iid", horizon, trainings)


def _config(preset: str, algo: str, domain: str, base: str) -> dict[str, Any]:
    sizes, (_, env, horizon) = SIZES[preset], DOMAINS[domain]
    config = dict(BASES[base].config)
    return {
        "env": env,
        "algo": algo,
        "horizon": horizon,
        "width": sizes.get(config["network"]),
        "n_tasks": sizes["steps"] // horizon // MINIBATCHES * MINIBATCHES,
        "minibatches": MINIBATCHES,
        "iterations": sizes["iterations"],
    } | config


def scores(domain: str, base: str, algo: str, found: Gathered) -> list[float]:
    """Greedy on the validation tasks, one a seed."""
    return [run["score"] for run in found.seeds(f"base-{domain}-{base}", algo)]


def differences(domain: str, base: str, found: Gathered) -> list[float]:
    """What estimates are worth, seed by seed; both of a pair see the same tasks in training."""
    rl2, rl3 = (scores(domain, base, algo, found) for algo in ALGORITHMS)
    return np.subtract(rl3, rl2).tolist() if len(rl2) == len(rl3) else []


def section(found: Gathered) -> str:
    """A table a domain, with a sentence on where estimates help."""
    titles = [algorithm_title(algo) for algo in ALGORITHMS]
    header = ["base", "preset, seeds", *titles, "difference, paired", "seeds better"]
    parts = [
        "Greedy returns of the last policies on 1 000 validation tasks: for each base with value "
        "estimates (RL³) and without (RL²), after the same env steps with the same settings."
    ]
    for domain, (title, _, _) in DOMAINS.items():
        lines = [_line(domain, base, found) for base in BASES]
        parts += [f"{title}:", tables.table(header, lines), _sentence(domain, found)]
    parts.append(tables.costs(rows("paper"), found))
    return "\n\n".join(filter(None, parts))


def _line(domain: str, base: str, found: Gathered) -> list[str]:
    difference = differences(domain, base, found)
    results = found.trained.get(f"base-{domain}-{base}", [])
    cells = [_cell(scores(domain, base, algo, found)) for algo in ALGORITHMS]
    if not difference:
        return [BASES[base].title, tables.NOTHING, *cells, tables.NOTHING, tables.NOTHING]
    better = f"{sum(x > 0 for x in difference)} of {len(difference)}"
    preset = tables.seeds_cell(results, len(difference))
    return [BASES[base].title, preset, *cells, tables.over_seeds(difference), better]


def _cell(values: list[float]) -> str:
    return tables.over_seeds(values) if values else tables.NOT_RUN


def _sentence(domain: str, found: Gathered) -> str:
    """With which bases estimates are better, or worse, in every seed; and with which neither."""
    kinds: dict[str, list[str]] = {"help": [], "hinder": [], "do neither in every seed": []}
    for base, described in BASES.items():
        difference = np.array(differences(domain, base, found))
        if len(difference):
            helps, hinders = (difference > 0).all(), (difference < 0).all()
            kind = "help" if helps else "hinder" if hinders else "do neither in every seed"
            kinds[kind].append(described.title)
    said = [f"{kind} with {', '.join(titles)}" for kind, titles in kinds.items() if titles]
    return f"Estimates {'; '.join(said)}." if said else ""


def draw(found: Gathered) -> dict[str, Figure]:
    """A panel a domain, a row a base, a dot a seed."""
    shown = [d for d in DOMAINS if any(differences(d, base, found) for base in BASES)]
    if not shown:
        return {}
    figure, axes = figures.panels(len(shown), columns=2)
    for axis, domain in zip(axes, shown, strict=True):
        _panel(axis, domain, found)
    figures.legend(figure, axes)
    return {"bases": figure}


def _panel(axis: Axes, domain: str, found: Gathered) -> None:
    for shift, algo in zip((-0.15, 0.15), ALGORITHMS, strict=True):
        dots = [(x, y) for y, b in enumerate(BASES) for x in scores(domain, b, algo, found)]
        x, y = np.array(dots).reshape(-1, 2).T
        color = figures.color_of(algo)
        axis.plot(x, y + shift, "o", color=color, alpha=0.6, label=algorithm_title(algo))
    axis.set_yticks(range(len(BASES)), [base.title for base in BASES.values()])
    axis.set_ylim(len(BASES) - 0.5, -0.5)
    axis.set(title=DOMAINS[domain][0], xlabel="greedy return")


EXPERIMENT = Experiment(
    "bases", "Whether estimates help any base", rows, measure_nothing, section, draw,
    seeds={"quick": 1, "cpu": 1, "paper": 1},  # of SEEDS_EACH, trained together
)  # fmt: skip

if __name__ == "__main__":
    main(EXPERIMENT)
