"""What a uniformly random policy finds out about tasks, in two meta-episodes in each."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

STEPS = (10, 30, 100, 300, 1000)
"""Env steps after which Q-estimates are looked at."""

BLOCK = 250
"""Tasks at a time, to bound memory."""


class Evidence(NamedTuple):
    """What was found out about a task.

    Attributes:
        q: `[S, A]`, the learner's values.
        visits: `[S, A]`, how often each action was taken in each state.
        rewards: `[S, A]`, sums of the rewards.
        transitions: `[S, A, S]`, how often each next state followed.
    """

    q: jax.Array
    visits: jax.Array
    rewards: jax.Array
    transitions: jax.Array


def in_blocks(function: Callable[[Any], Any], xs: Any) -> Any:
    """The function of each of N tasks' `xs`, `BLOCK` tasks at a time."""
    return jax.lax.map(function, xs, batch_size=BLOCK)


@partial(jax.jit, static_argnums=(0, 1))
def twice_in_each(env: Any, learner: Any, tasks: Any, key: jax.Array) -> Evidence:
    """Evidence after each of `STEPS`, in two meta-episodes in each of N tasks: `[T, N, 2, ...]`."""

    def in_task(task_and_key: tuple[Any, jax.Array]) -> Evidence:
        task, key = task_and_key
        return jax.vmap(partial(meta_episode, env, learner, task))(jax.random.split(key))

    keys = jax.random.split(key, jax.tree.leaves(tasks)[0].shape[0])
    evidence = in_blocks(in_task, (tasks, keys))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), evidence)


def meta_episode(env: Any, learner: Any, task: Any, key: jax.Array) -> Evidence:
    """What the uniformly random policy has found in a task after each of `STEPS`, `[T, ...]`."""
    key_reset, key_steps = jax.random.split(key)
    # Plans start from 0, so only those that are looked at need all their sweeps.
    recorder = dataclasses.replace(learner, max_sweeps=1)

    def step(learner: Any, t: Any, carry: Any) -> Any:
        env_state, table = carry
        key_act, key_env = jax.random.split(jax.random.fold_in(key_steps, t))
        s = env.state_index(env_state)
        a = jax.random.randint(key_act, (), 0, env.num_actions)
        _, env_state, r, terminated, _, info = env.step(key_env, env_state, a, task)
        return env_state, learner.update(table, s, a, r, info["next_state_index"], terminated)

    def go_on(carry: Any, span: Any) -> tuple[Any, Evidence]:
        first, last = span
        carry = jax.lax.fori_loop(first, last, partial(step, recorder), carry)
        carry = step(learner, last, carry)
        return carry, evidence_in(learner, carry[1])

    start = env.reset(key_reset, task)[1], learner.init()
    spans = jnp.array((0, *STEPS[:-1])), jnp.array(STEPS) - 1
    return jax.lax.scan(go_on, start, spans)[1]


def evidence_in(learner: Any, table: Any) -> Evidence:
    """What a learner's table holds."""
    model = table.model
    return Evidence(learner.q_table(table), model.visits.T, model.rewards.T, model.counts.T)


def pairs(twice: Evidence) -> tuple[Evidence, Evidence, Evidence]:
    """A first meta-episode in each of N tasks, a second there, and one in another task."""
    one, second = (jax.tree.map(lambda x, i=i: x[:, i], twice) for i in (0, 1))
    return one, second, jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), second)
