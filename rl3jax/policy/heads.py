"""Heads: from a memory's features, and the observation, to a distribution's parameters.

A head is a flax module, called as `head(features, observation)` on whole batches of both; that of a
critic has a single output, the value.
"""

from collections.abc import Callable
from typing import TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rl3jax.checks import ConfigError
from rl3jax.networks.layers import dense_layer
from rl3jax.policy.distributions import ActionDistribution, Categorical
from rl3jax.policy.observation import ObservationLayout
from rl3jax.ranges import Positive
from rl3jax.registry import Registry
from rl3jax.symlog import symexp


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


class PlanningHead(Head):
    """Logits of the object-level plans, and what the policy has learned to add to them.

    Residual policy learning (Silver et al. 2018; Johannink et al. 2019) on advantages Q − V of a
    careful and Q⁺ − V⁺ of an exploring plan, which are read from the observation:

        logits = f(x)[:A] + β(x) [(1 − g(x)) A⁺ + g(x) A],

    with A and A⁺ in units of the temperature, at least −30, β = exp(f(x)[A]) within e^±3, and
    g = sigmoid(f(x)[A + 1]), for a dense layer f that is nearly 0 at the start: a fresh policy acts
    by the exploring plan, softly.

    Attributes:
        careful_at, exploring_at: where in the observation the advantages of either begin.
        value_scale: what they are shown divided by.
        squash: whether they are shown as sign(x) · ln(1 + |x|).
        temperature: in reward units.
    """

    careful_at: int = 0
    exploring_at: int = 0
    value_scale: float = 1.0
    squash: bool = False
    temperature: float = 1.0

    @nn.compact
    def __call__(
        self, features: Float[Array, "*batch F"], observation: Float[Array, "*batch D"]
    ) -> Float[Array, "*batch num_outputs"]:
        """The logits."""
        layer = dense_layer(
            self.num_outputs + 2,
            kernel_scale=START_SCALE,
            bias_init=lambda key, shape, dtype: jnp.zeros(shape, dtype).at[-1].set(START_TRUST),
        )
        out = layer(features)
        residual, log_beta, trust = jnp.split(out, [self.num_outputs, self.num_outputs + 1], -1)
        trust = jax.nn.sigmoid(trust)
        exploring = self._advantages(observation, self.exploring_at)
        careful = self._advantages(observation, self.careful_at)
        plan = (1 - trust) * exploring + trust * careful
        return residual + jnp.exp(jnp.clip(log_beta, -MOST_LOG_BETA, MOST_LOG_BETA)) * plan

    def _advantages(
        self, observation: Float[Array, "*batch D"], first: int
    ) -> Float[Array, "*batch num_outputs"]:
        """Those of a plan, as an observation shows them from `first` on, by the temperature."""
        shown = observation[..., first : first + self.num_outputs]
        if self.squash:
            shown = symexp(shown)
        return jnp.maximum(shown * (self.value_scale / self.temperature), LEAST_ADVANTAGE)


START_SCALE = 1 / 20
"""Of a planning head's kernel at the start, against Glorot's."""
START_TRUST = -2.0
"""Of the careful plan, before the sigmoid."""
MOST_LOG_BETA = 3.0
LEAST_ADVANTAGE = -30.0

MakeHead: TypeAlias = Callable[..., Head]
"""A function of the layout and the distribution; other arguments are options."""


def _plain(layout: ObservationLayout, distribution: ActionDistribution) -> PlainHead:
    del layout
    return PlainHead(distribution.num_params)


def _planning(
    layout: ObservationLayout, distribution: ActionDistribution, temperature: Positive = 1.0
) -> PlanningHead:
    """The head that starts as the planner.

    Args:
        layout: of observations, which must show both plans.
        distribution: of actions.
        temperature: Advantages of a plan count in this unit, in reward units.
    """
    if not isinstance(distribution, Categorical):
        raise ConfigError("head planning is for actions that are spaces.Discrete")
    fields = layout.fields
    for name in ("advantages", "optimistic_advantages"):
        if name not in fields:
            raise ConfigError(
                f"head planning needs {name} in the observation, of a learner of algo rl3 that "
                f"explores by optimistic values; it has {', '.join(fields)}"
            )
    return PlanningHead(
        distribution.num_actions,
        careful_at=fields["advantages"].start,
        exploring_at=fields["optimistic_advantages"].start,
        value_scale=layout.value_scale,
        squash=layout.squash,
        temperature=temperature,
    )


HEADS: Registry[MakeHead] = Registry(
    "head", {"plain": _plain, "planning": _planning}, hidden=("layout", "distribution")
)
