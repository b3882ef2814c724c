"""Markdown tables: ours beside theirs, seeds and tasks never mixed, gaps said to be gaps."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.gathered import OPTIMAL, Gathered
from experiments.published import Published, published
from experiments.results import Result, Score
from experiments.rows import Row
from experiments.scoring import algorithm_title
from rl3jax import statistics

NOT_RUN = "not yet run"
NOTHING = "–"
DUAN = "rl2-duan"
"""Not ours to run, but published beside the classical algorithms."""
AGREES = 3.0
"""Standard errors within which a number counts as reproduced."""


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns after the first are aligned to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


# --- cells --------------------------------------------------------------------------------------


def number(value: float, decimals: int | None = None) -> str:
    """With one decimal, or three where the number is small; minus signs are proper."""
    if math.isnan(value):
        return NOTHING
    if decimals is None:
        decimals = 1 if abs(value) >= 2 else 3
    return f"{value:z.{decimals}f}".replace("-", "−")


def over_tasks(value: float, stderr: float) -> str:
    """Mean ± standard error, to as many decimals as the latter deserves."""
    decimals = 1
    if stderr > 0:
        decimals = 0 if stderr >= 10 else max(1, math.ceil(-math.log10(stderr)))
    return f"{number(value, decimals)} ± {number(stderr, decimals)}"


def over_seeds(scores: Sequence[float]) -> str:
    """Interquartile mean over seeds, with its interval, or with the range where seeds are few."""
    if len(scores) == 1:
        return number(scores[0])
    interval = statistics.seed_interval(np.asarray(scores, float))
    decimals = 1 if max(map(abs, scores)) >= 2 else 3
    mean, *ends = (number(value, decimals) for value in interval)
    if math.isnan(interval.low):
        low, high = number(min(scores), decimals), number(max(scores), decimals)
        return f"{mean} ({low} … {high})"
    return f"{mean} [{', '.join(ends)}]"


def scores_cell(scores: Sequence[Score]) -> str:
    """One agent's score: over tasks if trained once, else over the seeds of its training."""
    if not scores:
        return NOT_RUN
    if len(scores) == 1:
        return over_tasks(scores[0].mean, scores[0].stderr)
    return over_seeds([score.mean for score in scores])


def published_cell(theirs: Published | None, ours: Score | None = None) -> str:
    """A published number; ✓ where it came to us unverified and our simulation agrees."""
    if theirs is None:
        return NOTHING
    if theirs.stderr is not None:
        return over_tasks(theirs.value, theirs.stderr)
    agrees = ours is not None and abs(ours.mean - theirs.value) <= AGREES * ours.stderr
    return number(theirs.value) + (" ✓" if agrees and theirs.source == "duan2016" else "")


# --- tables -------------------------------------------------------------------------------------


def comparison(
    rows: Sequence[Row],
    algos: Sequence[str],
    baseline_rows: Sequence[Row],
    found: Gathered,
    more: str = "",
    trained_rows: Sequence[Row] = (),
) -> str:
    """A table of the paper: greedy, sampled, `more`, classical algorithms, and what it all cost.

    Args:
        rows: of the table.
        algos: that were trained.
        baseline_rows: that classical algorithms played.
        found: results.
        more: Markdown of the experiment's own.
        trained_rows: whose trainings are listed, if others than `rows`.
    """
    sampled = ["The same policies, sampled:", meta_rl(rows, algos, found, "sampled")]
    parts = [
        "Greedy policies:",
        meta_rl(rows, algos, found, "greedy"),
        *(sampled if any(row.name in found.trained for row in rows) else []),
        more,
        "Classical algorithms on the same tasks (in parentheses, a tuned constant):",
        baselines(baseline_rows, found),
        costs(trained_rows or rows, found),
    ]
    return "\n\n".join(filter(None, parts))


def meta_rl(rows: Sequence[Row], algos: Sequence[str], found: Gathered, manner: str) -> str:
    """Trained agents: a line a row; of each algorithm ours and, where there is one, the paper's."""
    in_paper = [algo for algo in algos if any(published(row.name, algo) for row in rows)]
    header = ["tasks and budget", "preset, seeds × tasks"]
    for algo in algos:
        header += [algorithm_title(algo), *(["paper"] if algo in in_paper else [])]
    header += [f"{algorithm_title('rl3')} − {algorithm_title('rl2')}", "optimum"]
    lines = []
    for row in rows:
        line = [row.title, preset_cell(found.trained.get(row.name, []))]
        for algo in algos:
            line.append(scores_cell(found.scores(row, f"{algo} {manner}")))
            if algo in in_paper:
                line.append(published_cell(published(row.name, algo)))
        difference = paired_cell(found.trained.get(row.name, []), f"rl3 {manner}", f"rl2 {manner}")
        lines.append([*line, difference, _optimum(row, found)])
    return table(header, lines)


def preset_cell(results: Sequence[Result]) -> str:
    """How much was run: "quick, 2 × 1000" is two seeds, each scored on a thousand tasks."""
    if not results:
        return NOTHING
    return f"{results[0].preset}, {len(results)} × {results[0].n_tasks}"


def seeds_cell(results: Sequence[Result], seeds: int | None = None) -> str:
    """The same without tasks: "quick, 2"; `seeds` where one result is of several."""
    return f"{results[0].preset}, {seeds or len(results)}" if results else NOTHING


def paired_cell(results: Sequence[Result], name: str, other: str) -> str:
    """How much better a contender is than another: on the same tasks, or by seed if several."""
    pairs = [(r.scores[name], r.scores[other]) for r in results if {name, other} <= set(r.scores)]
    if not pairs:
        return NOTHING
    if len(pairs) == 1:
        ((a, b),) = pairs
        difference = statistics.paired_difference(np.asarray(a.returns), np.asarray(b.returns))
        return over_tasks(difference.mean, difference.stderr)
    return over_seeds([a.mean - b.mean for a, b in pairs])


def _optimum(row: Row, found: Gathered) -> str:
    scores = found.scores(row, OPTIMAL)
    return over_tasks(scores[0].mean, scores[0].stderr) if scores else NOT_RUN


def baselines(rows: Sequence[Row], found: Gathered) -> str:
    """Classical algorithms: a line each; ours and the published number for every row."""
    titles: dict[str, str] = {}
    for result in itertools.chain.from_iterable(map(found.of_baselines, rows)):
        titles |= {name: score.title for name, score in result.scores.items()}
    if not titles:
        return f"Baselines: {NOT_RUN}."
    if any(published(row.name, DUAN) for row in rows):
        titles[DUAN] = "RL² (Duan et al.)"
    header = ["algorithm"]
    for row in rows:
        header += [row.title, "published"]
    lines = [[title, *_baseline_cells(name, rows, found)] for name, title in titles.items()]
    return table(header, lines)


def _baseline_cells(name: str, rows: Sequence[Row], found: Gathered) -> list[str]:
    cells = []
    for row in rows:
        score = next(iter(found.scores(row, name)), None)
        ours = NOTHING if found.of_baselines(row) else NOT_RUN
        if score is not None:
            constant = "" if score.constant is None else f" ({score.constant:g})"
            ours = over_tasks(score.mean, score.stderr) + constant
        cells += [ours, published_cell(published(row.name, name.removesuffix("-prior-0")), score)]
    return cells


def costs(rows: Sequence[Row], found: Gathered) -> str:
    """What the trainings took, on what, and how to repeat them; every training once."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        results = found.trained.get(row.name, [])
        for algo in row.trainings:
            trained = [result for result in results if algo in result.trainings]
            if trained:
                lines.setdefault(trained[0].trainings[algo].command, _cost_line(trained, algo))
    header = ["training (seed 0)", "seeds", "env steps", "wall-clock", "hardware", "commit"]
    return table(header, lines.values()) if lines else ""


def _cost_line(trained: Sequence[Result], algo: str) -> list[str]:
    records = [result.trainings[algo] for result in trained]
    seeds_together = [result.extra.get("seeds", {}).get(algo, []) for result in trained]
    first = records[0]
    return [
        f"`{first.command}`",
        str(sum(max(1, len(seeds)) for seeds in seeds_together)),
        f"{first.env_steps / 1e6:.2f} M",
        duration(float(np.mean([record.seconds for record in records]))),
        hardware(first.provenance),
        commit(first.provenance),
    ]


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def hardware(provenance: Mapping[str, Any]) -> str:
    """The device, or of a CPU its name and cores."""
    if provenance["platform"] == "cpu":
        return f"{provenance['cores']} cores, {provenance['processor']}"
    return f"{provenance['devices']} × {provenance['device']}"


def commit(provenance: Mapping[str, Any]) -> str:
    """Short; + marks local changes."""
    name = provenance["commit"] or "unknown"
    return name[:7] + ("+" if name.endswith("+") else "")
