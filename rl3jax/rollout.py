"""One meta-episode: an agent interacts with one task for its whole budget."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Key, PRNGKeyArray

from rl3jax.agent import Agent
from rl3jax.envs import TaskDistribution
from rl3jax.object_level import Transitions


@struct.dataclass
class Trajectory:
    """A meta-episode, time first; batched over tasks as `[T, B, ...]`.

    Attributes:
        observation: `[T, D]`, or empty for an agent without a policy.
        behaviour: `[T, P]`, parameters of the distributions that actions were drawn from, or empty
            likewise.
        action: `[T]` int32, or `[T, ...]`, as drawn from the distributions.
        reward: `[T]`.
        terminated, truncated: `[T]` bool, ends of object-level episodes; where ended ones wait for
            their time limit, that alone.
        overflowed: `[T]` bool, whether the data so far did not fit into the agent's table.
        out_of_range: `[T]` bool, whether the environment named a state that it has not; JAX would
            read and write another one's data without a word.
        summary: `[1, ...]`, what the meta-episode says of the learner's parameters.
        waiting: `[T]` bool, whether the episode had ended and waited, so that the action did
            nothing; empty where no episode waits.
        evidence: `[T, ...]`, what the agent's belief learns from; empty where none does.
    """

    observation: Any
    behaviour: Any
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    overflowed: jax.Array
    out_of_range: jax.Array
    summary: Any = ()
    waiting: Any = ()
    evidence: Any = ()


class _Carry(NamedTuple):
    key: PRNGKeyArray
    env_state: Any
    agent: Any


class Step(NamedTuple):
    """What an action has led to; see `Trajectory`.

    Attributes:
        env_state: the environment's state, maybe at the start of an object-level episode.
        agent: the agent's carry.
        transition: as object-level RL takes it.
    """

    env_state: Any
    agent: Any
    transition: Transitions
    terminated: jax.Array
    truncated: jax.Array
    overflowed: jax.Array
    out_of_range: jax.Array
    waiting: Any


def interact(
    agent: Agent,
    env: TaskDistribution,
    task: Any,
    env_state: Any,
    carry: Any,
    action: Any,
    key: PRNGKeyArray,
) -> Step:
    """One env step: what the environment makes of an action, and the agent of that.

    The key is consumed.
    """
    _, after, reward, terminated, truncated, info = env.step(key, env_state, action, task)
    s_next, s_now = env.entered_state(info), env.learner_state(after)
    waits: tuple[Any, ...] = ()
    ended = terminated
    if env.waits:
        ended = env.entered_terminal(info)
        waits = (env.is_waiting(env_state), terminated | truncated)
    carry = agent.observe(carry, action, reward, s_next, ended, truncated, s_now, *waits)
    return Step(
        env_state=after,
        agent=carry,
        transition=Transitions(env.learner_state(env_state), action, reward, s_next, ended),
        terminated=terminated,
        truncated=truncated,
        overflowed=jnp.asarray(agent.overflowed(carry), bool),
        out_of_range=env.is_out_of_range(s_next) | env.is_out_of_range(s_now),
        waiting=waits[0] if waits else (),
    )


def rollout(
    agent: Agent, env: TaskDistribution, task: Any, horizon: int, key: PRNGKeyArray
) -> Trajectory:
    """A meta-episode of `horizon` env steps (RL³, algorithm 1), in one task.

    Object-level episodes restart in the same task, some after they have waited for their time
    limit; only the agent's carry lives through them.
    """
    key_reset, key_steps = jax.random.split(key)

    def act(carry: _Carry, _: None) -> tuple[_Carry, tuple[Trajectory, Transitions]]:
        key, key_act, key_env = jax.random.split(carry.key, 3)
        decision, agent_carry = agent.decide(carry.agent, key_act)
        action = agent.played(decision.action)
        step = interact(agent, env, task, carry.env_state, agent_carry, action, key_env)
        recorded = Trajectory(
            observation=decision.observation,
            behaviour=decision.behaviour,
            action=decision.action,
            reward=step.transition.r,
            terminated=step.terminated,
            truncated=step.truncated,
            overflowed=step.overflowed,
            out_of_range=step.out_of_range,
            waiting=step.waiting,
            evidence=agent.evidence(step.transition),
        )
        return _Carry(key, step.env_state, step.agent), (recorded, step.transition)

    _, env_state = env.reset(key_reset, task)
    start = _Carry(key_steps, env_state, agent.init(env.learner_state(env_state)))
    end, (trajectory, transitions) = jax.lax.scan(act, start, length=horizon)
    summary = agent.summarise(end.agent, transitions)
    return dataclasses.replace(trajectory, summary=jax.tree.map(lambda x: x[None], summary))


def rollouts(
    agent: Agent,
    env: TaskDistribution,
    tasks: Any,
    horizon: int,
    keys: Key[Array, " B"],
    chunk: int | None = None,
) -> Trajectory:
    """One meta-episode in each of B tasks, with a key each; every field is `[T, B, ...]`.

    `chunk` tasks are played at a time (default: all at once), which bounds the memory that agents
    need while they act; it must divide B.
    """

    def play(tasks: Any, keys: Key[Array, " chunk"]) -> Trajectory:
        def one_task(task: Any, key: PRNGKeyArray) -> Trajectory:
            return rollout(agent, env, task, horizon, key)

        return jax.vmap(one_task, out_axes=1)(tasks, keys)

    n_tasks = len(keys)
    if chunk is None or chunk >= n_tasks:
        return play(tasks, keys)

    def play_next(played: Trajectory, part: Any) -> tuple[Trajectory, None]:
        first, tasks, data = part
        return jax.tree.map(
            lambda all_, own: jax.lax.dynamic_update_slice_in_dim(all_, own, first, axis=1),
            played,
            play(tasks, jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys))),
        ), None

    # Into the whole at once: to merge chunks afterwards would take the memory of a second whole.
    blank = jax.tree.map(jnp.zeros_like, jax.eval_shape(play, tasks, keys))
    # Keys as data: under vmap, the check of key reuse takes a scan over keys for a use of them.
    data = jax.random.key_data(keys)
    chunks = jax.tree.map(lambda x: x.reshape(n_tasks // chunk, chunk, *x.shape[1:]), (tasks, data))
    return jax.lax.scan(play_next, blank, (jnp.arange(0, n_tasks, chunk), *chunks))[0]


def sample_tasks(env: TaskDistribution, keys: Key[Array, " B"]) -> Any:
    """An independent task for each of the keys: a pytree with leading axis `[B]`."""
    return jax.vmap(env.sample_task)(keys)
