"""The ceiling where states are vectors: what acts by the true model of its task."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnax.environments.classic_control.mountain_car as gymnax_car
import gymnax.environments.classic_control.pendulum as gymnax_pendulum
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import spaces
from jax.custom_batching import sequential_vmap
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import Agent, Interaction, cast
from rl3jax.baselines.grid_plan import Outcome, StateGrid
from rl3jax.envs import CartPole, PointRobot, VectorEnvironment
from rl3jax.envs.point_robot import STEP
from rl3jax.policy import distribution_over
from rl3jax.ranges import box_ends

PLANNED, TRIED = 3, 41
"""Actions along a dimension of a box: of plans, and of a look-ahead from the state at hand."""


@dataclass(frozen=True)
class Coordinates:
    """Numbers that are all there is to a state of some physics.

    Attributes:
        grid: of these numbers.
        of: from what learners see to them.
        inner: from them to the state of the dynamics.
    """

    grid: StateGrid
    of: Callable[[Array], Array]
    inner: Callable[[Array], Any]


COORDINATES: dict[type, Coordinates] = {
    gymnax_pendulum.Pendulum: Coordinates(
        StateGrid((-np.pi, -8.0), (np.pi, 8.0), (81, 81)),
        lambda s: jnp.stack([jnp.arctan2(s[1], s[0]), s[2]]),
        lambda x: gymnax_pendulum.EnvState(
            theta=x[0], theta_dot=x[1], last_u=jnp.zeros_like(x[0]), time=0
        ),
    ),
    gymnax_car.MountainCar: Coordinates(
        StateGrid((-1.2, -0.07), (0.6, 0.07), (121, 81)),
        lambda s: s,
        lambda x: gymnax_car.EnvState(position=x[0], velocity=x[1], time=0),
    ),
}
"""By gymnax's class."""


class KnownPhysicsAgent(Agent):
    """Looks one step ahead in the true model, and from there on by a plan (Bellman 1957).

    Attributes:
        task: that it plays.
        values: `[m]`, of the plan.
        env: the environment.
    """

    task: Any
    values: jax.Array
    env: VectorEnvironment = struct.field(pytree_node=False)

    @override
    def takes(self) -> tuple[Array, Array]:
        actions = distribution_over(self.env.action_space(), self.env.action_anchors)
        return actions.no_action(), jnp.zeros(self.env.learner_space.shape)

    @override
    def init(self, s: ArrayLike) -> Array:
        return cast("s", s, self.takes()[1])

    @override
    def act(self, carry: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        del key
        coordinates = _coordinates(self.env)
        tried = _actions(self.env, TRIED)
        outcome = _outcomes(self.env, self.task, tried, coordinates.of(carry))
        return tried[coordinates.grid.look_ahead(self.values, outcome).argmax()], carry

    @override
    def take_in(self, carry: Array, interaction: Interaction) -> Array:
        return interaction.s_now


class FeedbackAgent(Agent):
    """Acts by a law of the state that is known to be best in its environment.

    Of a point robot: straight to the goal, as in either dimension alone. Of a cart pole: to where
    it falls and drifts, which holds it up for as long as an episode lasts, with any of the usual
    physics (linear feedback: Barto, Sutton and Anderson 1983 have the task).

    Attributes:
        task: that it plays.
        env: the environment.
    """

    task: Any
    env: VectorEnvironment = struct.field(pytree_node=False)

    takes = KnownPhysicsAgent.takes
    init = KnownPhysicsAgent.init
    take_in = KnownPhysicsAgent.take_in

    @override
    def act(self, carry: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        del key
        law = _balance if isinstance(self.env, CartPole) else _walk
        return law(self.task, carry), carry


BALANCE = (1.0, 1.5, 25.0, 5.0)
"""Weights of position, velocity, angle and its speed."""


def _balance(task: Any, s: Float[Array, "4"]) -> Array:
    right = s @ jnp.asarray(BALANCE) * task.get("action_sign", 1.0) > 0
    return right.astype(jnp.int32)


def _walk(task: Any, s: Float[Array, "2"]) -> Array:
    return jnp.clip((task.goal - s) / STEP, -1.0, 1.0)


@dataclass(frozen=True)
class OptimalPhysics:
    """From a task to the agent that knows it; of an environment that `has_optimum`.

    Its returns are the optimum but for what a grid's places are apart.
    """

    env: VectorEnvironment

    def __call__(self, task: Any) -> Agent:
        """The agent of `task`."""
        if isinstance(self.env, CartPole | PointRobot):
            return FeedbackAgent(task, self.env)
        return KnownPhysicsAgent(task, self._plan(task), self.env)

    def _plan(self, task: Any) -> Float[Array, " m"]:
        env = self.env
        steps = env.task_horizon
        assert steps is not None

        @sequential_vmap  # whole grids of all tasks at once would fill the memory
        def plan(task: Any) -> Float[Array, " m"]:
            outcomes = partial(_outcomes, env, task, _actions(env, PLANNED))
            return _coordinates(env).grid.plan(outcomes, steps)

        return plan(task)


def has_optimum(env: Any) -> bool:
    """Whether `OptimalPhysics` is for an environment."""
    is_planned = type(getattr(env, "inner", None)) in COORDINATES
    return is_planned or (
        isinstance(env, CartPole) or (isinstance(env, PointRobot) and env.bins is None)
    )


def _coordinates(env: Any) -> Coordinates:
    return COORDINATES[type(env.inner)]


def _actions(env: VectorEnvironment, number: int) -> Array:
    """All, or so many along the one dimension of a box."""
    space = env.action_space()
    if isinstance(space, spaces.Discrete):
        return jnp.arange(space.n)
    low, high = box_ends(space)
    return jnp.linspace(low, high, number)


def _outcomes(env: Any, task: Any, actions: Array, x: Float[Array, " D"]) -> Outcome:
    """Of each of the actions in a state of these coordinates."""
    coordinates = _coordinates(env)
    key = jax.random.key(0)  # which no physics here consumes

    def outcome(action: Array) -> Outcome:
        drawn = env.advance(key, coordinates.inner(x), action, task)
        reward, ended = jnp.asarray(drawn.reward, float), jnp.asarray(drawn.terminated, bool)
        return Outcome(coordinates.of(jnp.asarray(drawn.vector, float)), reward, ended)

    return jax.vmap(outcome)(actions)
