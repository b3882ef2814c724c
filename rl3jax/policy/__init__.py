"""Policies: what they are shown and believe, memory and head, what the head's numbers mean."""

from rl3jax.policy.belief import BELIEFS, Belief, Evidence, Varibad
from rl3jax.policy.distributions import (
    ActionDistribution,
    Categorical,
    Gaussian,
    TanhGaussian,
    distribution_over,
)
from rl3jax.policy.heads import HEADS, Head, HyperHead, PlainHead, PlanningHead, StateHead
from rl3jax.policy.network import Network
from rl3jax.policy.observation import SHOWN, Field, ObservationLayout, fields_of

__all__ = [
    "BELIEFS",
    "HEADS",
    "SHOWN",
    "ActionDistribution",
    "Belief",
    "Categorical",
    "Evidence",
    "Field",
    "Gaussian",
    "Head",
    "HyperHead",
    "Network",
    "ObservationLayout",
    "PlainHead",
    "PlanningHead",
    "StateHead",
    "TanhGaussian",
    "Varibad",
    "distribution_over",
    "fields_of",
]
