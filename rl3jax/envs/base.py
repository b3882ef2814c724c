"""What every environment is: a distribution of tasks behind gymnax's interface.

`TaskDistribution` is any kind; `Environment` is the tabular one, whose states have indices.
"""

import abc
import functools
import itertools
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge
from flax import struct
from gymnax.environments import environment, spaces
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from rl3jax.bellman import backward_induction
from rl3jax.checks import ConfigError
from rl3jax.ranges import box_ends, check_fields


@struct.dataclass
class EnvState:
    """Where an object-level episode is.

    Attributes:
        time: `[]` int32, steps taken in this object-level episode.
        index: `[]` int32, the state's index in [0, num_states).
    """

    time: jax.Array
    index: jax.Array


class Transition(NamedTuple):
    """What one action leads to; scalars, which the base class casts."""

    next_state_index: ArrayLike  # int32
    reward: ArrayLike  # float
    terminated: ArrayLike  # bool: the next state is terminal; a time limit is not


class TabularModel(NamedTuple):
    """The exact model of one task: P, R, start, terminal.

    Attributes:
        transition_probs: `[S, A, S]`, P(s' | s, a).
        mean_reward: `[S, A]`, E[r | s, a], in reward units.
        start: `[S]`, probability that an episode starts in s.
        terminal: `[S]` bool, whether entering s ends the episode.
    """

    transition_probs: jax.Array
    mean_reward: jax.Array
    start: jax.Array
    terminal: jax.Array

    @functools.partial(jax.jit, static_argnames="steps")
    def action_values(self, discount: Float[ArrayLike, ""], steps: int) -> Float[Array, "S A"]:
        """The optimal q(s, a) with `steps` steps to go, fewer if a terminal state is entered.

        So many sweeps of value iteration from 0 give the same.
        """

        def backup(v: Float[Array, " S"]) -> Float[Array, "S A"]:
            v = jnp.where(self.terminal, 0.0, v)
            return self.mean_reward + discount * self.transition_probs @ v

        v_end = jnp.zeros_like(self.start)
        v, _ = backward_induction(backup, v_end, steps - 1, keep=lambda q: None)
        return backup(v)


State: TypeAlias = Int[Array, ""] | Float[Array, " D"]
"""What learners see of a state: an index, or a vector."""


@struct.dataclass
class TabularFeatures:
    """What a policy is shown of states by index: a row each.

    Attributes:
        table: `[S, F]` float.
    """

    table: jax.Array

    @property
    def size(self) -> int:
        """F, how many numbers are shown of a state."""
        return self.table.shape[-1]

    def __call__(self, s: Int[ArrayLike, ""]) -> Float[Array, " F"]:
        """Those of state `s`."""
        return self.table[s]


@struct.dataclass
class ScaledFeatures:
    """What a policy is shown of states that are vectors: the vector, in units of its scales.

    Attributes:
        low, high: `[D]` float, shown as −1 and 1; beyond them the scale goes on.
    """

    low: jax.Array
    high: jax.Array

    @property
    def size(self) -> int:
        """D, how many numbers are shown of a state."""
        return self.low.shape[-1]

    def __call__(self, s: Float[ArrayLike, " D"]) -> Float[Array, " D"]:
        """Those of state `s`."""
        return (2 * jnp.asarray(s) - self.low - self.high) / (self.high - self.low)


StateFeatures: TypeAlias = TabularFeatures | ScaledFeatures
"""From what learners see of a state to what a policy is shown of it: numbers to be saved with it,
and, with every number an array, a pytree."""


class TaskDistribution(environment.Environment, abc.ABC):
    """Base of all environments: a task distribution, with the task as gymnax's `params`.

    Write a subclass as `@dataclass(frozen=True)`, so that it hashes by value: gymnax compiles its
    methods with `self` static. Beside what is abstract here it defines gymnax's `reset_env` and
    `step_env`. Its fields are its options. A reset must not change the task.
    """

    def __post_init__(self) -> None:
        check_fields(self, bare_may_be_none=True)

    @classmethod
    def training_horizon(cls, variation: str | None) -> int:
        """The interaction budget to train for if no other is asked for, in env steps."""
        del variation
        return 100

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """What a training here should have otherwise than elsewhere, by names of `Config`.

        Fields, and options of learners, heads and networks; those that a run has not are left out.
        """
        del algo, horizon
        return {}

    @classmethod
    def defaults_with(cls, object_level: str | None, algo: str, horizon: int) -> dict[str, Any]:
        """`training_defaults`, for an environment where they depend on the object-level RL.

        `object_level` is what was asked for; `None`: the one that the defaults name.
        """
        del object_level
        return cls.training_defaults(algo, horizon)

    @property
    @abc.abstractmethod
    def task_horizon(self) -> int | None:
        """Steps after which an object-level episode is truncated; `None`: never."""

    @property
    @abc.abstractmethod
    def learner_space(self) -> spaces.Discrete | spaces.Box:
        """States as learners see them: indices, or vectors `[D]` with finite scales."""

    @abc.abstractmethod
    def sample_task(self, key: PRNGKeyArray) -> Any:
        """A task, as a pytree of all in which tasks differ. The key is consumed."""

    @abc.abstractmethod
    def action_space(self, params: Any = None) -> spaces.Discrete | spaces.Box:
        """Actions, the same in all tasks: int32 in [0, A), or vectors in a box."""

    @abc.abstractmethod
    def learner_state(self, state: Any) -> State:
        """What learners see of the environment's state: an index (int32), or a vector `[D]`."""

    @abc.abstractmethod
    def entered_state(self, info: dict[str, Any]) -> State:
        """The state that a step led to, from its info; a restart by gymnax's `step` hides it."""

    @property
    def features(self) -> StateFeatures:
        """What a policy is shown of states: vectors in units of their scales, unless overridden."""
        space = self.learner_space
        low, high = (jnp.full(space.shape, x, float) for x in (space.low, space.high))
        return ScaledFeatures(low, high)

    @property
    def action_anchors(self) -> Float[np.ndarray, "A n"] | None:
        """Of actions in a box, those that learners know, by index; `None` where actions are so."""
        space = self.action_space()
        return None if isinstance(space, spaces.Discrete) else box_anchors(space)

    @property
    def num_actions(self) -> int:
        """A, the number of actions, or of anchors among those in a box."""
        anchors = self.action_anchors
        return int(self.action_space().n) if anchors is None else len(anchors)

    @property
    def waits(self) -> bool:
        """Whether an episode that ends early waits for its time limit, and pays 0 so long.

        Its steps then are no ends to gymnax but the last one; `is_waiting` and `entered_terminal`
        tell of the true end.
        """
        return False

    def is_waiting(self, state: Any) -> Bool[Array, ""]:
        """Whether the episode has ended and waits, so that actions do nothing."""
        del state
        return jnp.bool_(False)

    def entered_terminal(self, info: dict[str, Any]) -> Bool[Array, ""]:
        """Whether a step ended its episode other than by the time limit, from its info."""
        return info["terminated"]

    @property
    def default_params(self) -> Any:
        """A fixed task, for callers that give none."""
        return self.sample_task(jax.random.key(0))

    def is_truncated(self, state: Any, params: Any) -> Bool[Array, ""]:
        """Whether the episode has reached the task horizon."""
        del params
        return jnp.bool_(False) if self.task_horizon is None else state.time >= self.task_horizon

    def blank_state(self) -> State:
        """Some state as learners see it, to take shapes from."""
        is_box = isinstance(self.learner_space, spaces.Box)
        return jnp.zeros(self.learner_space.shape, float if is_box else jnp.int32)

    def is_out_of_range(self, s: State) -> Bool[Array, ""]:
        """Whether a state that learners would see is none: no index in range, or not finite."""
        if isinstance(self.learner_space, spaces.Box):
            return ~jnp.isfinite(s).all()
        return (s < 0) | (s >= self.learner_space.n)


class Environment(TaskDistribution):
    """Base of tabular environments: tasks with few states, which have indices.

    Write a subclass as `@dataclass(frozen=True)`, so that it hashes by value: gymnax compiles its
    methods with `self` static. Its fields, of which the sizes need defaults, are its options. It
    defines `num_states`, `num_actions`, `task_horizon`, `sample_task`, `start_index`, `transition`
    and, if it is known, `tabular`; the base makes of these an environment that restarts in the same
    task.
    `rl3jax.check_env` says what is wrong with one.
    """

    @property
    @abc.abstractmethod
    def num_states(self) -> int:
        """S, the number of states."""

    @property
    @abc.abstractmethod
    def num_actions(self) -> int:
        """A, the number of actions."""

    @abc.abstractmethod
    def start_index(self, key: PRNGKeyArray, task: Any) -> Int[ArrayLike, ""]:
        """The state index that an episode starts in. The key is consumed."""

    @abc.abstractmethod
    def transition(
        self, key: PRNGKeyArray, s: Int[Array, ""], action: Int[Array, ""], task: Any
    ) -> Transition:
        """One draw of the task's dynamics. The key is consumed."""

    def tabular(self, task: Any) -> TabularModel:
        """The exact model that `start_index` and `transition` draw from, if it is known.

        Raises:
            NotImplementedError: if it is not, as here; there is then no optimum to compare with.
        """
        raise NotImplementedError(f"{type(self).__name__} has no exact model (tabular)")

    @property
    def has_model(self) -> bool:
        """Whether `tabular` knows the exact model of tasks."""
        return _has_model(self)

    max_successors: ClassVar[int | None] = None
    """The most next states that any pair of state and action has; `None`: as many as states."""

    @property
    def state_coordinates(self) -> Num[np.ndarray, "S D"] | None:
        """Where each state lies, for state abstraction by distance; `None`: nowhere."""
        return None

    @property
    def state_features(self) -> Float[Array, "S F"]:
        """What a policy is shown of each state, float32; one-hot unless overridden."""
        return jnp.eye(self.num_states, dtype=jnp.float32)

    def state_index(self, state: EnvState) -> Int[Array, ""]:
        """The index of the state that `state` is in, int32."""
        return state.index

    @property
    def learner_space(self) -> spaces.Discrete:
        """Indices in [0, S)."""
        return spaces.Discrete(self.num_states)

    def learner_state(self, state: EnvState) -> Int[Array, ""]:
        """The index of the state that `state` is in, int32."""
        return self.state_index(state)

    def entered_state(self, info: dict[str, Any]) -> Int[Array, ""]:
        """The index of the state that a step led to, int32."""
        return info["next_state_index"]

    @property
    def features(self) -> TabularFeatures:
        """The rows of `state_features`."""
        return TabularFeatures(jnp.asarray(self.state_features, dtype=float))

    # --- gymnax's interface, whose `step` also restarts finished episodes ---

    def reset_env(self, key: PRNGKeyArray, params: Any) -> tuple[Float[Array, " F"], EnvState]:
        """The observation `[F]` and state at the start of an episode of the task `params`."""
        index = jnp.asarray(self.start_index(key, params), jnp.int32)
        return self.state_features[index], EnvState(time=jnp.int32(0), index=index)

    def step_env(
        self, key: PRNGKeyArray, state: EnvState, action: Int[ArrayLike, ""], params: Any
    ) -> tuple[
        Float[Array, " F"], EnvState, Float[Array, ""], Bool[Array, ""], dict[str, Int[Array, ""]]
    ]:
        """One transition, without restart: observation, state, reward, terminated, info.

        `info["next_state_index"]` is the state just entered, which a restart by `step` hides.
        """
        drawn = self.transition(key, state.index, jnp.asarray(action, jnp.int32), params)
        index = jnp.asarray(drawn.next_state_index, jnp.int32)
        return (
            self.state_features[index],
            EnvState(time=state.time + 1, index=index),
            jnp.asarray(drawn.reward, float),
            jnp.asarray(drawn.terminated, bool),
            {"next_state_index": index},
        )

    def observe(
        self,
        key: PRNGKeyArray,
        state: EnvState,
        action: Int[Array, ""] | None,
        params: Any,
    ) -> Float[Array, " F"]:
        """The features `[F]` of the current state; the key is not consumed."""
        del key, action, params
        return self.state_features[state.index]

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """Actions are int32 in [0, num_actions)."""
        del params
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """The smallest box that holds the features of every state."""
        del params
        features = self.state_features
        return spaces.Box(features.min(axis=0), features.max(axis=0), features.shape[1:])

    def state_space(self, params: Any = None) -> spaces.Dict:
        """The fields of `EnvState`."""
        del params
        longest = jnp.iinfo(jnp.int32).max if self.task_horizon is None else self.task_horizon + 1
        return spaces.Dict(
            {"time": spaces.Discrete(longest), "index": spaces.Discrete(self.num_states)}
        )


MOST_GRID_ANCHORS = 32
"""Of a box; one of more dimensions has anchors on its axes alone."""


def box_anchors(space: spaces.Box) -> Float[np.ndarray, "A n"]:
    """Actions that stand for all in a box: its low end, middle and high end in each dimension.

    Of more than three dimensions, whose grid would be large: the middle, and the two ends of each
    axis through it.
    """
    low, high = box_ends(space)
    (n,) = space.shape
    if 3**n <= MOST_GRID_ANCHORS:
        units = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=n)))
    else:
        units = np.concatenate([np.zeros((1, n)), -np.eye(n), np.eye(n)])
    return (low + high) / 2 + (high - low) / 2 * units


Bins = Annotated[int, Ge(2)]
"""Points along a dimension, its ends included."""
MOST_ACTIONS = 10_000


def box_grid(space: Any, bins: int, name: str) -> Float[np.ndarray, "A n"]:
    """Points of a grid in a box of actions, from end to end; the last dimension is the quickest.

    Raises:
        ConfigError: if the space, of the environment `name`, is no box, or they are too many.
    """
    if not isinstance(space, spaces.Box):
        raise ConfigError(f"actions of {name} are in no box: {space}")
    low, high = box_ends(space)
    if (count := bins ** len(low)) > MOST_ACTIONS:
        raise ConfigError(
            f"bins {bins} in {len(low)} dimensions are {count} actions, more than {MOST_ACTIONS}"
        )
    axes = [np.linspace(a, b, bins) for a, b in zip(low, high, strict=True)]
    return np.array(list(itertools.product(*axes)), float)


@functools.cache
def _has_model(env: Environment) -> bool:
    try:
        model = jax.eval_shape(lambda key: env.tabular(env.sample_task(key)), jax.random.key(0))
    except Exception:  # of all kinds: it is anybody's, and `check_env` says what is wrong with it
        return False
    return isinstance(model, TabularModel)


def sample_index(key: PRNGKeyArray, probs: Float[Array, " n"]) -> Int[Array, ""]:
    """An index drawn with probabilities `probs`, int32, by inverting the CDF at one uniform.

    Never an index of probability 0. Scaling by the CDF's last value makes up for a sum that
    rounding has kept from being 1. The key is consumed.
    """
    cdf = jnp.cumsum(probs)
    return jnp.sum(cdf <= jax.random.uniform(key) * cdf[-1], dtype=jnp.int32)
