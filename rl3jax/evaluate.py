"""`python -m rl3jax.evaluate [RUN]`: scores a trained policy and baselines on held-out tasks."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from rl3jax import baselines, plots
from rl3jax.agent import PolicyAgent
from rl3jax.agent_files import load_agent
from rl3jax.baselines import AgentOrMaker
from rl3jax.checks import ConfigError, check_size
from rl3jax.commands import one_line_errors, parse, prepare_jax
from rl3jax.config import Config, Resolved
from rl3jax.envs import TaskDistribution
from rl3jax.evaluation import Evaluation, check_fits, evaluate_agent
from rl3jax.files import write_json
from rl3jax.memory import check_evaluation
from rl3jax.pretrained import locate
from rl3jax.runs.folder import RunFolder, provenance
from rl3jax.seeding import held_out_key
from rl3jax.statistics import fraction_of
from rl3jax.trainer import config_env


@dataclass(frozen=True)
class EvaluateArgs:
    """Score a run's policy on held-out tasks that no training used, beside baselines by name.

    Without a RUN, the baselines alone, in --env.
    """

    run: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN")]] = None
    """Run folder of rl3jax.train, or the name of an agent that comes with the package, for instance
    bandit-h100-rl3. None: baselines alone."""
    baselines: tuple[str, ...] | None = None
    """Baselines to score, or all: random, optimal, greedy, q-learning; bandit: thompson, ucb1,
    gittins, bayes-optimal (small ones); mdp: psrl, psrl-prior-0, opsrl, beb, ucrl2; of a RUN whose
    object-level RL explores: planner (greedy in Q+), planner-switch (until the task has paid, then
    in Q).
    None: random, and optimal where the exact model is known."""
    env: str | None = None
    """Environment of the baselines, where there is no RUN: bandit, mdp, gridworld, module:Class.
    With a RUN only if that is of a module:Class, whose code is not run otherwise."""
    variation: str | None = None
    """Task distribution to score on, for instance ood. None: the one trained on."""
    horizon: int | None = None
    """Interaction budget of a meta-episode, in env steps. None: the one trained with, or else the
    shortest in the paper."""
    n_tasks: int = 1000
    """Held-out tasks."""
    policy: Literal["last", "best"] = "last"
    """The last policy of the run, or the one with the best validation score."""
    batch_size: int | None = None
    """Tasks at a time, to bound memory. None: all."""

    @property
    def folder(self) -> RunFolder | None:
        """What RUN names, if there is one."""
        return None if self.run is None else RunFolder(locate(self.run))


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = parse(EvaluateArgs, argv, "evaluate")
    if argv is None:  # the process is this command's own
        prepare_jax()
    with one_line_errors():
        config = _config(args)
        env = config_env(config)
        agent = _agent(args, env)
        contenders = _contenders(args, config, env, agent)
        for contender in contenders.values():
            check_evaluation(contender, env, config.horizon, args.n_tasks, args.batch_size)
        results = {
            name: evaluate_agent(
                contender, env, config.horizon, args.n_tasks, held_out_key(), args.batch_size
            )
            for name, contender in contenders.items()
        }
        known = [] if agent is None else agent.bound_learner.describe()
        distribution = config.variation or getattr(env, "variation", "own")
        title = f"{config.env} ({distribution} tasks), H = {config.horizon}"
        stem = _stem(args, f"{distribution}-h{config.horizon}-{args.policy}")
        try:
            if stem is not None:
                _write(stem, config, results, known)
        finally:  # they took long
            _print_table(results, f"{title}, {args.n_tasks} held-out tasks")
            if args.baselines is None and "optimal" not in results:
                print(f"without the optimum: {type(env).__name__} has no exact model (tabular)")
        if known:
            _print_known(known)
        if stem is not None:
            plots.evaluation_curves(results, title, Path(f"{stem}.png"))
            print(f"written to {stem}.json and {stem}.png")


def _config(args: EvaluateArgs) -> Resolved:
    """What to score on: as the run was trained, but for what the arguments change."""
    for name in ("n_tasks", "batch_size"):
        value = getattr(args, name)
        if value is not None:
            check_size(name, value)
    if (args.run is None) == (args.env is None or ":" in args.env):
        raise ConfigError("give either a RUN to score or, for baselines alone, --env")
    if args.folder is None:
        return Config(env=args.env, variation=args.variation, horizon=args.horizon).resolve()
    trained = args.folder.read_config(args.env)
    return dataclasses.replace(
        trained,
        variation=args.variation or trained.variation,
        horizon=args.horizon if args.horizon is not None else trained.horizon,
    )


def _agent(args: EvaluateArgs, env: TaskDistribution) -> PolicyAgent | None:
    """The run's policy."""
    folder = args.folder
    if folder is None:
        return None
    agent = load_agent(folder.best_agent if args.policy == "best" else folder.agent)
    check_fits(agent, env)
    return agent


def _contenders(
    args: EvaluateArgs, config: Resolved, env: TaskDistribution, agent: PolicyAgent | None
) -> dict[str, AgentOrMaker]:
    """By name: the run's policy, greedy and sampled, then the baselines."""
    contenders: dict[str, AgentOrMaker] = {}
    own = {} if agent is None else baselines.planners(agent)
    if agent is not None:
        contenders[f"{config.algo}, greedy"] = agent.replace(greedy=True)
        contenders[f"{config.algo}, sampled"] = agent.replace(greedy=False)
    names = baselines.names(env, config.horizon)
    if args.baselines is None:
        names = tuple(name for name in ("random", "optimal") if name in names)
    elif "all" in args.baselines:
        names = (*names, *own)
    else:
        names = args.baselines
    tuned_on = _trained_on(args, config)
    for name in names:
        if name in baselines.PLANNERS and name not in own:
            raise ConfigError(
                f"baseline {name} plays the plans of a RUN's own object-level RL, which must "
                "explore by optimistic values"
            )
        contenders[name] = own.get(name) or baselines.make_baseline(
            name, env, config.horizon, tuned_on
        )
    return contenders


def _trained_on(args: EvaluateArgs, config: Resolved) -> TaskDistribution:
    """Where baselines' constants are tuned: on tasks like those that the policy was trained on."""
    if args.folder is None:
        return config_env(dataclasses.replace(config, variation=None))
    return config_env(args.folder.read_config(args.env))


def _print_table(results: dict[str, Evaluation], title: str) -> None:
    optimum = results["optimal"].mean if "optimal" in results else None
    table = Table(title=title, title_justify="left")
    table.add_column("agent")
    table.add_column("return ± s.e.", justify="right")
    if optimum is not None:
        table.add_column("of the optimum", justify="right")
    for name, result in results.items():
        fractions = [] if optimum is None else [fraction_of(result.mean, optimum)]
        shown = ["–" if math.isnan(fraction) else f"{fraction:.3f}" for fraction in fractions]
        table.add_row(name, str(result.score), *shown)
    Console().print(table)


def _print_known(rows: list[dict[str, Any]]) -> None:
    """What object-level RL has learned from the tasks of training."""
    table = Table(title="what object-level RL knows beforehand", title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "neighbours" else "right")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    Console().print(table)


def _shown(value: Any) -> str:
    """A cell: nothing, a number, or numbers by name."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{name} × {number:.2g}" for name, number in value.items())
    return value if isinstance(value, str) else f"{value:.3g}"


def _stem(args: EvaluateArgs, name: str) -> Path | None:
    """Where scores are written, without the ending; nowhere of agents of the package."""
    folder = args.folder
    return (
        None
        if folder is None or folder.path != args.run
        else folder.evaluations / name.replace("/", "-")
    )


def _write(
    stem: Path, config: Resolved, results: dict[str, Evaluation], known: list[dict[str, Any]]
) -> None:
    """Scores as JSON, and what object-level RL has learned from training."""
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
        "object_level": known,
    }
    stem.parent.mkdir(exist_ok=True)
    write_json(Path(f"{stem}.json"), report)


if __name__ == "__main__":
    main()
