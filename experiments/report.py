"""`python -m experiments.report`: RESULTS.md and a page for each experiment, from result files."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import (
    bandits,
    continuous,
    front,
    gridworlds,
    levers,
    mdps,
    memories,
    popgym,
    pretrained,
    sample_efficiency,
    task_identification,
    training_curves,
)
from experiments.command import fail
from experiments.experiment import Experiment
from experiments.gathered import Gathered, gather
from experiments.published import sources
from experiments.results import write_text
from experiments.rows import PRESETS
from experiments.sections import picture, render

EXPERIMENTS = tuple(
    module.EXPERIMENT
    for module in (
        bandits,
        mdps,
        gridworlds,
        continuous,
        popgym,
        memories,
        sample_efficiency,
        levers,
        training_curves,
        task_identification,
    )
)
DETAILS = "docs/results"
"""Folder of the experiments' pages, beside the front page."""
SHORT = "docs/method.md#short-of-the-paper-and-of-our-aims"

INTRO = f"""\
Return of whole meta-episodes on held-out tasks, of greedy policies: the best of our agents beside
the paper's (RL³, arXiv 2306.15909), **bold** where it is above both. Of physics, which the paper
has not, it is the return of the last episode, beside that of the optimum, which knows the task. A
domain's link leads to the agents that its experiment has trained, and to its commands; an agent in
`code` comes with the package, and [a page of theirs]({DETAILS}/pretrained.md) has its own. Where
scores fall short, by how much, and what was tried: [the method]({SHORT})."""

NOTES = """\
The best of ours is chosen by these very scores. ± is a standard error over tasks, with one seed;
(a … b) the range over few seeds, [a, b] an interval over more. Wall-clock is of one training; the
paper's is given where it is known."""

HOW_TO_READ = """\
Scores are undiscounted returns of whole meta-episodes on held-out tasks, the same for every agent.
With one seed: mean ± standard error over tasks. With more: interquartile mean over seeds of the
means over tasks, and its 95 % stratified bootstrap interval in [brackets], or in (parentheses) the
range where seeds are too few for one. Differences are paired: by task with one seed, by seed
with more. Of every row the largest preset that has been run is shown. "Not yet run" is a row whose
results are not there, or of the preset `quick` alone: that takes minutes, shows that everything
works, and is shown beside no published number. Sources of these:"""


@dataclass
class Args:
    """Write RESULTS.md, a page for each experiment, and their figures."""

    results: Path = Path("experiments/results")
    """Folder of the result files (default: experiments/results)."""
    out: Path = Path("RESULTS.md")
    """The front page; the others go to docs/results beside it, figures to the folder figures beside
    the results (default: RESULTS.md)."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = tyro.cli(Args, prog="python -m experiments.report", args=argv)
    try:
        _run(args)
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def _run(args: Args) -> None:
    details = args.out.parent / DETAILS
    details.mkdir(parents=True, exist_ok=True)
    found = {experiment.name: _gathered(args.results, experiment) for experiment in EXPERIMENTS}
    pages = {
        experiment.name: render(
            experiment, found[experiment.name], args.results / "figures", details / "a page"
        )
        for experiment in EXPERIMENTS
    }
    pages["pretrained"] = pretrained.section()
    back = f"Back to [all results, and how to read them]({os.path.relpath(args.out, details)})."
    for name, text in pages.items():
        write_text(details / f"{name}.md", f"{text}\n\n{back}\n")
    # Problems of baselines are found with every experiment.
    for problem in dict.fromkeys(line for each in found.values() for line in each.problems):
        print(f"warning: {problem}", file=sys.stderr)
    write_text(args.out, _front(args, found))
    print(f"written to {args.out} and {details}")


def _gathered(results: Path, experiment: Experiment) -> Gathered:
    """Of every row the largest preset; `quick` only where nothing published stands beside it."""
    presets = PRESETS[:0:-1] if experiment.beside_published else PRESETS[::-1]
    return gather(results, experiment.name, presets)


def _front(args: Args, found: dict[str, Gathered]) -> str:
    """The front page."""
    links = {name: f"{DETAILS}/{name}.md" for name in [*found, "pretrained"]}
    figures = [
        f"**{title}**\n\n{picture(args.results / 'figures' / name, args.out)}"
        for experiment, (name, title) in front.FIGURES.items()
        if found[experiment].trained
    ]
    details = [f"- [{pretrained.TITLE}]({links['pretrained']})"]
    for experiment in EXPERIMENTS:
        rows = {row.name for row in experiment.rows("paper")}
        done = len(rows & found[experiment.name].trained.keys())
        details.append(
            f"- [{experiment.title}]({links[experiment.name]}): {done} of {len(rows)} rows run"
        )
    parts = [
        "# Results",
        INTRO,
        front.table(found, links),
        NOTES,
        *figures,
        "## Details",
        "\n".join(details),
        "## How to read them",
        HOW_TO_READ,
        "\n".join(f"- {source.title}: {source.note}." for source in sources().values()),
        f"Made by `python -m experiments.report` from the result files in `{args.results}` alone.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
