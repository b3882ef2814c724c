"""Agents to compare with, without meta-trained policies. By name: `make_baseline`, `planners`."""

from rl3jax.baselines.bandit import ThompsonAgent, Ucb1Agent
from rl3jax.baselines.bayes_optimal import BayesOptimalAgent, bayes_optimal_return
from rl3jax.baselines.beb import BebAgent
from rl3jax.baselines.gittins import GittinsAgent
from rl3jax.baselines.greedy import EpsilonGreedyAgent
from rl3jax.baselines.optimal import OptimalPolicy
from rl3jax.baselines.planner import PLANNERS, PlannerAgent, planners
from rl3jax.baselines.psrl import OptimisticPsrlAgent, PsrlAgent
from rl3jax.baselines.registry import (
    BASELINES,
    AgentOrMaker,
    Baseline,
    make_baseline,
    names,
    tuned_constant,
)
from rl3jax.baselines.uniform import UniformAgent, UniformBoxAgent

__all__ = [
    "BASELINES",
    "PLANNERS",
    "AgentOrMaker",
    "Baseline",
    "BayesOptimalAgent",
    "BebAgent",
    "EpsilonGreedyAgent",
    "GittinsAgent",
    "OptimalPolicy",
    "OptimisticPsrlAgent",
    "PlannerAgent",
    "PsrlAgent",
    "ThompsonAgent",
    "Ucb1Agent",
    "UniformAgent",
    "UniformBoxAgent",
    "bayes_optimal_return",
    "make_baseline",
    "names",
    "planners",
    "tuned_constant",
]
