"""Environments whose states are vectors: time limits, waiting and boxes, around any dynamics."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import spaces
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rl3jax.envs.base import TaskDistribution, box_grid


@struct.dataclass
class VectorState:
    """Where an object-level episode is.

    Attributes:
        time: `[]` int32, steps taken in this object-level episode, waiting included.
        vector: `[D]` float, what learners and policies see.
        inner: the state of the dynamics.
        ended: `[]` bool, whether the episode has ended before its time limit.
    """

    time: jax.Array
    vector: jax.Array
    inner: Any
    ended: jax.Array


class Advance(NamedTuple):
    """What one action leads to; the base class casts it."""

    inner: Any
    vector: ArrayLike  # [D]
    reward: ArrayLike  # []
    terminated: ArrayLike  # [] bool; a time limit is no such end


PLANNING: dict[str, Any] = {
    "head": "planning",
    "temperature": 0.1,
    "trust": 0.9,  # plans that begin with what tasks have in common need little exploration
}
"""Trainings of policies that start as the plan of a linear model with a learned prior."""


class VectorEnvironment(TaskDistribution):
    """Base of environments whose states are vectors `[D]`.

    Write a subclass as `@dataclass(frozen=True)` that defines `learner_space`, `action_space`,
    `task_horizon`, `sample_task`, `start` and `advance`. Actions outside of a box count as the
    nearest in it.

    Attributes:
        when_ended: what an episode does that ends before its time limit: "restart" at once, or
            "wait" until then, where actions do nothing and rewards are 0. Episodes then are equally
            long, and what is summed over a budget of steps is their returns.
        with_plan: what trainings with the usual learner have otherwise than with others.
        bins: of a box of actions, make such a grid of points all that there is; `None`: the box.
    """

    when_ended: str = "wait"
    bins: int | None = None
    with_plan: ClassVar[dict[str, Any]] = {}

    def binned(self, space: spaces.Discrete | spaces.Box) -> spaces.Discrete | spaces.Box:
        """Of the dynamics' own actions, those that there are: under `bins`, indices of points.

        Raises:
            ConfigError: if there are to be bins of what is no box, or too many.
        """
        return space if self.bins is None else spaces.Discrete(len(self._points(space)))

    def unbinned(self, action: Array, space: spaces.Discrete | spaces.Box) -> Array:
        """The dynamics' own action: under `bins`, the point of that index."""
        return action if self.bins is None else jnp.asarray(self._points(space), float)[action]

    def _points(self, space: spaces.Discrete | spaces.Box) -> Float[np.ndarray, "A n"]:
        return box_grid(space, self.bins or 2, type(self).__name__)

    @property
    def may_end(self) -> bool:
        """Whether an episode can end before its time limit."""
        return True

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """Object-level RL by a linear model that starts with what tasks have in common."""
        del horizon
        return {"object_level": "linear_model", "prior": "learned"} if algo == "rl3" else {}

    @classmethod
    def defaults_with(cls, object_level: str | None, algo: str, horizon: int) -> dict[str, Any]:
        """`training_defaults`, and what else becomes a policy that starts as its learner's plan."""
        usual = cls.training_defaults(algo, horizon)
        has_plan = algo == "rl3" and object_level in (None, "linear_model")
        return usual | (cls.with_plan if has_plan else {})

    @abc.abstractmethod
    def start(self, key: PRNGKeyArray, task: Any) -> tuple[Any, Float[ArrayLike, " D"]]:
        """The dynamics' state that an episode starts in, and its vector. The key is consumed."""

    @abc.abstractmethod
    def advance(self, key: PRNGKeyArray, inner: Any, action: Array, task: Any) -> Advance:
        """One step of the dynamics: int32 `action`, or `[n]` in the box. The key is consumed."""

    @property
    def waits(self) -> bool:
        """Whether an episode that ends early waits for its time limit, and pays 0 so long."""
        return self.when_ended == "wait" and self.may_end and self.task_horizon is not None

    def is_waiting(self, state: VectorState) -> Bool[Array, ""]:
        """Whether the episode has ended and waits, so that actions do nothing."""
        return state.ended

    def entered_terminal(self, info: dict[str, Any]) -> Bool[Array, ""]:
        """Whether a step ended its episode other than by the time limit."""
        return info["entered_terminal"]

    def learner_state(self, state: VectorState) -> Float[Array, " D"]:
        """The vector."""
        return state.vector

    def entered_state(self, info: dict[str, Any]) -> Float[Array, " D"]:
        """The vector that a step led to."""
        return info["entered_state"]

    # --- gymnax's interface, whose `step` also restarts finished episodes ---

    def reset_env(self, key: PRNGKeyArray, params: Any) -> tuple[Float[Array, " D"], VectorState]:
        """The vector and state at the start of an episode of the task `params`."""
        inner, vector = self.start(key, params)
        inner = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), inner)
        vector = jnp.asarray(vector, float)
        return vector, VectorState(jnp.int32(0), vector, inner, jnp.bool_(False))

    def step_env(
        self, key: PRNGKeyArray, state: VectorState, action: ArrayLike, params: Any
    ) -> tuple[
        Float[Array, " D"], VectorState, Float[Array, ""], Bool[Array, ""], dict[str, Array]
    ]:
        """One transition, without restart: vector, state, reward, terminated, info.

        `info["entered_state"]` is the vector just entered, which a restart by `step` hides. Where
        ended episodes wait, `terminated` is never true, and `info["entered_terminal"]` at the end.
        """
        drawn = self.advance(key, state.inner, self._in_space(action), params)
        terminated = jnp.asarray(drawn.terminated, bool)
        after = VectorState(
            time=state.time + 1,
            vector=jnp.asarray(drawn.vector, float),
            inner=jax.tree.map(lambda x, old: jnp.asarray(x, old.dtype), drawn.inner, state.inner),
            ended=terminated,
        )
        reward = jnp.asarray(drawn.reward, float)
        entered_terminal = terminated
        if self.waits:
            stays = dataclasses.replace(state, time=after.time)
            after = jax.tree.map(lambda x, y: jnp.where(state.ended, x, y), stays, after)
            reward = jnp.where(state.ended, 0.0, reward)
            entered_terminal = terminated & ~state.ended
            terminated = jnp.bool_(False)
        info = {"entered_state": after.vector, "entered_terminal": entered_terminal}
        return after.vector, after, reward, terminated, info

    def observe(
        self, key: PRNGKeyArray, state: VectorState, action: Array | None, params: Any
    ) -> Float[Array, " D"]:
        """The vector of the current state; the key is not consumed."""
        del key, action, params
        return state.vector

    def observation_space(self, params: Any = None) -> spaces.Box:
        """A box that holds all vectors; unless overridden, that of the scales."""
        del params
        return self.learner_space

    def _in_space(self, action: ArrayLike) -> Array:
        space = self.action_space()
        if isinstance(space, spaces.Discrete):
            return jnp.asarray(action, jnp.int32)
        return jnp.clip(jnp.asarray(action, float), space.low, space.high)
