import dataclasses
import functools
import io
import itertools
import sys
from types import ModuleType

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

import rl3jax
from rl3jax import Config, ConfigError, drawing, make_env, make_trainer, object_level
from rl3jax.baselines import OptimalPolicy, UniformAgent
from rl3jax.drawing import MetaEpisode, files, key_moments, record_episode
from rl3jax.drawing.bandit import cumulative_pulls, posterior
from rl3jax.drawing.beliefs import dot_areas, like_tiles
from rl3jax.drawing.episode import Belief
from rl3jax.drawing.gridworld import GridworldView
from rl3jax.drawing.pictures import film_moments, film_seconds, frames, panels
from rl3jax.drawing.random_mdp import optimal_q
from rl3jax.drawing.view import number
from rl3jax.envs import Bandit
from rl3jax.envs.gridnavi import GridNaviTask
from rl3jax.envs.gridworld import (
    FATAL,
    GOAL,
    NORMAL,
    OBSTACLE,
    START,
    WARNING,
    WATER,
    GridworldTask,
)
from rl3jax.rollout import rollout

SIZES = {
    "bandit": {"num_arms": 3},
    "mdp": {"num_states": 4, "num_actions": 3, "task_horizon": 3},
    "gridworld": {"variation": "11x11"},
}
H = 7


def key(n=0):
    return jax.random.key(n)


@functools.cache
def policy(env, algo="rl3"):
    """An untrained policy for `env`, whose object-level RL learns all the same."""
    size = (env.num_states, env.num_actions)
    learn = object_level.q_learning if env.num_states > 9 else object_level.value_iteration
    config = Config(algo=algo, network="markov", width=4, horizon=H, n_tasks=4)
    trainer = make_trainer(config, env, object_level.none(*size) if algo == "rl2" else learn(*size))
    return trainer.agent(trainer.init(key()))


@pytest.fixture(scope="module")
def worlds():
    """By domain: an environment, one of its tasks, and a meta-episode with values in it."""
    made = {}
    for name, options in SIZES.items():
        env = make_env(name, **options)
        task = small_map() if name == "gridworld" else env.sample_task(key(3))
        made[name] = (env, task, record_episode(policy(env), env, task, H, key(5)))
    return made


def small_map():
    """A wall in the north, the start in the middle with water beside it, the goal in a corner."""
    tiles = np.zeros((11, 11), np.int8)
    tiles[0, :], tiles[5, 5], tiles[5, 6], tiles[10, 10] = OBSTACLE, START, WATER, GOAL
    return GridworldTask(jnp.asarray(tiles))


def by_hand(states, entered, ends, task_horizon=4, rewards=None):
    """A meta-episode in a random MDP of 3 states and 2 actions; action 1 in state 1, else 0."""
    horizon = len(entered) - 1
    states = np.array(states)
    truncated = np.zeros(horizon, bool)
    truncated[np.array(ends, int) - 1] = True
    env = make_env("mdp", num_states=3, num_actions=2, task_horizon=task_horizon)
    return MetaEpisode(
        env=env,
        task=env.sample_task(key()),
        learner=None,
        state=states,
        entered=np.array(entered),
        q=None,
        action=(states[:-1] == 1).astype(int),
        reward=np.arange(1.0, horizon + 1) if rewards is None else np.array(rewards),
        terminated=np.zeros(horizon, bool),
        truncated=truncated,
    )


# --- a meta-episode, by hand --------------------------------------------------------------------


@pytest.fixture
def two_episodes():
    """Three steps, 0 → 1 → 1 → 2, a restart in 0, and two more, 0 → 1 → 0."""
    return by_hand(states=[0, 1, 1, 0, 1, 0], entered=[0, 1, 1, 2, 1, 0], ends=[3])


def test_where_each_moment_lies(two_episodes):
    e = two_episodes
    assert e.horizon == 5
    np.testing.assert_array_equal(e.ends, [3])
    np.testing.assert_array_equal(e.episode, [1, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(e.episode_step, [0, 1, 2, 3, 1, 2])
    np.testing.assert_array_equal(e.return_so_far, [0, 1, 3, 6, 10, 15])
    np.testing.assert_array_equal(e.pauses, [3])


def test_trails_start_anew_with_each_episode(two_episodes):
    trails = [two_episodes.trail(moment).tolist() for moment in range(6)]
    assert trails == [[0], [0, 1], [0, 1, 1], [0, 1, 1, 2], [0, 1], [0, 1, 0]]


def test_visits_and_states_met(two_episodes):
    np.testing.assert_array_equal(two_episodes.visits(0), np.zeros((3, 2)))
    np.testing.assert_array_equal(two_episodes.visits(3), [[1, 0], [0, 2], [0, 0]])
    np.testing.assert_array_equal(two_episodes.visits(5), [[2, 0], [0, 3], [0, 0]])
    met = [two_episodes.visited(moment).tolist() for moment in (0, 1, 3)]
    assert met == [[True, False, False], [True, True, False], [True, True, True]]


def test_episodes_of_one_step_are_no_place_to_pause():
    pulls = by_hand([0, 0, 0], [0, 1, 2], ends=[1, 2], task_horizon=1)
    np.testing.assert_array_equal(pulls.episode, [1, 1, 2])
    np.testing.assert_array_equal(pulls.episode_step, [0, 1, 1])
    assert len(pulls.pauses) == 0


# --- recording ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_what_is_recorded_is_what_rollout_does(worlds, name):
    env, task, episode = worlds[name]
    expected = jax.jit(lambda k: rollout(policy(env), env, task, H, k))(key(5))
    for field in ("action", "reward", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(episode, field), getattr(expected, field))
        assert isinstance(getattr(episode, field), np.ndarray)


@pytest.mark.parametrize("name", SIZES)
def test_states_and_values_follow_from_the_transitions(worlds, name):
    env, task, episode = worlds[name]
    table = episode.learner.init()
    update = jax.jit(episode.learner.update)
    for t in range(H):
        np.testing.assert_allclose(episode.q[t], episode.learner.q_table(table), atol=1e-5)
        s, s_next = episode.state[t], episode.entered[t + 1]
        table = update(
            table, s, episode.action[t], episode.reward[t], s_next, episode.terminated[t]
        )
        goes_on = not (episode.terminated[t] or episode.truncated[t])
        assert episode.state[t + 1] == (s_next if goes_on else env.start_index(key(), task))
    np.testing.assert_allclose(episode.q[H], episode.learner.q_table(table), atol=1e-5)


def test_agents_without_a_table_have_no_values(worlds):
    env, task, _ = worlds["mdp"]
    for agent in (UniformAgent(env.num_actions), policy(env, algo="rl2")):
        episode = record_episode(agent, env, task, H, key())
        assert episode.q is None
        assert episode.learner is None
        assert episode.state.shape == (H + 1,)


def test_what_a_learner_of_kinds_believes_is_recorded(worlds):
    env, task, _ = worlds["gridworld"]
    config = Config(network="markov", head="planning", horizon=H, n_tasks=4)
    trainer = make_trainer(config, env, object_level.local_model(env, num_kinds=3))
    episode = record_episode(trainer.agent(trainer.init(key())), env, task, H, key())
    kind, reward, ends = episode.belief
    assert kind.shape == (H + 1, 3, env.num_states)
    assert reward.shape == ends.shape == (H + 1, 3)
    np.testing.assert_allclose(kind.sum(axis=1), 1, rtol=1e-5)
    assert (kind[-1, 0, episode.entered] < 1e-6).all()  # where it was is not closed


class Told(UniformAgent):
    """Acts by the horizon that it is told of."""

    def for_horizon(self, horizon):
        return self.replace(num_actions=1 if horizon == 4 else self.num_actions)


def test_the_agent_is_told_the_horizon(worlds):
    env, task, _ = worlds["bandit"]
    np.testing.assert_array_equal(record_episode(Told(3), env, task, 4, key()).action, 0)
    assert record_episode(Told(3), env, task, 9, key()).action.any()


# --- key moments --------------------------------------------------------------------------------


def many_episodes(length, count, left_over=0):
    horizon = length * count + left_over
    states = np.zeros(horizon + 1, int)
    return by_hand(states, states, ends=length * np.arange(1, count + 1), task_horizon=length)


def test_key_moments_are_ends_at_growing_distances_and_the_last():
    assert key_moments(many_episodes(10, 10), {}, 4) == {
        10: "end of episode 1",
        20: "end of episode 2",
        50: "end of episode 5",
        100: "after the last step",
    }


def test_landmarks_come_before_ends_of_episodes():
    chosen = key_moments(many_episodes(10, 10), {33: "treasure", 20: "dragon"}, 4)
    assert list(chosen) == [10, 20, 33, 100]
    assert chosen[20] == "dragon"
    assert chosen[33] == "treasure"


def test_the_start_and_the_middle_fill_what_is_left():
    assert key_moments(many_episodes(10, 1, left_over=30), {}, 5) == {
        0: "start",
        10: "end of episode 1",
        17: "",
        25: "",
        40: "after the last step",
    }


def test_no_more_key_moments_than_moments():
    assert list(key_moments(many_episodes(1, 2), {}, 6)) == [0, 1, 2]


def test_pulls_are_not_called_episodes():
    assert set(key_moments(many_episodes(1, 50), {}, 4).values()) == {"", "after the last step"}


def test_landmarks_of_a_gridworld():
    env = make_env("gridworld", variation="11x11")
    tiles = np.zeros((11, 11), np.int8)
    tiles[0, 4], tiles[0, 7] = GOAL, FATAL
    row = np.array([0, 1, 2, 3, 4, 1, 6, 7, 4])
    episode = dataclasses.replace(
        by_hand(row, row, ends=[4, 7]), env=env, task=GridworldTask(tiles)
    )
    assert GridworldView.landmarks(episode) == {4: "first at the goal", 7: "first fatal tile"}
    nowhere = dataclasses.replace(episode, entered=np.zeros(9, int))
    assert GridworldView.landmarks(nowhere) == {}
    believed = believing(episode, np.zeros(121))
    assert list(GridworldView.landmarks(believed)) == [0, 2, 4, 7]


# --- what is computed for the pictures ----------------------------------------------------------


def test_posteriors_by_hand():
    mean, low, high = posterior(np.array([0, 4, 1]), np.array([0.0, 1.0, 1.0]))
    np.testing.assert_allclose(mean, [1 / 2, 2 / 6, 2 / 3])
    # Beta(1, 1) is uniform; Beta(2, 1) has the distribution function x².
    np.testing.assert_allclose([low[0], high[0]], [0.05, 0.95])
    np.testing.assert_allclose([low[2], high[2]], [0.05**0.5, 0.95**0.5])
    assert low[1] < mean[1] < high[1]


def test_pulls_and_wins_accumulate():
    episode = by_hand([0, 1, 1, 0], [0, 1, 1, 0], ends=[1, 2, 3], rewards=[1.0, 0.0, 1.0])
    pulls, wins = cumulative_pulls(episode)
    np.testing.assert_array_equal(pulls, [[0, 0], [1, 0], [1, 1], [1, 2]])
    np.testing.assert_array_equal(wins, [[0, 0], [1, 0], [1, 0], [1, 1]])


def test_the_optimum_is_planned_as_the_learner_plans(worlds):
    _, _, episode = worlds["mdp"]
    model = episode.env.tabular(episode.task)
    learners = {
        1: object_level.value_iteration(4, 3, max_sweeps=1),
        2: object_level.value_iteration(4, 3, max_sweeps=2, discount=0.5),
    }
    one = optimal_q(dataclasses.replace(episode, learner=learners[1]))
    np.testing.assert_allclose(one, model.mean_reward, rtol=1e-6)
    two = optimal_q(dataclasses.replace(episode, learner=learners[2]))
    by_hand = model.mean_reward + 0.5 * model.transition_probs @ model.mean_reward.max(axis=-1)
    np.testing.assert_allclose(two, by_hand, rtol=1e-5)


def test_the_optimum_of_q_learning_is_the_fixed_point(worlds):
    _, _, episode = worlds["mdp"]
    learner = object_level.q_learning(4, 3, discount=0.8)
    q = optimal_q(dataclasses.replace(episode, learner=learner))
    model = episode.env.tabular(episode.task)
    np.testing.assert_allclose(
        q, model.mean_reward + 0.8 * model.transition_probs @ q.max(axis=-1), atol=1e-3
    )


REWARDS = {OBSTACLE: 0.0, NORMAL: -1.2, GOAL: 90.0, FATAL: -80.0, WARNING: -9.0, WATER: -2.1}


def believing(episode, believed):
    """The episode with beliefs that do not change: kinds in the order of `REWARDS`."""
    tiles, moments = list(REWARDS), episode.horizon + 1
    kind = np.stack([(believed == tile) * 1.0 for tile in tiles])
    ends = np.isin(tiles, (GOAL, FATAL)) * 0.9
    kind, reward, ends = (
        np.stack([x] * moments) for x in (kind, np.array([*REWARDS.values()]), ends)
    )
    return dataclasses.replace(episode, belief=Belief(kind, reward, ends))


def test_kinds_are_like_tiles(worlds):
    env, _, episode = worlds["gridworld"]
    _, reward, ends = believing(episode, np.zeros(env.num_states)).belief
    np.testing.assert_array_equal(like_tiles(env, reward, ends)[3], list(REWARDS))


def test_dots_of_a_goal_are_relative_and_those_of_fatal_tiles_are_not():
    probability, may_be = np.array([0.25, 0.5, 0.125, 1.0]), np.array([True, True, True, False])
    np.testing.assert_allclose(dot_areas(probability, GOAL, may_be), [0.5, 1.0, 0.25, 0])
    np.testing.assert_allclose(dot_areas(probability, FATAL, may_be), [0.25, 0.5, 0.125, 0])
    hardly = dot_areas(probability / 1e6, GOAL, may_be)
    assert hardly.max() < 1e-5


def test_numbers():
    assert [number(x) for x in (0.0, -0.04, 3.0, 3.25, -12.0)] == ["0", "0", "3", "3.2", "−12"]
    assert number(-100.0, 0) == "−100"
    assert number(2.0, trim=False) == "2.0"


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_a_frame_a_moment(worlds, name):
    env, task, _ = worlds[name]
    images = rl3jax.render_episode(policy(env), env, H, key(5), task=task, dpi=40)
    assert images.dtype == np.uint8
    assert images.ndim == 4
    count, height, width, channels = images.shape
    assert (count, channels) == (H + 1, 3)
    assert height % 2 == width % 2 == 0
    assert 100 < height < 400 < 2 * width
    assert (images[:, 0, 0] == 255).all()
    assert all((a != b).any() for a, b in itertools.pairwise(images))
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", SIZES)
def test_a_frame_does_not_depend_on_those_before(worlds, name):
    episodes = {"": worlds[name][2]}
    in_order = list(frames(episodes, range(H + 1), dpi=40))
    alone = next(frames(episodes, [4], dpi=40))
    back = list(frames(episodes, [H, 4], dpi=40))[1]
    np.testing.assert_array_equal(in_order[4], alone)
    np.testing.assert_array_equal(in_order[4], back)


def test_without_a_task_the_key_draws_one(worlds):
    env, _, _ = worlds["bandit"]
    agent = UniformAgent(env.num_actions)
    first, again, other = (rl3jax.render_episode(agent, env, 2, key(n), dpi=40) for n in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_agents_side_by_side_meet_the_same_chance(worlds):
    env, task, alone = worlds["mdp"]
    agents = {"one": policy(env), "two": policy(env)}
    both = drawing.record_episodes(agents, env, task, H, key(5))
    for name, episode in both.items():
        np.testing.assert_array_equal(episode.reward, alone.reward, err_msg=name)


@pytest.mark.parametrize("name", SIZES)
def test_agents_are_drawn_beside_or_below_each_other(worlds, name):
    episode = worlds[name][2]
    (alone,) = frames({"one": episode}, [H], dpi=40)
    (both,) = frames({"one": episode, "two": episode}, [H], dpi=40)
    axis = 1 if name == "gridworld" else 0
    assert both.shape[axis] > 1.5 * alone.shape[axis]
    assert both.shape[1 - axis] == alone.shape[1 - axis]


def test_several_agents_from_code(worlds):
    env, task, _ = worlds["bandit"]
    agents = {"random": UniformAgent(3), "optimal": OptimalPolicy(env, 2)}
    images = rl3jax.render_episode(agents, env, 2, key(), task=task, dpi=40)
    assert len(images) == 3


def test_every_so_many_steps_and_the_ends_of_episodes(worlds):
    env, _, episode = worlds["mdp"]  # episodes of 3 steps
    assert film_moments({"": episode}, 1) == list(range(H + 1))
    assert film_moments({"": episode}, 5) == [0, 3, 5, 6, 7]
    seconds = film_seconds({"": episode}, [0, 3, 5, 6, 7], fps=4)
    assert seconds[2] == 0.25
    assert min(seconds[0], seconds[1], seconds[3]) > 1
    assert seconds[4] == max(seconds)
    images = rl3jax.render_episode(policy(env), env, H, key(), every=5, dpi=40)
    assert len(images) == 5


@pytest.mark.parametrize("name", SIZES)
def test_panels_of_key_moments(worlds, name):
    _, _, episode = worlds[name]
    (frame,) = frames({"": episode}, [H], dpi=40)
    picture = panels({"": episode}, dpi=40)
    assert picture.shape[0] > 1.6 * frame.shape[0]
    assert picture.shape[1] > 1.9 * frame.shape[1]
    rows = panels({"a": episode, "b": episode}, dpi=40)
    assert rows.shape == picture.shape


def test_tiles_of_a_gridworld_have_their_colours(worlds):
    """Where nobody has been: obstacles dark, the goal greenish, all else light."""
    (image,) = frames({"": worlds["gridworld"][2]}, [0], dpi=100)
    width = image.shape[1]
    tile = (width - 24) / 11
    top = 12 + 80  # margin and heading

    def at(row, column):
        y, x = int(top + (row + 0.15) * tile), int(12 + (column + 0.15) * tile)
        return np.median(image[y : y + 10, x : x + 10].reshape(-1, 3).astype(int), axis=0)

    assert at(0, 3).max() < 90
    assert at(4, 4).min() > 150
    red, green, blue = at(10, 10)
    assert green > red + 30
    assert green > blue


def test_up_is_up_in_gridnavi():
    """A walk of two steps, up and right; the goal is the cell above."""
    env, task = make_env("gridnavi"), GridNaviTask(jnp.int32(11))
    states, none = np.array([0, 5, 6]), np.zeros(2, bool)
    episode = MetaEpisode(
        env=env, task=task, learner=None, state=states, entered=states, q=None,
        action=np.array([1, 2]), reward=np.full(2, -0.1), terminated=none, truncated=none,
    )  # fmt: skip
    (image,) = frames({"": episode}, [2], dpi=100)
    side = (image.shape[1] - 24) / 5

    def at(row, column):
        y, x = int(92 + (4 - row + 0.2) * side), int(12 + (column + 0.2) * side)
        return np.median(image[y : y + 10, x : x + 10].reshape(-1, 3).astype(int), axis=0)

    red, green, _ = at(2, 1)
    assert green > red + 30
    assert np.ptp(at(4, 4)) < 10
    assert panels({"": episode}, dpi=40).shape[1] > 0


def test_where_a_belief_has_the_goal_is_recorded_and_drawn():
    config = Config(env="gridnavi", algo="rl2", belief="varibad", width=8, n_tasks=4)
    trainer = make_trainer(config)
    agent, task = trainer.agent(trainer.init(key())), GridNaviTask(jnp.int32(11))
    episode = record_episode(agent, trainer.env, task, 2, key())
    kind, _, _ = episode.belief
    belief, params = agent.belief, agent.belief_params
    mean = belief.features(params, belief.init())["belief_mean"].numbers
    np.testing.assert_allclose(kind[0, 2], belief.decoded(params, mean), rtol=1e-5)
    np.testing.assert_allclose(kind.sum(axis=1), 1, rtol=1e-5)
    kind = kind.copy()
    kind[2, 2] = np.arange(25) == 11  # now it is sure
    episode = dataclasses.replace(episode, belief=episode.belief._replace(kind=kind))
    pictures = list(frames({"": episode}, [0, 2], dpi=100))
    side, width = (pictures[0].shape[1] / 2 - 24) / 5, pictures[0].shape[1] // 2
    y, x = int(92 + 2.1 * side), int(width + 12 + 1.1 * side)  # of state 11, up and right
    unsure, sure = (np.median(p[y : y + 9, x : x + 9].reshape(-1, 3), axis=0) for p in pictures)
    assert sure.max() < 100 < unsure.min()


def test_beliefs_are_drawn_beside_the_map_of_whom_has_them(worlds):
    _, _, plain = worlds["gridworld"]
    believed = np.full(plain.q.shape[1], NORMAL)
    believed[:11] = OBSTACLE
    episodes = {"a": believing(plain, believed), "b": plain}
    (picture,) = frames(episodes, [H], dpi=100)
    width = picture.shape[1] // 3
    assert width == pytest.approx(514, abs=1)
    grid = picture[92:580, width + 12 : 2 * width - 12].astype(int)  # tiles of 45 pixels
    wall, floor = (np.median(grid[y : y + 9].reshape(-1, 3), axis=0) for y in (2, 400))
    assert wall.max() < 90
    assert 200 < floor.min() < floor.max() < 250
    height, width, _ = panels(episodes, dpi=40).shape  # a's maps, a's beliefs, b's maps
    assert height == pytest.approx(width, rel=0.2)


def test_an_environment_of_ones_own_is_drawn_as_what_it_derives_from():
    @dataclasses.dataclass(frozen=True)
    class Casino(Bandit):
        num_arms: int = 2

    env = Casino()
    assert drawing.view_type(env) is drawing.VIEWS[Bandit]
    assert len(rl3jax.render_episode(UniformAgent(2), env, 3, key(), dpi=40)) == 4


class Foreign(Bandit.__base__):
    """An environment that nobody knows how to draw."""

    num_states = num_actions = task_horizon = 1

    def sample_task(self, key): ...
    def start_index(self, key, task): ...
    def transition(self, key, s, action, task): ...
    def tabular(self, task): ...


def test_what_cannot_be_drawn_is_refused_in_one_line(worlds):
    env, _, _ = worlds["bandit"]
    agent = UniformAgent(3)
    with pytest.raises(ConfigError, match=r"Foreign cannot be drawn.*Bandit, RandomMdp, Gridworld"):
        rl3jax.render_episode(agent, Foreign(), 3, key())
    with pytest.raises(ConfigError, match="horizon must be a whole number"):
        rl3jax.render_episode(agent, env, 0, key())
    with pytest.raises(ConfigError, match="every must be a whole number"):
        rl3jax.render_episode(agent, env, 3, key(), every=0)


# --- files --------------------------------------------------------------------------------------


def test_a_gif_has_all_frames_with_their_times_and_flat_colours(worlds, tmp_path):
    episodes = {"": worlds["mdp"][2]}
    path = tmp_path / "film.GIF"
    drawing.save_picture(path, episodes, fps=10.0)
    originals = list(frames(episodes, range(H + 1)))
    with Image.open(path) as film:
        assert film.n_frames == H + 1
        assert film.info["loop"] == 0
        times = []
        for i, original in enumerate(originals):
            film.seek(i)
            times.append(film.info["duration"])
            shown = np.asarray(film.convert("RGB")).astype(int)
            difference = np.abs(shown - original).max(axis=-1)
            assert (difference == 0).mean() > 0.9
            assert difference.mean() < 1
    assert times == [900, 100, 100, 900, 100, 100, 900, 2600]


def test_a_png_is_one_picture(worlds, tmp_path):
    path = tmp_path / "moments.png"
    drawing.save_picture(path, {"": worlds["bandit"][2]})
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 600


def test_an_mp4_is_written():
    pytest.importorskip("imageio_ffmpeg")
    images = [np.full((32, 48, 3), shade, np.uint8) for shade in (0, 120, 240)]
    short = files.mp4(iter(images), [0.5, 0.1, 0.1], fps=10.0)
    long = files.mp4(iter(images), [0.5, 0.1, 9.0], fps=10.0)
    assert short[4:8] == long[4:8] == b"ftyp"
    assert len(long) > len(short)


def test_what_ffmpeg_says_is_passed_on(monkeypatch, tmp_path):
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    broken.chmod(0o755)
    package = ModuleType("imageio_ffmpeg")
    package.get_ffmpeg_exe = lambda: str(broken)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", package)
    images = [np.zeros((480, 480, 3), np.uint8)] * 9
    with pytest.raises(ConfigError, match="ffmpeg wrote no film: no such codec"):
        files.mp4(iter(images), [1.0] * 9, fps=10.0)


def test_an_mp4_without_its_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigError, match=r"pip install 'rl3jax\[video\]'"):
        drawing.check_path(tmp_path / "film.mp4")


def test_paths_are_checked_before_any_work(tmp_path):
    for good in ("a.gif", "a.png", "A.PNG"):
        drawing.check_path(tmp_path / good)
    with pytest.raises(ConfigError, match=r"a\.svg must end in one of \.gif .*\.mp4 .*\.png"):
        drawing.check_path(tmp_path / "a.svg")
    with pytest.raises(ConfigError, match="there is no folder"):
        drawing.check_path(tmp_path / "missing" / "a.gif")
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        drawing.check_path(tmp_path / "folder.gif")


def test_a_file_is_replaced_whole_or_not_at_all(worlds, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    monkeypatch.setattr(files, "png", lambda image: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drawing.save_picture(path, {"": worlds["bandit"][2]})
    assert path.read_bytes() == b"before"
    monkeypatch.undo()
    drawing.save_picture(path, {"": worlds["bandit"][2]})
    assert Image.open(io.BytesIO(path.read_bytes())).format == "PNG"
    assert list(tmp_path.iterdir()) == [path]
