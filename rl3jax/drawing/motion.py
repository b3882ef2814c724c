"""Pendulums, cars, carts and robots as they move, with values of actions and episodes' returns."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from typing_extensions import override

from rl3jax.drawing.episode import MetaEpisode
from rl3jax.drawing.view import FAINT, HEAD, INK, SERIES, View, number
from rl3jax.envs import TaskDistribution
from rl3jax.envs.point_robot import GOAL_RADIUS

HEIGHT = 2.9
GOAL = "#009E73"
Points = Float[np.ndarray, "K 2"]


class Scales(NamedTuple):
    """What all panels share: ends of values, or rewards if there are none, and of returns."""

    values: tuple[float, float]
    returns: tuple[float, float]


class MotionView(View):
    """What moves, as a line with a dot at its end; beside it what is known, and what it was worth.

    Attributes:
        limits: ends of the scene, x and y.
    """

    stacked = True
    columns = 1
    legend_height = 0.45
    limits: ClassVar[tuple[tuple[float, float], tuple[float, float]]]

    @staticmethod
    @abc.abstractmethod
    def body(vector: Float[np.ndarray, " D"], task: Any) -> Points:
        """Where the parts of what moves are."""

    @staticmethod
    def backdrop(axes: Axes, task: Any) -> None:
        """Draws what does not move."""
        del axes, task

    @staticmethod
    def trail(vectors: Float[np.ndarray, "L D"], task: Any) -> Points:
        """Where it has been in this episode; nowhere, unless overridden."""
        del vectors, task
        return np.zeros((0, 2))

    @override
    @staticmethod
    def panel_size(env: TaskDistribution) -> tuple[float, float]:
        return 9.4, HEIGHT + HEAD + 0.7

    @override
    @staticmethod
    def scales(episodes: Sequence[MetaEpisode]) -> Scales:
        values = np.concatenate([_curves(episode).ravel() for episode in episodes])
        returns = np.concatenate([_returns(episode, episode.horizon) for episode in episodes])
        return Scales(_ends(values), _ends(np.append(returns, 0.0)))

    @override
    @staticmethod
    def legend(figure: SubFigure, width: float, scales: Any) -> None:
        dot = Line2D([], [], color=INK, marker="o", linewidth=2.5, label="now")
        lines = Line2D([], [], color=SERIES[0], label="value of an action in the current state")
        figure.legend(handles=[dot, lines], loc="center", ncols=2, frameon=False, fontsize=8.5)

    @override
    def make(self, scales: Scales) -> list[Artist]:
        return [*self._make_scene(), *self._make_curves(scales), *self._make_returns(scales)]

    def _make_scene(self) -> list[Artist]:
        axes = self.axes(0.3, 0.5, 3.0, HEIGHT)
        axes.set(xlim=self.limits[0], ylim=self.limits[1], xticks=[], yticks=[])
        axes.set_aspect("equal" if _is_square(self.limits) else "auto")
        self.backdrop(axes, self.episode.task)
        (self._trail,) = axes.plot([], [], color=FAINT, linewidth=1.2)
        (self._body,) = axes.plot([], [], color=INK, linewidth=3, marker="o", markersize=7)
        return [self._trail, self._body]

    def _make_curves(self, scales: Scales) -> list[Line2D]:
        axes = self.axes(4.0, 0.5, 2.9, HEIGHT)
        axes.set(xlim=(0, self.episode.horizon), ylim=scales.values)
        axes.set_xlabel("step", size=9)
        has_values = self.episode.q is not None
        axes.set_title("values of actions" if has_values else "reward", size=9)
        for end in self.episode.ends:
            axes.axvline(end, color=FAINT, linewidth=0.6, alpha=0.6)
        _tidy(axes)
        self._curves = _curves(self.episode)
        names = _action_names(self.episode) if has_values else ()
        self._lines = [
            axes.plot([], [], color=SERIES[i % len(SERIES)], linewidth=1.2)[0]
            for i in range(self._curves.shape[1])
        ]
        for line, name in zip(self._lines, names, strict=False):
            line.set_label(name)
        if names:
            axes.legend(loc="lower right", fontsize=7, ncols=3, frameon=False)
        return self._lines

    def _make_returns(self, scales: Scales) -> list[Artist]:
        axes = self.axes(7.5, 0.5, 1.7, HEIGHT)
        count = int(self.episode.episode[-1])
        axes.set(xlim=(0.4, count + 0.6), ylim=scales.returns)
        axes.set_xticks(np.arange(1, count + 1) if count <= 10 else [1, count])
        axes.set_xlabel("episode", size=9)
        axes.set_title("return", size=9)
        _tidy(axes)
        self._bars = axes.bar(np.arange(1, count + 1), np.zeros(count), color=SERIES[0])
        return list(self._bars)

    @override
    def last_step(self, moment: int) -> str:
        action = np.ravel(self.episode.action[moment - 1])
        digits = 0 if np.issubdtype(action.dtype, np.integer) else 2
        return f"action {', '.join(number(x, digits, trim=False) for x in action)}"

    @override
    def move(self, moment: int) -> None:
        e = self.episode
        # At an episode's end, where it led: the state to act in next is the start of another.
        points = self.body(e.entered[moment], e.task)
        self._body.set_data(points[:, 0], points[:, 1])
        been = self.trail(e.trail(moment), e.task)
        self._trail.set_data(been[:, 0], been[:, 1])
        for line, curve in zip(self._lines, self._curves.T, strict=True):
            line.set_data(np.arange(moment + 1), curve[: moment + 1])
        for bar, value in zip(self._bars, _returns(e, moment), strict=True):
            bar.set_height(value)


class PendulumView(MotionView):
    """The rod, which is up where it should be."""

    limits = ((-1.7, 1.7), (-1.7, 1.7))

    @override
    @staticmethod
    def body(vector: Float[np.ndarray, " D"], task: Any) -> Points:
        length = _parameter(task, "l", 1.0)
        return length * np.array([[0.0, 0.0], [vector[1], vector[0]]])


class MountainCarView(MotionView):
    """The car in its valley."""

    limits = ((-1.25, 0.65), (-1.15, 1.2))

    @override
    @staticmethod
    def body(vector: Float[np.ndarray, " D"], task: Any) -> Points:
        return np.array([[vector[0], np.sin(3 * vector[0]) + 0.05]])

    @override
    @staticmethod
    def backdrop(axes: Axes, task: Any) -> None:
        x = np.linspace(-1.2, 0.6, 100)
        axes.plot(x, np.sin(3 * x), color=FAINT, linewidth=1.5)
        axes.plot([0.5], [np.sin(1.5)], color=GOAL, marker="^", markersize=9)


class CartPoleView(MotionView):
    """The cart on its track, and the pole."""

    limits = ((-2.6, 2.6), (-0.6, 2.2))

    @override
    @staticmethod
    def body(vector: Float[np.ndarray, " D"], task: Any) -> Points:
        length = 2 * _parameter(task, "length", 0.5)
        x, angle = vector[0], vector[2]
        pole = (x + length * np.sin(angle), length * np.cos(angle))
        return np.array([(x - 0.25, 0.0), (x + 0.25, 0.0), (x, 0.0), pole])

    @override
    @staticmethod
    def backdrop(axes: Axes, task: Any) -> None:
        axes.plot([-2.4, 2.4], [-0.07, -0.07], color=FAINT, linewidth=1.5)


class AcrobotView(MotionView):
    """Both rods, and the line that the end should reach."""

    limits = ((-2.6, 2.6), (-2.6, 2.6))

    @override
    @staticmethod
    def body(vector: Float[np.ndarray, " D"], task: Any) -> Points:
        lengths = [_parameter(task, f"link_length_{i}", 1.0) for i in (1, 2)]
        first = np.arctan2(vector[1], vector[0])
        angles = np.array([first, first + np.arctan2(vector[3], vector[2])])
        links = np.array(lengths)[:, None] * np.stack([np.sin(angles), -np.cos(angles)], axis=1)
        return np.concatenate([np.zeros((1, 2)), links.cumsum(axis=0)])

    @override
    @staticmethod
    def backdrop(axes: Axes, task: Any) -> None:
        axes.axhline(1.0, color=GOAL, linewidth=1.2)


class PointRobotView(MotionView):
    """The robot, where it has been, the half-circle and the goal on it."""

    limits = ((-1.7, 1.7), (-1.2, 2.2))

    @override
    @staticmethod
    def body(vector: Float[np.ndarray, " D"], task: Any) -> Points:
        return vector[None]

    @override
    @staticmethod
    def trail(vectors: Float[np.ndarray, "L D"], task: Any) -> Points:
        return vectors

    @override
    @staticmethod
    def backdrop(axes: Axes, task: Any) -> None:
        angles = np.linspace(0, np.pi, 60)
        axes.plot(np.cos(angles), np.sin(angles), color=FAINT, linewidth=1, linestyle=":")
        axes.add_patch(Circle(tuple(np.asarray(task.goal)), GOAL_RADIUS, color=GOAL, alpha=0.4))


def _parameter(task: Any, name: str, usual: float) -> float:
    """A field of gymnax's parameters, which the task may leave as it is."""
    return float(task.get(name, usual)) if isinstance(task, Mapping) else usual


def _curves(episode: MetaEpisode) -> Float[np.ndarray, "M A"]:
    """Values of actions at each moment; rewards, for an agent that has none."""
    if episode.q is not None:
        return episode.q.astype(float)
    return np.concatenate([[0.0], episode.reward])[:, None]


def _returns(episode: MetaEpisode, moment: int) -> Float[np.ndarray, " E"]:
    """What each episode had paid by a moment."""
    paid = np.zeros(int(episode.episode[-1]))
    np.add.at(paid, episode.episode[1 : moment + 1] - 1, episode.reward[:moment])
    return paid


def _action_names(episode: MetaEpisode) -> list[str]:
    anchors = episode.env.action_anchors
    if anchors is None:
        return [f"action {a}" for a in range(episode.env.num_actions)]
    return [", ".join(number(x) for x in anchor) for anchor in anchors]


def _ends(x: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Somewhat beyond the least and the largest, and never the same."""
    low, high = float(x.min()), float(x.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _is_square(limits: tuple[tuple[float, float], tuple[float, float]]) -> bool:
    (left, right), (bottom, top) = limits
    return bool(np.isclose(right - left, top - bottom))


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
