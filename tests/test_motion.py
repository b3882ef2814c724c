"""Pictures of environments whose states are vectors."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import rl3jax
from rl3jax import Binned, GymnaxTasks, baselines, drawing, make_env
from rl3jax.drawing import MetaEpisode
from rl3jax.drawing.motion import (
    AcrobotView,
    CartPoleView,
    MountainCarView,
    PendulumView,
    PointRobotView,
)
from rl3jax.drawing.pictures import frames

H = 6
NAMES = ("pendulum", "mountain-car", "cartpole", "acrobot", "point-robot")


@pytest.mark.parametrize("name", NAMES)
def test_what_moves_is_drawn_moving(name):
    env = make_env(name)
    agent = baselines.make_baseline("random", env, H)
    film = rl3jax.render_episode(agent, env, H, jax.random.key(0), every=3, dpi=40)
    assert len(film) == 3
    assert (film[0] != film[1]).any()
    assert (film[1] != film[2]).any()


def test_an_environment_is_drawn_as_the_one_it_is_made_of():
    pendulum = GymnaxTasks("Pendulum-v1", {"g": (5.0, 10.0)})
    robot = Binned(make_env("point-robot"))
    assert drawing.view_type(pendulum) is PendulumView
    assert drawing.view_type(robot) is PointRobotView


def test_bodies_are_where_the_physics_has_them():
    up = PendulumView.body(np.array([1.0, 0.0, 0.0]), {"l": 1.5})
    np.testing.assert_allclose(up, [[0, 0], [0, 1.5]])
    pole = CartPoleView.body(np.array([1.0, 0.0, np.pi / 2, 0.0]), {})[-1]
    np.testing.assert_allclose(pole, [2.0, 0.0], atol=1e-9)  # twice the half of its length
    hanging = AcrobotView.body(np.array([1.0, 0, 0, 1.0, 0, 0]), {"link_length_1": 1.2})
    np.testing.assert_allclose(hanging, [[0, 0], [0, -1.2], [1, -1.2]], atol=1e-9)
    np.testing.assert_allclose(MountainCarView.body(np.zeros(2), {}), [[0, 0.05]])


def test_values_of_actions_and_returns_of_episodes_grow_with_the_film():
    """By hand: two episodes of three steps, the values of nine anchors at each moment."""
    env, rng = make_env("point-robot"), np.random.default_rng(0)
    truncated = np.array([False, False, True] * 2)
    episode = MetaEpisode(
        env=env,
        task=env.default_params,
        learner=None,
        state=rng.normal(size=(H + 1, 2)),
        entered=rng.normal(size=(H + 1, 2)),
        q=rng.normal(size=(H + 1, 9)),
        action=rng.normal(size=(H, 2)),
        reward=np.arange(1.0, H + 1),
        terminated=np.zeros(H, bool),
        truncated=truncated,
    )
    figure = plt.figure().subfigures(1, 1)
    view = PointRobotView(figure, episode, "RL³", PointRobotView.scales([episode]))
    plt.close("all")
    for moment, returns in ((0, [0, 0]), (3, [6, 0]), (5, [6, 9]), (6, [6, 15])):
        view.show(moment)
        assert [bar.get_height() for bar in view._bars] == returns
        drawn = [line.get_ydata() for line in view._lines]
        np.testing.assert_array_equal(np.transpose(drawn), episode.q[: moment + 1])
        np.testing.assert_array_equal(view._body.get_xydata(), episode.entered[moment][None])
    assert view.last_step(6).count(",") == 1
    assert len(list(frames({"RL³": episode}, [0, 6], dpi=40))) == 2
