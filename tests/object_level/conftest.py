import json
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


class Transitions(NamedTuple):
    """Columns `[T]`, in the order of `ObjectLearner.update`'s arguments."""

    s: np.ndarray
    a: np.ndarray
    r: np.ndarray
    s_next: np.ndarray
    terminated: np.ndarray


@partial(jax.jit, static_argnums=0)
def _replay(learner, transitions):
    def step(table, transition):
        table = learner.update(table, *transition)
        return table, learner.q_table(table)

    return jax.lax.scan(step, learner.init(), transitions)


@pytest.fixture(scope="session")
def replay():
    """From a learner and transitions to its final table and q after each, `[T, S, A]`."""

    def run(learner, transitions):
        dtypes = (jnp.int32, jnp.int32, float, jnp.int32, bool)
        columns = tuple(jnp.asarray(c, d) for c, d in zip(transitions, dtypes, strict=True))
        return _replay(learner, columns)

    return run


@pytest.fixture(scope="session")
def golden():
    """From a name to a golden case and its transitions."""

    def load(name):
        case = json.loads((GOLDEN / f"{name}.json").read_text())
        return case, Transitions(*(np.array(c) for c in zip(*case["transitions"], strict=True)))

    return load


@pytest.fixture(scope="session")
def random_transitions():
    """Random transitions among `S` states; the last state, where `S` > 1, is terminal."""

    def draw(num_states, num_actions, length, seed=0):
        rng = np.random.default_rng(seed)
        s_next = rng.integers(num_states, size=length)
        return Transitions(
            s=rng.integers(max(num_states - 1, 1), size=length),
            a=rng.integers(num_actions, size=length),
            r=rng.normal(size=length),
            s_next=s_next,
            terminated=(s_next == num_states - 1) & (num_states > 1),
        )

    return draw
