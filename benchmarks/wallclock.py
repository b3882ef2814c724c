"""`python -m benchmarks.wallclock`: seconds and env steps until a score on held-out tasks.

Our default hyper-parameters against those of the paper (preset paper-v4), both run by rl3jax, so
that the engine's speed is no part of the difference. The greedy policy is scored every few
iterations on the same held-out tasks; scoring and compilation are not in the seconds. A score
counts as reached at the first evaluation that has it. Schedules of ours end with the run, so that a
score may be reached late in it, and not reached at all after it: that is said, with the best score.
"""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import benchmarks.all_cores  # noqa: F401 (a device for each core)
from benchmarks.measure import COLOURS, Row, machine, matrix_product, prepare, save
from rl3jax import evaluate_agent, held_out_key

# Mean returns of meta-episodes of 100 steps.
TARGETS: dict[str, tuple[float, ...]] = {"bandit": (77.0,), "mdp": (150.0, 155.0)}
CANDIDATES = ("defaults", "paper-v4")


@dataclass
class Args:
    """Time training until it reaches a score."""

    envs: tuple[Literal["bandit", "mdp"], ...] = ("bandit", "mdp")
    """Environments (default: all)."""
    candidates: tuple[str, ...] = CANDIDATES
    """Hyper-parameters (default: ours and the paper's)."""
    max_seconds: float = 600.0
    """Training seconds of a run at most (default: 600)."""
    every: int = 5
    """Iterations between scores (default: 5)."""
    tasks: int = 1000
    """Held-out tasks of a score (default: 1000)."""
    seed: int = 0
    """Seed of the runs (default: 0)."""
    out: Path = Path("benchmarks/results/wallclock.json")
    """Where the figures go as JSON, and as a picture beside it."""


@dataclass
class Score:
    """One evaluation; the seconds are of training alone."""

    seconds: float
    env_steps: int
    mean: float
    stderr: float


@dataclass
class Run:
    """One training run, until its last target, its end or its budget."""

    env: str
    candidate: str
    compile_seconds: float
    scores: list[Score] = field(default_factory=list)

    def reached(self, target: float) -> Score | None:
        """The first evaluation with that score."""
        return next((s for s in self.scores if s.mean >= target), None)

    @property
    def best(self) -> Score:
        """The evaluation with the best score."""
        return max(self.scores, key=lambda s: s.mean)


def options_of(env: str, candidate: str) -> dict[str, Any]:
    """Of a config: ours, or a preset's."""
    chosen = {} if candidate == "defaults" else {"preset": candidate}
    return {"env": env, "horizon": 100, **chosen}


def evaluate(row: Row, tasks: int) -> Score:
    """The greedy policy's score by now."""
    trainer = row.trainer
    assert trainer.config.horizon is not None
    agent = trainer.agent(row.state)
    result = evaluate_agent(agent, trainer.env, trainer.config.horizon, tasks, held_out_key())
    seconds, env_steps = sum(row.seconds), len(row.seconds) * row.env_steps
    return Score(seconds, env_steps, result.mean, result.stderr)


def train(env: str, candidate: str, args: Args) -> Run:
    """Trains until all targets are reached, and no longer than the budget."""
    row = prepare(options_of(env, candidate))
    run = Run(env, candidate, row.compile_seconds)
    row.restart(args.seed)
    iterations = row.trainer.config.iterations
    assert iterations is not None
    last = max(TARGETS[env])
    while run.reached(last) is None:
        row.run()
        is_over = len(row.seconds) == iterations or sum(row.seconds) >= args.max_seconds
        if is_over or len(row.seconds) % args.every == 0:
            run.scores.append(evaluate(row, args.tasks))
        if is_over:
            break
    return run


def table_of(runs: list[Run]) -> Table:
    """A row for each target of each run."""
    table = Table(title="training until a score on held-out tasks, H = 100")
    for column in ("env", "hyper-parameters"):
        table.add_column(column)
    for column in ("score", "seconds", "env steps", "best score", "compile"):
        table.add_column(column, justify="right")
    for run in runs:
        for target in TARGETS[run.env]:
            score, spent = run.reached(target), run.scores[-1]
            table.add_row(
                run.env,
                run.candidate,
                f"{target:g}",
                f"{score.seconds:,.1f}" if score else f"not reached in {spent.seconds:,.0f}",
                f"{(score or spent).env_steps:,}",
                f"{run.best.mean:.2f} ± {run.best.stderr:.2f}",
                f"{run.compile_seconds:.0f} s",
            )
    return table


def results_of(runs: list[Run]) -> list[dict[str, Any]]:
    """The runs, JSON-ready; a target that was not reached is null."""
    results = []
    for run in runs:
        reached = {f"{target:g}": run.reached(target) for target in TARGETS[run.env]}
        results.append(
            {
                **asdict(run),
                "best": asdict(run.best),
                "reached": {name: score and asdict(score) for name, score in reached.items()},
            }
        )
    return results


def picture(runs: list[Run]) -> Figure:
    """Score over training seconds, a panel for each environment."""
    envs = list(dict.fromkeys(run.env for run in runs))
    figure = Figure(figsize=(1 + 5 * len(envs), 4.2), layout="constrained")
    for env, panel in zip(envs, figure.subplots(1, len(envs), squeeze=False)[0], strict=True):
        draw(panel, [run for run in runs if run.env == env])
        panel.set_title(env)
        for target in TARGETS[env]:
            panel.axhline(target, color="0.6", linewidth=0.8, linestyle="--")
            panel.annotate(f"{target:g}", (1.01, target), xycoords=("axes fraction", "data"))
    return figure


def draw(panel: Axes, runs: list[Run]) -> None:
    """One environment's runs; bands are a standard error to either side."""
    for run in runs:
        colour = COLOURS[CANDIDATES.index(run.candidate) if run.candidate in CANDIDATES else 2]
        seconds = [s.seconds for s in run.scores]
        low = [s.mean - s.stderr for s in run.scores]
        high = [s.mean + s.stderr for s in run.scores]
        panel.plot(seconds, [s.mean for s in run.scores], "o-", color=colour, label=run.candidate)
        panel.fill_between(seconds, low, high, color=colour, alpha=0.2, linewidth=0)
    panel.set_xscale("log")
    panel.set_xlabel("seconds of training")
    panel.set_ylabel("mean return on held-out tasks")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="lower right")


def main() -> None:
    """The command."""
    args = tyro.cli(Args)
    console = Console(width=120)
    rate = matrix_product()
    runs: list[Run] = []
    rates = []
    for env in args.envs:
        for candidate in args.candidates:
            started = time.perf_counter()
            rates.append(rate() / 1e9)
            runs.append(train(env, candidate, args))
            elapsed = time.perf_counter() - started
            console.print(f"{env}, {candidate}: {elapsed:.0f} s with compilation and scoring")
            report = {
                **machine(),
                "matrix_product_gflops_before_each": rates,
                "max_seconds": args.max_seconds,
                "every": args.every,
                "held_out_tasks": args.tasks,
                "seed": args.seed,
                "runs": results_of(runs),
            }
            save(report, args.out, picture(runs))  # so that an interrupted run leaves what it has
    console.print(table_of(runs))


if __name__ == "__main__":
    main()
