"""Bayes-optimal play of GridNavi: a search that is planned beforehand, then the shortest way.

Until the goal is found, each step shows one thing, that the goal is not there. So a search is a
sequence of actions, and its expected return a sum over the goals, each found at a known step.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import IndexAgent, Interaction, cast
from rl3jax.checks import check_size
from rl3jax.envs import GridNavi
from rl3jax.envs.gridnavi import GOAL_REWARD, STEP_REWARD

WIDTH = 7000
"""Partial searches that are kept after each step: so many that at H = 60 none that is left out
could become a better one than what is found."""


class Search(NamedTuple):
    """How to look for the goal.

    Attributes:
        actions: `[H]`, until it is found.
        value: expected return of a meta-episode.
        limit: no search has more. The search is optimal if that is its value.
    """

    actions: tuple[int, ...]
    value: float
    limit: float


@functools.cache
def best_search(horizon: int, width: int = WIDTH) -> Search:
    """The search of the largest expected return that a beam of partial searches finds.

    Of the searches that are in the same cell and have been to the same cells, the best is kept
    (Bellman 1956); of these, the `width` that promise most, if each goal that is left were found as
    soon as one can be there.

    Args:
        horizon: H, env steps of a meta-episode.
        width: of the beam.

    Raises:
        ConfigError: for sizes below 1.
    """
    check_size("horizon", horizon)
    check_size("width", width)
    env, gain = GridNavi(), _gains(horizon)
    bit = np.zeros(env.num_states, np.int64)
    bit[env.goals] = 1 << env.goals
    cell, left = np.zeros(1, int), bit.sum(keepdims=True)
    value = np.full(1, STEP_REWARD * horizon * len(env.goals))  # nothing found, so far
    limit, history = -np.inf, []
    for t in range(horizon):
        entered, before = env.targets[cell].ravel(), np.repeat(left, env.num_actions)
        left = before & ~bit[entered]
        value = np.repeat(value, env.num_actions) + (left != before) * gain[t, entered]
        cell = np.where((t + 1) % env.task_horizon == 0, 0, entered)
        kept = _best_of_each(left * env.num_states + cell, value)
        is_left = left[kept, None] >> np.arange(env.num_states) & 1
        promise = value[kept] + (is_left * _promised(gain, t + 1)[cell[kept]]).sum(axis=1)
        kept, promise = (x[np.argsort(-promise, kind="stable")] for x in (kept, promise))
        limit = promise[width:].max(initial=limit)
        kept = kept[: min(width, (promise >= value.max()).sum())]
        cell, left, value = cell[kept], left[kept], value[kept]
        history.append(kept)
    actions, i = [], int(value.argmax())
    best = value[i]
    for kept in reversed(history):
        i, action = divmod(int(kept[i]), env.num_actions)
        actions.append(action)
    return Search(tuple(reversed(actions)), *(np.array([best, max(best, limit)]) / len(env.goals)))


def _best_of_each(group: Int[np.ndarray, " N"], value: Float[np.ndarray, " N"]) -> np.ndarray:
    """Indices of the largest value in every group."""
    order = np.argsort(-value, kind="stable")
    return order[np.unique(group[order], return_index=True)[1]]


def _gains(horizon: int) -> Float[np.ndarray, "T S"]:
    """What it is worth to find a goal in step t and to go there ever after; 0 from step H on."""
    env = GridNavi()
    episode, e = np.divmod(np.arange(horizon), env.task_horizon)
    pays = e[:, None] >= _distances()[0] - 1
    later = np.concatenate([pays[::-1].cumsum(axis=0)[::-1], np.zeros((1, env.num_states))])
    end = np.minimum((episode + 1) * env.task_horizon, horizon)
    steps = (end - np.arange(horizon))[:, None] + later[end]
    beyond = np.zeros((2 * env.task_horizon, env.num_states))
    return np.concatenate([(GOAL_REWARD - STEP_REWARD) * steps, beyond])


def _promised(gain: Float[np.ndarray, "T S"], t: int) -> Float[np.ndarray, "S S"]:
    """The gain of each goal for a search that is in each cell before step t: at `[cell, goal]`.

    If there is no time to get there in this episode, it is that of the next.
    """
    rest = GridNavi.task_horizon - t % GridNavi.task_horizon
    distance = _distances()
    steps = np.where(distance <= rest, distance, rest + distance[0])
    return gain[t + steps - 1, np.arange(len(distance))]


@functools.cache
def _distances() -> Int[np.ndarray, "S S"]:
    """Moves from each cell to each other."""
    cells = GridNavi().state_coordinates
    return np.abs(cells[:, None] - cells).sum(axis=-1)


@struct.dataclass
class SearchCarry:
    """Where the agent is and what it knows; int32 scalars.

    Attributes:
        state: current state index.
        t: steps taken in the meta-episode.
        goal: its state index, −1 until it is found.
    """

    state: jax.Array
    t: jax.Array
    goal: jax.Array


class GridNaviAgent(IndexAgent):
    """Maximises the expected return of a whole meta-episode in GridNavi (Zintgraf et al. 2020).

    Attributes:
        search: `[H]` int32, its actions until the goal is found.
    """

    search: jax.Array

    @classmethod
    def create(cls, horizon: int) -> "GridNaviAgent":
        """The agent for meta-episodes of `horizon` env steps.

        Raises:
            ConfigError: for a horizon below 1.
        """
        return cls(jnp.asarray(best_search(horizon).actions, jnp.int32))

    @override
    def init(self, s: ArrayLike) -> SearchCarry:
        return SearchCarry(cast("s", s, jnp.int32(0)), t=jnp.int32(0), goal=jnp.int32(-1))

    @override
    def act(self, carry: SearchCarry, key: PRNGKeyArray) -> tuple[Int[Array, ""], SearchCarry]:
        del key
        there = jnp.asarray(_shortest_ways())[carry.state, carry.goal]
        return jnp.where(carry.goal < 0, self.search[carry.t], there), carry

    @override
    def take_in(self, carry: SearchCarry, interaction: Interaction) -> SearchCarry:
        goal = jnp.where(interaction.reward > 0, interaction.s_next, carry.goal)
        return SearchCarry(interaction.s_now, carry.t + 1, goal)

    @override
    def for_horizon(self, horizon: int) -> "GridNaviAgent":
        return self if horizon == len(self.search) else self.create(horizon)


def _shortest_ways() -> Int[np.ndarray, "S G"]:
    """The action from each state to each goal; in the goal, to stay."""
    return _distances()[GridNavi().targets].argmin(axis=1).astype(np.int32)
