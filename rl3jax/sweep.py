"""`python -m rl3jax.sweep`: a grid of seeds and traced numbers, trained as one program.

The folder that it writes:

config.json   the resolved config, but for the grid's values
sweep.json    the grid, every run (values, seed, returns, score, time), provenance
sweep.csv     a line a run
sweep.png     scores over the values, and learning curves
best_agent/   the last policy of the best run, what `load_agent` reads
"""

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from rl3jax import devices
from rl3jax.agent_files import save_agent
from rl3jax.checks import ConfigError, check_at_most, check_size
from rl3jax.commands import INTERRUPTED, NOT_FINITE, fail, one_line_errors, parse, prepare_jax
from rl3jax.config import Config, Resolved
from rl3jax.memory import check_memory
from rl3jax.progress import Progress
from rl3jax.runs.batch import Batch, Values, configs_of, make_points, parse_grid
from rl3jax.runs.folder import RunFolder, new_sweep, title
from rl3jax.runs.loop import Line
from rl3jax.runs.outcome import Outcome, make_table, write
from rl3jax.trainer import make_trainer

MOST_RUNS = 100_000
UNUSED = ("validate_every", "checkpoint_every", "draw_every")


@dataclass(frozen=True)
class SweepArgs:
    """Meta-train a grid of values and seeds, all runs at once as one program, into a folder.

    Every run is the one that rl3jax.train would do with that value and seed. Memory grows with the
    number of runs. Ctrl-C finishes the iteration and ends with what there is; a sweep cannot be
    resumed.
    """

    config: tyro.conf.OmitArgPrefixes[Config] = dataclasses.field(default_factory=Config)
    seeds: int = 4
    """Runs of every point of the grid, with the seeds --seed, --seed + 1, …"""
    grid: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="NAME=VALUE,VALUE,…")] = None
    """Values to train with, every combination of them, for instance learning_rate=1e-3,2e-3
    entropy=0.01,0.03. Names: learning_rate, final_learning_rate, entropy, final_entropy, discount,
    gae_lambda, clip, weight_decay, grad_clip. None: seeds alone."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = parse(SweepArgs, argv, "sweep")
    if argv is None:  # the process is this command's own
        prepare_jax()
    with one_line_errors():
        _sweep(args)


def _plan(args: SweepArgs) -> tuple[list[Values], Batch]:
    """The points of the grid, and all runs; what is asked for is checked before anything is run."""
    check_size("seeds", args.seeds)
    _check_unused(args.config)
    if args.grid == ():
        raise ConfigError("--grid has no values; give NAME=VALUE,VALUE,…")
    points = make_points(parse_grid(args.grid or (), args.config))
    n_runs = len(points) * args.seeds
    check_at_most("grid points × seeds", n_runs, MOST_RUNS)
    configs = configs_of(args.config, points)
    seeds = range(args.config.seed, args.config.seed + args.seeds)
    # Whole runs are split over devices, not their tasks: they need not talk to each other.
    trainer = make_trainer(dataclasses.replace(args.config, devices=1))
    runs_on = devices.choose(args.config.devices, {"the runs": n_runs})
    return points, Batch(trainer, configs, seeds, runs_on)


def _sweep(args: SweepArgs) -> None:
    """From the beginning to the end."""
    points, batch = _plan(args)
    print(check_memory(batch.trainer, batch.trace))
    config, seeds = batch.trainer.config, batch.seeds
    folder = new_sweep(config, args.config.out)
    print(f"grid points: {len(points)}, seeds: {len(seeds)}; {batch.n_runs} runs as one program")
    history: list[Line] = []
    with Progress(config, folder.path, 0) as progress:
        states, returns = batch.train([progress.show, history.append])
    shape = (len(points), len(seeds))
    scores, stderrs = batch.scores(states, ~np.isnan(returns[-1])).reshape(2, *shape)
    outcome = Outcome(
        points,
        seeds,
        returns.T.reshape(*shape, -1),
        scores,
        stderrs,
        np.array([line["seconds"] for line in history]),
        config.n_tasks * config.horizon,
    )
    best = outcome.best
    if best is not None:
        save_agent(folder.best_agent, batch.agent(states, best[0] * len(seeds) + best[1]))
    _report(config, outcome, folder)


def _check_unused(config: Config) -> None:
    """Flags of a run that would do nothing here."""
    given = [name for name in UNUSED if getattr(config, name) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(
            f"a sweep is scored at its end, and neither checkpointed nor drawn; it takes no {flags}"
        )


def _report(config: Resolved, outcome: Outcome, folder: RunFolder) -> None:
    """Files, table, and what to do next."""
    done = outcome.returns.shape[-1]
    write(outcome, folder, title(config))
    caption = f"greedy, {config.validation_tasks} validation tasks, iteration {done}"
    Console().print(make_table(outcome, f"{title(config)}: {caption}"))
    print(f"figure: {folder.path / 'sweep.png'}; every run: {folder.path / 'sweep.csv'}")
    if outcome.best is None:
        fail("every run diverged. Try lower learning rates, or a lower --grad-clip", NOT_FINITE)
    print(f"the policy of the best run: {folder.best_agent}; to score it on held-out tasks:")
    print(f"  python -m rl3jax.evaluate {shlex.quote(str(folder.path))} --policy best")
    if done < config.iterations:
        print(f"stopped after iteration {done} of {config.iterations}; these are the scores then")
        raise SystemExit(INTERRUPTED)


if __name__ == "__main__":
    main()
