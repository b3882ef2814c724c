"""GridNavi: a goal on a small grid that is found by stepping onto it, in a few short episodes."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rl3jax.envs.base import Environment, TabularModel, Transition

SIDE = 5
ACTIONS = ("noop", "up", "right", "down", "left")
_STEPS = np.array([(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)])  # of the actions: rows, columns
GOAL_REWARD, STEP_REWARD = 1.0, -0.1


@struct.dataclass
class GridNaviTask:
    """What grids differ in.

    Attributes:
        goal: `[]` int32, index of the state in which each step that ends there pays.
    """

    goal: jax.Array


@dataclass(frozen=True)
class GridNavi(Environment):
    """GridNavi (VariBAD, Zintgraf et al. 2020, section 5.1): 5 × 5 cells, one of them the goal.

    An episode starts in a corner, row 0 and column 0, and takes 15 steps; four of them are the
    budget, and none ends early. Moves are deterministic; off the grid they lead nowhere. A step
    that ends on the goal pays 1, also by staying there, any other −0.1. The goal is any cell but
    the four in the corner of the start, all alike. State index: row · 5 + column.

    A policy that knows the goal is paid 44.286 in the mean, one that is Bayes-optimal 37.214.
    """

    num_states = SIDE**2
    num_actions = len(ACTIONS)
    task_horizon = 15
    max_successors = 1

    @classmethod
    def training_horizon(cls, variation: str | None) -> int:
        """Four episodes."""
        del variation
        return 4 * cls.task_horizon

    @classmethod
    def defaults_with(cls, object_level: str | None, algo: str, horizon: int) -> dict[str, Any]:
        """A learner of kinds of cells leads the policy; another one plans by a few sweeps."""
        del horizon
        values = {
            "value_scale": 1.0,
            "squash_values": True,
            "critic_scale": 0.1,
            "iterations": 100,
            "belief_decoder": "states",
        }
        if algo == "rl3" and object_level in (None, "local_model"):
            return values | {
                "object_level": "local_model",
                "head": "planning",
                "num_kinds": 3,
                "n_tasks": 512,
            }
        return values | {
            "known_states": "visited",
            "smoothing": 0.0,
            "warm_start": True,
            "sweeps_per_step": 4,
        }

    @property
    def state_coordinates(self) -> Int[np.ndarray, "S 2"]:
        """Row and column of each state; up is to a higher row."""
        return np.stack(np.divmod(np.arange(self.num_states), SIDE), axis=1)

    @property
    def goals(self) -> Int[np.ndarray, " G"]:
        """Indices of the 21 states that may be the goal."""
        return np.flatnonzero(self.state_coordinates.max(axis=1) > 1)

    @property
    def targets(self) -> Int[np.ndarray, "S A"]:
        """Where each action leads."""
        return _targets()

    def sample_task(self, key: PRNGKeyArray) -> GridNaviTask:
        """A goal. The key is consumed."""
        return GridNaviTask(jax.random.choice(key, jnp.asarray(self.goals, jnp.int32)))

    def start_index(self, key: PRNGKeyArray, task: GridNaviTask) -> int:
        """The corner; the key is not consumed."""
        del key, task
        return 0

    def transition(
        self, key: PRNGKeyArray, s: Int[Array, ""], action: Int[Array, ""], task: GridNaviTask
    ) -> Transition:
        """One move; the key is not consumed."""
        del key
        s_next = jnp.asarray(self.targets)[s, action]
        return Transition(s_next, self._reward(s_next, task), terminated=False)

    def tabular(self, task: GridNaviTask) -> TabularModel:
        """The moves, and what they pay."""
        return TabularModel(
            transition_probs=jax.nn.one_hot(self.targets, self.num_states),
            mean_reward=self._reward(jnp.asarray(self.targets), task),
            start=jnp.zeros(self.num_states).at[0].set(1.0),
            terminal=jnp.zeros(self.num_states, bool),
        )

    @staticmethod
    def _reward(entered: Int[Array, "*any"], task: Any) -> Float[Array, "*any"]:
        return jnp.where(entered == task.goal, GOAL_REWARD, STEP_REWARD)


@functools.cache
def _targets() -> Int[np.ndarray, "S A"]:
    cells = np.stack(np.divmod(np.arange(SIDE**2), SIDE), axis=1)
    rows, columns = np.moveaxis((cells[:, None] + _STEPS).clip(0, SIDE - 1), -1, 0)
    return (SIDE * rows + columns).astype(np.int32)
