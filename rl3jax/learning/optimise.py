"""Optimisation of learned parts: epochs of minibatches of whole meta-episodes, over devices.

A part is whatever has parameters and a loss; `optimise` trains however many of them on one batch.
It knows neither PPO nor networks. Time is axis 0, tasks are axis 1.
"""

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rl3jax.checks import largest_divisor
from rl3jax.devices import Devices

Batch: TypeAlias = Any
"""A pytree of arrays `[T, B, ...]`."""
Diagnostics: TypeAlias = dict[str, Float[Array, "..."]]
"""Scalars by name."""
Optimiser: TypeAlias = Any
"""An `optax.GradientTransformation`."""


def optax() -> Any:
    """The package, imported when it is used: that takes a third of the time of all our own."""
    with jax.ensure_compile_time_eval():  # that may be in the middle of a trace
        return importlib.import_module("optax")


@struct.dataclass
class Learned:
    """A part's parameters with their optimiser's state."""

    params: Any
    opt_state: Any


class Part(NamedTuple):
    """How a part is trained.

    Attributes:
        loss: from parameters, a batch and a key, which is consumed, to the loss and what else there
            is to say of it: means over the batch's meta-episodes.
        optimiser: of its parameters.
        tasks_at_a_time: meta-episodes that a device backpropagates through together, at most.
        prepare: what is done to a minibatch before its loss is taken; it may look over all devices.
        goes_on: from parameters and the whole batch, after each epoch, to whether the part trains
            in the next one too; `None`: always.
    """

    loss: Callable[[Any, Batch, PRNGKeyArray], tuple[Float[Array, ""], Diagnostics]]
    optimiser: Optimiser
    tasks_at_a_time: int
    prepare: Callable[[Batch], Batch] = lambda batch: batch
    goes_on: Callable[[Any, Batch], Bool[Array, ""]] | None = None


class Passes(NamedTuple):
    """How often, and how many at a time, the meta-episodes of a batch are trained on.

    Attributes:
        epochs: passes over the batch.
        tasks_per_minibatch: on all devices together.
        devices: share the tasks; a batch is one device's share.
    """

    epochs: int
    tasks_per_minibatch: int
    devices: Devices = Devices()

    @property
    def own_tasks_per_minibatch(self) -> int:
        """Tasks of a minibatch on one device."""
        return self.tasks_per_minibatch // self.devices.count


def optimise(
    parts: Mapping[str, Part],
    learned: Mapping[str, Learned],
    batch: Batch,
    passes: Passes,
    key: PRNGKeyArray,
) -> tuple[dict[str, Learned], Diagnostics]:
    """All epochs of one iteration, of all parts side by side.

    Args:
        parts: by name.
        learned: likewise.
        batch: what all of them learn from.
        passes: epochs and minibatches.
        key: decides the order of tasks, and chance in losses; consumed.

    Returns:
        The parts after it, and diagnostics: `{name}_loss`, `{name}_grad_norm`, of a part that may
        stop also `{name}_epochs`, and what losses say; means over those minibatches of the
        iteration in which the part was trained.
    """
    n_tasks = jax.tree.leaves(batch)[0].shape[1]

    def epoch(carry: Any, index: Int[Array, ""]) -> tuple[Any, Any]:
        learned, trains = carry
        key_order, key_losses = jax.random.split(jax.random.fold_in(key, index))

        def step(learned: Any, minibatch: Any) -> tuple[Any, Any]:
            number, tasks = minibatch
            own = jax.tree.map(lambda x: x[:, tasks], batch)
            keys = jax.random.split(jax.random.fold_in(key_losses, number), len(parts))
            trained = {
                name: _train_if(trains[name], part, passes, learned[name], own, keys[i])
                for i, (name, part) in enumerate(parts.items())
            }
            after = {name: one for name, (one, _) in trained.items()}
            return after, {name: stats for name, (_, stats) in trained.items()}

        order = shuffled(passes, n_tasks, key_order)
        learned, stats = _over_minibatches(step, learned, order, passes.own_tasks_per_minibatch)
        trains = {
            name: _goes_on(part, learned[name].params, batch, trains[name])
            for name, part in parts.items()
        }
        return (learned, trains), stats

    trains = {n: None if part.goes_on is None else jnp.bool_(True) for n, part in parts.items()}
    (after, _), stats = jax.lax.scan(epoch, (dict(learned), trains), jnp.arange(passes.epochs))
    return after, _diagnostics(parts, stats)


def shuffled(passes: Passes, own_tasks: int, key: PRNGKeyArray) -> Int[Array, " own_tasks"]:
    """A device's tasks in the order in which an epoch trains on them.

    Neighbouring tasks form groups, of which every minibatch takes equally many tasks, at random. So
    every device has its share of every minibatch at hand, whatever the number of devices: no task's
    data ever travel. Tasks are independent, hence such minibatches are as random as any.
    """
    n_tasks, size = own_tasks * passes.devices.count, passes.tasks_per_minibatch
    num_groups = math.gcd(size, n_tasks % size)  # as many as possible: `size`, if that divides
    order = jnp.argsort(jax.random.uniform(key, (num_groups, n_tasks // num_groups)), axis=1)
    own = passes.devices.own(order)
    first = jnp.arange(0, own_tasks, n_tasks // num_groups)
    return (own + first[:, None]).T.ravel()


def _over_minibatches(
    step: Any, learned: Any, order: Int[Array, " B"], size: int
) -> tuple[Any, Any]:
    """`step` over the tasks in `order`, `size` at a time; the last time there may be fewer."""
    n_whole = len(order) // size
    whole = order[: n_whole * size].reshape(-1, size)
    learned, stats = jax.lax.scan(step, learned, (jnp.arange(n_whole), whole))
    if n_whole * size < len(order):
        learned, rest = step(learned, (jnp.int32(n_whole), order[n_whole * size :]))
        stats = jax.tree.map(jnp.append, stats, rest)
    return learned, stats


# --- one part -----------------------------------------------------------------------------------


def _train_if(
    trains: Bool[Array, ""] | None,
    part: Part,
    passes: Passes,
    learned: Learned,
    minibatch: Batch,
    key: PRNGKeyArray,
) -> tuple[Learned, Diagnostics]:
    """One step of a part, unless it has stopped; its statistics are then 0."""
    if trains is None:
        return _train(part, passes, learned, minibatch, key)
    # As data: the check of key reuse takes a condition under vmap for a second use of a key.
    key_data, impl = jax.random.key_data(key), jax.random.key_impl(key)

    def train(learned: Learned, minibatch: Batch) -> tuple[Learned, Diagnostics]:
        key = jax.random.wrap_key_data(key_data, impl=impl)
        return _train(part, passes, learned, minibatch, key)

    _, stats = jax.eval_shape(train, learned, minibatch)

    def skip(learned: Learned, minibatch: Batch) -> tuple[Learned, Diagnostics]:
        del minibatch
        return learned, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), stats)

    return jax.lax.cond(trains, train, skip, learned, minibatch)


def _train(
    part: Part, passes: Passes, learned: Learned, minibatch: Batch, key: PRNGKeyArray
) -> tuple[Learned, Diagnostics]:
    (loss, said), grads = _gradient(part, passes, learned.params, part.prepare(minibatch), key)
    updates, opt_state = part.optimiser.update(grads, learned.opt_state, learned.params)
    stats = {"loss": loss, "grad_norm": optax().tree.norm(grads), "trained": jnp.ones(()), **said}
    return Learned(optax().apply_updates(learned.params, updates), opt_state), stats


def _gradient(part: Part, passes: Passes, params: Any, minibatch: Batch, key: PRNGKeyArray) -> Any:
    """Value (with diagnostics) and gradient by `params` of a mean over the minibatch.

    It is the average of those of equal parts: over chunks of a device's tasks, over devices.
    """
    n_tasks = jax.tree.leaves(minibatch)[0].shape[1]
    chunk = largest_divisor(n_tasks, min(part.tasks_at_a_time, n_tasks))
    gradient = jax.value_and_grad(part.loss, has_aux=True)
    key = jax.random.fold_in(key, passes.devices.index)

    def add(total: Any, first: Int[Array, ""]) -> tuple[Any, None]:
        own = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, first, chunk, axis=1), minibatch
        )
        part_of_it = gradient(params, own, jax.random.fold_in(key, first))
        return jax.tree.map(jnp.add, total, part_of_it), None

    if chunk == n_tasks:
        return passes.devices.average(gradient(params, minibatch, key))
    shapes = jax.eval_shape(gradient, params, minibatch, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, jnp.arange(0, n_tasks, chunk))
    mean = jax.tree.map(lambda x: x * (chunk / n_tasks), total)
    return passes.devices.average(mean)


def _goes_on(
    part: Part, params: Any, batch: Batch, trains: Bool[Array, ""] | None
) -> Bool[Array, ""] | None:
    """Whether the part trains in the next epoch too."""
    if part.goes_on is None or trains is None:
        return None
    goes_on = part.goes_on
    return jax.lax.cond(trains, lambda: goes_on(params, batch), lambda: jnp.bool_(False))


def _diagnostics(parts: Mapping[str, Part], stats: Mapping[str, Diagnostics]) -> Diagnostics:
    """Means over `[epochs, minibatches]`; of a part that may stop, those in which it trained."""
    diagnostics: Diagnostics = {}
    for name, part in parts.items():
        of_part = dict(stats[name])
        trained = of_part.pop("trained")
        if part.goes_on is not None:
            diagnostics[f"{name}_epochs"] = jnp.sum(trained[:, 0])
        for quantity, x in of_part.items():
            said = f"{name}_{quantity}" if quantity in ("loss", "grad_norm") else quantity
            diagnostics[said] = jnp.sum(x * trained) / jnp.sum(trained)
    return diagnostics


def over_task_chunks(function: Any, size: int, *arrays: jax.Array) -> jax.Array:
    """`function` of `[T, B, ...]` arrays, `size` tasks at a time: bounds memory, same result."""
    n_tasks = arrays[0].shape[1]
    size = min(size, n_tasks)
    n_whole = n_tasks // size * size

    def chunk(first: Int[Array, ""]) -> jax.Array:
        return function(*(jax.lax.dynamic_slice_in_dim(x, first, size, axis=1) for x in arrays))

    result = jax.lax.map(chunk, jnp.arange(0, n_whole, size))
    result = jnp.moveaxis(result, 0, 1).reshape(arrays[0].shape[0], n_whole, *result.shape[3:])
    if n_whole < n_tasks:
        rest = function(*(x[:, n_whole:] for x in arrays))
        result = jnp.concatenate([result, rest], axis=1)
    return result
