"""What explorers of episodic MDPs share: experience, beliefs, and a plan for every episode."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import IndexAgent, Interaction, cast
from rl3jax.bellman import Backup, backward_induction
from rl3jax.checks import ConfigError
from rl3jax.envs import Environment


@struct.dataclass
class Experience:
    """Sufficient statistics of the transitions of a meta-episode.

    Attributes:
        counts: `[S, A, S]` int32, how often each (s, a, s') was seen.
        reward_sum: `[S, A]`, sum of the rewards of (s, a).
    """

    counts: jax.Array
    reward_sum: jax.Array

    @property
    def visits(self) -> Int[Array, "S A"]:
        """n(s, a), how often each action was taken in each state."""
        return self.counts.sum(axis=-1)

    def add(
        self,
        s: Int[Array, ""],
        action: Int[Array, ""],
        reward: Float[Array, ""],
        s_next: Int[Array, ""],
    ) -> "Experience":
        """The experience with one more transition."""
        return Experience(
            counts=self.counts.at[s, action, s_next].add(1),
            reward_sum=self.reward_sum.at[s, action].add(reward),
        )


def expected_transition_probs(experience: Experience) -> Float[Array, "S A S"]:
    """E[P(s' | s, a)] under independent Dirichlet(1) priors."""
    pseudo_counts = 1 + experience.counts
    return pseudo_counts / pseudo_counts.sum(axis=-1, keepdims=True)


def expected_reward(
    experience: Experience, prior_mean: Float[ArrayLike, ""]
) -> Float[Array, "S A"]:
    """E[R(s, a)] under independent N(prior_mean, 1) priors and unit noise.

    The prior weighs as much as one reward; the posterior variance is 1 / (1 + n(s, a)).
    """
    return (experience.reward_sum + prior_mean) / (1 + experience.visits)


@struct.dataclass
class EpisodicCarry:
    """What an explorer remembers.

    Attributes:
        experience: of all episodes of the meta-episode.
        plan: `[E, S]` int32, the actions of this episode.
        state: current state index, int32.
        episode_step: steps taken in this episode, int32; the same in all tasks.
    """

    experience: Any
    plan: jax.Array
    state: jax.Array
    episode_step: jax.Array


class EpisodicAgent(IndexAgent):
    """Plans at the start of every object-level episode, and follows the plan to its end.

    For environments whose episodes all last E steps: a task horizon, and no terminal states, which
    `for_env` checks. Beliefs start from the prior of random MDPs (RL², Duan et al., section 3.2):
    P(· | s, a) ~ Dirichlet(1), R(s, a) ~ N(1, 1), rewards with unit noise. Duan et al.'s scores of
    posterior sampling after few episodes are those of a prior mean of 0, which explores less.

    Attributes:
        num_states, num_actions: S and A.
        task_horizon: E, steps of every episode.
        prior_mean: `[]`, mean of a reward before any is seen.
    """

    num_states: int = struct.field(pytree_node=False)
    num_actions: int = struct.field(pytree_node=False)
    task_horizon: int = struct.field(pytree_node=False)
    prior_mean: jax.Array | float = 1.0

    @classmethod
    def for_env(cls, env: Environment, **constants: Any) -> "EpisodicAgent":
        """The agent of these constants, in the sizes of `env`.

        Raises:
            ConfigError: if episodes of `env` have no task horizon or can end before it.
        """
        if env.task_horizon is None:
            raise ConfigError(f"{cls.__name__} needs an environment with a task horizon")
        with jax.ensure_compile_time_eval():  # where constants are tuned, this is traced
            can_end_early = bool(env.tabular(env.default_params).terminal.any())
        if can_end_early:
            raise ConfigError(f"{cls.__name__} needs an environment without terminal states")
        return cls(
            num_states=env.num_states,
            num_actions=env.num_actions,
            task_horizon=env.task_horizon,
            **constants,
        )

    @abc.abstractmethod
    def backup(self, experience: Any, key: PRNGKeyArray) -> Backup:
        """The model that an episode is planned in, given all experience. The key is consumed."""

    def q_values(self, experience: Any, key: PRNGKeyArray) -> Float[Array, "E S A"]:
        """Undiscounted q by step of the episode, after which values are 0. The key is consumed."""
        v_end = jnp.zeros(self.num_states)
        backup = self.backup(experience, key)
        return backward_induction(backup, v_end, self.task_horizon, keep=lambda q: q)[1]

    def no_experience(self) -> Any:
        """The experience at the start of a meta-episode."""
        pairs = (self.num_states, self.num_actions)
        counts = jnp.zeros((*pairs, self.num_states), jnp.int32)
        return Experience(counts, reward_sum=jnp.zeros(pairs))

    @override
    def init(self, s: ArrayLike) -> EpisodicCarry:
        return EpisodicCarry(
            experience=self.no_experience(),
            plan=jnp.zeros((self.task_horizon, self.num_states), jnp.int32),
            state=cast("s", s, jnp.int32(0)),
            episode_step=jnp.int32(0),
        )

    @override
    def act(self, carry: EpisodicCarry, key: PRNGKeyArray) -> tuple[Int[Array, ""], EpisodicCarry]:
        plan = jax.lax.cond(
            carry.episode_step == 0,
            lambda: self.q_values(carry.experience, key).argmax(axis=-1).astype(jnp.int32),
            lambda: carry.plan,
        )
        return plan[carry.episode_step, carry.state], dataclasses.replace(carry, plan=plan)

    @override
    def take_in(self, carry: EpisodicCarry, interaction: Interaction) -> EpisodicCarry:
        action, reward, s_next, _, _, s_now, *_ = interaction
        # The clock does not depend on the task, so that `vmap` over tasks leaves the condition in
        # `act` a scalar: it plans once an episode and not, to throw it away, in every step.
        return dataclasses.replace(
            carry,
            experience=carry.experience.add(carry.state, action, reward, s_next),
            state=s_now,
            episode_step=(carry.episode_step + 1) % self.task_horizon,
        )
