"""Where metrics go besides `metrics.jsonl`: optional packages, imported when asked for."""

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from rl3jax.checks import ConfigError
from rl3jax.config import Resolved


class Logger(Protocol):
    """Receives every line of metrics."""

    def log(self, line: dict[str, Any]) -> None:
        """One iteration's line."""

    def close(self) -> None:
        """The run is over."""


class TensorBoardLogger:
    """Scalars over env steps, in the run folder's `tensorboard/`."""

    def __init__(self, config: Resolved, folder: Path) -> None:
        del config
        self._writer = _require(PACKAGES["tensorboard"], "tensorboard").SummaryWriter(
            str(folder / "tensorboard")
        )

    def log(self, line: dict[str, Any]) -> None:
        """One iteration's line."""
        for name, value in line.items():
            self._writer.add_scalar(name, value, global_step=line["env_steps"])

    def close(self) -> None:
        """Flushes the files."""
        self._writer.close()


class WandbLogger:
    """A Weights & Biases run named after the run folder."""

    def __init__(self, config: Resolved, folder: Path) -> None:
        wandb = _require(PACKAGES["wandb"], "wandb")
        self._run = wandb.init(
            project="rl3jax", name=folder.name, dir=str(folder), config=config.to_dict()
        )

    def log(self, line: dict[str, Any]) -> None:
        """One iteration's line."""
        self._run.log(line, step=line["iteration"])

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def check(names: Iterable[str]) -> None:
    """Raises ConfigError if the package of one of these loggers is not installed."""
    for name in names:
        _require(PACKAGES[name], name)


PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
LOGGERS: dict[str, Callable[[Resolved, Path], Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
}


def _require(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"--log {extra} needs the package {module}: pip install 'rl3jax[{extra}]'"
        ) from error
