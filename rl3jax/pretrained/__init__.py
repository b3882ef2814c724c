"""Trained agents that come with the package: `load_pretrained`, and a card for each.

They lie beside this module, a folder each, with what `load_agent` reads and a card. The cards are
written by `python -m experiments.pretrained`, which trains, scores and describes them.
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
        config: fields of `rl3jax.Config` it was trained with, resolved.
        env_steps: of its training.
        seconds: wall-clock of its iterations.
        provenance: versions, commit and device of the training.
        scores: on the tasks it was trained on, and on shifted ones.
    """

    name: str
    command: str
    config: dict[str, Any]
    env_steps: int
    seconds: float
    provenance: dict[str, Any]
    scores: tuple[CardScore, ...]


def load_pretrained(name: str) -> PolicyAgent:
    """The trained agent called `name`, greedy; it needs no network connection.

    Raises:
        ConfigError: if there is none of that name.
    """
    return load_agent(_folder(name))


def pretrained_card(name: str) -> Card:
    """The card of the trained agent called `name`.

    Raises:
        ConfigError: if there is none of that name.
    """
    values = json.loads((_folder(name) / CARD_FILE).read_text(encoding="utf-8"))
    scores = tuple(CardScore(**_as_tuples(score)) for score in values.pop("scores"))
    return Card(**values, scores=scores)


def pretrained_names() -> tuple[str, ...]:
    """Names of all trained agents that come with the package, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{CARD_FILE}")))


def _folder(name: str) -> Path:
    check_choice("pretrained agent", name, pretrained_names())
    return FOLDER / name


def _as_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
