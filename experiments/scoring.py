"""Playing the held-out tasks of a row: trained agents for each seed, baselines once for all."""

import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

import rl3jax
from experiments.experiment import Measured
from experiments.gathered import OPTIMAL
from experiments.results import Curve, Score
from experiments.rows import Row
from rl3jax import Evaluation, baselines, statistics


def environment(row: Row) -> rl3jax.Environment:
    """What the row is played in."""
    return rl3jax.make_env(row.env, variation=row.variation)


def measure_scores(row: Row, seed: int, agents: dict[str, Any]) -> Measured:
    """What most experiments measure: the scores of `score_agents`."""
    del seed
    return Measured(score_agents(row, agents))


def score_agents(
    row: Row, agents: dict[str, Any], others: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Score]:
    """Trained agents by algorithm, each greedy ("rl3 greedy") and sampled ("rl3 sampled").

    The optimal policy's score on the same tasks stands beside them, and those of `others` by name.
    """
    optimum, seconds = _play(row, baselines.make_baseline(OPTIMAL, environment(row), row.horizon))
    title = baselines.BASELINES[OPTIMAL].title
    scores = {OPTIMAL: _score(title, optimum, optimum, seconds)}
    for algo, agent in agents.items():
        for manner in ("greedy", "sampled"):
            played, seconds = _play(row, agent.replace(greedy=manner == "greedy"))
            title = f"{algorithm_title(algo)}, {manner}"
            scores[f"{algo} {manner}"] = _score(title, played, optimum, seconds)
    for name, agent in others.items():
        played, seconds = _play(row, agent)
        scores[name] = _score(name, played, optimum, seconds)
    return scores


def score_baselines(row: Row, names: tuple[str, ...] | None = None) -> Iterator[tuple[str, Score]]:
    """Every baseline that plays the row's environment, or the `names` of them; the optimum first.

    Constants are tuned on the distribution that agents were trained on, which is not the row's if
    that is a shifted one.
    """
    env = environment(row)
    optimum, seconds = _play(row, baselines.make_baseline(OPTIMAL, env, row.horizon))
    yield OPTIMAL, _score(baselines.BASELINES[OPTIMAL].title, optimum, optimum, seconds)
    tuned_on = rl3jax.make_env(row.env) if is_shifted(row) else env
    for name in names or baselines.names(env, row.horizon):
        if name != OPTIMAL:
            started = time.perf_counter()
            agent = baselines.make_baseline(name, env, row.horizon, tuned_on)
            constant = baselines.tuned_constant(name, tuned_on, row.horizon)
            played, _ = _play(row, agent)
            seconds = time.perf_counter() - started
            yield (
                name,
                _score(baselines.BASELINES[name].title, played, optimum, seconds, constant),
            )


def is_shifted(row: Row) -> bool:
    """Whether the tasks are of another distribution than agents are trained on."""
    return (row.variation or "").startswith(("ood", "13x13-"))


def algorithm_title(algo: str) -> str:
    """RL², RL³, RL³-Markov, RL³-coarse."""
    return algo.replace("rl2", "RL²").replace("rl3", "RL³").replace("markov", "Markov")


def _play(row: Row, agent: Any) -> tuple[Evaluation, float]:
    """The scores on the held-out tasks, and how long that took."""
    started = time.perf_counter()
    result = rl3jax.evaluate_agent(
        agent, environment(row), row.horizon, row.n_tasks, rl3jax.held_out_key(), row.batch_size
    )
    return result, time.perf_counter() - started


def _score(
    title: str,
    result: Evaluation,
    optimum: Evaluation,
    seconds: float,
    constant: float | None = None,
) -> Score:
    episodes = statistics.return_per_episode(result.rewards, result.episode_ends)
    regret = statistics.cumulative_regret(result.rewards, optimum.rewards)
    return Score(
        title=title,
        returns=[float(f"{value:.6g}") for value in result.returns],
        per_episode=_curve(episodes, result.rewards.shape[0]),
        regret=_curve(regret, 1),
        seconds=round(seconds, 2),
        constant=constant,
    )


def _curve(curve: statistics.Curve, least_tasks: int) -> Curve:
    """The part of a curve that at least so many tasks reached; x counts from 1."""
    shown = curve.n_tasks >= least_tasks
    x = np.arange(1, len(curve.mean) + 1)
    return Curve.of(x[shown], curve.mean[shown], curve.stderr[shown])
