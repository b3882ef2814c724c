"""One run: the state that its checkpoints hold, and what its folder keeps of it."""

import contextlib
import dataclasses
import math
import shlex
from collections.abc import Generator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import PRNGKeyArray

from rl3jax import drawing, plots
from rl3jax.agent import PolicyAgent
from rl3jax.agent_files import save_agent
from rl3jax.finite import all_finite, decisive, first_non_finite
from rl3jax.runs.checkpoint import save_checkpoint
from rl3jax.runs.folder import RunFolder, title
from rl3jax.runs.loop import Line, Listeners, iterations, validate
from rl3jax.seeding import generator, training_key, validation_key
from rl3jax.trainer import Metrics, Trainer, TrainState

VERSION = version("rl3jax")


class DivergedError(RuntimeError):
    """A number of a run is NaN or infinite; the message is one line."""


@struct.dataclass
class RunState:
    """What a checkpoint holds.

    Attributes:
        train: the training state.
        best: the policy with the best validation score so far.
        best_return: that score; −inf before the first.
    """

    train: TrainState
    best: PolicyAgent
    best_return: jax.Array

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return int(self.train.iteration)


def initial_state(trainer: Trainer, key: PRNGKeyArray | None = None) -> RunState:
    """That of a new run, on all of its devices; without a key, of the config's seed."""
    train = trainer.init(training_key(trainer.config.seed) if key is None else key)
    best_return = trainer.settings.devices.replicate(jnp.asarray(-jnp.inf))
    return RunState(train, trainer.agent(train), best_return)


@dataclass(frozen=True)
class Run:
    """One run, split over the trainer's devices.

    Attributes:
        trainer: makes its iterations.
        folder: keeps what is kept of it.
    """

    trainer: Trainer
    folder: RunFolder

    @property
    def quoted(self) -> str:
        """The run for a command line, with its environment if that must be named."""
        env = self.trainer.config.env
        words = [str(self.folder.path), *(["--env", env] if ":" in env else [])]
        return shlex.join(words)

    def train(self, state: RunState, listeners: Listeners) -> RunState:
        """Trains as `steps` does; returns the last state."""
        with contextlib.closing(self.steps(state)) as steps:
            for after, line in steps:
                state = after
                for listen in listeners:
                    listen(line)
        return state

    def steps(self, state: RunState) -> Generator[tuple[RunState, Line], None, None]:
        """Trains from `state` to the end, or until a signal asks to stop.

        Yields:
            The state after an iteration, validated if that is due, and what is told of it. Once
            that was heard, drawings and checkpoints follow.

        Raises:
            DivergedError: at the first NaN or infinity, with the last good state on disk.
            ConfigError: if tasks are void.
        """
        config = self.trainer.config
        made = iterations(self.trainer, self.trainer.update, state.train, state.iteration)
        with contextlib.closing(made):
            for train, metrics, alive, line in made:
                if not alive:
                    self.save(state)
                    raise DivergedError(
                        f"{_what_is_not_finite(self.trainer, train, metrics)} in iteration "
                        f"{line['iteration']}; what was before it is kept in "
                        f"{self.folder.checkpoints}. Try a lower --learning-rate, a lower "
                        "--grad-clip, or smaller rewards; --debug tells where a NaN arises"
                    )
                state = dataclasses.replace(state, train=train)
                if self._due(state, config.validate_every):
                    state, line = self._validate(state, line)
                yield state, line
                if self._due(state, config.draw_every):
                    self._draw(state)
                if self._due(state, config.checkpoint_every):
                    self.save(state)
        if not self._due(state, config.checkpoint_every):
            self.save(state)  # stopped between two checkpoints

    def _due(self, state: RunState, every: int) -> bool:
        """Every so many iterations, and after the last; never where `every` is 0."""
        last = state.iteration == self.trainer.config.iterations
        return bool(every) and (state.iteration % every == 0 or last)

    def _validate(self, state: RunState, line: Line) -> tuple[RunState, Line]:
        """Scores the greedy policy on the validation tasks, and keeps the best."""
        score = validate(self.trainer, jax.device_get(self.trainer.agent(state.train)))
        line = line | {"validation_return": score.mean, "validation_stderr": score.stderr}
        if score.mean > state.best_return:
            best = self.trainer.agent(state.train)
            state = RunState(state.train, best, jnp.asarray(score.mean))
        return state, line

    def _draw(self, state: RunState) -> None:
        """A picture of the greedy policy in the first validation task."""
        trainer = self.trainer
        task, key = drawing.evaluation_task(trainer.env, validation_key(), index=0)
        name = f"{drawing.algorithm_name(trainer.config.algo)}, iteration {state.iteration}"
        agents = {name: jax.device_get(trainer.agent(state.train, greedy=True))}
        episodes = drawing.record_episodes(agents, trainer.env, task, trainer.config.horizon, key)
        path = self.folder.path / "drawings" / f"{state.iteration:08d}.png"
        path.parent.mkdir(exist_ok=True)
        drawing.save_picture(path, episodes)

    def draw_curve(self) -> Path:
        """Draws the learning curve; returns the picture's path."""
        path = self.folder.path / "curve.png"
        plots.learning_curve(self.folder.read_metrics(), title(self.trainer.config), path)
        return path

    def save(self, state: RunState) -> None:
        """Writes a checkpoint, which knows its version, config and metrics, and its agents."""
        description = {
            "rl3jax": VERSION,
            "config": self.trainer.config.to_dict(),
            "random": generator(),
            "metrics": self.folder.metrics_digest(state.iteration),
        }
        save_checkpoint(self.folder.checkpoints, state.iteration, state, description)
        self.save_agents(state)

    def save_agents(self, state: RunState) -> None:
        """Writes the last and the best policy."""
        save_agent(self.folder.agent, self.trainer.agent(state.train))
        save_agent(self.folder.best_agent, state.best)


def follow(trainer: Trainer, state: RunState) -> int:
    """Does a process's share of a run whose folder another one has; returns the last iteration.

    Raises:
        DivergedError: at the first NaN or infinity.
    """
    iteration = state.iteration
    for _, line in unrecorded(trainer, state.train, iteration):
        iteration = line["iteration"]
    return iteration


def unrecorded(
    trainer: Trainer, train: TrainState, done: int = 0
) -> Generator[tuple[TrainState, Line], None, None]:
    """Trains on, to the end or until a signal asks to stop, and keeps nothing.

    Yields:
        The state after an iteration, and what is told of it.

    Raises:
        DivergedError: at the first NaN or infinity.
    """
    with contextlib.closing(iterations(trainer, trainer.update, train, done)) as made:
        for after, metrics, alive, line in made:
            if not alive:
                what = _what_is_not_finite(trainer, after, metrics)
                raise DivergedError(f"{what} in iteration {line['iteration']}")
            yield after, line


def _what_is_not_finite(trainer: Trainer, after: TrainState, metrics: Metrics) -> str:
    """What went wrong first in an iteration in which something did, in words."""
    cause = first_non_finite(metrics.non_finite, trainer.layout)
    if cause is not None:
        return cause
    for name, value in decisive(metrics.diagnostics, after.models).items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    name = next(name for name, part in after.models.items() if not all_finite(part))
    return f"a parameter of the {name} is not finite"
