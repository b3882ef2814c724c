"""Policies: what they are shown, memory and head, and what the head's numbers mean."""

from rl3jax.policy.distributions import (
    ActionDistribution,
    Categorical,
    Gaussian,
    TanhGaussian,
    distribution_over,
)
from rl3jax.policy.heads import HEADS, Head, HyperHead, PlainHead, PlanningHead, StateHead
from rl3jax.policy.network import Network
from rl3jax.policy.observation import SHOWN, Field, ObservationLayout

__all__ = [
    "HEADS",
    "SHOWN",
    "ActionDistribution",
    "Categorical",
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
    "distribution_over",
]
