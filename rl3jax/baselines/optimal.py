"""The ceiling: the optimal policy of a task that is known."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import Agent, Interaction
from rl3jax.envs import Environment
from rl3jax.object_level.planning import finite_horizon_plan


@struct.dataclass
class ClockCarry:
    """Where in the meta-episode the agent is; int32 scalars."""

    state: jax.Array
    t: jax.Array
    episode_step: jax.Array


class PlannedAgent(Agent):
    """Follows a plan for the whole meta-episode.

    Attributes:
        actions: `[H, E, S]`, by step of the meta-episode, step of the object-level episode (E = 1
            without a task horizon), and state.
    """

    actions: jax.Array

    @override
    def init(self, s: Int[Array, ""]) -> ClockCarry:
        return ClockCarry(jnp.asarray(s, jnp.int32), jnp.int32(0), jnp.int32(0))

    @override
    def act(self, carry: ClockCarry, key: PRNGKeyArray) -> tuple[Int[Array, ""], ClockCarry]:
        del key
        episode_step = jnp.minimum(carry.episode_step, self.actions.shape[1] - 1)
        return self.actions[carry.t, episode_step, carry.state].astype(jnp.int32), carry

    @override
    def take_in(self, carry: ClockCarry, interaction: Interaction) -> ClockCarry:
        episode_step = jnp.where(interaction.restarted, 0, carry.episode_step + 1)
        return ClockCarry(interaction.s_now, carry.t + 1, episode_step)


@dataclass(frozen=True)
class OptimalPolicy:
    """From a task to the agent that maximises its expected return over `horizon` env steps.

    The optimum is time-dependent: it knows the steps left in the object-level episode and in the
    meta-episode (RL³, RLC 2025: oracle of the normalised scores).
    """

    env: Environment
    horizon: int

    def __call__(self, task: Any) -> PlannedAgent:
        """The optimal agent of `task`."""
        return PlannedAgent(actions=self._plan(task)[1])

    def expected_return(self, task: Any) -> Float[Array, ""]:
        """The exact expected undiscounted return of that agent."""
        return self._plan(task)[0]

    def _plan(self, task: Any) -> tuple[Float[Array, ""], Int[Array, "H E S"]]:
        model = self.env.tabular(task)
        return finite_horizon_plan(
            model.transition_probs,
            model.mean_reward,
            model.start,
            model.terminal,
            self.env.task_horizon,
            self.horizon,
            self.env.max_successors,
        )
