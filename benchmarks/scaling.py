"""`python -m benchmarks.scaling`: how the time and memory of an iteration grow with its sizes.

Each axis varies one size and keeps the rest. The exponent is the slope of time over size, both
logarithmic: 1 is proportional. It is fitted to all points, and given for the last two alone too,
where fixed costs count least. Axis devices splits the same work over more devices (ideal: −1). Axis
acting is the time that the t-th step of a long meta-episode takes a policy, beside that of bare
attention: two layers' softmax(q K) V over the keys and values of t steps, and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import benchmarks.all_cores  # noqa: F401 (a device for each core)
from benchmarks.acting import Point, time_attention, time_policy
from benchmarks.measure import COLOURS, machine, matrix_product, prepare, save, summary

Axis = Literal["tasks", "horizon", "acting", "states", "devices"]

TASKS: tuple[int, ...] = (64, 256, 1024, 4096, 16384)
HORIZONS: tuple[int, ...] = (100, 256, 512, 1024, 2048)
ACTING_STEPS = (64, 128, 256, 512, 1024, 1980)
STATES: tuple[int, ...] = (10, 32, 100, 316, 1000)
DEVICES: tuple[int, ...] = (1, 2, 4, 8)

MARKOV: dict[str, Any] = {"env": "bandit", "network": "markov", "epochs": 4, "devices": 1}
GRU: dict[str, Any] = {"env": "bandit", "network": "gru", "width": 128, "epochs": 4, "devices": 1}
MDP: dict[str, Any] = {
    "env": "mdp", "network": "markov", "n_tasks": 8, "horizon": 20, "minibatches": 1, "epochs": 4,
    "devices": 1,
}  # fmt: skip

X_LABELS: dict[Axis, str] = {
    "tasks": "tasks of an iteration",
    "horizon": "meta-episode length H, env steps",
    "acting": "step t of a meta-episode",
    "states": "states of the MDP",
    "devices": "devices",
}


@dataclass
class Args:
    """Measure how time and memory grow."""

    axes: tuple[Axis, ...] = ("tasks", "horizon", "acting", "states", "devices")
    """What to vary (default: all)."""
    largest: int = 0
    """Leave out sizes above this (default: none)."""
    repeats: int = 3
    """Timed runs of each size (default: 3)."""
    out: Path = Path("benchmarks/results/scaling.json")
    """Where the figures go as JSON, and as a picture beside it."""


def training(axis: Axis) -> dict[str, dict[int, dict[str, Any]]]:
    """Options of each size, by series; the work of a minibatch grows with the tasks."""
    if axis == "tasks":
        field, sizes = "n_tasks", TASKS
        series = {"bandit markov-64": MARKOV | {"minibatches": 16}}
    elif axis == "horizon":
        field, sizes = "horizon", HORIZONS
        few = {"n_tasks": 32, "minibatches": 1}
        series = {
            "bandit markov-64, 32 tasks": MARKOV | few,
            "bandit gru-128, 32 tasks": GRU | few,
        }
    elif axis == "states":
        field, sizes = "num_states", STATES
        series = {"mdp markov-64, 8 tasks, H = 20": MDP}
    else:
        field, sizes = "devices", DEVICES
        series = {
            "bandit markov-64, 2048 tasks": MARKOV | {"n_tasks": 2048, "minibatches": 16},
            "bandit gru-128, 320 tasks": GRU | {"n_tasks": 320, "minibatches": 10},
        }
    return {
        name: {size: options | {field: size} for size in sizes} for name, options in series.items()
    }


def time_training(options: dict[str, Any], repeats: int) -> Point:
    """Seconds of an iteration and what it reserves."""
    row = prepare(options)
    for _ in range(repeats):
        row.run()
    return {
        "seconds": summary(row.seconds),
        "mebibytes": row.mebibytes,
        "compile_seconds": row.compile_seconds,
    }


def acting(repeats: int) -> dict[str, dict[int, Callable[[], Point]]]:
    """What measures a step of a few meta-episodes at once, by series."""
    return {
        name: {t: partial(timer, t, repeats) for t in ACTING_STEPS}
        for name, timer in (
            ("transformer-64", partial(time_policy, "transformer", 64)),
            ("bare attention", time_attention),
            ("gru-128", partial(time_policy, "gru", 128)),
        )
    }


def measurements(axis: Axis, repeats: int) -> dict[str, dict[int, Callable[[], Point]]]:
    """What measures each size, by series."""
    if axis == "acting":
        return acting(repeats)
    return {
        name: {size: partial(time_training, options, repeats) for size, options in sizes.items()}
        for name, sizes in training(axis).items()
    }


def exponents(points: list[Point], quantity: str) -> dict[str, float] | None:
    """Slopes of the quantity's logarithm over the size's; none for fewer than two sizes."""
    if len(points) < 2 or quantity not in points[0]:
        return None
    x = np.log([p["size"] for p in points])
    values = [p[quantity] for p in points]
    y = np.log([v["median"] if isinstance(v, dict) else v for v in values])
    return {
        "all": float(np.polyfit(x, y, 1)[0]),
        "last_two": float((y[-1] - y[-2]) / (x[-1] - x[-2])),
    }


def measure(axis: Axis, args: Args, rate: Callable[[], float]) -> dict[str, Any]:
    """An axis's series: their points and exponents."""
    limit = jax.device_count() if axis == "devices" else args.largest or max(TASKS)
    results = {}
    for name, sizes in measurements(axis, args.repeats).items():
        points = []
        for size, run in sizes.items():
            if size <= limit:
                points.append({"size": size, **run(), "matrix_product_gflops": rate() / 1e9})
        results[name] = {
            "points": points,
            "exponent_of_time": exponents(points, "seconds"),
            "exponent_of_memory": exponents(points, "mebibytes"),
        }
    return results


def table_of(axis: Axis, series: dict[str, Any]) -> Table:
    """An axis's points, and its exponents below them."""
    table = Table(title=f"{axis}: {X_LABELS[axis]}")
    table.add_column("series")
    for column in ("size", "seconds", "range", "MiB", "product, GFLOP/s"):
        table.add_column(column, justify="right")
    for name, result in series.items():
        for point in result["points"]:
            seconds = point["seconds"]
            table.add_row(
                name,
                f"{point['size']:,}",
                f"{seconds['median']:.3g}",
                f"{seconds['low']:.3g} – {seconds['high']:.3g}",
                f"{point['mebibytes']:,.0f}" if "mebibytes" in point else "",
                f"{point['matrix_product_gflops']:.0f}",
            )
        table.add_row(f"[bold]exponent of {name}", "", *exponent_cells(result), end_section=True)
    return table


def exponent_cells(result: dict[str, Any]) -> list[str]:
    """Of time, fitted to all sizes and of the last two; of memory."""
    time_fit, memory_fit = result["exponent_of_time"], result["exponent_of_memory"]
    return [
        f"{time_fit['all']:.2f}" if time_fit else "",
        f"last two: {time_fit['last_two']:.2f}" if time_fit else "",
        f"{memory_fit['all']:.2f}" if memory_fit else "",
    ]


def acting_ratio(series: dict[str, Any]) -> str:
    """A step of the transformer beside attention alone, late in a meta-episode."""
    policy, bare = (series[name]["points"][-1] for name in ("transformer-64", "bare attention"))
    ratio = policy["seconds"]["median"] / bare["seconds"]["median"]
    return f"step {policy['size']:,}: a transformer takes {ratio:.2f} times bare attention"


def picture(report: dict[str, Any]) -> Figure:
    """A column for each axis: time above, memory below."""
    axes_measured: dict[Axis, Any] = report["axes"]
    columns = len(axes_measured)
    figure = Figure(figsize=(1 + 4 * columns, 7), layout="constrained")
    panels = figure.subplots(2, columns, squeeze=False)
    for column, (axis, series) in enumerate(axes_measured.items()):
        draw(panels[0, column], series, "seconds", "exponent_of_time")
        draw(panels[1, column], series, "mebibytes", "exponent_of_memory")
        panels[0, column].set_title(axis)
        for panel in panels[:, column]:
            panel.set_xlabel(X_LABELS[axis])
        unit = "seconds of a step" if axis == "acting" else "seconds of an iteration"
        panels[0, column].set_ylabel(unit)
        panels[1, column].set_ylabel("MiB of an iteration, each device")
        panels[1, column].set_visible(axis != "acting")
    return figure


def draw(panel: Axes, series: dict[str, Any], quantity: str, exponent: str) -> None:
    """One panel: a line for each series, with its exponent in the legend."""
    for colour, (name, result) in zip(COLOURS, series.items(), strict=False):
        points = [p for p in result["points"] if quantity in p]
        if not points:
            continue
        values = [p[quantity] for p in points]
        y = [v["median"] if isinstance(v, dict) else v for v in values]
        fitted = result[exponent]
        label = f"{name}\nexponent {fitted['all']:.2f}" if fitted else name
        panel.plot([p["size"] for p in points], y, "o-", color=colour, label=label)
    panel.set_xscale("log")
    sizes = sorted({p["size"] for result in series.values() for p in result["points"]})
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
    panel.set_xticks([], minor=True)
    panel.set_yscale("log")
    panel.margins(y=0.25)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=8, frameon=False)


def main() -> None:
    """The command."""
    args = tyro.cli(Args)
    rate = matrix_product()
    console = Console(width=120)
    report: dict[str, Any] = {**machine(), "axes": {}}
    for axis in args.axes:
        series = report["axes"][axis] = measure(axis, args, rate)
        console.print(table_of(axis, series))
        if axis == "acting":
            console.print(acting_ratio(series))
        save(report, args.out, picture(report))  # so that an interrupted run leaves what it has


if __name__ == "__main__":
    main()
