"""Bayes-optimal play of small Bernoulli bandits, by dynamic programming over posterior counts.

What the arms have shown is a vector of 2K counts, each arm's successes and then each arm's
failures. Vectors are ranked by their total, then by the total without the last count, and so on
(the combinatorial number system), so that those of one total, a level, are contiguous.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import comb
from typing_extensions import override

from rl3jax.baselines.bandit import ArmCounts, BanditAgent
from rl3jax.checks import ConfigError, check_size

MAX_ENTRIES = 10_000_000
"""Largest allowed table of action-values: 2 arms to horizon 103, 5 arms to horizon 15."""


def bayes_optimal_return(num_arms: int, horizon: int) -> float:
    """Largest expected return of `horizon` pulls under the prior U(0, 1) on every arm.

    Raises:
        ConfigError: for sizes below 1, or whose table would exceed `MAX_ENTRIES`.
    """
    return float(bayes_optimal_values(num_arms, horizon)[0].max())


def bayes_optimal_values(num_arms: int, horizon: int) -> Float[np.ndarray, "N K"]:
    """Expected return of the pulls left for pulling each arm next, and optimally afterwards.

    Bellman's equation on posterior counts (Bellman 1956), backward from the last pull.

    Returns:
        Action-values by rank, for all counts with a total less than `horizon`.

    Raises:
        ConfigError: for sizes below 1, or whose table would exceed `MAX_ENTRIES`.
    """
    _check_table(num_arms, horizon)
    places = _place_values(num_arms, horizon)
    first = places[:, -1]  # rank of the first vector of each total
    q = np.zeros((first[horizon], num_arms))
    v_next = np.zeros(first[horizon + 1] - first[horizon])
    for pulls in reversed(range(horizon)):
        q_level = q[first[pulls] : first[pulls + 1]]
        counts = _counts_of_level(places, pulls)
        for arm in range(num_arms):
            success, failure = counts.copy(), counts.copy()
            success[:, arm] += 1
            failure[:, num_arms + arm] += 1
            p = success[:, arm] / (success[:, arm] + failure[:, num_arms + arm])
            v_success = v_next[_rank(places, success) - first[pulls + 1]]
            v_failure = v_next[_rank(places, failure) - first[pulls + 1]]
            q_level[:, arm] = p * (1.0 + v_success) + (1.0 - p) * v_failure
        v_next = q_level.max(axis=1)
    return q


def table_entries(num_arms: int, horizon: int) -> int:
    """Action-values in the table: one for each arm and vector of counts less than `horizon`."""
    return num_arms * math.comb(horizon - 1 + 2 * num_arms, 2 * num_arms)


def _check_table(num_arms: int, horizon: int) -> None:
    check_size("num_arms", num_arms)
    check_size("horizon", horizon)
    entries = table_entries(num_arms, horizon)
    if entries > MAX_ENTRIES:
        raise ConfigError(
            f"Bayes-optimal play of num_arms={num_arms} to horizon={horizon} needs a table of "
            f"{entries:.1e} entries, allowed are {MAX_ENTRIES:.1e}; have fewer arms or pulls"
        )


def _place_values(num_arms: int, horizon: int) -> Int[np.ndarray, "T D"]:
    """What a total σ of the first j counts adds to the rank, C(σ + j − 1, j), at `[σ, j − 1]`.

    It is the number of vectors of j counts with a smaller total; T = horizon + 2, D = 2K.
    """
    total, j = np.ogrid[: horizon + 2, 1 : 2 * num_arms + 1]
    return np.rint(comb(total + j - 1, j)).astype(np.int64)


def _rank(places: Int[np.ndarray, "T D"], counts: Int[np.ndarray, "N D"]) -> Int[np.ndarray, " N"]:
    return places[np.cumsum(counts, axis=1), np.arange(counts.shape[1])].sum(axis=1)


def _counts_of_level(places: Int[np.ndarray, "T D"], total: int) -> Int[np.ndarray, "N D"]:
    """All vectors of counts with this total, by rank: greedily, the largest place first."""
    rest = np.arange(places[total, -1], places[total + 1, -1])
    totals = np.zeros((len(rest), places.shape[1] + 1), np.int64)
    for j in reversed(range(places.shape[1])):
        totals[:, j + 1] = np.searchsorted(places[:, j], rest, side="right") - 1
        rest -= places[totals[:, j + 1], j]
    return np.diff(totals, axis=1)


class BayesOptimalAgent(BanditAgent):
    """Maximises the expected return of a whole meta-episode under the prior (Bellman 1956).

    Attributes:
        horizon: pulls of a meta-episode.
        q: `[N, K]`, action-values by the rank of the counts.
        places: `[T, D]` int32, what ranks are computed from.
    """

    horizon: int = struct.field(pytree_node=False)
    q: jax.Array
    places: jax.Array

    @classmethod
    def create(cls, num_arms: int, horizon: int) -> "BayesOptimalAgent":
        """The optimal agent for meta-episodes of `horizon` pulls.

        Raises:
            ConfigError: for sizes below 1, or whose table would exceed `MAX_ENTRIES`.
        """
        q = bayes_optimal_values(num_arms, horizon)
        places = _place_values(num_arms, horizon)
        return cls(num_arms, horizon, jnp.asarray(q), jnp.asarray(places, jnp.int32))

    @override
    def scores(self, counts: ArmCounts, key: PRNGKeyArray) -> Float[Array, " K"]:
        del key
        totals = jnp.cumsum(jnp.concatenate([counts.successes, counts.failures]))
        return self.q[self.places[totals, jnp.arange(2 * self.num_arms)].sum()]

    @override
    def for_horizon(self, horizon: int) -> "BayesOptimalAgent":
        return self if horizon == self.horizon else self.create(self.num_arms, horizon)
