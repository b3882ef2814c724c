"""Environments: distributions of tasks, and how to make one by name."""

import importlib
from typing import Any

from rl3jax.checks import ConfigError, nearest_name, one_line, shown
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
    box_anchors,
    sample_index,
)
from rl3jax.envs.binned import Binned
from rl3jax.envs.classic_control import Acrobot, CartPole, MountainCar, Pendulum
from rl3jax.envs.gridnavi import GridNavi
from rl3jax.envs.gridworld import Gridworld
from rl3jax.envs.gymnax_tasks import GymnaxTasks
from rl3jax.envs.point_robot import PointRobot
from rl3jax.envs.random_mdp import RandomMdp
from rl3jax.envs.repeat_previous import RepeatPrevious
from rl3jax.envs.t_maze import TMaze
from rl3jax.envs.vector import Advance, VectorEnvironment, VectorState
from rl3jax.ranges import PLAIN
from rl3jax.registry import REQUIRED, Registry

__all__ = [
    "ENVIRONMENTS",
    "Acrobot",
    "Advance",
    "Bandit",
    "Binned",
    "CartPole",
    "EnvState",
    "Environment",
    "GridNavi",
    "Gridworld",
    "GymnaxTasks",
    "MountainCar",
    "Pendulum",
    "PointRobot",
    "RandomMdp",
    "RepeatPrevious",
    "ScaledFeatures",
    "State",
    "StateFeatures",
    "TMaze",
    "TabularFeatures",
    "TabularModel",
    "TaskDistribution",
    "Transition",
    "VectorEnvironment",
    "VectorState",
    "box_anchors",
    "check_usable",
    "describe_env",
    "env_class",
    "env_options",
    "list_envs",
    "make_env",
    "register",
    "sample_index",
]

ENVIRONMENTS: Registry[type[TaskDistribution]] = Registry(
    "env",
    {
        "bandit": Bandit,
        "mdp": RandomMdp,
        "gridworld": Gridworld,
        "gridnavi": GridNavi,
        "pendulum": Pendulum,
        "mountain-car": MountainCar,
        "cartpole": CartPole,
        "acrobot": Acrobot,
        "point-robot": PointRobot,
        "repeat-previous": RepeatPrevious,
        "t-maze": TMaze,
    },
    hidden=("variation",),
)
_USED: dict[str, type[TaskDistribution]] = {}
"""Classes of environments that a trainer was given, by "module:Class"."""


def register(name: str, cls: type[TaskDistribution]) -> None:
    """Makes `make_env(name)`, `Config(env=name)` and `--env name` know an environment.

    Raises:
        ConfigError: if it is no frozen dataclass that extends `rl3jax.TaskDistribution`, the name
            is taken, or an option has the name of a field of Config or of another part's option.
    """
    _check_environment(name, cls)
    ENVIRONMENTS.register(name, cls)


def list_envs() -> tuple[str, ...]:
    """Names that `make_env` knows, those that were registered included."""
    return tuple(ENVIRONMENTS)


def env_class(name: str) -> type[TaskDistribution]:
    """The class of the environment called `name`, of which "module:Class" is imported.

    Raises:
        ConfigError: if there is none. The message is one line.
    """
    if not isinstance(name, str):
        raise ConfigError(f"env must be a name, not {shown(name)}")
    if ":" in name:
        return _USED.get(name) or _import_environment(name)
    if name not in ENVIRONMENTS:
        hint = nearest_name(name, ENVIRONMENTS)
        raise ConfigError(f"unknown env {shown(name)}; {hint}, or module:Class")
    return ENVIRONMENTS[name]


def make_env(name: str, variation: str | None = None, **options: Any) -> TaskDistribution:
    """The environment called `name`.

    Args:
        name: a key of `ENVIRONMENTS`, or "module:Class" for an environment of one's own.
        variation: one of its task distributions; `None` is its default one.
        **options: values of its other fields; see `env_options`.

    Raises:
        ConfigError: for a name, option, or value that is not allowed. The message is one line.
    """
    cls = env_class(name)
    allowed = env_options(cls)
    for option in options:
        if option not in allowed:
            hint = nearest_name(option, allowed) if allowed else "it has no options"
            raise ConfigError(f"env {name!r} has no option {shown(option)}; {hint}")
    for option, described in ENVIRONMENTS.options(cls).items():
        if described.default is REQUIRED and option not in options:
            raise ConfigError(f"env {name!r} needs a value of {option}")
    if variation is not None:
        if "variation" not in cls.__dataclass_fields__:
            raise ConfigError(f"env {name!r} has no variations, so not {shown(variation)}")
        options["variation"] = variation
    env = cls(**options)
    check_usable(env)
    return env


def env_options(cls: type[TaskDistribution]) -> tuple[str, ...]:
    """Names of an environment's options: its fields, except `variation`."""
    return tuple(ENVIRONMENTS.options(cls))


def describe_env(env: TaskDistribution) -> dict[str, Any]:
    """What makes an equal environment by name: `env`, `variation`, and options, by these names.

    Options are those that differ from the variation's own, as far as they are numbers, strings,
    booleans or tuples of these. A class that is not registered is "module:Class".

    Raises:
        ConfigError: if a field does not hash, as arrays and lists do not.
    """
    cls = type(env)
    check_usable(env)
    names = [name for name, known in ENVIRONMENTS.items() if known is cls]
    name = names[0] if names else f"{cls.__module__}:{cls.__qualname__}"
    if not names:
        _USED[name] = cls
    variation = vars(env).get("variation")
    given = {} if variation is None else {"variation": variation}
    try:
        usual: Any = cls(**given)
    except TypeError:  # there are options without a default
        usual = None
    own = {option: getattr(env, option) for option in env_options(cls)}
    return {
        "env": name,
        **(given if variation != getattr(cls, "variation", None) else {}),
        **{
            option: value
            for option, value in own.items()
            if _is_plain(value) and value != getattr(usual, option, REQUIRED)
        },
    }


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, PLAIN)


def check_usable(env: Any) -> None:
    """Raises ConfigError if it is no environment, or has a field that does not hash.

    Programs are compiled for fields, and kept.
    """
    if not isinstance(env, TaskDistribution):
        raise ConfigError(f"env must be an environment, as of rl3jax.make_env; not {shown(env)}")
    for field, value in vars(env).items():
        try:
            hash(value)
        except TypeError:
            kind = type(value).__name__
            raise ConfigError(
                f"{field} of {type(env).__name__} is of type {kind}, which does not hash; make it "
                "numbers, strings or a tuple of these"
            ) from None


def _import_environment(name: str) -> type[TaskDistribution]:
    """The class that "module:Class" names."""
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:  # the latter two: malformed names
        raise ConfigError(
            f"env {shown(name)}: cannot import {shown(module_name)}: {one_line(error)}"
        ) from error
    cls = getattr(module, class_name, None)
    if cls is None:
        classes = [key for key, value in vars(module).items() if _is_environment(value)]
        hint = nearest_name(class_name, classes) if classes else "it has no environment"
        raise ConfigError(f"env {shown(name)}: no {shown(class_name)} in {module_name}; {hint}")
    _check_environment(name, cls)
    return cls


def _check_environment(name: str, cls: Any) -> None:
    if not _is_environment(cls):
        raise ConfigError(
            f"env {name!r} must be a @dataclass(frozen=True) that extends rl3jax.Environment "
            "or rl3jax.TaskDistribution"
        )


def _is_environment(value: Any) -> bool:
    frozen = getattr(value, "__dataclass_params__", None)
    return (
        isinstance(value, type)
        and issubclass(value, TaskDistribution)
        and frozen is not None
        and frozen.frozen
    )
