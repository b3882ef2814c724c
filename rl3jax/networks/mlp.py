"""The network without memory, for RL³-Markov."""

import dataclasses
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from rl3jax.checks import check_size
from rl3jax.devices import on_cpu
from rl3jax.networks.base import Dense, Network, dense, init_dense
from rl3jax.ranges import Size


class MarkovParams(NamedTuple):
    """Weights of a `Markov` network, in the order of use."""

    first: Dense  # [num_inputs, width]
    second: Dense  # [width, width]
    head: Dense  # [width, num_outputs]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Markov(Network):
    """Two dense relu layers and a dense head: what it remembers is in the observation or nowhere.

    RL³-Markov relies on the object-level estimates and counts instead of a memory. On bandits
    these are a sufficient statistic of the task (RL³, Bhatia et al., appendix A.1).

    Attributes:
        width: units of either layer.
    """

    width: Size = 64

    @property
    def rows_at_a_time(self) -> int | None:
        """Rows (steps × meta-episodes) that it is best trained on together."""
        return 800 if on_cpu() else None

    def init(self, key: PRNGKeyArray, num_inputs: int) -> MarkovParams:
        """Draws Glorot-uniform weights; the key is consumed.

        Raises:
            ValueError: `num_inputs` is not a positive integer.
        """
        check_size("num_inputs", num_inputs)
        first_key, second_key, head_key = jax.random.split(key, 3)
        return MarkovParams(
            first=init_dense(first_key, num_inputs, self.width),
            second=init_dense(second_key, self.width, self.width),
            head=init_dense(head_key, self.width, self.num_outputs),
        )

    def initial_carry(self, horizon: int) -> tuple[()]:
        """Returns the empty carry: there is nothing to remember."""
        del horizon
        return ()

    def step(
        self, params: MarkovParams, carry: tuple[()], x: Float[Array, " D"]
    ) -> tuple[tuple[()], Float[Array, " num_outputs"]]:
        """Gives the outputs for one observation."""
        return carry, _forward(params, x)

    def unroll(
        self, params: MarkovParams, xs: Float[Array, "T *batch D"]
    ) -> Float[Array, "T *batch num_outputs"]:
        """Gives the outputs for every observation, each for itself."""
        return _forward(params, xs)


def _forward(params: MarkovParams, x: Float[Array, "*batch D"]) -> Float[Array, "*batch outputs"]:
    hidden = jax.nn.relu(dense(params.first, x))
    hidden = jax.nn.relu(dense(params.second, hidden))
    return dense(params.head, hidden)
