"""`python -m rl3jax.train`: meta-trains a policy into a run folder."""

import contextlib
import dataclasses
import functools
import math
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import jax
import jax.numpy as jnp
import tyro
from flax import struct

from rl3jax import __version__, debugging, drawing, loggers, plots, processes, run_folder
from rl3jax.checkpoint import (
    check_state,
    checkpoints,
    load_agent,
    read_manifest,
    restore_checkpoint,
    save_agent,
    save_checkpoint,
)
from rl3jax.checks import ConfigError
from rl3jax.commands import (
    INTERRUPTED,
    LOST,
    NOT_FINITE,
    fail,
    one_line_errors,
    parse,
    prepare_jax,
    stop_signals,
)
from rl3jax.config import Config
from rl3jax.evaluation import check_tasks, evaluate_agent
from rl3jax.files import FileError
from rl3jax.finite import all_finite, first_non_finite
from rl3jax.loggers import Logger
from rl3jax.memory import check_memory
from rl3jax.pretrained import locate
from rl3jax.processes import LostProcessError, Processes
from rl3jax.progress import Progress
from rl3jax.run_folder import RunFolder
from rl3jax.seeding import training_key, validation_key
from rl3jax.trainer import Metrics, Trainer, TrainState, make_trainer

MAY_CHANGE = ("iterations", "devices", "rollout_chunk", "gradient_chunk", "memory_limit")
"""What a resumed run may have otherwise than before; all but the first change rounding at most."""


@dataclass(frozen=True)
class TrainArgs:
    """Meta-train RL³ or RL² on a distribution of tasks, into a run folder."""

    config: tyro.conf.OmitArgPrefixes[Config] = dataclasses.field(default_factory=Config)
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Go on exactly where the run in this folder stopped; of all other flags those may differ from
    the run's that extend it (--iterations) or are of the machine (--devices, --rollout-chunk,
    --gradient-chunk, --memory-limit), and --log. Name the --env of a run in a module:Class
    (default: a new run)."""
    init_from: Annotated[Path | None, tyro.conf.arg(metavar="AGENT")] = None
    """Start from the policy of this agent folder or run folder, or of an agent that comes with the
    package, instead of a fresh one (default: fresh)."""
    debug: bool = False
    """Slowly, with JAX's own checks: NaNs where they arise, random keys used twice, leaked tracers,
    and, in a first meta-episode, indices out of bounds."""
    processes: tyro.conf.OmitArgPrefixes[Processes] = dataclasses.field(default_factory=Processes)
    log: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Log to these as well; each needs its extra installed."""
    given: tyro.conf.Suppress[tyro.conf.Fixed[frozenset[str]]] = frozenset()


@struct.dataclass
class RunState:
    """What a checkpoint holds.

    Attributes:
        train: the training state.
        best_params: the actor's parameters with the best validation score so far.
        best_return: that score; −inf before the first.
    """

    train: TrainState
    best_params: Any
    best_return: jax.Array


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = parse(TrainArgs, argv, "train")
    if argv is None:  # the process is this command's own
        devices, num_processes = args.config.devices, args.processes.num_processes
        prepare_jax(devices // num_processes if devices and num_processes else None)
    with processes.ending_at_once(), one_line_errors():
        loggers.check(args.log)
        processes.join(args.processes)
        try:
            _train(args)
        except LostProcessError as error:
            fail(str(error), code=LOST)


def _train(args: TrainArgs) -> None:
    """From the beginning to the end; only the first process has a folder."""
    begin = _resume if args.resume else _start
    with contextlib.ExitStack() as held:
        if args.debug:
            held.enter_context(debugging.jax_checks())
        trainer, folder, state = processes.together(lambda: begin(args, held))
        if folder is None:
            iteration = _follow(trainer, state.train)
        else:
            folder.add_provenance()
            active = [loggers.LOGGERS[name](trainer.config, folder.path) for name in args.log]
            iteration = Run(trainer, folder, active).run(state)
        processes.part()
    if iteration < trainer.config.iterations:
        raise SystemExit(INTERRUPTED)


# --- beginnings ---------------------------------------------------------------------------------


def _start(args: TrainArgs, held: ExitStack) -> tuple[Trainer, RunFolder | None, RunState]:
    """A new run, with a checkpoint of its first state; only the first process has a folder.

    The folder is held until `held` is closed.
    """
    trainer = make_trainer(args.config)
    processes.check_agreement(trainer.config.to_dict())
    if trainer.config.draw_every:
        drawing.view_type(trainer.env)
    print(check_memory(trainer))
    state = _initial_state(trainer)
    if args.init_from is not None:
        state = _with_policy_of(state, args.init_from, trainer)
    if args.debug:
        debugging.check_indices(trainer, state.train, validation_key())
    if jax.process_index() > 0:
        return trainer, None, state
    folder = held.enter_context(run_folder.new(trainer.config, args.config.out))
    _save(trainer, folder, state)
    folder.write_config(trainer.config)  # from now on it is a run, with a checkpoint to go on from
    return trainer, folder, state


def _initial_state(trainer: Trainer) -> RunState:
    train = trainer.init(training_key(trainer.config.seed))
    best_return = trainer.settings.devices.replicate(jnp.asarray(-jnp.inf))
    return RunState(train, train.models.actor.params, best_return)


def _with_policy_of(state: RunState, path: Path, trainer: Trainer) -> RunState:
    """Starts the actor from a saved agent; critic and optimisers stay fresh."""
    folder = locate(path)
    agent = load_agent(folder / "agent" if (folder / "agent").is_dir() else folder)
    if agent.network != trainer.settings.actor:
        raise ConfigError(
            f"--init-from {path} holds {agent.network}, this run {trainer.settings.actor}"
        )
    if agent.layout.fields != trainer.layout.fields:
        raise ConfigError(f"--init-from {path} observes {agent.layout}, this run {trainer.layout}")
    models = state.train.models
    actor = dataclasses.replace(models.actor, params=agent.params)
    train = dataclasses.replace(state.train, models=models._replace(actor=actor))
    return dataclasses.replace(state, train=train, best_params=agent.params)


def _resume(args: TrainArgs, held: ExitStack) -> tuple[Trainer, RunFolder | None, RunState]:
    """The newest undamaged checkpoint of a run, and its folder as it was then.

    All processes read the folder; only the first one has it afterwards, until `held` is closed.
    """
    assert args.resume is not None
    folder = RunFolder(args.resume)
    config = folder.read_config(args.config.env)
    _check_may_change(args, config)
    if jax.process_index() == 0:
        held.enter_context(folder.held())
    like = _shape_of_state(config)
    checkpoint, manifest = _newest_checkpoint(folder, config, like)
    iteration, description = manifest["iteration"], manifest["description"]

    # What may change is that of the checkpoint: config.json is written after it.
    before = Config.from_dict(description["config"]).resolve()
    changes = {name: getattr(args.config, name) for name in MAY_CHANGE}
    config = dataclasses.replace(
        before, **{name: value for name, value in changes.items() if value is not None}
    )
    if config.iterations < iteration:
        raise ConfigError(f"--iterations {config.iterations}: the run has {iteration} already")
    trainer = make_trainer(config)
    processes.check_agreement(config.to_dict())
    print(check_memory(trainer))
    state = restore_checkpoint(checkpoint, like)
    iterations = trainer.config.hyperparams().iterations
    hyperparams = dataclasses.replace(state.train.hyperparams, iterations=iterations)
    train = dataclasses.replace(state.train, hyperparams=hyperparams)
    state = trainer.settings.devices.replicate(dataclasses.replace(state, train=train))
    if jax.process_index() > 0:
        return trainer, None, state
    folder.truncate_metrics(iteration, description["metrics"])
    if config != before:
        _save_checkpoint(trainer, folder, state)
    folder.write_config(config)
    _save_agents(trainer, folder, state)  # the run may have ended before these of its checkpoint
    return trainer, folder, state


def _shape_of_state(config: Config) -> RunState:
    trainer = make_trainer(dataclasses.replace(config, devices=None))
    return jax.eval_shape(lambda: _initial_state(trainer))


def _newest_checkpoint(
    folder: RunFolder, config: Config, like: RunState
) -> tuple[Path, dict[str, Any]]:
    """The newest undamaged checkpoint of a run, and its manifest; newer ones are warned of.

    Raises:
        FileError: if there is none.
        ConfigError: if it is of another config or version.
    """
    problems: list[str] = []
    for checkpoint in checkpoints(folder.checkpoints):
        try:
            manifest = read_manifest(checkpoint)
            _check_same_run(checkpoint, manifest["description"], config)
            check_state(checkpoint, manifest, like)
        except FileError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            print(f"warning: {problem}; falling back to the one before", file=sys.stderr)
        return checkpoint, manifest
    raise FileError("; ".join([f"{folder.path} has no complete checkpoint", *problems]))


def _check_may_change(args: TrainArgs, config: Config) -> None:
    changed = [
        name
        for name in sorted(args.given & args.config.names - set(MAY_CHANGE))
        if getattr(args.config, name) != getattr(config, name, None)
    ]
    if args.init_from is not None:
        changed.append("init_from")
    if changed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise ConfigError(f"--resume goes on with the run's own config; it takes no other {flags}")


def _check_same_run(checkpoint: Path, description: dict[str, Any], config: Config) -> None:
    version, stored, ours = (*map(description.get, ("rl3jax", "config")), config.to_dict())
    if version != __version__:
        raise ConfigError(f"{checkpoint} was written by rl3jax {version}, this is {__version__}")
    if not isinstance(stored, dict) or not isinstance(description.get("metrics"), str):
        raise FileError(f"{checkpoint} is damaged: its manifest is not complete")
    for name, value in stored.items():
        if name not in MAY_CHANGE and ours.get(name) != value:
            raise ConfigError(
                f"{checkpoint} was written with {name} = {value!r}, config.json says "
                f"{ours.get(name)!r}"
            )


def _follow(trainer: Trainer, state: TrainState) -> int:
    """What processes do that are not the first: their devices' share of every iteration.

    Returns the last iteration.
    """

    def iterate() -> tuple[TrainState, bool]:
        after, metrics = trainer.update(state)
        return after, what_is_not_finite(trainer, after, metrics) is None

    stopping = False
    with stop_signals() as stop:
        while int(state.iteration) < trainer.config.iterations and not stopping:
            state, finite = processes.together(iterate)
            if not finite:
                raise SystemExit(NOT_FINITE)
            stopping = processes.in_any(stop())
    if int(state.iteration) < trainer.config.iterations:
        print(f"stopped with the others after iteration {int(state.iteration)}")
    return int(state.iteration)


# --- the loop -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """The outer loop: jitted iterations, and what the host does between them."""

    trainer: Trainer
    folder: RunFolder
    loggers: list[Logger]

    def run(self, state: RunState) -> int:
        """Trains from `state` to the end, or until a signal asks to stop; returns where it is."""
        config = self.trainer.config
        iteration, stopping = int(state.train.iteration), False
        with Progress(config, self.folder.path, iteration) as progress, stop_signals() as stop:
            while iteration < self.iterations and not stopping:
                with self._saved_if_lost(state):
                    state, line = processes.together(functools.partial(self._iterate, state))
                iteration = line["iteration"]
                self._record(line, progress)
                if self._due(iteration, config.draw_every):
                    self._draw(state, iteration)
                with self._saved_if_lost(state):
                    stopping = processes.in_any(stop())
                if self._due(iteration, config.checkpoint_every) or stopping:
                    _save(self.trainer, self.folder, state)
        self._finish(iteration)
        return iteration

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return self.trainer.config.iterations

    @property
    def _quoted(self) -> str:
        """The run for a command line, with its environment if that must be named."""
        env = self.trainer.config.env
        words = [str(self.folder.path), *(["--env", env] if ":" in env else [])]
        return shlex.join(words)

    def _due(self, iteration: int, every: int) -> bool:
        """Every so many iterations, and after the last; never where `every` is 0."""
        return bool(every) and (iteration % every == 0 or iteration == self.iterations)

    @contextlib.contextmanager
    def _saved_if_lost(self, state: RunState) -> Iterator[None]:
        """If another process is lost, leaves a checkpoint of `state` and says how to go on."""
        try:
            yield
        except LostProcessError as error:
            # Nothing that computes: the device may wait for the lost one.
            _save_checkpoint(self.trainer, self.folder, state)
            raise LostProcessError(
                f"{error}; to go on from iteration {int(state.train.iteration)}, the last "
                f"complete one: --resume {self._quoted}"
            ) from error

    def _iterate(self, state: RunState) -> tuple[RunState, dict[str, Any]]:
        """One iteration, timed, its validation if it is due, and its line of metrics."""
        started = time.perf_counter()
        train, metrics = self.trainer.update(state.train)
        values = metrics.to_dict()  # waits for the device
        seconds = time.perf_counter() - started
        iteration = int(train.iteration)
        with one_line_errors():
            void = int(values["overflowed_tasks"]), int(values["out_of_range_tasks"])
            check_tasks(*void, self.trainer.n_tasks)
        if (bad := what_is_not_finite(self.trainer, train, metrics)) is not None:
            self._stop(bad, iteration, state)
        steps = self.trainer.config.n_tasks * self.trainer.config.horizon
        line = {
            "iteration": iteration,
            "env_steps": iteration * steps,
            **values,
            "steps_per_second": steps / seconds,
            "seconds": seconds,
        }
        state = dataclasses.replace(state, train=train)
        if self._due(iteration, self.trainer.config.validate_every):
            return self._validate(state, line)
        return state, line

    def _stop(self, bad: str, iteration: int, before: RunState) -> NoReturn:
        """Ends the process at the first NaN or infinity, with the last good state on disk."""
        _save(self.trainer, self.folder, before)
        fail(
            f"{bad} in iteration {iteration}; what was before it is kept in "
            f"{self.folder.checkpoints}. Try a lower --learning-rate, a lower --grad-clip, or "
            "smaller rewards; --debug tells where a NaN arises",
            code=NOT_FINITE,
        )

    def _validate(self, state: RunState, line: dict[str, Any]) -> tuple[RunState, dict[str, Any]]:
        """Scores the greedy policy on the validation tasks, and keeps the best."""
        config = self.trainer.config
        score = evaluate_agent(
            jax.device_get(self.trainer.agent(state.train, greedy=True)),
            self.trainer.env,
            config.horizon,
            config.validation_tasks,
            validation_key(),
            batch_size=config.rollout_chunk,
        )
        line = line | {"validation_return": score.mean, "validation_stderr": score.stderr}
        if score.mean > state.best_return:
            best = state.train.models.actor.params
            state = dataclasses.replace(
                state, best_params=best, best_return=jnp.asarray(score.mean)
            )
        return state, line

    def _draw(self, state: RunState, iteration: int) -> None:
        """A picture of the greedy policy in the first validation task."""
        trainer = self.trainer
        task, key = drawing.evaluation_task(trainer.env, validation_key(), index=0)
        name = f"{drawing.algorithm_name(trainer.config.algo)}, iteration {iteration}"
        agents = {name: jax.device_get(trainer.agent(state.train, greedy=True))}
        episodes = drawing.record_episodes(agents, trainer.env, task, trainer.config.horizon, key)
        self.folder.drawings.mkdir(exist_ok=True)
        drawing.save_picture(self.folder.drawings / f"{iteration:08d}.png", episodes)

    def _record(self, line: dict[str, Any], progress: Progress) -> None:
        self.folder.append_metrics(line)
        for logger in self.loggers:
            logger.log(line)
        progress.show(line)

    def _finish(self, iteration: int) -> None:
        """The picture, and what to do next."""
        for logger in self.loggers:
            logger.close()
        metrics = self.folder.read_metrics()
        if metrics:
            config = self.trainer.config
            title = f"{config.algo} ({config.network}) on {config.env}, H = {config.horizon}"
            plots.learning_curve(metrics, title, self.folder.curve)
        if iteration < self.iterations:
            print(f"stopped after iteration {iteration} of {self.iterations}; to go on:")
            print(f"  python -m rl3jax.train --resume {self._quoted}")
        else:
            print(f"learning curve: {self.folder.curve}")
            print(f"to score it on held-out tasks:\n  python -m rl3jax.evaluate {self._quoted}")


def _save(trainer: Trainer, folder: RunFolder, state: RunState) -> None:
    """A checkpoint, and its agents."""
    _save_checkpoint(trainer, folder, state)
    _save_agents(trainer, folder, state)


def _save_agents(trainer: Trainer, folder: RunFolder, state: RunState) -> None:
    """The last and the best policy."""
    agent = trainer.agent(state.train, greedy=True)
    save_agent(folder.agent, agent)
    save_agent(folder.best_agent, agent.replace(params=state.best_params))


def _save_checkpoint(trainer: Trainer, folder: RunFolder, state: RunState) -> None:
    iteration = int(state.train.iteration)
    description = {
        "rl3jax": __version__,
        "config": trainer.config.to_dict(),
        "metrics": folder.metrics_digest(iteration),
    }
    save_checkpoint(folder.checkpoints, iteration, state, description)


def what_is_not_finite(trainer: Trainer, after: TrainState, metrics: Metrics) -> str | None:
    """What went wrong first in an iteration, in words; `None` if every number is finite."""
    cause = first_non_finite(metrics.non_finite, trainer.layout)
    if cause is not None:
        return cause
    for name, value in metrics.to_dict().items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    for name, learned in after.models._asdict().items():
        if not all_finite(learned):
            return f"a parameter of the {name} is not finite"
    return None


if __name__ == "__main__":
    main()
