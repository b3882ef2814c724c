"""Agents on disk: atomic to write, verified when read, nothing executed.

An agent is an archive (`agent.npz`): a readable `agent.json` with its static parts, and one array
a parameter.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rl3jax.agent import PolicyAgent
from rl3jax.archive import Archive, named_leaves, open_archive, write_archive
from rl3jax.files import FileError
from rl3jax.networks import NETWORKS, Network
from rl3jax.object_level import LEARNERS, ObjectLearner
from rl3jax.observation import ObservationLayout

AGENT_FILE = "agent.npz"
AGENT_FORMAT = "rl3jax-agent-1"
PRECISIONS = ("float32", "float64")


def save_agent(path: str | os.PathLike[str], agent: PolicyAgent) -> None:
    """Writes `agent` into the folder `path` (made if missing), replacing one that is there.

    Raises:
        TypeError: if the agent is no `PolicyAgent`, or has parts that are not rl3jax's own.
    """
    if not isinstance(agent, PolicyAgent):
        raise TypeError(f"only a meta-trained policy can be saved, not {type(agent).__name__}")
    header = {
        "format": AGENT_FORMAT,
        "network": _describe(agent.network, NETWORKS),
        "learner": _describe(agent.learner, LEARNERS),
        "layout": dataclasses.asdict(agent.layout),
        "greedy": agent.greedy,
    }
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"state_features": agent.state_features, **named_leaves("params", agent.params)}
    write_archive(folder / AGENT_FILE, arrays, agent=header)


def load_agent(path: str | os.PathLike[str]) -> PolicyAgent:
    """The agent that `save_agent` wrote into the folder `path`.

    Raises:
        FileError: if there is none, or the file is damaged or not ours.
    """
    file = Path(path) / AGENT_FILE
    if not file.exists():
        raise FileError(f"{path} holds no agent (no {AGENT_FILE})")
    with open_archive(file) as archive:
        return _read_agent(archive)


def _read_agent(archive: Archive) -> PolicyAgent:
    header = archive.header("agent")
    if header["format"] != AGENT_FORMAT:
        raise ValueError(f"format {header['format']!r}, this version reads {AGENT_FORMAT!r}")
    layout = ObservationLayout(**header["layout"])
    network: Network = _rebuild(header["network"], NETWORKS)
    learner: ObjectLearner = _rebuild(header["learner"], LEARNERS)
    _check_parts(layout, network, learner)
    if getattr(network, "layers", 0) > len(archive):
        raise ValueError(f"{network} has more layers than there are arrays")
    dtype = archive.dtype("state_features")
    if dtype not in PRECISIONS:
        raise ValueError(f"parameters are {dtype}, not {' or '.join(PRECISIONS)}")
    expected = jax.eval_shape(lambda key: network.init(key, layout.size), jax.random.key(0))
    shapes = {"state_features": (learner.num_states, layout.num_features)}
    shapes |= {name: leaf.shape for name, leaf in named_leaves("params", expected).items()}
    arrays = archive.arrays({n: jax.ShapeDtypeStruct(s, dtype) for n, s in shapes.items()})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
    precise = {n: jnp.asarray(a, jax.dtypes.canonicalize_dtype(dtype)) for n, a in arrays.items()}
    state_features = precise.pop("state_features")
    params = jax.tree.unflatten(jax.tree.structure(expected), list(precise.values()))
    return PolicyAgent(params, state_features, network, learner, layout, bool(header["greedy"]))


def _check_parts(layout: ObservationLayout, network: Network, learner: ObjectLearner) -> None:
    """Raises ValueError unless they are of one agent."""
    if not layout.num_actions == network.num_outputs == learner.num_actions:
        raise ValueError("its parts have different numbers of actions")
    given = jax.eval_shape(lambda: learner.estimates(learner.init(), 0))
    for flag, estimate in (
        (layout.standard_errors, given.q_stderr),
        (layout.optimism, given.q_optimistic),
        (layout.mean_rewards, given.mean_reward),
    ):
        if flag and estimate is None:
            raise ValueError("its layout shows estimates that its learner does not make")


def _describe(part: Any, registry: Mapping[str, type]) -> dict[str, Any]:
    """A static part as its registered name and its fields, of which some may be parts as well."""
    kinds = [kind for kind, cls in registry.items() if cls is type(part)]
    if not kinds:
        raise TypeError(f"{type(part).__name__} is not one of rl3jax's own: {', '.join(registry)}")
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    described = {
        name: _describe(value, registry) if dataclasses.is_dataclass(value) else value
        for name, value in fields.items()
    }
    return {"kind": kinds[0], **described}


def _rebuild(description: dict[str, Any], registry: Mapping[str, type]) -> Any:
    """The part that `_describe` described; lists, as JSON has no tuples, become tuples."""

    def rebuild(value: Any) -> Any:
        if isinstance(value, dict):
            return _rebuild(value, registry)
        return tuple(map(rebuild, value)) if isinstance(value, list) else value

    fields = {name: rebuild(value) for name, value in dict(description).items()}
    return registry[fields.pop("kind")](**fields)
