"""Whether calls depend on their arguments alone: on the key and the task, and not on the past."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from rl3jax.env_check.findings import EnvFinding
from rl3jax.env_check.probe import Play, Probe

MORE_TASKS = 256
"""Tasks to look through for two that differ."""
TOLERANCE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}
"""Of floats that are to be equal, as programs compiled on their own give them."""


def check_compiled_once(probe: Probe) -> Iterator[EnvFinding]:
    """Sampling a task, a reset and steps compile once, for all tasks; no key is used twice."""
    traces: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., Any]:
        method = probe.method(name)

        def traced(*args: Any) -> Any:
            traces[name] += 1
            return method(*args)

        compiled = probe.compiled(traced)
        return lambda *args: probe.call(name, compiled, *args)

    sample_task, reset, step = map(counted, ("sample_task", "reset", "step"))
    action = probe.random_action(jax.random.key(0))
    num_steps = 2
    with jax.debug_key_reuse(True):
        for key in probe.keys(2):
            key_task, key_reset, *step_keys = jax.random.split(key, 2 + num_steps)
            task = sample_task(key_task)
            _, state = reset(key_reset, task)
            types = [_types(state)]
            for key_step in step_keys:
                _, state, *_ = step(key_step, state, action, task)
                types.append(_types(state))
    for name, count in traces.items():
        if count > 1:
            changed = f"; the state's {_changed(types)}" if _changed(types) else ""
            yield EnvFinding(
                "recompilation",
                f"{name} was compiled {count} times for two tasks and {num_steps} steps{changed}",
                "return arrays of the same dtype everywhere, with jnp.int32(0) in place of a bare "
                "0, and keep numbers that differ between tasks out of static fields",
            )


def _types(tree: Any) -> dict[str, str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): _type(leaf) for path, leaf in leaves}


def _type(leaf: Any) -> str:
    aval = jax.typeof(leaf)
    return f"{'weak ' if getattr(aval, 'weak_type', False) else ''}{aval.dtype}{list(aval.shape)}"


def _changed(types: list[dict[str, str]]) -> str:
    """The first type in which a step's state is not like a reset's."""
    for name, first in types[0].items():
        for later in types[1:]:
            if later.get(name) != first:
                return f"{name} is {first} after a reset and {later.get(name)} after a step"
    return ""


def check_determinism(probe: Probe) -> Iterator[EnvFinding]:
    """The same keys give the same, from one program and from one made anew."""
    first, again, *anew = (_as_numpy(play) for play in probe.replays)
    host_fix = "draw with jax.random from the key that the method is given, never with numpy.random"
    if difference := _where_unequal(first, again):
        message = f"the same program gives another {difference} for the same key"
        yield EnvFinding("determinism", message, host_fix)
    elif anew and (difference := _where_unequal(first, *anew)):
        yield EnvFinding(
            "determinism",
            f"a program made anew gives another {difference} for the same key: something random or "
            "counted in Python was compiled into it",
            host_fix + " or random, and keep no counters",
        )
    if not probe.is_tabular:
        return
    features = probe.call("state_features", lambda: np.asarray(probe.env.state_features))
    if not np.array_equal(features, probe.features):
        message = "state_features differs from one access to the next"
        yield EnvFinding("determinism", message, "make it a function of the options alone")


def _as_numpy(tree: Any) -> Any:
    """The tree as numpy arrays, with keys as their data."""

    def convert(x: Any) -> np.ndarray:
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return jax.tree.map(convert, tree)


def _where_unequal(left: Play, right: Play) -> str:
    """The name of the first leaf that differs, or nothing."""
    leaves = jax.tree_util.tree_flatten_with_path(left)[0]
    for (path, x), y in zip(leaves, jax.tree.leaves(right), strict=True):
        is_float = np.issubdtype(x.dtype, np.inexact)
        equal = np.allclose(x, y, equal_nan=True, **TOLERANCE) if is_float else (x == y).all()
        if not equal:
            return jax.tree_util.keystr(path).removeprefix(".")
    return ""


def check_tasks_differ(probe: Probe) -> Iterator[EnvFinding]:
    """Not all tasks are the same one."""
    if _vary(probe.play.task):
        return
    (key,) = probe.keys(1)
    keys = jax.random.split(key, MORE_TASKS)
    sample_tasks = probe.compiled(jax.vmap(probe.method("sample_task")))
    if not _vary(probe.call("sample_task", sample_tasks, keys)):
        yield EnvFinding(
            "task",
            f"{MORE_TASKS} keys give the same task",
            "draw all in which tasks differ from the key of sample_task",
        )


def _vary(tasks: Any) -> bool:
    return any((leaf[1:] != leaf[:1]).any() for leaf in jax.tree.leaves(_as_numpy(tasks)))


def check_state_holds_no_task(probe: Probe) -> Iterator[EnvFinding]:
    """The state has nothing that stays as it is through episodes, and differs between them.

    What is the same in all episodes of a task is of the task; what is not was drawn by a reset.
    """
    states = probe.play.walk.state
    leaves, structure = jax.tree_util.tree_flatten_with_path(states)
    ends = np.pad(probe.walk.done, ((0, 0), (1, 0)))[:, 1:]
    for i, (path, leaf) in enumerate(leaves):
        name = jax.tree_util.keystr(path)
        values = _as_numpy(leaf).reshape(*leaf.shape[:2], -1)
        changes = (values[:, 1:] != values[:, :-1]).any(axis=-1)
        if name in (".time", ".index") or (changes & ~ends).any():
            continue
        if not changes.any() and (values[1:] != values[:1]).any():
            yield EnvFinding(
                "task-in-state",
                f"the state's {name} is the same all through a task, and differs between tasks",
                "put it into the task, which every method is given, and let the state be where an "
                "episode is",
            )
        elif changes.any() and _matters(probe, jax.tree.unflatten(structure, _swapped(leaves, i))):
            yield EnvFinding(
                "task-changed",
                f"a reset draws the state's {name} anew, and steps depend on it",
                "draw it in sample_task: a task stays the same through all of its episodes",
            )


def _swapped(leaves: list[Any], i: int) -> list[Array]:
    """The states' leaves, the i-th from other episodes of the same task."""

    def reverse(x: Array) -> Array:
        return x[:, ::-1]

    return [reverse(leaf) if j == i else leaf for j, (_, leaf) in enumerate(leaves)]


def _matters(probe: Probe, swapped: Any) -> bool:
    """Whether steps of the walks come out differently from the states `swapped`."""
    step = probe.method("step")

    def outcome(key: PRNGKeyArray, state: Any, action: Any, task: Any) -> Any:
        _, _, reward, terminated, truncated, info = step(key, state, action, task)
        return probe.env.entered_state(info), reward, terminated, truncated

    outcomes = probe.compiled(jax.vmap(jax.vmap(outcome, (0, 0, 0, None))))
    (key,) = probe.keys(1)
    walk, task = probe.play.walk, probe.play.task
    keys = jax.random.split(key, walk.reward.shape)
    plain, other = (
        outcomes(jax.random.clone(keys), jax.tree.map(lambda x: x[:, :-1], s), walk.action, task)
        for s in (walk.state, swapped)
    )
    return any(
        not np.array_equal(x, y) for x, y in zip(_as_numpy(plain), _as_numpy(other), strict=True)
    )


def check_observations(probe: Probe) -> Iterator[EnvFinding]:
    """Observations are the features of the state, which are what policies are shown."""
    walk = probe.walk
    pairs = [("an observation", walk.obs, walk.index)]
    if walk.final_obs is not None:
        pairs.append(('info["final_observation"]', walk.final_obs, walk.next_index))
    for name, obs, index in pairs:
        differs = ~np.isclose(obs, probe.features[index], **TOLERANCE).all(axis=-1)
        if differs.any():
            yield EnvFinding(
                "observation",
                f"{name} in state {index[differs][0]} is not the row of state_features: policies "
                "are shown the latter alone",
                "return state_features[index], and put what a policy should see into "
                "state_features",
            )
            return


def check_features(probe: Probe) -> Iterator[EnvFinding]:
    """A policy can tell all states apart."""
    _, first, groups = np.unique(probe.features, axis=0, return_index=True, return_inverse=True)
    alike = np.flatnonzero(first[groups.ravel()] != np.arange(probe.num_states))
    if len(alike):
        twin = first[groups.ravel()[alike[0]]]
        yield EnvFinding(
            "features",
            f"states {twin} and {alike[0]} have the same state_features: to a policy they look "
            "alike",
            "give each state a row of its own, unless policies should not tell them apart",
        )
