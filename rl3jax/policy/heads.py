"""Heads: from a memory's features, and the observation, to a distribution's parameters.

A head is a flax module, called as `head(features, observation)` on whole batches of both; that of a
critic has a single output, the value.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from rl3jax.networks.layers import dense_layer


class Head(nn.Module):
    """Base of heads.

    Attributes:
        num_outputs: parameters of the distribution, or 1 for a value.
    """

    num_outputs: int = 1


class PlainHead(Head):
    """A dense layer on the features; Glorot-uniform, without bias at the start, as in RL³."""

    @nn.compact
    def __call__(
        self, features: Float[Array, "*batch F"], observation: Float[Array, "*batch D"]
    ) -> Float[Array, "*batch num_outputs"]:
        """The outputs; the observation is not looked at."""
        del observation
        return dense_layer(self.num_outputs)(features)
