"""`python -m benchmarks.seeds`: small runs trained as one program, against one after another.

A run alone is an iteration as `rl3jax.train` compiles it, on as many devices as divide a minibatch
or on one, whichever is faster. Together, runs are split over devices and vmapped on each, as
`rl3jax.sweep` does it. Both are timed in turn; compilation and a warm-up are not in the times.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from jax.sharding import AxisType, PartitionSpec
from rich.console import Console
from rich.table import Table

import benchmarks.all_cores  # noqa: F401 (a device for each core)
from benchmarks.measure import (
    Row,
    machine,
    matrix_product,
    most_devices,
    prepare,
    save,
    summary,
    timed,
)
from rl3jax import Config, make_trainer

SMALL: dict[str, Any] = {"n_tasks": 32, "horizon": 100}
ROWS: dict[str, dict[str, Any]] = {
    "bandit RL3 markov-64": {"env": "bandit"},
    "mdp RL3 markov-64": {"env": "mdp"},
    "bandit RL3 gru-64": {"env": "bandit", "network": "gru", "width": 64, "minibatches": 4},
    "bandit RL3 gru-128": {"env": "bandit", "network": "gru", "width": 128, "minibatches": 4},
}
ITERATIONS = 3  # that are timed together


@dataclass
class Args:
    """Compare small runs as one program with the same runs one after another."""

    seeds: int = 8
    """Runs (default: 8)."""
    repeats: int = 5
    """Timed rounds (default: 5)."""
    out: Path = Path("benchmarks/results/seeds.json")
    """Where the figures go as JSON (default: benchmarks/results/seeds.json)."""


def together(options: dict[str, Any], seeds: int) -> Callable[[], float]:
    """A function that times an iteration of all runs."""
    trainer = make_trainer(Config(**options, devices=1))
    count = most_devices(seeds)
    mesh = jax.make_mesh((count,), ("runs",), (AxisType.Auto,), devices=jax.devices()[:count])
    part = PartitionSpec("runs")
    all_runs = jax.vmap(trainer.update)
    update = jax.jit(
        jax.shard_map(all_runs, mesh=mesh, in_specs=part, out_specs=part, check_vma=False)
    )
    keys = jax.random.split(jax.random.key(0), seeds)
    states = jax.jit(jax.vmap(trainer.init))(keys)
    states, _ = update(states)

    def run() -> float:
        nonlocal states
        elapsed = 0.0
        for _ in range(ITERATIONS):
            (states, _), seconds = timed(update, states)
            elapsed += seconds
        return elapsed / ITERATIONS

    return run


def alone(row: Row) -> float:
    """Seconds of an iteration of one run."""
    for _ in range(ITERATIONS):
        row.run()
    return statistics.mean(row.seconds[-ITERATIONS:])


def compare(options: dict[str, Any], args: Args, rate: Callable[[], float]) -> dict[str, Any]:
    """Seconds of an iteration of all runs, both ways; fractions of the product's rate; the ratio.

    Where a run alone reaches a fraction f already, no batch of runs is more than 1/f times as fast.
    """
    one_device, devices = (prepare(options | {"devices": count}) for count in (1, None))
    batch = together(options, args.seeds)
    flops = args.seeds * one_device.flops
    rounds = [
        (rate(), args.seeds * min(alone(one_device), alone(devices)), batch())
        for _ in range(args.repeats)
    ]
    return {
        "seconds_one_after_another": summary([one_by_one for _, one_by_one, _ in rounds]),
        "seconds_together": summary([as_one for *_, as_one in rounds]),
        "fraction_one_after_another": summary([flops / s / r for r, s, _ in rounds]),
        "fraction_together": summary([flops / s / r for r, _, s in rounds]),
        "times_as_fast": summary([one_by_one / as_one for _, one_by_one, as_one in rounds]),
        "matrix_product_gflops": summary([r / 1e9 for r, *_ in rounds]),
    }


def table_of(report: dict[str, Any]) -> Table:
    """The figures, a row each."""
    table = Table(
        title=f"{report['seeds']} runs of 32 tasks, H = 100: milliseconds of an iteration"
    )
    table.add_column("run")
    for column in ("one after\nanother", "of the\nproduct", "as one\nprogram", "of the\nproduct"):
        table.add_column(column, justify="right")
    for column in ("times\nas fast", "range"):
        table.add_column(column, justify="right")
    for name, row in report["rows"].items():
        ratio = row["times_as_fast"]
        table.add_row(
            name,
            f"{1e3 * row['seconds_one_after_another']['median']:,.0f}",
            f"{row['fraction_one_after_another']['median']:.2f}",
            f"{1e3 * row['seconds_together']['median']:,.0f}",
            f"{row['fraction_together']['median']:.2f}",
            f"{ratio['median']:.2f}",
            f"{ratio['low']:.2f} – {ratio['high']:.2f}",
        )
    return table


def main() -> None:
    """The command."""
    args = tyro.cli(Args)
    rate = matrix_product()
    report: dict[str, Any] = {**machine(), "seeds": args.seeds, "rows": {}}
    for name, options in ROWS.items():
        report["rows"][name] = compare(SMALL | options, args, rate)
    Console(width=120).print(table_of(report))
    save(report, args.out)


if __name__ == "__main__":
    main()
