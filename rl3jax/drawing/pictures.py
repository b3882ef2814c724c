"""Whole pictures: frames of a film, or panels of key moments, as arrays."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rl3jax.checks import ConfigError
from rl3jax.drawing.bandit import BanditView
from rl3jax.drawing.beliefs import BeliefView
from rl3jax.drawing.episode import MetaEpisode, key_moments
from rl3jax.drawing.gridnavi import GoalView, GridNaviView
from rl3jax.drawing.gridworld import GridworldView
from rl3jax.drawing.motion import (
    AcrobotView,
    CartPoleView,
    MountainCarView,
    PendulumView,
    PointRobotView,
)
from rl3jax.drawing.random_mdp import RandomMdpView
from rl3jax.drawing.view import View
from rl3jax.envs import (
    Acrobot,
    Bandit,
    Binned,
    CartPole,
    GridNavi,
    Gridworld,
    MountainCar,
    Pendulum,
    PointRobot,
    RandomMdp,
    TaskDistribution,
)

VIEWS: dict[type[TaskDistribution], type[View]] = {
    Bandit: BanditView,
    RandomMdp: RandomMdpView,
    Gridworld: GridworldView,
    GridNavi: GridNaviView,
    Pendulum: PendulumView,
    MountainCar: MountainCarView,
    CartPole: CartPoleView,
    Acrobot: AcrobotView,
    PointRobot: PointRobotView,
}
"""How each environment is drawn, and those derived from it."""
COMPANIONS: dict[type[View], type[View]] = {GridworldView: BeliefView, GridNaviView: GoalView}
"""What is drawn beside a view of a meta-episode whose agent believes in kinds of states."""

T = TypeVar("T")
Image = UInt8[np.ndarray, "height width 3"]
DPI = 110
PAUSE, LAST_PAUSE = 0.8, 2.5  # seconds


def view_type(env: TaskDistribution) -> type[View]:
    """How `env` is drawn.

    Raises:
        ConfigError: if nobody knows how.
    """
    shown = env.base if isinstance(env, Binned) else env
    gymnax_id = getattr(shown, "gymnax_id", "")
    for env_class, view in VIEWS.items():
        if isinstance(shown, env_class) or gymnax_id == getattr(env_class, "gymnax_id", None):
            return view
    names = ", ".join(env_class.__name__ for env_class in VIEWS)
    raise ConfigError(
        f"{type(env).__name__} cannot be drawn; there are pictures of {names} and of "
        "environments derived from these"
    )


class Cell(NamedTuple):
    """What one panel shows of whose meta-episode."""

    view: type[View]
    name: str
    episode: MetaEpisode


def cells_of(name: str, episode: MetaEpisode) -> list[Cell]:
    """The panels of a meta-episode: its environment's view, and the companion if there is one."""
    view = view_type(episode.env)
    believes = episode.belief is not None and view in COMPANIONS
    views = [view, COMPANIONS[view]] if believes else [view]
    return [Cell(view, name, episode) for view in views]


class Picture:
    """Views of meta-episodes in the rows and columns of one figure, whose background is kept."""

    def __init__(self, rows: Sequence[Sequence[Cell]], dpi: int) -> None:
        cells = list(chain.from_iterable(rows))
        view, _, some = cells[0]
        scales = view.scales([cell.episode for cell in cells])
        panel_width, panel_height = view.panel_size(some.env)
        columns = max(len(row) for row in rows)
        width, height = columns * panel_width, len(rows) * panel_height
        figure = Figure(figsize=(width, height + view.legend_height), dpi=dpi)
        self._canvas = FigureCanvasAgg(figure)
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(height, view.legend_height))
        (body,), (foot,) = parts
        places = body.subfigures(len(rows), columns, squeeze=False)
        self.views = [
            cell.view(places[i][j], cell.episode, cell.name, scales)
            for i, row in enumerate(rows)
            for j, cell in enumerate(row)
        ]
        kinds = list(dict.fromkeys(cell.view for cell in cells))
        (strips,) = foot.subfigures(1, len(kinds), squeeze=False)
        for kind, strip in zip(kinds, strips, strict=True):
            kind.legend(strip, width / len(kinds), scales)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(figure.bbox)

    def draw(self) -> Image:
        """What the picture shows now; sides are even, as films need them."""
        self._canvas.restore_region(self._background)
        for view in self.views:
            view.draw(self._canvas.get_renderer())
        image = np.asarray(self._canvas.buffer_rgba())[..., :3]
        height, width, _ = image.shape
        return image[: height // 2 * 2, : width // 2 * 2].copy()


def frames(
    episodes: Mapping[str, MetaEpisode], moments: Sequence[int], dpi: int = DPI
) -> Iterator[Image]:
    """One picture a moment, with all `episodes` beside or below each other."""
    groups = [cells_of(name, episode) for name, episode in episodes.items()]
    is_stacked = groups[0][0].view.stacked
    picture = Picture(groups if is_stacked else [list(chain.from_iterable(groups))], dpi)
    for moment in moments:
        for view in picture.views:
            view.show(moment)
        yield picture.draw()


def film_moments(episodes: Mapping[str, MetaEpisode], every: int = 1) -> list[int]:
    """Each `every`-th moment, the ends of episodes, and the last."""
    some = next(iter(episodes.values()))
    pauses = {int(m) for episode in episodes.values() for m in episode.pauses}
    return sorted({*range(0, some.horizon + 1, every), *pauses, some.horizon})


def film_seconds(
    episodes: Mapping[str, MetaEpisode], moments: Sequence[int], fps: float
) -> list[float]:
    """How long each moment is shown: longer at the start and at the ends of episodes."""
    pauses = {0} | {int(m) for episode in episodes.values() for m in episode.pauses}
    seconds = [1 / fps + PAUSE * (moment in pauses) for moment in moments]
    return [*seconds[:-1], 1 / fps + LAST_PAUSE]


def panels(episodes: Mapping[str, MetaEpisode], dpi: int = DPI) -> Image:
    """Key moments in one picture: two rows of a single meta-episode, or a row of each.

    Companions stand in a row below that of their views.
    """
    view = view_type(next(iter(episodes.values())).env)
    count = view.columns * (2 if len(episodes) == 1 else 1)
    rows: list[list[Cell]] = []
    shown: list[tuple[int, str]] = []
    for name, episode in episodes.items():
        moments = key_moments(episode, view.landmarks(episode), count)
        for batch in batched(list(moments.items()), view.columns):
            for cell in cells_of(name, episode):
                rows.append([cell] * len(batch))
                shown += batch
    picture = Picture(rows, dpi)
    for panel, (moment, note) in zip(picture.views, shown, strict=True):
        panel.show(moment, note)
    return picture.draw()


def batched(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """`items` in groups of `size`, of which the last may be smaller."""
    return [items[i : i + size] for i in range(0, len(items), size)]
