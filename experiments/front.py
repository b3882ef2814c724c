"""The front page of the report: of every domain the best of ours beside the paper's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import bandits, continuous, gridworlds, mdps, pretrained, tables
from experiments.gathered import OPTIMAL, Gathered
from experiments.published import NORMALISED, RETURN, published, training_time
from experiments.results import Score
from experiments.rows import Row
from experiments.scoring import algorithm_title
from rl3jax import statistics

FRACTIONS = (1024, 2048)
"""Budgets of random MDPs in the table; the figure has more of them."""
LAST_EPISODE = "return_of_the_last_episode"
"""What rows are compared by of which the paper has no number."""
FIGURES = {
    "mdps": ("mdps-budgets", "Random MDPs by budget"),
    "gridworlds": ("gridworlds", "Gridworlds; shifted ones are played by the agents of 13x13"),
    "continuous": ("continuous", "Physics that differ between tasks, episode by episode"),
}
"""By experiment, a figure and what it shows."""


@dataclass(frozen=True)
class Ours:
    """An agent of ours on the tasks of a row.

    Attributes:
        name: of the agent, and how much of it was run.
        score: mean return, or fraction of the optimum.
        cell: the same as Markdown, with its error.
        seconds: wall-clock of a training.
        provenance: of the training.
    """

    name: str
    score: float
    cell: str
    seconds: float
    provenance: Mapping[str, Any]


def domains() -> list[tuple[str, str, tuple[Row, ...]]]:
    """Title, experiment, and rows on the same tasks; the first has the paper's name of them."""
    by_budget = [iid for iid, _ in mdps.figure_rows("paper") if iid.horizon in FRACTIONS]
    grids = zip(gridworlds.table_rows("paper"), gridworlds.kinds_rows("paper"), strict=True)
    return [
        *((f"Bandits, {row.title}", "bandits", (row,)) for row in bandits.rows("paper")),
        *((f"MDPs, {row.title}", "mdps", (row,)) for row in mdps.table_rows("paper")),
        *((f"MDPs, {row.title}, share of the optimum", "mdps", (row,)) for row in by_budget),
        *((f"Gridworlds, {rows[0].title}", "gridworlds", rows) for rows in list(grids)[:2]),
        *((_by_episode(row), "continuous", (row,)) for row in continuous.rows("paper")),
    ]


def _by_episode(row: Row) -> str:
    return f"{row.title.capitalize()}, last episode"


def table(found: Mapping[str, Gathered], links: Mapping[str, str]) -> str:
    """A line a domain, except those of which neither we nor the paper have anything.

    Args:
        found: results by experiment.
        links: to the experiments' details.
    """
    header = [
        "domain", "best of ours", "agent, seeds × tasks", "paper: RL²", "paper: RL³",
        "our training", "on", "the paper's training",
    ]  # fmt: skip
    lines = []
    for title, experiment, rows in domains():
        measure = _measure(rows[0])
        ours = [agent for row in rows for agent in contenders(row, found[experiment], measure)]
        line = _line(rows[0], max(ours, key=lambda agent: agent.score, default=None))
        if line:
            scored = found[experiment].trained or not any(pretrained.cards_of(r.name) for r in rows)
            page = links[experiment if scored else "pretrained"]
            lines.append([f"[{title}]({page})", *line])
    return tables.table(header, lines)


def _line(row: Row, best: Ours | None) -> list[str]:
    """All cells but the title; bold where it is above both of the paper's."""
    theirs = [published(row.name, algo, _measure(row)) for algo in ("rl2", "rl3")]
    if best is None and not any(theirs):
        return []
    cells = [tables.published_cell(number) for number in theirs]
    cost = training_time(row.name) or tables.NOTHING
    if best is None:
        return [tables.NOT_RUN, tables.NOTHING, *cells, *[tables.NOTHING] * 2, cost]
    is_above = any(theirs) and all(best.score > number.value for number in theirs if number)
    score = f"**{best.cell}**" if is_above else best.cell
    time = tables.duration(best.seconds)
    return [score, best.name, *cells, time, tables.hardware(best.provenance), cost]


def _measure(row: Row) -> str:
    """Of what the paper has a number; else the last episode, by which an agent has learned."""
    measures = (m for m in (NORMALISED, RETURN) if published(row.name, "rl3", m))
    return next(measures, LAST_EPISODE)


def contenders(row: Row, found: Gathered, measure: str) -> list[Ours]:
    """Greedy agents of an experiment on a row, and those that come with the package."""
    ours = []
    for algo in row.trainings:
        results = [r for r in found.trained.get(row.name, []) if algo in r.trainings]
        scores = found.scores(row, f"{algo} greedy")
        if results and scores:
            values, cell = [score.mean for score in scores], tables.scores_cell(scores)
            if measure == LAST_EPISODE:
                values, cell = _last_episode(scores, found.scores(row, OPTIMAL))
            if measure == NORMALISED:
                values = [fraction.value for fraction in mdps.normalised(row, algo, found)]
                cell = mdps.normalised_cell(row, algo, found)
            name = algo + (gridworlds.SUFFIX if row.name.endswith(gridworlds.SUFFIX) else "")
            name = f"{algorithm_title(name)}, {len(results)} × {results[0].n_tasks}"
            records = [result.trainings[algo] for result in results]
            seconds = float(np.mean([record.seconds for record in records]))
            ours.append(Ours(name, float(np.mean(values)), cell, seconds, records[0].provenance))
    return ours + [_of_card(*pair, measure) for pair in pretrained.cards_of(row.name)]


def _last_episode(scores: list[Score], optimal: list[Score]) -> tuple[list[float], str]:
    """Mean returns of the last episode, one a score; and the cell, with the optimum's."""
    last = [_at_last(score) for score in scores]
    means = [mean for mean, _ in last]
    cell = tables.over_tasks(*last[0]) if len(last) == 1 else tables.over_seeds(means)
    return means, cell + "".join(_beside(_at_last(score)) for score in optimal)


def _at_last(score: Score) -> tuple[float, float]:
    curve = score.per_episode
    k = min(continuous.EPISODES, len(curve.mean)) - 1
    return curve.mean[k], curve.stderr[k]


def _beside(optimum: tuple[float, float]) -> str:
    return f" (optimum {tables.over_tasks(*optimum)})"


def _of_card(card: Any, score: Any, measure: str) -> Ours:
    value, cell = score.greedy[0], tables.over_tasks(*score.greedy)
    if measure == LAST_EPISODE:
        value, _ = score.greedy_episodes[-1]
        cell = tables.over_tasks(*score.greedy_episodes[-1]) + _beside(score.optimal_episodes[-1])
    if measure == NORMALISED:
        value = statistics.fraction_of(value, score.optimal[0])
        cell = tables.number(value)
    name = f"`{card.name}`, 1 × {score.n_tasks}"
    return Ours(name, value, cell, card.seconds, card.provenance)
