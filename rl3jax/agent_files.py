"""Agents on disk: atomic to write, verified when read, nothing executed.

An agent is an archive (`agent.npz`): a readable `agent.json` with its static parts, and one array
a parameter. A static part is written as its class, `module:qualname`, and the fields that differ
from their defaults. Reading imports classes of rl3jax and flax, and none of anybody else's.
"""

import dataclasses
import importlib
import os
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rl3jax.agent import PolicyAgent
from rl3jax.archive import Archive, named_leaves, open_archive, write_archive
from rl3jax.checks import shown
from rl3jax.envs import ScaledFeatures, TabularFeatures
from rl3jax.files import FileError
from rl3jax.networks import Memory, as_memory
from rl3jax.object_level import ObjectLearner
from rl3jax.policy import ActionDistribution, Field, Head, Network, ObservationLayout

AGENT_FILE = "agent.npz"
AGENT_FORMAT = "rl3jax-agent-2"
PRECISIONS = ("float32", "float64")
TRUSTED = ("rl3jax", "flax")
"""Packages whose classes are imported by the name that an archive gives."""
PARTS = (nn.Module, ObjectLearner, ActionDistribution, Field)
"""Base classes of static parts; nothing else is called."""
FEATURES = {"tabular": TabularFeatures, "scaled": ScaledFeatures}


def save_agent(path: str | os.PathLike[str], agent: PolicyAgent) -> None:
    """Writes `agent` into the folder `path` (made if missing), replacing one that is there.

    Raises:
        TypeError: if the agent is no `PolicyAgent`, or a part has a field that is not None, a bool,
            number, string, tuple, part, or a function or class importable under its own name.
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
        "layout": dataclasses.asdict(agent.layout),
        "features": features,
        "greedy": agent.greedy,
    }
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_archive(folder / AGENT_FILE, named_leaves(_arrays_of(agent)), agent=header)


def load_agent(path: str | os.PathLike[str], network: nn.Module | None = None) -> PolicyAgent:
    """The agent that `save_agent` wrote into the folder `path`.

    Args:
        path: the folder.
        network: the flax module that it was trained with, where that is code of one's own, which
            an archive must not import.

    Raises:
        FileError: if there is none, or the file is damaged or not ours, or its network is neither
            rl3jax's nor flax's and is not given.
        ConfigError: if the network given is no flax module.
    """
    file = Path(path) / AGENT_FILE
    if not file.exists():
        raise FileError(f"{path} holds no agent (no {AGENT_FILE})")
    memory = None if network is None else as_memory(network)
    with open_archive(file) as archive:
        return _read_agent(archive, memory)


def _arrays_of(agent: PolicyAgent) -> dict[str, Any]:
    return {
        "features": vars(agent.features),
        "learner": agent.learner_params,
        "params": agent.params,
    }


def _read_agent(archive: Archive, memory: Memory | None) -> PolicyAgent:
    header = archive.header("agent")
    if header["format"] != AGENT_FORMAT:
        raise ValueError(f"format {header['format']!r}, this version reads {AGENT_FORMAT!r}")
    layout = _layout(header["layout"])
    learner: ObjectLearner = _rebuild(header["learner"], ObjectLearner)
    distribution: ActionDistribution = _rebuild(header["distribution"], ActionDistribution)
    network = Network(
        _rebuild(header["memory"], Memory) if memory is None else memory,
        _rebuild(header["head"], Head),
    )
    _check_parts(layout, network, learner, distribution)
    if getattr(network.memory, "layers", 0) > len(archive):
        raise ValueError(f"{network} has more layers than there are arrays")
    features = FEATURES[header["features"]]

    def blank(key: Any) -> PolicyAgent:
        key_network, key_learner = jax.random.split(key)
        return PolicyAgent(
            params=network.init(key_network, layout.size),
            features=_blank_features(features, layout.num_features, learner),
            learner_params=learner.init_params(key_learner),
            network=network,
            learner=learner,
            distribution=distribution,
            layout=layout,
            greedy=bool(header["greedy"]),
        )

    like = jax.eval_shape(blank, jax.random.key(0))
    wanted = named_leaves(_arrays_of(like))
    dtype = archive.dtype(next(iter(wanted)))
    if dtype not in PRECISIONS:
        raise ValueError(f"parameters are {dtype}, not {' or '.join(PRECISIONS)}")
    arrays = archive.arrays({n: _like(x, dtype) for n, x in wanted.items()})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    precise = [jnp.asarray(a, jax.dtypes.canonicalize_dtype(a.dtype)) for a in arrays.values()]
    tree = jax.tree.unflatten(jax.tree.structure(_arrays_of(like)), precise)
    return like.replace(
        params=tree["params"],
        learner_params=tree["learner"],
        features=features(**tree["features"]),
    )


def _like(x: jax.ShapeDtypeStruct, dtype: np.dtype[Any]) -> jax.ShapeDtypeStruct:
    """Shapes as expected, floats of the archive's own precision."""
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(x.shape, dtype if is_float else x.dtype)


def _blank_features(kind: type[Any], size: int, learner: Any) -> Any:
    if kind is TabularFeatures:
        return TabularFeatures(jnp.zeros((learner.num_states, size)))
    return ScaledFeatures(jnp.zeros(size), jnp.zeros(size))


def _layout(fields: dict[str, Any]) -> ObservationLayout:
    estimates = tuple(Field(**field) for field in fields["estimates"])
    return ObservationLayout(**{**fields, "estimates": estimates})


def _check_parts(
    layout: ObservationLayout,
    network: Network,
    learner: ObjectLearner,
    distribution: ActionDistribution,
) -> None:
    """Raises ValueError unless they are of one agent."""
    sizes = layout.action_size, network.head.num_outputs, learner.num_actions
    if sizes != (distribution.shown_size, distribution.num_params, distribution.shown_size):
        raise ValueError("its parts have different numbers of actions")
    if not layout.estimates:
        return
    bound = learner.bind(learner.init_params(jax.random.key(0)))
    given = jax.eval_shape(lambda: bound.features(bound.init(), 0))
    sizes_given = {name: (f.numbers.shape[0], f.unit) for name, f in given.items()}
    if any(sizes_given.get(f.name) != (f.size, f.unit) for f in layout.estimates):
        raise ValueError("its layout shows estimates that its learner does not make")


# --- static parts as JSON -----------------------------------------------------------------------


def _describe(part: Any) -> dict[str, Any]:
    """A static part as its class and the fields that differ from their defaults."""
    fields = {
        name: _described_value(getattr(part, name), f"{name} of {type(part).__name__}")
        for name in _written_fields(part)
    }
    return {"class": f"{type(part).__module__}:{type(part).__qualname__}", **fields}


def _written_fields(part: Any) -> list[str]:
    """Not those of flax itself, nor initialisers, which reading does not need."""
    return [
        field.name
        for field in dataclasses.fields(part)
        if field.init
        and field.name not in ("parent", "name", "params")
        and not (field.name.endswith("_init") and callable(getattr(part, field.name)))
        and not _is_default(field, getattr(part, field.name))
    ]


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    default = field.default
    return default is value or (type(default) is type(value) and default == value)


def _described_value(value: Any, where: str) -> Any:
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


def _trusted(name: Any) -> Any:
    """What rl3jax or flax have under a name."""
    if not isinstance(name, str) or name.partition(":")[0].partition(".")[0] not in TRUSTED:
        raise FileError(
            f"the agent has a part {shown(name)}, code that is neither rl3jax's nor flax's; where "
            "that is its network, give it: load_agent(path, network=…)"
        )
    return _imported(name)


def _rebuild(description: dict[str, Any], kind: type | tuple[type, ...]) -> Any:
    """The part that `_describe` described; lists, as JSON has no tuples, become tuples."""

    def rebuild(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) != {"name"}:
                return _rebuild(value, PARTS)
            return _checked_function(_trusted(value["name"]))
        return tuple(map(rebuild, value)) if isinstance(value, list) else value

    fields = dict(description)
    cls = _trusted(fields.pop("class"))
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise ValueError(f"{shown(description['class'])} is no part of this kind")
    return cls(**{name: rebuild(value) for name, value in fields.items()})


def _checked_function(value: Any) -> Any:
    """Functions of flax's layers alone: others might do more than compute."""
    if getattr(nn, getattr(value, "__name__", ""), None) is not value:
        raise ValueError(f"{shown(value)} is no function of flax.linen")
    return value
