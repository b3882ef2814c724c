"""What every view is: one agent's meta-episode in a part of a figure, moment by moment."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, SupportsFloat

import numpy as np
from jaxtyping import Float, Num
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import SubFigure

from rl3jax.drawing.episode import MetaEpisode
from rl3jax.envs import TaskDistribution

MARGIN = 0.12
HEAD = 0.8
"""Height of a panel's heading and caption; all sizes are in inches."""

INK = "#202020"
FAINT = "#9a9a9a"
HATCH = "/////"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
"""Colours that people of any colour vision tell apart (Okabe and Ito, 2008)."""


class View(abc.ABC):
    """Draws one domain. Artists are made once; `show` only moves them.

    Attributes:
        stacked: whether panels of several agents stand below each other, not beside.
        columns: panels in a row of a picture of key moments.
        legend_height: of the strip below all panels.
    """

    stacked: ClassVar[bool]
    columns: ClassVar[int]
    legend_height: ClassVar[float]

    def __init__(self, figure: SubFigure, episode: MetaEpisode, name: str, scales: Any) -> None:
        self.figure = figure
        self.episode = episode
        self.name = name
        width, height = self._panel = self.panel_size(episode.env)
        left, top = MARGIN / width, 1 - MARGIN / height
        self._heading = figure.text(left, top, "", va="top", size=11, weight="bold", color=INK)
        self._caption = figure.text(
            left, top - 0.23 / height, "", va="top", size=9, color=INK, linespacing=1.35
        )
        self._moving = [*self.make(scales), self._heading, self._caption]
        for artist in self._moving:
            artist.set_animated(True)  # left out when the background is drawn

    def draw(self, renderer: RendererBase) -> None:
        """Draws what moves, over the background."""
        for artist in self._moving:
            artist.draw(renderer)

    def show(self, moment: int, note: str = "") -> None:
        """Moves everything to `moment`; `note` joins the name in the heading."""
        self._heading.set_text(self.heading(note))
        self._caption.set_text(self.caption(moment))
        self.move(moment)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes at a place in the panel."""
        w, h = self._panel
        return self.figure.add_axes((left / w, bottom / h, width / w, height / h))

    @staticmethod
    @abc.abstractmethod
    def panel_size(env: TaskDistribution) -> tuple[float, float]:
        """Width and height of a panel."""

    @staticmethod
    @abc.abstractmethod
    def scales(episodes: Sequence[MetaEpisode]) -> Any:
        """Scales that all panels of a picture share."""

    @staticmethod
    @abc.abstractmethod
    def legend(figure: SubFigure, width: float, scales: Any) -> None:
        """Explains the marks and colours, in the strip below the panels."""

    @staticmethod
    def landmarks(episode: MetaEpisode) -> dict[int, str]:
        """Moments that the domain holds for remarkable, and why."""
        del episode
        return {}

    @abc.abstractmethod
    def make(self, scales: Any) -> list[Artist]:
        """Makes all artists; returns those that move, or lie above such, the lowest first."""

    def heading(self, note: str) -> str:
        """Whose meta-episode this is, and what is to be said of the moment."""
        return " · ".join(part for part in (self.name, note) if part)

    def caption(self, moment: int) -> str:
        """Two lines on where the meta-episode is."""
        e = self.episode
        lines = f"{self.place(moment)}\nreturn so far {number(e.return_so_far[moment])}"
        if moment == 0:
            return lines
        return f"{lines} · {self.last_step(moment)}: {number(e.reward[moment - 1])}"

    def place(self, moment: int) -> str:
        """Where in the meta-episode `moment` is."""
        e = self.episode
        where = f"step {moment} of {e.horizon} · episode {e.episode[moment]}"
        return f"{where}, its step {e.episode_step[moment]}"

    @abc.abstractmethod
    def last_step(self, moment: int) -> str:
        """What was done in the step that led to `moment`, which is not the first."""

    @abc.abstractmethod
    def move(self, moment: int) -> None:
        """Moves the artists to `moment`."""


def number(x: SupportsFloat, digits: int = 1, trim: bool = True) -> str:
    """A number with a true minus sign; trimmed, it has no decimals if these are all zero."""
    text = f"{float(x):.{digits}f}"
    if trim and digits and text.endswith("0" * digits):
        text = text[: -digits - 1]
    is_zero = not text.strip("-0.")
    return text.lstrip("-") if is_zero else text.replace("-", "\N{MINUS SIGN}")


def ink_on(colour: Float[np.ndarray, "4"]) -> str:
    """What can be read on a colour, given as RGBA."""
    red, green, blue = colour[:3]
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else INK


def squares(
    x: Num[np.ndarray, " n"], y: Num[np.ndarray, " n"], half: float
) -> list[Float[np.ndarray, "4 2"]]:
    """Corners of squares about points, `half` a side away from each."""
    corners = half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    return list(np.stack([x, y], axis=1)[:, None] + corners[None])
