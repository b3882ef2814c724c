"""`python -m rl3jax.evaluate [RUN …]`: scores trained policies and baselines on held-out tasks."""

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
from rl3jax.commands import distinct_names, one_line_errors, parse, prepare_jax
from rl3jax.config import Config, Resolved
from rl3jax.envs import TaskDistribution
from rl3jax.evaluation import Evaluation, check_fits, evaluate_agent
from rl3jax.files import write_json
from rl3jax.memory import check_evaluation
from rl3jax.pretrained import locate
from rl3jax.runs.folder import RunFolder, provenance
from rl3jax.seeding import held_out_key
from rl3jax.statistics import Estimate, fraction_of, paired_difference
from rl3jax.trainer import config_env


@dataclass(frozen=True)
class EvaluateArgs:
    """Score a run's policy on held-out tasks that no training used, beside baselines by name.

    Of several runs the greedy policies play the same tasks, and differences are task by task; it is
    printed, but nothing is written. Without a RUN, the baselines alone, in --env.
    """

    runs: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN")]] = ()
    """Run folders of rl3jax.train, or names of agents that come with the package, for instance
    bandit-h100-rl3. None: baselines alone."""
    baselines: tuple[str, ...] | None = None
    """Baselines to score, or all: random, optimal, greedy, q-learning; bandit: thompson, ucb1,
    gittins, bayes-optimal (small ones); mdp: psrl, psrl-prior-0, opsrl, beb, ucrl2; of a RUN whose
    object-level RL explores: planner (greedy in Q+), planner-switch (until the task has paid, then
    in Q).
    None: random, and optimal where the exact model is known."""
    env: str | None = None
    """Environment of the baselines, where there is no RUN: a name as of `train`, or module:Class.
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
    def folders(self) -> list[RunFolder]:
        """What the RUNs name."""
        return [RunFolder(locate(run)) for run in self.runs]


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = parse(EvaluateArgs, argv, "evaluate")
    if argv is None:  # the process is this command's own
        prepare_jax()
    with one_line_errors():
        config = _config(args)
        env = config_env(config)
        agents = _agents(args, env)
        contenders = _contenders(args, config, env, agents)
        for contender in contenders.values():
            check_evaluation(contender, env, config.horizon, args.n_tasks, args.batch_size)
        results = {
            name: evaluate_agent(
                contender, env, config.horizon, args.n_tasks, held_out_key(), args.batch_size
            )
            for name, contender in contenders.items()
        }
        known = agents[0].bound_learner.describe() if len(agents) == 1 else []
        distribution = config.variation or getattr(env, "variation", "own")
        title = f"{config.env} ({distribution} tasks), H = {config.horizon}"
        stem = _stem(args, f"{distribution}-h{config.horizon}-{args.policy}")
        try:
            if stem is not None:
                _write(stem, config, results, known)
        finally:  # they took long
            paired = next(iter(results)) if len(agents) > 1 else None
            _print_table(results, f"{title}, {args.n_tasks} held-out tasks", paired)
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
    if (not args.runs) == (args.env is None or ":" in args.env):
        raise ConfigError("give either a RUN to score or, for baselines alone, --env")
    if not args.runs:
        return Config(env=args.env, variation=args.variation, horizon=args.horizon).resolve()
    played = [_played(args, folder.read_config(args.env)) for folder in args.folders]
    tasks = [(config_env(config), config.horizon) for config in played]
    for run, its in zip(args.runs, tasks, strict=True):
        if its != tasks[0]:
            raise ConfigError(
                f"{run} was trained in {its[0]} for H = {its[1]}, {args.runs[0]} in {tasks[0][0]} "
                f"for H = {tasks[0][1]}: give a --variation or --horizon in which all shall play"
            )
    return played[0]


def _played(args: EvaluateArgs, trained: Resolved) -> Resolved:
    return dataclasses.replace(
        trained,
        variation=args.variation or trained.variation,
        horizon=args.horizon if args.horizon is not None else trained.horizon,
    )


def _agents(args: EvaluateArgs, env: TaskDistribution) -> list[PolicyAgent]:
    """The runs' policies."""
    best = args.policy == "best"
    agents = [load_agent(run.best_agent if best else run.agent) for run in args.folders]
    for agent in agents:
        check_fits(agent, env)
    return agents


def _policies(
    args: EvaluateArgs, config: Resolved, agents: Sequence[PolicyAgent]
) -> dict[str, AgentOrMaker]:
    """By name: a single run's policy, greedy and sampled; the greedy ones of several runs."""
    if len(agents) == 1:
        greedy = {"greedy": True, "sampled": False}
        return {f"{config.algo}, {how}": agents[0].replace(greedy=greedy[how]) for how in greedy}
    algorithms = [folder.read_config(args.env).algo for folder in args.folders]
    names = distinct_names(algorithms, args.runs)
    return {
        f"{name}, greedy": agent.replace(greedy=True)
        for name, agent in zip(names, agents, strict=True)
    }


def _contenders(
    args: EvaluateArgs, config: Resolved, env: TaskDistribution, agents: Sequence[PolicyAgent]
) -> dict[str, AgentOrMaker]:
    """By name: the runs' policies, then the baselines."""
    contenders = _policies(args, config, agents)
    own = baselines.planners(agents[0]) if len(agents) == 1 else {}
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
                f"baseline {name} plays the plans of one RUN's object-level RL, which must "
                "explore by optimistic values"
            )
        contenders[name] = own.get(name) or baselines.make_baseline(
            name, env, config.horizon, tuned_on
        )
    return contenders


def _trained_on(args: EvaluateArgs, config: Resolved) -> TaskDistribution:
    """Where baselines' constants are tuned: on tasks like those that the policy was trained on."""
    if not args.runs:
        return config_env(dataclasses.replace(config, variation=None))
    return config_env(args.folders[0].read_config(args.env))


def _print_table(results: dict[str, Evaluation], title: str, paired: str | None) -> None:
    """Scores, and differences from those of the agent called `paired`, task by task."""
    optimum = results["optimal"].mean if "optimal" in results else None
    table = Table(title=title, title_justify="left")
    table.add_column("agent")
    table.add_column("return ± s.e.", justify="right")
    if optimum is not None:
        table.add_column("of the optimum", justify="right")
    if paired is not None:
        table.add_column(f"− {paired}", justify="right")
    for name, result in results.items():
        fractions = [] if optimum is None else [fraction_of(result.mean, optimum)]
        shown = ["–" if math.isnan(fraction) else f"{fraction:.3f}" for fraction in fractions]
        if paired is not None:
            other = paired_difference(result.returns, results[paired].returns)
            shown.append("–" if name == paired else f"{Estimate(other.mean, other.stderr)}")
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
    """Where scores are written, without the ending; nowhere of several, or of the package's."""
    if len(args.runs) != 1 or args.folders[0].path != args.runs[0]:
        return None
    return args.folders[0].evaluations / name.replace("/", "-")


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
