"""The Bayesian exploration bonus."""

import jax
from jaxtyping import PRNGKeyArray
from typing_extensions import override

from rl3jax.baselines.episodic import (
    EpisodicAgent,
    Experience,
    expected_reward,
    expected_transition_probs,
)
from rl3jax.bellman import Backup


class BebAgent(EpisodicAgent):
    """Acts optimally in the expected model with rewards raised by β / (1 + n(s, a)).

    Kolter & Ng, Near-Bayesian exploration in polynomial time, ICML 2009. There, rewards are known
    and n includes the prior's pseudo-counts; here, rewards have their posterior mean and n counts
    visits alone. β = 0 is certainty equivalence.

    Attributes:
        beta: β, `[]`, in reward units; at least 0.
    """

    beta: jax.Array | float = 1.0

    @override
    def backup(self, experience: Experience, key: PRNGKeyArray) -> Backup:
        del key
        bonus = self.beta / (1 + experience.visits)
        reward = expected_reward(experience, self.prior_mean) + bonus
        transition_probs = expected_transition_probs(experience)
        return lambda v: reward + transition_probs @ v
