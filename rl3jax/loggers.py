"""Where metrics go besides `metrics.jsonl`: optional packages, imported when asked for."""

import contextlib
import importlib
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rl3jax.checks import ConfigError
from rl3jax.config import Resolved

Log = Callable[[dict[str, Any]], None]
"""Receives every line of metrics; a number in it that is not finite is told to nobody."""


@contextlib.contextmanager
def tensorboard(config: Resolved, folder: Path) -> Iterator[Log]:
    """Scalars over env steps, in the run folder's `tensorboard/`."""
    del config
    with _require("tensorboard").SummaryWriter(str(folder / "tensorboard")) as writer:

        def log(line: dict[str, Any]) -> None:
            for name, value in _finite(line).items():
                writer.add_scalar(name, value, global_step=line["env_steps"])

        yield log


@contextlib.contextmanager
def wandb(config: Resolved, folder: Path) -> Iterator[Log]:
    """A Weights & Biases run named after the run folder."""
    with _require("wandb").init(
        project="rl3jax", name=folder.name, dir=str(folder), config=config.to_dict()
    ) as run:
        yield lambda line: run.log(_finite(line), step=line["iteration"])


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb}


def check(names: Iterable[str]) -> None:
    """Raises ConfigError if the package of one of these loggers is not installed."""
    for name in names:
        _require(name)


def _finite(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if math.isfinite(value)}


def _require(name: str) -> Any:
    module = {"tensorboard": "tensorboardX"}.get(name, name)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"--log {name} needs the package {module}: pip install 'rl3jax[{name}]'"
        ) from error
