"""Bandits: what the pulls so far say of each arm, and how the pulls went to the arms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.special import betaincinv
from typing_extensions import override

from rl3jax.drawing.episode import MetaEpisode
from rl3jax.drawing.view import FAINT, HEAD, INK, SERIES, View
from rl3jax.envs import Environment

HEIGHT = 2.5
CREDIBLE = 0.9
"""Posterior probability of the interval about an arm's mean."""
LAST_PULL = "#ececec"
TRUTH: dict[str, Any] = {"marker": "_", "markersize": 17, "markeredgewidth": 2}
MOST_WORDY = 7
"""Arms up to which there is room for more than a number above each."""


class BanditView(View):
    """Posteriors of the arms under a uniform prior, and cumulative pulls."""

    stacked = True
    columns = 2
    legend_height = 0.4

    @override
    @staticmethod
    def panel_size(env: Environment) -> tuple[float, float]:
        return 8.6, HEIGHT + HEAD + 0.9

    @override
    @staticmethod
    def scales(episodes: Sequence[MetaEpisode]) -> int:
        """The most pulls that any arm gets."""
        return max(int(episode.visits(episode.horizon).max()) for episode in episodes)

    @override
    @staticmethod
    def legend(figure: SubFigure, width: float, scales: int) -> None:
        truth = Line2D([], [], linestyle="", color=INK, label="true success probability", **TRUTH)
        mean = Line2D([], [], color=INK, linewidth=2, marker="o", markersize=6)
        mean.set_label(f"posterior mean and {CREDIBLE:.0%} interval, from a uniform prior")
        last = Patch(color=LAST_PULL, label="last pull")
        figure.legend(
            handles=[truth, mean, last], loc="center", ncols=3, frameon=False, fontsize=8.5
        )

    @override
    def make(self, scales: int) -> list[Artist]:
        truth = self.episode.task.success_prob
        arms = np.arange(len(truth))
        self._colours = [SERIES[arm % len(SERIES)] for arm in arms]
        self._pulls, self._wins = cumulative_pulls(self.episode)
        return [*self._make_posteriors(truth), *self._make_pulls(scales)]

    def _make_posteriors(self, truth: Float[np.ndarray, " A"]) -> list[Artist]:
        axes = self.axes(0.6, 0.65, 3.5, HEIGHT)
        arms = np.arange(len(truth))
        best = int(truth.argmax())
        names = [f"{arm + 1}\N{BLACK STAR}" if arm == best else f"{arm + 1}" for arm in arms]
        axes.set(xlim=(-0.6, len(arms) - 0.4), ylim=(-0.02, 1.02), yticks=np.linspace(0, 1, 5))
        axes.set_xticks(arms, names)
        for label, colour in zip(axes.get_xticklabels(), self._colours, strict=True):
            label.set(color=colour, weight="bold")
        axes.set_xlabel("arm (\N{BLACK STAR} best)", size=9)
        axes.set_ylabel("success probability", size=9)
        _tidy(axes)
        self._last = axes.axvspan(-0.4, 0.4, color=LAST_PULL, visible=False)
        (marks,) = axes.plot(arms, truth, linestyle="", color=INK, **TRUTH)
        self._intervals = LineCollection([], colors=self._colours, linewidths=2.5)
        axes.add_collection(self._intervals, autolim=False)
        self._means = axes.scatter(arms, arms * 0.0, c=self._colours, s=45)
        self._counts = [
            axes.text(float(arm), 1.04, "", size=8, color=INK, ha="center", va="bottom")
            for arm in arms
        ]
        return [self._last, self._intervals, self._means, marks, *self._counts]

    def _make_pulls(self, most: int) -> Sequence[Artist]:
        axes = self.axes(4.85, 0.65, 3.5, HEIGHT)
        axes.set(xlim=(0, self.episode.horizon), ylim=(0, 1.05 * most))
        axes.set_xlabel("pulls", size=9)
        axes.set_ylabel("pulls of each arm", size=9)
        _tidy(axes)
        self._lines = [
            axes.plot([], [], color=colour, linewidth=1.8, drawstyle="steps-post")[0]
            for colour in self._colours
        ]
        return self._lines

    @override
    def place(self, moment: int) -> str:
        return f"pull {moment} of {self.episode.horizon}"

    @override
    def last_step(self, moment: int) -> str:
        return f"arm {self.episode.action[moment - 1] + 1}"

    @override
    def move(self, moment: int) -> None:
        mean, low, high = posterior(self._pulls[moment], self._wins[moment])
        arms = np.arange(len(mean))
        self._means.set_offsets(np.stack([arms, mean], axis=1))
        ends = np.stack([np.stack([arms, low], axis=1), np.stack([arms, high], axis=1)], axis=1)
        self._intervals.set_segments(list(ends))
        is_narrow = len(arms) > MOST_WORDY
        for pulls, text in zip(self._pulls[moment], self._counts, strict=True):
            text.set_text(f"{pulls}" if is_narrow else f"n = {pulls}")
        for arm, line in enumerate(self._lines):
            line.set_data(np.arange(moment + 1), self._pulls[: moment + 1, arm])
        if moment > 0:
            self._last.set_x(self.episode.action[moment - 1] - 0.4)
        self._last.set_visible(moment > 0)


def cumulative_pulls(
    episode: MetaEpisode,
) -> tuple[Int[np.ndarray, "M A"], Float[np.ndarray, "M A"]]:
    """How often each arm was pulled, and paid, by each moment."""
    pulled = np.zeros((episode.horizon + 1, episode.env.num_actions))
    pulled[np.arange(episode.horizon) + 1, episode.action] = 1
    reward = np.concatenate([[0.0], episode.reward])
    return pulled.cumsum(axis=0).astype(int), (pulled * reward[:, None]).cumsum(axis=0)


def posterior(
    pulls: Int[np.ndarray, " A"], wins: Float[np.ndarray, " A"]
) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, " A"], Float[np.ndarray, " A"]]:
    """Mean, lower and upper end of the credible interval under a uniform prior, Beta(1, 1)."""
    a, b = 1 + wins, 1 + pulls - wins
    tail = (1 - CREDIBLE) / 2
    return a / (a + b), betaincinv(a, b, tail), betaincinv(a, b, 1 - tail)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
