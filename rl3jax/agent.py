"""Agents: what acts for one task through a meta-episode.

An agent's carry lives for one meta-episode. The protocol, for one task (vmap for more):

    carry = agent.init(s)                            # a meta-episode begins in state index s
    action, carry = agent.act(carry, key)            # choose in the current state
    carry = agent.observe(carry, action, reward, s_next, terminated, truncated, s_now)

`s_next` is the state that the action led to, `s_now` the state to act in next: the same, or the
start state after a restart.
"""

import abc
import dataclasses
import inspect
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.networks import Network
from rl3jax.object_level import ObjectLearner
from rl3jax.observation import ObservationLayout


class Decision(NamedTuple):
    """An action and what it was chosen from; the latter is empty where an agent has no policy."""

    action: Int[Array, ""]
    logits: Any = ()  # [A]
    observation: Any = ()  # [D]


class Agent(struct.PyTreeNode):
    """Base of all agents: a pytree whose leaves are numbers and whose static parts are hashable."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # JAX tells two registered dataclasses apart by their static parts alone: a jitted function
        # would now and then run the program of another agent, with equal fields. So every class is
        # a static part of its agents. Not declared: type checkers would take it for an argument.
        cls.__annotations__ = {**inspect.get_annotations(cls), "_class": type}
        itself = struct.field(pytree_node=False, default=cls, kw_only=True, repr=False)
        cls._class = itself  # type: ignore[attr-defined]
        super().__init_subclass__(**kwargs)

    @abc.abstractmethod
    def init(self, s: Int[Array, ""]) -> Any:
        """The carry at the start of a meta-episode in state `s`."""

    @abc.abstractmethod
    def act(self, carry: Any, key: PRNGKeyArray) -> tuple[Int[Array, ""], Any]:
        """An action (int32) for the current state, and the new carry. The key is consumed."""

    @abc.abstractmethod
    def observe(
        self,
        carry: Any,
        action: Int[Array, ""],
        reward: Float[Array, ""],
        s_next: Int[Array, ""],
        terminated: Bool[Array, ""],
        truncated: Bool[Array, ""],
        s_now: Int[Array, ""],
    ) -> Any:
        """The carry after a transition; a jump from `s_next` to `s_now` is no transition."""

    def decide(self, carry: Any, key: PRNGKeyArray) -> tuple[Decision, Any]:
        """`act`, together with what a learner wants to know of the choice."""
        action, carry = self.act(carry, key)
        return Decision(action), carry

    def overflowed(self, carry: Any) -> Bool[ArrayLike, ""]:
        """Whether the task's data no longer fitted into the carry, which is then void."""
        del carry
        return False

    def for_horizon(self, horizon: int) -> "Agent":
        """The same agent for meta-episodes of `horizon` env steps."""
        del horizon
        return self


@struct.dataclass
class PolicyCarry:
    """Recurrent state of a meta-RL policy: the network's carry and the object-level table.

    Attributes:
        network: the network's own carry.
        table: the object-level learner's table.
        state: current state index, int32.
        previous_action: int32; −1 before the first step.
        previous_reward: float; 0 before the first step.
        t: steps taken in the meta-episode, int32.
        episode_step: steps taken in the object-level episode, int32.
    """

    network: Any
    table: Any
    state: jax.Array
    previous_action: jax.Array
    previous_reward: jax.Array
    t: jax.Array
    episode_step: jax.Array


class PolicyAgent(Agent):
    """A meta-trained policy: RL² or RL³, by what its layout shows.

    Attributes:
        params: the actor network's parameters.
        state_features: `[S, F]`, what is shown of a state.
        network, learner, layout: static parts.
        greedy: take the most probable action instead of sampling.
    """

    params: Any
    state_features: jax.Array
    network: Network = struct.field(pytree_node=False)
    learner: ObjectLearner = struct.field(pytree_node=False)
    layout: ObservationLayout = struct.field(pytree_node=False)
    greedy: bool = struct.field(pytree_node=False, default=False)

    @override
    def init(self, s: Int[Array, ""]) -> PolicyCarry:
        return PolicyCarry(
            network=self.network.initial_carry(self.layout.horizon),
            table=self.learner.init(),
            state=jnp.asarray(s, jnp.int32),
            previous_action=jnp.int32(-1),
            previous_reward=jnp.zeros(()),
            t=jnp.int32(0),
            episode_step=jnp.int32(0),
        )

    @override
    def act(self, carry: PolicyCarry, key: PRNGKeyArray) -> tuple[Int[Array, ""], PolicyCarry]:
        decision, carry = self.decide(carry, key)
        return decision.action, carry

    @override
    def decide(self, carry: PolicyCarry, key: PRNGKeyArray) -> tuple[Decision, PolicyCarry]:
        observation = self.layout.encode(
            carry.previous_action,
            carry.previous_reward,
            carry.t,
            carry.episode_step,
            self.state_features[carry.state],
            self.learner.estimates(carry.table, carry.state),
        )
        network_carry, logits = self.network.step(self.params, carry.network, observation)
        policy = distrax.Categorical(logits=logits)
        action = policy.mode() if self.greedy else policy.sample(seed=key)
        decision = Decision(action.astype(jnp.int32), logits, observation)
        return decision, dataclasses.replace(carry, network=network_carry)

    @override
    def observe(
        self,
        carry: PolicyCarry,
        action: Int[Array, ""],
        reward: Float[Array, ""],
        s_next: Int[Array, ""],
        terminated: Bool[Array, ""],
        truncated: Bool[Array, ""],
        s_now: Int[Array, ""],
    ) -> PolicyCarry:
        table = self.learner.update(carry.table, carry.state, action, reward, s_next, terminated)
        restarted = terminated | truncated
        return dataclasses.replace(
            carry,
            table=table,
            state=s_now,
            previous_action=action,
            previous_reward=reward,
            t=carry.t + 1,
            episode_step=jnp.where(restarted, 0, carry.episode_step + 1),
        )

    @override
    def overflowed(self, carry: PolicyCarry) -> Bool[ArrayLike, ""]:
        return self.learner.overflowed(carry.table)

    @override
    def for_horizon(self, horizon: int) -> "PolicyAgent":
        return self.replace(layout=dataclasses.replace(self.layout, horizon=horizon))
