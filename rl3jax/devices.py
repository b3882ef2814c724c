"""Several devices as one: tasks are split over them, everything else is the same on each.

What runs `Devices.on_each` runs once on every device, on that device's share of the tasks, and
talks to the others only where it says so: by `Devices.mean` and `Devices.average`. The same program
serves the cores of a CPU, the GPUs of a machine and those of several machines.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rl3jax.checks import ConfigError, largest_divisor

AXIS = "rl3jax_devices"  # unlike that of any mesh of the user's
Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Devices:
    """The first `most` devices of all that JAX has; those of process 0 come first.

    Where the user has set a mesh, it is the user who splits work over devices, and one program
    does all of it. Methods below `split` are for use inside of a function that runs `on_each`.
    """

    most: int = 1

    @property
    def count(self) -> int:
        """How many share the work: all, or one in a mesh of the user's."""
        mesh = jax.sharding.get_abstract_mesh()
        return self.most if mesh.empty or AXIS in mesh.axis_names else 1

    @property
    def mesh(self) -> Mesh:
        """The devices in a row, by number."""
        return jax.make_mesh(
            (self.most,), (AXIS,), (AxisType.Auto,), devices=jax.devices()[: self.most]
        )

    def replicate(self, tree: Tree) -> Tree:
        """A copy of the arrays on every device; of shapes, what such arrays would be."""
        return self._put(tree, PartitionSpec())

    def deal(self, tree: Tree) -> Tree:
        """An equal part of the arrays' leading axis on every device, for what is `split`.

        Of shapes, what such arrays would be.
        """
        return self._put(tree, PartitionSpec(AXIS))

    def _put(self, tree: Tree, spec: PartitionSpec) -> Tree:
        if self.count == 1:
            return brought_here(tree)
        sharding = NamedSharding(self.mesh, spec)
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree)):
            return jax.tree.map(lambda leaf: leaf.update(sharding=sharding), tree)
        if sharding.is_fully_addressable:
            return jax.device_put(tree, sharding)
        return jax.jit(lambda tree: tree, out_shardings=sharding)(tree)  # all processes have it

    def on_each(self, function: Callable[..., Tree]) -> Callable[..., Tree]:
        """`function` run by every device on the same arguments; it must return the same on all."""
        if self.count == 1:
            return function
        same = PartitionSpec()
        return lambda *args: self._run(function, args, args, in_specs=same, out_specs=same)

    def split(self, function: Callable[..., Tree], num_shared: int = 0) -> Callable[..., Tree]:
        """`function` of pytrees of arrays `[n, ...]`, run by each device on its part of them.

        The first `num_shared` arguments are whole on every device.
        """
        if self.count == 1:
            return function
        whole, part = PartitionSpec(), PartitionSpec(AXIS)

        def split_function(*args: Any) -> Tree:
            in_specs = (whole,) * num_shared + (part,) * (len(args) - num_shared)
            own = (*args[:num_shared], *jax.eval_shape(self._first_share, args[num_shared:]))
            return self._run(function, args, own, in_specs=in_specs, out_specs=part)

        return split_function

    def _run(
        self, function: Callable[..., Tree], args: Any, own: Any, in_specs: Any, out_specs: Any
    ) -> Tree:
        """`function` of what each device has of `args`, in shape like `own`."""
        args = _brought(args, NamedSharding(self.mesh, PartitionSpec()), self.mesh.axis_names)
        return jax.shard_map(
            partial(_with_empty_arrays, function, own),
            mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False,
        )(*_without_empty_arrays(args))  # fmt: skip

    def _first_share(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda x: x[: len(x) // self.count], tree)

    def own(self, x: Array) -> Array:
        """This device's share of `x`, `[n / count, ...]` of `[n, ...]`."""
        if self.count == 1:
            return x
        return x.reshape(self.count, -1, *x.shape[1:])[self.index]

    @property
    def index(self) -> Int[ArrayLike, ""]:
        """This device's number, from 0."""
        return 0 if self.count == 1 else jax.lax.axis_index(AXIS)

    def mean(self, x: Float[Array, "..."]) -> Float[Array, ""]:
        """Mean over all entries on all devices, of which each has as many."""
        return self.average(jnp.mean(x))

    def total(self, tree: Tree) -> Tree:
        """Sum over devices of each entry of a pytree of floats, in one exchange."""
        return jax.tree.map(lambda x: x * self.count, self.average(tree))

    def average(self, tree: Tree) -> Tree:
        """Mean over devices of each entry of a pytree of floats, in one exchange."""
        if self.count == 1:
            return tree
        flat, restore = ravel_pytree(tree)
        return restore(jax.lax.pmean(flat, AXIS))


def brought_here(tree: Tree) -> Tree:
    """The arrays of other meshes, such as that of a run, whole in the mesh that is set, if any."""
    mesh = jax.sharding.get_abstract_mesh()
    return tree if mesh.empty else _brought(tree, PartitionSpec(), mesh.axis_names)


def _brought(tree: Tree, spec: NamedSharding | PartitionSpec, here: tuple[Any, ...]) -> Tree:
    """The arrays of other meshes than that with these axes, where `spec` has them."""

    def bring(x: Any) -> Any:
        there = jax.typeof(x).sharding.mesh.axis_names if isinstance(x, jax.Array) else ()
        return jax.device_put(x, spec) if there not in ((), here) else x

    return jax.tree.map(bring, tree)


def _without_empty_arrays(args: Tree) -> Tree:
    """`None` for every array without entries; jaxlib 0.11.2 crashes where a shard_map takes one."""
    return jax.tree.map(lambda x: x if x.size else None, args)


def _with_empty_arrays(function: Callable[..., Tree], like: Any, *args: Any) -> Tree:
    """`function` of the arguments with arrays in place of `None`, of the shapes in `like`."""

    def whole(like: Any, given: Any) -> Any:
        return jnp.zeros(like.shape, like.dtype) if given is None else given

    return function(*jax.tree.map(whole, like, args))


def has_explicit_mesh(x: Array) -> bool:
    """Whether the type of an array says how it is split over devices."""
    return AxisType.Explicit in (jax.typeof(x).sharding.mesh.axis_types or ())


def replicated(x: Array) -> Array:
    """The array whole on every device, where its type says how it is split."""
    if not has_explicit_mesh(x):
        return x
    return jax.sharding.reshard(x, NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec()))


def replicated_when_batched(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """`function` of pytrees of arrays, of which vmap first makes arrays that are not split.

    Scans and gathers cannot be batched over an axis that is split by type.
    """
    batchable = custom_vmap(function)

    def batch(size: int, batched: list[Any], *args: Any) -> tuple[Tree, Any]:
        del size
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(batched))
        results = jax.vmap(function, in_axes=axes)(*jax.tree.map(replicated, args))
        return results, jax.tree.map(lambda _: True, results)

    batchable.def_vmap(batch)
    return batchable


def on_cpu() -> bool:
    """Whether computations run on CPU unless told otherwise."""
    return jax.default_backend() == "cpu"


def has_flash_attention() -> bool:
    """Whether cuDNN's fused attention runs here: on NVIDIA GPUs, from Ampere on."""
    if jax.default_backend() != "gpu":
        return False
    capability = str(getattr(jax.devices()[0], "compute_capability", ""))  # "9.0"; AMD's: "gfx942"
    generation = capability.partition(".")[0]
    return generation.isdigit() and int(generation) >= 8


def choose_local(divides: dict[str, int]) -> Devices:
    """As many devices of this process as can share the work evenly."""
    return Devices(largest_divisor(math.gcd(*divides.values()), jax.local_device_count()))


def choose(wanted: int | None, divides: dict[str, int]) -> Devices:
    """As many devices as are wanted, or else as there are and can share the work evenly.

    Args:
        wanted: number of devices, or None.
        divides: what must divide evenly over the devices, by name.

    Raises:
        ConfigError: if there are fewer than wanted, or they cannot share evenly.
    """
    available = jax.device_count()
    shareable = math.gcd(*divides.values())
    if wanted is None and jax.process_count() == 1:
        return Devices(largest_divisor(shareable, available))
    count = available if wanted is None else wanted
    if count > available:
        raise ConfigError(f"devices must be at most {available}, all that there are; not {count}")
    if jax.process_count() > 1 and count != available:
        raise ConfigError(f"devices must be {available}, those of all processes; not {count}")
    for name, size in divides.items():
        if size % count:
            allowed = [n for n in range(1, available + 1) if shareable % n == 0]
            raise ConfigError(
                f"devices must divide {name} ({size}), which {count} does not; "
                f"these do: {', '.join(map(str, allowed))}"
            )
    return Devices(count)
