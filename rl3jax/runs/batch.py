"""Many runs as one program: every point of a grid of traced numbers, with every seed."""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from rl3jax.agent import PolicyAgent
from rl3jax.checks import ConfigError, nearest_name, shown
from rl3jax.config import Config, Hyperparams
from rl3jax.devices import Devices
from rl3jax.runs.loop import Listeners, iterations, validate
from rl3jax.seeding import training_key
from rl3jax.trainer import Metrics, Trainer, TrainState

SWEPT = tuple(f.name for f in dataclasses.fields(Hyperparams) if f.name != "iterations")

Values = dict[str, float]
"""A point of the grid: a value for each swept name."""


def parse_grid(texts: Sequence[str], config: Config) -> dict[str, tuple[float, ...]]:
    """Values by name, from `"name=value,value"` each; `config` is what they are varied from.

    Raises:
        ConfigError: if a name cannot be swept or is given twice, or if its values are no numbers,
            repeated or missing.
    """
    grid: dict[str, tuple[float, ...]] = {}
    for text in texts:
        written, equals, values = text.partition("=")
        name = written.strip().replace("-", "_")
        if not equals:
            raise ConfigError(f"--grid takes NAME=VALUE,VALUE,…, not {shown(text)}")
        _check_swept(name, config)
        if name in grid:
            raise ConfigError(f"--grid has {name} twice")
        grid[name] = _parse_values(name, values)
    return grid


def _check_swept(name: str, config: Config) -> None:
    if name in SWEPT:
        return
    if name == "seed":
        raise ConfigError("seeds are swept by --seeds N, from --seed on; not by --grid")
    if name in config.names:
        raise ConfigError(f"{name} shapes the program; only {', '.join(SWEPT)} can be swept")
    raise ConfigError(f"--grid has no {shown(name)}; {nearest_name(name, SWEPT)}")


def _parse_values(name: str, text: str) -> tuple[float, ...]:
    values: list[float] = []
    for written in text.split(",") if text.strip() else []:
        try:
            value = float(written)
        except ValueError:
            raise ConfigError(f"{name} must be a number, not {shown(written)}") from None
        if value in values:
            raise ConfigError(f"--grid has {name} = {value:g} twice")
        values.append(value)
    if not values:
        raise ConfigError(f"--grid has no values of {name}; give {name}=VALUE,VALUE,…")
    return tuple(values)


def make_points(grid: Mapping[str, tuple[float, ...]]) -> list[Values]:
    """Every combination; the last name varies fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def configs_of(config: Config, points: Sequence[Values]) -> list[Config]:
    """The resolved config of every point.

    Raises:
        ConfigError: if a value is out of its range, or the config sets a swept name itself.
    """
    for name in points[0]:
        if getattr(config, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{name} is given twice: by {flag} and in --grid")
    changes: list[dict[str, Any]] = [*points]
    return [dataclasses.replace(config, **values).resolve() for values in changes]


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def update(trainer: Trainer, runs_on: Devices, states: TrainState) -> tuple[TrainState, Metrics]:
    """One meta-iteration of every run; whole runs are split over devices."""
    return runs_on.split(jax.vmap(trainer.update))(states)


@dataclass(frozen=True)
class Batch:
    """A run of each config with each seed.

    Attributes:
        trainer: of a run, on one device.
        configs: of which only the traced numbers count.
        seeds: they vary fastest.
        runs_on: the devices that whole runs are split over.
    """

    trainer: Trainer
    configs: Sequence[Config]
    seeds: Sequence[int]
    runs_on: Devices

    @property
    def n_runs(self) -> int:
        """Of all configs together."""
        return len(self.configs) * len(self.seeds)

    def start(self) -> TrainState:
        """Fresh states of all runs, `[runs]`."""
        hyperparams = [config.hyperparams() for config in self.configs]
        runs = list(itertools.product(hyperparams, self.seeds))
        # As data: the check of key reuse takes a stack of keys for a use of them.
        keys = jnp.stack([jax.random.key_data(training_key(seed)) for _, seed in runs])
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *(values for values, _ in runs))
        states = jax.jit(jax.vmap(self.trainer.init))(jax.random.wrap_key_data(keys), stacked)
        return self.runs_on.deal(states)

    def trace(self, trainer: Trainer) -> jax.stages.Traced:
        """Traces an iteration of all runs as `train` calls it, for a trainer of theirs."""
        state = jax.eval_shape(lambda: trainer.init(training_key(0)))
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.n_runs, *x.shape), x.dtype), state
        )
        return update.trace(trainer, self.runs_on, self.runs_on.deal(shapes))

    def train(self, listeners: Listeners) -> tuple[TrainState, Float[np.ndarray, "I runs"]]:
        """All iterations, unless all runs diverge or a signal asks to stop.

        Returns:
            The last states; mean returns, NaN from where a run diverged.
        """
        states, returns = self.start(), []
        program = partial(update, self.trainer, self.runs_on)
        with contextlib.closing(iterations(self.trainer, program, states, 0, self.n_runs)) as made:
            for after, metrics, alive, line in made:
                states = after
                returns.append(np.where(alive, metrics.mean_return, np.nan))
                for listen in listeners:
                    listen(line)
        return jax.device_put(states, jax.devices()[0]), np.array(returns, float)

    def agent(self, states: TrainState, run: int) -> PolicyAgent:
        """The greedy policy of one of the runs."""
        all_runs = self.trainer.agent(states)
        return all_runs.replace(params=jax.tree.map(lambda x: x[run], all_runs.params))

    def scores(
        self, states: TrainState, alive: Bool[np.ndarray, " runs"]
    ) -> Float[np.ndarray, "2 runs"]:
        """Mean return of every run's greedy policy on the validation tasks, and its standard error.

        NaN where a run is not alive.
        """
        scores = np.full((2, self.n_runs), np.nan)
        for run in np.flatnonzero(alive).tolist():
            score = validate(self.trainer, self.agent(states, run))
            scores[:, run] = score.mean, score.stderr
        return scores
