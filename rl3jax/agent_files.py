"""Agents on disk: atomic to write, verified when read, nothing executed.

An agent is an archive (`agent.npz`): a readable `agent.json` with its static parts, and one array
a parameter. A static part is written as its class, `module:qualname`, and the fields that differ
from their defaults. Reading makes parts of rl3jax's and flax's classes alone, of modules that are
there anyway: it imports nothing, and calls nothing but these classes and flax's activations.
"""

import dataclasses
import importlib
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rl3jax.agent import PolicyAgent
from rl3jax.archive import Archive, named_leaves, open_archive, write_archive
from rl3jax.checks import check_choice, check_flag, shown
from rl3jax.envs import ScaledFeatures, StateFeatures, TabularFeatures
from rl3jax.files import FileError
from rl3jax.networks import NETWORKS, Memory, as_memory
from rl3jax.object_level import Features, ObjectLearner
from rl3jax.policy import (
    ActionDistribution,
    Belief,
    Field,
    Head,
    Network,
    ObservationLayout,
    fields_of,
)

AGENT_FILE = "agent.npz"
AGENT_FORMAT = "rl3jax-agent-2"
PRECISIONS = ("float32", "float64")
TRUSTED = ("rl3jax", "flax")
"""Packages whose classes are looked up by the name that an archive gives."""
PARTS = (nn.Module, ObjectLearner, ActionDistribution, Belief, Field)
"""Base classes of static parts."""
MOST_PARTS = 100
"""Of an agent, those of parts included: each takes time to be built."""
ACTIVATIONS = {
    f"flax.linen:{name}": value
    for name, value in vars(nn.activation).items()
    if callable(value) and value.__module__.startswith("jax")
}
"""Functions that a field may hold; others might do more than compute."""
FEATURES = {"tabular": TabularFeatures, "scaled": ScaledFeatures}


def save_agent(path: str | os.PathLike[str], agent: PolicyAgent) -> None:
    """Writes `agent` into the folder `path` (made if missing), replacing one that is there.

    Raises:
        TypeError: if the agent is no `PolicyAgent`, or a part has a field that is not None, a bool,
            number, string, tuple, part, or a function or class importable under its own name.
        ValueError: if it has more than `MOST_PARTS` parts.
    """
    if not isinstance(agent, PolicyAgent):
        raise TypeError(f"only a meta-trained policy can be saved, not {type(agent).__name__}")
    (features,) = (kind for kind, cls in FEATURES.items() if isinstance(agent.features, cls))
    header = {
        "format": AGENT_FORMAT,
        "memory": _describe(agent.network.memory),
        "head": _describe(agent.network.head),
        "learner": _describe(agent.learner),
        "distribution": _describe(agent.distribution),
        "belief": _describe(agent.belief),
        "layout": dataclasses.asdict(agent.layout),
        "features": features,
        "greedy": agent.greedy,
    }
    arrays = named_leaves(_arrays_of(agent))
    _check_extent(header, len(arrays))
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_archive(folder / AGENT_FILE, arrays, agent=header)


def load_agent(
    path: str | os.PathLike[str],
    network: nn.Module | None = None,
    learner: ObjectLearner | None = None,
) -> PolicyAgent:
    """The agent that `save_agent` wrote into the folder `path`.

    Args:
        path: the folder.
        network: the flax module that it was trained with, where that is code of one's own, which
            an archive must not import.
        learner: its object-level RL, likewise.

    Raises:
        FileError: if there is none, or the file is damaged or not ours, or a part of it is neither
            rl3jax's nor flax's and is not given.
        ConfigError: if the network given is no flax module.
    """
    file = Path(path) / AGENT_FILE
    if not file.exists():
        inside = Path(path) / "agent"
        hint = f"; did you mean {inside}?" if (inside / AGENT_FILE).exists() else ""
        raise FileError(f"{path} holds no agent (no {AGENT_FILE}){hint}")
    given: dict[str, Any] = {} if network is None else {"memory": as_memory(network)}
    given |= {} if learner is None else {"learner": learner}
    with open_archive(file) as archive:
        return _read_agent(archive, given)


def _arrays_of(agent: PolicyAgent) -> dict[str, Any]:
    return {
        "features": vars(agent.features),
        "learner": agent.learner_params,
        "belief": agent.belief_params,
        "params": agent.params,
    }


def _read_agent(archive: Archive, given: Mapping[str, Any]) -> PolicyAgent:
    header = {"belief": _describe(Belief())} | archive.header("agent")
    if header["format"] != AGENT_FORMAT:
        raise ValueError(f"format {header['format']!r}, this version reads {AGENT_FORMAT!r}")
    check_flag("greedy", header["greedy"])
    check_choice("features", header["features"], FEATURES)
    described = {name: value for name, value in header.items() if name not in given}
    _check_extent(described, len(archive))
    kinds = {
        "memory": Memory, "head": Head, "learner": ObjectLearner, "belief": Belief,
        "distribution": ActionDistribution,
    }  # fmt: skip
    parts = {
        name: given[name] if name in given else _rebuild(header[name], kind)
        for name, kind in kinds.items()
    }
    layout, learner = _layout(header["layout"]), parts["learner"]
    network = Network(parts["memory"], parts["head"])

    def blank(key: Any) -> PolicyAgent:
        key_network, key_learner, key_belief = jax.random.split(key, 3)
        return PolicyAgent(
            params=network.init(key_network, layout.size),
            features=_blank_features(header["features"], archive, layout, learner),
            learner_params=learner.init_params(key_learner),
            network=network,
            learner=learner,
            distribution=parts["distribution"],
            layout=layout,
            greedy=header["greedy"],
            belief=parts["belief"],
            belief_params=parts["belief"].init_params(key_belief, layout),
        )

    like = jax.eval_shape(blank, jax.random.key(0))
    _check_parts(like)
    wanted = named_leaves(_arrays_of(like))
    _, dtype = archive.shape_and_dtype(next(iter(wanted)))
    if dtype not in PRECISIONS:
        raise ValueError(f"parameters are {dtype}, not {' or '.join(PRECISIONS)}")
    arrays = archive.arrays({n: _like(x, dtype) for n, x in wanted.items()})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    # In the precision of this process, whichever it was saved in.
    precise = [jnp.asarray(arrays[name], x.dtype) for name, x in wanted.items()]
    tree = jax.tree.unflatten(jax.tree.structure(_arrays_of(like)), precise)
    return like.replace(
        params=tree["params"],
        learner_params=tree["learner"],
        belief_params=tree["belief"],
        features=type(like.features)(**tree["features"]),
    )


def _like(x: jax.ShapeDtypeStruct, dtype: np.dtype[Any]) -> jax.ShapeDtypeStruct:
    """Shapes as expected, floats of the archive's own precision."""
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(x.shape, dtype if is_float else x.dtype)


def _blank_features(
    kind: str, archive: Archive, layout: ObservationLayout, learner: ObjectLearner
) -> StateFeatures:
    """Of as many states as the learner knows, or else as there are rows."""
    if FEATURES[kind] is ScaledFeatures:
        return ScaledFeatures(jnp.zeros(layout.num_features), jnp.zeros(layout.num_features))
    rows = archive.shape_and_dtype("features/table")[0][0]
    num_states = getattr(learner, "num_states", None) or rows
    return TabularFeatures(jnp.zeros((num_states, layout.num_features)))


def _layout(fields: dict[str, Any]) -> ObservationLayout:
    shown = {
        name: tuple(Field(**f) for f in fields.get(name, ())) for name in ("estimates", "belief")
    }
    return ObservationLayout(**(fields | shown))


def _check_parts(agent: PolicyAgent) -> None:
    """Raises ValueError unless they are of one agent; its arrays may be but shapes."""
    layout, learner, distribution = agent.layout, agent.learner, agent.distribution
    sizes = layout.action_size, agent.network.head.num_outputs, learner.num_actions
    if sizes != (distribution.shown_size, distribution.num_params, distribution.num_actions):
        raise ValueError("its parts have different numbers of actions")

    def given(agent: PolicyAgent) -> tuple[Features, Features]:
        carry = agent.init(0 if isinstance(agent.features, TabularFeatures) else agent.takes()[1])
        believed = agent.belief.features(agent.belief_params, carry.belief)
        return agent.given(carry.table, carry.state), believed

    estimates, believed = map(fields_of, jax.eval_shape(given, agent))
    if layout.estimates not in ((), estimates) or layout.belief != believed:
        raise ValueError("its layout shows what its learner, or its belief, does not make")


def _check_extent(header: Mapping[str, Any], num_arrays: int) -> None:
    """Raises ValueError if parts are so many that they would take long to be built."""
    waiting, num_parts = [*header.values()], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            num_parts += 1
            waiting += value.values()
            layers = value.get("layers")
            if isinstance(layers, int) and layers > num_arrays:
                raise ValueError(f"{shown(layers)} layers are more than there are arrays")
        elif isinstance(value, list):
            waiting += value
    if num_parts > MOST_PARTS:
        raise ValueError(f"it has {num_parts} parts, more than {MOST_PARTS}")


# --- static parts as JSON -----------------------------------------------------------------------


def _describe(part: Any) -> dict[str, Any]:
    """A static part as its class and the fields that differ from their defaults."""
    fields = {
        name: _described_value(getattr(part, name), f"{name} of {type(part).__name__}")
        for name in _written_fields(part)
    }
    return {"class": _class_name(type(part)), **fields}


def _class_name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _written_fields(part: Any) -> list[str]:
    """Not initialisers, which reading does not need."""
    return [
        field.name
        for field in _own_fields(part)
        if not (field.name.endswith("_init") and callable(getattr(part, field.name)))
        and not _is_default(field, getattr(part, field.name))
    ]


def _own_fields(part: Any) -> list[dataclasses.Field[Any]]:
    """Of a part or its class, without those of flax itself and what `bind` sets."""
    not_its_own = ("parent", "name", "params")
    return [f for f in dataclasses.fields(part) if f.init and f.name not in not_its_own]


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    default = field.default
    return default is value or (type(default) is type(value) and default == value)


def _described_value(value: Any, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}  # which JSON has not
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_described_value(one, where) for one in value]
    if isinstance(value, PARTS):
        return _describe(value)
    if callable(value) and (name := _own_name(value)) is not None:
        return {"name": name}
    raise TypeError(
        f"{where} is {shown(value)}, which cannot be saved: a field is None, a bool, number, "
        "string, tuple, module, or a function or class that can be imported under its own name"
    )


def _own_name(value: Any) -> str | None:
    """What a function or class can be imported under; flax's name for it, if it has one."""
    name = getattr(value, "__name__", "")
    if getattr(nn, name, None) is value:
        return f"flax.linen:{name}"
    own = f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', '')}"
    try:
        return own if _imported(own) is value else None
    except (ImportError, AttributeError, ValueError):
        return None


def _imported(name: str) -> Any:
    module_name, _, qualname = name.partition(":")
    found: Any = importlib.import_module(module_name)
    for step in qualname.split("."):
        found = getattr(found, step)
    return found


def _rebuild(description: dict[str, Any], kind: type | tuple[type, ...]) -> Any:
    """The part that `_describe` described; lists, as JSON has no tuples, become tuples."""

    def rebuild(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"number"}:
                return float(value["number"])
            is_function = set(value) == {"name"}
            return _activation(value["name"]) if is_function else _rebuild(value, PARTS)
        return tuple(map(rebuild, value)) if isinstance(value, list) else value

    fields = dict(description)
    cls = _class_of(fields.pop("class"), kind)
    if unknown := fields.keys() - {field.name for field in _own_fields(cls)}:
        raise ValueError(f"{cls.__name__} has no field {shown(min(unknown))}")
    return cls(**{name: rebuild(value) for name, value in fields.items()})


def _class_of(name: Any, kind: type | tuple[type, ...]) -> type:
    """The class of that name; no module is imported for it, and no attribute computed."""
    _check_trusted(name)
    module_name, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module_name)
    for step in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(step)
    if not (isinstance(found, type) and issubclass(found, kind) and _class_name(found) == name):
        raise ValueError(f"{shown(name)} is no part of this kind")
    return found


def _activation(name: Any) -> Any:
    _check_trusted(name)
    if name not in ACTIVATIONS:
        raise ValueError(f"{shown(name)} is no activation of flax.linen")
    return ACTIVATIONS[name]


def _check_trusted(name: Any) -> None:
    """Classes of rl3jax, of flax, and networks that the user has registered."""
    package = name.partition(":")[0].partition(".")[0] if isinstance(name, str) else None
    registered = {_class_name(part) for part in NETWORKS.values() if isinstance(part, type)}
    if package not in TRUSTED and name not in registered:
        raise FileError(
            f"the agent has a part {shown(name)}, code that is neither rl3jax's nor flax's; give "
            "its network or learner: load_agent(path, network=…, learner=…)"
        )
