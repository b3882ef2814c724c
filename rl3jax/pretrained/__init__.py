"""Trained agents that come with the package: `load_pretrained`, and a card for each.

They lie beside this module, a folder each, made like a run folder (`agent/`, `config.json`) with a
card. `python -m experiments.pretrained` trains, scores and describes them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl3jax.agent import PolicyAgent
from rl3jax.checkpoint import load_agent
from rl3jax.checks import check_choice

FOLDER = Path(__file__).parent
CARD_FILE = "card.json"
CONFIG_FILE = "config.json"
AGENT = "agent"


@dataclass(frozen=True)
class CardScore:
    """Undiscounted returns on held-out tasks: means, with standard errors over tasks.

    Attributes:
        variation: the task distribution played.
        horizon: budget of the meta-episodes, in env steps.
        n_tasks: tasks played.
        greedy, sampled: mean return and its standard error, of the policy in either manner.
        optimal: the same of the policy that knows the task.
    """

    variation: str
    horizon: int
    n_tasks: int
    greedy: tuple[float, float]
    sampled: tuple[float, float]
    optimal: tuple[float, float]


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
    return load_agent(_folder(name) / AGENT)


def pretrained_card(name: str) -> Card:
    """The card of the trained agent called `name`.

    Raises:
        ConfigError: if there is none of that name.
    """
    card, config = (_read(_folder(name) / file) for file in (CARD_FILE, CONFIG_FILE))
    scores = tuple(CardScore(**_as_tuples(score)) for score in card.pop("scores"))
    return Card(**card, scores=scores, config=config)


def pretrained_names() -> tuple[str, ...]:
    """Names of all trained agents that come with the package, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{CARD_FILE}")))


def locate(path: Path) -> Path:
    """The path, or the folder of the trained agent that it names, unless something is there."""
    return FOLDER / path if not path.exists() and str(path) in pretrained_names() else path


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _folder(name: str) -> Path:
    check_choice("pretrained agent", name, pretrained_names())
    return FOLDER / name


def _as_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
