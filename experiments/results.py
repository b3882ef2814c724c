"""Result files: what a row of a table scored, complete or not at all, and readable years later.

A result is one JSON file with everything that the report needs, and a CSV file beside it with one
line a task, for spreadsheets and other people's statistics.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

import rl3jax
from rl3jax import statistics

FORMAT = "rl3jax-result-1"
CURVE_POINTS = 100
"""A curve within a meta-episode is kept at no more points than this."""

PROVENANCE = frozenset({"commit", "platform", "processor", "cores", "device", "devices"})
"""What tables show of the provenance of a training."""

T = TypeVar("T")


class ResultError(ValueError):
    """A result file that cannot be used; the message is one line that names it."""


@dataclass(frozen=True)
class Curve:
    """A mean over tasks with its standard error, along a meta-episode or a training.

    Attributes:
        x: where the points lie: episodes, or env steps.
        mean, stderr: of the same length.
    """

    x: list[float]
    mean: list[float]
    stderr: list[float]

    @staticmethod
    def of(x: Iterable[float], mean: Iterable[float], stderr: Iterable[float]) -> "Curve":
        """At most `CURVE_POINTS` of the points, evenly spaced, with the first and the last."""
        columns = [np.asarray(list(column), float) for column in (x, mean, stderr)]
        size = len(columns[0])
        kept = np.unique(np.linspace(0, size - 1, min(size, CURVE_POINTS)).round().astype(int))
        return Curve(*(_rounded(column[kept]) for column in columns))


@dataclass(frozen=True)
class Score:
    """Undiscounted returns of one agent, a meta-episode a task.

    Attributes:
        title: the agent's name in tables.
        returns: one a task.
        per_episode: return of the k-th object-level episode.
        regret: cumulative, against the optimal policy on the same tasks.
        seconds: wall-clock of the evaluation, compilation included.
        constant: the tuned constant of a baseline that has one.
    """

    title: str
    returns: list[float]
    per_episode: Curve
    regret: Curve
    seconds: float
    constant: float | None = None

    @property
    def mean(self) -> float:
        """Mean return over tasks."""
        return statistics.mean_and_stderr(np.asarray(self.returns, float)).value

    @property
    def stderr(self) -> float:
        """Its standard error over tasks."""
        return statistics.mean_and_stderr(np.asarray(self.returns, float)).stderr


@dataclass(frozen=True)
class TrainingRecord:
    """What a meta-training was and cost.

    Attributes:
        command: repeats it.
        env_steps, iterations: done.
        seconds: wall-clock of its iterations.
        provenance: of the process that trained.
        curve: mean return of the sampling policy, by env steps; over seeds, if several were trained
            together. Env steps are of one of these, seconds of all.
    """

    command: str
    env_steps: int
    iterations: int
    seconds: float
    provenance: dict[str, Any]
    curve: Curve


@dataclass(frozen=True)
class Result:
    """One row of an experiment, for one seed of its trainings (or its baselines, without a seed).

    Attributes:
        experiment, preset, row, seed: which one; `seed` is None for baselines.
        horizon, n_tasks: of the meta-episodes, and how many.
        command: repeats it.
        provenance: of the process that scored.
        scores: by contender.
        trainings: by algorithm.
        extra: what an experiment measures besides.
    """

    experiment: str
    preset: str
    row: str
    seed: int | None
    horizon: int
    n_tasks: int
    command: str
    provenance: dict[str, Any]
    scores: dict[str, Score] = field(default_factory=dict)
    trainings: dict[str, TrainingRecord] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes `path` (.json) and, of the scores, a table beside it (.csv).

        Raises:
            ResultError: if a number is not finite; then nothing is written.
        """
        values = {"format": FORMAT, "rl3jax": rl3jax.__version__} | asdict(self)
        try:
            text = json.dumps(values, separators=(",", ":"), allow_nan=False)
        except ValueError as error:
            raise ResultError(f"{path} is not written: a number is not finite") from error
        table = self._csv()
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.scores:
            write_text(path.with_suffix(".csv"), table)
        write_text(path, text + "\n")

    def _csv(self) -> str:
        """A line a task, a column a contender."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["task", *self.scores])
        columns = [score.returns for score in self.scores.values()]
        writer.writerows([task, *row] for task, row in enumerate(zip(*columns, strict=True)))
        return text.getvalue()


def read_result(path: Path) -> Result:
    """The result in a file.

    Raises:
        ResultError: if it is of another version, was cut short, or is something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path} was cut short or damaged") from error
    _check_version(path, values)
    try:
        return _parse(values)
    except KeyError as error:
        raise ResultError(f"{path} is no complete result: it has no {error.args[0]}") from error
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ResultError(f"{path} is no complete result: {error}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check_version(path: Path, values: Any) -> None:
    if not isinstance(values, Mapping) or "format" not in values:
        raise ResultError(f"{path} is no result file (it names no format)")
    for name, ours in (("format", FORMAT), ("rl3jax", rl3jax.__version__)):
        if values.get(name) != ours:
            raise ResultError(
                f"{path} is of another version ({name} {values.get(name)}, this is {ours}); "
                "move it away to run it again"
            )


def _parse(values: Mapping[str, Any]) -> Result:
    fields = {name: values[name] for name in Result.__dataclass_fields__}
    fields["scores"] = {name: _score(s) for name, s in values["scores"].items()}
    fields["trainings"] = {name: _training(t) for name, t in values["trainings"].items()}
    result = _made(Result, fields)
    for name, score in result.scores.items():
        if len(score.returns) != result.n_tasks:
            raise ValueError(f"{name} has {len(score.returns)} of {result.n_tasks} returns")
    return result


def _score(values: Mapping[str, Any]) -> Score:
    curves = {name: _curve(values[name]) for name in ("per_episode", "regret")}
    score = _made(Score, {**values, **curves})
    _check_numbers("returns", score.returns)
    return score


def _training(values: Mapping[str, Any]) -> TrainingRecord:
    record = _made(TrainingRecord, {**values, "curve": _curve(values["curve"])})
    for name in PROVENANCE - record.provenance.keys():
        raise KeyError(name)
    return record


def _curve(values: Mapping[str, Any]) -> Curve:
    curve = _made(Curve, values)
    if not len(curve.x) == len(curve.mean) == len(curve.stderr) > 0:
        raise ValueError("a curve has columns of different lengths, or none")
    _check_numbers("a curve", [*curve.x, *curve.mean, *curve.stderr])
    return curve


def _check_numbers(name: str, values: Sequence[Any]) -> None:
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ValueError(f"{name} must be finite numbers")


def _made(cls: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass whose fields are of the types that it says, as far as containers go."""
    for name, hint in get_type_hints(cls).items():
        value = values.get(name)
        kinds = get_args(hint) if isinstance(hint, UnionType) else (get_origin(hint) or hint,)
        if float in kinds:
            kinds += (int,)
        if name in values and not isinstance(value, kinds):
            raise TypeError(f"{name} is {value!r:.40}")
    return cls(**values)


def read_all(folder: Path) -> tuple[list[Result], list[str]]:
    """All usable results below `folder`, and a line on every file that is not."""
    results, problems = [], []
    for path in sorted(folder.rglob("*.json")):
        try:
            results.append(read_result(path))
        except ResultError as error:
            problems.append(str(error))
    return results, problems


def write_text(path: Path, text: str) -> None:
    """Replaces `path` whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    """To six significant digits: more than a standard error is known to."""
    return [float(f"{value:.6g}") for value in np.asarray(values, float)]
