"""The memory of a run, foreseen: what a device will hold at most, and settings that need less."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rl3jax import ppo
from rl3jax.checks import ConfigError, largest_divisor
from rl3jax.config import Config
from rl3jax.devices import Devices
from rl3jax.liveness import peak, peak_and_shapes, size_of
from rl3jax.rollout import Trajectory, rollout
from rl3jax.trainer import Trainer, TrainState, make_trainer

GIB = 2**30

STATES = "parameters and optimiser states"
TRAJECTORIES = "trajectories"
CARRIES = "networks' carries while acting"
TABLES = "object-level tables"
STEPS = "steps of agents and environments"
ACTIVATIONS = "activations of a minibatch"

CHUNKS = {"acting": "rollout_chunk", "validation": "rollout_chunk", "learning": "gradient_chunk"}
"""What makes a phase smaller."""


GROUP_LIMITS = {"": "memory.max", "memory": "memory.limit_in_bytes"}
"""Files with the limit of a control group, by its controllers."""


@dataclass(frozen=True)
class Estimate:
    """Bytes that a device holds, by phase of an iteration and by what they are for.

    Phases come one after another, so the largest one decides.
    """

    phases: dict[str, dict[str, int]]

    @property
    def phase(self) -> str:
        """The phase that needs the most."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def terms(self) -> dict[str, int]:
        """Of the phase that needs the most, largest first."""
        terms = self.phases[self.phase]
        return dict(sorted(terms.items(), key=lambda item: -item[1]))

    @property
    def total(self) -> int:
        """Bytes at the worst moment."""
        return sum(self.terms.values())


def estimate_memory(trainer: Trainer) -> Estimate:
    """What each of a trainer's devices will hold, from shapes alone: nothing is compiled."""
    trainer = _own_share(trainer)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(trainer.init, key)
    collecting, trajectory = peak_and_shapes(trainer.collect, state, key, key)
    phases = {
        "acting": _acting(
            trainer,
            state,
            trainer.n_tasks,
            trajectories=size_of(trajectory),
            held=collecting,
        ),
        "learning": _learning(trainer, state, trajectory),
    }
    if trainer.config.validate_every:
        phases["validation"] = _acting(
            trainer,
            state,
            trainer.config.validation_tasks,
            trajectories=0,
            held=peak(lambda *args: _validate(trainer, *args), state, key),
        )
    before_and_after = {STATES: 2 * size_of(state)}
    return Estimate({name: before_and_after | terms for name, terms in phases.items()})


def _own_share(trainer: Trainer) -> Trainer:
    """The trainer as one of its devices has it."""
    settings = trainer.settings._replace(
        tasks_per_minibatch=trainer.settings.own_tasks_per_minibatch, devices=Devices()
    )
    n_tasks = trainer.n_tasks // trainer.settings.devices.count
    return dataclasses.replace(trainer, n_tasks=n_tasks, settings=settings)


def _acting(
    trainer: Trainer, state: TrainState, n_tasks: int, trajectories: int, held: int
) -> dict[str, int]:
    """The terms of what meta-episodes in `n_tasks` tasks hold."""
    carry = jax.eval_shape(lambda state: trainer.agent(state).init(jnp.int32(0)), state)
    at_once = min(n_tasks, trainer.rollout_chunk or n_tasks)
    terms = {
        TRAJECTORIES: trajectories,
        CARRIES: at_once * size_of(carry.network),
        TABLES: at_once * size_of(carry.table),
    }
    return terms | {STEPS: max(0, held - sum(terms.values()))}


def _learning(trainer: Trainer, state: TrainState, trajectory: Trajectory) -> dict[str, int]:
    """The terms of what PPO holds, with the critic's values before it."""
    settings = trainer.settings
    valuing, (batch, progress) = peak_and_shapes(trainer.batch, state, trajectory)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def update(state: TrainState, *args: Any) -> Any:
        return ppo.update(settings, state.hyperparams, state.models, *args)

    held = peak(update, state, batch, progress, key)
    at_a_time = settings.tasks_at_a_time(settings.critic, trainer.layout.horizon)
    if at_a_time == settings.tasks_per_minibatch:
        # Compilers begin with the critic before they are done with the actor.
        held += _critic_residuals(settings, state, batch)
    return {
        TRAJECTORIES: size_of(batch) + size_of(trajectory.reward),
        ACTIVATIONS: max(held, valuing - size_of(batch)),
    }


def _critic_residuals(settings: ppo.Settings, state: TrainState, batch: ppo.Batch) -> int:
    """Bytes that the critic's forward pass over a minibatch keeps for the backward pass."""
    minibatch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            (len(x), settings.tasks_per_minibatch, *x.shape[2:]), x.dtype
        ),
        batch,
    )

    def backward(params: Any, batch: ppo.Batch) -> Any:
        return jax.vjp(lambda params: ppo.critic_loss(params, settings.critic, batch), params)[1]

    params = state.models.critic.params
    return size_of(jax.eval_shape(backward, params, minibatch)) - size_of(params)


def _validate(trainer: Trainer, state: TrainState, key: PRNGKeyArray) -> jax.Array:
    """The rewards of a validation, as `evaluate_agent` collects them."""
    n_tasks = trainer.config.validation_tasks
    agent = trainer.agent(state)

    def one_task(key: PRNGKeyArray) -> jax.Array:
        key_task, key_rollout = jax.random.split(key)
        task = trainer.env.sample_task(key_task)
        return rollout(agent, trainer.env, task, trainer.layout.horizon, key_rollout).reward

    at_once = min(n_tasks, trainer.rollout_chunk or n_tasks)
    return jax.lax.map(one_task, jax.random.split(key, n_tasks), batch_size=at_once)


# --- the limit, and what to do about it ---------------------------------------------------------


def device_memory() -> int:
    """Bytes that a device of this process may use; cores of a CPU share those of the process."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return process_memory() // jax.local_device_count()


def process_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may use: the machine's, or fewer in a container or a batch job."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_group_limits(root)])


def _group_limits(root: Path) -> Iterator[int]:
    """Limits of the control groups that this process is in; there are two versions of them."""
    membership = root / "proc/self/cgroup"
    if not membership.is_file():
        return
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers in GROUP_LIMITS:
            group = root / "sys/fs/cgroup" / controllers / path.lstrip("/")
            for folder in (group, *group.parents):
                limit = folder / GROUP_LIMITS[controllers]
                with contextlib.suppress(OSError, ValueError):  # not there, or "max"
                    yield int(limit.read_text())


def check_memory(trainer: Trainer) -> str:
    """A line that says how much memory the run will need of a device.

    Raises:
        ConfigError: if it is more than `memory_limit`, or than the device has; with settings that
            fit, or the smallest possible run.
    """
    given = trainer.config.memory_limit
    limit = device_memory() if given is None else int(given * GIB)
    estimate = estimate_memory(trainer)
    if estimate.total <= limit:
        return (
            f"memory: about {gib(estimate.total)} of {gib(limit)} a device ({_largest(estimate)})"
        )
    fitting, needed = _fit(trainer, limit)
    flags = _changed_flags(trainer.config, fitting.config)
    source = "a device's memory" if given is None else "memory_limit"
    shown = gib(limit) if given is None else f"{given:g} GiB"
    if needed.total > limit:
        raise ConfigError(
            f"{source}, {shown}, is below the smallest possible run, {gib(needed.total)} "
            f"({flags or 'this one'})"
        )
    raise ConfigError(
        f"this run needs about {gib(estimate.total)} of a device, over {source}, {shown}; most of "
        f"it: {_largest(estimate)}. Fits: {flags} ({gib(needed.total)})"
    )


def gib(size: int) -> str:
    """Bytes as GiB to three digits, rounded up: a limit of as much is enough."""
    digit = 10.0 ** (math.floor(math.log10(size / GIB)) - 2)
    return f"{math.ceil(size / GIB / digit) * digit:.3g} GiB"


def _largest(estimate: Estimate) -> str:
    """The terms that make up most of an estimate."""
    large = [(name, size) for name, size in estimate.terms.items() if size > estimate.total / 20]
    return ", ".join(f"{name} {gib(size)}" for name, size in large)


def _fit(trainer: Trainer, limit: int) -> tuple[Trainer, Estimate]:
    """The trainer with smaller chunks, and with fewer tasks if need be; or the smallest there is.

    A phase's chunk is halved while that phase needs too much; tasks only if chunks of a single one
    would not do.
    """
    one = {"rollout_chunk": 1, "gradient_chunk": 1}
    fewest = {"n_tasks": trainer.settings.devices.count}
    if trainer.config.minibatch_tasks is None:
        fewest["minibatches"] = 1
    smallest = _with(trainer, **fewest, **one)
    least = estimate_memory(smallest)
    if least.total > limit:
        return smallest, least

    while estimate_memory(_with(trainer, **one)).total > limit:
        trainer = _fewer_tasks(trainer)
    estimate = estimate_memory(trainer)
    while estimate.total > limit:
        trainer = _with_half_of(trainer, CHUNKS[estimate.phase])
        estimate = estimate_memory(trainer)
    return trainer, estimate


def _with(trainer: Trainer, **changes: Any) -> Trainer:
    """The trainer with other values in its config."""
    config = dataclasses.replace(trainer.config, **changes)
    return make_trainer(config, trainer.env, trainer.learner, trainer.settings.actor)


def _with_half_of(trainer: Trainer, chunk: str) -> Trainer:
    """The trainer with half the chunk, or a little less since it must divide a device's share.

    Without a chunk the share is the first: validation has more tasks than it, maybe.
    """
    settings = trainer.settings
    total = trainer.n_tasks if chunk == "rollout_chunk" else settings.tasks_per_minibatch
    share = total // settings.devices.count
    now = getattr(trainer.config, chunk) or 2 * share
    return _with(trainer, **{chunk: largest_divisor(share, max(1, min(now // 2, share)))})


def _fewer_tasks(trainer: Trainer) -> Trainer:
    """About half as many tasks, in minibatches of the same size if there is more than one."""
    config, devices = trainer.config, trainer.settings.devices.count
    size, n_tasks = trainer.settings.tasks_per_minibatch, trainer.n_tasks
    if n_tasks > size:
        n_tasks = size * max(1, n_tasks // size // 2)
    else:
        n_tasks = size = devices * max(1, n_tasks // devices // 2)
    changes = {"n_tasks": n_tasks}
    if config.minibatch_tasks is None:
        changes["minibatches"] = n_tasks // size
    for name, total in (("rollout_chunk", n_tasks), ("gradient_chunk", size)):
        if chunk := getattr(config, name):
            changes[name] = largest_divisor(total // devices, chunk)
    return _with(trainer, **changes)


def _changed_flags(before: Config, after: Config) -> str:
    """The flags that lead from one config to the other."""
    names = ("n_tasks", "minibatches", "rollout_chunk", "gradient_chunk")
    changed = {name: getattr(after, name) for name in names}
    return " ".join(
        f"--{name.replace('_', '-')} {value}"
        for name, value in changed.items()
        if value is not None and value != getattr(before, name)
    )
