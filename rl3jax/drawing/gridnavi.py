"""GridNavi: a gridworld with a start, a goal and free cells, whose first row is the lowest."""

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import SubFigure
from typing_extensions import override

from rl3jax.drawing.episode import MetaEpisode
from rl3jax.drawing.gridworld import GridworldView, Scales, explain
from rl3jax.drawing.view import MARGIN, ink_on
from rl3jax.envs import GridNavi
from rl3jax.envs.gridnavi import ACTIONS, GOAL_REWARD
from rl3jax.envs.gridworld import GOAL, NORMAL, START


class GridNaviView(GridworldView):
    """A map of the task."""

    actions = ACTIONS

    @override
    @staticmethod
    def tiles_of(episode: MetaEpisode) -> Int[np.ndarray, " S"]:
        tiles = np.full(GridNavi.num_states, NORMAL)
        tiles[[0, int(episode.task.goal)]] = START, GOAL
        return tiles

    @override
    @staticmethod
    def landmarks(episode: MetaEpisode) -> dict[int, str]:
        at_goal = np.flatnonzero(episode.entered == int(episode.task.goal))
        return {int(moment): "first at the goal" for moment in at_goal[:1]}

    @override
    @staticmethod
    def legend(figure: SubFigure, width: float, scales: Scales) -> None:
        explain(figure, width, scales, (START, GOAL, NORMAL))

    @override
    def make_axes(self) -> Axes:
        axes = super().make_axes()
        axes.invert_yaxis()
        return axes


class GoalView(GridNaviView):
    """A map of where the agent believes the goal to be, beside that of the task."""

    @override
    def heading(self, note: str) -> str:
        return f"what {self.name or 'it'} believes"

    @override
    def caption(self, moment: int) -> str:
        return f"likeliest place of the goal: {self._goal[moment].max():.0%}"

    @override
    @staticmethod
    def legend(figure: SubFigure, width: float, scales: Scales) -> None:
        del scales
        bar = figure.add_axes((MARGIN / width, 0.5, 0.4, 0.16))
        figure.colorbar(ScalarMappable(CHANCES, SHADES), cax=bar, orientation="horizontal")
        bar.tick_params(labelsize=7.5, length=2)
        bar.set_title("probability of the goal", size=8.5, pad=3)

    @override
    def make(self, scales: Scales) -> list[Artist]:
        axes = self.make_axes()
        self._goal = believed_goal(self.episode)
        self._image = axes.imshow(np.zeros((self.side, self.side)), cmap=SHADES, norm=CHANCES)
        self._texts = [self.text(s) for s in range(self.side**2)]
        marks = [*self.make_lines(), *self._texts, *axes.spines.values()]
        return [self._image, *marks, self.make_agent()]

    @override
    def move(self, moment: int) -> None:
        goal = self._goal[moment]
        self._image.set_data(goal.reshape(self.side, self.side))
        for text, chance in zip(self._texts, goal, strict=True):
            text.set(text=f"{chance:.0%}", color=ink_on(np.array(SHADES(CHANCES(chance)))))
        self.place_agent(moment)


SHADES, CHANCES = colormaps["Greens"], Normalize(0, 1)


def believed_goal(episode: MetaEpisode) -> Float[np.ndarray, "M S"]:
    """The probability of each state that to enter it pays as the goal does, nearly."""
    assert episode.belief is not None
    pays = episode.belief.reward > GOAL_REWARD / 2
    pays[:, 0] = False  # the kind that cannot be entered
    return np.einsum("mcs,mc->ms", episode.belief.kind, pays)
