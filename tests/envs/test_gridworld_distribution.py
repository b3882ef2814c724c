"""Gridworlds are distributed as the paper says: by its rules, written anew in NumPy."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest
import scipy.stats

from rl3jax.envs import Gridworld
from rl3jax.envs.gridworld import FATAL, GOAL, NORMAL, OBSTACLE, START, WARNING, WATER

N = 2500
RULES = {
    "side": 13,
    "obstacles": (11, 3),
    "water": (5, 2),
    "num_fatal": 2,
    "goal_distance": 8,
    "slip": 0.2,
}
VARIATIONS = {
    "11x11": {**RULES, "side": 11},
    "13x13-dangerous": {**RULES, "num_fatal": 4},
}
CHANGES = (
    "water before obstacles",
    "start before obstacles",
    "fatal before goal",
    "segments all vertical",
    "segments grow away from the centre",
    "ties grow south or east",
    "obstacles start beyond the first coordinate",
    "obstacles start before the last coordinate",
    "segments one tile longer",
    "one water set more",
    "goal farther than the distance",
    "goal near the border",
    "fatal on the border",
    "fatal in place of obstacles",
    "fatal beside water",
    "fatal not beside obstacles",
    "fatal all at once",
    "warnings spare obstacles",
    "water slips as little as the rest",
    "slips to the left alone",
    "half the steps",
    "any return",
    "returns from 40",
)


# --- the rules in NumPy -------------------------------------------------------------------------


def lay_segments(tiles, code, count, length, rng, change):
    """Overwrites `tiles`, as all that follow; arrays are over grids, loops over what grids have."""
    n, side = tiles.shape[:2]
    centre = side // 2
    for _ in range(count):
        vertical = rng.random(n) < (1 if change == "segments all vertical" else 0.5)
        start = rng.integers(side, size=n)
        if change == "obstacles start beyond the first coordinate" and code == OBSTACLE:
            start = rng.integers(1, side, size=n)
        if change == "obstacles start before the last coordinate" and code == OBSTACLE:
            start = rng.integers(side - 1, size=n)
        across = rng.integers(side, size=n)
        either = 1 if change == "ties grow south or east" else rng.choice([-1, 1], size=n)
        growth = np.where(start == centre, either, np.where(start < centre, 1, -1))
        if change == "segments grow away from the centre":
            growth = -growth
        for k in range(length + (change == "segments one tile longer")):
            along = (start + growth * k).clip(0, side - 1)
            row, column = np.where(vertical, (along, across), (across, along))
            tiles[np.arange(n), row, column] = code


def put_goal(tiles, least_distance, rng, change):
    n, side = tiles.shape[:2]
    row, column = np.indices((side, side)).reshape(2, -1)
    distance = np.abs(row - side // 2) + np.abs(column - side // 2)
    allowed = distance >= least_distance + (change == "goal farther than the distance")
    if change == "goal near the border":
        allowed = np.maximum(np.abs(row - side // 2), np.abs(column - side // 2)) > side // 2 - 2
    chosen = rng.choice(np.flatnonzero(allowed), size=n)
    tiles[np.arange(n), row[chosen], column[chosen]] = GOAL


def put_fatal(tiles, before, rng, change):
    """One more in each grid where it fits the grid `before`; returns in which it does not."""
    side = tiles.shape[1]
    margin = 0 if change == "fatal on the border" else 1
    at = (NORMAL, OBSTACLE) if change == "fatal in place of obstacles" else (NORMAL,)
    beside = {"fatal beside water": (NORMAL, OBSTACLE, WATER), "fatal not beside obstacles": at}
    beside = beside.get(change, (NORMAL, OBSTACLE))
    left = np.arange(len(tiles))
    for _ in range(2000):
        row, column = rng.integers(margin, side - margin, size=(2, len(left)))
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        around = [(r.clip(0, side - 1), c.clip(0, side - 1)) for r, c in around]
        fits = np.isin(before[left, row, column], at)
        for r, c in around:
            fits &= np.isin(before[left, r, c], beside)
        for r, c in around:
            spared = (tiles[left, r, c] == OBSTACLE) & (change == "warnings spare obstacles")
            placed = fits & ~spared
            tiles[left[placed], r[placed], c[placed]] = WARNING
        tiles[left[fits], row[fits], column[fits]] = FATAL
        left = left[~fits]
    return left


def draw_grids(n, rules, rng, change=""):
    """`n` grids as they are before any is rejected, and which have all their fatal tiles."""
    side = rules["side"]
    tiles = np.full((n, side, side), NORMAL, np.int8)
    if change == "start before obstacles":
        tiles[:, side // 2, side // 2] = START
    layers = [(OBSTACLE, *rules["obstacles"]), (WATER, *rules["water"])]
    for code, count, length in reversed(layers) if change == "water before obstacles" else layers:
        count += code == WATER and change == "one water set more"
        lay_segments(tiles, code, count, length, rng, change)
    if change != "start before obstacles":
        tiles[:, side // 2, side // 2] = START
    if change != "fatal before goal":
        put_goal(tiles, rules["goal_distance"], rng, change)
    has_room = np.ones(n, bool)
    before = tiles.copy() if change == "fatal all at once" else tiles
    for _ in range(rules["num_fatal"]):
        has_room[put_fatal(tiles, before, rng, change)] = False
    if change == "fatal before goal":
        put_goal(tiles, rules["goal_distance"], rng, change)
    return tiles, has_room


def optimal_returns(tiles, slip, change=""):
    """The optimal expected return from the start in 100 steps, by backward induction."""
    chunks = np.split(tiles, range(200, len(tiles), 200))
    return np.concatenate([_optimal_returns(chunk, slip, change) for chunk in chunks])


def _optimal_returns(tiles, slip, change):
    tiles = np.moveaxis(tiles, 0, -1)  # grids last: slices of rows and columns are contiguous
    side = len(tiles)
    pays = np.zeros(7, np.float32)
    pays[[NORMAL, START, WATER, WARNING, FATAL, GOAL]] = [-1, -1, -2, -10, -100, 100]
    pays = pays[tiles]
    lasts = ((tiles != FATAL) & (tiles != GOAL)).astype(np.float32)
    slip = np.where(tiles == WATER, 1, slip).astype(np.float32)
    if change == "water slips as little as the rest":
        slip = np.full_like(slip, slip.min())
    padded = np.pad(tiles, ((1, 1), (1, 1), (0, 0)), constant_values=OBSTACLE)
    sides = [np.s_[:-2, 1:-1], np.s_[1:-1, 2:], np.s_[2:, 1:-1], np.s_[1:-1, :-2]]
    blocked = [padded[beside] == OBSTACLE for beside in sides]
    straight, astray = 1 - slip, slip / 2
    padded = np.zeros(padded.shape, np.float32)
    value = padded[1:-1, 1:-1]
    for _ in range(50 if change == "half the steps" else 100):
        value *= lasts
        value += pays  # what it is worth to enter each cell, or to stay on it
        to = [np.where(b, value, padded[beside]) for b, beside in zip(blocked, sides, strict=True)]
        if change == "slips to the left alone":
            moves = [straight * to[i] + slip * to[i - 1] for i in range(4)]
        else:
            off = [astray * (to[0] + to[2]), astray * (to[1] + to[3])]
            moves = [straight * to[i] + off[1 - i % 2] for i in range(4)]
        value[:] = functools.reduce(np.maximum, moves, value)  # or to stay
    return value[side // 2, side // 2].copy()


# --- samples and their comparison ---------------------------------------------------------------


class NumpySample:
    """Grids as drawn, with what they are worth, and those that are accepted."""

    def __init__(self, variation, n, change=""):
        self.rules, self.change = VARIATIONS[variation], change
        rng = np.random.default_rng(1)
        self.drawn, self.has_room = draw_grids(n, self.rules, rng, change)

    @functools.cached_property
    def drawn_returns(self):
        return optimal_returns(self.drawn, self.rules["slip"], self.change)

    @functools.cached_property
    def is_accepted(self):
        low = {"any return": -np.inf, "returns from 40": 40}.get(self.change, 50)
        high = np.inf if self.change == "any return" else 100
        return self.has_room & (low <= self.drawn_returns) & (self.drawn_returns <= high)

    @property
    def accepted(self):
        return self.drawn[self.is_accepted]

    @property
    def accepted_returns(self):
        return self.drawn_returns[self.is_accepted]


class OurSample(NamedTuple):
    """The same of an environment; what is accepted is what `sample_task` gives."""

    drawn: np.ndarray
    drawn_returns: np.ndarray
    is_accepted: np.ndarray
    accepted: np.ndarray
    accepted_returns: np.ndarray

    def first(self, n):
        return OurSample(*(x[:n] for x in self))


@functools.cache
def our_sample(variation):
    env = Gridworld(variation)

    def sample(key):
        key_draw, key_task = jax.random.split(key)
        draw, accepted = env._draw(key_draw), env.sample_task(key_task).tiles
        return OurSample(
            drawn=draw.tiles,
            drawn_returns=draw.optimal_return,
            is_accepted=env._accepts(draw),
            accepted=accepted,
            accepted_returns=env._optimal_return(accepted),
        )

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 2})
    def sample_all(key):
        return jax.lax.map(sample, jax.random.split(key, N), batch_size=100)

    return jax.tree.map(np.asarray, sample_all(jax.random.key(0)))


def tiles_by_position(tiles):
    kinds = np.delete(np.arange(7), NORMAL)  # which follows from the others
    return (tiles[..., None] == kinds).reshape(len(tiles), -1)


def counts(tiles):
    """How many tiles of each kind there are, by row, by column, and of each pair of neighbours."""
    is_kind = [tiles == kind for kind in range(7)]
    lines = [kind.sum(axis=axis) for kind in is_kind for axis in (1, 2)]
    totals = [kind.sum(axis=(1, 2))[:, None] for kind in is_kind]
    pairs = []
    for near, far in ((tiles[:, 1:], tiles[:, :-1]), (tiles[:, :, 1:], tiles[:, :, :-1])):
        pair = 7 * np.maximum(near, far) + np.minimum(near, far)
        pairs += [(pair == code).sum(axis=(1, 2))[:, None] for code in range(49)]
    return np.hstack([*totals, *lines, *pairs])


def goal_distance(tiles):
    side = tiles.shape[1]
    row, column = np.divmod((tiles == GOAL).reshape(len(tiles), -1).argmax(axis=1), side)
    distance = np.abs(row - side // 2) + np.abs(column - side // 2)
    return distance[:, None] == np.arange(side)


def moments(returns):
    return np.stack([returns, returns**2], axis=1)


def p_values(x, y):
    """Of equal means: of the feature that differs most, and of all together (Hotelling's test)."""
    both = np.vstack([x, y]).astype(float)
    both = both[:, (both != both[0]).sum(axis=0) >= 30]  # the means of others are not normal
    if not both.size:
        return 1.0, 1.0
    difference = both[: len(x)].mean(axis=0) - both[len(x) :].mean(axis=0)
    z = difference / both.std(axis=0) / np.sqrt(1 / len(x) + 1 / len(y))
    ridge = 1e-6  # for features that follow from others: the statistic and rank are without them
    inverse = np.linalg.inv(np.atleast_2d(np.corrcoef(both.T)) + ridge * np.eye(len(z)))
    rank = len(z) - ridge * inverse.trace()
    most = 2 * scipy.stats.norm.sf(np.abs(z).max()) * len(z)
    return min(most, 1.0), scipy.stats.chi2.sf(z @ inverse @ z, rank)


def compare(ours, theirs):
    """Yields what is compared and a p-value; the costly last."""
    for stage in ("drawn", "accepted"):
        x, y = getattr(ours, stage), getattr(theirs, stage)
        for features in (counts, goal_distance, tiles_by_position):
            for which, p in zip(("each", "all"), p_values(features(x), features(y)), strict=True):
                yield f"{stage} {features.__name__} {which}", p
        x, y = getattr(ours, f"{stage}_returns"), getattr(theirs, f"{stage}_returns")
        yield f"{stage} moments", min(p_values(moments(x), moments(y)))
        yield f"{stage} ks", scipy.stats.ks_2samp(x.round(2), y.round(2), method="asymp").pvalue
    x, y = ours.is_accepted[:, None], theirs.is_accepted[:, None]
    yield "accepted", p_values(x, y)[0]


@pytest.mark.parametrize("variation", VARIATIONS)
def test_grids_are_distributed_as_the_rules_say(variation):
    ours, theirs = our_sample(variation), NumpySample(variation, N)
    too_unlikely = {name: p for name, p in compare(ours, theirs) if p < 1e-4}
    assert not too_unlikely


@pytest.mark.parametrize("change", CHANGES)
def test_other_rules_would_be_noticed(change):
    ours, theirs = our_sample("11x11"), NumpySample("11x11", N, change)
    assert any(p < 1e-7 for _, p in compare(ours, theirs))


@pytest.mark.parametrize("variation", VARIATIONS)
def test_the_filter_knows_what_a_grid_is_worth(variation):
    ours = our_sample(variation).first(1000)
    expected = optimal_returns(ours.drawn, VARIATIONS[variation]["slip"])
    np.testing.assert_allclose(ours.drawn_returns, expected, atol=1e-3)
