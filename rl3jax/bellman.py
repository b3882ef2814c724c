"""Bellman's equation of a known model; of what environment the model is does not matter here."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jaxtyping import Array, Float

Kept = TypeVar("Kept")

Backup = Callable[[Float[Array, "*S"]], Float[Array, "*S A"]]
"""From the values of states after a step to those of the actions in it; S may be several axes."""


def backward_induction(
    backup: Backup,
    v_end: Float[Array, "*S"],
    steps: int,
    keep: Callable[[Float[Array, "*S A"]], Kept],
) -> tuple[Float[Array, "*S"], Kept]:
    """Solve q_t = backup(v_t+1), v_t = max_a q_t from the last step to the first (Bellman 1957).

    Args:
        backup: the model: from v of next states to q of states and actions, its last axis.
        v_end: values after the last step.
        steps: how many there are.
        keep: what of each q_t is to be returned: q itself, greedy actions, or None.

    Returns:
        v of the first step, and what was kept, stacked along a first axis, the first step first.
    """

    def step_back(v: Float[Array, "*S"], _: None) -> tuple[Float[Array, "*S"], Kept]:
        q = backup(v)
        return q.max(axis=-1), keep(q)

    return jax.lax.scan(step_back, v_end, length=steps, reverse=True)
