"""What the benchmarks share: timing of compiled iterations, and writing of what was measured."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from benchmarks.flops import matrix_flops
from rl3jax import Config, Trainer, make_trainer

# Of text and lines in pictures; black and these stay apart for readers who do not see red or green.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass
class Row:
    """One configuration: its compiled iteration, and how long it took each time.

    FLOPs are of an iteration on all devices.
    """

    trainer: Trainer
    update: Any
    state: Any
    compile_seconds: float
    flops: float
    seconds: list[float] = field(default_factory=list)

    def run(self) -> None:
        """One more timed iteration."""
        (self.state, _), seconds = timed(self.update, self.state)
        self.seconds.append(seconds)

    def restart(self, seed: int) -> None:
        """Back to fresh networks."""
        self.state = self.trainer.init(jax.random.key(seed))
        self.seconds.clear()

    @property
    def env_steps(self) -> int:
        """Of one iteration."""
        config = self.trainer.config
        assert config.n_tasks is not None
        assert config.horizon is not None
        return config.n_tasks * config.horizon

    @property
    def mebibytes(self) -> float:
        """What XLA reserves for one iteration, on each device."""
        return memory_in_mebibytes(self.update)


def prepare(options: dict[str, Any]) -> Row:
    """Compiles an iteration and runs it once."""
    trainer = make_trainer(Config(**options))
    state = trainer.init(jax.random.key(0))
    started = time.perf_counter()
    update = jax.jit(trainer.update).lower(state).compile()
    row = Row(trainer, update, state, time.perf_counter() - started, flops_of(update, trainer))
    row.run()
    row.seconds.clear()
    return row


def most_devices(size: int) -> int:
    """The most devices that there are and that divide `size`."""
    return max(n for n in range(1, jax.device_count() + 1) if size % n == 0)


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What it returns, once that is there, and the seconds until then."""
    started = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - started


def flops_of(compiled: Any, trainer: Trainer) -> float:
    """Of the matrix products on all devices, of which the compiled program is one's share."""
    return matrix_flops(compiled) * trainer.settings.devices.count


def memory_in_mebibytes(compiled: Any) -> float:
    """Arguments and temporaries of a compiled program."""
    memory = compiled.memory_analysis()
    return (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 2**20


def matrix_product() -> Callable[[], float]:
    """A function that measures the rate of a 1024² float32 product, in FLOP/s."""
    x = jax.random.normal(jax.random.key(0), (1024, 1024))
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()

    def rate(count: int = 20) -> float:
        started = time.perf_counter()
        for _ in range(count):
            result = product(x, x)
        result.block_until_ready()
        return count * 2 * 1024**3 / (time.perf_counter() - started)

    return rate


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def machine() -> dict[str, Any]:
    """What the figures of a report were measured on."""
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "jax": jax.__version__,
    }


def save(report: dict[str, Any], out: Path, figure: Figure | None = None) -> None:
    """The report as JSON, and the picture beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")
    if figure is not None:
        figure.savefig(out.with_suffix(".png"), dpi=150)
