"""`python -m benchmarks.learning`: what RL³ gains over RL² from the same few env steps.

Both are meta-trained on random MDPs with the same recurrent network and the paper's learning rate
and λ, on the same series of tasks for each seed; the score is the mean return of the last
iterations, of the sampling policy.
"""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import tyro
from rich.console import Console
from rich.table import Table

from rl3jax import Config, make_trainer

LAST = 10


@dataclass
class Args:
    """Compare RL³ with RL² on few env steps."""

    seeds: int = 4
    """Seeds of each algorithm (default: 4)."""
    iterations: int = 50
    """Meta-iterations of each run (default: 50)."""
    out: Path = Path("benchmarks/results/learning.json")
    """Where the figures go as JSON (default: benchmarks/results/learning.json)."""


def mean_return(algo: str, seed: int, iterations: int) -> float:
    """Of the last iterations of one run."""
    config = Config(
        env="mdp", algo=algo, network="gru", width=128, horizon=100, n_tasks=320,
        iterations=iterations, minibatches=10, epochs=8, gae_lambda=0.3, learning_rate=3e-4,
        final_learning_rate=3e-4, entropy=0.01, final_entropy=0.01,
    )  # fmt: skip
    _, history = make_trainer(config).train(jax.random.key(seed))
    return float(history.mean_return[-LAST:].mean())


def main() -> None:
    """The command."""
    args = tyro.cli(Args)
    console = Console()
    returns: dict[str, list[float]] = {"rl3": [], "rl2": []}
    for seed in range(args.seeds):
        for algo, values in returns.items():
            started = time.perf_counter()
            values.append(mean_return(algo, seed, args.iterations))
            seconds = time.perf_counter() - started
            console.print(f"{algo}, seed {seed}: {values[-1]:.1f} ({seconds:.0f} s)")

    table = Table(title=f"mdp, GRU-128, {args.iterations} iterations of 320 × 100 env steps")
    table.add_column("algorithm")
    table.add_column(f"mean return of the last {LAST} iterations, by seed")
    table.add_column("mean", justify="right")
    means = {algo: statistics.mean(values) for algo, values in returns.items()}
    for algo, values in returns.items():
        table.add_row(algo, "  ".join(f"{v:.1f}" for v in values), f"{means[algo]:.1f}")
    console.print(table)
    console.print(f"RL³ over RL²: {means['rl3'] / means['rl2']:.2f}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"returns": returns, "means": means}, indent=2) + "\n")


if __name__ == "__main__":
    main()
