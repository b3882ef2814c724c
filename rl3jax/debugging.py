"""`--debug`: JAX's own checks, at the price of speed; what they find ends a run with one line."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental import checkify
from jaxtyping import PRNGKeyArray

from rl3jax.checks import ConfigError
from rl3jax.rollout import rollout
from rl3jax.trainer import Trainer, TrainState

FOUND = (FloatingPointError, jax.errors.KeyReuseError, jax.errors.JAXTypeError)


@contextlib.contextmanager
def jax_checks() -> Iterator[None]:
    """NaNs, keys used twice and leaked tracers raise errors, which become one line each.

    Raises:
        ConfigError: at the first of them, with the line of source that it comes from.
    """
    try:
        # This thread's settings: a `with jax.debug_nans(False)` inside would end the global check
        # of NaNs for all compiled functions that have run once.
        with jax.debug_nans(True), jax.debug_key_reuse(True), jax.check_tracer_leaks(True):
            yield
    except Exception as error:
        # Of leaks JAX has no class of its own.
        if not isinstance(error, FOUND) and "Leaked" not in str(error):
            raise
        raise ConfigError(f"--debug: {_first_line(error)}, {_source(error)}") from error


def check_indices(trainer: Trainer, state: TrainState, key: PRNGKeyArray) -> None:
    """Plays one meta-episode in which every index into an array is checked.

    One task alone, since JAX cannot check loops that are vmapped. The key is consumed.

    Raises:
        ConfigError: at the first index that is out of bounds.
    """
    key_task, key_episode = jax.random.split(key)
    agent, env = trainer.agent(state, greedy=False), trainer.env

    def play(key_task: PRNGKeyArray, key_episode: PRNGKeyArray) -> None:
        rollout(agent, env, env.sample_task(key_task), trainer.layout.horizon, key_episode)

    checked = jax.jit(checkify.checkify(play, errors=checkify.index_checks))
    error, _ = checked(key_task, key_episode)
    message = error.get()
    if message is not None:
        raise ConfigError(f"--debug: {' '.join(message.split())}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _source(error: Exception) -> str:
    """Where it comes from: the last line of source that is not JAX's, nor in between its own."""
    jax_itself = Path(jax.__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if jax_itself not in Path(frame.filename).parents and frame.filename != contextlib.__file__
    ]
    return f"at {frames[-1].filename}:{frames[-1].lineno}" if frames else "from within JAX"
