"""No memory, for RL³-Markov."""

import flax.linen as nn
from jaxtyping import Array, Float

from rl3jax.devices import on_cpu
from rl3jax.networks.base import Memory
from rl3jax.networks.layers import dense_layer
from rl3jax.ranges import Size


class Markov(Memory):
    """Two dense relu layers: what they remember is in the observation or nowhere.

    RL³-Markov relies on the object-level estimates and counts instead of a memory. On bandits
    these are a sufficient statistic of the task (RL³, Bhatia et al., appendix A.1).

    Attributes:
        width: units of either layer.

    Raises:
        ValueError: a size is not a positive integer.
    """

    width: Size = 64

    @property
    def rows_at_a_time(self) -> int | None:
        """Rows (steps × meta-episodes) that it is best trained on together."""
        return 800 if on_cpu() else None

    def __call__(
        self, carry: tuple[()], x: Float[Array, " D"]
    ) -> tuple[tuple[()], Float[Array, " width"]]:
        """Gives the features of one observation."""
        return carry, self.unroll(x)

    @nn.compact
    def unroll(self, xs: Float[Array, "*batch D"]) -> Float[Array, "*batch width"]:
        """Gives the features of every observation, each for itself."""
        hidden = nn.relu(dense_layer(self.width)(xs))
        return nn.relu(dense_layer(self.width)(hidden))
