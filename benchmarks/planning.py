"""`python -m benchmarks.planning RUN`: what a fixed number of sweeps per step does to Q and score.

RUN is a folder that `rl3jax.train --env gridworld` made, with value iteration. Its policy plays the
same held-out tasks, planning to tolerance and by fixed numbers of sweeps; it is never retrained.
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.table import Table

import rl3jax

SWEEPS = (None, 1, 2, 4, 8)
SEED = 20_000


@dataclass
class Args:
    """Compare planning to tolerance with fixed numbers of sweeps."""

    run: tyro.conf.Positional[Path]
    """Run folder of rl3jax.train on a gridworld."""
    n_tasks: int = 1000
    """Tasks to score on (default: 1000)."""
    out: Path = Path("benchmarks/results/planning.json")
    """Where the figures go as JSON (default: benchmarks/results/planning.json)."""


@partial(jax.jit, static_argnums=(1, 2, 3))
def q_differences(
    agent: Any, reference: Any, env: Any, horizon: int, task: Any, key: jax.Array
) -> jax.Array:
    """|q of the agent's learner − q of `reference`| at each step of a meta-episode, `[T, A]`."""

    def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        env_state, agent_carry, table = carry
        key_act, key_env = jax.random.split(key)
        s = env.state_index(env_state)
        action, agent_carry = agent.act(agent_carry, key_act)
        _, env_state, reward, terminated, truncated, info = env.step(
            key_env, env_state, action, task
        )
        s_next, s_now = info["next_state_index"], env.state_index(env_state)
        agent_carry = agent.observe(
            agent_carry, action, reward, s_next, terminated, truncated, s_now
        )
        table = reference.update(table, s, action, reward, s_next, terminated)
        q = agent.learner.estimates(agent_carry.table, s_now).q
        difference = jnp.abs(q - reference.estimates(table, s_now).q)
        return (env_state, agent_carry, table), difference

    key_reset, key_steps = jax.random.split(key)
    _, env_state = env.reset(key_reset, task)
    start = (env_state, agent.init(env.state_index(env_state)), reference.init())
    return jax.lax.scan(step, start, jax.random.split(key_steps, horizon))[1]


def main() -> None:
    """The command."""
    args = tyro.cli(Args)
    config = rl3jax.Config.from_dict(json.loads((args.run / "config.json").read_text()))
    agent = rl3jax.load_agent(args.run / "agent").replace(greedy=True)
    planner: Any = agent.learner
    env, horizon = rl3jax.make_trainer(config).env, config.horizon
    assert horizon is not None
    to_tolerance = dataclasses.replace(planner, sweeps_per_step=None)
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(SEED), 100))

    table = Table(title=f"{args.run}: {args.n_tasks} tasks, H = {horizon}, greedy")
    for column in ("planning", "return ± s.e.", "paired difference", "|ΔQ| mean", "99 %", "time"):
        table.add_column(column, justify="left" if column == "planning" else "right")
    report, baseline = {}, None
    for sweeps in SWEEPS:
        learner = dataclasses.replace(planner, sweeps_per_step=sweeps)
        player = agent.replace(learner=learner)
        score = partial(rl3jax.evaluate_agent, player, env, horizon, args.n_tasks)
        score(key=jax.random.key(SEED + 1))
        started = time.perf_counter()
        result = score(key=jax.random.key(SEED + 1))
        seconds = time.perf_counter() - started
        baseline = result.returns if baseline is None else baseline
        difference = result.returns - baseline
        keys = jax.random.split(jax.random.key(SEED + 2), 100)
        gaps = jax.vmap(partial(q_differences, player, to_tolerance, env, horizon))(tasks, keys)
        name = (
            f"to tolerance {learner.tolerance:g}" if sweeps is None else f"{sweeps} sweeps a step"
        )
        row = {
            "mean_return": result.mean,
            "stderr_return": result.stderr,
            "difference": float(difference.mean()),
            "stderr_difference": float(difference.std(ddof=1) / args.n_tasks**0.5),
            "mean_q_gap": float(gaps.mean()),
            "q_gap_99": float(jnp.quantile(gaps, 0.99)),
            "microseconds_per_step": seconds / args.n_tasks / horizon * 1e6,
        }
        report[name] = row
        table.add_row(
            name,
            f"{row['mean_return']:.1f} ± {row['stderr_return']:.1f}",
            f"{row['difference']:+.1f} ± {row['stderr_difference']:.1f}",
            f"{row['mean_q_gap']:.2f}",
            f"{row['q_gap_99']:.2f}",
            f"{row['microseconds_per_step']:.1f} µs",
        )
    Console(width=120).print(table)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
