"""Beliefs about the task that are learned from all tasks, and that a policy is shown.

A belief is static. What it holds of one task lives in the policy's carry, beside the object-level
table; its parameters are learned by a loss of their own (`learning.belief`), not by the policy's.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rl3jax.checks import ConfigError
from rl3jax.networks import Gru
from rl3jax.networks.layers import dense_layer
from rl3jax.object_level import LATENT, Feature, Features
from rl3jax.policy.observation import ObservationLayout
from rl3jax.ranges import NonNegative, OneOf, Positive, Size, check_fields
from rl3jax.registry import Registry


class Evidence(NamedTuple):
    """One env step, or those of meta-episodes, `[T, B, ...]`; P and F as an observation has them.

    Attributes:
        state: `[F]`, what a policy is shown of the state.
        action: `[P]`, what it is shown of the action.
        reward: `[]`, in reward units.
        entered: `[F]`, what it is shown of the state that the action led to.
        entered_index: `[]` int32, that state's index; 0 where states are vectors.
    """

    state: jax.Array
    action: jax.Array
    reward: jax.Array
    entered: jax.Array
    entered_index: jax.Array


@dataclass(frozen=True)
class Belief:
    """Base of beliefs: this one holds nothing, and has nothing to show or to learn.

    Methods are those of one task, but for `loss`; vmap them for more. While an episode waits for
    its time limit beliefs run on, as memories do.
    """

    learns: ClassVar[bool] = False
    """Whether there are parameters, and a loss of them."""
    rows_at_a_time: ClassVar[int | None] = None
    """As a memory's."""

    if TYPE_CHECKING:  # a field of those that learn

        @property
        def learning_rate(self) -> float:
            """Adam's, of that loss, at the start."""

    def init_params(self, key: PRNGKeyArray, layout: ObservationLayout) -> Any:
        """Draws parameters for evidence of the layout's sizes. The key is consumed."""
        del key, layout
        return ()

    def init(self) -> Any:
        """What is held of a task before any evidence: a pytree of arrays."""
        return ()

    def update(self, params: Any, held: Any, evidence: Any) -> Any:
        """What is held after one more step."""
        del params, evidence
        return held

    def features(self, params: Any, held: Any) -> Features:
        """What a policy is shown of it; the same names, sizes and units at every step."""
        del params, held
        return OrderedDict()

    def chance(self, key: PRNGKeyArray, horizon: int) -> Any:
        """All that a meta-episode's loss draws at random, as arrays. The key is consumed.

        It is drawn with the data, so that losses are the same on any number of devices.
        """
        del key, horizon
        return ()

    def loss(
        self, params: Any, evidence: Any, chance: Any, weight: Float[Array, "T B"] | None
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Loss of meta-episodes, a mean over them, and what else there is to say of it.

        Args:
            params: the belief's.
            evidence: `[T, B, ...]`, of all steps.
            chance: `[_, B, ...]`.
            weight: of steps, 0 where episodes waited; `None`: all alike.
        """
        del params, evidence, chance, weight
        return jnp.zeros(()), {}


# --- VariBAD ------------------------------------------------------------------------------------


class Chance(NamedTuple):
    """What a loss of `Varibad` draws.

    Attributes:
        noise: `[T + 1, L]`, standard normal, of each belief's latent variable.
        beliefs: `[n]` int32, those that are decoded, in 0 … T.
        steps: `[m]` int32, those that they are decoded to, in 0 … T − 1.
    """

    noise: jax.Array
    beliefs: jax.Array
    steps: jax.Array


class Constants(NamedTuple):
    """Those of VariBAD's published program, in one of its two configurations.

    Attributes:
        embeddings: units of the layers that read action, state and reward; 0: it is not read.
        width: units of the GRU.
        layers: units of the decoder's two layers.
        kl_weight: of KL divergences, beside log-likelihoods.
    """

    embeddings: tuple[int, int, int]
    width: int
    layers: tuple[int, int]
    kl_weight: float


DECODERS = {
    "transitions": Constants((16, 32, 16), 128, (64, 32), 0.1),
    "states": Constants((0, 8, 8), 64, (32, 32), 0.01),
}
"""What rewards are decoded for, and how: for each transition by squared error, as theirs does on
MuJoCo; or for each state whether to enter it pays 1, by a Bernoulli each, as on their grids."""
Decoder: TypeAlias = Annotated[str, OneOf(tuple(DECODERS))]


@dataclass(frozen=True)
class Varibad(Belief):
    """A normal distribution of a latent variable, by which rewards can be foretold.

    VariBAD (Zintgraf et al. 2020, arXiv 1910.08348): a GRU reads actions, states and rewards, and
    gives the mean and log-variance that a policy without another memory is shown. A decoder tells
    from a draw of the latent variable what every step of the whole meta-episode pays, past and
    future ones. Both learn by the evidence lower bound: from each of the T + 1 beliefs, log
    likelihoods summed over the steps, less the KL divergence to the belief before it, and of the
    first one to N(0, 1).

    Attributes:
        num_states: S of a decoder of states, else `None`.
        decoder: a key of `DECODERS`, of which come the constants that are no fields.
        reward_scale: rewards are read, and transitions' decoded, multiplied by it.
        width: units of the GRU, U.
        latent_size: L.
        kl_weight: of KL divergences.
        learning_rate: Adam's, at the start.
        decoded_beliefs, decoded_steps: how many of each meta-episode a decoder of transitions is
            trained on at a time, at random, at most; sums are scaled up to all pairs.
    """

    num_states: Size | None
    decoder: Decoder
    reward_scale: NonNegative
    width: Size
    latent_size: Size
    kl_weight: NonNegative
    learning_rate: Positive
    decoded_beliefs: Size
    decoded_steps: Size
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def _encoder(self) -> "Encoder":
        return Encoder(DECODERS[self.decoder].embeddings, self.width, self.latent_size)

    @property
    def _decoder(self) -> "OfStates | OfTransitions":
        layers = DECODERS[self.decoder].layers
        return (
            OfTransitions(layers) if self.num_states is None else OfStates(layers, self.num_states)
        )

    def init_params(self, key: PRNGKeyArray, layout: ObservationLayout) -> Any:
        """Draws encoder and decoder. The key is consumed."""
        key_encoder, key_decoder = jax.random.split(key)
        state, action = jnp.zeros(layout.num_features), jnp.zeros(layout.action_size)
        blank = Evidence(state, action, jnp.zeros(()), state, jnp.int32(0))
        latent, x = jnp.zeros((1, self.latent_size)), _described(blank)[None]
        return {
            "encoder": self._encoder.init(key_encoder, self.init(), blank, method="whole"),
            "decoder": self._decoder.init(key_decoder, latent, x),
        }

    def init(self) -> Float[Array, " U"]:
        """The GRU's state of zeros."""
        return jnp.zeros(self.width)

    def update(
        self, params: Any, held: Float[Array, " U"], evidence: Evidence
    ) -> Float[Array, " U"]:
        """The GRU's next state."""
        return self._encode(params, held, self._scaled(evidence))

    def features(self, params: Any, held: Float[Array, " U"]) -> Features:
        """Mean and log-variance of the latent variable."""
        mean, log_variance = self._believed(params, held)
        return OrderedDict(
            belief_mean=Feature(mean, LATENT), belief_log_variance=Feature(log_variance, LATENT)
        )

    def chance(self, key: PRNGKeyArray, horizon: int) -> Chance:
        """Noise of all beliefs; and which beliefs and steps a decoder of transitions learns of."""
        key_noise, key_beliefs, key_steps = jax.random.split(key, 3)

        def some(key: PRNGKeyArray, of: int, most: int) -> Int[Array, " n"]:
            return jax.random.permutation(key, of)[: most if self.num_states is None else 0]

        return Chance(
            noise=jax.random.normal(key_noise, (horizon + 1, self.latent_size)),
            beliefs=some(key_beliefs, horizon + 1, self.decoded_beliefs),
            steps=some(key_steps, horizon, self.decoded_steps),
        )

    def loss(
        self,
        params: Any,
        evidence: Evidence,
        chance: Chance,
        weight: Float[Array, "T B"] | None,
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The negative evidence lower bound; `decoding_loss` and `belief_kl` are its two terms."""
        evidence = self._scaled(evidence)
        held = self._encode(params, evidence, method="unroll")
        held = jnp.concatenate([jnp.zeros_like(held[:1]), held])
        mean, log_variance = self._believed(params, held)
        before = (_after_zeros(x) for x in (mean, log_variance))
        kl = kl_of_normals(mean, log_variance, *before).sum(axis=0)
        latent = mean + jnp.exp(log_variance / 2) * chance.noise
        weight = jnp.ones_like(evidence.reward) if weight is None else weight
        likelihood = self._of_transitions if self.num_states is None else self._of_states
        missed = -likelihood(params, latent, evidence, chance, weight).mean()
        said = {"decoding_loss": missed, "belief_kl": kl.mean()}
        return missed + self.kl_weight * kl.mean(), said

    def decoded(self, params: Any, latent: Float[Array, "*batch L"]) -> Float[Array, "*batch S"]:
        """Of a decoder of states: the probability that to enter a state pays 1."""
        return nn.sigmoid(self._decode(params, latent))

    def _of_states(
        self,
        params: Any,
        latent: Float[Array, "beliefs B L"],
        evidence: Evidence,
        chance: Chance,
        weight: Float[Array, "T B"],
    ) -> Float[Array, " B"]:
        """Log-likelihoods, summed over beliefs and steps, from how often each state paid or not."""
        del chance
        assert self.num_states is not None
        logits = self._decode(params, latent)
        entered = jax.nn.one_hot(evidence.entered_index, self.num_states) * weight[..., None]
        paid = jnp.abs(evidence.reward - self.reward_scale) < PAID_WITHIN * self.reward_scale
        times_paid = (entered * paid[..., None]).sum(axis=0)
        times_not = (entered * ~paid[..., None]).sum(axis=0)
        likelihood = times_paid[None] * nn.log_sigmoid(logits)
        return (likelihood + times_not[None] * nn.log_sigmoid(-logits)).sum(axis=(0, 2))

    def _of_transitions(
        self,
        params: Any,
        latent: Float[Array, "beliefs B L"],
        evidence: Evidence,
        chance: Chance,
        weight: Float[Array, "T B"],
    ) -> Float[Array, " B"]:
        """Squared errors, likewise, negative; scaled up from those that are decoded."""

        def taken(x: Float[Array, "all B *any"], which: Int[Array, "n B"]) -> Any:
            return jnp.take_along_axis(x, which.reshape(*which.shape, *(1,) * (x.ndim - 2)), 0)

        share = chance.beliefs.shape[0] * chance.steps.shape[0] / (len(latent) * len(weight))
        x = taken(_described(evidence), chance.steps)
        told = self._decode(params, taken(latent, chance.beliefs), x)
        error = jnp.square(told - taken(evidence.reward, chance.steps)[None])
        return -(error * taken(weight, chance.steps)[None]).sum(axis=(0, 1)) / share

    def _believed(
        self, params: Any, held: Float[Array, "*batch U"]
    ) -> list[Float[Array, "*batch L"]]:
        """Mean and log-variance."""
        return jnp.split(self._encode(params, held, method="believed"), 2, -1)

    def _encode(self, params: Any, *args: Any, **options: Any) -> Any:
        return self._encoder.apply(params["encoder"], *args, **options)

    def _decode(self, params: Any, *args: Any) -> Any:
        return self._decoder.apply(params["decoder"], *args)

    def _scaled(self, evidence: Evidence) -> Evidence:
        return evidence._replace(reward=evidence.reward * self.reward_scale)


PAID_WITHIN = 1e-3
"""Of a reward of 1, what is taken for it."""


def kl_of_normals(
    mean: Float[Array, "*batch L"],
    log_variance: Float[Array, "*batch L"],
    other_mean: Float[Array, "*batch L"],
    other_log_variance: Float[Array, "*batch L"],
) -> Float[Array, "*batch"]:
    """KL(first ‖ other) of normal distributions with independent entries, in nats."""
    surplus = jnp.exp(log_variance) + jnp.square(mean - other_mean)
    terms = other_log_variance - log_variance + surplus / jnp.exp(other_log_variance) - 1
    return terms.sum(axis=-1) / 2


def _after_zeros(x: Float[Array, "T *any"]) -> Float[Array, "T *any"]:
    """Each entry's predecessor; zeros before the first."""
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def _described(evidence: Evidence) -> Float[Array, "*batch X"]:
    """What rewards are decoded from, beside a latent variable: (s, a, s')."""
    return jnp.concatenate([evidence.state, evidence.action, evidence.entered], axis=-1)


class Encoder(nn.Module):
    """Embeddings of action, entered state and reward; a GRU; mean and log-variance of its state.

    Attributes:
        embeddings: units of the three; 0: not read.
        width: units of the GRU, U.
        latent_size: L.
    """

    embeddings: tuple[int, int, int]
    width: int
    latent_size: int

    def setup(self) -> None:
        """Makes the parts."""
        self.embed = [dense_layer(units) for units in self.embeddings]
        self.gru = Gru(self.width, embedding=0)
        self.posterior = dense_layer(2 * self.latent_size)

    def __call__(self, h: Float[Array, " U"], evidence: Evidence) -> Float[Array, " U"]:
        """The state after one step."""
        return self.gru(h, self._embedded(evidence))[0]

    def unroll(self, evidence: Evidence) -> Float[Array, "T *batch U"]:
        """The states after every step of meta-episodes."""
        return self.gru.unroll(self._embedded(evidence))

    def believed(self, h: Float[Array, "*batch U"]) -> Float[Array, "*batch both"]:
        """Means and log-variances, side by side."""
        return self.posterior(h)

    def whole(self, h: Float[Array, " U"], evidence: Evidence) -> Float[Array, " both"]:
        """One step, and what is believed after it."""
        return self.believed(self(h, evidence))

    def _embedded(self, evidence: Evidence) -> Float[Array, "*batch E"]:
        inputs = (evidence.action, evidence.entered, evidence.reward[..., None])
        read = [(layer, x) for layer, x in zip(self.embed, inputs, strict=True) if layer.features]
        return jnp.concatenate([nn.relu(layer(x)) for layer, x in read if x.shape[-1]], axis=-1)


class OfStates(nn.Module):
    """From a latent variable, for every state, logits of that to enter it pays 1.

    Attributes:
        layers: units of two relu layers.
        num_states: S.
    """

    layers: tuple[int, int]
    num_states: int

    @nn.compact
    def __call__(self, latent: Float[Array, "*batch L"], x: Any = None) -> Float[Array, "*batch S"]:
        """The logits, whatever `x` is."""
        del x
        for units in self.layers:
            latent = nn.relu(dense_layer(units)(latent))
        return dense_layer(self.num_states)(latent)


class OfTransitions(nn.Module):
    """From n latent variables, for each of m transitions, what it pays.

    Attributes:
        layers: units of two relu layers.
    """

    layers: tuple[int, int]

    @nn.compact
    def __call__(
        self, latent: Float[Array, "n *batch L"], x: Float[Array, "m *batch X"]
    ) -> Float[Array, "n m *batch"]:
        """Of all pairs; the first layer's product is that of either, and their sum."""
        first, second = self.layers
        of_latent, of_x = dense_layer(first)(latent), dense_layer(first, use_bias=False)(x)
        hidden = nn.relu(of_latent[:, None] + of_x[None])
        hidden = nn.relu(dense_layer(second)(hidden))
        return dense_layer(1)(hidden)[..., 0]


# --- by name ------------------------------------------------------------------------------------


def _none(layout: ObservationLayout, num_states: int | None) -> Belief:
    del layout, num_states
    return Belief()


def _varibad(
    layout: ObservationLayout,
    num_states: int | None,
    belief_decoder: Decoder = "transitions",
    belief_width: Size | None = None,
    latent_size: Size = 5,
    kl_weight: NonNegative | None = None,
    belief_learning_rate: Positive = 1e-3,
    decoded_beliefs: Size = 16,
    decoded_steps: Size = 16,
) -> Varibad:
    """VariBAD's belief.

    Args:
        layout: of observations.
        num_states: of the environment; `None` where states are vectors.
        belief_decoder: What rewards are foretold for: transitions (by squared error), or states
            (whether to enter them pays 1, as on grids with a goal).
        belief_width: Units of the encoder's GRU. None: 128, for a decoder of states 64.
        latent_size: Numbers that describe a task; the policy is shown their means and
            log-variances.
        kl_weight: Of the KL divergence to the belief before. None: 0.1, for a decoder of states
            0.01.
        belief_learning_rate: Adam's learning rate of encoder and decoder at the start; it falls as
            the policy's does.
        decoded_beliefs: Beliefs of a meta-episode that transitions are decoded from in each
            gradient step, at most.
        decoded_steps: Transitions of a meta-episode that are decoded from each of them, at most.
    """
    if belief_decoder == "states" and num_states is None:
        raise ConfigError("belief_decoder states is for states by index; here they are vectors")
    constants = DECODERS[belief_decoder]
    return Varibad(
        num_states=num_states if belief_decoder == "states" else None,
        decoder=belief_decoder,
        reward_scale=layout.reward_scale,
        width=belief_width or constants.width,
        latent_size=latent_size,
        kl_weight=constants.kl_weight if kl_weight is None else kl_weight,
        learning_rate=belief_learning_rate,
        decoded_beliefs=decoded_beliefs,
        decoded_steps=decoded_steps,
    )


BELIEFS: Registry[Any] = Registry(
    "belief", {"none": _none, "varibad": _varibad}, hidden=("layout", "num_states")
)
