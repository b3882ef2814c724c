"""`python -m experiments.pretrained`: trained agents that come with the package, and their cards.

Each is trained by the command on its card (or its finished run is taken as it is), scored on tasks
like those it was trained on and on shifted ones, and put where `rl3jax.load_pretrained` finds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

import rl3jax
from experiments import gridworlds, tables, training
from experiments.command import fail
from experiments.published import published
from experiments.results import Score
from experiments.rows import Row, Training
from experiments.scoring import score_agents
from experiments.training import TrainingError
from rl3jax import pretrained, statistics

console = Console(highlight=False, soft_wrap=True)
SEED = 0
TITLE = "Trained agents"


@dataclass(frozen=True)
class Recipe:
    """How an agent is trained, and what it is scored on.

    Attributes:
        config: fields of `rl3jax.Config`, so flags of `rl3jax.train`.
        shifted: task distributions beside the one it is trained on.
        batch_size: tasks at a time when it is scored, to bound memory; None: all.
        n_tasks: held-out tasks that it is scored on.
        by_episode: whether its card has the returns of single episodes.
        longer: horizons beyond its own that it is scored at too, on tasks as in training.
    """

    config: Mapping[str, Any]
    shifted: tuple[str, ...] = ()
    batch_size: int | None = None
    n_tasks: int = 1000
    by_episode: bool = False
    longer: tuple[int, ...] = ()


BANDIT = {"env": "bandit", "width": 64, "squash_values": True, "minibatches": 64}
# Beyond a hundred steps, where a look at rewards gains little: RL³ with optimistic values alone.
LONG_MDP = {
    "env": "mdp", "width": 128, "squash_values": False, "mean_rewards": False, "optimism": 2.0,
    "gae_lambda": 0.9, "minibatches": 32,
}  # fmt: skip
OOD_MDPS = ("ood-dirichlet", "ood-uniform-reward")


def _physics(env: str, **options: Any) -> Recipe:
    """Of five episodes; minutes on two cores, since policies start as their plans."""
    config = {"env": env, "algo": "rl3", "horizon": 1000, **options}
    return Recipe(config, batch_size=50, n_tasks=100, by_episode=True)


RECIPES: dict[str, Recipe] = {
    "bandit-h100-rl3": Recipe(
        {**BANDIT, "horizon": 100, "n_tasks": 16_384, "iterations": 400}, ("ood",)
    ),
    "bandit-h500-rl3": Recipe(
        {**BANDIT, "horizon": 500, "discount": 0.997, "n_tasks": 4096, "iterations": 300}, ("ood",)
    ),
    "mdp-h100-rl3": Recipe(
        {
            "env": "mdp", "optimism": 15.0, "minibatches": 32, "horizon": 100, "n_tasks": 2048,
            "iterations": 150,
        },
        OOD_MDPS,
    ),
    "mdp-h500-rl2": Recipe(
        {
            "env": "mdp", "algo": "rl2", "network": "transformer", "learning_rate": 5e-4,
            "gae_lambda": 0.8, "discount": 0.997, "horizon": 500, "n_tasks": 1024,
            "minibatches": 16, "iterations": 200,
        },
        OOD_MDPS, batch_size=250,
    ),
    "mdp-h500-rl3": Recipe(
        {**LONG_MDP, "horizon": 500, "discount": 0.997, "n_tasks": 2048, "iterations": 100},
        OOD_MDPS, batch_size=250, longer=(1000,),
    ),
    "mdp-h1024-rl3": Recipe(
        {**LONG_MDP, "horizon": 1024, "discount": 0.998, "n_tasks": 1024, "iterations": 120},
        OOD_MDPS, batch_size=250,
    ),
    "mdp-h2048-rl3": Recipe(
        {**LONG_MDP, "horizon": 2048, "discount": 0.998, "n_tasks": 512, "iterations": 120},
        OOD_MDPS, batch_size=250,
    ),
    "gridnavi-rl3": Recipe({"env": "gridnavi", "horizon": 60}),
    "gridworld-11x11-rl3": Recipe(
        {"env": "gridworld", "variation": "11x11", "algo": "rl3", "horizon": 250}
    ),
    "gridworld-13x13-rl3": Recipe(
        {"env": "gridworld", "variation": "13x13", "algo": "rl3", "horizon": 350},
        tuple(f"13x13-{name}" for name in gridworlds.SHIFTED), batch_size=250,
    ),
    "cartpole-sign-rl3": _physics(
        "cartpole", variation="sign", n_tasks=32, minibatches=4, iterations=8
    ),
    "mountain-car-rl3": _physics("mountain-car"),
    "point-robot-rl3": Recipe(
        {"env": "point-robot", "algo": "rl3", "horizon": 300},
        batch_size=50, n_tasks=200, by_episode=True,
    ),
    "pendulum-rl3": _physics("pendulum"),
    "pendulum-sign-rl3": _physics(
        "pendulum", variation="sign", n_tasks=64, minibatches=8, iterations=8
    ),
}  # fmt: skip


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
        for name in args.agents:
            if name not in RECIPES:
                raise ValueError(f"unknown agent {name!r}; there are {', '.join(RECIPES)}")
        for name in args.agents or RECIPES:
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
    config = training.read_config(run) | {"out": None}  # which is the business of one machine
    env = rl3jax.make_env(config["env"], variation=config["variation"])
    tasks, horizon = getattr(env, "variation", None), config["horizon"]
    scored = [(v, horizon) for v in (tasks, *recipe.shifted)]
    scored += [(tasks, longer) for longer in recipe.longer]
    card = pretrained.Card(
        name=name,
        command=record.command,
        config=config,
        env_steps=record.env_steps,
        seconds=round(record.seconds, 1),
        provenance=record.provenance,
        scores=tuple(score(agent, config["env"], *on, recipe) for on in scored),
    )
    pretrained.save_pretrained(args.out / name, agent, card)


def score(
    agent: Any, env: str, variation: str | None, horizon: int, recipe: Recipe
) -> pretrained.CardScore:
    """On the held-out tasks of a distribution."""
    row = Row("", "", env, variation, horizon, n_tasks=recipe.n_tasks, batch_size=recipe.batch_size)
    scores = score_agents(row, {"agent": agent})
    greedy, sampled, optimal = (
        _rounded(scores[name]) for name in ("agent greedy", "agent sampled", "optimal")
    )
    console.print(f"  {variation or 'its own'}, H = {horizon}: greedy {greedy}, sampled {sampled}")
    episodes = {
        f"{manner}_episodes": _episodes(scores[name])
        for manner, name in (("greedy", "agent greedy"), ("optimal", "optimal"))
        if recipe.by_episode
    }
    return pretrained.CardScore(
        variation, horizon, row.n_tasks, greedy, sampled, optimal, **episodes
    )


def cards_of(row: str) -> list[tuple[pretrained.Card, pretrained.CardScore]]:
    """The agents of the package that were scored on a row, by its name, and their scores there."""
    return [(card, score) for card in _cards() for score in card.scores if _row(card, score) == row]


@cache
def _cards() -> tuple[pretrained.Card, ...]:
    return tuple(map(rl3jax.pretrained_card, rl3jax.pretrained_names()))


def section() -> str:
    """Markdown of all cards: what each agent scores, and how it was trained."""
    header = ["agent", "tasks", "greedy", "sampled", "optimum", "of the optimum", "paper"]
    scores = [_score_line(card, score) for card in _cards() for score in card.scores]
    played = [
        line for card in _cards() for score in card.scores for line in _by_episode(card, score)
    ]
    most = max(map(len, played))
    played = [line + [tables.NOTHING] * (most - len(line)) for line in played]
    episodes = [f"episode {k + 1}" for k in range(most - 2)]
    costs = [_cost_line(card) for card in _cards()]
    return "\n\n".join(
        [
            f"# {TITLE}",
            "They come with the package: `rl3jax.load_pretrained(name)`. One seed each; the last "
            "policy, on held-out tasks that no choice was made on; the fraction of the "
            "optimum is of the better of both manners.",
            tables.table(header, scores),
            "Physics, episode by episode, greedy; the optimum knows the task from the start:",
            tables.table(["agent", "return of", *episodes], played),
            tables.table(["agent", "training", "env steps", "wall-clock", "hardware"], costs),
            "Made by `python -m experiments.pretrained`.",
        ]
    )


def _score_line(card: pretrained.Card, score: pretrained.CardScore) -> list[str]:
    algo = card.config["algo"]
    best = max(score.greedy[0], score.sampled[0])
    return [
        card.name,
        f"{score.variation or 'its own'}, H = {score.horizon}",
        *(tables.over_tasks(*pair) for pair in (score.greedy, score.sampled, score.optimal)),
        tables.number(statistics.fraction_of(best, score.optimal[0])),
        tables.published_cell(published(_row(card, score), algo)),
    ]


def _by_episode(card: pretrained.Card, score: pretrained.CardScore) -> list[list[str]]:
    """A line for the agent and one for the optimum, if single episodes were scored."""
    players = {"agent": score.greedy_episodes, "optimum": score.optimal_episodes}
    return [
        [card.name, player, *(tables.over_tasks(*episode) for episode in episodes)]
        for player, episodes in players.items()
        if episodes
    ]


def _row(card: pretrained.Card, score: pretrained.CardScore) -> str:
    """Name of the row that an agent was scored on; past its own horizon it plays on a window."""
    name = "-".join(filter(None, (card.config["env"], score.variation, f"h{score.horizon}")))
    return f"{name}-window" if score.horizon > card.config["horizon"] else name


def _cost_line(card: pretrained.Card) -> list[str]:
    return [
        card.name,
        f"`{card.command}`",
        f"{card.env_steps / 1e6:.3g} M",
        tables.duration(card.seconds),
        tables.hardware(card.provenance),
    ]


def _episodes(score: Score) -> tuple[tuple[float, float], ...]:
    """Mean and standard error of each episode that all tasks reached."""
    curve = score.per_episode
    return tuple(zip(curve.mean, curve.stderr, strict=True))


def _rounded(score: Score) -> tuple[float, float]:
    return round(score.mean, 3), round(score.stderr, 3)


if __name__ == "__main__":
    main()
