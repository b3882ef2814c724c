"""Gridworlds: procedurally generated, slippery, with water, fatal tiles, obstacles and a goal."""

import functools
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rl3jax.bellman import backward_induction
from rl3jax.checks import ConfigError, check_at_most, check_choice
from rl3jax.envs.base import Environment, TabularModel, Transition, sample_index
from rl3jax.ranges import Count, OneOf, Probability, Size

NORMAL, START, WATER, WARNING, FATAL, GOAL, OBSTACLE = range(7)
TILE_LETTERS = " SW!XGO"
"""A letter a tile, at the index of its code."""

ACTIONS = ("noop", "north", "east", "south", "west")
_STEPS = np.array([(0, 0), (-1, 0), (0, 1), (1, 0), (0, -1)])  # of the actions: rows, columns
_LEFT = np.array([0, 4, 1, 2, 3], np.int32)  # the direction 90° to the left of each; noop has none
_RIGHT = np.array([0, 2, 3, 4, 1], np.int32)

VARIATIONS: dict[str, dict[str, Any]] = {
    "11x11": {"side": 11},
    "13x13": {},
    "13x13-dense": {"obstacle_set_len": 4},
    "13x13-deterministic": {"slip": 0.0},
    "13x13-watery": {"num_water_sets": 8},
    "13x13-dangerous": {"num_fatal": 4},
    "13x13-corner": {"min_goal_manhat": 12},
}
"""The paper's task distributions: what differs from its 13x13."""

_13X13: dict[str, Any] = {
    "side": 13,
    "num_obstacle_sets": 11,
    "obstacle_set_len": 3,
    "num_water_sets": 5,
    "water_set_length": 2,
    "num_fatal": 2,
    "min_goal_manhat": 8,
    "slip": 0.2,
    "step_reward": -1.0,
    "water_reward": -2.0,
    "warning_reward": -10.0,
    "fatal_reward": -100.0,
    "goal_reward": 100.0,
    "min_optimal_return": 50.0,
    "max_optimal_return": 100.0,
}

FILTER_STEPS = 100
"""Env steps within which a grid must be worth its optimal return."""
TRIAL_GRIDS = 1000
"""Grids drawn at most to see whether options of one's own admit any."""
TRIAL_BATCH = 50
"""Of these at a time, to save memory, and time where the first admit one already."""

_BY_VARIATION: Any = None


@struct.dataclass
class GridworldTask:
    """What gridworlds of one environment differ in.

    Attributes:
        tiles: `[side, side]` int8, the code of each tile (`NORMAL`, `START`, …), north row first.
    """

    tiles: jax.Array


class _Draw(NamedTuple):
    """A grid before it is accepted."""

    tiles: Int[Array, "side side"]
    has_room: Bool[Array, ""]  # for all fatal tiles
    optimal_return: Float[Array, ""]


@dataclass(frozen=True)
class Gridworld(Environment):
    """Procedurally generated gridworld (RL³, Bhatia et al., domain "GridWorld").

    An episode starts in the centre and ends on the goal or on a fatal tile. Actions are those of
    `ACTIONS`. A move succeeds with probability 1 − slip, and goes 90° to its left or right with
    probability slip / 2 each; into an obstacle or off the grid it leads nowhere. Noop always stays.
    The reward is that of the tile entered, or stayed on. State index: row · side + column.

    | tile    | letter | reward         | slip when leaving |                    |
    |---------|--------|----------------|-------------------|--------------------|
    | normal  |        | step_reward    | slip              |                    |
    | start   | S      | step_reward    | slip              |                    |
    | water   | W      | water_reward   | 1                 |                    |
    | warning | !      | warning_reward | slip              |                    |
    | fatal   | X      | fatal_reward   |                   | ends the episode   |
    | goal    | G      | goal_reward    |                   | ends the episode   |
    | obstacle| O      |                |                   | cannot be entered  |

    Grids are drawn anew until the optimal expected undiscounted return from the start within 100
    steps lies in [min_optimal_return, max_optimal_return].

    Raises:
        ValueError: on construction, for an unknown variation, an option out of its range, or
            options with which no grid is accepted. The message is one line.
    """

    variation: Annotated[str, OneOf(tuple(VARIATIONS))] = "13x13"
    """A key of `VARIATIONS`. It decides every option that is not given."""
    side: Annotated[int, Interval(ge=2, le=127)] = _BY_VARIATION
    """Rows, and columns. This and what follows, None: the variation's."""
    num_obstacle_sets: Count = _BY_VARIATION
    """Straight segments of obstacles."""
    obstacle_set_len: Size = _BY_VARIATION
    """Tiles in a segment of obstacles."""
    num_water_sets: Count = _BY_VARIATION
    """Straight segments of water."""
    water_set_length: Size = _BY_VARIATION
    """Tiles in a segment of water."""
    num_fatal: Count = _BY_VARIATION
    """Fatal tiles, each between four warnings."""
    min_goal_manhat: Size = _BY_VARIATION
    """Least Manhattan distance from start to goal, in tiles."""
    slip: Probability = _BY_VARIATION
    """Probability that a move goes astray."""
    step_reward: float = _BY_VARIATION
    """Reward of a step onto a normal tile."""
    water_reward: float = _BY_VARIATION
    """Reward of a step onto water."""
    warning_reward: float = _BY_VARIATION
    """Reward of a step onto a warning."""
    fatal_reward: float = _BY_VARIATION
    """Reward of a step onto a fatal tile."""
    goal_reward: float = _BY_VARIATION
    """Reward of a step onto the goal."""
    min_optimal_return: float = _BY_VARIATION
    """A grid is drawn anew if its optimal return is less."""
    max_optimal_return: float = _BY_VARIATION
    """A grid is drawn anew if its optimal return is more."""

    num_actions = len(ACTIONS)
    task_horizon = None
    max_successors = 3

    def __post_init__(self) -> None:
        check_choice("variation", self.variation, VARIATIONS)
        published = {**_13X13, **VARIATIONS[self.variation]}
        for name, value in published.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        super().__post_init__()
        self._check_options_together()
        if any(getattr(self, name) != value for name, value in published.items()):
            _check_admits_grids(self)

    def _check_options_together(self) -> None:
        for name in ("num_obstacle_sets", "num_water_sets", "num_fatal"):
            check_at_most(name, getattr(self, name), self.num_states)
        longest = (self.side + 1) // 2  # fits wherever it starts, since it grows to the centre
        for name in ("obstacle_set_len", "water_set_length"):
            check_at_most(name, getattr(self, name), longest)
        check_at_most("min_goal_manhat", self.min_goal_manhat, 2 * (self.side // 2))
        low, high = self.min_optimal_return, self.max_optimal_return
        if high < low:
            raise ConfigError(
                f"max_optimal_return must be at least min_optimal_return, {low:g}, not {high:g}"
            )

    @classmethod
    def training_horizon(cls, variation: str | None) -> int:
        """The paper's, by the grid's size."""
        return 250 if variation == "11x11" else 350

    @classmethod
    def defaults_with(cls, object_level: str | None, algo: str, horizon: int) -> dict[str, Any]:
        """Small rewards; a learner of kinds of states leads the policy.

        Another one that is asked for plans by fixed numbers of sweeps, and takes more iterations.
        """
        del horizon
        rewards = {
            "value_scale": 0.3,
            "squash_values": True,
            "reward_scale": 0.05,
            "critic_scale": 0.05,
        }
        if algo == "rl3" and object_level in (None, "local_model"):
            return rewards | {
                "object_level": "local_model",
                "head": "planning",
                "n_tasks": 512,
                "iterations": 60,
                "minibatches": 16,
                "gae_lambda": 0.9,
            }
        return rewards | {
            "n_tasks": 128,
            "iterations": 800,
            "minibatches": 8,
            "learning_rate": 1e-3,
            "entropy": 0.03,
            "planning_discount": 0.97,
            "smoothing": 0.0,
            "tolerance": 0.1,
            "known_states": "visited",
            "warm_start": True,
            "sweeps_per_step": 2 if algo == "rl3-coarse" else 4,  # there each carries two tiles
        }

    @property
    def num_states(self) -> int:
        """A state a cell."""
        return self.side**2

    @property
    def state_coordinates(self) -> Int[np.ndarray, "S 2"]:
        """Row and column of each state."""
        return np.stack(np.divmod(np.arange(self.num_states), self.side), axis=1)

    @property
    def state_features(self) -> Float[Array, "S 2"]:
        """((row + 1) / side, (column + 1) / side)."""
        return jnp.asarray((self.state_coordinates + 1) / self.side, jnp.float32)

    @property
    def entry_reward(self) -> Float[np.ndarray, " tiles"]:
        """Reward of entering each kind of tile, by its code; 0 for obstacles."""
        rewards = np.zeros(len(TILE_LETTERS), np.float32)
        rewards[[NORMAL, START]] = self.step_reward
        rewards[WATER] = self.water_reward
        rewards[WARNING] = self.warning_reward
        rewards[FATAL] = self.fatal_reward
        rewards[GOAL] = self.goal_reward
        return rewards

    # --- dynamics ---

    def start_index(self, key: PRNGKeyArray, task: GridworldTask) -> int:
        """The centre; the key is not consumed."""
        del key, task
        return self._centre_index

    def transition(
        self, key: PRNGKeyArray, s: Int[Array, ""], action: Int[Array, ""], task: GridworldTask
    ) -> Transition:
        """One move, which may slip. The key is consumed."""
        tiles = task.tiles.ravel()
        slip = self._slip(tiles[s])
        u = jax.random.uniform(key)
        astray = jnp.where(u < slip / 2, jnp.asarray(_LEFT)[action], jnp.asarray(_RIGHT)[action])
        direction = jnp.where(u < slip, astray, action)
        target = jnp.asarray(_targets(self.side))[s, direction]
        is_dead = _is_dead_end(tiles[s])
        s_next = jnp.where(is_dead | (tiles[target] == OBSTACLE), s, target)
        reward = jnp.asarray(self.entry_reward)[tiles[s_next]]
        return Transition(
            next_state_index=s_next,
            reward=jnp.where(is_dead, 0.0, reward),
            terminated=_is_terminal(tiles[s_next]),
        )

    def tabular(self, task: GridworldTask) -> TabularModel:
        """The rules as tables; goal, fatal tiles and obstacles are absorbing and pay nothing."""
        tiles = task.tiles.ravel()
        targets = _targets(self.side)
        states = np.arange(self.num_states)
        is_dead = _is_dead_end(tiles)[:, None]
        stays = is_dead | (tiles[targets] == OBSTACLE)
        reached = jnp.where(stays, states[:, None], targets)  # [S, A]
        slip = self._slip(tiles)[:, None, None]
        onto = jax.nn.one_hot(reached, self.num_states)
        transition_probs = (1 - slip) * onto + slip / 2 * (onto[:, _LEFT] + onto[:, _RIGHT])
        mean_reward = transition_probs @ jnp.asarray(self.entry_reward)[tiles]
        return TabularModel(
            transition_probs=transition_probs,
            mean_reward=jnp.where(is_dead, 0.0, mean_reward),
            start=jnp.zeros(self.num_states).at[self._centre_index].set(1.0),
            terminal=_is_terminal(tiles),
        )

    def _slip(self, tile: Int[Array, "*any"]) -> Float[Array, "*any"]:
        return jnp.where(tile == WATER, 1.0, self.slip)

    # --- generation ---

    @functools.partial(jax.jit, static_argnames="self")
    def sample_task(self, key: PRNGKeyArray) -> GridworldTask:
        """The first accepted grid of a series of draws. The key is consumed."""

        def draw_again(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            key_rest, key_draw = jax.random.split(carry[0])
            draw = self._draw(key_draw)
            return key_rest, draw.tiles, self._accepts(draw)

        nothing = (key, jnp.zeros((self.side, self.side), jnp.int8), jnp.bool_(False))
        _, tiles, _ = jax.lax.while_loop(lambda carry: ~carry[2], draw_again, nothing)
        return GridworldTask(tiles)

    def _accepts(self, draw: _Draw) -> Bool[Array, ""]:
        is_worth_it = (draw.optimal_return >= self.min_optimal_return) & (
            draw.optimal_return <= self.max_optimal_return
        )
        return draw.has_room & is_worth_it

    def _draw(self, key: PRNGKeyArray) -> _Draw:
        """One grid; later tiles overwrite earlier ones."""
        key_obstacles, key_water, key_goal, key_fatal = jax.random.split(key, 4)
        obstacles = self._segments(key_obstacles, self.num_obstacle_sets, self.obstacle_set_len)
        water = self._segments(key_water, self.num_water_sets, self.water_set_length)
        centre = self.side // 2

        tiles = jnp.full((self.side, self.side), NORMAL, jnp.int8)
        tiles = jnp.where(obstacles, OBSTACLE, tiles)
        tiles = jnp.where(water, WATER, tiles)
        tiles = tiles.at[centre, centre].set(START)
        tiles = tiles.ravel().at[self._goal(key_goal)].set(GOAL).reshape(tiles.shape)
        tiles, has_room = self._with_fatal_tiles(key_fatal, tiles)
        return _Draw(tiles.astype(jnp.int8), has_room, self._optimal_return(tiles))

    def _segments(self, key: PRNGKeyArray, count: int, length: int) -> Bool[Array, "side side"]:
        """Where `count` straight segments lie: each starts anywhere and grows to the centre line.

        One that starts on the centre line grows to either side with probability 1/2.
        """
        key_axis, key_along, key_across, key_side = jax.random.split(key, 4)
        centre = self.side // 2
        vertical = jax.random.bernoulli(key_axis, shape=(count,))[:, None]
        start = jax.random.randint(key_along, (count, 1), 0, self.side)
        across = jax.random.randint(key_across, (count, 1), 0, self.side)
        either = jnp.where(jax.random.bernoulli(key_side, shape=(count, 1)), 1, -1)
        growth = jnp.where(start == centre, either, jnp.sign(centre - start))
        along = start + growth * jnp.arange(length)[None, :]  # [count, length]
        rows = jnp.where(vertical, along, across)
        columns = jnp.where(vertical, across, along)
        return jnp.zeros((self.side, self.side), bool).at[rows, columns].set(True)

    def _goal(self, key: PRNGKeyArray) -> Int[Array, ""]:
        """A cell far enough from the centre, all alike."""
        distance = np.abs(self.state_coordinates - self.side // 2).sum(axis=1)
        return sample_index(key, jnp.asarray(distance >= self.min_goal_manhat).astype(float))

    def _with_fatal_tiles(
        self, key: PRNGKeyArray, tiles: Int[Array, "side side"]
    ) -> tuple[Int[Array, "side side"], Bool[Array, ""]]:
        """The grid with its fatal tiles and their warnings, and whether there was room for all.

        Each is a normal cell off the border, all such alike, between normal cells and obstacles.
        """
        off_border = np.zeros((self.side, self.side), bool)
        off_border[1:-1, 1:-1] = True

        def place(
            _: Int[ArrayLike, ""], carry: tuple[Array, Array, Array]
        ) -> tuple[Array, Array, Array]:
            key, tiles, has_room = carry
            key_rest, key_place = jax.random.split(key)
            is_plain = (tiles == NORMAL) | (tiles == OBSTACLE)
            qualifies = (
                jnp.asarray(off_border)
                & (tiles == NORMAL)
                & jnp.all(_around(is_plain, False), axis=0)
            )
            chosen = sample_index(key_place, qualifies.ravel().astype(float))
            fatal = (jnp.arange(tiles.size) == chosen).reshape(tiles.shape)
            tiles = jnp.where(jnp.any(_around(fatal, False), axis=0), WARNING, tiles)
            return key_rest, jnp.where(fatal, FATAL, tiles), has_room & jnp.any(qualifies)

        unplaced = (key, tiles, jnp.bool_(True))
        too_many = self.num_states // 5 + 1  # each takes five cells: there is no room for these
        to_place = min(self.num_fatal, too_many)
        _, tiles, has_room = jax.lax.fori_loop(0, to_place, place, unplaced)
        return tiles, has_room

    def _optimal_return(self, tiles: Int[Array, "side side"]) -> Float[Array, ""]:
        """The optimal expected undiscounted return of one episode from the start, in 100 steps.

        Backward induction on the flat grid itself, where neighbours are slices: a small fraction of
        the cost of sweeps over `tabular`.
        """
        reward = jnp.asarray(self.entry_reward)[tiles].ravel()
        carries_on = ~_is_terminal(tiles).ravel()
        blocked = _around(tiles == OBSTACLE, True).reshape(4, self.num_states)
        slip = self._slip(tiles).ravel()
        # Where the northern, eastern, … neighbours begin in flat cells padded by a row.
        offsets = 0, self.side + 1, 2 * self.side, self.side - 1

        def backup(v: Float[Array, " S"]) -> Float[Array, "S A"]:
            entered = reward + carries_on * v
            padded = jnp.pad(entered, self.side)
            beside = [padded[start:][: v.size] for start in offsets]
            moved = [jnp.where(b, entered, x) for b, x in zip(blocked, beside, strict=True)]
            moves = [
                (1 - slip) * moved[i] + slip / 2 * (moved[i - 1] + moved[(i + 1) % 4])
                for i in range(4)
            ]
            return jnp.stack([entered, *moves], axis=-1)

        v_end = jnp.zeros(self.num_states)
        v, _ = backward_induction(backup, v_end, FILTER_STEPS, keep=lambda q: None)
        return v[self._centre_index]

    @property
    def _centre_index(self) -> int:
        return (self.side // 2) * (self.side + 1)


def _is_terminal(tile: Int[Array, "*any"]) -> Bool[Array, "*any"]:
    return (tile == FATAL) | (tile == GOAL)


def _is_dead_end(tile: Int[Array, "*any"]) -> Bool[Array, "*any"]:
    """Whether no action leads away: the episode is over, or, inside an obstacle, never was."""
    return _is_terminal(tile) | (tile == OBSTACLE)


def _around(x: Array, beyond: ArrayLike) -> Array:
    """The northern, eastern, southern and western neighbours of each cell, `[4, side, side]`."""
    padded = jnp.pad(x, 1, constant_values=beyond)
    return jnp.stack([padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]])


@functools.cache
def _targets(side: int) -> Int[np.ndarray, "S A"]:
    """The cell that each action aims at from each cell; the cell itself if that is off the grid."""
    cells = np.stack(np.divmod(np.arange(side**2), side), axis=1)
    aims = cells[:, None] + _STEPS[None]
    on_grid = np.all((aims >= 0) & (aims < side), axis=2, keepdims=True)
    row, column = np.moveaxis(np.where(on_grid, aims, cells[:, None]), 2, 0)
    return (row * side + column).astype(np.int32)


# --- options of one's own -----------------------------------------------------------------------


def _check_admits_grids(env: Gridworld) -> None:
    """Raises ConfigError if no grid is accepted: `sample_task` would never end."""
    has_room, optimal_return, accepted = _trial(env)
    if accepted.any():
        return
    if not has_room.any():
        raise ConfigError(
            f"num_fatal {env.num_fatal} is too many: none of {TRIAL_GRIDS} grids of side "
            f"{env.side} had room for them beside the other tiles"
        )
    low, high = optimal_return[has_room].min(), optimal_return[has_room].max()
    raise ConfigError(
        f"these options admit no grid: {TRIAL_GRIDS} draws had optimal returns from {low:.4g} to "
        f"{high:.4g}, none in [min_optimal_return, max_optimal_return] = "
        f"[{env.min_optimal_return:g}, {env.max_optimal_return:g}]"
    )


@functools.cache
def _trial(env: Gridworld) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of draws: had they room for the fatal tiles, what are they worth, are they accepted.

    Of all that are to be tried, or up to the batch with the first accepted one.
    """

    def try_once(key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        draw = env._draw(key)
        return draw.has_room, draw.optimal_return, env._accepts(draw)

    with jax.ensure_compile_time_eval():
        keys = jax.random.split(jax.random.key(0), TRIAL_GRIDS)
        try_batch = jax.jit(jax.vmap(try_once))
        batches = []
        for batch in keys.reshape(-1, TRIAL_BATCH):
            batches.append(jax.device_get(try_batch(batch)))
            if batches[-1][2].any():
                break
    has_room, optimal_return, accepted = map(np.concatenate, zip(*batches, strict=True))
    return has_room, optimal_return, accepted
