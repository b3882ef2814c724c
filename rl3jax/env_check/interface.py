"""Whether an environment has the interface: its class, its sizes, and what its methods return.

Nothing is compiled here: methods are traced for their shapes and dtypes.
"""

import copy
import dataclasses
import inspect
import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rl3jax.env_check.findings import EnvFinding
from rl3jax.env_check.probe import Probe
from rl3jax.envs import TaskDistribution

KINDS = {
    "an integer": jnp.integer,
    "bool": jnp.bool_,
    "a float": jnp.floating,
    "a number": jnp.number,
}
"""Kinds of numbers, and what is of them."""

TRACES = 4
"""Times that `sample_task` is traced to see whether tasks are all of one structure."""


# --- the object itself ---


def check_class(probe: Probe) -> Iterator[EnvFinding]:
    """A frozen dataclass that hashes, and is equal, by all of its fields."""
    env = probe.env
    frozen = "write the class as @dataclass(frozen=True) that extends rl3jax.Environment"
    if inspect.isclass(env):
        yield EnvFinding("class", f"{env.__name__} is a class", "give an instance of it")
        return
    if not isinstance(env, TaskDistribution):
        yield EnvFinding("class", f"{type(env).__name__} is not an rl3jax.Environment", frozen)
        return
    if not getattr(getattr(env, "__dataclass_params__", None), "frozen", False):
        yield EnvFinding("class", f"{type(env).__name__} is not a frozen dataclass", frozen)
        return
    yield from _check_equality(probe)


def _check_equality(probe: Probe) -> Iterator[EnvFinding]:
    env = probe.env
    try:
        hash(env)
    except TypeError as error:
        yield EnvFinding(
            "class",
            f"{type(env).__name__} has no hash: {error}",
            "keep options in hashable fields: numbers, strings, tuples; make arrays of them in the "
            "methods",
        )
        return
    for field in dataclasses.fields(env):
        if not field.compare or field.hash is False:
            yield EnvFinding(
                "class",
                f"field {field.name!r} is left out when environments are compared, so those that "
                "differ in it share compiled programs",
                "leave out compare=False and hash=False",
            )
    twin = probe.call("a copy", copy.deepcopy, env)
    if twin != env or hash(twin) != hash(env):
        yield EnvFinding(
            "recompilation",
            f"a copy of the environment is not equal to it, or hashes differently, so each "
            f"instance of {type(env).__name__} compiles all programs anew",
            "let @dataclass(frozen=True) define equality and hash, from fields equal by value",
        )


def check_sizes(probe: Probe) -> Iterator[EnvFinding]:
    """Sizes are sizes, and what is listed by state has a row for each."""
    for name in ("num_states", "num_actions", "task_horizon", "max_successors"):
        may_be_none = name in ("task_horizon", "max_successors")
        value = probe.get(name)
        if not (is_size(value) or (may_be_none and value is None)):
            allowed = "a whole number of at least 1" + (" or None" if may_be_none else "")
            message = f"{name} is {value!r}, not {allowed}"
            fix = f"define {name} as a field, a class attribute or a property with such a value"
            yield EnvFinding("size", message, fix)
            return
    yield from _check_rows(probe)


def _check_rows(probe: Probe) -> Iterator[EnvFinding]:
    """Features and coordinates are finite matrices with a row for each state."""
    for name in ("state_features", "state_coordinates"):
        value = probe.get(name)
        if value is None and name == "state_coordinates":
            continue
        value = probe.call(name, np.asarray, value)
        if value.ndim != 2 or len(value) != probe.num_states:
            yield EnvFinding(
                "size",
                f"{name} has shape {value.shape}, num_states is {probe.num_states}",
                f"make {name} a matrix with a row for each state",
            )
        elif not (np.issubdtype(value.dtype, np.number) and np.isfinite(value).all()):
            message = f"{name} holds what is no finite number"
            yield EnvFinding("size", message, f"make all of {name} finite numbers")
        elif name == "state_features" and not np.issubdtype(value.dtype, np.floating):
            message = f"state_features is of {value.dtype}"
            yield EnvFinding("type", message, "make it float32, with jnp.asarray(…, jnp.float32)")


def is_size(value: Any) -> bool:
    """Whether it is a whole number of at least 1."""
    try:
        return not isinstance(value, bool) and operator.index(value) >= 1
    except TypeError:
        return False


# --- what methods return ---


def check_sample_task(probe: Probe) -> Iterator[EnvFinding]:
    """Tasks are pytrees of arrays, all of one structure, however they are drawn."""
    layout = _layout(probe.task)
    for _ in range(TRACES):
        again = _layout(probe.shape_of("sample_task", probe.key))
        if again != layout:
            yield EnvFinding(
                "task",
                f"tasks differ in structure, shape or dtype: {_difference(layout, again)}",
                "give every task the same arrays, padded to the largest if need be",
            )
            return


def check_start_index(probe: Probe) -> Iterator[EnvFinding]:
    """An integer."""
    if not probe.overrides("reset", "reset_env"):
        start = probe.shape_of("start_index", probe.key, probe.task)
        yield from expect("start_index", start, (), "an integer")


def check_transition(probe: Probe) -> Iterator[EnvFinding]:
    """A `Transition` of an integer, a number and a bool."""
    if probe.overrides("step", "step_env"):
        return
    drawn = probe.shape_of("transition", probe.key, probe.scalar, probe.scalar, probe.task)
    for name, kind in (
        ("next_state_index", "an integer"),
        ("reward", "a number"),
        ("terminated", "bool"),
    ):
        if not hasattr(drawn, name):
            message = f"transition returns a {type(drawn).__name__} without {name}"
            yield EnvFinding("type", message, "return an rl3jax.Transition")
            return
        yield from expect(f"{name} of transition", getattr(drawn, name), (), kind)


def check_state_drift(probe: Probe) -> Iterator[EnvFinding]:
    """The state after a step is like that after a reset, so that steps can be scanned."""
    if probe.overrides("step"):
        reset, step = "reset", "step"
    else:
        reset, step = "reset_env", "step_env"
    start = probe.shape_of(reset, probe.key, probe.task)
    yield from _expect_tuple(reset, start, ("observation", "state"))
    if not (isinstance(start, tuple) and len(start) == 2):
        return
    after = probe.shape_of(step, probe.key, start[1], probe.action, probe.task)
    if not (isinstance(after, tuple) and len(after) in (5, 6)):
        return
    for what, i in (("state", 1), ("observation", 0)):
        before_layout, after_layout = _layout(start[i]), _layout(after[i])
        if before_layout != after_layout:
            yield EnvFinding(
                "drift",
                f"the {what} of {step} is not like that of {reset}: "
                f"{_difference(before_layout, after_layout)}",
                "cast both to the same shapes and dtypes, such as jnp.asarray(…, jnp.int32)",
            )


def check_reset_and_step(probe: Probe) -> Iterator[EnvFinding]:
    """What gymnax's interface returns, which rollouts are made of."""
    obs, state = probe.shape_of("reset", probe.key, probe.task)
    features = jnp.asarray(probe.features)
    index = probe.shape_of("state_index", state)
    yield from expect("state_index", index, (), "an integer")
    stepped = probe.shape_of("step", probe.key, state, probe.action, probe.task)
    yield from expect_step(stepped)
    if not is_step(stepped):
        return
    for where, observed in (("reset", obs), ("step", stepped[0])):
        yield from expect(f"observation of {where}", observed, features.shape[1:], "a float")
    info = stepped[5]
    if not isinstance(info, dict) or "next_state_index" not in info:
        yield EnvFinding(
            "type",
            'info of step has no "next_state_index"',
            "let step_env put the index of the state just entered there, before any restart",
        )
        return
    yield from expect("next_state_index of info", info["next_state_index"], (), "an integer")


STEP_PARTS = ("observation", "state", "reward", "terminated", "truncated", "info")


def is_step(stepped: Any) -> bool:
    """Whether it has the parts that gymnax's `step` returns."""
    return isinstance(stepped, tuple) and len(stepped) == len(STEP_PARTS)


def expect_step(stepped: Any) -> Iterator[EnvFinding]:
    """Findings unless it is what gymnax's `step` returns."""
    yield from _expect_tuple("step", stepped, STEP_PARTS)
    if is_step(stepped):
        yield from expect("reward of step", stepped[2], (), "a number")
        yield from expect("terminated of step", stepped[3], (), "bool")
        yield from expect("truncated of step", stepped[4], (), "bool")


def check_tabular(probe: Probe) -> Iterator[EnvFinding]:
    """A `TabularModel` of the sizes that the environment has."""
    model = probe.shape_of("tabular", probe.task)
    S, A = probe.num_states, probe.num_actions
    for name, shape, kind in (
        ("transition_probs", (S, A, S), "a float"),
        ("mean_reward", (S, A), "a float"),
        ("start", (S,), "a float"),
        ("terminal", (S,), "bool"),
    ):
        if not hasattr(model, name):
            message = f"tabular returns a {type(model).__name__} without {name}"
            yield EnvFinding("type", message, "return an rl3jax.TabularModel")
            return
        yield from expect(f"{name} of tabular", getattr(model, name), shape, kind)


def check_vmap(probe: Probe) -> Iterator[EnvFinding]:
    """Methods can be batched over tasks."""
    _, state = probe.shape_of("reset", probe.key, probe.task)
    tabular = (("tabular", (probe.task,)),) if probe.has_model else ()
    for name, args in (
        ("sample_task", (probe.key,)),
        ("reset", (probe.key, probe.task)),
        ("step", (probe.key, state, probe.action, probe.task)),
        *tabular,
    ):
        batched = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), args)
        vmapped = jax.vmap(probe.method(name))
        probe.call(f"jax.vmap of {name}", jax.eval_shape, vmapped, *batched)
    yield from ()


def check_default_task(probe: Probe) -> Iterator[EnvFinding]:
    """Callers that give no task get one like the others."""
    layout = _layout(probe.call("default_params", jax.eval_shape, lambda: probe.env.default_params))
    if layout != _layout(probe.task):
        yield EnvFinding(
            "task",
            f"default_params is not like a task: {_difference(_layout(probe.task), layout)}",
            "let default_params return a task, or leave it to the base class",
        )


def _expect_tuple(name: str, value: Any, parts: tuple[str, ...]) -> Iterator[EnvFinding]:
    if not (isinstance(value, tuple) and len(value) == len(parts)):
        size = f" of {len(value)}" if isinstance(value, tuple) else ""
        message = f"{name} returns a {type(value).__name__}{size}, not {len(parts)} values"
        yield EnvFinding("type", message, f"return {', '.join(parts)}")


def expect(name: str, value: Any, shape: tuple[int, ...], kind: str) -> Iterator[EnvFinding]:
    """A finding unless the array is of the shape, and of a dtype of the kind."""
    is_number = kind == "a number" and value.dtype == jnp.bool_  # 0 or 1
    if value.shape == shape and (jnp.issubdtype(value.dtype, KINDS[kind]) or is_number):
        return
    yield EnvFinding(
        "type",
        f"{name} has shape {value.shape} and dtype {value.dtype}, not {shape} and {kind}",
        "return a scalar of that dtype" if shape == () else f"return an array of shape {shape}",
    )


def _layout(tree: Any) -> dict[str, str]:
    """The leaves' shapes and dtypes by where they are, and the structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    described = {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves
    }
    return {**described, "structure": str(structure)}


def _difference(left: dict[str, str], right: dict[str, str]) -> str:
    """The first in which two layouts differ."""
    name = next(n for n in (*left, *right) if left.get(n) != right.get(n))
    return f"{name or 'it'} is {left.get(name, 'missing')} or {right.get(name, 'missing')}"
