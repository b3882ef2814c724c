"""Going on with a run: its newest undamaged checkpoint, and what may be otherwise than before."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from rl3jax.checks import ConfigError
from rl3jax.config import Config, Resolved
from rl3jax.files import FileError
from rl3jax.runs.checkpoint import checkpoints, read_manifest, restore_checkpoint
from rl3jax.runs.folder import RunFolder
from rl3jax.runs.single import VERSION, Run, RunState, initial_state
from rl3jax.seeding import generator
from rl3jax.trainer import Trainer, make_trainer

MAY_CHANGE = ("iterations", "devices", "rollout_chunk", "gradient_chunk", "memory_limit")
"""What a resumed run may have otherwise than before; all but the first change rounding at most."""


def newest(
    folder: RunFolder, config: Config, trainer: Trainer | None = None
) -> tuple[RunState, dict[str, Any], list[str]]:
    """The state and description of a run's newest undamaged checkpoint, and problems of newer ones.

    `trainer` is the run's, if it has parts that the config does not name.

    Raises:
        FileError: if there is none.
        ConfigError: if it is of another config or version.
    """
    trained = trainer or make_trainer(dataclasses.replace(config, devices=None))
    like = jax.eval_shape(lambda: initial_state(trained))
    problems: list[str] = []
    for checkpoint in checkpoints(folder.checkpoints):
        try:
            description = read_manifest(checkpoint)["description"]
            _check_same_run(checkpoint, description, config)
            return restore_checkpoint(checkpoint, like), description, problems
        except FileError as error:
            problems.append(str(error))
    raise FileError("; ".join([f"{folder.path} has no complete checkpoint", *problems]))


def changed(before: Resolved, given: Config, iteration: int) -> Resolved:
    """The config of a run that goes on: that of its checkpoint, and what is given of `MAY_CHANGE`.

    Raises:
        ConfigError: if the run has had more iterations than it is to have.
    """
    changes = {n: value for n in MAY_CHANGE if (value := getattr(given, n)) is not None}
    config = dataclasses.replace(before, **changes)
    if config.iterations < iteration:
        raise ConfigError(f"--iterations {config.iterations}: the run has {iteration} already")
    return config


def on_devices(trainer: Trainer, state: RunState) -> RunState:
    """The state for all devices of the trainer, which may be of another number of iterations."""
    iterations = trainer.config.hyperparams().iterations
    hyperparams = dataclasses.replace(state.train.hyperparams, iterations=iterations)
    train = dataclasses.replace(state.train, hyperparams=hyperparams)
    return trainer.settings.devices.replicate(dataclasses.replace(state, train=train))


def rewind(run: Run, state: RunState, description: dict[str, Any]) -> None:
    """Makes the run's folder what it was at a checkpoint, but for what has changed."""
    run.folder.truncate_metrics(state.iteration, description["metrics"])
    if run.trainer.config.to_dict() != description["config"]:
        run.save(state)
    else:
        run.save_agents(state)  # the run may have ended before these of its checkpoint
    run.folder.write_config(run.trainer.config)


def _check_same_run(checkpoint: Path, description: dict[str, Any], config: Config) -> None:
    version, stored, ours = (*map(description.get, ("rl3jax", "config")), config.to_dict())
    if version != VERSION:
        raise ConfigError(f"{checkpoint} was written by rl3jax {version}, this is {VERSION}")
    if not isinstance(stored, dict) or not isinstance(description.get("metrics"), str):
        raise FileError(f"{checkpoint} is damaged: its manifest is not complete")
    for name, value in description.get("random", {}).items():
        if generator().get(name) != value:
            raise ConfigError(
                f"{checkpoint} has random numbers of {name} = {value!r}, here it is "
                f"{generator().get(name)!r}; set {name.upper()}={value}"
            )
    for name, value in stored.items():
        if name not in MAY_CHANGE and ours.get(name) != value:
            raise ConfigError(
                f"{checkpoint} was written with {name} = {value!r}, config.json says "
                f"{ours.get(name)!r}"
            )
