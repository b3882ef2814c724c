"""The command that every experiment is: train, score, draw, write; what is finished stays."""

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import tyro
from rich.console import Console

import rl3jax
from experiments import scoring, training
from experiments.experiment import Experiment
from experiments.gathered import BASELINES, gather
from experiments.results import Result, ResultError, read_result, write_text
from experiments.rows import Row, Training
from experiments.sections import render
from experiments.training import TrainingError

console = Console(highlight=False, soft_wrap=True)


@dataclass
class Args:
    """Run an experiment; what is finished is not run again."""

    preset: Literal["quick", "cpu", "paper"] = "quick"
    """How much is trained: quick takes minutes and cpu an hour or two on 2 cores, paper a GPU."""
    seeds: int | None = None
    """Seeds of every training: 0, 1, … (default: as many as the preset has)."""
    rows: tuple[str, ...] = ()
    """Rows to run, by name (default: all of the preset)."""
    jobs: int = 2
    """Trainings, or rows to score, at a time (default: 2)."""
    out: Path = Path("experiments/results")
    """Folder of the result files (default: experiments/results)."""
    runs: Path = Path("runs/experiments")
    """Folder of the trainings' run folders (default: runs/experiments)."""
    dry_run: bool = False
    """Only list what would run (default: False)."""


def main(experiment: Experiment, argv: Sequence[str] | None = None) -> None:
    """Runs an experiment's rows, then writes its figures and its section."""
    args = tyro.cli(Args, prog=f"python -m experiments.{experiment.name}", args=argv)
    try:
        _run(experiment, args)
    except (ResultError, TrainingError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on from here", code=130)


def fail(message: str, code: int = 2) -> NoReturn:
    """Prints one line on stderr and ends the process."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


def _run(experiment: Experiment, args: Args) -> None:
    for name, value in (("seeds", args.seeds), ("jobs", args.jobs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    work = Work(experiment, args.preset, args.out, args.runs)
    rows, baseline_rows = _chosen(experiment, args.preset, args.rows)
    seeds = range(args.seeds or experiment.seeds[args.preset])
    missing = [(row, seed) for row in rows for seed in seeds if not work.is_done(row, seed)]
    unplayed = [row for row in baseline_rows if not work.is_done(row, None)]
    # The longest first, so that none runs on alone at the end.
    missing.sort(key=lambda pair: pair[0].horizon, reverse=True)
    unplayed.sort(key=lambda row: row.horizon, reverse=True)
    console.print(
        f"{experiment.title}: {len(rows)} rows × {len(seeds)} seeds, {len(missing)} to run; "
        f"{len(unplayed)} rows of baselines to run"
    )
    if args.dry_run:
        return _list(missing, unplayed)
    _each(work.play_baselines, [(row,) for row in unplayed], args.jobs)
    with ThreadPoolExecutor(args.jobs) as pool:  # each waits for a process of its own
        list(pool.map(lambda pair: work.train(*pair), _trainings(missing)))
    _each(work.measure, missing, args.jobs)
    work.write_section()
    return None


def _each(function: Callable[..., None], arguments: Sequence[tuple[Any, ...]], jobs: int) -> None:
    """Calls a function with each of the arguments, so many at a time.

    In processes, not threads: of two threads that traced and compiled side by side, one once
    computed a wrong score.
    """
    if min(jobs, len(arguments)) <= 1:
        for each in arguments:
            function(*each)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(function, *zip(*arguments, strict=True)))


def _chosen(
    experiment: Experiment, preset: str, names: Sequence[str]
) -> tuple[list[Row], list[Row]]:
    """The rows named, or all, for trained agents and for baselines; some are for one only."""
    rows, baseline_rows = experiment.rows(preset), experiment.baseline_rows()
    known = list(dict.fromkeys(row.name for row in [*rows, *baseline_rows]))
    for name in names:
        if name not in known:
            raise ValueError(f"unknown row {name!r}; the preset has {', '.join(known)}")
    chosen = names or known
    return (
        [row for row in rows if row.name in chosen],
        [row for row in baseline_rows if row.name in chosen],
    )


def _settings(row: Row, seed: int | None) -> dict[str, str]:
    """What a result of the row is of, by name."""
    settings = {"horizon": str(row.horizon), "n_tasks": str(row.n_tasks)}
    if seed is None:
        return settings
    return settings | {algo: training.command_line(t, seed) for algo, t in row.trainings.items()}


def _trainings(missing: list[tuple[Row, int]]) -> list[tuple[Training, int]]:
    """Each training once, though several rows may share it."""
    unique = {(t.name, seed): (t, seed) for row, seed in missing for t in row.trainings.values()}
    return list(unique.values())


def _list(missing: list[tuple[Row, int]], unplayed: list[Row]) -> None:
    for row in unplayed:
        console.print(f"baselines on {row.name}")
    for train, seed in _trainings(missing):
        console.print(training.command_line(train, seed))
    for row, seed in missing:
        console.print(f"score {row.name}, seed {seed}")


@dataclass(frozen=True)
class Work:
    """An experiment's rows in one preset: where their files are and how they come about."""

    experiment: Experiment
    preset: str
    out: Path
    runs: Path

    @property
    def folder(self) -> Path:
        """Of this preset's results."""
        return self.out / self.experiment.name / self.preset

    def path(self, row: Row, seed: int | None) -> Path:
        """The result file of a row; without a seed, of its baselines."""
        if seed is None:
            return self.out / BASELINES / f"{row.name}.json"
        return self.folder / f"{row.name}-s{seed}.json"

    def is_done(self, row: Row, seed: int | None) -> bool:
        """Whether the result is there.

        Raises:
            ResultError: if a file is there that is of other settings or another version, or was cut
                short.
        """
        path = self.path(row, seed)
        if not path.exists():
            return False
        result = read_result(path)
        theirs = {algo: record.command for algo, record in result.trainings.items()}
        theirs |= {"horizon": str(result.horizon), "n_tasks": str(result.n_tasks)}
        for name, ours in _settings(row, seed).items():
            if theirs.get(name) != ours:
                raise ResultError(
                    f"{path} is of other settings ({name}: {theirs.get(name)}, now: {ours}); "
                    "move it away to run it again"
                )
        return True

    def run_folder(self, train: Training, seed: int) -> Path:
        """Where a training's run lies."""
        return training.run_folder(self.runs / self.preset, train, seed)

    def train(self, train: Training, seed: int) -> None:
        """Trains one agent, unless that is done."""
        folder = self.run_folder(train, seed)
        training.train(train, seed, folder)
        record = training.record(train, seed, folder)
        console.print(
            f"  trained {folder.name}: {record.env_steps / 1e6:.2f} M env steps "
            f"in {record.seconds:.0f} s"
        )

    def measure(self, row: Row, seed: int) -> None:
        """Writes the result of a row and a seed, whose agents are trained."""
        folders = {algo: self.run_folder(t, seed) for algo, t in row.trainings.items()}
        agents = {
            algo: rl3jax.load_agent(training.agent_folder(path)) for algo, path in folders.items()
        }
        measured = self.experiment.measure(row, seed, agents)
        seeds = {algo: training.seeds_of(path) for algo, path in folders.items()}
        self._write(
            row,
            seed,
            scores=measured.scores,
            extra=measured.extra | ({"seeds": seeds} if any(seeds.values()) else {}),
            trainings={
                algo: training.record(t, seed, folders[algo]) for algo, t in row.trainings.items()
            },
        )
        for score in measured.scores.values():
            console.print(f"  {row.name}, seed {seed}: {score.title} {score.mean:.2f}")

    def play_baselines(self, row: Row) -> None:
        """Writes the scores of every classical baseline on a row."""
        scores = {}
        for name, score in scoring.score_baselines(row):
            scores[name] = score
            console.print(f"  {row.name}: {score.title} {score.mean:.2f} ({score.seconds:.1f} s)")
        self._write(row, None, scores=scores)

    def _write(self, row: Row, seed: int | None, **found: Any) -> None:
        """One result file."""
        command = f"python -m experiments.{self.experiment.name} --preset {self.preset}"
        command += f" --rows {row.name}" + ("" if seed is None else f" --seeds {seed + 1}")
        result = Result(
            experiment=self.experiment.name,
            preset=self.preset,
            row=row.name,
            seed=seed,
            horizon=row.horizon,
            n_tasks=row.n_tasks,
            command=command,
            provenance=rl3jax.provenance(),
            **found,
        )
        result.write(self.path(row, seed))

    def write_section(self) -> None:
        """Figures and section of what this preset has, beside its results."""
        found = gather(self.out, self.experiment.name, [self.preset])
        page = self.folder / "section.md"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(page, render(self.experiment, found, self.folder, page) + "\n")
        console.print(f"written to {page}")
