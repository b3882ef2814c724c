"""Heads: from a memory's features, and the observation, to a distribution's parameters.

A head is a flax module, called as `head(features, observation)` on whole batches of both; that of a
critic has a single output, the value.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rl3jax.checks import ConfigError
from rl3jax.networks.layers import dense_layer, glorot_uniform
from rl3jax.policy.distributions import ActionDistribution
from rl3jax.policy.observation import ObservationLayout
from rl3jax.ranges import InsideUnit, Positive, Size, check_fields
from rl3jax.registry import Registry
from rl3jax.symlog import symexp


class Head(nn.Module):
    """Base of heads.

    Attributes:
        num_outputs: parameters of the distribution, or 1 for a value.
    """

    num_outputs: Size = 1

    def __post_init__(self) -> None:
        check_fields(self)
        super().__post_init__()


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
            kernel_init=glorot_uniform(START_SCALE),
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


class StateHead(Head):
    """Two dense relu layers and a plain one, on features and observation side by side.

    The control of Beck et al. (2023, arXiv 2309.14970), "RNN + S": as `HyperHead` it need not carry
    the observation through the memory, but no weights are generated.

    Attributes:
        head_width: units of either layer.
    """

    head_width: Size = 32

    @nn.compact
    def __call__(
        self, features: Float[Array, "*batch F"], observation: Float[Array, "*batch D"]
    ) -> Float[Array, "*batch num_outputs"]:
        """The outputs."""
        x = jnp.concatenate([features, observation], axis=-1)
        for _ in range(2):
            x = nn.relu(dense_layer(self.head_width)(x))
        return dense_layer(self.num_outputs)(x)


class HyperHead(Head):
    """A small network that reads the observation, with weights that the features decide.

    A hypernetwork for meta-RL (Beck et al. 2022, arXiv 2210.11348; 2023, arXiv 2309.14970). The
    features give `hyper_inputs` numbers, these z, `hyper_width` numbers within ±1, and z linearly
    all weights of two relu layers of `head_width` units and a plain one. At the start z has no say:
    weights are the usual ones of such a network, whatever the features (their Bias-HyperInit).

    Attributes:
        head_width: units of either layer of the small network.
        hyper_inputs: numbers that the features are brought down to.
        hyper_width: K, length of z.
    """

    head_width: Size = 32
    hyper_inputs: Size = 10
    hyper_width: Size = 25

    @nn.compact
    def __call__(
        self, features: Float[Array, "*batch F"], observation: Float[Array, "*batch D"]
    ) -> Float[Array, "*batch num_outputs"]:
        """The outputs."""
        z = dense_layer(self.hyper_inputs)(features)
        z = nn.tanh(dense_layer(self.hyper_width)(z))
        x = observation
        for _ in range(2):
            x = nn.relu(GeneratedDense(self.head_width)(z, x))
        return GeneratedDense(self.num_outputs)(z, x)


class GeneratedDense(nn.Module):
    """A dense layer with weights W₀ + Σₖ zₖ Wₖ, and biases likewise.

    The sum is taken over the products (W₀ x, W₁ x, …), which are one: no row of a batch has a
    weight matrix made for it. At the start W₀ is Glorot-uniform, all others are 0.

    Attributes:
        num_outputs: N, of the layer.
    """

    num_outputs: Size

    @nn.compact
    def __call__(
        self, z: Float[Array, "*batch K"], x: Float[Array, "*batch D"]
    ) -> Float[Array, "*batch num_outputs"]:
        """The layer of `z`, applied to `x`."""
        blocks = 1 + z.shape[-1]

        def first_alone(key: PRNGKeyArray, shape: tuple[int, int], dtype: Any) -> Array:
            usual = glorot_uniform()(key, (shape[0], self.num_outputs), dtype)
            return jnp.zeros(shape, dtype).at[:, : self.num_outputs].set(usual)

        products = dense_layer(blocks * self.num_outputs, kernel_init=first_alone)(x)
        products = products.reshape(*x.shape[:-1], blocks, self.num_outputs)
        return products[..., 0, :] + jnp.einsum("...k,...kn->...n", z, products[..., 1:, :])


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


def _state(
    layout: ObservationLayout, distribution: ActionDistribution, head_width: Size = 32
) -> StateHead:
    """The head that reads the observation beside the memory's features.

    Args:
        layout: of observations.
        distribution: of actions.
        head_width: Units of either layer of the policy's small network.
    """
    del layout
    return StateHead(distribution.num_params, head_width)


def _hyper(
    layout: ObservationLayout,
    distribution: ActionDistribution,
    head_width: Size = 32,
    hyper_inputs: Size = 10,
    hyper_width: Size = 25,
) -> HyperHead:
    """The head whose weights the memory's features make.

    Args:
        layout: of observations.
        distribution: of actions.
        head_width: Units of either layer of the policy's small network.
        hyper_inputs: Numbers that the features are brought down to, for the hypernetwork.
        hyper_width: Numbers that it makes of them, of which all weights are linear.
    """
    del layout
    return HyperHead(distribution.num_params, head_width, hyper_inputs, hyper_width)


HEADS: Registry[MakeHead] = Registry(
    "head",
    {"plain": _plain, "planning": _planning, "state": _state, "hyper": _hyper},
    hidden=("layout", "distribution"),
)
