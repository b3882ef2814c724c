"""`python -m experiments.report`: RESULTS.md, from the result files alone."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import (
    bandits,
    continuous,
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
from experiments.gathered import gather
from experiments.published import sources
from experiments.results import write_text
from experiments.rows import PRESETS
from experiments.sections import HOW_TO_READ, render

EXPERIMENTS = tuple(
    module.EXPERIMENT
    for module in (
        bandits,
        mdps,
        gridworlds,
        popgym,
        continuous,
        memories,
        sample_efficiency,
        levers,
        training_curves,
        task_identification,
    )
)
SHORT = "docs/method.md#short-of-the-paper-and-of-our-aims"


@dataclass
class Args:
    """Write RESULTS.md and its figures."""

    results: Path = Path("experiments/results")
    """Folder of the result files (default: experiments/results)."""
    out: Path = Path("RESULTS.md")
    """The report; its figures go to the folder figures beside the results (default: RESULTS.md)."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = tyro.cli(Args, prog="python -m experiments.report", args=argv)
    try:
        _run(args)
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def _run(args: Args) -> None:
    problems: dict[str, None] = {}
    parts = [
        "# Results",
        f"Made by `python -m experiments.report` from the result files in `{args.results}` alone. "
        "Of every row the largest preset that has been run is shown.",
        HOW_TO_READ,
        "\n".join(f"- {source.title}: {source.note}." for source in sources().values()),
        f"Where scores fall short, by how much, and what was tried: [docs/method.md]({SHORT}).",
        pretrained.section(),
    ]
    for experiment in EXPERIMENTS:
        found = gather(args.results, experiment.name, PRESETS[::-1])
        parts.append(render(experiment, found, args.results / "figures", args.out))
        problems |= dict.fromkeys(found.problems)  # those of baselines are found each time
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, "\n\n".join(parts) + "\n")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
