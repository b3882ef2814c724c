"""What is wrong with an environment of one's own: `check_env` and its findings."""

from typing import Any

import jax
from gymnax.environments import spaces
from jaxtyping import PRNGKeyArray

from rl3jax.checks import ConfigError
from rl3jax.env_check import behaviour, interface, model, vectors
from rl3jax.env_check.findings import EnvFailureError, EnvFinding
from rl3jax.env_check.probe import Check, Probe
from rl3jax.envs import Environment, TaskDistribution

__all__ = ["EnvFinding", "check_env"]

STAGES: tuple[tuple[Check, ...], ...] = (
    (interface.check_class,),
    (interface.check_sizes,),
    (interface.check_sample_task,),
    (interface.check_start_index, interface.check_transition),
    (interface.check_state_drift,),
    (interface.check_reset_and_step, interface.check_tabular),
    (interface.check_vmap, interface.check_default_task),
    (behaviour.check_compiled_once,),
    (
        behaviour.check_determinism,
        behaviour.check_tasks_differ,
        behaviour.check_state_holds_no_task,
    ),
    (model.check_indices, model.check_rewards),
    (
        model.check_distributions,
        model.check_ends,
        model.check_restarts,
        model.check_starts,
        model.check_transitions,
        model.check_mean_rewards,
        model.check_slots,
        behaviour.check_observations,
        behaviour.check_features,
    ),
)
"""Checks in order. A stage is reached if nothing was found before: its checks rest on that."""

STAGES_OF_VECTORS: tuple[tuple[Check, ...], ...] = (
    (interface.check_class,),
    (vectors.check_spaces,),
    (interface.check_sample_task,),
    (interface.check_state_drift,),
    (vectors.check_reset_and_step,),
    (interface.check_vmap, interface.check_default_task),
    (behaviour.check_compiled_once,),
    (
        behaviour.check_determinism,
        behaviour.check_tasks_differ,
        behaviour.check_state_holds_no_task,
    ),
    (vectors.check_finite,),
    (vectors.check_ends, vectors.check_actions_matter),
)
"""The same of environments whose states are vectors."""

REST_ON_MODEL = {
    interface.check_tabular,
    *(check for stage in STAGES for check in stage if check.__module__ == model.__name__),
}
"""Checks that are left out where there is no exact model."""


def check_env(
    env: Any, key: PRNGKeyArray | None = None, num_tasks: int = 8
) -> tuple[EnvFinding, ...]:
    """What is wrong with an environment, each with its fix; an empty tuple if nothing was found.

    The environment is read, traced, and played at random; what its steps do is compared with what
    its `tabular` says, if it has one. That takes seconds. What it does in states that neither
    random play nor its model reaches is not seen, nor are errors smaller than chance. Statistical
    findings are wrong once in about a million times.

    | kind          | what was found                                                               |
    |---------------|------------------------------------------------------------------------------|
    | class         | no frozen dataclass, not hashable, options left out of comparison            |
    | size          | `num_states`, `task_horizon`, `state_features`, … are no sizes, or disagree  |
    | space         | states or actions have no finite scales                                      |
    | error         | a method raises, or branches in Python on a traced value                     |
    | type          | a method returns other shapes or dtypes than it should                       |
    | drift         | a step's state has other shapes or dtypes than a reset's                     |
    | recompilation | another task, another step or an equal environment compiles anew             |
    | key           | a PRNG key is used twice                                                     |
    | determinism   | the same key gives different results                                         |
    | task          | tasks do not differ, or have different structures                            |
    | task-in-state | the state carries the task, or something of it                               |
    | task-changed  | a reset, or another method, changes the task                                 |
    | index         | a state index is not in [0, num_states)                                      |
    | vector        | a state that learners see is NaN or infinite                                 |
    | reward        | a reward is NaN or infinite                                                  |
    | return        | no action changes the return, or anything at all                             |
    | termination   | terminated and truncated are mixed up with each other or with `task_horizon` |
    | restart       | an episode does not restart where it ended, or does where it did not         |
    | model         | `tabular` is no MDP, or not the one that is played                           |
    | slots         | a pair has more next states than `max_successors`                            |
    | observation   | an observation is not the features of the state                              |
    | features      | two states look alike to a policy                                            |

    Checks rest on each other: once something is found, those that come later are left out. So
    check again after a fix.

    Args:
        env: an instance of a subclass of `rl3jax.Environment`, or of `rl3jax.TaskDistribution` if
            states are vectors.
        key: of all randomness; `None` is a fixed one.
        num_tasks: tasks to play in. "Task i" in a message is that of
            `env.sample_task(jax.random.split(key, num_tasks + 1)[i])`.

    Raises:
        ConfigError: if it is a task distribution whose states have indices and which is no
            `rl3jax.Environment`.
    """
    has_vectors = isinstance(env, TaskDistribution) and not isinstance(env, Environment)
    if has_vectors and isinstance(env.learner_space, spaces.Discrete):
        raise ConfigError(
            f"states of {type(env).__name__} have indices: extend rl3jax.Environment to check it"
        )
    probe = Probe(env, jax.random.key(0) if key is None else key, num_tasks)
    for stage in STAGES_OF_VECTORS if has_vectors else STAGES:
        checks = [check for check in stage if check not in REST_ON_MODEL or probe.has_model]
        findings = [finding for check in checks for finding in _run(check, probe)]
        if findings:
            return tuple(dict.fromkeys(findings))
    return ()


def _run(check: Check, probe: Probe) -> list[EnvFinding]:
    """All that a check finds; an exception of the environment's ends it, and is a finding."""
    findings = []
    try:
        for finding in check(probe):
            findings.append(finding)
    except EnvFailureError as failure:
        findings.append(failure.finding)
    return findings
