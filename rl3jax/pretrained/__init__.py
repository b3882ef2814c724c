"""Trained agents that come with the package: `load_pretrained`, and a card for each.

They lie beside this module, a folder each, made like a run folder (`agent/`, `config.json`) with a
card. `python -m experiments.pretrained` trains, scores and describes them.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl3jax.agent import PolicyAgent
from rl3jax.agent_files import load_agent, save_agent
from rl3jax.checks import check_choice
from rl3jax.config import Config
from rl3jax.files import read_json, write_json
from rl3jax.runs.folder import RunFolder

FOLDER = Path(__file__).parent
CARD_FILE = "card.json"


@dataclass(frozen=True)
class CardScore:
    """Undiscounted returns on held-out tasks: means, with standard errors over tasks.

    Attributes:
        variation: the task distribution played; `None` of an environment that has but one.
        horizon: budget of the meta-episodes, in env steps.
        n_tasks: tasks played.
        greedy, sampled: mean return and its standard error, of the policy in either manner.
        optimal: the same of the policy that knows the task.
        greedy_episodes, optimal_episodes: of physics, the same of each object-level episode.
    """

    variation: str | None
    horizon: int
    n_tasks: int
    greedy: tuple[float, float]
    sampled: tuple[float, float]
    optimal: tuple[float, float]
    greedy_episodes: tuple[tuple[float, float], ...] = ()
    optimal_episodes: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Card:
    """What a trained agent is, how it came about, and how well it plays.

    Attributes:
        name: for `load_pretrained`.
        command: trains it again.
        env_steps: of its training.
        seconds: wall-clock of its iterations.
        provenance: versions, commit and device of the training.
        scores: on the tasks it was trained on, and on shifted ones.
        config: fields of `rl3jax.Config` it was trained with, resolved.
    """

    name: str
    command: str
    env_steps: int
    seconds: float
    provenance: dict[str, Any]
    scores: tuple[CardScore, ...]
    config: dict[str, Any]


def load_pretrained(name: str) -> PolicyAgent:
    """The trained agent called `name`, greedy; it needs no network connection.

    Raises:
        ConfigError: if there is none of that name.
    """
    return load_agent(_folder(name).agent)


def pretrained_card(name: str) -> Card:
    """The card of the trained agent called `name`.

    Raises:
        ConfigError: if there is none of that name.
    """
    folder = _folder(name)
    card = read_json(folder.path / CARD_FILE)
    scores = tuple(
        CardScore(**{name: _tuple(value) for name, value in score.items()})
        for score in card.pop("scores")
    )
    return Card(**card, scores=scores, config=folder.read_config().to_dict())


def pretrained_names() -> tuple[str, ...]:
    """Names of all trained agents that come with the package, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{CARD_FILE}")))


def locate(path: Path) -> Path:
    """The path, or the folder of the trained agent that it names, unless something is there."""
    return FOLDER / path if not path.exists() and str(path) in pretrained_names() else path


def save_pretrained(path: Path, agent: PolicyAgent, card: Card) -> None:
    """Writes an agent, greedy, with its card into the folder `path`, made if missing."""
    values, folder = dataclasses.asdict(card), RunFolder(path)
    save_agent(folder.agent, agent.replace(greedy=True))
    folder.write_config(Config.from_dict(values.pop("config")))
    write_json(path / CARD_FILE, values, indent=2)


def _folder(name: str) -> RunFolder:
    check_choice("pretrained agent", name, pretrained_names())
    return RunFolder(FOLDER / name)


def _tuple(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
