"""The papers' hyper-parameters: their tables, and how a preset reads them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rl3jax.checks import ConfigError, check_choice, shown


@dataclass(frozen=True)
class _PaperDomain:
    """One domain's row of a paper's hyper-parameter table; steps are env steps."""

    iterations: dict[int, int | dict[str, int]]  # by horizon, and by algorithm where they differ
    steps_per_iteration: dict[int, int] | int
    minibatch_steps: dict[int, int] | int
    entropy: dict[int, float] | float
    final_entropy: float | None = None
    learning_rate: float = 3e-4
    estimates: dict[str, Any] = field(default_factory=dict)


COMMON: dict[str, Any] = {
    "network": "transformer",
    "object_level": "value_iteration",
    "head": "plain",
    "reward_scale": 1.0,
    "critic_scale": 1.0,
    "sweeps_per_step": 0,
    "squash_values": False,
    "mean_rewards": False,
    "adam_epsilon": 1e-7,
    "weight_decay": 1e-2,
    "epochs": 8,
    "kl_limit": 0.01,
    "clip": 0.2,
    "gae_lambda": 0.3,
    "discount": 0.99,
    "grad_clip": math.inf,
}

_PAPER_V4_PLANNING: dict[str, Any] = {
    "planning_discount": 1.0,
    "smoothing": 0.0,
    "tolerance": 0.01,
    "known_states": "visited",
}

_RLC_MDP_ITERATIONS: dict[int, int | dict[str, int]] = {
    128: 8_000,
    256: {"rl2": 8_000, "rl3": 6_000},
    512: {"rl2": 8_000, "rl3": 5_000},
    1024: {"rl2": 12_000, "rl3": 4_000},
    1500: {"rl2": 15_000, "rl3": 5_000},
    2048: {"rl2": 15_000, "rl3": 5_000},
}

_PAPER_V4 = {
    "bandit": _PaperDomain({100: 3_000, 500: 6_000}, 32_000, 3_200, {100: 0.001, 500: 0.01}),
    "mdp": _PaperDomain({100: 10_000, 500: 24_000}, 32_000, 3_200, 0.01),
    "gridworld": _PaperDomain(
        {250: 20_000, 350: 12_000},
        32_000,
        3_200,
        0.04,
        learning_rate=2e-4,
        estimates={"warm_start": True, "value_scale": 10.0},
    ),
}

_PAPER_RLC = {
    "bandit": _PaperDomain({512: 5_000}, 32_768, 4_096, 0.1, final_entropy=0.0),
    "mdp": _PaperDomain(_RLC_MDP_ITERATIONS, 32_768, 4_096, 0.1, final_entropy=0.0),
    "gridworld": _PaperDomain(
        {250: 20_000, 350: 20_000},
        {250: 32_000, 350: 33_600},
        {250: 4_000, 350: 4_200},
        0.04,
        learning_rate=2e-4,
        estimates={
            "planning_discount": 0.95,
            "smoothing": 0.01,
            "tolerance": 0.1,
            "known_states": "visited",
            "warm_start": True,
            "value_scale": 10.0,
        },
    ),
}

PRESETS = {"paper-v4": _PAPER_V4, "paper-rlc": _PAPER_RLC, "paper": _PAPER_RLC}


def preset_horizon(preset: str, env: str, usual: int) -> int:
    """The environment's usual interaction budget, or the shortest one that the paper has."""
    budgets = _domain(preset, env).iterations
    return usual if usual in budgets else min(budgets)


def preset_values(
    preset: str, env: str, algo: str, horizon: int, given: Mapping[str, Any]
) -> dict[str, Any]:
    """What a preset says of a run, by names of `Config`; `given` are the fields that it sets.

    Raises:
        ConfigError: for an unknown preset, or one without values for the environment or horizon.
    """
    paper = _domain(preset, env)
    if horizon not in paper.iterations and "iterations" not in given:
        raise ConfigError(
            f"preset {preset} trains {env} at horizon "
            f"{', '.join(map(str, paper.iterations))}, not {horizon}; give iterations as well"
        )
    iterations = paper.iterations.get(horizon, given.get("iterations"))
    if isinstance(iterations, dict):
        iterations = iterations.get(algo, iterations["rl3"])
    entropy = _at_horizon(paper.entropy, horizon)
    final_entropy = paper.final_entropy
    if final_entropy is None:
        final_entropy = given.get("entropy", entropy)
    return {
        **COMMON,
        **paper.estimates,
        **(_PAPER_V4_PLANNING if preset == "paper-v4" else {}),
        "n_tasks": max(1, int(_at_horizon(paper.steps_per_iteration, horizon)) // horizon),
        "minibatch_tasks": max(1, round(_at_horizon(paper.minibatch_steps, horizon) / horizon)),
        "iterations": iterations,
        "learning_rate": paper.learning_rate,
        "final_learning_rate": given.get("learning_rate", paper.learning_rate),
        "entropy": entropy,
        "final_entropy": final_entropy,
    }


def _domain(preset: str, env: str) -> _PaperDomain:
    check_choice("preset", preset, PRESETS)
    domains = PRESETS[preset]
    if env not in domains:
        raise ConfigError(
            f"preset {preset} has no values for env {shown(env)}; it has {', '.join(domains)}"
        )
    return domains[env]


def _at_horizon(values: dict[int, Any] | float, horizon: int) -> Any:
    """A value that may depend on the horizon; elsewhere that of the longest one."""
    return values.get(horizon, values[max(values)]) if isinstance(values, dict) else values
