"""Point robot: a goal on a half-circle that is found by walking there, or by the distance to it."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces
from jaxtyping import Array, Float, PRNGKeyArray

from rl3jax.envs.base import Bins
from rl3jax.envs.vector import PLANNING, Advance, VectorEnvironment

STEP = 0.1
"""As far as an action of 1 moves the robot, in each dimension."""
MOVES = spaces.Box(-1.0, 1.0, (2,))
GOAL_RADIUS = 0.2
SCALE = 1.5


@struct.dataclass
class PointRobotTask:
    """What point robots differ in.

    Attributes:
        goal: `[2]` float, where the goal is.
    """

    goal: jax.Array


@dataclass(frozen=True)
class PointRobot(VectorEnvironment):
    """A point that walks in the plane to a goal it is not shown (VariBAD, Zintgraf et al. 2020).

    Three episodes of 100 steps are the budget. Each begins at the origin, and none ends early. The
    state is the robot's position; an action, within ±1 in both dimensions, moves it by a tenth of
    itself. The goal lies on the upper half of the unit circle.

    | variation | reward, at distance d from the goal after the move |
    |-----------|----------------------------------------------------|
    | sparse    | 1 − d within 0.2 of the goal, else 0               |
    | dense     | −d                                                 |

    Raises:
        ConfigError: on construction, for an unknown variation.
    """

    variation: Literal["sparse", "dense"] = "sparse"
    """What it is paid for."""
    bins: Bins | None = None
    """Moves in each dimension, from one end to the other, that there are. None: any between
    them."""

    task_horizon = 100
    may_end = False
    with_plan: ClassVar = PLANNING | {
        "length_scale": 0.25,  # the goal is small
        "num_frequencies": 110,
        "anchors_along": 21,
        "paid_for": "entering",
        "reward_noise": 0.17,
        "ridge_penalty": 1.0,
        "optimism": 10.0,
        "temperature": 0.03,
        "trust": 0.3,
        "n_tasks": 128,
        "minibatches": 8,
        "iterations": 100,
    }

    @classmethod
    def training_horizon(cls, variation: str | None) -> int:
        """Three episodes."""
        del variation
        return 300

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """Values of tens."""
        own = {"n_tasks": 512, "critic_scale": 0.1, "validation_tasks": 100}
        return super().training_defaults(algo, horizon) | own

    @property
    def learner_space(self) -> spaces.Box:
        """Positions; the half-circle of goals is well inside."""
        return spaces.Box(-SCALE, SCALE, (2,), jnp.zeros(()).dtype)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """As far as the robot can walk in an episode, and rounding."""
        del params
        farthest = STEP * self.task_horizon + 0.01
        return spaces.Box(-farthest, farthest, (2,), jnp.zeros(()).dtype)

    def action_space(self, params: Any = None) -> spaces.Discrete | spaces.Box:
        """Moves, in tenths, or points of their box."""
        del params
        return self.binned(MOVES)

    def sample_task(self, key: PRNGKeyArray) -> PointRobotTask:
        """A goal at a uniform angle of the half-circle. The key is consumed."""
        angle = jax.random.uniform(key, maxval=jnp.pi)
        return PointRobotTask(jnp.stack([jnp.cos(angle), jnp.sin(angle)]))

    def start(
        self, key: PRNGKeyArray, task: PointRobotTask
    ) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
        """The origin; the key is not consumed."""
        del key, task
        return jnp.zeros(2), jnp.zeros(2)

    def advance(
        self, key: PRNGKeyArray, inner: Float[Array, "2"], action: Array, task: Any
    ) -> Advance:
        """A move, and what it pays; the key is not consumed."""
        del key
        position = inner + STEP * self.unbinned(action, MOVES)
        distance = jnp.linalg.norm(position - task.goal)
        sparse = jnp.where(distance <= GOAL_RADIUS, 1 - distance, 0.0)
        reward = -distance if self.variation == "dense" else sparse
        return Advance(position, position, reward, terminated=False)
