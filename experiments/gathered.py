"""The results at hand for an experiment, as its tables and figures want them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.results import Result, Score, read_all
from experiments.rows import Row

OPTIMAL = "optimal"

BASELINES = "baselines"
"""The folder of baselines' results: they depend on the row alone, so all presets share them."""


@dataclass(frozen=True)
class Gathered:
    """Results by row, and what could not be used.

    Attributes:
        trained: by row, a result a seed, all of one preset.
        baselines: by row.
        problems: a line for every file that could not be used.
    """

    trained: dict[str, list[Result]]
    baselines: dict[str, Result]
    problems: list[str]

    def of(self, row: Row) -> list[Result]:
        """Everything on a row's tasks: the trained agents' results, then the baselines'."""
        return [*self.trained.get(row.name, []), *self.of_baselines(row)]

    def of_baselines(self, row: Row) -> list[Result]:
        """The baselines' result, if there is one."""
        return [self.baselines[row.tasks]] if row.tasks in self.baselines else []

    def scores(self, row: Row, contender: str) -> list[Score]:
        """Of a trained contender one score a seed; of a baseline one at most."""
        trained = self.trained.get(row.name, [])
        scores = [r.scores[contender] for r in trained if contender in r.scores]
        # The optimum stands beside every seed's scores, always the same.
        return scores if contender != OPTIMAL and scores else self._alone(row, contender)

    def seeds(self, row: str, algo: str) -> list[dict[str, Any]]:
        """What `training.seeds_of` says of a row's seeds that were trained together."""
        return [run for result in self.trained.get(row, []) for run in result.extra["seeds"][algo]]

    def _alone(self, row: Row, contender: str) -> list[Score]:
        return [r.scores[contender] for r in self.of(row) if contender in r.scores][:1]


def gather(folder: Path, experiment: str, presets: Sequence[str]) -> Gathered:
    """Of every row the results of the first of `presets` that has any."""
    trained: dict[str, list[Result]] = {}
    problems: list[str] = []
    for preset in presets:
        results, unusable = read_all(folder / experiment / preset)
        problems += unusable
        rows = defaultdict(list)
        for result in results:
            rows[result.row].append(result)
        for row, found in rows.items():
            trained.setdefault(row, sorted(found, key=lambda result: result.seed or 0))
    baselines, unusable = read_all(folder / BASELINES)
    return Gathered(trained, {result.row: result for result in baselines}, problems + unusable)
