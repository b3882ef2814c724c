"""What an experiment is: rows of a table, what is measured of them, and how it is shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from experiments.gathered import Gathered
from experiments.results import Score
from experiments.rows import SEEDS, Row


@dataclass(frozen=True)
class Measured:
    """What was found for a row and a seed.

    Attributes:
        scores: by contender.
        extra: anything else, ready for JSON.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def measure_nothing(row: Row, seed: int, agents: dict[str, Any]) -> Measured:
    """For experiments on what the trainings themselves recorded."""
    del row, seed, agents
    return Measured()


@dataclass(frozen=True)
class Experiment:
    """One table or figure of the paper.

    Attributes:
        name: of its module.
        title: of its page.
        rows: of a preset. Those of "paper" are all there are.
        measure: from a row, a seed and the row's trained agents (by algorithm) to what was found.
        section: Markdown, from the results at hand, whatever is missing.
        figures: by file name without ending, from the same.
        baseline_rows: rows that the classical baselines play, whatever the preset.
        seeds: of every training, by preset.
        beside_published: whether its tables have published numbers.
    """

    name: str
    title: str
    rows: Callable[[str], list[Row]]
    measure: Callable[[Row, int, dict[str, Any]], Measured]
    section: Callable[[Gathered], str]
    figures: Callable[[Gathered], dict[str, Figure]]
    baseline_rows: Callable[[], list[Row]] = list
    seeds: Mapping[str, int] = field(default_factory=lambda: SEEDS)
    beside_published: bool = True
