"""Are the tests sharp? Changes the package in one place at a time and looks whether a test fails.

    python -m tests.mutants --count 100 --seed 0

Draws mutants of the modules in `TESTS`, runs the module's fast tests on a copy of the package with
the change, and lists the survivors: changes that no test noticed. Exit code 1 if too many survive.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.mutants.mutation import KINDS, Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
CAUGHT_AT_LEAST = 0.8
PATIENCE = 4.0  # a mutant never ends if its tests take so many times as long as without a change
PLUGIN = "tests.mutants.quicker"
TESTS = {
    "rl3jax/object_level/*.py": "tests/object_level/test_*.py",
    "rl3jax/learning/*.py": "tests/learning/test_*.py tests/test_trainer.py",
    "rl3jax/policy/*.py": "tests/policy/test_*.py tests/test_agent.py",
}
"""Modules to change, and the tests of each: its namesake runs first, then the shorter files."""


class Suspect(NamedTuple):
    """A mutant of one module, and the tests that should catch it."""

    module: Path
    mutant: Mutant
    tests: tuple[str, ...]

    def __str__(self) -> str:
        mutant = self.mutant
        return f"{self.module}:{mutant.line}:{mutant.column}: {mutant.before} -> {mutant.after}"

    @property
    def line(self) -> str:
        """The line as it is with the change."""
        return self.mutant.source.splitlines()[self.mutant.line - 1].strip()


class Verdict(NamedTuple):
    """Whether the tests caught it, in how many seconds, and what they said."""

    caught: bool
    seconds: float
    outcome: str


def suspects(root: Path = ROOT) -> Iterator[Suspect]:
    """All mutants of all modules, always in one order."""
    for modules, patterns in TESTS.items():
        tests = [test for pattern in patterns.split() for test in sorted(root.glob(pattern))]
        for path in sorted(root.glob(modules)):
            tests.sort(key=lambda test: (test.stem != f"test_{path.stem}", test.stat().st_size))
            names = tuple(str(test.relative_to(root)) for test in tests)
            for mutant in mutants(path.read_text(encoding="utf-8")):
                yield Suspect(path.relative_to(root), mutant, names)


def copy_of_project(source: Path, target: Path) -> None:
    """Copies what the tests need."""
    for folder in ("rl3jax", "tests"):
        shutil.copytree(source / folder, target / folder)
    shutil.copy(source / "pyproject.toml", target)


def run(
    project: Path, tests: tuple[str, ...], limit: float, changed: Suspect | None = None
) -> Verdict:
    """Runs tests in a copy of the project, with one change or none, up to the first failure."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        copy_of_project(project, copy := Path(scratch))
        if changed is not None:
            (copy / changed.module).write_text(changed.mutant.source, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-m", "not slow"]
        command += ["-p", "no:cacheprovider", "-p", PLUGIN, *tests]
        environment = os.environ | {
            "PYTHONPATH": scratch,
            "PYTHONDONTWRITEBYTECODE": "1",
            "JAX_COMPILATION_CACHE_DIR": str(project / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        with (copy / "output").open("w+", encoding="utf-8", errors="replace") as output:
            try:
                code = subprocess.run(
                    command, cwd=copy, env=environment, stdout=output, stderr=output, timeout=limit
                ).returncode
            except subprocess.TimeoutExpired:
                return Verdict(True, time.monotonic() - start, "no end")
            output.seek(0)
            last_line = output.read().strip().rpartition("\n")[2]
    # 1: a test failed. 2: none could be collected, as when the change breaks an import.
    return Verdict(code in (1, 2), time.monotonic() - start, last_line)


def limits(project: Path, drawn: list[Suspect]) -> dict[frozenset[str], float]:
    """Seconds that each set of tests may take, from what it takes without a change."""
    found = {}
    for tests in {frozenset(suspect.tests): suspect.tests for suspect in drawn}.values():
        verdict = run(project, tests, limit=3600)
        print(f"{verdict.seconds:4.0f} s  without a change  [{verdict.outcome}]", flush=True)
        if " passed" not in verdict.outcome or verdict.caught:
            raise SystemExit(f"without a change these must pass: {' '.join(tests)}")
        found[frozenset(tests)] = 60 + PATIENCE * verdict.seconds
    return found


def judge(project: Path, drawn: list[Suspect], jobs: int) -> list[Verdict]:
    """Runs the tests on every mutant, and prints what they found."""
    limit_of = limits(project, drawn)

    def one(suspect: Suspect) -> Verdict:
        verdict = run(project, suspect.tests, limit_of[frozenset(suspect.tests)], suspect)
        found = "caught" if verdict.caught else "SURVIVED"
        print(f"{verdict.seconds:4.0f} s  {found:8}  {suspect}  [{verdict.outcome}]", flush=True)
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, drawn))


def report(drawn: list[Suspect], verdicts: list[Verdict]) -> float:
    """Prints a table by kinds and the survivors; returns the share that was caught."""
    tried = Counter(suspect.mutant.kind for suspect in drawn)
    caught = Counter(s.mutant.kind for s, v in zip(drawn, verdicts, strict=True) if v.caught)
    print("\nkind        tried  caught")
    for kind in KINDS:
        print(f"{kind:10}  {tried[kind]:5}  {caught[kind]:6}")
    share = caught.total() / tried.total()
    print(f"{'all':10}  {tried.total():5}  {caught.total():6}  ({share:.0%})\n\nsurvivors:")
    for suspect, verdict in zip(drawn, verdicts, strict=True):
        if not verdict.caught:
            print(f"  {suspect}", f"    {suspect.line}", sep="\n")
    return share


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.mutants", description="Are the tests sharp?")
    parser.add_argument("--count", type=int, default=100, help="how many mutants to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--jobs", type=int, default=1, help="mutants tried at a time")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="of those drawn, the ones with any of these"
    )
    parser.add_argument("--list", action="store_true", help="show what is drawn; run nothing")
    args = parser.parse_args()
    everything = list(suspects())
    drawn = random.Random(args.seed).sample(everything, min(args.count, len(everything)))
    drawn = [suspect for suspect in drawn if any(text in str(suspect) for text in args.only)]
    if args.list or not drawn:
        print(*drawn, f"{len(drawn)} of {len(everything)} mutants", sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as project:  # which work on the sources does not reach
        copy_of_project(ROOT, Path(project))
        verdicts = judge(Path(project), drawn, args.jobs)
    return int(report(drawn, verdicts) < CAUGHT_AT_LEAST)


if __name__ == "__main__":
    sys.exit(main())
