"""`python -m tests.fuzz`: ten thousand inputs, and what became of them.

Every one must be used or be refused in one clear line; the exit code is 1 if any is not. The same
seed tries the same inputs.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

import tests.conftest  # noqa: F401 (as strict as the tests; before JAX)
from tests.fuzz import command_lines, files, inputs

Check = Callable[[Any], str]


@dataclass
class Tally:
    """What became of the inputs of one kind."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Any, BaseException]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        """Inputs of all outcomes."""
        return self.outcomes.total() + len(self.failures)


def tally(kind: str, strategy: st.SearchStrategy[Any], check: Check, n: int, seed: int) -> Tally:
    """Tries `n` inputs; failures are kept, and none ends it."""
    result, started = Tally(kind), time.perf_counter()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n,
        database=None,
        derandomize=False,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def try_one(value: Any) -> None:
        try:
            result.outcomes[check(value)] += 1
        except Exception as error:
            result.failures.append((value, error))

    try_one()
    result.seconds = time.perf_counter() - started
    return result


@contextmanager
def empty_folder() -> Iterator[Path]:
    """A working directory that nothing may be written into."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def run(examples: int, seed: int) -> list[Tally]:
    """All kinds: as many argument lists as asked for, and of the rest a part of that."""
    with empty_folder() as folder, tempfile.TemporaryDirectory() as other:
        damaged = files.DamagedFiles(Path(other))
        lines = (command_lines.command_lines(), command_lines.command_line_outcome)
        kinds: list[tuple[str, st.SearchStrategy[Any], Check, int]] = [
            ("command lines", *lines, examples),
            ("damaged files", files.damages, damaged.outcome, examples // 4),
            ("configs", inputs.configs(), inputs.config_outcome, examples // 4),
            ("configs trained", inputs.small_configs(), inputs.training_outcome, examples // 500),
        ]
        tallies = [tally(*kind, seed) for kind in kinds if kind[3]]
        written = list(folder.iterdir())
    if written:
        tallies[-1].failures.append((written, AssertionError("files were written")))
    return tallies


def report(tallies: list[Tally], console: Console) -> None:
    """A line a kind, and the shortest input of each that failed."""
    table = Table()
    for name in ("kind", "tried", "accepted", "refused in one line", "failures", "seconds"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for t in tallies:
        numbers = [t.tried, t.outcomes[inputs.ACCEPTED], t.outcomes[inputs.REFUSED]]
        table.add_row(t.kind, *map(str, [*numbers, len(t.failures)]), f"{t.seconds:.0f}")
    console.print(table)
    sys.set_int_max_str_digits(0)
    for t in tallies:
        for value, error in sorted(t.failures, key=lambda failure: len(repr(failure[0])))[:3]:
            console.print(f"{t.kind}: {value!r:.1000}", markup=False)
            console.print(f"  {type(error).__name__}: {error!s:.1000}", markup=False)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000, help="argument lists to try")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    args = parser.parse_args()
    tallies = run(args.examples, args.seed)
    report(tallies, Console())
    raise SystemExit(any(t.failures for t in tallies))


if __name__ == "__main__":
    main()
