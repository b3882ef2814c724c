"""Learners and algorithms by name, and the options that each brings."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from rl3jax.checks import ConfigError, check_choice
from rl3jax.object_level.abstraction import Abstraction, abstraction
from rl3jax.object_level.base import ObjectLearner, TabularLearner
from rl3jax.object_level.discretised import make_prototypes, make_tiles
from rl3jax.object_level.least_squares_value_iteration import make_least_squares_value_iteration
from rl3jax.object_level.linear_model import make_linear_model
from rl3jax.object_level.local_model import make_local_model
from rl3jax.object_level.none import NoLearner, none
from rl3jax.object_level.q_learning import make_q_learning
from rl3jax.object_level.value_iteration import make_value_iteration
from rl3jax.ranges import Positive, Size
from rl3jax.registry import Registry

MakeLearner: TypeAlias = Callable[..., ObjectLearner]
"""A function of an environment and the steps of a meta-episode; other arguments are options."""

OBJECT_LEVEL: Registry[MakeLearner] = Registry(
    "object_level",
    {
        "value_iteration": make_value_iteration,
        "q_learning": make_q_learning,
        "local_model": make_local_model,
        "linear_model": make_linear_model,
        "least_squares_value_iteration": make_least_squares_value_iteration,
        "tiles": make_tiles,
        "prototypes": make_prototypes,
    },
    hidden=("env", "horizon"),
)


def _rl2(learner: MakeLearner, env: Any, horizon: int) -> NoLearner:
    del learner, horizon
    return none(getattr(env, "num_states", None), env.num_actions)


def _rl3(learner: MakeLearner, env: Any, horizon: int) -> ObjectLearner:
    return learner(env, horizon)


def _rl3_coarse(
    learner: MakeLearner,
    env: Any,
    horizon: int,
    cluster_size: Size = 2,
    cluster_radius: Positive = 1.2,
) -> Abstraction:
    """The learner on clusters of states.

    Args:
        learner: makes it for the clusters.
        env: whose states are clustered.
        horizon: steps of a meta-episode.
        cluster_size: States in a cluster at most.
        cluster_radius: A state joins a cluster if nearer than this, in the environment's units.
    """
    if getattr(env, "state_coordinates", None) is None:
        raise ConfigError(
            "algo rl3-coarse clusters states by distance; the states of "
            f"{type(env).__name__} have no coordinates (Environment.state_coordinates)"
        )
    inner = learner(_Clusters(env, cluster_size), horizon)
    if not isinstance(inner, TabularLearner):
        raise ConfigError(f"algo rl3-coarse is for learners of tables, not {inner!r:.50}")
    return abstraction(inner, env.state_coordinates, radius=cluster_radius, size=cluster_size)


class _Clusters:
    """An environment as a learner on clusters of its states sees it."""

    def __init__(self, env: Any, size: int) -> None:
        self._env = env
        self.max_successors = env.max_successors and env.max_successors * size

    neighbours = None

    @property
    def state_coordinates(self) -> Any:
        raise ConfigError(
            "algo rl3-coarse is not for object_level local_model: clusters have no neighbours"
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


ALGORITHMS: Registry[MakeLearner] = Registry(
    "algo",
    {"rl2": _rl2, "rl3": _rl3, "rl3-coarse": _rl3_coarse},
    hidden=("learner", "env", "horizon"),
)


def list_learners() -> tuple[str, ...]:
    """Names that `Config(object_level=…)` knows, those that were registered included."""
    return tuple(OBJECT_LEVEL)


def make_learner(
    name: str, algo: str, options: Mapping[str, Any], env: Any, horizon: int
) -> ObjectLearner:
    """The object-level RL of an algorithm, for an environment's states and actions.

    Args:
        name: a key of `OBJECT_LEVEL`.
        algo: a key of `ALGORITHMS`.
        options: of the learner and the algorithm, by name; those not given are their defaults.
        env: the environment.
        horizon: steps of its meta-episodes.

    Raises:
        ConfigError: if a name is unknown or a value not allowed.
    """
    kinds = ((OBJECT_LEVEL, name), (ALGORITHMS, algo))
    own = [option for kind, part in kinds for option in kind.options(kind.find(part))]
    for option in options:
        check_choice(f"option of {name} under {algo}", option, own)
    learner = OBJECT_LEVEL.bind(name, options)
    return ALGORITHMS.bind(algo, options)(learner, env, horizon)
