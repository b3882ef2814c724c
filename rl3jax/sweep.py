"""`python -m rl3jax.sweep`: a grid of seeds and traced numbers, trained as one program.

The folder that it writes:

config.json   the resolved config, but for the grid's values
sweep.json    the grid, every run (values, seed, returns, score, time), provenance
sweep.csv     a line a run
sweep.png     scores over the values, and learning curves
best_agent/   the last policy of the best run, what `load_agent` reads
"""

import csv
import dataclasses
import io
import itertools
import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Bool, Float
from rich.console import Console
from rich.table import Table

from rl3jax import devices, plots, run_folder
from rl3jax.agent import PolicyAgent
from rl3jax.checkpoint import save_agent
from rl3jax.checks import ConfigError, check_at_most, check_size, nearest_name, shown
from rl3jax.commands import (
    INTERRUPTED,
    NOT_FINITE,
    fail,
    one_line_errors,
    parse,
    prepare_jax,
    stop_signals,
)
from rl3jax.config import Config, Hyperparams
from rl3jax.devices import Devices
from rl3jax.evaluation import check_tasks, evaluate_agent
from rl3jax.files import write_text
from rl3jax.finite import all_finite
from rl3jax.memory import check_memory
from rl3jax.progress import Progress
from rl3jax.run_folder import RunFolder, provenance
from rl3jax.seeding import training_key, validation_key
from rl3jax.statistics import MIN_SEEDS, Estimate, mean_and_stderr, seed_interval
from rl3jax.trainer import Metrics, Trainer, TrainState, make_trainer

SWEPT = tuple(f.name for f in dataclasses.fields(Hyperparams) if f.name != "iterations")
MOST_RUNS = 100_000
UNUSED = ("validate_every", "checkpoint_every", "draw_every")

Values = dict[str, float]
"""A point of the grid: a value for each swept name."""


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


@dataclass(frozen=True)
class Outcome:
    """What came of P points with S seeds each, over I iterations.

    Attributes:
        points: the values of each.
        seeds: of every point.
        returns: `[P, S, I]`, of the sampling policy in the iteration's tasks; NaN from where a run
            diverged.
        scores: `[P, S]`, mean of the last greedy policy over validation tasks; NaN if diverged.
        stderrs: `[P, S]`, of these means, over tasks.
        seconds: `[I]`, of all runs together; the first iteration's include compilation.
        steps: env steps of a run in an iteration.
    """

    points: Sequence[Values]
    seeds: Sequence[int]
    returns: Float[np.ndarray, "P S I"]
    scores: Float[np.ndarray, "P S"]
    stderrs: Float[np.ndarray, "P S"]
    seconds: Float[np.ndarray, " I"]
    steps: int

    @property
    def n_runs(self) -> int:
        """Of all points together."""
        return self.scores.size

    @property
    def best(self) -> tuple[int, int] | None:
        """Point and seed, as indices, of the run with the best score; None if all diverged."""
        if np.isnan(self.scores).all():
            return None
        point, seed = np.unravel_index(np.nanargmax(self.scores), self.scores.shape)
        return int(point), int(seed)

    @property
    def steps_per_second(self) -> float:
        """Env steps of all runs together, without the first iteration if there are others."""
        seconds = self.seconds[1:] if len(self.seconds) > 1 else self.seconds
        return float(self.steps * self.n_runs / seconds.mean()) if seconds.size else math.nan

    def finished_scores(self, point: int) -> Float[np.ndarray, " n"]:
        """Of the seeds of a point that have not diverged."""
        return self.scores[point][~np.isnan(self.scores[point])]

    def estimate(self, point: int) -> Estimate:
        """Mean score of a point and its standard error, over the seeds that have not diverged."""
        scores = self.finished_scores(point)
        return mean_and_stderr(scores) if scores.size else Estimate(math.nan, math.nan)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = parse(SweepArgs, argv, "sweep")
    if argv is None:  # the process is this command's own
        prepare_jax()
    with one_line_errors():
        check_size("seeds", args.seeds)
        _check_unused(args.config)
        if args.grid == ():
            raise ConfigError("--grid has no values; give NAME=VALUE,VALUE,…")
        points = make_points(parse_grid(args.grid or ()))
        n_runs = len(points) * args.seeds
        check_at_most("grid points × seeds", n_runs, MOST_RUNS)
        configs = configs_of(args.config, points)
        # Whole runs are split over devices, not their tasks: they need not talk to each other.
        trainer = make_trainer(dataclasses.replace(args.config, devices=1))
        runs_on = devices.choose(args.config.devices, {"the runs": n_runs})
        print(check_memory(trainer, trace=partial(trace_update, runs_on, n_runs)))
        folder = run_folder.create_for_sweep(trainer.config, args.config.out)
        seeds = range(args.config.seed, args.config.seed + args.seeds)
        print(f"grid points: {len(points)}, seeds: {len(seeds)}; {n_runs} runs as one program")
        states = start(trainer, configs, seeds)
        states, returns, seconds = _train(trainer, runs_on, states, folder)
        scores, stderrs = _score(trainer, states, np.isfinite(returns).all(axis=0))
    shape = (len(points), len(seeds))
    steps = trainer.config.n_tasks * trainer.config.horizon
    outcome = Outcome(
        points,
        seeds,
        returns.T.reshape(*shape, -1),
        scores.reshape(shape),
        stderrs.reshape(shape),
        seconds,
        steps,
    )
    _report(trainer, states, outcome, folder)


# --- the grid -----------------------------------------------------------------------------------


def parse_grid(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Values by name, from `"name=value,value"` each.

    Raises:
        ConfigError: if a name cannot be swept or is given twice, or if its values are no numbers,
            repeated or missing.
    """
    grid: dict[str, tuple[float, ...]] = {}
    for text in texts:
        written, equals, values = text.partition("=")
        name = written.strip().replace("-", "_")
        if not equals:
            raise ConfigError(f"--grid takes NAME=VALUE,VALUE,…, not {shown(text)}")
        _check_swept(name)
        if name in grid:
            raise ConfigError(f"--grid has {name} twice")
        grid[name] = _parse_values(name, values)
    return grid


def _check_swept(name: str) -> None:
    if name in SWEPT:
        return
    if name == "seed":
        raise ConfigError("seeds are swept by --seeds N, from --seed on; not by --grid")
    if name in Config.__dataclass_fields__:
        raise ConfigError(f"{name} shapes the program; only {', '.join(SWEPT)} can be swept")
    raise ConfigError(f"--grid has no {shown(name)}; {nearest_name(name, SWEPT)}")


def _parse_values(name: str, text: str) -> tuple[float, ...]:
    values: list[float] = []
    for written in text.split(",") if text.strip() else []:
        try:
            value = float(written)
        except ValueError:
            raise ConfigError(f"{name} must be a number, not {shown(written)}") from None
        if value in values:
            raise ConfigError(f"--grid has {name} = {value:g} twice")
        values.append(value)
    if not values:
        raise ConfigError(f"--grid has no values of {name}; give {name}=VALUE,VALUE,…")
    return tuple(values)


def make_points(grid: Mapping[str, tuple[float, ...]]) -> list[Values]:
    """Every combination; the last name varies fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def configs_of(config: Config, points: Sequence[Values]) -> list[Config]:
    """The resolved config of every point.

    Raises:
        ConfigError: if a value is out of its range, or the config sets a swept name itself.
    """
    for name in points[0]:
        if getattr(config, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{name} is given twice: by {flag} and in --grid")
    changes: list[dict[str, Any]] = [*points]
    return [dataclasses.replace(config, **values).resolve() for values in changes]


def _check_unused(config: Config) -> None:
    """Flags of a run that would do nothing here."""
    given = [name for name in UNUSED if getattr(config, name) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(
            f"a sweep is scored at its end, and neither checkpointed nor drawn; it takes no {flags}"
        )


# --- all runs at once ---------------------------------------------------------------------------


def start(trainer: Trainer, configs: Sequence[Config], seeds: Sequence[int]) -> TrainState:
    """Fresh states of all runs, `[configs × seeds]`; seeds vary fastest."""
    runs = list(itertools.product([config.hyperparams() for config in configs], seeds))
    # As data: the check of key reuse takes a stack of keys for a use of them.
    keys = jnp.stack([jax.random.key_data(training_key(seed)) for _, seed in runs])
    hyperparams = jax.tree.map(lambda *x: jnp.stack(x), *(values for values, _ in runs))
    return jax.jit(jax.vmap(trainer.init))(jax.random.wrap_key_data(keys), hyperparams)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def update(
    trainer: Trainer, runs_on: Devices, states: TrainState
) -> tuple[TrainState, Metrics, Bool[Array, " runs"]]:
    """One meta-iteration of every run, and whether all numbers in it are finite."""
    states, metrics = runs_on.split(jax.vmap(trainer.update))(states)
    return states, metrics, jax.vmap(all_finite)((states.models, metrics))


def trace_update(runs_on: Devices, n_runs: int, trainer: Trainer) -> jax.stages.Traced:
    """Trace `update` of so many runs, as it is called later; nothing is computed."""
    state = jax.eval_shape(lambda: trainer.init(training_key(0)))
    states = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n_runs, *x.shape), x.dtype), state)
    return update.trace(trainer, runs_on, runs_on.deal(states))


def _train(
    trainer: Trainer, runs_on: Devices, states: TrainState, folder: RunFolder
) -> tuple[TrainState, Float[np.ndarray, "I runs"], Float[np.ndarray, " I"]]:
    """All iterations, unless all runs diverge or a signal asks to stop.

    Returns:
        The last states; mean returns, NaN from where a run diverged; seconds.
    """
    config = trainer.config
    n_runs = len(states.iteration)
    states = runs_on.deal(states)
    steps = n_runs * config.n_tasks * config.horizon
    alive = np.ones(n_runs, bool)
    returns: list[np.ndarray] = []
    seconds: list[float] = []
    with Progress(config, folder.path, 0) as progress, stop_signals() as stop:
        while len(returns) < config.iterations and alive.any() and not stop():
            started = time.perf_counter()
            states, metrics, finite = update(trainer, runs_on, states)
            alive = alive & np.asarray(finite)  # waits for the device
            seconds.append(time.perf_counter() - started)
            check_tasks(
                int(metrics.overflowed_tasks.max()),
                int(metrics.out_of_range_tasks.max()),
                trainer.n_tasks,
            )
            returns.append(np.where(alive, metrics.mean_return, np.nan))
            line = {
                "iteration": len(returns),
                "mean_return": returns[-1][alive].mean() if alive.any() else math.nan,
                "steps_per_second": steps / seconds[-1],
            }
            progress.show(line)
    states = jax.device_put(states, jax.devices()[0])
    return states, np.array(returns, float).reshape(-1, n_runs), np.array(seconds)


def _score(
    trainer: Trainer, states: TrainState, alive: Bool[np.ndarray, " runs"]
) -> tuple[Float[np.ndarray, " runs"], Float[np.ndarray, " runs"]]:
    """Mean return of every run's greedy policy on the validation tasks, and its standard error."""
    config = trainer.config
    scores = np.full((2, len(alive)), np.nan)
    for run in np.flatnonzero(alive).tolist():
        score = evaluate_agent(
            jax.device_get(_agent(trainer, states, run)),
            trainer.env,
            config.horizon,
            config.validation_tasks,
            validation_key(),
            batch_size=config.rollout_chunk,
        )
        scores[:, run] = score.mean, score.stderr
    return scores[0], scores[1]


def _agent(trainer: Trainer, states: TrainState, run: int) -> PolicyAgent:
    """The greedy policy of one of the runs."""
    all_runs = trainer.agent(states)
    return all_runs.replace(params=jax.tree.map(lambda x: x[run], all_runs.params))


# --- what came of them --------------------------------------------------------------------------


def _report(trainer: Trainer, states: TrainState, outcome: Outcome, folder: RunFolder) -> None:
    """Files, table, and what to do next."""
    config, best = trainer.config, outcome.best
    done = outcome.returns.shape[-1]
    title = f"{config.algo} ({config.network}) on {config.env}, H = {config.horizon}"
    write_text(folder.path / "sweep.json", _json(outcome))
    write_text(folder.path / "sweep.csv", _csv(outcome))
    if best is not None:
        run = best[0] * len(outcome.seeds) + best[1]
        save_agent(folder.best_agent, _agent(trainer, states, run))
    caption = f"{title}: greedy, {config.validation_tasks} validation tasks, iteration {done}"
    Console().print(make_table(outcome, caption))
    plots.sweep(
        outcome.points, outcome.scores, outcome.returns, outcome.steps, title,
        folder.path / "sweep.png",
    )  # fmt: skip
    print(f"figure: {folder.path / 'sweep.png'}; every run: {folder.path / 'sweep.csv'}")
    if best is None:
        fail("every run diverged. Try lower learning rates, or a lower --grad-clip", NOT_FINITE)
    print(f"the policy of the best run: {folder.best_agent}; to score it on held-out tasks:")
    print(f"  python -m rl3jax.evaluate {shlex.quote(str(folder.path))} --policy best")
    if done < config.iterations:
        print(f"stopped after iteration {done} of {config.iterations}; these are the scores then")
        raise SystemExit(INTERRUPTED)


def make_table(outcome: Outcome, title: str) -> Table:
    """A line a point, best first; means are over the seeds that have not diverged."""
    estimates = [outcome.estimate(point) for point in range(len(outcome.points))]
    order = np.argsort([-estimate.value for estimate in estimates], kind="stable")  # NaN last
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in (*outcome.points[0], "mean ± s.e.", "IQM [95 %]", "best seed", "diverged"):
        table.add_column(name, justify="right", overflow="fold")
    for rank, point in enumerate(order.tolist()):
        scores = outcome.finished_scores(point)
        table.add_row(
            "best" if rank == 0 and scores.size else "",
            *(f"{value:g}" for value in outcome.points[point].values()),
            _with_stderr(estimates[point]),
            _with_interval(scores),
            _best_seed(outcome, point),
            f"{len(outcome.seeds) - scores.size} of {len(outcome.seeds)}",
            style="bold" if rank == 0 else None,
        )
    return table


def _with_stderr(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "–"
    stderr = "" if math.isnan(estimate.stderr) else f" ± {estimate.stderr:.2f}"
    return f"{estimate.value:.2f}{stderr}"


def _with_interval(scores: Float[np.ndarray, " n"]) -> str:
    if len(scores) < MIN_SEEDS:
        return "–"
    interval = seed_interval(scores)
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _best_seed(outcome: Outcome, point: int) -> str:
    scores = outcome.scores[point]
    if np.isnan(scores).all():
        return "–"
    best = int(np.nanargmax(scores))
    return f"{outcome.seeds[best]} ({scores[best]:.2f})"


def _records(outcome: Outcome) -> list[dict[str, Any]]:
    """A run each, JSON-ready; its seconds are those of all, which ran side by side."""
    records = []
    for point, seed in np.ndindex(outcome.scores.shape):
        returns = outcome.returns[point, seed]
        finite = returns[~np.isnan(returns)]
        records.append(
            {
                "values": {n: _json_number(v) for n, v in outcome.points[point].items()},
                "seed": outcome.seeds[seed],
                "validation_return": _json_number(float(outcome.scores[point, seed])),
                "validation_stderr": _json_number(float(outcome.stderrs[point, seed])),
                "diverged_in": len(finite) + 1 if len(finite) < len(returns) else None,
                "seconds": float(outcome.seconds.sum()),
                "env_steps_per_second": _json_number(outcome.steps_per_second / outcome.n_runs),
                "mean_return": finite.tolist(),
            }
        )
    return records


def _json_number(value: float) -> float | str | None:
    """JSON has neither NaN nor infinity."""
    if math.isnan(value):
        return None
    return "inf" if value == math.inf else value


def _json(outcome: Outcome) -> str:
    names = outcome.points[0]
    records = _records(outcome)
    best = outcome.best
    report = {
        "grid": {
            name: [_json_number(v) for v in dict.fromkeys(p[name] for p in outcome.points)]
            for name in names
        },
        "seeds": list(outcome.seeds),
        "iterations": outcome.returns.shape[-1],
        "env_steps_per_iteration": outcome.steps,
        "seconds": float(outcome.seconds.sum()),
        "env_steps_per_second": _json_number(outcome.steps_per_second),
        "best": best and {k: records[best[0] * len(outcome.seeds) + best[1]][k]
                          for k in ("values", "seed", "validation_return")},
        "runs": records,
        "provenance": provenance(),
    }  # fmt: skip
    return json.dumps(report, allow_nan=False) + "\n"


def _csv(outcome: Outcome) -> str:
    """A line a run, without the history."""
    lines = []
    for record in _records(outcome):
        returns = record.pop("mean_return")
        values = record.pop("values")
        lines.append({**values, **record, "last_mean_return": returns[-1] if returns else None})
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


if __name__ == "__main__":
    main()
