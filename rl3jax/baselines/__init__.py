"""Agents to compare with; each knows nothing of meta-training."""

from rl3jax.baselines.optimal import OptimalPolicy
from rl3jax.baselines.uniform import UniformAgent

__all__ = ["OptimalPolicy", "UniformAgent"]
