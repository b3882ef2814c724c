import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.checks import ConfigError
from rl3jax.envs import EnvState, Gridworld
from rl3jax.envs.gridworld import (
    ACTIONS,
    FATAL,
    GOAL,
    NORMAL,
    OBSTACLE,
    START,
    TILE_LETTERS,
    VARIATIONS,
    WARNING,
    WATER,
    GridworldTask,
)

PUBLISHED = {  # side, obstacles, water, fatal tiles, least distance to the goal, slip
    "11x11": (11, (11, 3), (5, 2), 2, 8, 0.2),
    "13x13": (13, (11, 3), (5, 2), 2, 8, 0.2),
    "13x13-dense": (13, (11, 4), (5, 2), 2, 8, 0.2),
    "13x13-deterministic": (13, (11, 3), (5, 2), 2, 8, 0.0),
    "13x13-watery": (13, (11, 3), (8, 2), 2, 8, 0.2),
    "13x13-dangerous": (13, (11, 3), (5, 2), 4, 8, 0.2),
    "13x13-corner": (13, (11, 3), (5, 2), 2, 12, 0.2),
}
NORTH, EAST, SOUTH, WEST = range(1, 5)
STEPS = {NORTH: (-1, 0), EAST: (0, 1), SOUTH: (1, 0), WEST: (0, -1)}
GRID = (
    "  O        ",
    " OWO    !  ",
    "  O    !X! ",
    "        !  ",
    "   W       ",
    "     S   O ",
    "         WO",
    "         O ",
    "           ",
    "    W      ",
    "   WWW    G",
)
OWN = {
    "side": 7,
    "num_obstacle_sets": 2,
    "obstacle_set_len": 2,
    "num_water_sets": 1,
    "water_set_length": 4,
    "num_fatal": 1,
    "min_goal_manhat": 3,
    "slip": 0.1,
    "step_reward": -0.5,
    "water_reward": -3.0,
    "warning_reward": -4.0,
    "fatal_reward": -50.0,
    "goal_reward": 40.0,
    "min_optimal_return": 10.0,
    "max_optimal_return": 38.0,
}


def task_of(rows):
    codes = [[TILE_LETTERS.index(letter) for letter in row] for row in rows]
    return GridworldTask(jnp.asarray(codes, jnp.int8))


def best_return(model, steps=100):
    """The optimal expected return of one episode, by backward induction on the tables."""
    P, R, start, terminal = (np.asarray(x, np.float64) for x in model)
    v = np.zeros(len(start))
    for _ in range(steps):
        v = (R + P @ (v * (1 - terminal))).max(axis=1)
    return start @ v


def assert_one_line(error):
    assert "\n" not in str(error.value)


# --- golden case --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden():
    return json.loads((Path(__file__).parents[1] / "golden" / "gridworld.json").read_text())


@pytest.fixture(scope="module")
def golden_model(golden):
    return jax.tree.map(np.asarray, Gridworld().tabular(task_of(golden["grid"])))


def test_golden_tables(golden, golden_model):
    env, task = Gridworld(), task_of(golden["grid"])
    assert env.slip == golden["slip"]
    entry_reward = np.array(golden["entry_reward"])
    np.testing.assert_array_equal(env.entry_reward[task.tiles.ravel()], entry_reward)
    dead_ends = np.isin(task.tiles.ravel(), (GOAL, FATAL, OBSTACLE))
    for s, a, row in golden["transition_rows"]:
        expected = np.zeros(env.num_states)
        expected[[int(s_next) for s_next in row]] = list(row.values())
        np.testing.assert_allclose(golden_model.transition_probs[s, a], expected, atol=1e-6)
        mean_reward = 0 if dead_ends[s] else expected @ entry_reward
        np.testing.assert_allclose(golden_model.mean_reward[s, a], mean_reward, rtol=1e-6)


def test_golden_optimal_return(golden, golden_model):
    expected = golden["optimal_return_100_steps"]
    assert best_return(golden_model) == pytest.approx(expected, abs=1e-3)
    in_filter = Gridworld()._optimal_return(task_of(golden["grid"]).tiles)
    assert float(in_filter) == pytest.approx(expected, abs=1e-3)


def test_golden_transitions_are_possible(golden, golden_model):
    s, a, r, s_next, terminated = (np.array(c) for c in zip(*golden["transitions"], strict=True))
    assert (golden_model.transition_probs[s, a, s_next] > 0.09).all()
    np.testing.assert_array_equal(r, np.array(golden["entry_reward"])[s_next])
    np.testing.assert_array_equal(terminated, golden_model.terminal[s_next])
    np.testing.assert_array_equal(s[1:], np.where(terminated, s[0], s_next)[:-1])
    assert golden_model.start[s[0]] == 1


# --- variations ---------------------------------------------------------------------------------


def test_variations_are_the_papers():
    assert Gridworld() == Gridworld("13x13")
    assert set(VARIATIONS) == set(PUBLISHED)
    for variation, published in PUBLISHED.items():
        env = Gridworld(variation)
        obstacles = (env.num_obstacle_sets, env.obstacle_set_len)
        water = (env.num_water_sets, env.water_set_length)
        options = (env.side, obstacles, water, env.num_fatal, env.min_goal_manhat, env.slip)
        assert options == published
        np.testing.assert_array_equal(env.entry_reward, [-1, -1, -2, -10, -100, 100, 0])
        assert (env.min_optimal_return, env.max_optimal_return) == (50, 100)
        assert env.task_horizon is None


def assert_keeps_the_rules(env, tiles, model):
    side, centre = env.side, env.side // 2
    where = {kind: np.argwhere(tiles == kind) for kind in range(7)}
    np.testing.assert_array_equal(where[START], [[centre, centre]])
    assert len(where[GOAL]) == 1
    assert np.abs(where[GOAL] - centre).sum() >= env.min_goal_manhat
    assert len(where[OBSTACLE]) <= env.num_obstacle_sets * env.obstacle_set_len
    assert len(where[WATER]) <= env.num_water_sets * env.water_set_length
    assert len(where[FATAL]) == env.num_fatal
    warnings = {(r + dr, c + dc) for r, c in where[FATAL] for dr, dc in STEPS.values()}
    assert {tuple(cell) for cell in where[WARNING]} == warnings  # on the grid: X is off the border
    assert ((where[FATAL] > 0) & (where[FATAL] < side - 1)).all()
    value = best_return(model)
    assert env.min_optimal_return - 1e-3 <= value <= env.max_optimal_return + 1e-3


@pytest.mark.parametrize("variation", VARIATIONS)
def test_grids_keep_the_rules(variation):
    env, n = Gridworld(variation), 36
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(0), n))
    assert tasks.tiles.dtype == jnp.int8
    models = jax.vmap(env.tabular)(tasks)
    for i in range(n):
        model = jax.tree.map(lambda x, i=i: x[i], models)
        assert_keeps_the_rules(env, np.asarray(tasks.tiles[i]), model)
    assert len(np.unique(tasks.tiles, axis=0)) == n


# --- dynamics -----------------------------------------------------------------------------------

TASK, CENTRE = task_of(GRID), 60
LETTERS = np.array(list("".join(GRID)))


def cell(row, column):
    return 11 * row + column


def draw_steps(step, s, action, n):
    state = EnvState(time=jnp.int32(5), index=jnp.int32(s))
    keys = jax.random.split(jax.random.key(5 * s + action), n)
    return jax.vmap(step, (0, None, None, None))(keys, state, jnp.int32(action), TASK)


@pytest.mark.parametrize(
    ("start", "action", "expected"),
    [
        ((8, 2), NORTH, {(7, 2): 0.8, (8, 1): 0.1, (8, 3): 0.1}),
        ((8, 2), EAST, {(8, 3): 0.8, (7, 2): 0.1, (9, 2): 0.1}),
        ((8, 2), SOUTH, {(9, 2): 0.8, (8, 1): 0.1, (8, 3): 0.1}),
        ((8, 2), WEST, {(8, 1): 0.8, (7, 2): 0.1, (9, 2): 0.1}),
        ((0, 0), NORTH, {(0, 0): 0.9, (0, 1): 0.1}),  # the border
        ((0, 1), SOUTH, {(0, 1): 0.9, (0, 0): 0.1}),  # obstacles to the south and east
        ((4, 3), NORTH, {(4, 2): 0.5, (4, 4): 0.5}),  # from water
        ((4, 3), EAST, {(3, 3): 0.5, (5, 3): 0.5}),
        ((10, 4), WEST, {(9, 4): 0.5, (10, 4): 0.5}),
        ((6, 9), SOUTH, {(6, 8): 0.5, (6, 9): 0.5}),
        ((6, 9), WEST, {(6, 9): 1.0}),
        ((1, 2), EAST, {(1, 2): 1.0}),
        ((2, 7), EAST, {(2, 8): 0.8, (1, 7): 0.1, (3, 7): 0.1}),  # into the fatal tile
        ((9, 10), SOUTH, {(10, 10): 0.8, (9, 9): 0.1, (9, 10): 0.1}),  # into the goal
    ],
)
def test_moves_slip(start, action, expected):
    n = 4000
    env, s = Gridworld("11x11"), cell(*start)
    _, after, reward, terminated, _ = draw_steps(env.step_env, s, action, n)
    counts = np.bincount(after.index, minlength=env.num_states)
    probs = np.zeros(env.num_states)
    probs[[cell(*to) for to in expected]] = list(expected.values())
    assert (np.abs(counts - n * probs) <= 4 * np.sqrt(n * probs * (1 - probs))).all()
    entered = LETTERS[after.index]
    pays = {" ": -1, "S": -1, "W": -2, "!": -10, "X": -100, "G": 100}
    np.testing.assert_array_equal(reward, [pays[letter] for letter in entered])
    np.testing.assert_array_equal(terminated, np.isin(entered, ("X", "G")))


def test_noop_stays_and_pays():
    env = Gridworld("11x11")
    states = np.flatnonzero(np.isin(LETTERS, list(" SW!")))
    keys = jax.random.split(jax.random.key(1), len(states))
    drawn = jax.vmap(env.transition, (0, 0, None, None))(
        keys, jnp.asarray(states), jnp.int32(ACTIONS.index("noop")), TASK
    )
    np.testing.assert_array_equal(drawn.next_state_index, states)
    np.testing.assert_array_equal(drawn.reward, env.entry_reward[TASK.tiles.ravel()[states]])
    assert not drawn.terminated.any()


def test_deterministic_moves_go_where_they_aim(golden):
    env, rows = Gridworld("13x13-deterministic"), golden["grid"]
    cells = {(r, c): rows[r][c] for r in range(13) for c in range(13)}
    aims = [
        (13 * r + c, action, 13 * (r + dr) + c + dc)
        if cells.get((r + dr, c + dc), "O") != "O"
        else (13 * r + c, action, 13 * r + c)
        for (r, c), letter in cells.items()
        for action, (dr, dc) in STEPS.items()
        if letter in " S!"
    ]
    s, action, expected = (jnp.asarray(column, jnp.int32) for column in zip(*aims, strict=True))
    keys = jax.random.split(jax.random.key(2), len(aims))
    drawn = jax.vmap(env.transition, (0, 0, 0, None))(keys, s, action, task_of(rows))
    np.testing.assert_array_equal(drawn.next_state_index, expected)


def test_water_slips_even_where_nothing_else_does(golden):
    env, task = Gridworld("13x13-deterministic"), task_of(golden["grid"])
    assert golden["grid"][5][0] == "W"
    P = env.tabular(task).transition_probs[65]
    expected = {NORTH: {65: 0.5, 66: 0.5}, EAST: {52: 0.5, 78: 0.5}, 0: {65: 1.0}}
    for action, row in expected.items():
        assert {int(s): float(P[action, s]) for s in np.flatnonzero(P[action])} == row


@pytest.mark.parametrize(
    ("start", "action", "end", "reward"),
    [((2, 7), EAST, (2, 8), -100), ((9, 10), SOUTH, (10, 10), 100)],
)
def test_goal_and_fatal_tiles_end_the_episode_and_it_restarts_in_the_centre(
    start, action, end, reward
):
    env = Gridworld("11x11")
    obs, state, rewards, terminated, truncated, info = draw_steps(
        env.step, cell(*start), action, n=50
    )
    is_over = np.asarray(info["next_state_index"] == cell(*end))
    assert 0 < is_over.sum() < 50
    np.testing.assert_array_equal(terminated, is_over)
    assert not truncated.any()
    np.testing.assert_array_equal(rewards == reward, is_over)
    np.testing.assert_array_equal(state.time, np.where(is_over, 0, 6))
    np.testing.assert_array_equal(state.index == CENTRE, is_over)
    np.testing.assert_array_equal(obs, env.state_features[state.index])


def test_the_model_of_dead_ends():
    env = Gridworld("11x11")
    model = env.tabular(TASK)
    np.testing.assert_array_equal(model.terminal, np.isin(LETTERS, ("X", "G")))
    np.testing.assert_array_equal(model.start, np.arange(121) == CENTRE)
    dead_ends = np.isin(LETTERS, ("X", "G", "O"))
    np.testing.assert_array_equal(model.mean_reward[dead_ends], 0)
    stays = np.broadcast_to(np.eye(121)[dead_ends][:, None], (dead_ends.sum(), 5, 121))
    np.testing.assert_array_equal(model.transition_probs[dead_ends], stays)
    assert ((model.transition_probs > 0).sum(axis=-1) <= env.max_successors).all()


def test_states_are_seen_as_row_and_column():
    env = Gridworld()
    assert env.state_coordinates[13 * 4 + 7].tolist() == [4, 7]
    row, column = np.meshgrid(np.arange(1, 14) / 13, np.arange(1, 14) / 13, indexing="ij")
    expected = np.stack([row.ravel(), column.ravel()], axis=1)
    np.testing.assert_allclose(env.state_features, expected, rtol=1e-6)
    obs, state = env.reset(jax.random.key(3), GridworldTask(jnp.zeros((13, 13), jnp.int8)))
    assert int(state.index) == 84
    np.testing.assert_allclose(obs, 7 / 13, rtol=1e-6)


# --- keys and transformations -------------------------------------------------------------------


def test_keys_decide_the_grid():
    env, keys = Gridworld("11x11"), jax.random.split(jax.random.key(4), 8)
    batch = jax.jit(jax.vmap(env.sample_task))(jax.random.clone(keys)).tiles
    loop = [env.sample_task(key).tiles for key in jax.random.clone(keys)]
    np.testing.assert_array_equal(batch, loop)
    _, scanned = jax.lax.scan(
        lambda carry, key: (carry, env.sample_task(key)), 0, jax.random.clone(keys)
    )
    np.testing.assert_array_equal(scanned.tiles, loop)
    assert len(np.unique(batch, axis=0)) == 8


# --- options of one's own -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def own():
    return Gridworld("11x11", **OWN)


def test_own_options_are_kept(own):
    assert dataclasses.asdict(own) == {"variation": "11x11", **OWN}
    np.testing.assert_allclose(own.entry_reward, [-0.5, -0.5, -3, -4, -50, 40, 0])


def test_own_options_decide_the_grids(own):
    n = 60
    tasks = jax.vmap(own.sample_task)(jax.random.split(jax.random.key(5), n))
    models = jax.vmap(own.tabular)(tasks)
    for i in range(n):
        model = jax.tree.map(lambda x, i=i: x[i], models)
        assert_keeps_the_rules(own, np.asarray(tasks.tiles[i]), model)
    most = [(np.asarray(tasks.tiles) == kind).sum(axis=(1, 2)).max() for kind in (OBSTACLE, WATER)]
    assert most == [4, 4]
    assert {int(x) for x in np.unique(tasks.tiles)} == set(range(7))


def test_segments_are_straight_and_as_long_as_told(own):
    keys = jax.random.split(jax.random.key(6), 100)
    segments = np.asarray(jax.vmap(lambda key: own._segments(key, 1, 4))(keys))
    lengths = {(x.any(axis=1).sum(), x.any(axis=0).sum(), x.sum()) for x in segments}
    assert lengths == {(1, 4, 4), (4, 1, 4)}


def test_an_empty_grid():
    nothing = {"num_obstacle_sets": 0, "num_water_sets": 0, "num_fatal": 0}
    env = Gridworld(side=4, obstacle_set_len=1, water_set_length=1, min_goal_manhat=4, **nothing)
    tiles = np.array(env.sample_task(jax.random.key(7)).tiles)
    assert (tiles[2, 2], tiles[0, 0]) == (START, GOAL)  # the one cell so far away
    assert (tiles == NORMAL).sum() == 14


def test_an_environment_can_be_made_inside_jit():
    assert jax.jit(lambda slip: slip + Gridworld("11x11", slip=0.25).slip)(0.5) == 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 1}, r"side must lie in \[2, 127\], not 1"),
        ({"side": 128}, r"side must lie in \[2, 127\], not 128"),
        ({"side": 13.0}, "side must be a whole number, not 13.0"),
        ({"side": "11"}, "side must be a whole number, not '11'"),
        ({"side": 7}, "min_goal_manhat must be at most 6, not 8"),
        ({"num_obstacle_sets": -1}, "num_obstacle_sets must not be negative, not -1"),
        ({"num_water_sets": 170}, "num_water_sets must be at most 169, not 170"),
        ({"num_fatal": True}, "num_fatal must be a whole number, not True"),
        ({"num_fatal": 2.0}, r"num_fatal must be a whole number, not 2\.0"),
        ({"obstacle_set_len": 0}, "obstacle_set_len must be at least 1, not 0"),
        ({"obstacle_set_len": 8}, "obstacle_set_len must be at most 7, not 8"),
        ({"water_set_length": 8}, "water_set_length must be at most 7, not 8"),
        ({"min_goal_manhat": 0}, "min_goal_manhat must be at least 1, not 0"),
        ({"min_goal_manhat": 13}, "min_goal_manhat must be at most 12, not 13"),
        ({"slip": -0.1}, r"slip must lie in \[0, 1\], not -0\.1"),
        ({"slip": 1.1}, r"slip must lie in \[0, 1\], not 1\.1"),
        ({"step_reward": float("nan")}, "step_reward must be finite, not nan"),
        ({"water_reward": "-2"}, "water_reward must be a number, not '-2'"),
        ({"warning_reward": True}, "warning_reward must be a number, not True"),
        ({"fatal_reward": float("-inf")}, "fatal_reward must be finite, not -inf"),
        ({"goal_reward": [100]}, r"goal_reward must be a number, not \[100\]"),
        ({"min_optimal_return": float("nan")}, "min_optimal_return must be finite, not nan"),
        (
            {"max_optimal_return": 49},
            "max_optimal_return must be at least min_optimal_return, 50, not 49",
        ),
    ],
)
def test_options_out_of_range_are_refused(options, message, unchecked):
    with pytest.raises(ConfigError, match=message) as error:
        unchecked(Gridworld)(**options)
    assert_one_line(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_fatal": 60}, "num_fatal 60 is too many: none of 1000 grids of side 13 had room"),
        ({"goal_reward": 20.0}, r"optimal returns from -100 to 1\d, none in .* = \[50, 100\]"),
    ],
)
def test_options_that_admit_no_grid_are_refused(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        Gridworld(**options)
    assert_one_line(error)


def test_an_unknown_variation_is_refused():
    with pytest.raises(ConfigError, match="variation '13x13-wet'; did you mean") as error:
        Gridworld("13x13-wet")
    assert all(variation in str(error.value) for variation in PUBLISHED)
    assert_one_line(error)
