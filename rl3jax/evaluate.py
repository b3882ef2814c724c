"""`python -m rl3jax.evaluate RUN`: scores a trained policy on held-out tasks."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from rl3jax import plots
from rl3jax.baselines import OptimalPolicy, UniformAgent
from rl3jax.checkpoint import load_agent, write_text
from rl3jax.checks import ConfigError
from rl3jax.commands import one_line_errors, parse
from rl3jax.config import Config
from rl3jax.evaluation import AgentOrMaker, Evaluation, check_fits, evaluate_agent
from rl3jax.run_folder import RunFolder, provenance
from rl3jax.seeding import held_out_key
from rl3jax.trainer import config_env


@dataclass(frozen=True)
class EvaluateArgs:
    """Score a run's policy on held-out tasks that no training used.

    A random agent and the tasks' optimal policies stand beside it, as floor and ceiling.
    """

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder of rl3jax.train."""
    variation: str | None = None
    """Task distribution to score on, for instance ood. None: the one trained on."""
    horizon: int | None = None
    """Interaction budget of a meta-episode, in env steps. None: the one trained with."""
    n_tasks: int = 1000
    """Held-out tasks."""
    policy: Literal["last", "best"] = "last"
    """The last policy of the run, or the one with the best validation score."""
    batch_size: int | None = None
    """Tasks at a time, to bound memory. None: all."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = parse(EvaluateArgs, argv, "evaluate")
    with one_line_errors():
        folder = RunFolder(args.run)
        config = _with_changes(folder.read_config(), args)
        agent = load_agent(folder.best_agent if args.policy == "best" else folder.agent)
        env = config_env(config)
        check_fits(agent, env)
    horizon = config.horizon
    contenders: dict[str, AgentOrMaker] = {
        f"{config.algo}, greedy": agent.replace(greedy=True),
        f"{config.algo}, sampled": agent.replace(greedy=False),
        "random": UniformAgent(env.num_actions),
        "optimal": OptimalPolicy(env, horizon),
    }
    with one_line_errors():
        results = {
            name: evaluate_agent(
                contender, env, horizon, args.n_tasks, held_out_key(), args.batch_size
            )
            for name, contender in contenders.items()
        }
    distribution = config.variation or getattr(env, "variation", "own")
    title = f"{config.env} ({distribution} tasks), H = {horizon}"
    _print_table(results, f"{title}, {args.n_tasks} held-out tasks")
    stem = _write(folder, f"{distribution}-h{horizon}-{args.policy}", title, config, results)
    print(f"written to {stem}.json and {stem}.png")


def _with_changes(trained: Config, args: EvaluateArgs) -> Config:
    for name in ("n_tasks", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}")
    return dataclasses.replace(
        trained,
        variation=args.variation or trained.variation,
        horizon=args.horizon if args.horizon is not None else trained.horizon,
    )


def _print_table(results: dict[str, Evaluation], title: str) -> None:
    optimum = results["optimal"].mean
    table = Table(title=title, title_justify="left")
    table.add_column("agent")
    table.add_column("return ± s.e.", justify="right")
    table.add_column("of the optimum", justify="right")
    for name, result in results.items():
        score = f"{result.mean:.2f} ± {result.stderr:.2f}"
        table.add_row(name, score, f"{result.mean / optimum:.3f}")
    Console().print(table)


def _write(
    folder: RunFolder, name: str, title: str, config: Config, results: dict[str, Evaluation]
) -> Path:
    """Scores as JSON and curves as PNG; returns their path without the ending."""
    report = {
        "config": config.to_dict(),
        "provenance": provenance(),
        "scores": {
            agent: {
                "mean_return": result.mean,
                "stderr_return": result.stderr,
                "returns": result.returns.tolist(),
                "reward_per_step": result.reward_per_step.tolist(),
                "return_per_episode": result.return_per_episode()[0].tolist(),
            }
            for agent, result in results.items()
        },
    }
    folder.evaluations.mkdir(exist_ok=True)
    stem = folder.evaluations / name
    write_text(stem.with_name(f"{name}.json"), json.dumps(report) + "\n")
    plots.evaluation_curves(results, title, stem.with_name(f"{name}.png"))
    return stem


if __name__ == "__main__":
    main()
