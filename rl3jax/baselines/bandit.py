"""Classical Bernoulli bandit algorithms; all of them start from the prior U(0, 1) on every arm."""

import abc
import math

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import IndexAgent, Interaction
from rl3jax.baselines.ties import argmax_at_random


@struct.dataclass
class ArmCounts:
    """What a meta-episode has shown of the arms: a sufficient statistic.

    Attributes:
        successes: `[K]` int32, pulls that paid 1.
        pulls: `[K]` int32.
    """

    successes: jax.Array
    pulls: jax.Array

    @property
    def failures(self) -> Int[Array, " K"]:
        """Pulls that paid 0."""
        return self.pulls - self.successes


class BanditAgent(IndexAgent):
    """Base of agents that count, score every arm by the counts and pull one that scores highest.

    Attributes:
        num_arms: K; an arm pays 0 or 1.
    """

    num_arms: int = struct.field(pytree_node=False)

    @abc.abstractmethod
    def scores(self, counts: ArmCounts, key: PRNGKeyArray) -> Float[Array, " K"]:
        """How much speaks for pulling each arm. The key is consumed, if used."""

    @override
    def init(self, s: ArrayLike) -> ArmCounts:
        del s
        return ArmCounts(*jnp.zeros((2, self.num_arms), jnp.int32))

    @override
    def act(self, carry: ArmCounts, key: PRNGKeyArray) -> tuple[Int[Array, ""], ArmCounts]:
        key_scores, key_ties = jax.random.split(key)
        return argmax_at_random(self.scores(carry, key_scores), key_ties), carry

    @override
    def take_in(self, carry: ArmCounts, interaction: Interaction) -> ArmCounts:
        success = interaction.reward.astype(jnp.int32)
        return ArmCounts(
            successes=carry.successes.at[interaction.action].add(success),
            pulls=carry.pulls.at[interaction.action].add(1),
        )


class ThompsonAgent(BanditAgent):
    """Pulls an arm with the probability that it is the best (Thompson 1933).

    A success probability is drawn from the posterior of every arm, Beta(1 + successes,
    1 + failures); the arm that drew the largest is pulled.
    """

    @override
    def scores(self, counts: ArmCounts, key: PRNGKeyArray) -> Float[Array, " K"]:
        return jax.random.beta(key, 1.0 + counts.successes, 1.0 + counts.failures)


class Ucb1Agent(BanditAgent):
    """Pulls the arm of the largest upper confidence bound, untried arms first (UCB1).

    The bound of an arm with n of all t pulls so far is mean + c √(ln t / n); Auer, Cesa-Bianchi &
    Fischer (2002), figure 1, have c = √2.

    Attributes:
        c: exploration constant, a scalar leaf: a batch of agents is a grid of constants.
    """

    c: jax.Array | float = math.sqrt(2.0)

    @override
    def scores(self, counts: ArmCounts, key: PRNGKeyArray) -> Float[Array, " K"]:
        del key
        n = jnp.maximum(counts.pulls, 1)
        log_t = jnp.log(jnp.maximum(counts.pulls.sum(), 1))
        bounds = counts.successes / n + self.c * jnp.sqrt(log_t / n)
        return jnp.where(counts.pulls == 0, jnp.inf, bounds)
