"""Baselines by name: what each one plays, and how it is made for an environment and a horizon."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from gymnax.environments import spaces

from rl3jax.agent import Agent
from rl3jax.baselines.bandit import ThompsonAgent, Ucb1Agent
from rl3jax.baselines.bayes_optimal import MAX_ENTRIES, BayesOptimalAgent, table_entries
from rl3jax.baselines.beb import BebAgent
from rl3jax.baselines.gittins import GittinsAgent
from rl3jax.baselines.greedy import certainty_equivalence, epsilon_greedy_q_learning
from rl3jax.baselines.gridnavi import GridNaviAgent
from rl3jax.baselines.optimal import OptimalPolicy
from rl3jax.baselines.psrl import OptimisticPsrlAgent, PsrlAgent
from rl3jax.baselines.tuning import best_constant
from rl3jax.baselines.ucrl2 import Ucrl2Agent
from rl3jax.baselines.uniform import uniform_agent
from rl3jax.checks import ConfigError, check_choice
from rl3jax.envs import Environment, GridNavi, TaskDistribution

AgentOrMaker = Agent | Callable[[Any], Agent]
"""An agent, or a hashable function from a task to the agent that knows it."""


@dataclass(frozen=True)
class Domain:
    """Environments that a baseline plays.

    Attributes:
        description: of these environments, for an error message.
        holds: whether an environment, with a meta-episode's horizon, is one.
    """

    description: str
    holds: Callable[[Any, int], bool]


BOUNDED = Domain(
    "environments of finitely many actions, or actions in a box",
    lambda env, horizon: isinstance(env.action_space(), spaces.Discrete | spaces.Box),
)
TABULAR = Domain("tabular environments", lambda env, horizon: isinstance(env, Environment))
MODEL = Domain(
    "tabular environments with an exact model (tabular)",
    lambda env, horizon: TABULAR.holds(env, horizon) and env.has_model,
)
BANDIT = Domain(
    "bandits",
    lambda env, horizon: TABULAR.holds(env, horizon) and env.num_states == env.task_horizon == 1,
)
SOLVED = Domain(
    "bandits of few arms and pulls, and gridnavi",
    lambda env, horizon: (
        isinstance(env, GridNavi)
        or (BANDIT.holds(env, horizon) and table_entries(env.num_actions, horizon) <= MAX_ENTRIES)
    ),
)
EPISODIC = Domain(
    "environments of more than one state with a task horizon and an exact model",
    lambda env, horizon: (
        TABULAR.holds(env, horizon)
        and env.num_states > 1
        and env.task_horizon is not None
        and env.has_model  # by which it is known whether episodes can end early
    ),
)


@dataclass(frozen=True)
class Baseline:
    """One algorithm to compare with.

    Attributes:
        title: its name in tables.
        domain: what it plays.
        make: from environment and horizon, and the constant if it has one, to the agent.
        constants: values of which the best is chosen on tasks of their own; none: nothing to tune.
    """

    title: str
    domain: Domain
    make: Callable[..., AgentOrMaker]
    constants: tuple[float, ...] = ()


BASELINES: dict[str, Baseline] = {
    "random": Baseline("random", BOUNDED, lambda env, horizon: uniform_agent(env.action_space())),
    "optimal": Baseline("optimal policy", MODEL, OptimalPolicy),
    "greedy": Baseline("greedy certainty equivalence", TABULAR, certainty_equivalence),
    "q-learning": Baseline(
        "ε-greedy Q-learning", TABULAR, epsilon_greedy_q_learning, (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
    ),
    "thompson": Baseline(
        "Thompson sampling", BANDIT, lambda env, horizon: ThompsonAgent(env.num_actions)
    ),
    "ucb1": Baseline(
        "UCB1",
        BANDIT,
        lambda env, horizon, c: Ucb1Agent(env.num_actions, c),
        (0.1, 0.13, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4, 0.5, 0.7, 1.0, 1.4),
    ),
    "gittins": Baseline(
        "Gittins index", BANDIT, lambda env, horizon: GittinsAgent.create(env.num_actions, horizon)
    ),
    "bayes-optimal": Baseline(
        "Bayes-optimal",
        SOLVED,
        lambda env, horizon: (
            GridNaviAgent.create(horizon)
            if isinstance(env, GridNavi)
            else BayesOptimalAgent.create(env.num_actions, horizon)
        ),
    ),
    "psrl": Baseline("PSRL", EPISODIC, lambda env, horizon: PsrlAgent.for_env(env)),
    # The prior with which the scores of Duan et al. (2016) are reproduced.
    "psrl-prior-0": Baseline(
        "PSRL, reward prior N(0, 1)",
        EPISODIC,
        lambda env, horizon: PsrlAgent.for_env(env, prior_mean=0.0),
    ),
    "opsrl": Baseline(
        "optimistic PSRL", EPISODIC, lambda env, horizon: OptimisticPsrlAgent.for_env(env)
    ),
    "beb": Baseline(
        "BEB",
        EPISODIC,
        lambda env, horizon, beta: BebAgent.for_env(env, beta=beta),
        (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8),
    ),
    "ucrl2": Baseline(
        "UCRL2",
        EPISODIC,
        lambda env, horizon, scale: Ucrl2Agent.for_env(env, scale=scale),
        (0.016, 0.022, 0.031, 0.044, 0.063, 0.088),
    ),
}


def names(env: TaskDistribution, horizon: int) -> tuple[str, ...]:
    """Of the baselines that play `env`."""
    return tuple(name for name, b in BASELINES.items() if b.domain.holds(env, horizon))


def make_baseline(
    name: str, env: TaskDistribution, horizon: int, tuned_on: TaskDistribution | None = None
) -> AgentOrMaker:
    """The baseline of that name for meta-episodes of `horizon` env steps in `env`.

    Args:
        name: one of `names(env, horizon)`.
        env: what it plays.
        horizon: env steps of a meta-episode.
        tuned_on: where a constant is chosen, on tasks that none is scored on (default: `env`);
            of a shifted distribution nothing should be known, so give the unshifted one.

    Raises:
        ConfigError: if there is no such baseline, or it does not play `env`.
    """
    constant = tuned_constant(name, tuned_on or env, horizon)
    make = _playing(name, env, horizon).make
    return make(env, horizon) if constant is None else make(env, horizon, jnp.asarray(constant))


def tuned_constant(name: str, env: TaskDistribution, horizon: int) -> float | None:
    """The constant chosen for a baseline on tuning tasks of `env`; None if it has none.

    Raises:
        ConfigError: if there is no such baseline, or it does not play `env`.
    """
    baseline = _playing(name, env, horizon)
    if not baseline.constants:
        return None
    return best_constant(baseline.make, baseline.constants, env, horizon)


def _playing(name: str, env: TaskDistribution, horizon: int) -> Baseline:
    check_choice("baseline", name, BASELINES)
    baseline = BASELINES[name]
    if not baseline.domain.holds(env, horizon):
        raise ConfigError(
            f"baseline {name!r} plays {baseline.domain.description}; here play "
            f"{', '.join(names(env, horizon)) or 'none'}"
        )
    return baseline
