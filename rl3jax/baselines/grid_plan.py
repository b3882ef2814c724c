"""Plans of a known deterministic model on a fine grid of its states."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rl3jax.bellman import backward_induction
from rl3jax.object_level.anchors import Grid


class Outcome(NamedTuple):
    """What an action does in a state."""

    entered: Float[Array, " D"]
    reward: Float[Array, ""]
    ended: Bool[Array, ""]


Outcomes = Callable[[Float[Array, " D"]], Outcome]
"""From a state to what every action does there: `[A, D]`, `[A]`, `[A]`."""


@dataclass(frozen=True)
class StateGrid:
    """A grid in a box of states, between whose places values are interpolated.

    Attributes:
        low, high: D numbers each, the box; beyond it, values are those at its edge.
        shape: places along each dimension.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]

    @property
    def places(self) -> Float[Array, "m D"]:
        """All states of the grid."""
        low, high = self._ends(2)
        return low + (jnp.asarray(Grid(self.shape).points, float) + 1) / 2 * (high - low)

    def _ends(self, ndim: int) -> tuple[Array, Array]:
        """Low and high, for arrays of so many dimensions whose last is the box's."""
        low, high = (jnp.asarray(x, float) for x in (self.low, self.high))
        shape = (*[1] * (ndim - 1), -1)
        return low.reshape(shape), high.reshape(shape)

    def interpolate(
        self, values: Float[Array, " m"], states: Float[Array, "*k D"]
    ) -> Float[Array, "*k"]:
        """Values in any states, from those on the grid."""
        low, high = self._ends(states.ndim)
        scaled = 2 * (states - low) / (high - low) - 1
        return Grid(self.shape).interpolate(values[:, None], scaled)[..., 0]

    def plan(self, outcomes: Outcomes, steps: int) -> Float[Array, " m"]:
        """The most that can be had in so many steps from the states of the grid (Bellman 1957)."""
        entered = jax.vmap(outcomes)(self.places)

        def backup(v: Float[Array, " m"]) -> Float[Array, "m A"]:
            return self.look_ahead(v, entered)

        v_end = jnp.zeros(len(entered.reward))
        return backward_induction(backup, v_end, steps, keep=lambda q: None)[0]

    def look_ahead(self, values: Float[Array, " m"], outcome: Outcome) -> Float[Array, "*k"]:
        """Rewards, and values of what is entered unless it ends the episode."""
        onward = self.interpolate(values, outcome.entered)
        return outcome.reward + jnp.where(outcome.ended, 0.0, onward)
