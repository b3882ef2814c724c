"""The memory of a run: what the compiler says that a device will hold, and settings that need less.

Programs are compiled as the run will compile them, before its first step; JAX keeps them, so that
the run does not compile them again.
"""

import contextlib
import dataclasses
import math
import os
import resource
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.extend import core

from rl3jax import devices
from rl3jax.baselines import AgentOrMaker
from rl3jax.checks import ConfigError, largest_divisor
from rl3jax.config import Config
from rl3jax.envs import TaskDistribution
from rl3jax.evaluation import trace_evaluation
from rl3jax.trainer import Trainer, make_trainer

GIB = 2**30
BUFFERS_OF_XLA = 1.25
"""Over what the compiler says; measured. Some of XLA's own buffers are not in it."""

CHUNKS = ("rollout_chunk", "gradient_chunk")
SIZES = ("n_tasks", *CHUNKS)

UNOPTIMISED = {"xla_backend_optimization_level": 0}
"""For programs that will not run: half the time to compile, and the same memory."""

MOST_ENTRIES = 2**48
"""Of an array; no device holds more. XLA ends the process where it cannot count them."""

GROUP_LIMITS = {"": "memory.max", "memory": "memory.limit_in_bytes"}
"""Files with the limit of a control group, by its controllers."""

Trace = Callable[[Trainer], jax.stages.Traced]


def check_memory(trainer: Trainer, trace: Trace | None = None) -> str:
    """Compile a run's programs and describe in a line how much memory it will need of a device.

    Args:
        trainer: of the run.
        trace: what traces an iteration for a trainer, where that is one of many runs at once
            (default: of `trainer.update`).

    Raises:
        ConfigError: if it is more than `memory_limit`, or than the device has; with settings that
            fit, or the smallest possible run.
    """
    trace = trace or _trace_update
    needed = _bytes_needed(trace, None, trainer)
    given = trainer.config.memory_limit
    limit = device_memory() if given is None else int(given * GIB)
    if needed <= limit:
        return f"memory: about {gib(needed)} of {gib(limit)} a device"
    fitting, least = _fit(trainer, limit, needed, partial(_bytes_needed, trace, UNOPTIMISED))
    flags = _changed_flags(trainer.config, fitting.config)
    source = "a device's memory" if given is None else "memory_limit"
    shown = gib(limit) if given is None else f"{given:g} GiB"
    if least > limit:
        raise ConfigError(
            f"{source}, {shown}, is below the smallest possible run, {gib(least)} "
            f"({flags or 'this one'})"
        )
    raise ConfigError(
        f"this run needs about {gib(needed)} of a device, over {source}, {shown}. "
        f"Fits: {flags} ({gib(least)})"
    )


def check_evaluation(
    agent: AgentOrMaker, env: TaskDistribution, horizon: int, n_tasks: int, batch_size: int | None
) -> None:
    """Compile an evaluation, which `evaluate_agent` then does not do again, and foresee its memory.

    Raises:
        ConfigError: if it is more than a device has; with a batch size that fits, if there is one.
    """

    def need(batch_size: int | None, options: dict[str, Any] | None = UNOPTIMISED) -> int:
        traced = trace_evaluation(agent, env, horizon, n_tasks, batch_size)
        return math.ceil(BUFFERS_OF_XLA * _reserved(traced, options)[0])

    needed, limit = need(batch_size, None), device_memory()
    if needed <= limit:
        return
    size = batch_size or n_tasks // devices.choose_local({"n_tasks": n_tasks}).count
    while size > 1 and need(size := size // 2) > limit:
        pass
    fitting = need(size)
    advice = f"Fits: --batch-size {size} ({gib(fitting)})" if fitting <= limit else "None fits"
    raise ConfigError(
        f"this evaluation needs about {gib(needed)} of a device, over a device's memory, "
        f"{gib(limit)}. {advice}"
    )


def gib(size: int) -> str:
    """Bytes as GiB to three digits, rounded up: a limit of as much is enough."""
    digit = 10.0 ** (math.floor(math.log10(size / GIB)) - 2)
    return f"{math.ceil(size / GIB / digit) * digit:.3g} GiB"


# --- what the compiler says ---------------------------------------------------------------------


def _bytes_needed(trace: Trace, options: dict[str, Any] | None, trainer: Trainer) -> int:
    """Bytes of a device during an iteration or a validation, whichever needs more.

    `options` are the compiler's.
    """
    needed, held = _reserved(trace(trainer), options)
    playing, validating = _at_once(trainer)
    if validating > playing:
        needed = max(needed, held + _reserved(_trace_validation(trainer), options)[0])
    return math.ceil(BUFFERS_OF_XLA * needed)


def _reserved(traced: jax.stages.Traced, options: dict[str, Any] | None) -> tuple[int, int]:
    """Bytes that a program reserves on each of its devices, and those of its arguments alone.

    Not the `peak_memory_in_bytes` that there is as well: on CPU it leaves temporaries out.
    """
    if (entries := _largest_array(traced.jaxpr)) > MOST_ENTRIES:
        return entries, 0
    analysis: Any = traced.lower().compile(options).memory_analysis()
    arguments = analysis.argument_size_in_bytes
    own = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return arguments + own + analysis.temp_size_in_bytes, arguments


def _largest_array(jaxpr: Any) -> int:
    """Entries of the largest array in a traced program."""
    sizes = [getattr(var.aval, "size", 0) for eqn in jaxpr.eqns for var in eqn.outvars]
    inner = [called for eqn in jaxpr.eqns for called in core.jaxprs_in_params(eqn.params)]
    return max([0, *sizes, *map(_largest_array, inner)])


def _trace_update(trainer: Trainer) -> jax.stages.Traced:
    return Trainer.update.trace(trainer, _state(trainer))


def _trace_validation(trainer: Trainer) -> jax.stages.Traced:
    config = trainer.config
    agent = jax.eval_shape(trainer.agent, _state(trainer))
    return trace_evaluation(
        agent, trainer.env, config.horizon, config.validation_tasks, config.rollout_chunk
    )


def _state(trainer: Trainer) -> Any:
    """The shapes of a training state, as the devices have it."""
    shapes = jax.eval_shape(lambda: trainer.init(jax.random.key(0)))
    return trainer.settings.devices.replicate(shapes)


def _at_once(trainer: Trainer) -> tuple[int, int]:
    """Tasks that a device plays at a time in an iteration, and in a validation."""
    own = trainer.n_tasks // trainer.settings.devices.count
    most = trainer.config.rollout_chunk or max(own, _validated(trainer))
    return min(own, most), min(_validated(trainer), most)


def _validated(trainer: Trainer) -> int:
    """A device's share of the validation tasks."""
    if not trainer.config.validate_every:
        return 0
    n_tasks = trainer.config.validation_tasks
    return n_tasks // devices.choose_local({"n_tasks": n_tasks}).count


# --- the limit ----------------------------------------------------------------------------------


def device_memory() -> int:
    """Bytes that a device of this process may use.

    The cores of a CPU share what the process may use and does not need for itself: so far it has
    imported, traced and compiled.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    unit = 1 if sys.platform == "darwin" else 1024
    itself = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(1, process_memory() - itself) // jax.local_device_count()


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


# --- settings that fit --------------------------------------------------------------------------


def _fit(
    trainer: Trainer, limit: int, needed: int, need: Callable[[Trainer], int]
) -> tuple[Trainer, int]:
    """A smaller run and the bytes that it needs: one within the limit, or else the smallest.

    Memory grows with sizes as the largest of a few straight lines, hence never above the chord from
    the smallest run to the given one: what the chord gives should fit.
    """
    names, least = _to_shrink(trainer, limit, need)
    if least > limit:
        return _shrunk(trainer, names, 0.0), least
    share = (limit - least) / (needed - least)
    while (size := need(fitting := _shrunk(trainer, names, share))) > limit:
        share /= 2
    return fitting, size


def _to_shrink(
    trainer: Trainer, limit: int, need: Callable[[Trainer], int]
) -> tuple[tuple[str, ...], int]:
    """What must be smaller, one chunk if that can do, and the bytes that are needed at least."""

    def least(names: tuple[str, ...]) -> int:
        return need(_shrunk(trainer, names, 0.0))

    if (with_chunks := least(CHUNKS)) > limit:
        return SIZES, least(SIZES)
    for chunk in CHUNKS:
        if (with_chunk := least((chunk,))) <= limit:
            return (chunk,), with_chunk
    return CHUNKS, with_chunks


def _shrunk(trainer: Trainer, names: tuple[str, ...], share: float) -> Trainer:
    """The trainer with about this share of what `names` say, but no less than is possible."""
    played, learned = int(share * max(_at_once(trainer))), int(share * _per_gradient(trainer))
    if "n_tasks" in names:
        trainer = _with_fewer_tasks(trainer, int(share * trainer.n_tasks))
    count = trainer.settings.devices.count
    own, own_minibatch = trainer.n_tasks // count, trainer.config.tasks_per_minibatch // count
    chunks = {
        "rollout_chunk": _chunk(played, own, max(own, _validated(trainer))),
        "gradient_chunk": _chunk(learned, own_minibatch, own_minibatch),
    }
    return _with(trainer, **{name: chunks[name] for name in CHUNKS if name in names})


def _chunk(wanted: int, share: int, most: int) -> int | None:
    """About `wanted` tasks at a time; it must divide a device's share unless it is larger.

    None if it is no less than `most`, all that there are.
    """
    wanted = max(1, wanted)
    if wanted >= most:
        return None
    return wanted if wanted >= share else largest_divisor(share, wanted)


def _per_gradient(trainer: Trainer) -> int:
    """Tasks that a device backpropagates through at a time."""
    settings = trainer.settings
    own = trainer.config.tasks_per_minibatch // settings.devices.count
    return largest_divisor(own, settings.tasks_at_a_time(settings.actor, trainer.config.horizon))


def _with_fewer_tasks(trainer: Trainer, wanted: int) -> Trainer:
    """At most `wanted` tasks, without chunks; minibatches keep their size if one is left."""
    config, size = trainer.config, trainer.config.tasks_per_minibatch
    unit = size if wanted >= size else trainer.settings.devices.count
    n_tasks = unit * max(1, wanted // unit)
    changes: dict[str, Any] = {"n_tasks": n_tasks} | dict.fromkeys(CHUNKS)
    if config.minibatch_tasks is None:
        changes["minibatches"] = max(1, n_tasks // size)
    return _with(trainer, **changes)


def _with(trainer: Trainer, **changes: Any) -> Trainer:
    """The trainer with other values in its config."""
    config = dataclasses.replace(trainer.config, **changes)
    return make_trainer(config, trainer.env, trainer.learner, trainer.settings.actor.memory)


def _changed_flags(before: Config, after: Config) -> str:
    """The flags that lead from one config to the other."""
    names = ("n_tasks", "minibatches", *CHUNKS)
    changed = {name: getattr(after, name) for name in names}
    return " ".join(
        f"--{name.replace('_', '-')} {value}"
        for name, value in changed.items()
        if value is not None and value != getattr(before, name)
    )
