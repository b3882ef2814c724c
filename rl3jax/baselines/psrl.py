"""Posterior sampling for reinforcement learning, plain and optimistic."""

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.baselines.episodic import EpisodicAgent, Experience, expected_reward
from rl3jax.bellman import Backup
from rl3jax.checks import ConfigError


@struct.dataclass
class LoggedExperience(Experience):
    """Experience together with its transitions one by one.

    Attributes:
        log: `[H]` int32, the flat index of each (s, a, s'), in order; past the end of `counts`
            where no transition is yet.
        t: number of transitions, int32.
    """

    log: jax.Array
    t: jax.Array

    @override
    def add(
        self,
        s: Int[Array, ""],
        action: Int[Array, ""],
        reward: Float[Array, ""],
        s_next: Int[Array, ""],
    ) -> "LoggedExperience":
        """The experience with one more transition; those after the H-th are lost."""
        num_states, num_actions, _ = self.counts.shape
        index = (s * num_actions + action) * num_states + s_next
        added, log = super().add(s, action, reward, s_next), self.log.at[self.t].set(index)
        return LoggedExperience(added.counts, added.reward_sum, log, self.t + 1)


def sample_reward(
    key: PRNGKeyArray, experience: Experience, prior_mean: Float[ArrayLike, ""]
) -> Float[Array, "S A"]:
    """R(s, a) from its posterior, independent normals. The key is consumed."""
    visits = experience.visits
    noise = jax.random.normal(key, visits.shape)
    return expected_reward(experience, prior_mean) + noise / jnp.sqrt(1 + visits)


def sample_transition_probs(
    key: PRNGKeyArray, experience: LoggedExperience
) -> Float[Array, "S A S"]:
    """P(· | s, a) from its posterior, independent Dirichlet(1 + counts). The key is consumed.

    By the Bayesian bootstrap (Rubin 1981), for speed: normalised gammas of shape 1 + n are sums of
    1 + n exponentials, one of the prior and one of each transition seen.
    """
    key_prior, key_seen = jax.random.split(key)
    prior = jax.random.exponential(key_prior, (experience.counts.size,))
    seen = jax.random.exponential(key_seen, experience.log.shape)
    gammas = prior.at[experience.log].add(seen, mode="drop").reshape(experience.counts.shape)
    return gammas / gammas.sum(axis=-1, keepdims=True)


class PsrlAgent(EpisodicAgent):
    """Posterior sampling: acts optimally in a model drawn from its belief at every episode's start.

    Strens, A Bayesian framework for reinforcement learning, ICML 2000; Osband, Russo & Van Roy,
    (More) efficient reinforcement learning via posterior sampling, NeurIPS 2013. The belief of
    `EpisodicAgent` is exact.

    Attributes:
        horizon: H, the most transitions that it can remember; `for_horizon` sets it.
    """

    horizon: int | None = struct.field(pytree_node=False, default=None)

    @override
    def for_horizon(self, horizon: int) -> "PsrlAgent":
        return self.replace(horizon=horizon)

    @override
    def no_experience(self) -> LoggedExperience:
        if self.horizon is None:
            raise ConfigError(f"{type(self).__name__} needs to know its horizon (for_horizon)")
        nothing = super().no_experience()
        log = jnp.full(self.horizon, nothing.counts.size, jnp.int32)
        return LoggedExperience(nothing.counts, nothing.reward_sum, log, jnp.int32(0))

    @override
    def backup(self, experience: LoggedExperience, key: PRNGKeyArray) -> Backup:
        key_reward, key_transition = jax.random.split(key)
        reward = sample_reward(key_reward, experience, self.prior_mean)
        transition_probs = sample_transition_probs(key_transition, experience)
        return lambda v: reward + transition_probs @ v


class OptimisticPsrlAgent(PsrlAgent):
    """Optimistic posterior sampling (OPSRL): the upper envelope of several posterior samples.

    Models are drawn from the belief and solved one by one; an action's value is its largest in any
    of them. One sample is posterior sampling.

    Osband & Van Roy, Why is posterior sampling better than optimism for reinforcement learning?,
    ICML 2017, and as in their TabulaRL. Agrawal & Jia, NeurIPS 2017, instead let every backup take
    the best sample of each pair of state and action.

    Attributes:
        num_samples: number of models.
    """

    num_samples: int = struct.field(pytree_node=False, default=5)

    @override
    def q_values(self, experience: LoggedExperience, key: PRNGKeyArray) -> Float[Array, "E S A"]:
        keys = jax.random.split(key, self.num_samples)
        return jax.vmap(super().q_values, in_axes=(None, 0))(experience, keys).max(axis=0)
