"""The ceiling: the optimal policy of a task that is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import IndexAgent, Interaction, cast
from rl3jax.bellman import backward_induction
from rl3jax.envs import Environment, TabularModel


@struct.dataclass
class ClockCarry:
    """Where in the meta-episode the agent is; int32 scalars."""

    state: jax.Array
    t: jax.Array
    episode_step: jax.Array


class PlannedAgent(IndexAgent):
    """Follows a plan for the whole meta-episode.

    Attributes:
        actions: `[H, E, S]`, by step of the meta-episode, step of the object-level episode (E = 1
            without a task horizon), and state.
    """

    actions: jax.Array

    @override
    def init(self, s: ArrayLike) -> ClockCarry:
        return ClockCarry(cast("s", s, jnp.int32(0)), jnp.int32(0), jnp.int32(0))

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
        env = self.env
        return finite_horizon_plan(
            env.tabular(task), env.task_horizon, self.horizon, env.max_successors
        )


def finite_horizon_plan(
    model: TabularModel, task_horizon: int | None, budget: int, max_successors: int | None = None
) -> tuple[Float[Array, ""], Int[Array, "H E S"]]:
    """The optimal policy of a known task for a meta-episode, by backward induction.

    Entering a terminal state or reaching the task horizon continues in a start state; the
    meta-episode ends, with value 0, after `budget` steps. With R and P the mean rewards and the
    transition probabilities of the model, and e the step of the object-level episode,

        V_t(e, s) = max_a R(s, a) + Σ_s' P(s'|s, a) C_t(e, s'),
        C_t(e, s') = Σ_s start(s) V_t+1(0, s) after an episode's end, else V_t+1(e + 1, s').

    Args:
        model: of the task.
        task_horizon: E, length of an object-level episode; `None` if it has no limit, in which
            case e does not matter and the plan has a single row, E = 1.
        budget: H, length of the meta-episode.
        max_successors: the most next states of positive probability that a pair of state and action
            has, where that is known to be few; the plan is the same, and quicker.

    Returns:
        The optimal expected undiscounted return, and the optimal actions by step of the
        meta-episode, step of the object-level episode and state: int8, or int32 if A > 127.
    """
    num_states, num_actions = model.mean_reward.shape
    expectation = _expectation(model.transition_probs, max_successors)
    action_dtype = jnp.int8 if num_actions <= 127 else jnp.int32

    def backup(v_tp1: Float[Array, "E S"]) -> Float[Array, "E S A"]:
        restart = jnp.full((1, num_states), model.start @ v_tp1[0])
        carry_on = v_tp1 if task_horizon is None else jnp.concatenate([v_tp1[1:], restart])
        continuation = jnp.where(model.terminal[None, :], restart, carry_on)
        return model.mean_reward[None] + expectation(continuation)

    v_end = jnp.zeros((task_horizon or 1, num_states), model.mean_reward.dtype)
    v_0, actions = backward_induction(
        backup, v_end, budget, keep=lambda q: q.argmax(axis=-1).astype(action_dtype)
    )
    return model.start @ v_0[0], actions


def _expectation(
    transition_probs: Float[Array, "S A S"], max_successors: int | None
) -> Callable[[Float[Array, "E S"]], Float[Array, "E S A"]]:
    """The function Σ_s' P(s'|s, a) v(e, s') of v."""
    if max_successors is None or max_successors >= len(transition_probs):
        return lambda v: jnp.einsum("san,en->esa", transition_probs, v)
    probs, successors = jax.lax.top_k(transition_probs, max_successors)
    return lambda v: jnp.einsum("sak,esak->esa", probs, v[:, successors])
