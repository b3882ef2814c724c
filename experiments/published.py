"""The numbers of the papers, each with its source and what is known of it."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

RETURN, NORMALISED = "return", "normalised"
SCORE = "2 × mean reward − 1"
TO_CONVERGE = "iterations to converge, of RL²'s"
TO_MATCH = "iterations to match RL², of RL²'s"


@dataclass(frozen=True)
class Source:
    """Where numbers come from.

    Attributes:
        title: of the publication.
        note: how they were got, and how exact they are.
    """

    title: str
    note: str


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        row, contender: whose it is.
        measure: what of: a return, an oracle-normalised score, POPGym's score, or a fraction of
            iterations.
        value, stderr: the number, and its standard error where one was given.
        source: key of `sources()`.
    """

    row: str
    contender: str
    measure: str
    value: float
    stderr: float | None
    source: str


def published(row: str, contender: str, measure: str = RETURN) -> Published | None:
    """The number for a row's contender, if there is one."""
    return _numbers().get((row, contender, measure))


def training_time(row: str) -> str | None:
    """What a training of the paper's took, of the agents that play a row, where that is known."""
    return _file()["training_times"].get(row)


@cache
def sources() -> dict[str, Source]:
    """All sources, by key."""
    return {key: Source(**values) for key, values in _file()["sources"].items()}


@cache
def _numbers() -> dict[tuple[str, str, str], Published]:
    numbers = [Published(**values) for values in _file()["numbers"]]
    return {(n.row, n.contender, n.measure): n for n in numbers}


@cache
def _file() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
