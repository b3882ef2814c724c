"""Random MDPs: the Q-table learnt so far against the optimal one, and the visits behind it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Num
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Colormap, Normalize
from matplotlib.figure import SubFigure
from matplotlib.patches import Patch, Rectangle
from typing_extensions import override

from rl3jax.drawing.episode import MetaEpisode
from rl3jax.drawing.view import FAINT, HATCH, HEAD, INK, View, ink_on, number
from rl3jax.envs import Environment
from rl3jax.object_level import ObjectLearner

VALUES, DIFFERENCES, COUNTS = (colormaps[name] for name in ("cividis", "PuOr", "Greys"))
CURRENT = "#e0218a"
DEFAULT_DISCOUNT = 0.95  # of value iteration
LEFT, GAP, RIGHT = 0.6, 0.3, 0.25  # of the maps, in inches
UNTRIED: dict[str, Any] = {
    "facecolor": "white",
    "edgecolor": "#b4b4b4",
    "linewidth": 0,
    "zorder": -1,
}


class Cell(NamedTuple):
    """Size of a table's cell, in inches."""

    width: float
    height: float

    @property
    def has_room(self) -> bool:
        """Whether a number fits."""
        return self.width >= 0.36 and self.height >= 0.17


@dataclass(frozen=True)
class Scales:
    """Colour scales of the tables, by what they hold at the end: most is far off at first."""

    q: Normalize
    difference: Normalize
    visits: Normalize


class RandomMdpView(View):
    """Tables of states and actions."""

    stacked = True
    columns = 2
    legend_height = 0.75

    @override
    @staticmethod
    def panel_size(env: Environment) -> tuple[float, float]:
        cell = _cell(env)
        width = LEFT + 4 * cell.width * env.num_actions + 3 * GAP + RIGHT
        return width, HEAD + cell.height * env.num_states + 0.8

    @override
    @staticmethod
    def scales(episodes: Sequence[MetaEpisode]) -> Scales:
        visits = max(int(e.visits(e.horizon).max()) for e in episodes)
        shown, off = [optimal_q(episodes[0]).ravel()], [np.ones(1)]
        for e in episodes:
            if e.q is not None:
                tried = (e.visits(e.horizon) > 0) & np.isfinite(e.q[-1])
                shown.append(e.q[-1][tried])
                off.append(np.abs(e.q[-1] - optimal_q(e))[tried])
        values = np.concatenate(shown)
        return Scales(
            q=Normalize(float(values.min()), float(values.max())),
            difference=CenteredNorm(halfrange=float(np.concatenate(off).max())),
            visits=Normalize(0, 1.4 * visits),
        )

    @override
    @staticmethod
    def legend(figure: SubFigure, width: float, scales: Scales) -> None:
        handles = [
            Patch(facecolor="none", edgecolor=INK, linewidth=1.8, label="optimal action"),
            Patch(facecolor="none", edgecolor=CURRENT, linewidth=1.8, label="last step"),
            Patch(facecolor="white", edgecolor=FAINT, hatch=HATCH, label="not tried yet"),
        ]
        place = ((LEFT - 0.1) / width, 0.5)
        figure.legend(
            handles=handles, loc="center left", bbox_to_anchor=place, ncols=3, frameon=False,
            fontsize=8.5, borderpad=0,
        )  # fmt: skip
        bars = (
            ("Q", scales.q, VALUES),
            ("learnt \N{MINUS SIGN} optimal", scales.difference, DIFFERENCES),
        )
        for i, (title, norm, colours) in enumerate(bars):
            left = 1 - (RIGHT + (2 - i) * 1.75 - 0.25) / width
            bar = figure.add_axes((left, 0.42, 1.5 / width, 0.16))
            figure.colorbar(ScalarMappable(norm, colours), cax=bar, orientation="horizontal")
            bar.tick_params(labelsize=7.5, length=2)
            bar.set_title(title, size=8.5, pad=3)

    @override
    def make(self, scales: Scales) -> list[Artist]:
        self._optimum = optimal_q(self.episode)
        self._cell = _cell(self.episode.env)
        learnt = self._map(0, "learnt Q(s, a)", VALUES, scales.q)
        optimal = self._map(1, "optimal Q*(s, a)", VALUES, scales.q)
        off = self._map(2, "learnt \N{MINUS SIGN} optimal", DIFFERENCES, scales.difference)
        visits = self._map(3, "visits N(s, a)", COUNTS, scales.visits)
        self._learnt, self._off, self._visits = learnt, off, visits
        optimal.show(self._optimum)
        if self.episode.q is None:
            for table in (learnt, off):
                table.say("this agent\nlearns\nno values")
            tables = [optimal, visits]
        else:
            learnt.outline(self._optimum.argmax(axis=-1))
            tables = [optimal, visits, learnt, off]
        optimal.outline(self._optimum.argmax(axis=-1))
        self._last_steps = [table.mark() for table in tables]
        moving = [artist for table in tables[1:] for artist in table.artists]
        return [self._last_steps[0], *moving]  # the optimum does not move

    def _map(self, place: int, title: str, colours: Colormap, norm: Normalize) -> "_Map":
        env = self.episode.env
        width, height = self._cell.width * env.num_actions, self._cell.height * env.num_states
        axes = self.axes(LEFT + place * (width + GAP), 0.5, width, height)
        axes.set_title(title, size=9.5, pad=4)
        axes.set_xlabel("action", size=8.5, labelpad=1)
        if place == 0:
            axes.set_ylabel("state", size=8.5, labelpad=5)
        axes.tick_params(labelsize=8, length=0, pad=2, labelleft=place == 0)
        return _Map(axes, (env.num_states, env.num_actions), colours, norm, self._cell.has_room)

    @override
    def last_step(self, moment: int) -> str:
        e = self.episode
        s, a = e.state[moment - 1], e.action[moment - 1]
        return f"state {s}, action {a} \N{RIGHTWARDS ARROW} state {e.entered[moment]}"

    @override
    def move(self, moment: int) -> None:
        e = self.episode
        visits = e.visits(moment)
        self._visits.show(visits, visits == 0)
        if e.q is not None:
            self._learnt.show(e.q[moment], visits == 0)
            self._off.show(e.q[moment] - self._optimum, visits == 0)
        for mark in self._last_steps:
            mark.set_visible(moment > 0)
            if moment > 0:
                mark.set_xy((e.action[moment - 1] - 0.5, e.state[moment - 1] - 0.5))


class _Map:
    """A heat map of a table `[S, A]`, with its numbers where there is room.

    Attributes:
        artists: all that can change, the lowest first.
    """

    def __init__(
        self, axes: Axes, shape: tuple[int, int], colours: Colormap, norm: Normalize, numbers: bool
    ) -> None:
        states, actions = shape
        self._axes, self._colours, self._norm = axes, colours, norm
        self._image = axes.imshow(
            np.zeros(shape), cmap=colours, norm=norm, aspect="auto", visible=False
        )
        axes.set(xticks=range(actions), yticks=range(states))
        everywhere = ((-0.5, -0.5), actions, states)
        axes.add_patch(Rectangle(*everywhere, hatch=HATCH, **UNTRIED))
        cells = np.ndindex(shape) if numbers else iter(())
        self._texts = {
            (s, a): axes.text(a, s, "", size=7.5, ha="center", va="center_baseline", color=INK)
            for s, a in cells
        }
        self.artists: list[Artist] = [
            self._image, *axes.spines.values(), *self._texts.values()
        ]  # fmt: skip

    def show(
        self, values: Num[np.ndarray, "S A"], untried: Bool[np.ndarray, "S A"] | None = None
    ) -> None:
        """Colours and numbers of `values`; what is `untried` stays blank."""
        blank = np.zeros(values.shape, bool) if untried is None else untried
        self._image.set(data=np.ma.array(values, mask=blank), visible=True)
        digits = 0 if values.dtype.kind == "i" else 1
        colours = self._colours(self._norm(values))
        for cell, text in self._texts.items():
            if blank[cell] or not np.isfinite(values[cell]):
                text.set_text("")
                continue
            text.set(text=number(values[cell], digits, trim=False), color=ink_on(colours[cell]))

    def outline(self, actions: Int[np.ndarray, " S"]) -> None:
        """A frame about one action of each state."""
        for s, a in enumerate(actions):
            self._add(_frame((a - 0.5, s - 0.5), INK, 1.6))

    def mark(self) -> Rectangle:
        """A frame about a cell, to be moved."""
        return self._add(_frame((0, 0), CURRENT, 2.4))

    def _add(self, frame: Rectangle) -> Rectangle:
        self._axes.add_patch(frame)
        self.artists.append(frame)
        return frame

    def say(self, words: str) -> None:
        """Words instead of numbers."""
        self._axes.set_facecolor("#f4f4f4")
        self._axes.text(
            0.5, 0.5, words, size=9, color="#606060", ha="center", va="center",
            transform=self._axes.transAxes,
        )  # fmt: skip


def _frame(corner: tuple[float, float], colour: str, width: float) -> Rectangle:
    return Rectangle(corner, 1, 1, fill=False, edgecolor=colour, linewidth=width)


def _cell(env: Environment) -> Cell:
    """Cells as large as suits a few states and actions; smaller where there are more."""
    width = max(min(0.38, 4 / env.num_actions), 1.6 / env.num_actions)
    height = max(min(0.29, 6 / env.num_states), 0.9 / env.num_states)
    return Cell(width, height)


def optimal_q(episode: MetaEpisode) -> Float[np.ndarray, "S A"]:
    """The task's own values, with the discount and the number of sweeps that the learner has.

    To convergence for a learner that does not plan anew each time; without any learner, with the
    defaults of value iteration.
    """
    planning = _planning(episode.learner, episode.env.task_horizon or episode.horizon)
    return jax.device_get(episode.env.tabular(episode.task).action_values(*planning))


def _planning(learner: ObjectLearner | None, longest: int) -> tuple[float, int]:
    """Discount and sweeps; `longest` is how far an undiscounted value looks ahead."""
    if learner is None:
        return DEFAULT_DISCOUNT, longest
    inner: Any = getattr(learner, "learner", learner)  # that of an abstraction
    discount = getattr(inner, "discount", DEFAULT_DISCOUNT)
    plans_anew = hasattr(inner, "max_sweeps") and not getattr(inner, "sweeps_per_step", None)
    if plans_anew:
        return discount, inner.max_sweeps
    return discount, math.ceil(math.log(1e-4, discount)) if 0 < discount < 1 else longest
