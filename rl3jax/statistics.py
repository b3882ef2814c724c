"""Errors and intervals: over the tasks that agents were scored on, over the seeds of a method.

The two are never pooled. Errors over tasks say how well *this agent* would do on other tasks of the
kind; intervals over seeds say how well *the method* would do, on these tasks, if trained anew. What
takes seeds therefore takes vectors, each score a mean over tasks already (`seed_scores`).
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special, stats

from rl3jax.checks import ConfigError

CONFIDENCE = 0.95
"""Of every interval here."""

MIN_SEEDS = 3
"""Fewer give no interval: of two it would reach 12.7 standard errors to either side."""

SeedScores = Float[np.ndarray, "..."] | Mapping[str, Float[np.ndarray, "..."]]
"""`[n_seeds]`, each a mean over tasks; of several rows of a benchmark, one such vector by name."""


class Estimate(NamedTuple):
    """A number and its standard error (NaN if it is of one task)."""

    value: float
    stderr: float

    def __str__(self) -> str:
        """Both to two digits; the number alone if it has no standard error."""
        stderr = "" if math.isnan(self.stderr) else f" ± {self.stderr:.2f}"
        return f"{self.value:.2f}{stderr}"


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
    curve = _curve(_checked("returns", returns, "n_tasks")[:, None])
    return Estimate(float(curve.mean[0]), float(curve.stderr[0]))


def paired_difference(
    returns: Float[np.ndarray, " _n_tasks"], other: Float[np.ndarray, " _n_tasks"]
) -> PairedDifference:
    """`returns` minus `other`, task by task: the luck of the draw of tasks cancels.

    Raises:
        ConfigError: if the two are not of as many tasks.
    """
    returns, other = _paired(returns, other, "n_tasks")
    difference = returns - other
    df = len(difference) - 1
    mean, stderr = mean_and_stderr(difference)
    half_width = _half_width(stderr, df)
    p_value = float(2 * special.stdtr(df, -abs(mean) / stderr)) if stderr > 0 else float("nan")
    won = float((1 + np.sign(difference)).mean() / 2)
    return PairedDifference(mean, stderr, mean - half_width, mean + half_width, p_value, won)


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
    returns, optimal = _paired(returns, optimal, "n_tasks")
    ceiling = float(optimal.mean())
    if ceiling <= 0:
        raise ConfigError(f"the optimal mean return must be positive, not {ceiling:g}")
    score = float(returns.mean()) / ceiling
    return Estimate(score, mean_and_stderr(returns - score * optimal).stderr / ceiling)


def fraction_of(value: float, optimum: float) -> float:
    """`value / optimum`; NaN where the optimum is not positive: a fraction would say nothing."""
    return value / optimum if optimum > 0 else float("nan")


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
    rewards, optimal = _paired(rewards, optimal, "n_tasks", "T")
    return _curve(np.cumsum(optimal - rewards, axis=1))


def return_per_episode(
    rewards: Float[np.ndarray, "n_tasks T"], episode_ends: Bool[np.ndarray, "n_tasks T"]
) -> Curve:
    """Mean return of the k-th object-level episode, over the tasks that reached it.

    An episode that the end of the budget cuts short counts. K is the largest number of episodes in
    any task. Where episodes differ in length, only fast tasks reach the late ones.
    """
    rewards = _checked("rewards", rewards, "n_tasks", "T")
    n_tasks = len(rewards)
    earlier_ends = np.cumsum(episode_ends, axis=1) - episode_ends
    size = int(earlier_ends.max()) + 1
    returns = np.zeros((n_tasks, size))
    np.add.at(returns, (np.arange(n_tasks)[:, None], earlier_ends), rewards)
    reached = np.arange(size) <= earlier_ends[:, -1:]
    return _curve(returns, reached)


def seed_scores(returns: Float[np.ndarray, "_n_seeds _n_tasks"]) -> Float[np.ndarray, " _n_seeds"]:
    """The score of each seed's agent: its mean over tasks."""
    return _checked("returns", returns, "n_seeds", "n_tasks").mean(axis=1)


def interquartile_mean(scores: SeedScores) -> float:
    """Mean of the middle half of the scores of all rows together (Agarwal et al., 2021).

    Rows are thus to be on one scale, such as that of `oracle_normalised`.
    """
    return float(_interquartile_mean(*_rows(scores).values()))


def seed_interval(scores: SeedScores, seed: int = 0, n_resamples: int = 9999) -> Interval:
    """Interquartile mean and its 95 % stratified bootstrap interval over seeds.

    Seeds are resampled within each row (Agarwal et al., 2021), so rows must come of separate
    training runs; of agents that were trained once and scored on several rows, average the rows
    first. The interval is Student's t with the bootstrap's standard error, corrected for its
    narrowness (Hesterberg, 2015). With few seeds the bootstrap's percentiles mislead: they cannot
    leave the range of the scores.

    Coverage in % of the interval that is called 95 %, by the number of seeds, over 2000 to 4000
    simulated studies (thus ± 1). It errs to the careful side for one row of 4 to 10 seeds, and
    covers too little where scores are skewed and rows lie far apart, as then the interquartile mean
    of few seeds is itself biased:

    ```text
    seeds                                3     4     5     8    10    20
    one row, normal                     95    98    97    97    97    95
    one row, skewed (log-normal, 0.75)  94    97    97    97    97    96
    one row, a fifth of the seeds fail  95    98    98    98    98    98
    7 rows, normal                      95    95    94    95    94    95
    7 rows, skewed                      95    95    95    95    94    95
    7 rows 4 s.d. apart, normal         93    94    94    93    94    95
    7 rows 4 s.d. apart, skewed         88    87    88    90    92    92
    (percentiles: one row, normal       74    87    90    92    94    95)
    ```

    Args:
        scores: of the method.
        seed: of the resampling; the same seed gives the same interval.
        n_resamples: of the bootstrap.

    Returns:
        No interval (NaN) where a row has fewer than `MIN_SEEDS` seeds.

    Raises:
        ConfigError: if there are no scores, or they have more axes than that of the seeds.
    """
    return _bootstrap(_interquartile_mean, list(_rows(scores).values()), seed, n_resamples)


def seed_difference(
    scores: SeedScores,
    other: SeedScores,
    paired: bool = True,
    seed: int = 0,
    n_resamples: int = 9999,
) -> Interval:
    """How much better a method is than another, with an interval as in `seed_interval`.

    Unpaired it has much the same coverage, but for three seeds of methods of which one scatters
    four times as much as the other: 92 %.

    Args:
        scores: of the method.
        other: of the other method, on the same rows.
        paired: whether the i-th seeds of both belong together, as when both were trained on the
            same series of tasks. Then this is the interquartile mean of the differences, otherwise
            the difference of the interquartile means.
        seed: of the resampling.
        n_resamples: of the bootstrap.

    Raises:
        ConfigError: as `seed_interval`; if the rows differ; if they are paired and their numbers of
            seeds differ.
    """
    rows, others = _rows(scores), _rows(other)
    if rows.keys() != others.keys():
        raise ConfigError(f"not on the same rows: {sorted(rows)} and {sorted(others)}")
    if paired:
        pairs = [_paired(rows[name], others[name], "n_seeds") for name in rows]
        samples = [x - y for x, y in pairs]
        return _bootstrap(_interquartile_mean, samples, seed, n_resamples)
    samples = [*rows.values(), *others.values()]
    statistic = partial(_difference_of_halves, n=len(rows))
    return _bootstrap(statistic, samples, seed, n_resamples)


def _interquartile_mean(*samples: np.ndarray, axis: int = -1) -> Any:
    return stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)


def _difference_of_halves(*samples: np.ndarray, n: int, axis: int = -1) -> Any:
    """Interquartile mean of the first `n` samples less that of the others."""
    first, second = samples[:n], samples[n:]
    return _interquartile_mean(*first, axis=axis) - _interquartile_mean(*second, axis=axis)


def _bootstrap(
    statistic: Callable[..., Any], samples: list[np.ndarray], seed: int, n_resamples: int
) -> Interval:
    """Resamples each of the `samples` (one a row, and method) on its own."""
    estimate = float(statistic(*samples))
    sizes = [len(x) for x in samples]
    if min(sizes) < MIN_SEEDS:
        return Interval(estimate, float("nan"), float("nan"))
    result = stats.bootstrap(
        samples, statistic, n_resamples=n_resamples, method="percentile", rng=seed
    )
    df = sum(sizes) - len(sizes)
    # The bootstrap's variance of a mean is too small by this factor's square, (n - 1) / n.
    stderr = float(result.standard_error) * np.sqrt(sum(sizes) / df)
    half_width = _half_width(stderr, df)
    return Interval(estimate, estimate - half_width, estimate + half_width)


def _half_width(stderr: float, df: int) -> float:
    """Of Student's t interval; NaN without degrees of freedom."""
    return float(special.stdtrit(df, (1 + CONFIDENCE) / 2) * stderr)


def _rows(scores: SeedScores) -> dict[str, np.ndarray]:
    """Name to checked scores `[n_seeds]`."""
    rows = scores if isinstance(scores, Mapping) else {"scores": scores}
    if not rows:
        raise ConfigError("there are no scores")
    return {name: _checked(name, row, "n_seeds") for name, row in rows.items()}


def _curve(x: Float[np.ndarray, "n_tasks K"], counts: np.ndarray | bool = True) -> Curve:
    """Mean and standard error of each column, over its entries that count."""
    counts = np.broadcast_to(counts, x.shape)
    n = counts.sum(axis=0)
    mean = x.sum(axis=0, where=counts) / n
    squares = ((x - mean) ** 2).sum(axis=0, where=counts)
    variance = np.divide(squares, n - 1, out=np.full_like(mean, np.nan), where=n > 1)
    return Curve(mean, np.sqrt(variance / n), n)


def _checked(name: str, x: np.ndarray, *axes: str) -> np.ndarray:
    """As float64; raises ConfigError unless it has these axes, none empty, and is finite."""
    x = np.asarray(x, np.float64)
    if x.ndim != len(axes) or x.size == 0:
        raise ConfigError(f"{name} must be [{', '.join(axes)}], none of them 0, not {x.shape}")
    if not np.isfinite(x).all():
        raise ConfigError(f"{name} must be finite")
    return x


def _paired(x: np.ndarray, other: np.ndarray, *axes: str) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64; raises ConfigError unless they are alike in these axes."""
    x, other = _checked("the first", x, *axes), _checked("the second", other, *axes)
    if x.shape != other.shape:
        raise ConfigError(f"cannot pair [{', '.join(axes)}] of {x.shape} with {other.shape}")
    return x, other
