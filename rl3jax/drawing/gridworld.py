"""Gridworlds: tiles, the agent and its trail, and known states shaded by their value."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import CenteredNorm, Normalize, to_rgb, to_rgba_array
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from typing_extensions import override

from rl3jax.drawing.episode import MetaEpisode
from rl3jax.drawing.view import FAINT, HATCH, HEAD, INK, MARGIN, View, ink_on, number, squares
from rl3jax.envs import Environment
from rl3jax.envs.gridworld import (
    ACTIONS,
    FATAL,
    GOAL,
    NORMAL,
    OBSTACLE,
    START,
    TILE_LETTERS,
    WARNING,
    WATER,
)

TILES = {
    START: ("start", "#cc79a7"),
    WATER: ("water", "#56b4e9"),
    WARNING: ("warning", "#f0e442"),
    FATAL: ("fatal", "#d55e00"),
    GOAL: ("goal", "#009e73"),
    OBSTACLE: ("obstacle", "#4d4d4d"),
    NORMAL: ("normal", "#ffffff"),
}
"""Name and colour of each tile, in the legend's order."""
VALUES = colormaps["PRGn"]
KNOWN = "#dfe3ee"
"""Shade of a visited tile where there are no values."""

Scales = Normalize | None
"""The colour scale of values, about 0; `None` where nobody has values."""

GRID = 4.9
MOST_NUMBERED = 20
"""Rows up to which there is room for the values' numbers."""
SHADE = 0.37  # half the side of a tile's shade, in tiles
LINES = "#c8c8c8"
UNKNOWN: dict[str, Any] = {
    "facecolor": (1, 1, 1, 0.45),
    "edgecolor": "#b4b4b4",
    "hatch": HATCH,
    "linewidth": 0,
}
RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 2,
}


class GridworldView(View):
    """A map of the task."""

    stacked = False
    columns = 3
    legend_height = 0.95
    actions: ClassVar[tuple[str, ...]] = ACTIONS

    @override
    @staticmethod
    def panel_size(env: Environment) -> tuple[float, float]:
        return GRID + 2 * MARGIN, GRID + HEAD + MARGIN

    @override
    @staticmethod
    def scales(episodes: Sequence[MetaEpisode]) -> Scales:
        """By the largest value that is shown."""
        if all(episode.q is None for episode in episodes):
            return None
        largest = max((_largest_value(e) for e in episodes if e.q is not None), default=0.0)
        return CenteredNorm(halfrange=max(largest, 1.0))

    @override
    @staticmethod
    def landmarks(episode: MetaEpisode) -> dict[int, str]:
        tiles = GridworldView.tiles_of(episode)[episode.entered]
        found = {"first at the goal": GOAL, "first fatal tile": FATAL}
        moments = {name: np.flatnonzero(tiles == tile) for name, tile in found.items()}
        marks = {int(where[0]): name for name, where in moments.items() if len(where)}
        if episode.belief is None:
            return marks
        first = moments["first at the goal"][:1]
        return {0: "start"} | {int(m) // 2: "half-way to the goal" for m in first} | marks

    @override
    @staticmethod
    def legend(figure: SubFigure, width: float, scales: Scales) -> None:
        explain(figure, width, scales, list(TILES))

    @staticmethod
    def tiles_of(episode: MetaEpisode) -> Int[np.ndarray, " S"]:
        """The code of each state's tile."""
        return episode.task.tiles.ravel()

    # --- artists ---

    @override
    def make(self, scales: Scales) -> list[Artist]:
        axes, self._norm = self.make_axes(), scales
        self._tiles = self.tiles_of(self.episode)
        self._is_end = np.isin(self._tiles, (GOAL, FATAL))
        self._values = None if self.episode.q is None else self.episode.q.max(axis=-1)
        self._is_numbered = self.side <= MOST_NUMBERED
        self._colours = tile_colours()
        self._make_unknown()
        return [*self._make_known(), *axes.spines.values(), self.make_agent()]

    def make_axes(self) -> Axes:
        """Axes of the grid, and where its tiles lie."""
        env = self.episode.env
        assert isinstance(env, Environment)
        self.side = side = math.isqrt(env.num_states)
        self._row, self._column = np.divmod(np.arange(env.num_states), side)
        self._point = 72 * GRID / side  # of a tile, in points
        self._axes = self.axes(MARGIN, MARGIN, GRID, GRID)
        self._axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5), xticks=[], yticks=[])
        return self._axes

    def make_lines(self) -> list[Artist]:
        """Lines between the tiles."""
        between, ends = np.arange(self.side - 1) + 0.5, (-0.5, self.side - 0.5)
        draw = (self._axes.hlines, self._axes.vlines)
        return [lines(between, *ends, color=LINES, linewidth=0.5) for lines in draw]

    def _make_unknown(self) -> None:
        """All tiles as before any step; those visited are drawn over them."""
        side = self.side
        self._axes.imshow(self._colours[self._tiles].reshape(side, side, 3))
        passable = self._tiles != OBSTACLE
        hatched = squares(self._column[passable], self._row[passable], 0.5)
        self._axes.add_collection(PolyCollection(hatched, **UNKNOWN), autolim=False)
        self.make_lines()
        for s, tile in enumerate(self._tiles):
            write_letter(self.text(s), int(tile))

    def _make_known(self) -> list[Artist]:
        self._known = PolyCollection([], edgecolor=LINES, linewidth=0.5)
        self._shade = PolyCollection([], linewidth=0)
        for collection in (self._known, self._shade):
            self._axes.add_collection(collection, autolim=False)
        (self._trail,) = self._axes.plot([], [], color=INK, linewidth=0.07 * self._point)
        self._texts = [self.text(s) for s in range(len(self._tiles))]
        return [self._known, self._trail, self._shade, *self._texts]

    def make_agent(self) -> Artist:
        """The ring about the agent's tile."""
        ring = RING | {"markersize": 0.78 * self._point, "markeredgewidth": 0.09 * self._point}
        halo = [withStroke(linewidth=0.16 * self._point, foreground="white")]
        (self._agent,) = self._axes.plot([], [], path_effects=halo, **ring)
        return self._agent

    def text(self, s: int) -> Text:
        """Room for the letter or the value of one tile."""
        size = 0.27 * self._point
        return self._axes.text(
            self._column[s], self._row[s], "", size=size, ha="center", va="center_baseline"
        )

    # --- one moment ---

    @override
    def last_step(self, moment: int) -> str:
        e = self.episode
        reached = {GOAL: " to the goal", FATAL: " onto a fatal tile"}
        return self.actions[e.action[moment - 1]] + reached.get(self._tiles[e.entered[moment]], "")

    @override
    def move(self, moment: int) -> None:
        known = self.episode.visited(moment)
        self._known.set_verts(squares(self._column[known], self._row[known], 0.5))
        self._known.set_facecolor(self._colours[self._tiles[known]])
        trail = self.episode.trail(moment)
        self._trail.set_data(self._column[trail], self._row[trail])
        self.place_agent(moment)

        shades = self._shades(moment)
        self._shade.set_verts(squares(self._column[known], self._row[known], SHADE))
        self._shade.set_facecolor(shades[known])
        values = self._values[moment] if self._values is not None and self._is_numbered else None
        for s, text in enumerate(self._texts):
            if values is None or self._is_end[s] or not known[s]:
                write_letter(text, int(self._tiles[s]) if known[s] else NORMAL)
            else:
                _write_value(text, float(values[s]), ink_on(shades[s]))

    def place_agent(self, moment: int) -> None:
        """Moves the ring to where the last step led."""
        s = self.episode.entered[moment : moment + 1]
        self._agent.set_data(self._column[s], self._row[s])

    def _shades(self, moment: int) -> Float[np.ndarray, "S 4"]:
        """Colours of the states' values; an end of episodes has none, and keeps its own."""
        tiles = to_rgba_array(self._colours[self._tiles])
        if self._values is None or self._norm is None:
            values = to_rgba_array(KNOWN)
        else:
            values = VALUES(self._norm(self._values[moment]))
        return np.where(self._is_end[:, None], tiles, values)


def explain(figure: SubFigure, width: float, scales: Scales, tiles: Sequence[int]) -> None:
    """The legend of these tiles, of what moves and of values."""
    handles = [tile_patch(tile) for tile in tiles]
    unknown = Patch(facecolor="white", edgecolor=FAINT, hatch=HATCH, label="not visited yet")
    agent = Line2D([], [], linestyle="", label="agent, its trail", **RING)
    is_wide = width > 8
    figure.legend(
        handles=[*handles, unknown, agent],
        loc="center left",
        bbox_to_anchor=(MARGIN / width / 2, 0.5),
        ncols=5 if is_wide else 3,
        fontsize=8.5 if is_wide else 7.5,
        frameon=False,
        columnspacing=1.2,
        handlelength=1.4,
    )
    if scales is not None:
        bar_width = min(0.32 * width, 3.0)
        bar = figure.add_axes((1 - (bar_width + 0.3) / width, 0.5, bar_width / width, 0.16))
        mapped = ScalarMappable(scales, VALUES)
        figure.colorbar(mapped, cax=bar, orientation="horizontal", ticks=MaxNLocator(5))
        bar.tick_params(labelsize=7.5, length=2)
        bar.set_title("V(s) = max Q(s, ·)", size=8.5, pad=3)


def _largest_value(episode: MetaEpisode) -> float:
    """The largest absolute value that is shown at any moment."""
    assert episode.q is not None
    visited = episode.visited(episode.horizon)
    values = np.abs(episode.q.max(axis=-1)[:, visited])
    return float(np.nanmax(values, initial=0.0))


def tile_colours() -> Float[np.ndarray, "tiles 3"]:
    """Colours of the tiles, by their codes."""
    return np.array([to_rgb(TILES[tile][1]) for tile in range(len(TILES))])


def tile_patch(tile: int) -> Patch:
    """What the legend says of a tile."""
    name, colour = TILES[tile]
    return Patch(facecolor=colour, edgecolor=FAINT, label=f"{TILE_LETTERS[tile]} {name}".strip())


def write_letter(text: Text, tile: int) -> None:
    """The letter of a tile."""
    colour = FAINT if tile == OBSTACLE else INK
    text.set(text=TILE_LETTERS[tile].strip(), color=colour, weight="bold")


def _write_value(text: Text, value: float, colour: str) -> None:
    digits = 0 if abs(value) >= 9.95 else 1
    words = number(value, digits) if np.isfinite(value) else "?"
    text.set(text=words, color=colour, weight="normal")
