"""Figures of training and evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from rl3jax.evaluation import Evaluation

BAND = 1.96  # standard errors on either side: a 95 % interval


def learning_curve(metrics: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Returns and entropy over env steps, from the lines of `metrics.jsonl`, into a PNG."""
    steps = np.array([line["env_steps"] for line in metrics]) / 1e6
    mean = np.array([line["mean_return"] for line in metrics])
    stderr = np.array([line["stderr_return"] for line in metrics])
    validated = [line for line in metrics if "validation_return" in line]

    figure, (returns, entropy) = plt.subplots(
        2, 1, figsize=(7, 5.5), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    returns.plot(steps, mean, color="C0", label="sampled, training tasks")
    returns.fill_between(
        steps, mean - BAND * stderr, mean + BAND * stderr, color="C0", alpha=0.25, linewidth=0
    )
    if validated:
        returns.errorbar(
            [line["env_steps"] / 1e6 for line in validated],
            [line["validation_return"] for line in validated],
            [BAND * line["validation_stderr"] for line in validated],
            color="C1", fmt="o", markersize=4, label="greedy, validation tasks",
        )  # fmt: skip
    returns.set(title=title, ylabel="meta-episode return")
    returns.legend(loc="lower right")
    entropy.plot(steps, [line["entropy"] for line in metrics], color="C2")
    entropy.set(xlabel="env steps (millions)", ylabel="entropy (nats)", ylim=(0, None))
    _save(figure, [returns, entropy], path)


def evaluation_curves(results: Mapping[str, Evaluation], title: str, path: Path) -> None:
    """Mean reward of each step, and mean return of each object-level episode, into a PNG."""
    per_episode = {name: result.return_per_episode() for name, result in results.items()}
    longer = any(
        len(mean) < r.rewards.shape[1]
        for (mean, _), r in zip(per_episode.values(), results.values(), strict=True)
    )
    figure, axes = plt.subplots(
        1, 1 + longer, figsize=(6 + 4 * longer, 4), layout="constrained", squeeze=False
    )
    axes = axes[0]
    for name, result in results.items():
        reward = result.reward_per_step
        axes[0].plot(np.arange(1, len(reward) + 1), reward, label=name, linewidth=1.2)
    axes[0].set(title="each env step", xlabel="step of the meta-episode", ylabel="mean reward")
    if longer:  # else an episode is a step
        for mean, reached in per_episode.values():
            shown = reached == reached[0]  # later ones are of the tasks with short episodes alone
            axes[1].plot(np.arange(1, shown.sum() + 1), mean[shown], marker=".", linewidth=1.2)
        axes[1].set(
            title="each object-level episode",
            xlabel="episode of the meta-episode",
            ylabel="mean return",
        )
    figure.suptitle(title)
    figure.legend(loc="outside lower center", ncols=len(results), frameon=False)
    _save(figure, list(axes), path)


def _save(figure: Any, axes: Sequence[Axes], path: Path) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)
