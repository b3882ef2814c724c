"""Environments: distributions of tabular tasks, and how to make one by name."""

import dataclasses
import importlib
from typing import Any

from rl3jax.checks import nearest_name, one_line, shown
from rl3jax.envs.bandit import Bandit
from rl3jax.envs.base import (
    Environment,
    EnvState,
    ScaledFeatures,
    State,
    StateFeatures,
    TabularFeatures,
    TabularModel,
    TaskDistribution,
    Transition,
    sample_index,
)
from rl3jax.envs.gridworld import Gridworld
from rl3jax.envs.random_mdp import RandomMdp

__all__ = [
    "ENVIRONMENTS",
    "Bandit",
    "EnvState",
    "Environment",
    "Gridworld",
    "RandomMdp",
    "ScaledFeatures",
    "State",
    "StateFeatures",
    "TabularFeatures",
    "TabularModel",
    "TaskDistribution",
    "Transition",
    "env_options",
    "make_env",
    "sample_index",
]

ENVIRONMENTS: dict[str, type[Environment]] = {
    "bandit": Bandit,
    "mdp": RandomMdp,
    "gridworld": Gridworld,
}


def make_env(name: str, variation: str | None = None, **options: Any) -> Environment:
    """The environment called `name`.

    Args:
        name: a key of `ENVIRONMENTS`, or "module:Class" for an environment of one's own.
        variation: one of its task distributions; `None` is its default one.
        **options: values of its other fields; see `env_options`.

    Raises:
        ValueError: for a name, option, or value that is not allowed. The message is one line.
    """
    env_class = _import_environment(name) if ":" in name else _named_environment(name)
    allowed = env_options(env_class)
    for option in options:
        if option not in allowed:
            hint = nearest_name(option, allowed) if allowed else "it has no options"
            raise ValueError(f"env {name!r} has no option {shown(option)}; {hint}")
    if variation is None:
        return env_class(**options)
    if "variation" not in _fields(env_class):
        raise ValueError(f"env {name!r} has no variations, so not {shown(variation)}")
    return env_class(**options, variation=variation)


def env_options(env_class: type[Environment]) -> tuple[str, ...]:
    """Names of an environment's options: its fields, except `variation`."""
    return tuple(name for name in _fields(env_class) if name != "variation")


def _fields(env_class: type[Environment]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(env_class))


def _named_environment(name: str) -> type[Environment]:
    if name not in ENVIRONMENTS:
        hint = nearest_name(name, ENVIRONMENTS)
        raise ValueError(f"unknown env {shown(name)}; {hint}, or module:Class")
    return ENVIRONMENTS[name]


def _import_environment(name: str) -> type[Environment]:
    """The class that "module:Class" names."""
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:  # the latter two: malformed names
        raise ValueError(
            f"env {shown(name)}: cannot import {shown(module_name)}: {one_line(error)}"
        ) from error
    env_class = getattr(module, class_name, None)
    if env_class is None:
        classes = [key for key, value in vars(module).items() if _is_environment(value)]
        hint = nearest_name(class_name, classes) if classes else "it has no environment"
        raise ValueError(f"env {shown(name)}: no {shown(class_name)} in {module_name}; {hint}")
    if not _is_environment(env_class):
        raise ValueError(
            f"env {name!r} must be a @dataclass(frozen=True) that extends rl3jax.Environment"
        )
    return env_class


def _is_environment(value: Any) -> bool:
    frozen = getattr(value, "__dataclass_params__", None)
    return (
        isinstance(value, type)
        and issubclass(value, Environment)
        and frozen is not None
        and frozen.frozen
    )
