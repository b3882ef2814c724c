"""`python -m experiments.pretrained`: trained agents that come with the package, and their cards.

Each is trained by the command on its card (or its finished run is taken as it is), scored on tasks
like those it was trained on and on shifted ones, and put where `rl3jax.load_pretrained` finds it.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

import rl3jax
from experiments import training
from experiments.command import fail
from experiments.results import Score, write_text
from experiments.rows import Row, Training
from experiments.scoring import score_agents
from experiments.training import TrainingError
from rl3jax import pretrained

console = Console(highlight=False, soft_wrap=True)
SEED = 0


@dataclass(frozen=True)
class Recipe:
    """How an agent is trained, and what it is scored on.

    Attributes:
        config: fields of `rl3jax.Config`, so flags of `rl3jax.train`.
        shifted: task distributions beside the one it is trained on.
        batch_size: tasks at a time when it is scored, to bound memory; None: all.
    """

    config: Mapping[str, Any]
    shifted: tuple[str, ...] = ()
    batch_size: int | None = None


RECIPES: dict[str, Recipe] = {}


@dataclass
class Args:
    """Train, score and describe the agents that come with the package."""

    agents: tuple[str, ...] = ()
    """Their names (default: all)."""
    runs: Path = Path("runs/experiments/pretrained")
    """Folder of the trainings' run folders (default: runs/experiments/pretrained)."""
    out: Path = pretrained.FOLDER
    """Folder of the agents and their cards (default: the package's)."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    args = tyro.cli(Args, prog="python -m experiments.pretrained", args=argv)
    try:
        for name in args.agents or RECIPES:
            rl3jax.checks.check_choice("agent", name, RECIPES)
            make(name, RECIPES[name], args)
    except (TrainingError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def make(name: str, recipe: Recipe, args: Args) -> None:
    """One agent with its card."""
    trained = Training(name, recipe.config)
    run = training.run_folder(args.runs, trained, SEED)
    training.train(trained, SEED, run)
    agent = rl3jax.load_agent(run / "agent")
    record = training.record(trained, SEED, run)
    config = training.read_config(run)
    tasks = rl3jax.make_env(config["env"], variation=config["variation"]).variation
    card = pretrained.Card(
        name=name,
        command=record.command,
        config=config,
        env_steps=record.env_steps,
        seconds=round(record.seconds, 1),
        provenance=record.provenance,
        scores=tuple(score(agent, config, v, recipe) for v in (tasks, *recipe.shifted)),
    )
    rl3jax.save_agent(args.out / name, agent.replace(greedy=True))
    write_text(
        args.out / name / pretrained.CARD_FILE,
        json.dumps(dataclasses.asdict(card), indent=2) + "\n",
    )


def score(
    agent: Any, config: dict[str, Any], variation: str, recipe: Recipe
) -> pretrained.CardScore:
    """On the held-out tasks of a distribution."""
    horizon = config["horizon"]
    row = Row("", "", config["env"], variation, horizon, batch_size=recipe.batch_size)
    scores = score_agents(row, {"agent": agent})
    greedy, sampled, optimal = (
        _rounded(scores[name]) for name in ("agent greedy", "agent sampled", "optimal")
    )
    console.print(f"  {variation}, H = {horizon}: greedy {greedy}, sampled {sampled}")
    return pretrained.CardScore(variation, horizon, row.n_tasks, greedy, sampled, optimal)


def _rounded(score: Score) -> tuple[float, float]:
    return round(score.mean, 3), round(score.stderr, 3)


if __name__ == "__main__":
    main()
