"""Where metrics go besides `metrics.jsonl`: optional packages, imported when asked for."""

import contextlib
import importlib
import math
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rl3jax.checks import ConfigError
from rl3jax.config import Resolved
from rl3jax.files import write_text

Line = dict[str, Any]
"""What is told of an iteration, by name."""
Log = Callable[[Line], None]
"""Receives every line of metrics; a number in it that is not finite is told to nobody."""


@contextlib.contextmanager
def tensorboard(config: Resolved, folder: Path, earlier: Sequence[Line]) -> Iterator[Log]:
    """Scalars over env steps, in the run folder's `tensorboard/`.

    When a run goes on they are written anew, so that each step is there once.
    """
    del config
    for before in folder.glob("tensorboard/events.out.tfevents.*"):
        before.unlink()
    with _require("tensorboard").SummaryWriter(str(folder / "tensorboard")) as writer:

        def log(line: Line) -> None:
            for name, value in _finite(line).items():
                writer.add_scalar(name, value, global_step=line["env_steps"])

        for line in earlier:
            log(line)
        yield log


@contextlib.contextmanager
def wandb(config: Resolved, folder: Path, earlier: Sequence[Line]) -> Iterator[Log]:
    """A Weights & Biases run named after the run folder, the same one when that goes on."""
    del earlier  # it has them
    identity = folder / "wandb-id.txt"
    if not identity.is_file():
        write_text(identity, secrets.token_hex(8))
    with _require("wandb").init(
        project="rl3jax", name=folder.name, dir=str(folder), config=config.to_dict(),
        id=identity.read_text(encoding="utf-8"), resume="allow",
    ) as run:  # fmt: skip
        yield lambda line: run.log(_finite(line), step=line["iteration"])


LOGGERS = {"tensorboard": tensorboard, "wandb": wandb}


def check(names: Iterable[str]) -> None:
    """Raises ConfigError if the package of one of these loggers is not installed."""
    for name in names:
        _require(name)


def _finite(line: Line) -> Line:
    return {name: x for name, x in line.items() if x is not None and math.isfinite(x)}


def _require(name: str) -> Any:
    module = {"tensorboard": "tensorboardX"}.get(name, name)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"--log {name} needs the package {module}: pip install 'rl3jax[{name}]'"
        ) from error
