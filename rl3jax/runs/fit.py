"""`fit`: training from code, one iteration after another, as the commands train."""

import contextlib
import os
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from rl3jax.checks import ConfigError, check_flag, shown
from rl3jax.progress import Progress
from rl3jax.runs import resume
from rl3jax.runs.folder import RunFolder, new_run
from rl3jax.runs.loop import Line
from rl3jax.runs.single import Run, RunState, initial_state, unrecorded
from rl3jax.trainer import Trainer, TrainState

Steps = Generator[tuple[TrainState, Line], None, None]
Callback = Callable[[TrainState, Line], None]


def fit(
    trainer: Trainer,
    key: PRNGKeyArray,
    *,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    folder: str | os.PathLike[str] | None = None,
) -> tuple[TrainState, dict[str, Float[np.ndarray, " I"]]]:
    """Trains like `trainer.train`, but on the host, so that one sees how it goes.

    Ctrl-C, or a notebook's interrupt, ends it after the iteration, with what there is.

    Args:
        trainer: of one run.
        key: of the run; consumed.
        progress: whether to show a bar, the return and its curve; in a terminal, a notebook or
            neither.
        callbacks: functions that are called after each iteration with the state and the iteration's
            numbers by name.
        folder: where to keep the run as `rl3jax.train` does, with checkpoints, validation scores
            and agents. A run that is there already goes on, whatever the key. `None`: nowhere.

    Returns:
        The last state; and of each number of the iterations an array `[I]`, NaN where it is not
        defined.

    Raises:
        ConfigError: if an argument is not allowed, tasks are void, or the folder's run has another
            config.
        FileError: if the folder has no checkpoint to go on from.
        DivergedError: at the first NaN or infinity.
    """
    _check(trainer, key, progress, callbacks, folder)
    lines: list[Line] = []
    with ExitStack() as held:
        state, steps = _begin(trainer, key, folder, lines, held)
        if progress:
            path = None if folder is None else Path(folder)
            show = held.enter_context(Progress(trainer.config, path, len(lines))).show
            callbacks = (lambda _, line: show(line), *callbacks)
        for state, line in steps:
            lines.append(line)
            for call in callbacks:
                call(state, line)
    names = {name: None for line in lines for name in line}
    history = {n: np.array([line.get(n, np.nan) for line in lines], float) for n in names}
    return state, history


def _check(trainer: Any, key: Any, progress: Any, callbacks: Any, folder: Any) -> None:
    """Raises ConfigError, naming the argument, unless all are what `fit` takes."""
    if not isinstance(trainer, Trainer):
        raise ConfigError(f"trainer must be one of rl3jax.make_trainer, not {shown(trainer)}")
    is_key = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_key or key.ndim:
        raise ConfigError(f"key must be one key, as of jax.random.key(0), not {shown(key)}")
    check_flag("progress", progress)
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise ConfigError(f"callbacks must be a list of functions, not {shown(callbacks)}")
    if folder is not None and not (isinstance(folder, str | os.PathLike) and os.fspath(folder)):
        raise ConfigError(f"folder must be a path or None, not {shown(folder)}")
    if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
        raise ConfigError(f"folder {folder} is a file; name a folder, which is made if missing")


def _begin(
    trainer: Trainer,
    key: PRNGKeyArray,
    folder: str | os.PathLike[str] | None,
    lines: list[Line],
    held: ExitStack,
) -> tuple[TrainState, Steps]:
    """The first state, and what makes the others; earlier iterations are added to `lines`."""
    if folder is None:
        train = trainer.init(key)
        steps = unrecorded(trainer, train)
    else:
        run, state = _in_folder(trainer, key, Path(folder), held)
        lines += run.folder.read_metrics() if state.iteration else []
        train, steps = state.train, _recorded(run, state)
    return train, held.enter_context(contextlib.closing(steps))


def _in_folder(
    trainer: Trainer, key: PRNGKeyArray, path: Path, held: ExitStack
) -> tuple[Run, RunState]:
    """A run with a folder, which is held, and the state that it begins or goes on with."""
    if RunFolder(path).is_taken:
        run = Run(trainer, RunFolder(path))
        held.enter_context(run.folder.held())
        state, description, problems = resume.newest(run.folder, trainer.config, trainer)
        for problem in problems:
            warnings.warn(f"{problem}; falling back to the one before", stacklevel=2)
        state = resume.on_devices(trainer, state)
        resume.rewind(run, state, description)
    else:
        run = Run(trainer, held.enter_context(new_run(trainer.config, str(path))))
        state = initial_state(trainer, key)
        run.save(state)
        run.folder.write_config(trainer.config)
    run.folder.add_provenance()
    return run, state


def _recorded(run: Run, state: RunState) -> Steps:
    """Iterations of a run, whose lines its folder keeps."""
    with contextlib.closing(run.steps(state)) as steps:
        for after, line in steps:
            run.folder.append_metrics(line)
            yield after.train, line
    run.draw_curve()
