"""GridNavi: a gridworld with a start, a goal and free cells, whose first row is the lowest."""

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from typing_extensions import override

from rl3jax.drawing.episode import MetaEpisode
from rl3jax.drawing.gridworld import GridworldView, Scales, explain
from rl3jax.envs import GridNavi
from rl3jax.envs.gridnavi import ACTIONS
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
