"""Errors and intervals: over the tasks one agent was scored on, and over the seeds of a method.

Tasks and seeds are never pooled. What takes tasks answers how well *these agents* do on other tasks
of the kind; what takes seeds answers how well *the method* does when trained once more. Scores over
seeds are therefore vectors, each score a mean over tasks already (`seed_scores`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from rl3jax.checks import ConfigError

CONFIDENCE = 0.95
"""Of every interval here."""

SeedScores = Float[np.ndarray, " _n_seeds"] | Mapping[str, Float[np.ndarray, " _n_seeds"]]
"""One score a seed, each a mean over tasks; of several benchmark rows, by name of the row."""


class Estimate(NamedTuple):
    """A number and its standard error (NaN where one task or seed leaves it unknown)."""

    value: float
    stderr: float


class Curve(NamedTuple):
    """Means over tasks along a meta-episode, their standard errors, and of how many tasks."""

    mean: Float[np.ndarray, " K"]
    stderr: Float[np.ndarray, " K"]
    n_tasks: Int[np.ndarray, " K"]


class Interval(NamedTuple):
    """A number and its 95 % confidence interval (NaN where there is too little data for one)."""

    estimate: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """How much better one agent is than another on the same tasks.

    Attributes:
        mean: of the differences, in units of return.
        stderr: of that mean.
        low: end of its 95 % t interval.
        high: the other end.
        p_value: of the two-sided paired t test; NaN if the differences are all the same.
        fraction_won: of the tasks; a tie is half a win.
    """

    mean: float
    stderr: float
    low: float
    high: float
    p_value: float
    fraction_won: float


def mean_and_stderr(returns: Float[np.ndarray, " n_tasks"]) -> Estimate:
    """Mean over tasks and its standard error."""
    curve = _curve(_checked("returns", returns, ndim=1)[:, None])
    return Estimate(float(curve.mean[0]), float(curve.stderr[0]))


def paired_difference(
    returns: Float[np.ndarray, " _n_tasks"], other: Float[np.ndarray, " _n_tasks"]
) -> PairedDifference:
    """`returns` minus `other`, task by task: the luck of the draw of tasks cancels.

    Raises:
        ConfigError: if the two are not of as many tasks.
    """
    returns, other = _paired(returns, other, ndim=1)
    difference = returns - other
    mean, stderr = mean_and_stderr(difference)
    t = stats.t(df=max(len(difference) - 1, 1))
    half_width = t.isf((1 - CONFIDENCE) / 2) * stderr
    p_value = 2 * t.sf(abs(mean) / stderr) if stderr > 0 else float("nan")
    won = (1 + np.sign(difference)).mean() / 2
    return PairedDifference(
        mean, stderr, mean - half_width, mean + half_width, float(p_value), float(won)
    )


def oracle_normalised(
    returns: Float[np.ndarray, " _n_tasks"], optimal: Float[np.ndarray, " _n_tasks"]
) -> Estimate:
    """Mean return as a fraction of the optimal policy's mean return on the same tasks.

    A ratio of means (RL³, RLC 2025), not a mean of ratios: tasks with next to nothing to gain do
    not dominate. The standard error is the delta method's, with the covariance over tasks.

    Args:
        returns: of the agent.
        optimal: of the optimal policy, realised or expected.

    Raises:
        ConfigError: if the two are not of as many tasks, or the mean of `optimal` is not positive.
    """
    returns, optimal = _paired(returns, optimal, ndim=1)
    ceiling = float(optimal.mean())
    if ceiling <= 0:
        raise ConfigError(f"the optimal mean return must be positive, not {ceiling:g}")
    score = float(returns.mean()) / ceiling
    return Estimate(score, mean_and_stderr(returns - score * optimal).stderr / ceiling)


def cumulative_regret(
    rewards: Float[np.ndarray, "_n_tasks _T"], optimal: Float[np.ndarray, "_n_tasks _T"]
) -> Curve:
    """Reward given away up to each step of the meta-episode, against `optimal` on the same tasks.

    Args:
        rewards: of the agent.
        optimal: rewards of the optimal policy.

    Raises:
        ConfigError: if the two are not of as many tasks and steps.
    """
    rewards, optimal = _paired(rewards, optimal, ndim=2)
    return _curve(np.cumsum(optimal - rewards, axis=1))


def return_per_episode(
    rewards: Float[np.ndarray, "n_tasks T"], episode_ends: Bool[np.ndarray, "n_tasks T"]
) -> Curve:
    """Mean return of the k-th object-level episode, over the tasks that reached it.

    An episode that the end of the budget cuts short counts. K is the largest number of episodes in
    any task. Where episodes differ in length, only fast tasks reach the late ones.
    """
    rewards = _checked("rewards", rewards, ndim=2)
    n_tasks = len(rewards)
    earlier_ends = np.cumsum(episode_ends, axis=1) - episode_ends
    size = int(earlier_ends.max()) + 1
    returns = np.zeros((n_tasks, size))
    np.add.at(returns, (np.arange(n_tasks)[:, None], earlier_ends), rewards)
    reached = np.arange(size) <= earlier_ends[:, -1:]
    return _curve(returns, reached)


def seed_scores(returns: Float[np.ndarray, "n_seeds n_tasks"]) -> Float[np.ndarray, " n_seeds"]:
    """The score of each seed's agent: its mean over tasks."""
    return _checked("returns", returns, ndim=2).mean(axis=1)


def interquartile_mean(scores: SeedScores) -> float:
    """Mean of the middle half of the scores, those of all rows together (Agarwal et al., 2021)."""
    return float(_iqm(*_strata(scores)))


def seed_interval(scores: SeedScores, seed: int = 0) -> Interval:
    """Interquartile mean and its stratified bootstrap interval over seeds."""
    return _bootstrap(_iqm, _strata(scores), seed)


def seed_difference(
    scores: SeedScores, other: SeedScores, paired: bool = True, seed: int = 0
) -> Interval:
    """How much better a method is than another, and the stratified bootstrap interval.

    Args:
        scores: of the method.
        other: of the other method, on the same rows.
        paired: whether the i-th seeds of both are to be compared with each other, as when both
            were trained on the same series of tasks. Then it is the interquartile mean of the
            differences; otherwise the difference of the interquartile means.
        seed: of the resampling.

    Raises:
        ConfigError: if the two are not of the same rows, or are paired and of other numbers of
            seeds.
    """
    names, other_names = _names(scores), _names(other)
    if names != other_names:
        raise ConfigError(f"the two have different rows: {names} and {other_names}")
    strata, others = _strata(scores), _strata(other)
    if paired:
        pairs = [_paired(x, y, ndim=1) for x, y in zip(strata, others, strict=True)]
        return _bootstrap(_iqm, [x - y for x, y in pairs], seed)
    n = len(strata)

    def difference(*samples: Any, axis: int = -1) -> Any:
        return _iqm(*samples[:n], axis=axis) - _iqm(*samples[n:], axis=axis)

    return _bootstrap(difference, strata + others, seed)


def _names(scores: SeedScores) -> list[str]:
    return sorted(scores) if isinstance(scores, Mapping) else ["scores"]


def _iqm(*strata: Any, axis: int = -1) -> Any:
    return stats.trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)


def _strata(scores: SeedScores) -> list[np.ndarray]:
    rows = scores if isinstance(scores, Mapping) else {"scores": scores}
    return [_checked(name, rows[name], ndim=1) for name in _names(scores)]


def _bootstrap(statistic: Callable[..., Any], strata: list[np.ndarray], seed: int) -> Interval:
    interval = stats.bootstrap(
        strata, statistic, method="percentile", confidence_level=CONFIDENCE, rng=seed
    ).confidence_interval
    return Interval(float(statistic(*strata)), float(interval.low), float(interval.high))


def _curve(x: Float[np.ndarray, "n_tasks K"], counts: np.ndarray | bool = True) -> Curve:
    """Mean and standard error of each column, over its rows that count."""
    counts = np.broadcast_to(counts, x.shape)
    n = counts.sum(axis=0)
    mean = np.sum(x, axis=0, where=counts) / n
    squares = np.sum((x - mean) ** 2, axis=0, where=counts)
    variance = np.divide(squares, n - 1, out=np.full_like(mean, np.nan), where=n > 1)
    return Curve(mean, np.sqrt(variance / n), n)


def _checked(name: str, x: np.ndarray, ndim: int) -> np.ndarray:
    """As float64; raises ConfigError unless it has `ndim` axes, none empty, and is finite."""
    x = np.asarray(x, np.float64)
    if x.ndim != ndim or x.size == 0:
        raise ConfigError(f"{name} must have {ndim} axes and not be empty, not shape {x.shape}")
    if not np.isfinite(x).all():
        raise ConfigError(f"{name} must be finite")
    return x


def _paired(x: np.ndarray, other: np.ndarray, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64; raises ConfigError unless they are of one shape."""
    if x.shape != other.shape:
        raise ConfigError(f"not on the same tasks: shapes {x.shape} and {other.shape} differ")
    return _checked("returns", x, ndim), _checked("the others' returns", other, ndim)
