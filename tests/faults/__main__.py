"""`python -m tests.faults`: strikes real trainings with faults of every kind, and counts losses.

python -m tests.faults                    some two hundred faults
python -m tests.faults --each 1           one of every kind, in a minute or two
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from tests.faults.harness import REFUSED, SAME, Harness, LossError
from tests.faults.kinds import KINDS, can_mount

console = Console(highlight=False, soft_wrap=True)
MOST = {"killed at any moment": 50, "killed at a file": 40}
OTHERS = 15


@dataclass
class Args:
    """Strike trainings with faults."""

    each: int | None = None
    """Faults of every kind (default: 50 and 40 kills, 15 of the others)."""
    kinds: tuple[str, ...] = field(default_factory=lambda: tuple(KINDS))
    """Kinds to try (default: all)."""
    seed: int = 0
    """Decides where and when they strike (default: 0)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    args = tyro.cli(Args, prog="python -m tests.faults", args=arguments)
    counts: dict[str, Counter[str]] = {}
    losses: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        harness = Harness(Path(scratch), args.seed)
        kinds = list(args.kinds)
        if "small disk" in kinds and not can_mount(Path(scratch)):
            console.print("not tried: small disk, since no file system may be mounted here")
            kinds.remove("small disk")
        for kind in kinds:
            counts[kind] = Counter()
            for number in range(args.each or MOST.get(kind, OTHERS)):
                try:
                    counts[kind][KINDS[kind](harness)] += 1
                except LossError as error:
                    counts[kind]["lost"] += 1
                    losses.append(f"{kind}, {number}: {error}")
                    console.print(f"LOST: {losses[-1]}")
            console.print(f"{kind}: {dict(counts[kind])}")
    console.print(table_of(counts))
    if losses:
        raise SystemExit(1)


def table_of(counts: dict[str, Counter[str]]) -> Table:
    """How faults of each kind ended."""
    table = Table()
    table.add_column("fault")
    for column in ("tried", "ended as undisturbed", "refused in one line", "lost"):
        table.add_column(column, justify="right")
    total = sum(counts.values(), Counter())
    for kind, count in {**counts, "all": total}.items():
        cells = (count.total(), count[SAME], count[REFUSED], count["lost"])
        table.add_row(kind, *map(str, cells), end_section=kind == [*counts][-1])
    return table


if __name__ == "__main__":
    main()
