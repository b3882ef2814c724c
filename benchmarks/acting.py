"""The time that the t-th step of a long meta-episode takes: of policies, and of bare attention."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import summary, timed
from rl3jax import Agent, Config, make_trainer

HORIZON = 2048
TASKS = 16  # at once; at this horizon the paper's 32 768 steps of an iteration
STEPS = 16  # that are timed together
LAYERS, HEADS, HEAD_DIM = 2, 4, 16  # of the paper's transformer

Point = dict[str, Any]


def time_policy(network: str, width: int, t: int, repeats: int) -> Point:
    """Seconds of a step of a policy in `TASKS` tasks, from step `t` on; nothing is simulated."""
    agent = make_agent(network, width)
    carry = jax.vmap(agent.init)(jnp.zeros(TASKS, jnp.int32))
    carry = play(agent, t, carry)
    seconds = []
    for _ in range(repeats + 1):
        carry, elapsed = timed(play, agent, STEPS, carry)
        seconds.append(elapsed / STEPS)
    return {"seconds": summary(seconds[1:])}  # the first one compiles


@cache
def make_agent(network: str, width: int) -> Agent:
    """An untrained RL² policy for long meta-episodes."""
    trainer = make_trainer(
        Config(network=network, width=width, horizon=HORIZON, algo="rl2", n_tasks=TASKS)
    )
    return trainer.agent(trainer.init(jax.random.key(0)))


@partial(jax.jit, donate_argnums=2)
def play(agent: Agent, count: int, carry: Any) -> Any:
    """The carries `count` steps later, of tasks in which nothing happens."""
    nothing = (jnp.zeros(()), jnp.int32(0), jnp.bool_(False), jnp.bool_(True), jnp.int32(0))

    def step(carry: Any) -> Any:
        action, carry = agent.act(carry, jax.random.key(0))  # greedy: nothing is drawn
        return agent.observe(carry, action, *nothing)

    return jax.lax.fori_loop(0, count, lambda _, carry: jax.vmap(step)(carry), carry)


def time_attention(t: int, repeats: int) -> Point:
    """Seconds of attention alone, to `t` steps in `TASKS` tasks."""
    layers = [
        jax.random.normal(jax.random.key(i), (2, TASKS, HEADS, HEAD_DIM, t)) for i in range(LAYERS)
    ]
    keys_and_values = [tuple(layer) for layer in layers]
    query = jnp.ones((TASKS, HEADS, 1, HEAD_DIM))
    seconds = [timed(attend, query, keys_and_values)[1] / STEPS for _ in range(repeats + 1)]
    return {"seconds": summary(seconds[1:])}  # the first one compiles


@jax.jit
def attend(query: jax.Array, keys_and_values: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """As many steps as are timed together; each layer's queries are what the last one mixed."""

    def step(_: Any, query: jax.Array) -> jax.Array:
        for keys, values in keys_and_values:
            weights = jax.nn.softmax(query @ keys, axis=-1)
            query = weights @ values.swapaxes(-1, -2)
        return query

    return jax.lax.fori_loop(0, STEPS, step, query)
