"""T-maze: an indicator to be remembered through a long, noisy corridor."""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from annotated_types import Ge
from flax import struct
from gymnax.environments import spaces
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rl3jax.envs.vector import Advance, VectorEnvironment

UP, DOWN = range(2)
RIGHT_REWARD, WRONG_REWARD = 4.0, -3.0


@struct.dataclass
class TMazeTask:
    """What mazes differ in.

    Attributes:
        indicator: `[]` float, 1 if one should go up at the end, −1 if down.
    """

    indicator: jax.Array


@dataclass(frozen=True)
class TMaze(VectorEnvironment):
    """T-maze with a long corridor and noise (AMRL, Beck et al. 2020).

    One is moved to the right at each step, whatever one does, until in the last cell an action
    counts: up or down, one of which pays 4, the other −3. The state is (in the first cell?,
    indicator, in the last?, noise): the indicator is ±1 in the first cell, elsewhere 0, the noise
    ±1, drawn in each step. Four episodes are the budget, with the same indicator: 16 is the most.
    Estimates of the last cell tell which way is right from the second episode on, so train with
    algo rl2 to see what a memory is good for.

    Raises:
        ConfigError: on construction, for a length below 2.
    """

    length: Annotated[int, Ge(2)] = 100
    """Cells of the corridor, and steps of an episode."""

    may_end = False

    @property
    def task_horizon(self) -> int:
        """A step a cell."""
        return self.length

    @classmethod
    def training_horizon(cls, variation: str | None) -> int:
        """Four episodes of the usual length."""
        del variation
        return 4 * cls.length

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """A memory that is long from the start."""
        own = {"network": "mingru", "critic_scale": 0.3, "n_tasks": 256}
        return super().training_defaults(algo, horizon) | own

    @property
    def learner_space(self) -> spaces.Box:
        """What is seen of a cell."""
        return spaces.Box(-1.0, 1.0, (4,), jnp.zeros(()).dtype)

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """`UP` and `DOWN`."""
        del params
        return spaces.Discrete(2)

    def sample_task(self, key: PRNGKeyArray) -> TMazeTask:
        """An indicator, either alike. The key is consumed."""
        return TMazeTask(jax.random.rademacher(key, dtype=float))

    def start(self, key: PRNGKeyArray, task: TMazeTask) -> tuple[Int[Array, ""], Float[Array, "4"]]:
        """The first cell. The key is consumed."""
        return jnp.int32(0), self._seen(key, jnp.int32(0), task)

    def advance(
        self, key: PRNGKeyArray, inner: Int[Array, ""], action: Int[Array, ""], task: Any
    ) -> Advance:
        """A cell to the right, and in the last what the action pays. The key is consumed.

        `inner` is the cell.
        """
        last = self.length - 1
        is_right = (action == UP) == (task.indicator > 0)
        reward = jnp.where(is_right, RIGHT_REWARD, WRONG_REWARD)
        cell = jnp.minimum(inner + 1, last)
        seen = self._seen(key, cell, task)
        return Advance(cell, seen, jnp.where(inner == last, reward, 0.0), terminated=False)

    def _seen(self, key: PRNGKeyArray, cell: Int[Array, ""], task: TMazeTask) -> Float[Array, "4"]:
        noise = jax.random.rademacher(key, dtype=float)
        is_first, is_last = ((cell == at).astype(float) for at in (0, self.length - 1))
        return jnp.stack([is_first, is_first * task.indicator, is_last, noise])
