"""`python -m benchmarks.gridworld`: what 13x13 gridworlds cost, and estimates in them.

Rows that are compared run in turn, `repeats` times, so that all see the same machine. Compilation
and one warm-up iteration are not in the times.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.measure import prepare, summary
from rl3jax import Config, make_env, make_trainer

SAMPLED_GRIDS = 4096
GRU = {
    "env": "gridworld", "network": "gru", "width": 256, "n_tasks": 96, "minibatches": 8,
    "object_level": "value_iteration",
}  # fmt: skip
ROWS: dict[str, dict[str, Any]] = {
    "RL2": {**GRU, "algo": "rl2"},
    "RL3": GRU,
    "RL3, local model": {**GRU, "object_level": "local_model", "head": "planning"},
    "RL3-coarse": {**GRU, "algo": "rl3-coarse"},
    "RL3, optimism": {**GRU, "optimism": 10.0},
    "RL3, to tolerance": {**GRU, "sweeps_per_step": 0},
    "RL3-coarse, to tolerance": {**GRU, "algo": "rl3-coarse", "sweeps_per_step": 0},
}
ROLLOUT_TASKS = 4096
ROLLOUT_SCRIPT = f"""
import resource, jax, rl3jax
config = rl3jax.Config(
    env="gridworld", network="gru", width=256, object_level="value_iteration"
)
trainer = rl3jax.make_trainer(config)
agent = trainer.agent(trainer.init(jax.random.key(0)), greedy=False)
rl3jax.evaluate_agent(agent, trainer.env, 350, n_tasks={ROLLOUT_TASKS}, key=jax.random.key(1))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@dataclass
class Args:
    """Measure gridworlds: sampling, tables, the cost of estimates, memory."""

    repeats: int = 5
    """Timed iterations of each row (default: 5)."""
    out: Path = Path("benchmarks/results/gridworld.json")
    """Where the figures go as JSON (default: benchmarks/results/gridworld.json)."""


def sampling_seconds(repeats: int) -> dict[str, float]:
    """Seconds to draw `SAMPLED_GRIDS` solvable 13x13 grids, after compiling."""
    env = make_env("gridworld")

    @jax.jit
    def sample(key: jax.Array) -> Any:
        return jax.vmap(env.sample_task)(jax.random.split(key, SAMPLED_GRIDS))

    jax.block_until_ready(sample(jax.random.key(0)))
    seconds = []
    for i in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(sample(jax.random.key(i + 1)))
        seconds.append(time.perf_counter() - started)
    return summary(seconds)


def table_bytes(options: dict[str, Any]) -> int:
    """Size of one task's object-level table."""
    learner = make_trainer(Config(**options)).learner
    leaves = jax.tree.leaves(jax.eval_shape(learner.init))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def rollout_mebibytes() -> float:
    """Resident memory of a process that has played a meta-episode in each of `ROLLOUT_TASKS`."""
    command = [sys.executable, "-c", ROLLOUT_SCRIPT]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """The command."""
    args = tyro.cli(Args)
    sampling = sampling_seconds(args.repeats)
    tables = {name: table_bytes(ROWS[name]) for name in ("RL3", "RL3-coarse", "RL3, optimism")}
    memory = rollout_mebibytes()
    rows = {name: prepare(options) for name, options in ROWS.items()}
    for _ in range(args.repeats):
        for row in rows.values():
            row.run()

    console = Console(width=120)
    console.print(
        f"sampling {SAMPLED_GRIDS} solvable 13x13 grids: {sampling['median']:.2f} s "
        f"({sampling['low']:.2f} – {sampling['high']:.2f})"
    )
    for name, size in tables.items():
        console.print(f"object-level table of one 13x13 task, {name}: {size / 1024:.1f} KiB")
    console.print(
        f"resident after a rollout of {ROLLOUT_TASKS} tasks × 350 steps, RL3 gru-256: "
        f"{memory:.0f} MiB"
    )
    ratios = {}
    table = Table(title="one meta-iteration of GRU-256, 96 tasks of 13x13, H = 350")
    for column in ("", "seconds", "of RL2", "range"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, row in rows.items():
        pairs = zip(row.seconds, rows["RL2"].seconds, strict=True)
        ratios[name] = summary([a / b for a, b in pairs])
        table.add_row(
            name,
            f"{statistics.median(row.seconds):.2f}",
            f"{ratios[name]['median']:.3f}",
            f"{ratios[name]['low']:.3f} – {ratios[name]['high']:.3f}",
        )
    console.print(table)
    report = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "sampling_seconds": sampling,
        "table_bytes": tables,
        "rollout_resident_mebibytes": memory,
        "iteration_seconds": {name: summary(row.seconds) for name, row in rows.items()},
        "of_rl2": ratios,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
