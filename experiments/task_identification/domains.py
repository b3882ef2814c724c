"""The tasks to tell apart, and how many."""

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.rows import Row
from experiments.task_identification.posterior import (
    LogLikelihood,
    log_likelihood_of_bandit,
    log_likelihood_of_mdp,
)

N_TASKS = {"quick": 500, "cpu": 4000, "paper": 20_000}
"""Tasks among which duplicates are looked for, and on which classifiers are tested."""


@dataclass(frozen=True)
class Domain:
    """Tasks to tell apart.

    Attributes:
        title: in tables.
        env: name of the environment.
        options: of the environment.
        max_sweeps: of the learner's planning, as published.
        log_likelihood: of the evidence under the prior over tasks.
    """

    title: str
    env: str
    options: Mapping[str, int]
    max_sweeps: int
    log_likelihood: LogLikelihood


MDP_OPTIONS = {
    "mdp-10x5": {"num_states": 10, "num_actions": 5},
    "mdp-3x2": {"num_states": 3, "num_actions": 2},
}

DOMAINS = {
    name: Domain(
        f"MDPs, S = {options['num_states']}, A = {options['num_actions']}",
        "mdp",
        options,
        max_sweeps=10,
        log_likelihood=log_likelihood_of_mdp,
    )
    for name, options in MDP_OPTIONS.items()
}
DOMAINS["bandit-5"] = Domain(
    "Bandits, 5 arms",
    "bandit",
    {"num_arms": 5},
    max_sweeps=1,
    log_likelihood=log_likelihood_of_bandit,
)


def rows(preset: str) -> list[Row]:
    """One a domain."""
    return [
        Row(name, domain.title, domain.env, "iid", horizon=100, n_tasks=N_TASKS[preset])
        for name, domain in DOMAINS.items()
    ]
