"""`python -m benchmarks.throughput`: env steps per second of whole meta-training.

Every row is timed in turn, together with a 1024² float32 matrix product, and that again `repeats`
times, so that all see the same machine; medians and ranges are reported. Compilation and one
warm-up iteration are not in the times.
"""

import resource
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.measure import matrix_product, memory_in_mebibytes, prepare, save, summary
from rl3jax import Config, make_trainer

GRU = {"network": "gru", "width": 128, "n_tasks": 320, "minibatches": 10, "epochs": 8}
MARKOV = {"network": "markov", "width": 64, "n_tasks": 2048, "minibatches": 16, "epochs": 4}
ROWS: dict[str, dict[str, Any]] = {
    "bandit RL3 markov-64, 2048 tasks": {"env": "bandit", **MARKOV},
    "bandit RL2 markov-64, 2048 tasks": {"env": "bandit", "algo": "rl2", **MARKOV},
    "bandit RL3 gru-128, 320 tasks": {"env": "bandit", **GRU},
    "bandit RL2 gru-128, 320 tasks": {"env": "bandit", "algo": "rl2", **GRU},
    "mdp RL3 gru-128, 320 tasks": {"env": "mdp", **GRU},
    "mdp RL2 gru-128, 320 tasks": {"env": "mdp", "algo": "rl2", **GRU},
}
RATIOS = [
    ("bandit RL3 gru-128, 320 tasks", "bandit RL2 gru-128, 320 tasks"),
    ("mdp RL3 gru-128, 320 tasks", "mdp RL2 gru-128, 320 tasks"),
]
MEMORY_SIZES = [(1024, 100), (2048, 100), (4096, 100), (2048, 200)]


@dataclass
class Args:
    """Measure the throughput of whole meta-training."""

    repeats: int = 7
    """Timed iterations of each row (default: 7)."""
    rows: str = ""
    """Only rows whose name contains this (default: all)."""
    out: Path = Path("benchmarks/results/throughput.json")
    """Where the figures go as JSON (default: benchmarks/results/throughput.json)."""


def memory_of_a_run() -> list[dict[str, float]]:
    """What XLA reserves for one iteration of the default bandit run, by tasks and horizon."""
    results = []
    for n_tasks, horizon in MEMORY_SIZES:
        trainer = make_trainer(Config(n_tasks=n_tasks, horizon=horizon))
        state = jax.eval_shape(trainer.init, jax.random.key(0))
        used = memory_in_mebibytes(jax.jit(trainer.update).lower(state).compile())
        results.append({"n_tasks": n_tasks, "horizon": horizon, "mebibytes": used})
    return results


def resident_memory() -> float:
    """The most this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """The command."""
    args = tyro.cli(Args)
    rate = matrix_product()
    memory = memory_of_a_run()
    whole = prepare({"env": "bandit", "n_tasks": 4096})
    resident = resident_memory()
    del whole
    rows = {name: prepare(options) for name, options in ROWS.items() if args.rows in name}
    rates = []
    for _ in range(args.repeats):
        rates.append(rate())
        for row in rows.values():
            row.run()

    matmul = summary(rates)
    report: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "matrix_product_gflops": {k: v / 1e9 for k, v in matmul.items()},
        "memory": memory,
        "resident_mebibytes_after_4096_tasks": resident,
        "rows": {},
        "ratios": {},
    }
    table = Table(title=f"1024² float32 matrix product: {matmul['median'] / 1e9:.0f} GFLOP/s")
    for column in (
        "whole training",
        "env steps/s",
        "range",
        "GFLOP/s",
        "of the product",
        "compile",
    ):
        table.add_column(column, justify="left" if column == "whole training" else "right")
    for name, row in rows.items():
        speed = summary([row.env_steps / s for s in row.seconds])
        reached = row.flops / statistics.median(row.seconds)
        report["rows"][name] = {
            "env_steps_per_second": speed,
            "gflops": reached / 1e9,
            "fraction_of_matrix_product": reached / matmul["median"],
            "compile_seconds": row.compile_seconds,
        }
        table.add_row(
            name,
            f"{speed['median']:,.0f}",
            f"{speed['low']:,.0f} – {speed['high']:,.0f}",
            f"{reached / 1e9:.1f}",
            f"{reached / matmul['median']:.2f}",
            f"{row.compile_seconds:.1f} s",
        )
    console = Console(width=120)
    console.print(table)
    for rl3, rl2 in RATIOS:
        if rl3 in rows and rl2 in rows:
            pairs = zip(rows[rl3].seconds, rows[rl2].seconds, strict=True)
            ratio = summary([a / b for a, b in pairs])
            report["ratios"][rl3] = ratio
            console.print(
                f"time of {rl3} over RL2: {ratio['median']:.3f} "
                f"({ratio['low']:.3f} – {ratio['high']:.3f})"
            )
    for size in memory:
        console.print(
            f"memory of an iteration, {size['n_tasks']} tasks × {size['horizon']} steps: "
            f"{size['mebibytes']:.0f} MiB"
        )
    console.print(f"resident after an iteration of 4096 tasks × 100 steps: {resident:.0f} MiB")
    save(report, args.out)


if __name__ == "__main__":
    main()
