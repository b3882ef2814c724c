"""The outer loop: iterations of one compiled program, timed, checked and told of."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from rl3jax import processes
from rl3jax.agent import PolicyAgent
from rl3jax.commands import stop_signals
from rl3jax.evaluation import Evaluation, check_tasks, evaluate_agent
from rl3jax.finite import all_finite, decisive
from rl3jax.learning.optimise import Learned
from rl3jax.seeding import validation_key
from rl3jax.trainer import Metrics, Trainer, TrainState

Line = dict[str, Any]
"""What is told of an iteration, by name."""
Listeners = Sequence[Callable[[Line], None]]
Program = Callable[[TrainState], tuple[TrainState, Metrics]]
"""An iteration of one run, or of a batch of them at once, whose arrays are `[runs, …]`."""

Iteration = tuple[TrainState, Metrics, Bool[np.ndarray, "*runs"], Line]


def iterations(
    trainer: Trainer, program: Program, state: TrainState, done: int = 0, n_runs: int = 1
) -> Generator[Iteration, None, None]:
    """Iterates to the end, until no run is alive, or until a signal asks any process to stop.

    Args:
        trainer: of each run.
        program: makes an iteration.
        state: where it begins; the program may consume it.
        done: iterations before.
        n_runs: how many runs the program is of.

    Yields:
        The state after an iteration; its metrics, on the host; whether a run has had finite numbers
        alone until now, `[]` or `[runs]`; and the iteration's line, in which metrics are means over
        the runs that have.

    Raises:
        ConfigError: if tasks are void (`check_tasks`).
    """
    config, alive, stopping = trainer.config, np.array(True), False
    with stop_signals() as stop:
        while done < config.iterations and alive.any() and not stopping:
            started = time.perf_counter()
            state, metrics = program(state)
            metrics, finite = jax.device_get((metrics, _finite(state.models, metrics)))  # waits
            seconds = time.perf_counter() - started
            void = int(metrics.overflowed_tasks.max()), int(metrics.out_of_range_tasks.max())
            check_tasks(*void, trainer.n_tasks)
            alive, done = np.asarray(alive & finite), done + 1
            steps = n_runs * config.n_tasks * config.horizon
            line = {
                "iteration": done,
                "env_steps": done * steps,
                **_mean(metrics, alive).to_dict(),
                "steps_per_second": steps / seconds,
                "seconds": seconds,
            }
            yield state, metrics, alive, line
            stopping = processes.in_any(stop())


def _mean(metrics: Metrics, alive: Bool[np.ndarray, "*runs"]) -> Metrics:
    """Over the runs that are alive; NaN if none is."""
    return jax.tree.map(lambda x: x[alive].mean() if alive.any() else np.nan, metrics)


@jax.jit
def _finite(models: dict[str, Learned], metrics: Metrics) -> Bool[Array, "*runs"]:
    """Whether neither NaN nor infinity was seen or learned in an iteration of a run.

    What is only told of it may be either, or not defined.
    """
    if metrics.mean_return.ndim:
        return jax.vmap(_finite)(models, metrics)
    clean = [(share == 0).all() for share in jax.tree.leaves(metrics.non_finite)]
    losses = decisive(metrics.diagnostics, models)
    return all_finite((models, losses)) & jnp.stack(clean).all()


def validate(trainer: Trainer, agent: PolicyAgent) -> Evaluation:
    """The scores of a run's policy on the validation tasks."""
    config = trainer.config
    return evaluate_agent(
        agent, trainer.env, config.horizon, config.validation_tasks, validation_key(),
        batch_size=config.rollout_chunk,
    )  # fmt: skip
