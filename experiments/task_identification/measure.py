"""What is measured of a domain: duplicates among its tasks, and how well they are told apart."""

from functools import partial
from typing import Any

import jax
import numpy as np
from scipy import stats

import rl3jax
from experiments.experiment import Measured
from experiments.rows import Row
from experiments.task_identification.classifiers import trained_logits_by_step
from experiments.task_identification.domains import DOMAINS
from experiments.task_identification.duplicates import (
    DISCOUNT,
    SWEEPS_TO_CONVERGE,
    duplicates,
    estimation_errors,
)
from experiments.task_identification.evidence import STEPS, Evidence, twice_in_each
from experiments.task_identification.features import INPUTS
from experiments.task_identification.posterior import LogLikelihood, posterior_log_odds
from rl3jax import object_level, statistics

TRAINING_TASKS = 4
"""Tasks that classifiers learn from, for each of those."""

SMOOTHING = 0.1
"""Of object-level RL, as published."""


def measure(row: Row, seed: int, agents: dict[str, Any]) -> Measured:
    """Both parts, on tasks drawn for this seed; there are no agents."""
    del agents
    domain = DOMAINS[row.name]
    env = rl3jax.make_env(row.env, variation=row.variation, **domain.options)
    learner = object_level.value_iteration(
        env.num_states, env.num_actions, DISCOUNT, SMOOTHING, domain.max_sweeps
    )
    key_tasks, key_episodes, key_classifiers = jax.random.split(jax.random.key(seed), 3)
    n = row.n_tasks
    tasks = jax.vmap(env.sample_task)(jax.random.split(key_tasks, (1 + TRAINING_TASKS) * n))
    twice = twice_in_each(env, learner, tasks, key_episodes)
    test, training = (jax.tree.map(lambda x, p=p: x[:, p], twice) for p in np.s_[:n, n:])
    models = jax.vmap(env.tabular)(jax.tree.map(lambda x: x[:n], tasks))
    limit, optimal = (
        jax.vmap(lambda model, sweeps=sweeps: model.action_values(DISCOUNT, sweeps))(models)
        for sweeps in (domain.max_sweeps, SWEEPS_TO_CONVERGE)
    )
    return Measured(
        extra={
            "limit": duplicates(limit),
            "optimal": duplicates(optimal),
            "errors": estimation_errors(test.q[:, :, 0], limit),
            "classifiers": classify(domain.log_likelihood, training, test, key_classifiers),
        }
    )


def classify(
    log_likelihood: LogLikelihood, training: Evidence, test: Evidence, key: Any
) -> dict[str, dict[str, list[float]]]:
    """The quality of every classifier after each of `STEPS`, by what it is shown."""
    keys = jax.random.split(key, (len(INPUTS), len(STEPS)))
    logits = {
        name: trained_logits_by_step(name, training, test, keys_of_steps)
        for name, keys_of_steps in zip(INPUTS, keys, strict=True)
    }
    logits["posterior"] = jax.vmap(partial(posterior_log_odds, log_likelihood))(test)
    return {name: qualities(np.asarray(each)) for name, each in logits.items()}


def qualities(logits: np.ndarray) -> dict[str, list[float]]:
    """`quality` of each of `[T, 2, M]`, a list each."""
    of_steps = [quality(x) for x in logits]
    return {name: [each[name] for each in of_steps] for name in of_steps[0]}


def quality(logits: np.ndarray) -> dict[str, float]:
    """Of logits `[2, M]`: accuracy, its standard error over tasks, and the area under the ROC."""
    same, different = logits
    is_right = ((same > 0).astype(float) + (different <= 0)) / 2
    accuracy, stderr = statistics.mean_and_stderr(is_right)
    n = len(same)
    ranks = stats.rankdata(np.concatenate([same, different]))[:n]
    auc = float((ranks.sum() - n * (n + 1) / 2) / n**2)
    return {"accuracy": accuracy, "stderr": stderr, "auc": auc}
