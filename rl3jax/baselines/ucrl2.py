"""Upper confidence bounds for reinforcement learning."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.baselines.episodic import (
    EpisodicAgent,
    Experience,
    expected_reward,
    expected_transition_probs,
)
from rl3jax.bellman import Backup

DELTA = 0.05  # the probability, in theory, that a task lies outside of its confidence set


class Confidence(NamedTuple):
    """How far a plausible model may be from the estimate.

    Attributes:
        reward: `[S, A]`, half the width of the interval of the mean reward.
        transition: `[S, A]`, radius of the L1 ball of the next state's probabilities.
    """

    reward: jax.Array
    transition: jax.Array


def confidence(visits: Int[Array, "S A"]) -> Confidence:
    """Jaksch, Ortner & Auer 2010, equations 3 and 4, at the step after `visits`."""
    num_states, num_actions = visits.shape
    n = jnp.maximum(visits, 1)
    t = visits.sum() + 1
    log_rewards = jnp.log(2 * num_states * num_actions * t / DELTA)
    log_transitions = jnp.log(2 * num_actions * t / DELTA)
    return Confidence(
        reward=jnp.sqrt(7 * log_rewards / (2 * n)),
        transition=jnp.sqrt(14 * num_states * log_transitions / n),
    )


def optimistic_mean(
    probs: Float[Array, "*pairs S"], v: Float[Array, " S"], radius: Float[Array, "*pairs"]
) -> Float[Array, "*pairs"]:
    """The largest Σ_s' p(s') v(s') of a distribution p whose L1 distance to `probs` ≤ `radius`.

    Moving a mass of radius / 2 from the worst states to the best raises every tail P(v ≥ x) by as
    much, up to 1; the mean is min v plus the integral of the tail from there to max v. (Jaksch,
    Ortner & Auer 2010, figure 2, state by state.)
    """
    levels = jnp.sort(v)
    reaches = (v[:, None] >= levels[None, 1:]).astype(v.dtype)
    tail = jnp.minimum(probs @ reaches + radius[..., None] / 2, 1)
    return levels[0] + tail @ jnp.diff(levels)


class Ucrl2Agent(EpisodicAgent):
    """Acts optimally in the best of the plausible models, found anew at every episode's start.

    Jaksch, Ortner & Auer, Near-optimal regret bounds for reinforcement learning, JMLR 2010, for
    episodes: extended value iteration is backward induction, and episodes are the task's instead of
    ending when the visits of a pair double. Confidence sets have their form with δ = 0.05, but are
    scaled, and are about the posterior means, so that a pair never tried has the prior's.

    Attributes:
        scale: `[]`, factor of the confidence sets; 1 in theory, 0 is certainty equivalence.
    """

    scale: jax.Array | float = 0.03

    @override
    def backup(self, experience: Experience, key: PRNGKeyArray) -> Backup:
        del key
        width = confidence(experience.visits)
        reward = expected_reward(experience, self.prior_mean) + self.scale * width.reward
        transition_probs = expected_transition_probs(experience)
        radius = self.scale * width.transition
        return lambda v: reward + optimistic_mean(transition_probs, v, radius)
