"""Figures of training, evaluation and sweeps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl3jax.evaluation import Evaluation
from rl3jax.files import replacing

BAND = 1.96  # standard errors on either side: a 95 % interval


def learning_curve(metrics: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Returns and entropy over env steps, from the lines of `metrics.jsonl`, into a PNG."""
    steps, mean, stderr, nats = _columns(
        metrics, "env_steps", "mean_return", "stderr_return", "entropy"
    )
    validated = [line for line in metrics if "validation_return" in line]

    figure = Figure(figsize=(7, 5.5), layout="constrained")
    returns, entropy = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    steps = steps / 1e6
    returns.plot(steps, mean, color="C0", label="sampled, training tasks")
    returns.fill_between(
        steps, mean - BAND * stderr, mean + BAND * stderr, color="C0", alpha=0.25, linewidth=0
    )
    if validated:
        at, score, error = _columns(
            validated, "env_steps", "validation_return", "validation_stderr"
        )
        returns.errorbar(
            at / 1e6, score, BAND * error,
            color="C1", fmt="o", markersize=4, label="greedy, validation tasks",
        )  # fmt: skip
    returns.set(title=title, ylabel="meta-episode return")
    returns.legend(loc="lower right")
    entropy.plot(steps, nats, color="C2")
    entropy.set(xlabel="env steps (millions)", ylabel="entropy (nats)", ylim=(0, None))
    _save(figure, [returns, entropy], path)


def learning_curves(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], title: str, path: Path
) -> None:
    """Returns of several runs over env steps and over seconds, into a PNG.

    Args:
        runs: by name, the lines of `metrics.jsonl`.
        title: of the figure.
        path: of the PNG.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for i, (name, metrics) in enumerate(runs.items()):
        steps, seconds, mean = _columns(metrics, "env_steps", "seconds", "mean_return")
        elapsed = np.cumsum(seconds)
        scored = [("validation_return" in line) for line in metrics]
        (score,) = _columns([line for line in metrics if "validation_return" in line],
                            "validation_return")  # fmt: skip
        for axis, x in zip(axes, (steps / 1e6, elapsed), strict=True):
            axis.plot(x, mean, color=f"C{i}", linewidth=1.2, label=name)
            axis.plot(x[scored], score, "o", color=f"C{i}", markersize=4)
    axes[0].set(xlabel="env steps (millions)", ylabel="meta-episode return")
    axes[1].set(xlabel="seconds of iterations")
    figure.suptitle(f"{title}: sampled, training tasks (lines); greedy, validation tasks (dots)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=min(4, len(runs)), frameon=False)  # fmt: skip
    _save(figure, list(axes), path)


def _columns(
    metrics: Sequence[Mapping[str, Any]], *names: str
) -> Iterator[Float[np.ndarray, " I"]]:
    """Numbers of the lines by name; NaN, which is drawn as a gap, where one is not defined."""
    return (np.array([line[name] for line in metrics], float) for name in names)


def evaluation_curves(results: Mapping[str, Evaluation], title: str, path: Path) -> None:
    """Mean reward of each step, and mean return of each object-level episode, into a PNG."""
    per_episode = {name: result.return_per_episode() for name, result in results.items()}
    longer = any(
        len(mean) < r.rewards.shape[1]
        for (mean, _), r in zip(per_episode.values(), results.values(), strict=True)
    )
    figure = Figure(figsize=(6 + 4 * longer, 4), layout="constrained")
    axes = figure.subplots(1, 1 + longer, squeeze=False)[0]
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


# --- sweeps -------------------------------------------------------------------------------------

COLOURED = 6  # lines of a panel, the best ones; others are grey
GREY = "0.8"


def sweep(
    points: Sequence[Mapping[str, float]],
    scores: Float[np.ndarray, "P S"],
    returns: Float[np.ndarray, "P S I"],
    steps: int,
    title: str,
    path: Path,
) -> None:
    """Learning curves and, if values are swept, scores over the first of them, into a PNG.

    Args:
        points: swept values by name, every combination of them, the last name varying fastest; no
            names if seeds alone are swept.
        scores: of each point and seed, on validation tasks; NaN where a run diverged.
        returns: of each iteration; NaN from where a run diverged.
        steps: env steps of a run in an iteration.
        title: of the figure.
        path: of the PNG.
    """
    panels = 2 if points[0] else 1
    figure = Figure(figsize=(2 + 5 * panels, 5), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)
    curves = axes[0, -1]
    env_steps = np.arange(1, returns.shape[-1] + 1) * steps / 1e6
    if points[0]:
        _scores_over_values(axes[0, 0], points, scores)
        _curves_of_points(curves, points, scores, returns, env_steps)
    else:
        _curves_of_seeds(curves, scores[0], returns[0], env_steps)
    curves.locator_params(axis="x", nbins=6)
    curves.set(xlabel="env steps of a run (millions)", ylabel="meta-episode return")
    figure.suptitle(title)
    _save(figure, list(axes[0]), path)


def _scores_over_values(
    axis: Axes, points: Sequence[Mapping[str, float]], scores: Float[np.ndarray, "P S"]
) -> None:
    """A line for each combination of the other values, a dot for each seed."""
    name, *others = points[0]
    values = np.array(list(dict.fromkeys(point[name] for point in points)))
    order = np.argsort(values)
    x = _positions(axis, values[order])
    lines = scores.reshape(len(values), -1, scores.shape[1])[order]  # [value, line, seed]
    labels = [_label(point, others) for point in points[: lines.shape[1]]]
    mean, stderr = _over_seeds(lines)
    best = np.where(np.isnan(mean), -np.inf, mean).max(axis=0)
    coloured = np.argsort(-best, kind="stable")[:COLOURED]
    axis.plot(x, np.delete(mean, coloured, axis=1), color=GREY)
    for i, colour in zip(sorted(coloured), _shades(len(coloured)), strict=True):
        axis.plot(x, lines[:, i], ".", color=colour, alpha=0.4)
        axis.errorbar(
            x, mean[:, i], stderr[:, i], color=colour, marker="o", capsize=3,
            label=labels[i] or None,
        )  # fmt: skip
    lost = x[np.isnan(lines).any(axis=(1, 2))]
    if lost.size:
        bottom = np.full(len(lost), 0.02)
        axis.plot(
            lost, bottom, "x", color="C3", transform=axis.get_xaxis_transform(),
            label="diverged seeds",
        )  # fmt: skip
    axis.set(
        title="greedy, validation tasks; mean ± s.e., every seed",
        xlabel=name,
        ylabel="meta-episode return",
    )
    _legend_below(axis, ", ".join(others))


def _curves_of_points(
    axis: Axes,
    points: Sequence[Mapping[str, float]],
    scores: Float[np.ndarray, "P S"],
    returns: Float[np.ndarray, "P S I"],
    env_steps: Float[np.ndarray, " I"],
) -> None:
    """The mean over seeds of each point; the best points are coloured and named."""
    finished = np.where(np.isnan(scores)[..., None], np.nan, returns)
    curves, _ = _over_seeds(np.moveaxis(finished, 1, -1))
    order = np.argsort(-_over_seeds(scores)[0], kind="stable")
    for i in order[COLOURED:]:
        axis.plot(env_steps, curves[i], color=GREY, linewidth=1)
    for i in order[:COLOURED]:
        if not np.isnan(scores[i]).all():
            axis.plot(env_steps, curves[i], linewidth=1.3, label=_label(points[i], points[i]))
    which = f"best {COLOURED} points coloured" if len(points) > COLOURED else "mean over seeds"
    axis.set_title(f"sampled, training tasks; {which}")
    _legend_below(axis, f"{', '.join(points[0])} (best first)")


def _curves_of_seeds(
    axis: Axes,
    scores: Float[np.ndarray, " S"],
    returns: Float[np.ndarray, "S I"],
    env_steps: Float[np.ndarray, " I"],
) -> None:
    """Each seed's curve, ending where it diverged, and its score after training."""
    mean, _ = _over_seeds(returns[~np.isnan(scores)].T)
    axis.plot(env_steps, returns.T, color="C0", alpha=0.35, linewidth=1)
    axis.plot(
        env_steps, mean, color="C0", linewidth=2, marker="o" if len(env_steps) == 1 else None,
        label="sampled, training tasks: each seed, and mean",
    )  # fmt: skip
    axis.plot(
        np.repeat(env_steps[-1:], len(scores)), scores[: len(scores) * bool(env_steps.size)],
        "o", color="C1", markersize=4, label="greedy, validation tasks: each seed",
    )  # fmt: skip
    for curve in returns[np.isnan(scores)]:
        last = int((~np.isnan(curve)).sum()) - 1
        axis.plot(env_steps[[last]], curve[[last]], "x", color="C3", label="diverged")
    axis.legend(loc="lower right")


def _over_seeds(
    x: Float[np.ndarray, "*batch S"],
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """Mean and standard error over the entries that are no NaN; NaN where there are too few."""
    finite = np.ma.masked_invalid(x)
    stderr = finite.std(axis=-1, ddof=1) / np.sqrt(finite.count(axis=-1))
    return np.ma.filled(finite.mean(axis=-1), np.nan), np.ma.filled(stderr, np.nan)


def _positions(axis: Axes, values: Float[np.ndarray, " V"]) -> Float[np.ndarray, " V"]:
    """Where ascending values lie on the x-axis, which is made logarithmic if they span a decade.

    Values that no such axis can hold together (0.001, 0.1 and 0; infinity) lie side by side.
    """
    nonzero = values[values > 0]
    wide = bool(nonzero.size) and nonzero[-1] >= 10 * nonzero[0]
    if np.isinf(values[-1]) or (wide and values[0] == 0):
        axis.set_xticks(np.arange(len(values)), [f"{value:g}" for value in values])
        return np.arange(len(values), dtype=float)
    scaled = np.log(values) if wide else values
    if wide:
        axis.set_xscale("log")
    if len(values) == 1 or np.diff(scaled).min() > 0.12 * np.ptp(scaled):  # else they would overlap
        axis.set_xticks(values, [f"{value:g}" for value in values])
        axis.set_xticks([], minor=True)
    return values


def _label(point: Mapping[str, float], names: Iterable[str]) -> str:
    return ", ".join(f"{point[name]:g}" for name in names)


def _shades(n: int) -> list[Any]:
    """Colours in order, from dark to light."""
    return list(colormaps["viridis"](np.linspace(0, 0.85, n)))


def _legend_below(axis: Axes, title: str) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(
            title=title or None, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3,
            frameon=False,
        )  # fmt: skip


def _save(figure: Any, axes: Sequence[Axes], path: Path) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
