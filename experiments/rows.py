"""The rows of a table: which tasks are played, and by agents of which training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PRESETS = ("quick", "cpu", "paper")
"""From the least to the most that is trained."""

SEEDS = {"quick": 2, "cpu": 4, "paper": 4}
"""Of every training, unless an experiment says otherwise."""


@dataclass(frozen=True)
class Training:
    """A meta-training, but for its seed.

    Attributes:
        name: of its run folder.
        config: fields of `rl3jax.Config`, so flags of `rl3jax.train`.
        seeds: more than one are trained as one program, by `rl3jax.sweep`.
    """

    name: str
    config: Mapping[str, Any]
    seeds: int = 1


@dataclass(frozen=True)
class Row:
    """A row of a table: tasks and budget on which agents are scored.

    Attributes:
        name: as in published.json.
        title: in tables.
        env, variation, horizon: what is played; no variation of an environment without any.
        trainings: by algorithm, what plays; empty for classical baselines alone.
        n_tasks: held-out tasks.
        batch_size: tasks at a time, to bound memory; None: all.
    """

    name: str
    title: str
    env: str
    variation: str | None
    horizon: int
    trainings: Mapping[str, Training] = field(default_factory=dict)
    n_tasks: int = 1000
    batch_size: int | None = None

    @property
    def tasks(self) -> str:
        """Name of what is played, whoever plays: rows that share it share their baselines."""
        return "-".join(filter(None, (self.env, self.variation, f"h{self.horizon}")))
