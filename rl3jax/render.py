"""`python -m rl3jax.render RUN`: draws a meta-episode in a held-out task."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from rl3jax import drawing
from rl3jax.agent import PolicyAgent
from rl3jax.agent_files import load_agent
from rl3jax.checks import ConfigError, check_number, check_size
from rl3jax.commands import distinct_names, free_path, one_line_errors, parse
from rl3jax.envs import TaskDistribution
from rl3jax.evaluation import check_fits
from rl3jax.pretrained import locate
from rl3jax.runs.folder import RunFolder
from rl3jax.seeding import held_out_key
from rl3jax.trainer import config_env

MOST_TASKS = 1_000_000
FASTEST = 50.0
"""Frames a second, which is as fast as viewers of GIFs go."""
DPI = (20, 400)


@dataclass(frozen=True)
class RenderArgs:
    """Draw one meta-episode of a run's policy, in a held-out task that no training used.

    Gridworlds are drawn as maps, random MDPs as tables of values, bandits as posteriors and pulls,
    pendulums, cars, carts and robots as they move. Beside the map of a gridworld is what the agent
    believes of its tiles, if it knows kinds of states.
    """

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder of rl3jax.train, or the name of an agent that comes with the package."""
    out: Path | None = None
    """File to write: .gif or .mp4 (a film), or .png (key moments as panels). A file that is there
    is replaced. .mp4 needs rl3jax[video]. None: NAME-task0.gif in this folder, of the run's name
    and the task's number, or, if that is taken, NAME-task0-2.gif, …"""
    against: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Another run in the same domain to draw beside it: same task, same chance. None: just one."""
    task: int = 0
    """Which held-out task: the same that rl3jax.evaluate has at this place."""
    env: str | None = None
    """Of a run in an environment module:Class, that one: its code is not run otherwise."""
    variation: str | None = None
    """Task distribution to draw from, for instance ood. None: the one trained on."""
    horizon: int | None = None
    """Interaction budget of the meta-episode, in env steps. None: the one trained with."""
    policy: Literal["last", "best"] = "last"
    """The last policy of the run, or the one with the best validation score."""
    actions: Literal["greedy", "sampled"] = "greedy"
    """Take the most probable action, or sample."""
    fps: float = 8.0
    """Frames a second of a film, up to 50; it pauses where episodes end."""
    every: int = 1
    """Env steps from frame to frame of a film; ends of episodes are always shown."""
    dpi: int | None = None
    """Pixels per inch, 20 to 400; a map is 5 inches wide. None: 110 in films, 130 in a .png."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = parse(RenderArgs, argv, "render")
    with one_line_errors():
        _check_numbers(args)
        out = args.out or free_path(f"{args.run.resolve().name}-task{args.task}.gif")
        drawing.check_path(out)
        env, horizon, agents = _contenders(args)
        task, key = drawing.evaluation_task(env, held_out_key(), args.task)
        episodes = drawing.record_episodes(agents, env, task, horizon, key)
        drawing.save_picture(out, episodes, args.fps, args.every, args.dpi)
        for name, episode in episodes.items():
            print(f"{name}: return {episode.return_so_far[-1]:.2f} in {horizon} steps")
        print(f"written to {out}")


def _check_numbers(args: RenderArgs) -> None:
    check_size("every", args.every)
    check_number("fps", args.fps, 0, FASTEST, low_allowed=False)
    if args.dpi is not None:
        check_number("dpi", args.dpi, *DPI)
    if not 0 <= args.task < MOST_TASKS:
        raise ConfigError(f"task must be a whole number from 0 to {MOST_TASKS - 1}")


def _contenders(args: RenderArgs) -> tuple[TaskDistribution, int, dict[str, PolicyAgent]]:
    """What is acted in, for how long, and who acts, by the names to show."""
    paths = [path for path in (args.run, args.against) if path is not None]
    folders = [RunFolder(locate(path)) for path in paths]
    configs = [folder.read_config(args.env) for folder in folders]
    first, *others = configs
    for config in others:
        if config.env != first.env:
            raise ConfigError(
                f"--against {args.against} is a run on {config.env}, {args.run} one on {first.env}"
            )
    changes = {"variation": args.variation, "horizon": args.horizon}
    given: dict[str, Any] = {k: v for k, v in changes.items() if v is not None}
    config = dataclasses.replace(first, **given)
    env = config_env(config)
    drawing.view_type(env)
    algorithms = [drawing.algorithm_name(config.algo) for config in configs]
    names = distinct_names(algorithms, [folder.path for folder in folders])
    agents = {name: _load(folder, env, args) for name, folder in zip(names, folders, strict=True)}
    return env, config.horizon, agents


def _load(folder: RunFolder, env: TaskDistribution, args: RenderArgs) -> PolicyAgent:
    """A run's policy, which must know as many states and actions as `env` has."""
    agent = load_agent(folder.best_agent if args.policy == "best" else folder.agent)
    check_fits(agent, env)
    return agent.replace(greedy=args.actions == "greedy")


if __name__ == "__main__":
    main()
