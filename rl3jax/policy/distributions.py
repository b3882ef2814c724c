"""Distributions of actions: what the numbers that a policy's head puts out mean.

A distribution is static; its parameters, `[..., num_params]`, are arguments, so that rollouts may
record them and PPO compare those of then and now.
"""

import abc
import importlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from gymnax.environments import spaces
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rl3jax.checks import ConfigError, check_size

Action: TypeAlias = Int[Array, "..."] | Float[Array, "... A"]
"""An index, or a vector."""


@dataclass(frozen=True)
class ActionDistribution(abc.ABC):
    """A kind of distribution over one action; all methods take batches of parameters as well."""

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
        """What an observation shows of an action; zeros of `no_action`."""

    @abc.abstractmethod
    def sample(self, params: Float[Array, "*batch params"], key: PRNGKeyArray) -> Action:
        """A random action. The key is consumed."""

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
        return _categorical(params).log_prob(action)

    def entropy(self, params: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        """Exact entropy, in nats."""
        return _categorical(params).entropy()

    def kl(
        self, params: Float[Array, "*batch A"], other: Float[Array, "*batch A"]
    ) -> Float[Array, "*batch"]:
        """Exact KL(params ‖ other), in nats."""
        return _categorical(params).kl_divergence(_categorical(other))


def _categorical(logits: Float[Array, "*batch A"]) -> Any:
    """Distrax's; it takes most of the time of an import of all, so it waits until it is needed."""
    with jax.ensure_compile_time_eval():  # that may be in the middle of a trace
        distrax = importlib.import_module("distrax")
    return distrax.Categorical(logits, dtype=jnp.int32)


def distribution_over(space: Any) -> ActionDistribution:
    """The distribution of policies that act in a space of gymnax's.

    Raises:
        ConfigError: if there is none for such a space.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    raise ConfigError(f"actions must be spaces.Discrete, not {type(space).__name__}")
