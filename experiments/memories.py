"""`python -m experiments.memories`: what each memory remembers, where nothing else helps.

Four seeds of RL² with every network on repeat-previous, which asks for what was seen 4 or 32 steps
ago, and on t-maze, where 100 noisy steps lie between a sign and what it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures, tables
from experiments.command import main
from experiments.experiment import Experiment, measure_nothing
from experiments.gathered import Gathered
from experiments.published import published
from experiments.rows import Row, Training
from experiments.sample_efficiency import curves

NETWORKS = {
    "gru": "GRU", "mingru": "minGRU", "lstm": "LSTM", "s5": "S5", "transformer": "transformer",
}  # fmt: skip
PUBLISHED = {"gru": "POPGym: GRU", "lmu": "POPGym: LMU"}
SEEDS_EACH = 4
MINIBATCHES = 8


@dataclass(frozen=True)
class Domain:
    """What is remembered.

    Attributes:
        env, variation: of rl3jax; `None`: the only one.
        horizon: of a meta-episode.
        millions: env steps of a training, in millions, by preset.
        best: the largest return there is.
    """

    env: str
    variation: str | None
    horizon: int
    millions: Mapping[str, float]
    best: float

    @property
    def name(self) -> str:
        """Of the environment, with its variation."""
        return "-".join(filter(None, (self.env, self.variation)))


DOMAINS = (
    Domain("repeat-previous", "easy", 51, {"quick": 0.04, "cpu": 1.5, "paper": 15}, 1),
    Domain("repeat-previous", "medium", 103, {"quick": 0.04, "cpu": 3, "paper": 15}, 1),
    Domain("t-maze", None, 400, {"quick": 0.04, "cpu": 1.5, "paper": 1.5}, 16),
)
STEPS = {"quick": 13_000, "cpu": 26_000, "paper": 26_000}
"""Of an iteration, at most."""
WIDTHS = {"quick": 16, "cpu": 64, "paper": 128}


def rows(preset: str) -> list[Row]:
    """One for each domain."""
    return [
        Row(
            f"{domain.name}-h{domain.horizon}",
            f"{domain.name}, H = {domain.horizon}",
            domain.env,
            domain.variation or "",
            domain.horizon,
            {network: _training(preset, domain, network) for network in NETWORKS},
        )
        for domain in DOMAINS
    ]


def _training(preset: str, domain: Domain, network: str) -> Training:
    n_tasks = STEPS[preset] // domain.horizon // MINIBATCHES * MINIBATCHES
    variation = {} if domain.variation is None else {"variation": domain.variation}
    config = {
        "env": domain.env,
        **variation,
        "algo": "rl2",
        "network": network,
        "width": WIDTHS[preset],
        "horizon": domain.horizon,
        "n_tasks": n_tasks,
        "minibatches": MINIBATCHES,
        "iterations": int(1e6 * domain.millions[preset]) // (n_tasks * domain.horizon),
    }
    return Training(f"memory-{domain.name}-{network}", config, SEEDS_EACH)


def section(found: Gathered) -> str:
    """A line a domain, a column a network."""
    intro = (
        "Greedy return of the last policy on 1 000 validation tasks, RL² after equally many env "
        "steps. POPGym's are the best of a training's course, as transcribed by others, after 15 M."
    )
    header = ["domain", "preset, seeds", *NETWORKS.values(), *PUBLISHED.values(), "best there is"]
    lines = [_line(*pair, found) for pair in zip(DOMAINS, rows("paper"), strict=True)]
    return "\n\n".join([intro, tables.table(header, lines), tables.costs(rows("paper"), found)])


def _line(domain: Domain, row: Row, found: Gathered) -> list[str]:
    scores = {
        network: [run["score"] for run in found.seeds(row.name, network)] for network in NETWORKS
    }
    num_seeds = max(map(len, scores.values()))
    return [
        row.title,
        tables.seeds_cell(found.trained.get(row.name, []), num_seeds),
        *(tables.over_seeds(s) if s else tables.NOT_RUN for s in scores.values()),
        *(tables.published_cell(published(row.name, name)) for name in PUBLISHED),
        tables.number(domain.best),
    ]


def draw(found: Gathered) -> dict[str, Figure]:
    """Learning curves: mean over seeds with their range."""

    def panel(axis: Axes, row: Row) -> None:
        for network, color in zip(NETWORKS, figures.OTHERS, strict=False):
            shown = curves(row, network, found)
            if shown:
                figures.line(axis, shown, NETWORKS[network], color, scale=1e-6)
        axis.set_xlabel("env steps (millions)")

    shown = [row for row in rows("paper") if row.name in found.trained]
    if not shown:
        return {}
    return {"memories": figures.by_row(shown, panel, "return of the sampling policy")}


EXPERIMENT = Experiment(
    "memories", "What each memory remembers", rows, measure_nothing, section, draw,
    seeds={"quick": 1, "cpu": 1, "paper": 1},  # of SEEDS_EACH, trained together
)  # fmt: skip

if __name__ == "__main__":
    main(EXPERIMENT)
