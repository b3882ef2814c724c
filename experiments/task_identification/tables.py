"""Tables of what both parts found, and what they mean."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from experiments import tables
from experiments.gathered import Gathered
from experiments.results import Result
from experiments.rows import Row
from experiments.task_identification.domains import rows
from experiments.task_identification.duplicates import ABSOLUTE, DISCOUNT, RELATIVE, median
from experiments.task_identification.evidence import STEPS

TABLES = {"limit": "Q∞", "optimal": "Q*"}

SHOWN = {
    "posterior": "posterior odds (best possible)",
    "model": "estimated model",
    "q-counts": "Q and counts",
    "q": "Q alone",
}


def section(found: Gathered) -> str:
    """What both parts found."""
    return "\n\n".join(
        [
            "Do the values that RL³ adds tell tasks apart? No published numbers of this appendix "
            "are at hand, and the definitions are ours.",
            "**Duplicates.** The distance of two tasks is the largest difference of their exact "
            f"tables, in reward units: of Q* (optimal, discount {DISCOUNT:g}), or of Q∞, which the "
            "learner's estimates Q_t tend to, as it plans by few sweeps. The error is the distance "
            "of Q_t from Q∞ after t = H steps of a random policy: that of the state and action "
            "known worst. Two tasks agree in a state if they have the same greedy action there.",
            _by_row(found, DISTANCE_COLUMNS, _distance_lines),
            "How many tasks have a duplicate within a distance, in reward units and in percent of "
            "the median distance of any two tasks:",
            _by_row(found, DUPLICATE_COLUMNS, _duplicate_lines),
            "**Classifier.** Were two meta-episodes, of t steps of a random policy each, in the "
            "same task? Accuracy in %, where chance is 50. A trained classifier is a lower bound "
            "of what can be told from what it is shown; the posterior odds are an upper bound:",
            _by_row(found, QUALITY_COLUMNS, partial(_quality_lines, "accuracy")),
            "Area under the ROC curve, in %:",
            _by_row(found, QUALITY_COLUMNS, partial(_quality_lines, "auc")),
        ]
    )


def _by_row(
    found: Gathered,
    columns: Sequence[str],
    lines_of: Callable[[Row, Sequence[Result]], list[list[str]]],
) -> str:
    """A table of several lines for each row that was run."""
    lines: list[list[str]] = []
    for row in rows("paper"):
        results = found.trained.get(row.name, [])
        if results:
            run = tables.seeds_cell(results)
            lines += [[row.title, run, *cells] for cells in lines_of(row, results)]
        else:
            lines.append([row.title, tables.NOT_RUN, *[tables.NOTHING] * len(columns)])
    return tables.table(["tasks", "preset, seeds", *columns], lines)


DISTANCE_COLUMNS = [
    "table",
    "any two (median)",
    "nearest two (median)",
    "any two agree, %",
    "nearest two agree, %",
    "error at H (median)",
    "tasks with another within the error, %",
]


def _distance_lines(row: Row, results: Sequence[Result]) -> list[list[str]]:
    lines = []
    for table, title in TABLES.items():
        found = [result.extra[table] for result in results]
        medians = [_cell(median(f[which]) for f in found) for which in ("apart", "nearest")]
        agree = [_cell(100 * f[f"{which}_agree"] for f in found) for which in ("apart", "nearest")]
        lines.append([title, *medians, *agree, tables.NOTHING, tables.NOTHING])
    at_horizon = [result.extra["errors"][STEPS.index(row.horizon)] for result in results]
    lines[0][-2:] = [
        _cell(median(found["error"]) for found in at_horizon),
        _cell(100 * found["other_is_nearer"] for found in at_horizon),
    ]
    return lines


DUPLICATE_COLUMNS = [
    "table",
    "number of tasks",
    *(f"≤ {delta:g}" for delta in ABSOLUTE),
    *(f"≤ {delta:.0%}" for delta in RELATIVE),
]


def _duplicate_lines(row: Row, results: Sequence[Result]) -> list[list[str]]:
    del row
    return [
        [
            title,
            str(results[0].n_tasks),
            *_cells(result.extra[table]["within"] for result in results),
        ]
        for table, title in TABLES.items()
    ]


QUALITY_COLUMNS = ["what is shown", *(f"t = {t}" for t in STEPS)]


def _quality_lines(what: str, row: Row, results: Sequence[Result]) -> list[list[str]]:
    del row
    lines = []
    for name, title in SHOWN.items():
        found = [result.extra["classifiers"][name] for result in results]
        percent = [100 * np.asarray(f[what]) for f in found]
        if what == "accuracy" and len(found) == 1:
            stderr = 100 * np.asarray(found[0]["stderr"])
            cells = list(map(tables.over_tasks, percent[0], stderr))
        else:
            cells = _cells(percent)
        lines.append([title, *cells])
    return lines


def _cells(of_seeds: Iterable[Iterable[float]]) -> list[str]:
    """A cell for each of several numbers, from a list of them for every seed."""
    return list(map(_cell, zip(*of_seeds, strict=True)))


def _cell(of_seeds: Iterable[float]) -> str:
    """A number over seeds; without a range where all have the same."""
    scores = list(of_seeds)
    decimals = 0 if all(score == round(score) for score in scores) else None
    texts = {tables.number(score, decimals) for score in scores}
    return texts.pop() if len(texts) == 1 else tables.over_seeds(scores)
