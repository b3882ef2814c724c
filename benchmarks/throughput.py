"""`python -m benchmarks.throughput`: env steps per second of meta-training, and of its parts.

A row is an environment, an algorithm and a network. Its iteration is timed, and before it, by
itself, the rollout that the iteration then repeats: the same policy in the same tasks, sampling of
the tasks included. The update is the rest, which no public function does alone: its time is the
iteration's less that of the rollout just before.

All rows are timed in turn, each right after a 1024² float32 matrix product, and that again
`repeats` times, so that all see the same machine; medians and ranges are reported. A fraction is
that of the product's rate just then which the matrix products in the compiled program reach; loops
whose length is known only when they run, as of planning to a tolerance, count one pass. Compilation
and a warm-up are not in the times.

Markov and recurrent rows have the hyper-parameters of our own; transformer rows those of preset
paper-v4 without its KL stop, so that all iterations do equal work, and with fewer tasks on
gridworlds. Recurrent memories other than the GRU are compared with it on bandits.
Accelerators get more tasks and longer meta-episodes, and gridworlds there our own planning.
"""

import itertools
import math
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from jax.sharding import PartitionSpec
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

import benchmarks.all_cores  # noqa: F401 (a device for each core)
from benchmarks.measure import (
    COLOURS,
    Row,
    flops_of,
    machine,
    matrix_product,
    prepare,
    save,
    summary,
    timed,
)
from rl3jax import ConfigError, Trainer

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "bandit": {"horizon": 100},
    "mdp": {"horizon": 100},
    "gridworld": {"variation": "11x11", "horizon": 250, "object_level": "value_iteration"},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "markov-64": {"network": "markov", "width": 64, "epochs": 4},
    "gru-128": {"network": "gru", "width": 128, "epochs": 8},
    "mingru-128": {"network": "mingru", "width": 128, "epochs": 8},
    "s5-64": {"network": "s5", "width": 64, "epochs": 8},
    "transformer-64": {
        "network": "transformer", "width": 64, "preset": "paper-v4", "kl_limit": math.inf,
    },
}  # fmt: skip
GRU = "gru-128"
LIKE_GRU = ("mingru-128", "s5-64")  # on bandits, in as many tasks, and compared with it
ENVIRONMENTS_OF_ACCELERATORS: dict[str, dict[str, Any]] = {
    "bandit": {"horizon": 100},
    "mdp": {"horizon": 500},
    "gridworld": {
        "variation": "13x13", "horizon": 350, "object_level": "value_iteration",
        "sweeps_per_step": 4, "planning_discount": 0.97,
    },
}  # fmt: skip
PLANNING = ("sweeps_per_step", "planning_discount")  # options of RL3's learner
# Of an iteration and of a minibatch.
TASKS = {
    ("bandit", "markov-64"): (4096, 128),
    ("bandit", "gru-128"): (320, 32),
    ("bandit", "transformer-64"): (320, 32),
    ("mdp", "markov-64"): (1024, 128),
    ("mdp", "gru-128"): (320, 32),
    ("mdp", "transformer-64"): (320, 32),
    ("gridworld", "markov-64"): (256, 32),
    ("gridworld", "gru-128"): (64, 16),
    ("gridworld", "transformer-64"): (32, 16),
}
TASKS_OF_ACCELERATORS = {
    ("bandit", "markov-64"): (65_536, 1024),
    ("bandit", "gru-128"): (16_384, 2048),
    ("bandit", "transformer-64"): (8192, 512),
    ("mdp", "markov-64"): (8192, 512),
    ("mdp", "gru-128"): (4096, 512),
    ("mdp", "transformer-64"): (2048, 128),
    ("gridworld", "markov-64"): (2048, 256),
    ("gridworld", "gru-128"): (2048, 256),
    ("gridworld", "transformer-64"): (2048, 128),
}
BASE = "rl2"
PARTS = {
    "training": "whole training",
    "rollout": "rollout by itself",
    "update": "update (whole less rollout)",
}


@dataclass
class Args:
    """Measure the throughput of meta-training: whole, of the rollout and of the update."""

    rows: tuple[str, ...] = ()
    """Only rows whose name contains one of these, for instance bandit gru-128 (default: all)."""
    devices: int | None = None
    """Devices that share the tasks, on CPU its cores (default: as many as there are and divide the
    tasks of a minibatch)."""
    repeats: int = 3
    """Timed iterations of each row (default: 3)."""
    out: Path = Path("benchmarks/results/throughput.json")
    """Where the figures go as JSON, and as a picture beside it."""


@dataclass
class Timed:
    """A row with its rollout, and what each turn measured: seconds by part, and FLOP/s."""

    row: Row
    rollout: Any
    flops: dict[str, float]
    seconds: dict[str, list[float]]
    rates: list[float]

    def run(self, rate: Callable[[], float]) -> None:
        """One more turn."""
        self.rates.append(rate())
        rollout = timed(self.rollout, self.row.state)[1]  # its data are not kept
        self.row.run()
        training = self.row.seconds[-1]
        turn = {"training": training, "rollout": rollout, "update": training - rollout}
        for part, seconds in turn.items():
            self.seconds[part].append(seconds)


def all_rows() -> dict[str, dict[str, Any]]:
    """Options by name."""
    on_cpu = jax.default_backend() == "cpu"
    environments = ENVIRONMENTS if on_cpu else ENVIRONMENTS_OF_ACCELERATORS
    tasks = TASKS if on_cpu else TASKS_OF_ACCELERATORS
    rows = {}
    for env, network in itertools.product(environments, NETWORKS):
        if network in LIKE_GRU and env != "bandit":
            continue
        n_tasks, minibatch_tasks = tasks[env, GRU if network in LIKE_GRU else network]
        for algo in (BASE, "rl3", "rl3-coarse") if env == "gridworld" else (BASE, "rl3"):
            rows[f"{env} {algo} {network}"] = {
                "env": env,
                "algo": algo,
                "n_tasks": n_tasks,
                "minibatch_tasks": minibatch_tasks,
                **NETWORKS[network],
                **{k: v for k, v in environments[env].items() if algo != BASE or k not in PLANNING},
            }
    return rows


def prepare_timed(options: dict[str, Any]) -> Timed:
    """Compiles an iteration and its rollout, and runs each once."""
    row = prepare(options)
    rollout = jax.jit(rollout_of(row.trainer)).lower(row.state).compile()
    timed(rollout, row.state)
    flops = {"training": row.flops, "rollout": flops_of(rollout, row.trainer)}
    flops["update"] = flops["training"] - flops["rollout"]
    return Timed(row, rollout, flops, {part: [] for part in PARTS}, [])


def rollout_of(trainer: Trainer) -> Callable[[Any], Any]:
    """The meta-episodes of the next iteration; each device keeps those of its own tasks."""

    def collect(state: Any) -> Any:
        key = jax.random.fold_in(state.key, state.iteration)
        key_tasks, key_rollouts, _ = jax.random.split(key, 3)  # as the iteration does
        return trainer.collect(state, key_tasks, key_rollouts)

    mesh = trainer.settings.devices.mesh
    tasks = PartitionSpec(None, *mesh.axis_names)
    return jax.shard_map(
        collect, mesh=mesh, in_specs=PartitionSpec(), out_specs=tasks, check_vma=False
    )


def resident_memory() -> float:
    """The most this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def figures_of(measured: Timed) -> dict[str, Any]:
    """What the report says of a row."""
    row = measured.row
    parts = {}
    for part, flops in measured.flops.items():
        seconds = measured.seconds[part]
        turns = zip(seconds, measured.rates, strict=True)
        parts[part] = {
            "env_steps_per_second": summary([row.env_steps / s for s in seconds]),
            "gflops": summary([flops / s / 1e9 for s in seconds]),
            "fraction_of_matrix_product": summary([flops / s / rate for s, rate in turns]),
        }
    return {
        "n_tasks": row.trainer.n_tasks,
        "horizon": row.trainer.layout.horizon,
        "devices": row.trainer.settings.devices.count,
        **parts,
        "compile_seconds": row.compile_seconds,
        "mebibytes": row.mebibytes,
    }


def ratios_of(rows: dict[str, Timed]) -> dict[str, dict[str, dict[str, float]]]:
    """Time of an iteration over another row's in the same turn, by that row and by row."""
    ratios: dict[str, dict[str, dict[str, float]]] = {"RL2": {}, "the GRU": {}}
    for name, own in rows.items():
        env, algo, network = name.split()
        others = {"RL2": f"{env} {BASE} {network}"} if algo != BASE else {}
        others |= {"the GRU": f"{env} {algo} {GRU}"} if network in LIKE_GRU else {}
        for title, other in others.items():
            if other in rows:
                pairs = zip(own.row.seconds, rows[other].row.seconds, strict=True)
                ratios[title][name] = summary([a / b for a, b in pairs])
    return ratios


def report_of(rows: dict[str, Timed]) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        **machine(),
        "matrix_product_gflops": summary([r / 1e9 for row in rows.values() for r in row.rates]),
        "resident_mebibytes": resident_memory(),
        "rows": {name: figures_of(row) for name, row in rows.items()},
        "ratios": ratios_of(rows),
    }


def by_environment(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of each environment, by name."""
    groups: dict[str, dict[str, Any]] = {}
    for name, row in report["rows"].items():
        groups.setdefault(name.split()[0], {})[name] = row
    return groups


def table_of(report: dict[str, Any]) -> Table:
    """The figures, a row each; ranges of the parts are in the picture and in the JSON."""
    table = Table(
        title=f"env steps/s, beside a {product_of(report)}",
        caption="update: the time of whole training less that of the rollout",
    )
    table.add_column("row")
    for column in (
        "tasks", "devices", "whole\ntraining", "range", "rollout", "update",
        "of the\nproduct", "compile", "MiB a\ndevice",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for rows in by_environment(report).values():
        for name, row in rows.items():
            table.add_row(name, *cells(row))
        table.add_section()
    return table


def cells(row: dict[str, Any]) -> list[str]:
    """What the table says of a row."""
    whole, rollout, update = (row[part]["env_steps_per_second"] for part in PARTS)
    return [
        f"{row['n_tasks']:,}",
        f"{row['devices']}",
        f"{whole['median']:,.0f}",
        f"{whole['low']:,.0f} – {whole['high']:,.0f}",
        f"{rollout['median']:,.0f}",
        f"{update['median']:,.0f}",
        f"{row['training']['fraction_of_matrix_product']['median']:.2f}",
        f"{row['compile_seconds']:.1f} s",
        f"{row['mebibytes']:,.0f}",
    ]


def ratio_table_of(title: str, ratios: dict[str, dict[str, float]]) -> Table:
    """What RL3 costs, or another memory than the GRU."""
    table = Table(title=f"time of an iteration over that of {title}")
    table.add_column("row")
    for column in ("ratio", "range"):
        table.add_column(column, justify="right")
    for name, ratio in ratios.items():
        table.add_row(name, f"{ratio['median']:.2f}", f"{ratio['low']:.2f} – {ratio['high']:.2f}")
    return table


def product_of(report: dict[str, Any]) -> str:
    """What fractions are of."""
    rate = report["matrix_product_gflops"]["median"]
    return f"1024² float32 matrix product ({rate:,.0f} GFLOP/s)"


def picture(report: dict[str, Any]) -> Figure:
    """A panel for each environment, with three bars for each of its rows."""
    groups = by_environment(report)
    sizes = [len(rows) for rows in groups.values()]
    figure = Figure(figsize=(9, 1.3 + 0.4 * len(sizes) + 0.5 * sum(sizes)), layout="constrained")
    ratios = {"height_ratios": sizes}
    panels = figure.subplots(len(sizes), sharex=True, squeeze=False, gridspec_kw=ratios)[:, 0]
    for axes, (env, rows) in zip(panels, groups.items(), strict=True):
        draw(axes, env, rows)
    panels[0].set_xscale("log")
    low, high = panels[0].get_xlim()
    panels[0].set_xlim(low / 2, high * 2)  # room for the shortest bar, and for text at the longest
    panels[-1].set_xlabel(
        f"env steps per second\nat the bars: fraction of the rate of a {product_of(report)}"
    )
    legend = panels[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside upper center", ncols=len(PARTS), frameon=False)
    return figure


def draw(axes: Axes, env: str, rows: dict[str, Any]) -> None:
    """An environment's panel."""
    for i, (part, label) in enumerate(PARTS.items()):
        for y, row in enumerate(rows.values()):
            draw_bar(axes, y + 0.27 * (i - 1), row[part], COLOURS[i], "" if y else label)
    labels = [f"{name.removeprefix(env)}, {row['n_tasks']:,} tasks" for name, row in rows.items()]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first on top
    horizon = next(iter(rows.values()))["horizon"]  # the same in all
    axes.set_title(f"{env}, H = {horizon}", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_bar(axes: Axes, y: float, figures: dict[str, Any], colour: str, label: str) -> None:
    """Median, range as a whisker, and the fraction of the product's rate beside it."""
    speed = figures["env_steps_per_second"]
    whisker = [[speed["median"] - speed["low"]], [speed["high"] - speed["median"]]]
    axes.barh(y, speed["median"], 0.25, xerr=whisker, color=colour, ecolor="0.3", label=label)
    fraction = figures["fraction_of_matrix_product"]["median"]
    axes.text(speed["high"], y, f"  {fraction:.2f}", va="center", fontsize=7)


def chosen_rows(args: Args) -> dict[str, dict[str, Any]]:
    """Options of the rows asked for, by name."""
    chosen = {
        name: options | {"devices": args.devices}
        for name, options in all_rows().items()
        if any(text in name for text in args.rows or [""])
    }
    if not chosen:
        sys.exit(f"no row is called so; there are: {', '.join(all_rows())}")
    return chosen


def measure(chosen: dict[str, dict[str, Any]], repeats: int, console: Console) -> dict[str, Timed]:
    """Compiles all rows, then times them in turn."""
    rate = matrix_product()
    rows = {}
    for name, options in track(chosen.items(), "compiling", console=console, transient=True):
        rows[name] = prepare_timed(options)
    for _ in track(range(repeats), "timing", console=console, transient=True):
        for row in rows.values():
            row.run(rate)
    return rows


def main() -> None:
    """The command."""
    args = tyro.cli(Args)
    console = Console(width=140)
    try:
        report = report_of(measure(chosen_rows(args), args.repeats, console))
    except ConfigError as error:
        sys.exit(str(error))  # of --devices
    console.print(table_of(report))
    for title, ratios in report["ratios"].items():
        if ratios:
            console.print(ratio_table_of(title, ratios))
    console.print(f"the most that this process held: {report['resident_mebibytes']:,.0f} MiB")
    save(report, args.out, picture(report))


if __name__ == "__main__":
    main()
