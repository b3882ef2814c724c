"""What every object-level learner is: pure functions on the table of one task."""

import abc
import dataclasses
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from rl3jax.checks import ConfigError
from rl3jax.ranges import Size, check_fields

Table: TypeAlias = Any
"""A learner's own pytree of arrays."""

State: TypeAlias = Int[ArrayLike, ""] | Float[ArrayLike, " D"]
"""What learners see of a state: an index, or a vector."""

Learner = TypeVar("Learner", bound="ObjectLearner")


@struct.dataclass
class Estimates:
    """What object-level RL knows of one state.

    Attributes:
        q: `[A]` float, estimated values of the actions, in reward units.
        visits: `[A]` int32, how often each action was taken in this state.
        q_stderr: `[A]`, standard errors of `q`; `None` from a learner that keeps none.
        v_stderr: `[]`, that of max_a q(a); `None` likewise.
        q_optimistic: `[A]`, values in which what was not tried is worth much; `None` likewise.
        mean_reward: `[A]`, of each action's rewards in this state, 0 before any; `None` likewise.
    """

    q: jax.Array
    visits: jax.Array
    q_stderr: jax.Array | None = None
    v_stderr: jax.Array | None = None
    q_optimistic: jax.Array | None = None
    mean_reward: jax.Array | None = None


VALUE, REWARD, COUNT, PLAIN, LATENT = "value", "reward", "count", "plain", "latent"
"""Units of features; what is plain is shown as it is."""


@struct.dataclass
class Feature:
    """Numbers that a learner gives a policy to see.

    Attributes:
        numbers: `[n]` float.
        unit: `VALUE` or `REWARD`, both in reward units, of sums of rewards or of a single one;
            `COUNT`; `LATENT`, on a learned scale; or `PLAIN`. It decides how an observation scales
            them.
    """

    numbers: jax.Array
    unit: str = struct.field(pytree_node=False)


Features: TypeAlias = OrderedDict[str, Feature]
"""By name, in the order in which an observation shows them."""


def features_of(estimates: Estimates) -> Features:
    """Features of what is estimated of a state: Q as V and advantages, then all else that there is.

    | name                    | size | unit   |                                                  |
    |-------------------------|------|--------|--------------------------------------------------|
    | `advantages`            | A    | value  | Q(s, ·) − V(s), V(s) = max_a Q(s, a)             |
    | `value`                 | 1    | value  | V(s)                                             |
    | `q_stderr`              | A    | value  | standard errors of Q(s, ·)                       |
    | `v_stderr`              | 1    | value  | that of V(s)                                     |
    | `visits`                | A    | count  | N(s, ·)                                          |
    | `optimistic_advantages` | A    | value  | as `advantages`, of optimistic values Q⁺         |
    | `optimistic_value`      | 1    | value  | as `value`                                       |
    | `mean_rewards`          | A    | reward | of the actions in this state                     |
    """
    features = _advantages_and_value(estimates.q)
    if estimates.q_stderr is not None and estimates.v_stderr is not None:
        features["q_stderr"] = Feature(estimates.q_stderr, VALUE)
        features["v_stderr"] = Feature(estimates.v_stderr[None], VALUE)
    features["visits"] = count_feature(estimates.visits)
    if estimates.q_optimistic is not None:
        features |= _advantages_and_value(estimates.q_optimistic, "optimistic_")
    if estimates.mean_reward is not None:
        features["mean_rewards"] = Feature(estimates.mean_reward, REWARD)
    return features


def count_feature(counts: Int[Array, " n"]) -> Feature:
    """Whole numbers as a feature."""
    return Feature(counts.astype(float), COUNT)


def _advantages_and_value(q: Float[Array, " A"], prefix: str = "") -> Features:
    value = jnp.max(q)
    return OrderedDict(
        {
            f"{prefix}advantages": Feature(q - value, VALUE),
            f"{prefix}value": Feature(value[None], VALUE),
        }
    )


class Transitions(NamedTuple):
    """Those of one meta-episode, `[T]` or `[T, D]`, as `ObjectLearner.update` took them."""

    s: jax.Array
    a: jax.Array
    r: jax.Array
    s_next: jax.Array
    terminated: jax.Array


@dataclass(frozen=True)
class ObjectLearner(abc.ABC):
    """Ordinary RL inside a meta-episode, on the data of its task (RL³, Bhatia et al., algorithm 1).

    A learner is static: frozen and hashable. Whatever changes is in its table, a pytree of arrays
    that lives for one meta-episode. The methods are written for one task; vmap them for more. An
    episode's restart is the caller's: the jump to the start state is no transition to `update` on.

    A state is what the environment gives learners to see: an int32 index, or a float vector `[D]`.

    A learner may have parameters, such as a prior that was learned from other tasks. They are a
    pytree of their own: `init_params` draws them, agents and training states hold them, and the
    methods of `bind(params)` find them in `self.params`. They may be learned from the tasks that an
    agent is trained in, once after each iteration: `summarise` says what one task has shown, and
    `learn` makes new ones of the sum over all tasks.

    Attributes:
        num_actions: A.
        params: what `bind` was given; `()` of a learner without parameters.
    """

    params: Any = dataclasses.field(default=(), kw_only=True, compare=False, repr=False)

    if TYPE_CHECKING:  # a field of every subclass, at the place it likes

        @property
        def num_actions(self) -> int:
            """A, the number of actions."""

    def init_params(self, key: PRNGKeyArray) -> Any:
        """Draws the learner's parameters, a pytree of arrays: none, unless overridden."""
        del key
        return ()

    def bind(self: Learner, params: Any) -> Learner:
        """The same learner with these parameters; where it is hashed or compared, without them."""
        return dataclasses.replace(self, params=params) if jax.tree.leaves(params) else self

    @abc.abstractmethod
    def init(self) -> Table:
        """The table before any data."""

    @abc.abstractmethod
    def update(
        self,
        table: Table,
        s: State,
        a: Int[ArrayLike, ""],
        r: Real[ArrayLike, ""],
        s_next: State,
        terminated: Bool[ArrayLike, ""],
    ) -> Table:
        """The table after action `a` in state `s` paid `r` and led to `s_next`.

        Args:
            table: the table before.
            s: state.
            a: action index in [0, A).
            r: reward.
            s_next: state; after an episode's end the one that ended it, not the start state.
            terminated: whether `s_next` is terminal; False at a time limit.
        """

    @abc.abstractmethod
    def estimates(self, table: Table, s: State) -> Estimates:
        """Estimates of state `s`, from all data so far."""

    def features(self, table: Table, s: State) -> Features:
        """What a policy is given to see of state `s`: those of its estimates, unless overridden.

        Names, sizes and units are the same in every state.
        """
        return features_of(self.estimates(table, s))

    def summarise(self, table: Table, transitions: Transitions) -> Any:
        """What a task says of the parameters: a pytree of arrays that are summed over tasks.

        Args:
            table: after the last transition.
            transitions: all of the meta-episode.
        """
        del table, transitions
        return ()

    def learn(self, summary: Any) -> Any:
        """The parameters after an iteration: `self.params`, unless overridden.

        Args:
            summary: the sum of `summarise` over the iteration's tasks.
        """
        del summary
        return self.params

    def describe(self) -> list[dict[str, Any]]:
        """What the parameters say, on the host: rows of a table, by column; none by default."""
        return []

    def overflowed(self, table: Table) -> Bool[ArrayLike, ""]:
        """Whether data no longer fitted into the table, whose estimates are then void (NaN)."""
        del table
        return False


def num_states_of(env: Any, learner: str) -> int:
    """S of an environment, for a learner of that name that knows states by index.

    Raises:
        ConfigError: if its states have no indices.
    """
    num_states = getattr(env, "num_states", None)
    if num_states is None:
        raise ConfigError(
            f"object_level {learner} knows states by index; those of {type(env).__name__} are "
            "vectors: choose algo rl2, or a learner of vectors, such as linear_model"
        )
    return num_states


@dataclass(frozen=True)
class TabularLearner(ObjectLearner):
    """A learner on states by index, in [0, S).

    Attributes:
        num_states: S.
        num_actions: A.

    Raises:
        ValueError: on construction, if a field's value is not allowed.
    """

    num_states: Size
    num_actions: Size

    def __post_init__(self) -> None:
        check_fields(self)

    @abc.abstractmethod
    def q_table(self, table: Table) -> Float[Array, "S A"]:
        """Estimated values of every state and action, in reward units."""
