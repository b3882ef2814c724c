"""Gridworlds as an agent believes them to be: of every tile, above all of those not seen yet."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.artist import Artist
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from typing_extensions import override

from rl3jax.drawing.episode import MetaEpisode
from rl3jax.drawing.gridworld import (
    TILES,
    GridworldView,
    Scales,
    tile_colours,
    tile_patch,
    write_letter,
)
from rl3jax.drawing.view import FAINT, MARGIN
from rl3jax.envs import Gridworld
from rl3jax.envs.gridworld import FATAL, GOAL, NORMAL, OBSTACLE, WARNING, WATER
from rl3jax.object_level.kinds import END_WEIGHT, z

UNSEEN = "#e9e2d0"
"""Floor as far as it is believed in, but not entered; white is what was entered."""
BELIEVED = 0.5
"""Probability from which a tile gets the letter of what it is believed to be."""
LEVELS = 64
"""Of red, green and blue: a film has few colours."""
DOT = 0.56  # the largest dot's width, in tiles
SIZES = 8
"""Of dots, by area, the least of which are not drawn."""
DOTS = {GOAL: ("o", "where the goal may be"), FATAL: ("X", "where a fatal tile may be")}
"""Shape of a tile's dots, and what they say."""


class BeliefView(GridworldView):
    """A map of what the learner believes of the tiles, beside that of the task."""

    @override
    def heading(self, note: str) -> str:
        return f"what {self.name or 'it'} believes"

    @override
    def caption(self, moment: int) -> str:
        goal, fatal = self._believed[moment, [GOAL, FATAL]]
        unseen = ~self.episode.visited(moment)
        return (
            f"likeliest place of the goal: {goal.max():.0%}\n"
            f"likeliest fatal tile not visited yet: {fatal[unseen].max(initial=0.0):.0%}"
        )

    @override
    @staticmethod
    def legend(figure: SubFigure, width: float, scales: Scales) -> None:
        del scales
        patches = [
            Patch(facecolor=UNSEEN, edgecolor=FAINT, label="normal, not visited yet"),
            *(tile_patch(tile) for tile in (OBSTACLE, WATER, WARNING)),
        ]
        dots = [
            Line2D([], [], linestyle="", marker=marker, markersize=8, color=TILES[tile][1],
                   markeredgecolor="white", label=words)
            for tile, (marker, words) in DOTS.items()
        ]  # fmt: skip
        figure.legend(
            handles=[*patches, *dots],
            loc="center left",
            bbox_to_anchor=(MARGIN / width / 2, 0.5),
            ncols=2,
            fontsize=7.5,
            frameon=False,
            columnspacing=1.2,
            handlelength=1.4,
            title="the likelier, the stronger the colour and the larger the mark",
            title_fontsize=7.5,
            alignment="left",
        )

    # --- artists ---

    @override
    def make(self, scales: Scales) -> list[Artist]:
        axes = self.make_axes()
        self._believed = believed_tiles(self.episode)
        self._seen_colours = tile_colours()
        self._colours = self._seen_colours.copy()
        self._colours[NORMAL] = to_rgb(UNSEEN)
        self._image = axes.imshow(np.ones((self.side, self.side, 3)))
        self._dots = {tile: self._make_dots(tile) for tile in DOTS}
        self._texts = [self.text(s) for s in range(self.side**2)]
        marks = [*self._dots.values(), *self._texts]
        return [self._image, *self.make_lines(), *marks, *axes.spines.values(), self.make_agent()]

    def _make_dots(self, tile: int) -> PathCollection:
        shape, colour = DOTS[tile][0], TILES[tile][1]
        return self._axes.scatter([], [], marker=shape, c=colour, edgecolor="white", linewidth=0.6)

    # --- one moment ---

    @override
    def move(self, moment: int) -> None:
        believed, seen = self._believed[moment], self.episode.visited(moment)
        mixed = np.where(seen[:, None], believed.T @ self._seen_colours, believed.T @ self._colours)
        levels = (mixed.clip(0, 1) * LEVELS).round() / LEVELS
        self._image.set_data(levels.reshape(self.side, self.side, 3))
        likeliest = np.where(believed.max(axis=0) > BELIEVED, believed.argmax(axis=0), NORMAL)
        for text, tile in zip(self._texts, likeliest, strict=True):
            write_letter(text, int(tile))
        self.place_agent(moment)
        for tile, dots in self._dots.items():
            area = dot_areas(believed[tile], tile, may_be=~seen & (likeliest == NORMAL))
            area = (area * SIZES).round() / SIZES
            shown = area > 0
            dots.set_offsets(np.stack([self._column[shown], self._row[shown]], axis=1))
            dots.set_sizes((DOT * self._point) ** 2 * area[shown])


def dot_areas(
    probability: Float[np.ndarray, " S"], tile: int, may_be: Bool[np.ndarray, " S"]
) -> Float[np.ndarray, " S"]:
    """Areas of a tile's dots, as shares of the largest, where it `may_be`.

    Somewhere there is a goal, so that its likeliest place has the largest dot; a fatal tile need
    not be anywhere, and has it where it is certain.
    """
    candidates = np.where(may_be, probability, 0.0)
    return candidates / (max(candidates.max(), 1 / len(candidates)) if tile == GOAL else 1.0)


def believed_tiles(episode: MetaEpisode) -> Float[np.ndarray, "M tiles S"]:
    """Probabilities of the tiles that the kinds of states are most like."""
    assert episode.belief is not None
    env = episode.env
    assert isinstance(env, Gridworld)
    kind, reward, ends = episode.belief
    return np.einsum("mcs,mct->mts", kind, np.eye(len(TILES))[like_tiles(env, reward, ends)])


def like_tiles(
    env: Gridworld, reward: Float[np.ndarray, "M C"], ends: Float[np.ndarray, "M C"]
) -> Int[np.ndarray, "M C"]:
    """The tile that each kind is most like by its reward and end; kind 0 is closed."""
    is_end = np.isin(np.arange(len(TILES)), (GOAL, FATAL))
    of_kind, of_tile = (np.asarray(z(jnp.asarray(x))) for x in (reward, env.entry_reward))
    distance = np.hypot(of_kind[..., None] - of_tile, END_WEIGHT * (ends[..., None] - is_end))
    distance[..., OBSTACLE] = np.inf
    nearest = distance.argmin(axis=-1)
    nearest[:, 0] = OBSTACLE
    return nearest
