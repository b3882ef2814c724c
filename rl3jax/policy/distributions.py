"""Distributions of actions: what the numbers that a policy's head puts out mean.

A distribution is static; its parameters, `[..., num_params]`, are arguments, so that rollouts may
record them and PPO compare those of then and now.
"""

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rl3jax.checks import ConfigError, check_size, is_finite, shown
from rl3jax.lazy import imported
from rl3jax.object_level import PLAIN, Feature, Features
from rl3jax.ranges import box_ends

Action: TypeAlias = Int[Array, "..."] | Float[Array, "... A"]
"""An index, or a vector."""


@dataclass(frozen=True)
class ActionDistribution(abc.ABC):
    """A kind of distribution over one action; all methods take batches of parameters as well.

    Attributes:
        num_actions: A, actions that object-level learners know.
    """

    if TYPE_CHECKING:  # a field of a subclass, or a property

        @property
        def num_actions(self) -> int:
            """A, actions that object-level learners know."""

    @property
    @abc.abstractmethod
    def described(self) -> str:
        """What the actions are, in words."""

    @property
    @abc.abstractmethod
    def num_params(self) -> int:
        """How many numbers describe one distribution."""

    @property
    @abc.abstractmethod
    def shown_size(self) -> int:
        """P, how many numbers an observation has for the previous action."""

    @abc.abstractmethod
    def no_action(self) -> Action:
        """What stands for the previous action where there is none."""

    @abc.abstractmethod
    def show(self, action: Action) -> Float[Array, " P"]:
        """What an observation shows of an action as it is played; zeros of `no_action`."""

    def played(self, drawn: Action) -> Action:
        """What the environment takes of an action as it was drawn: the same, unless overridden."""
        return drawn

    def index(self, action: Action) -> Int[Array, ""]:
        """What object-level learners take of an action as it is played, int32."""
        return action

    def anchor(self, index: Int[Array, ""]) -> Action:
        """The action, as it is played, that learners know by an index."""
        return index

    @property
    def drawn_anchors(self) -> tuple[tuple[float, ...], ...]:
        """Each anchor as a policy draws it; `()`: policies draw the learners' own actions."""
        return ()

    def with_actions(self, features: Features) -> Features:
        """What learners give, and for a policy of other actions than theirs the best of theirs."""
        return features

    @abc.abstractmethod
    def sample(self, params: Float[Array, "*batch params"], key: PRNGKeyArray) -> Action:
        """A random action, as drawn. The key is consumed."""

    @abc.abstractmethod
    def mode(self, params: Float[Array, "*batch params"]) -> Action:
        """The most probable action, the first of equals."""

    @abc.abstractmethod
    def log_prob(
        self, params: Float[Array, "*batch params"], action: Action
    ) -> Float[Array, "*batch"]:
        """Logarithm of an action's probability, or density."""

    @abc.abstractmethod
    def entropy(self, params: Float[Array, "*batch params"]) -> Float[Array, "*batch"]:
        """Exact entropy, in nats."""

    @abc.abstractmethod
    def kl(
        self, params: Float[Array, "*batch params"], other: Float[Array, "*batch params"]
    ) -> Float[Array, "*batch"]:
        """Exact KL(params ‖ other), in nats."""


@dataclass(frozen=True)
class Categorical(ActionDistribution):
    """One of finitely many actions, int32; the parameters are logits.

    Attributes:
        num_actions: A.
    """

    num_actions: int

    def __post_init__(self) -> None:
        check_size("num_actions", self.num_actions)

    @property
    def described(self) -> str:
        """Their number."""
        return f"{self.num_actions} actions"

    @property
    def num_params(self) -> int:
        """A logit for each action."""
        return self.num_actions

    @property
    def shown_size(self) -> int:
        """A number for each action."""
        return self.num_actions

    def no_action(self) -> Int[Array, ""]:
        """The index −1."""
        return jnp.int32(-1)

    def show(self, action: Int[Array, ""]) -> Float[Array, " A"]:
        """One-hot."""
        return jax.nn.one_hot(action, self.num_actions)

    def sample(self, params: Float[Array, "*batch A"], key: PRNGKeyArray) -> Int[Array, "*batch"]:
        """A random action, int32. The key is consumed."""
        return _categorical(params).sample(seed=key)

    def mode(self, params: Float[Array, "*batch A"]) -> Int[Array, "*batch"]:
        """The action with the largest logit, the first of equals, int32."""
        return _categorical(params).mode()

    def log_prob(
        self, params: Float[Array, "*batch A"], action: Int[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        """Logarithm of an action's probability."""
        taken = jax.nn.one_hot(action, self.num_actions)
        return jnp.sum(_log_probs(params) * taken, axis=-1)

    def entropy(self, params: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        """Exact entropy, in nats."""
        log_probs = _log_probs(params)
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def kl(
        self, params: Float[Array, "*batch A"], other: Float[Array, "*batch A"]
    ) -> Float[Array, "*batch"]:
        """Exact KL(params ‖ other), in nats."""
        log_probs, others = _log_probs(params), _log_probs(other)
        return jnp.sum(jnp.exp(log_probs) * (log_probs - others), axis=-1)


def _log_probs(logits: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
    """Of impossible actions the least number, whose product with 0 is 0.

    Not by distrax, with which PPO's loss is an eighth slower: here XLA takes each logarithm once.
    """
    return jnp.maximum(jax.nn.log_softmax(logits), jnp.finfo(logits.dtype).min)


def _categorical(logits: Float[Array, "*batch A"]) -> Any:
    return imported("distrax").Categorical(logits, dtype=jnp.int32)


LEAST_LOG_STD, MOST_LOG_STD = -5.0, 1.0
"""Of what a Gaussian draws, in units of half the box."""
BEST_ACTIONS = {"advantages": "best_action", "optimistic_advantages": "best_optimistic_action"}
"""Features that are advantages of anchors, and what the anchor that is best by them is shown as."""


@dataclass(frozen=True)
class Gaussian(ActionDistribution):
    """Vectors in a box, drawn from independent normal distributions and clipped to it.

    What is drawn, u, is in units in which the box is [−1, 1]; an action as it is played is in the
    box itself. Parameters are means, and what a sigmoid makes log-deviations of, 0 at the start.

    Attributes:
        low, high: the box.
        anchors: actions that object-level learners know, by index; any counts for the nearest.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    anchors: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.low)
        rows = (self.low, self.high, *self.anchors)
        are_numbers = all(
            isinstance(x, float) and is_finite(x) for row in rows for x in row
        ) and all(len(row) == n for row in rows)
        is_box = are_numbers and all(a < b for a, b in zip(self.low, self.high, strict=True))
        if not (n and self.anchors and is_box):
            raise ConfigError(
                f"actions must lie in a box of finite low < high, with anchors in it, not in "
                f"{shown(self.low)} to {shown(self.high)}"
            )

    @property
    def num_actions(self) -> int:
        """A, the number of anchors."""
        return len(self.anchors)

    @property
    def described(self) -> str:
        """Their box."""
        return f"actions from {shown(self.low)} to {shown(self.high)}"

    @property
    def num_params(self) -> int:
        """A mean and a deviation in each dimension."""
        return 2 * len(self.low)

    @property
    def shown_size(self) -> int:
        """A number in each dimension."""
        return len(self.low)

    @property
    def _middle(self) -> Float[Array, " n"]:
        return (jnp.asarray(self.low) + jnp.asarray(self.high)) / 2

    @property
    def _half(self) -> Float[Array, " n"]:
        return (jnp.asarray(self.high) - jnp.asarray(self.low)) / 2

    def no_action(self) -> Float[Array, " n"]:
        """The middle of the box."""
        return self._middle

    def show(self, action: Float[Array, " n"]) -> Float[Array, " n"]:
        """The action in units in which the box is [−1, 1], clipped to it."""
        return jnp.clip((action - self._middle) / self._half, -1, 1)

    def played(self, drawn: Float[Array, " n"]) -> Float[Array, " n"]:
        """The point of the box; what lies beyond is clipped to it."""
        return self._middle + self._half * jnp.clip(drawn, -1, 1)

    def index(self, action: Float[Array, " n"]) -> Int[Array, ""]:
        """That of the nearest anchor, the first of equals, int32."""
        away = self._shown_anchors - self.show(action)[None]
        return jnp.argmin(jnp.square(away).sum(axis=1)).astype(jnp.int32)

    def anchor(self, index: Int[Array, ""]) -> Float[Array, " n"]:
        """That anchor."""
        return jnp.asarray(self.anchors)[index]

    @property
    def _shown_anchors(self) -> Float[Array, "A n"]:
        return jax.vmap(self.show)(jnp.asarray(self.anchors))

    @property
    def drawn_anchors(self) -> tuple[tuple[float, ...], ...]:
        """Each u that an anchor is played by."""
        return _rows(np.asarray(self._shown_anchors))

    def with_actions(self, features: Features) -> Features:
        """What learners give, and the anchors that are best by it."""
        best = {
            name: Feature(self._shown_anchors[features[by].numbers.argmax()], PLAIN)
            for by, name in BEST_ACTIONS.items()
            if by in features
        }
        return type(features)(features | best)

    def sample(
        self, params: Float[Array, "*batch params"], key: PRNGKeyArray
    ) -> Float[Array, "*batch n"]:
        """A random u. The key is consumed."""
        return self._normal(params).sample(seed=key)

    def mode(self, params: Float[Array, "*batch params"]) -> Float[Array, "*batch n"]:
        """The mean u."""
        return params[..., : self.shown_size]

    def log_prob(
        self, params: Float[Array, "*batch params"], action: Float[Array, "*batch n"]
    ) -> Float[Array, "*batch"]:
        """Logarithm of the density of u."""
        return self._normal(params).log_prob(action).sum(axis=-1)

    def entropy(self, params: Float[Array, "*batch params"]) -> Float[Array, "*batch"]:
        """Exact entropy of u, in nats."""
        return self._normal(params).entropy().sum(axis=-1)

    def kl(
        self, params: Float[Array, "*batch params"], other: Float[Array, "*batch params"]
    ) -> Float[Array, "*batch"]:
        """Exact KL(params ‖ other), in nats."""
        return self._normal(params).kl_divergence(self._normal(other)).sum(axis=-1)

    def _normal(self, params: Float[Array, "*batch params"]) -> Any:
        mean, raw = jnp.split(params, 2, axis=-1)
        width = MOST_LOG_STD - LEAST_LOG_STD
        start = math.log(-LEAST_LOG_STD / MOST_LOG_STD)  # the sigmoid makes 0 of it
        log_std = LEAST_LOG_STD + width * jax.nn.sigmoid(raw + start)
        return imported("distrax").Normal(mean, jnp.exp(log_std))


class TanhGaussian(Gaussian):
    """Vectors in a box, drawn from independent normal distributions that tanh squashes onto it.

    What is drawn is the normal distributions' own u. `log_prob` and `kl` are u's: ratios of
    densities, and KL, are the same of squashed distributions.
    """

    def played(self, drawn: Float[Array, " n"]) -> Float[Array, " n"]:
        """The point of the box that tanh makes of u."""
        return self._middle + self._half * jnp.tanh(drawn)

    @property
    def drawn_anchors(self) -> tuple[tuple[float, ...], ...]:
        """Each u that an anchor, or what is next to it inside the box, is played by."""
        return _rows(np.arctanh(INSIDE * np.asarray(super().drawn_anchors)))

    def entropy(self, params: Float[Array, "*batch params"]) -> Float[Array, "*batch"]:
        """Entropy of tanh u, in nats, by quadrature: that of u, and E log(1 − tanh² u)."""
        normal = self._normal(params)
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        expected = sum(
            weight * log_slope_of_tanh(normal.loc + normal.scale * node)
            for node, weight in zip(nodes, weights / weights.sum(), strict=True)
        )
        return super().entropy(params) + jnp.asarray(expected).sum(axis=-1)


INSIDE = 0.96
"""Of half the box: tanh never reaches its ends."""
NODES = 12
"""Of the quadrature."""


def log_slope_of_tanh(u: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """log(1 − tanh² u), which is finite for any finite u."""
    return 2 * (math.log(2) - u - jax.nn.softplus(-2 * u))


def distribution_over(
    space: Any, anchors: Float[np.ndarray, "A n"] | None = None, squashed: bool = False
) -> ActionDistribution:
    """The distribution of policies that act in a space of gymnax's.

    Args:
        space: Discrete, or a Box of vectors.
        anchors: of actions in a box, those that object-level learners know.
        squashed: onto a box by tanh, instead of clipped to it.

    Raises:
        ConfigError: if there is none for such a space, its bounds are not finite, or actions that
            are in no box are to be squashed.
    """
    if isinstance(space, spaces.Discrete):
        if squashed:
            raise ConfigError(f"squash_actions is of actions in a box; these are {int(space.n)}")
        return Categorical(int(space.n))
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or anchors is None:
        raise ConfigError(
            f"actions must be spaces.Discrete or a spaces.Box of vectors, not {shown(space)}"
        )
    low, high = box_ends(space)
    kind = TanhGaussian if squashed else Gaussian
    return kind(tuple(map(float, low)), tuple(map(float, high)), _rows(anchors))


def _rows(array: Float[np.ndarray, "m n"]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in array)
