"""Agents: what acts for one task through a meta-episode.

An agent's carry lives for one meta-episode. The protocol, for one task (vmap for more):

    carry = agent.init(s)                            # a meta-episode begins in state s
    action, carry = agent.act(carry, key)            # choose in the current state
    carry = agent.observe(carry, action, reward, s_next, terminated, truncated, s_now)

`s_next` is the state that the action led to, `s_now` the state to act in next: the same, or the
start state after a restart. A state is what the environment gives learners to see: an index, or a
vector. Where an episode that has ended waits for its time limit, `observe` is told so.
"""

import abc
import dataclasses
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.checks import ConfigError, one_line, shown
from rl3jax.envs import ScaledFeatures, State, StateFeatures, TabularFeatures, TaskDistribution
from rl3jax.object_level import Features, ObjectLearner, Transitions
from rl3jax.policy import (
    ActionDistribution,
    Belief,
    Evidence,
    Network,
    ObservationLayout,
    fields_of,
)


class Interaction(NamedTuple):
    """One env step, as an agent sees it.

    Attributes:
        action: what it did.
        reward: `[]` float, what that paid.
        s_next: the state that the action led to.
        terminated, truncated: `[]` bool, whether the object-level episode ended there.
        s_now: the state to act in next; a jump to it from `s_next` is no transition.
        waiting: `[]` bool, whether the episode had ended before, so that nothing was done; the
            Python constant `False` where no episode waits.
        restarted: `[]` bool, whether an object-level episode begins in `s_now`.
    """

    action: Any
    reward: jax.Array
    s_next: State
    terminated: jax.Array
    truncated: jax.Array
    s_now: State
    waiting: jax.Array | bool
    restarted: jax.Array

    def unless_waiting(self, idle: Any, new: Any) -> Any:
        """`new`, a pytree, but `idle` where the episode was waiting."""
        if self.waiting is False:
            return new
        return jax.tree.map(lambda x, y: jnp.where(self.waiting, x, y), idle, new)


def learnt(
    learner: ObjectLearner,
    table: Any,
    s: State,
    index: Int[Array, ""],
    interaction: Interaction,
) -> Any:
    """The learner's table after an interaction in state `s`, with the action of that index."""
    _, reward, s_next, terminated, *_ = interaction
    new = learner.update(table, s, index, reward, s_next, terminated)
    return interaction.unless_waiting(table, new)


def cast(name: str, value: Any, like: jax.Array | None) -> Array:
    """`value` as an array of the type of `like`; of an int32 or a float if that is `None`.

    Raises:
        ConfigError: if it is no number, or has another shape.
    """
    try:
        array = jnp.asarray(value, None if like is None else like.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{name} cannot be {shown(value)}: {one_line(error)}") from error
    if like is None:
        is_index = jnp.issubdtype(array.dtype, jnp.integer)
        return array.astype(jnp.int32 if is_index else float)
    if array.shape != like.shape:
        raise ConfigError(
            f"{name} must be of shape {like.shape}, not {array.shape}; agents act in one task, "
            "jax.vmap them for more"
        )
    return array


class Decision(NamedTuple):
    """A choice and what it was made from; the latter is empty where an agent has no policy."""

    action: Any  # as it was drawn: `Agent.played` of it is what the environment takes
    behaviour: Any = ()  # [P], parameters of the distribution that it was drawn from
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
    def init(self, s: Any) -> Any:
        """The carry at the start of a meta-episode in state `s`."""

    @abc.abstractmethod
    def act(self, carry: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        """An action (an index is int32) for the current state, and the new carry.

        The key is consumed.
        """

    def observe(
        self,
        carry: Any,
        action: Any,
        reward: Any,
        s_next: Any,
        terminated: Any,
        truncated: Any,
        s_now: Any,
        waiting: Any = False,
        restarted: Any = None,
    ) -> Any:
        """The carry after a transition; a jump from `s_next` to `s_now` is no transition.

        Python's and NumPy's numbers will do. In an episode that had ended before and is `waiting`
        for its time limit, nothing was done, and there is nothing to learn. `restarted` says
        whether an episode begins in `s_now`; `None`: where one ended.

        Raises:
            ConfigError: if one of them is no number, or has another shape than in one task.
        """
        action_like, state_like = self.takes()
        no, nothing = jnp.zeros((), bool), jnp.zeros(())
        terminated, truncated = cast("terminated", terminated, no), cast("truncated", truncated, no)
        ended = terminated | truncated
        interaction = Interaction(
            action=cast("action", action, action_like),
            reward=cast("reward", reward, nothing),
            s_next=cast("s_next", s_next, state_like),
            terminated=terminated,
            truncated=truncated,
            s_now=cast("s_now", s_now, state_like),
            waiting=False if waiting is False else cast("waiting", waiting, no),
            restarted=ended if restarted is None else cast("restarted", restarted, no),
        )
        return self.take_in(carry, interaction)

    def takes(self) -> tuple[jax.Array | None, jax.Array | None]:
        """An action and a state, as `observe` makes them of what it is given; `None`: any."""
        return None, None

    @abc.abstractmethod
    def take_in(self, carry: Any, interaction: Interaction) -> Any:
        """The carry after an interaction: what `observe` does, in a subclass."""

    def decide(self, carry: Any, key: PRNGKeyArray) -> tuple[Decision, Any]:
        """`act`, together with what meta-training wants to know of the choice."""
        action, carry = self.act(carry, key)
        return Decision(action), carry

    def played(self, drawn: Any) -> Any:
        """What the environment takes of the action of a decision: the same, unless overridden."""
        return drawn

    def overflowed(self, carry: Any) -> Bool[ArrayLike, ""]:
        """Whether the task's data no longer fitted into the carry, which is then void."""
        del carry
        return False

    def summarise(self, carry: Any, transitions: Transitions) -> Any:
        """What a meta-episode that ended with `carry` says of a learner's parameters."""
        del carry, transitions
        return ()

    def evidence(self, transition: Transitions) -> Any:
        """What the agent's belief learns from of one transition: nothing, unless overridden."""
        del transition
        return ()

    def for_horizon(self, horizon: int) -> "Agent":
        """The same agent for meta-episodes of `horizon` env steps."""
        del horizon
        return self


@struct.dataclass
class PolicyCarry:
    """Recurrent state of a meta-RL policy: its memory, the object-level table, and the belief.

    Attributes:
        memory: the network's carry.
        table: the object-level learner's table.
        state: current state, an index (int32) or a vector `[D]`.
        previous_action: `no_action` of the policy's distribution before the first step, and after
            one at which the episode was waiting.
        previous_reward: float; 0 likewise.
        t: steps taken in the meta-episode, int32.
        episode_step: steps taken in the object-level episode, int32.
        belief: what is believed of the task.
    """

    memory: Any
    table: Any
    state: jax.Array
    previous_action: jax.Array
    previous_reward: jax.Array
    t: jax.Array
    episode_step: jax.Array
    belief: Any = ()


class IndexAgent(Agent):
    """Base of agents whose states and actions are indices."""

    @override
    def takes(self) -> tuple[jax.Array, jax.Array]:
        return jnp.int32(0), jnp.int32(0)


class PolicyAgent(Agent):
    """A meta-trained policy: RL² or RL³, by what its layout shows.

    Attributes:
        params: the actor network's parameters.
        features: what is shown of a state.
        learner_params: those of the object-level learner; `()` if it has none.
        network, learner, distribution, layout: static parts.
        greedy: take the most probable action instead of sampling.
        belief: about the task; static too.
        belief_params: its parameters; `()` if it has none.
    """

    params: Any
    features: StateFeatures
    learner_params: Any
    network: Network = struct.field(pytree_node=False)
    learner: ObjectLearner = struct.field(pytree_node=False)
    distribution: ActionDistribution = struct.field(pytree_node=False)
    layout: ObservationLayout = struct.field(pytree_node=False)
    greedy: bool = struct.field(pytree_node=False, default=False)
    belief: Belief = struct.field(pytree_node=False, default=Belief())
    belief_params: Any = ()

    @property
    def bound_learner(self) -> ObjectLearner:
        """The object-level learner with its parameters."""
        return self.learner.bind(self.learner_params)

    @override
    def init(self, s: Any) -> PolicyCarry:
        return PolicyCarry(
            memory=self.network.initial_carry(self.layout.horizon, self.layout.size),
            table=self.bound_learner.init(),
            state=cast("s", s, self.takes()[1]),
            previous_action=self.distribution.no_action(),
            previous_reward=jnp.zeros(()),
            t=jnp.int32(0),
            episode_step=jnp.int32(0),
            belief=self.belief.init(),
        )

    @override
    def takes(self) -> tuple[jax.Array, jax.Array]:
        is_tabular = isinstance(self.features, TabularFeatures)
        state = jnp.int32(0) if is_tabular else jnp.zeros(self.features.size)
        return self.distribution.no_action(), state

    @override
    def act(self, carry: PolicyCarry, key: PRNGKeyArray) -> tuple[Any, PolicyCarry]:
        decision, carry = self.decide(carry, key)
        return self.played(decision.action), carry

    @override
    def played(self, drawn: Any) -> Any:
        return self.distribution.played(drawn)

    def given(self, table: Any, s: Any) -> Features:
        """What the policy is given to see of state `s`, of what the object-level learner knows."""
        return self.distribution.with_actions(self.bound_learner.features(table, s))

    def observation(self, carry: PolicyCarry) -> Float[Array, " D"]:
        """What the policy is shown before its next action."""
        return self.layout.encode(
            self.distribution.show(carry.previous_action),
            carry.previous_reward,
            carry.t,
            carry.episode_step,
            self.features(carry.state),
            self.given(carry.table, carry.state)
            | self.belief.features(self.belief_params, carry.belief),
        )

    @override
    def decide(self, carry: PolicyCarry, key: PRNGKeyArray) -> tuple[Decision, PolicyCarry]:
        observation = self.observation(carry)
        memory, behaviour = self.network.step(self.params, carry.memory, observation)
        policy = self.distribution
        action = policy.mode(behaviour) if self.greedy else policy.sample(behaviour, key)
        return Decision(action, behaviour, observation), dataclasses.replace(carry, memory=memory)

    @override
    def take_in(self, carry: PolicyCarry, interaction: Interaction) -> PolicyCarry:
        index = self.distribution.index(interaction.action)
        new = self.evidence(Transitions(carry.state, *interaction[:4]))
        nothing = self.distribution.no_action(), jnp.zeros_like(interaction.reward)
        action, reward = interaction.unless_waiting(
            nothing, (interaction.action, interaction.reward)
        )
        return dataclasses.replace(
            carry,
            table=learnt(self.bound_learner, carry.table, carry.state, index, interaction),
            state=interaction.s_now,
            previous_action=action,
            previous_reward=reward,
            t=carry.t + 1,
            episode_step=jnp.where(interaction.restarted, 0, carry.episode_step + 1),
            belief=self.belief.update(self.belief_params, carry.belief, new),
        )

    @override
    def evidence(self, transition: Transitions) -> Any:
        if not self.belief.learns:
            return ()
        is_tabular = isinstance(self.features, TabularFeatures)
        return Evidence(
            state=self.features(transition.s),
            action=self.distribution.show(transition.a),
            reward=transition.r.astype(float),
            entered=self.features(transition.s_next),
            entered_index=transition.s_next if is_tabular else jnp.int32(0),
        )

    @override
    def overflowed(self, carry: PolicyCarry) -> Bool[ArrayLike, ""]:
        return self.learner.overflowed(carry.table)

    @override
    def summarise(self, carry: PolicyCarry, transitions: Transitions) -> Any:
        known = transitions._replace(a=jax.vmap(self.distribution.index)(transitions.a))
        return self.bound_learner.summarise(carry.table, known)

    @override
    def for_horizon(self, horizon: int) -> "PolicyAgent":
        return self.replace(layout=dataclasses.replace(self.layout, horizon=horizon))


def layout_of(
    env: TaskDistribution,
    learner: ObjectLearner,
    distribution: ActionDistribution,
    horizon: int,
    shows_estimates: bool,
    **units: Any,
) -> ObservationLayout:
    """What a policy is shown of an environment, and of what a learner gives.

    Args:
        env: the environment.
        learner: its object-level RL.
        distribution: of the policy's actions.
        horizon: steps of a meta-episode.
        shows_estimates: whether anything is shown of what the learner gives: not under RL².
        **units: further fields of the layout, by name.

    Raises:
        ConfigError: if vectors have no scales to be shown in, or the learner is for other states or
            actions.
    """
    _check_learner(learner, env)
    shows = env.features
    if isinstance(shows, ScaledFeatures) and not _are_scales(shows.high - shows.low):
        raise ConfigError(
            f"learner_space of {type(env).__name__} must have finite low < high, by which states "
            f"are scaled; they are {shown(shows.low.tolist())} and {shown(shows.high.tolist())}"
        )

    def given() -> Features:
        bound = learner.bind(learner.init_params(jax.random.key(0)))
        return distribution.with_actions(bound.features(bound.init(), env.blank_state()))

    return ObservationLayout(
        action_size=distribution.shown_size,
        num_features=shows.size,
        horizon=horizon,
        task_horizon=env.task_horizon,
        estimates=fields_of(jax.eval_shape(given)) if shows_estimates else (),
        **units,
    )


def _check_learner(learner: ObjectLearner, env: TaskDistribution) -> None:
    """Raises ConfigError if it is for states of another kind or size, or for other actions."""
    num_states = getattr(env, "num_states", None)
    sizes = {
        "num_actions": env.num_actions,
        "num_states": num_states,
        "num_dims": env.learner_space.shape[0] if num_states is None else None,
    }
    for name, there_are in sizes.items():
        learns = getattr(learner, name, None)
        if learns not in (None, there_are):
            raise ConfigError(
                f"the learner has {name} {learns}, {type(env).__name__} has {there_are}"
            )


def _are_scales(widths: Float[Array, " D"]) -> bool:
    return bool((jnp.isfinite(widths) & (widths > 0)).all())
