"""`python -m rl3jax.compare RUN …`: learning curves of several runs in one figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from rl3jax import plots
from rl3jax.checks import ConfigError, is_finite, shown
from rl3jax.commands import distinct_names, free_path, one_line_errors, parse
from rl3jax.config import Resolved
from rl3jax.files import FileError
from rl3jax.loggers import Line
from rl3jax.runs.folder import RunFolder


@dataclass(frozen=True)
class CompareArgs:
    """Plot the learning curves of runs in the same tasks, over env steps and over seconds."""

    runs: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN")]]
    """Run folders of rl3jax.train."""
    out: Path | None = None
    """File to write, a .png; one that is there is replaced. None: compare.png in this folder, or,
    if that is taken, compare-2.png, …"""
    env: str | None = None
    """Of runs in an environment module:Class, that one: its code is not run otherwise."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = parse(CompareArgs, argv, "compare")
    with one_line_errors():
        out, title, curves = _read(args)
        plots.learning_curves(curves, title, out)
        Console().print(_table(curves, title))
        print(f"written to {out}")


def _read(args: CompareArgs) -> tuple[Path, str, dict[str, list[Line]]]:
    """Where to draw, the tasks' name, and what the runs' iterations told, by the runs' names."""
    if not args.runs:
        raise ConfigError("give the run folders to compare")
    out = args.out or free_path("compare.png")
    if out.suffix != ".png":
        raise ConfigError(f"--out {out} must end in .png")
    folders = [RunFolder(path) for path in args.runs]
    configs = [folder.read_config(args.env) for folder in folders]
    _check_comparable(args.runs, configs)
    names = distinct_names([config.algo for config in configs], args.runs)
    lines = map(_lines_of, folders)
    return out, _tasks_of(configs[0]), dict(zip(names, lines, strict=True))


def _lines_of(folder: RunFolder) -> list[Line]:
    """What a run's iterations told, as far as it is compared.

    NaN stands where a number is not defined, or is none that a run can reach.

    Raises:
        FileError: if it is no numbers.
    """
    lines = folder.read_metrics()
    if not lines:
        raise FileError(f"{folder.metrics} has no iterations yet")
    for line in lines:
        for name in ("env_steps", "seconds", "mean_return", "validation_return"):
            value = line.get(name, None if name == "validation_return" else "missing")
            if not isinstance(value, int | float | None):
                raise FileError(f"{folder.metrics} is damaged: {name} is {shown(value)}")
            if name in line:
                line[name] = value if value is not None and is_finite(value) else math.nan
    return lines


def _tasks_of(config: Resolved) -> str:
    variation = f" ({config.variation})" if config.variation else ""
    return f"{config.env}{variation}, H = {config.horizon}"


def _check_comparable(paths: Sequence[Path], configs: Sequence[Resolved]) -> None:
    """Raises ConfigError if returns are not of the same tasks."""

    def tasks(config: Resolved) -> object:
        return config.env, config.variation, config.horizon, config.env_options

    for path, config in zip(paths, configs, strict=True):
        if tasks(config) != tasks(configs[0]):
            raise ConfigError(
                f"{path} is a run on {_tasks_of(config)}, {paths[0]} one on "
                f"{_tasks_of(configs[0])}: their returns cannot be compared"
            )


def _table(curves: dict[str, list[Line]], title: str) -> Table:
    """What each run has reached, and at what cost."""
    table = Table(title=title, title_justify="left")
    table.add_column("run")
    for column in ("env steps", "seconds", "return", "best validation"):
        table.add_column(column, justify="right")
    for name, lines in curves.items():
        validated = [
            score for line in lines if is_finite(score := line.get("validation_return", math.nan))
        ]
        last = lines[-1]
        table.add_row(
            name,
            f"{last['env_steps']:,}",
            f"{sum(line['seconds'] for line in lines):.0f}",
            f"{last['mean_return']:.2f}",
            f"{max(validated):.2f}" if validated else "–",
        )
    return table


if __name__ == "__main__":
    main()
