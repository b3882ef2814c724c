"""Greedy in the action-values of an object-level learner: what RL³ is shown, without meta-RL."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import IndexAgent, Interaction, cast
from rl3jax.baselines.ties import argmax_at_random
from rl3jax.envs import Environment
from rl3jax.object_level import ObjectLearner, q_learning, value_iteration


@struct.dataclass
class LearnerCarry:
    """What the agent keeps of a task.

    Attributes:
        table: the learner's.
        state: current state index, int32.
    """

    table: Any
    state: jax.Array


class EpsilonGreedyAgent(IndexAgent):
    """Takes the action with the largest estimate, or with probability ε any action.

    Attributes:
        epsilon: `[]`, probability of a uniformly random action (Sutton and Barto 2018, 2.2).
        learner: gives the estimates.
    """

    epsilon: jax.Array
    learner: ObjectLearner = struct.field(pytree_node=False)

    @override
    def init(self, s: ArrayLike) -> LearnerCarry:
        return LearnerCarry(self.learner.init(), cast("s", s, jnp.int32(0)))

    @override
    def act(self, carry: LearnerCarry, key: PRNGKeyArray) -> tuple[Int[Array, ""], LearnerCarry]:
        key_explore, key_any, key_ties = jax.random.split(key, 3)
        q = self.learner.estimates(carry.table, carry.state).q
        anything = jax.random.randint(key_any, (), 0, self.learner.num_actions, dtype=jnp.int32)
        explores = jax.random.bernoulli(key_explore, self.epsilon)
        return jnp.where(explores, anything, argmax_at_random(q, key_ties)), carry

    @override
    def take_in(self, carry: LearnerCarry, interaction: Interaction) -> LearnerCarry:
        action, reward, s_next, terminated, _, s_now, *_ = interaction
        table = self.learner.update(carry.table, carry.state, action, reward, s_next, terminated)
        return LearnerCarry(table, s_now)

    @override
    def overflowed(self, carry: LearnerCarry) -> Bool[Array, ""]:
        return jnp.asarray(self.learner.overflowed(carry.table))


def certainty_equivalence(env: Environment, horizon: int) -> EpsilonGreedyAgent:
    """Acts greedily in the model that the task's own data suggest, planned anew at every step.

    Certainty equivalence (Kumar and Varaiya 1986): the estimated model is taken for the true one,
    so nothing is explored for its own sake; ties, as between untried actions, are broken at random.
    """
    episodic = env.task_horizon is not None
    learner = value_iteration(
        env.num_states,
        env.num_actions,
        smoothing=0.1 if episodic else 0.0,
        max_sweeps=env.task_horizon or horizon,
        known="all" if episodic else "visited",
        sweeps_per_step=None if episodic else 4,
        slots=env.max_successors,
    )
    return EpsilonGreedyAgent(epsilon=jnp.zeros(()), learner=learner)


def epsilon_greedy_q_learning(
    env: Environment, horizon: int, epsilon: Float[Array, ""]
) -> EpsilonGreedyAgent:
    """Q-learning with step size 1/N(s, a) from values of 0 (Watkins and Dayan 1992), ε-greedy."""
    del horizon
    learner = q_learning(env.num_states, env.num_actions)
    return EpsilonGreedyAgent(epsilon=epsilon, learner=learner)
