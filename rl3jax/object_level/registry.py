"""Learners and algorithms by name, and the options that each brings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl3jax.checks import ConfigError
from rl3jax.object_level.abstraction import Abstraction, abstraction
from rl3jax.object_level.base import LearnerOptions, ObjectLearner, TabularLearner
from rl3jax.object_level.none import NoLearner, none
from rl3jax.object_level.q_learning import QLearningOptions
from rl3jax.object_level.value_iteration import ValueIterationOptions
from rl3jax.ranges import Positive, Size
from rl3jax.registry import Registry

OBJECT_LEVEL: Registry[type[LearnerOptions]] = Registry(
    "object_level", {"value_iteration": ValueIterationOptions, "q_learning": QLearningOptions}
)


@dataclass(frozen=True)
class Rl2:
    """No estimates."""

    def make(self, learner: LearnerOptions, env: Any, horizon: int) -> NoLearner:
        """The learner that keeps nothing."""
        del learner, horizon
        return none(getattr(env, "num_states", None), env.num_actions)


@dataclass(frozen=True)
class Rl3:
    """Estimates of states."""

    def make(self, learner: LearnerOptions, env: Any, horizon: int) -> ObjectLearner:
        """The learner by itself."""
        return learner.make(env, horizon)


@dataclass(frozen=True)
class Rl3Coarse:
    """Estimates of clusters of states."""

    cluster_size: Size = 2
    """States in a cluster of rl3-coarse at most."""
    cluster_radius: Positive = 1.2
    """A state joins a cluster of rl3-coarse if nearer than this, in the environment's units."""

    def make(self, learner: LearnerOptions, env: Any, horizon: int) -> Abstraction:
        """The learner on clusters of the environment's states."""
        if env.state_coordinates is None:
            raise ConfigError(
                "algo rl3-coarse clusters states by distance; the states of "
                f"{type(env).__name__} have no coordinates (Environment.state_coordinates)"
            )
        inner = learner.make(_Clusters(env, self.cluster_size), horizon)
        if not isinstance(inner, TabularLearner):
            raise ConfigError(f"algo rl3-coarse is for learners of tables, not {inner!r:.50}")
        return abstraction(
            inner,
            env.state_coordinates,
            radius=self.cluster_radius,
            size=self.cluster_size,
        )


class _Clusters:
    """An environment as a learner on clusters of its states sees it."""

    def __init__(self, env: Any, size: int) -> None:
        self._env = env
        self.max_successors = env.max_successors and env.max_successors * size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


ALGORITHMS: Registry[type[Rl2] | type[Rl3] | type[Rl3Coarse]] = Registry(
    "algo", {"rl2": Rl2, "rl3": Rl3, "rl3-coarse": Rl3Coarse}
)


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
    algorithm, learner = ALGORITHMS.make(algo, options), OBJECT_LEVEL.make(name, options)
    return algorithm.make(learner, env, horizon)
