"""Boxes of actions as finitely many."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rl3jax.checks import ConfigError, shown
from rl3jax.envs.base import Bins, State, StateFeatures, TaskDistribution, box_grid


@dataclass(frozen=True)
class Binned(TaskDistribution):
    """An environment whose actions are points of a grid in the box of another's.

    Raises:
        ConfigError: on construction, if the other is none, its actions are in no box, or the points
            too many.
    """

    base: TaskDistribution
    """The environment with actions in a box."""
    bins: Bins = 3
    """Points in each dimension, from one end to the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.base, TaskDistribution):
            raise ConfigError(
                f"base must be an environment, as of rl3jax.make_env; not {shown(self.base)}"
            )
        box_grid(self.base.action_space(), self.bins, type(self.base).__name__)

    @property
    def points(self) -> Float[np.ndarray, "A n"]:
        """The actions in the box, by index; the last dimension is the quickest."""
        return box_grid(self.base.action_space(), self.bins, type(self.base).__name__)

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """Indices of the points."""
        del params
        return spaces.Discrete(self.bins ** self.base.action_space().shape[0])

    def step_env(
        self, key: PRNGKeyArray, state: Any, action: ArrayLike, params: Any
    ) -> tuple[Array, Any, Array, Array, dict[str, Any]]:
        """The other's, with the point of that index."""
        return self.base.step_env(key, state, jnp.asarray(self.points, float)[action], params)

    # --- all else is the other's ---

    def reset_env(self, key: PRNGKeyArray, params: Any) -> tuple[Array, Any]:
        """The other's."""
        return self.base.reset_env(key, params)

    @property
    def task_horizon(self) -> int | None:
        """The other's."""
        return self.base.task_horizon

    @property
    def learner_space(self) -> spaces.Discrete | spaces.Box:
        """The other's."""
        return self.base.learner_space

    @property
    def features(self) -> StateFeatures:
        """The other's."""
        return self.base.features

    @property
    def waits(self) -> bool:
        """The other's."""
        return self.base.waits

    def is_waiting(self, state: Any) -> Bool[Array, ""]:
        """The other's."""
        return self.base.is_waiting(state)

    def entered_terminal(self, info: dict[str, Any]) -> Bool[Array, ""]:
        """The other's."""
        return self.base.entered_terminal(info)

    def sample_task(self, key: PRNGKeyArray) -> Any:
        """The other's."""
        return self.base.sample_task(key)

    def learner_state(self, state: Any) -> State:
        """The other's."""
        return self.base.learner_state(state)

    def entered_state(self, info: dict[str, Any]) -> State:
        """The other's."""
        return self.base.entered_state(info)

    def is_truncated(self, state: Any, params: Any) -> Bool[Array, ""]:
        """The other's."""
        return self.base.is_truncated(state, params)

    def observe(
        self, key: PRNGKeyArray, state: Any, action: Array | None, params: Any
    ) -> Float[Array, "..."]:
        """The other's; the key is not consumed."""
        return self.base.observe(key, state, action, params)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """The other's."""
        return self.base.observation_space(params)
