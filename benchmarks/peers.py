"""`python -m benchmarks.peers`: RL² here against sb3-contrib's RecurrentPPO, on the same work.

An iteration of either collects one meta-episode of 100 steps in each of 320 five-armed bandits and
trains a recurrent actor and a recurrent critic of 128 units on them: 8 epochs of 10 minibatches of
32 meta-episodes. A layer of 64 units is below the recurrent one here (a GRU), above it there (an
LSTM); the numbers of parameters are in the report.

Iterations of both are timed in turn, together with a 1024² float32 matrix product, so that all see
the same machine. Compilation and a warm-up iteration are not in the times. The peer runs with one
thread and with all cores, and ratios are to the faster of these in the same round: its products are
so small that a second thread may gain nothing, and on a machine that is busy otherwise its threads,
which wait for each other after every product, take many times as long.

Needs `pip install torch stable-baselines3 sb3-contrib`.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.all_cores import CORES
from benchmarks.measure import (
    COLOURS,
    Row,
    machine,
    matrix_product,
    most_devices,
    prepare,
    save,
    summary,
)

NUM_ARMS = 5
HORIZON = 100
N_TASKS = 320
MINIBATCHES = 10
EPOCHS = 8
WIDTH = 128
LAYER = 64
PEER = "sb3-contrib RecurrentPPO"


@dataclass
class Args:
    """Compare meta-training with that of sb3-contrib."""

    repeats: int = 3
    """Timed iterations of each (default: 3)."""
    devices: tuple[int, ...] = ()
    """Numbers of devices for rl3jax (default: one, and all cores that divide a minibatch)."""
    threads: tuple[int, ...] = ()
    """Numbers of threads for the peer (default: one, and all cores)."""
    out: Path = Path("benchmarks/results/peers.json")
    """Where the figures go as JSON, and as a picture beside it."""


@dataclass
class Peer:
    """sb3-contrib's learner, and how long its iterations took by number of threads."""

    model: Any
    seconds: dict[int, list[float]]

    def run(self, threads: int) -> None:
        """One more timed iteration: `learn` for as many steps as one collects."""
        import torch

        torch.set_num_threads(threads)
        started = time.perf_counter()
        self.model.learn(N_TASKS * HORIZON, reset_num_timesteps=False, log_interval=None)
        self.seconds[threads].append(time.perf_counter() - started)

    @property
    def fastest(self) -> list[float]:
        """Seconds of each round with the number of threads that was best in it."""
        return [min(times) for times in zip(*self.seconds.values(), strict=True)]

    @property
    def parameters(self) -> int:
        """Of actor and critic."""
        return sum(p.numel() for p in self.model.policy.parameters())


def make_peer(threads: tuple[int, ...]) -> Peer:
    """sb3-contrib's learner of the same sizes, after a warm-up iteration."""
    from sb3_contrib import RecurrentPPO

    from benchmarks.bandit_vec_env import BanditVecEnv

    model = RecurrentPPO(
        "MlpLstmPolicy",
        BanditVecEnv(N_TASKS, NUM_ARMS, HORIZON),
        n_steps=HORIZON,
        batch_size=N_TASKS * HORIZON // MINIBATCHES,
        n_epochs=EPOCHS,
        device="cpu",
        policy_kwargs={
            "lstm_hidden_size": WIDTH,
            "shared_lstm": False,
            "enable_critic_lstm": True,
            "net_arch": [LAYER],
        },
    )
    peer = Peer(model, {count: [] for count in threads})
    peer.run(threads[0])
    peer.seconds[threads[0]].clear()
    return peer


def make_ours(devices: int) -> Row:
    """An iteration of rl3jax on so many devices, after a warm-up."""
    return prepare(
        {
            "env": "bandit",
            "algo": "rl2",
            "network": "gru",
            "width": WIDTH,
            "num_arms": NUM_ARMS,
            "horizon": HORIZON,
            "n_tasks": N_TASKS,
            "minibatches": MINIBATCHES,
            "epochs": EPOCHS,
            "devices": devices,
        }
    )


def parameters_of(row: Row) -> int:
    """Of actor and critic."""
    networks = row.state.models.values()
    return sum(x.size for network in networks for x in jax.tree.leaves(network.params))


def device_counts(args: Args) -> tuple[int, ...]:
    """Those asked for; else one, and the most that share a minibatch evenly."""
    return args.devices or tuple(sorted({1, most_devices(N_TASKS // MINIBATCHES)}))


def compare(
    ours: dict[str, Row], peer: Peer, rate: Callable[[], float], repeats: int
) -> dict[str, Any]:
    """Times all in turn; what came of it, by name."""
    rates = []
    for _ in range(repeats):
        rates.append(rate())
        for row in ours.values():
            row.run()
        for threads in peer.seconds:
            peer.run(threads)
    steps = N_TASKS * HORIZON
    report: dict[str, Any] = {
        "matrix_product_gflops": summary([r / 1e9 for r in rates]),
        "rows": {},
        "ratios": {},
    }
    timed = {name: (row.seconds, parameters_of(row)) for name, row in ours.items()}
    for threads, seconds in peer.seconds.items():
        timed[f"{PEER}, {plural(threads, 'thread')}"] = (seconds, peer.parameters)
    for name, (seconds, parameters) in timed.items():
        pairs = list(zip(seconds, rates, strict=True))
        report["rows"][name] = {
            "seconds_per_iteration": summary(seconds),
            "env_steps_per_second": summary([steps / s for s in seconds]),
            "env_steps_per_gflop_of_the_product": summary([steps / s / r * 1e9 for s, r in pairs]),
            "parameters": parameters,
        }
    for name, row in ours.items():
        pairs = list(zip(peer.fastest, row.seconds, strict=True))
        report["ratios"][name] = summary([theirs / own for theirs, own in pairs])
    return report


def plural(count: int, unit: str) -> str:
    """The count with its unit."""
    return f"{count} {unit}{'s' if count > 1 else ''}"


def versions() -> dict[str, str]:
    """Of the packages compared with."""
    import sb3_contrib
    import torch

    return {"torch": torch.__version__, "sb3-contrib": sb3_contrib.__version__}


def table_of(report: dict[str, Any]) -> Table:
    """The figures, a row each."""
    product = report["matrix_product_gflops"]["median"]
    table = Table(title=f"1024² float32 matrix product: {product:.0f} GFLOP/s")
    table.add_column("whole training")
    for column in ("env steps/s", "range", "per GFLOP", "parameters", "faster than the peer"):
        table.add_column(column, justify="right")
    for name, row in report["rows"].items():
        speed, ratio = row["env_steps_per_second"], report["ratios"].get(name)
        table.add_row(
            name,
            f"{speed['median']:,.0f}",
            f"{speed['low']:,.0f} – {speed['high']:,.0f}",
            f"{row['env_steps_per_gflop_of_the_product']['median']:,.1f}",
            f"{row['parameters']:,}",
            f"{ratio['median']:.1f} × ({ratio['low']:.1f} – {ratio['high']:.1f})" if ratio else "",
        )
    return table


def picture(report: dict[str, Any]) -> Figure:
    """Env steps per second as bars, ranges as whiskers."""
    figure = Figure(figsize=(8, 1.2 + 0.6 * len(report["rows"])), layout="constrained")
    axes = figure.subplots()
    for i, (name, row) in enumerate(report["rows"].items()):
        speed = row["env_steps_per_second"]
        whisker = [[speed["median"] - speed["low"]], [speed["high"] - speed["median"]]]
        colour = COLOURS[1] if name.startswith(PEER) else COLOURS[0]
        axes.barh(i, speed["median"], xerr=whisker, color=colour, ecolor="0.3", capsize=3)
        axes.text(speed["high"], i, f"  {speed['median']:,.0f}", va="center")
    axes.set_yticks(range(len(report["rows"])), list(report["rows"]))
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("env steps per second of whole training (bandit, H = 100, 320 tasks)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """The command."""
    args = tyro.cli(Args)
    try:
        peer = make_peer(args.threads or tuple(sorted({1, CORES})))
    except ModuleNotFoundError as error:
        sys.exit(
            f"{error.name} is missing; the comparison needs: "
            "pip install torch stable-baselines3 sb3-contrib"
        )
    ours = {}
    for count in device_counts(args):
        ours[f"rl3jax RL2, {plural(count, 'device')}"] = make_ours(count)
    report = {
        **machine(),
        **versions(),
        **compare(ours, peer, matrix_product(), args.repeats),
    }
    Console(width=120).print(table_of(report))
    save(report, args.out, picture(report))


if __name__ == "__main__":
    main()
