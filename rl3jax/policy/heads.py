"""Heads: from a memory's features, and the observation, to a distribution's parameters.

A head is a flax module, called as `head(features, observation)` on whole batches of both; that of a
critic has a single output, the value.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rl3jax.checks import ConfigError
from rl3jax.networks.layers import dense_layer
from rl3jax.policy.distributions import ActionDistribution
from rl3jax.policy.observation import ObservationLayout
from rl3jax.ranges import InsideUnit, Positive
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
    g = sigmoid(f(x)[A + 1]), for a dense layer f that is nearly 0 at the start but for the trust in
    the careful plan: a fresh policy acts by the plans, softly.

    Where actions lie in a box, plans are of its anchors. The head then puts out a mean, to which
    the policy adds: that of the anchors, weighted by the softmax of β [(1 − g(x)) A⁺ + g(x) A]; and
    what makes deviations.

    Attributes:
        careful_at, exploring_at: where in the observation the advantages of either begin.
        anchors: of actions in a box, as they are drawn; `()`: actions are finitely many.
        value_scale: what they are shown divided by.
        squash: whether they are shown as sign(x) · ln(1 + |x|).
        temperature: in reward units.
        trust: g at the start.
    """

    careful_at: int = 0
    exploring_at: int = 0
    anchors: tuple[tuple[float, ...], ...] = ()
    value_scale: float = 1.0
    squash: bool = False
    temperature: float = 1.0
    trust: float = 0.12

    @nn.compact
    def __call__(
        self, features: Float[Array, "*batch F"], observation: Float[Array, "*batch D"]
    ) -> Float[Array, "*batch num_outputs"]:
        """The logits, or a mean and what makes deviations."""
        start = math.log(self.trust / (1 - self.trust))
        layer = dense_layer(
            self.num_outputs + 2,
            kernel_scale=START_SCALE,
            bias_init=lambda key, shape, dtype: jnp.zeros(shape, dtype).at[-1].set(start),
        )
        out = layer(features)
        residual, log_beta, trust = jnp.split(out, [self.num_outputs, self.num_outputs + 1], -1)
        trust = jax.nn.sigmoid(trust)
        exploring = self._advantages(observation, self.exploring_at)
        careful = self._advantages(observation, self.careful_at)
        plan = (1 - trust) * exploring + trust * careful
        plan = jnp.exp(jnp.clip(log_beta, -MOST_LOG_BETA, MOST_LOG_BETA)) * plan
        if not self.anchors:
            return residual + plan
        mean = jax.nn.softmax(plan) @ jnp.asarray(self.anchors, plan.dtype)
        return residual + jnp.concatenate([mean, jnp.full_like(mean, START_DEVIATION)], axis=-1)

    def _advantages(
        self, observation: Float[Array, "*batch D"], first: int
    ) -> Float[Array, "*batch A"]:
        """Those of a plan, as an observation shows them from `first` on, by the temperature."""
        shown = observation[..., first : first + (len(self.anchors) or self.num_outputs)]
        if self.squash:
            shown = symexp(shown)
        return jnp.maximum(shown * (self.value_scale / self.temperature), LEAST_ADVANTAGE)


START_SCALE = 1 / 20
"""Of a planning head's kernel at the start, against Glorot's."""
START_DEVIATION = -1.0
"""What a third of half the box is made of, in each dimension."""
MOST_LOG_BETA = 3.0
LEAST_ADVANTAGE = -30.0

MakeHead: TypeAlias = Callable[..., Head]
"""A function of the layout and the distribution; other arguments are options."""


def _plain(layout: ObservationLayout, distribution: ActionDistribution) -> PlainHead:
    del layout
    return PlainHead(distribution.num_params)


def _planning(
    layout: ObservationLayout,
    distribution: ActionDistribution,
    temperature: Positive = 1.0,
    trust: InsideUnit = 0.12,
) -> PlanningHead:
    """The head that starts as the planner.

    Args:
        layout: of observations, which must show both plans.
        distribution: of actions.
        temperature: Advantages of a plan count in this unit, in reward units.
        trust: Share of the careful plan in what a fresh policy acts by, beside the exploring one.
    """
    fields = layout.fields
    for name in ("advantages", "optimistic_advantages"):
        if name not in fields:
            raise ConfigError(
                f"head planning needs {name} in the observation, of a learner of algo rl3 that "
                f"explores by optimistic values; it has {', '.join(fields)}"
            )
    return PlanningHead(
        distribution.num_params,
        careful_at=fields["advantages"].start,
        exploring_at=fields["optimistic_advantages"].start,
        anchors=distribution.drawn_anchors,
        value_scale=layout.value_scale,
        squash=layout.squash,
        temperature=temperature,
        trust=trust,
    )


HEADS: Registry[MakeHead] = Registry(
    "head", {"plain": _plain, "planning": _planning}, hidden=("layout", "distribution")
)
