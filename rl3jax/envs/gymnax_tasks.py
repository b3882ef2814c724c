"""Any gymnax environment with parameters as a distribution of tasks."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment, spaces
from gymnax.environments.bsuite.bandit import SimpleBandit
from gymnax.environments.classic_control.acrobot import Acrobot
from gymnax.environments.classic_control.cartpole import CartPole
from gymnax.environments.misc.bernoulli_bandit import BernoulliBandit
from gymnax.environments.misc.gaussian_bandit import GaussianBandit
from gymnax.environments.misc.meta_maze import MetaMaze
from gymnax.environments.misc.point_robot import PointRobot
from gymnax.environments.misc.reacher import Reacher
from gymnax.environments.misc.swimmer import Swimmer
from jax.extend.core import Var
from jaxtyping import Array, Float, PRNGKeyArray

from rl3jax.checks import ConfigError, check_choice, is_finite, one_line, shown
from rl3jax.envs.base import Bins
from rl3jax.envs.vector import Advance, VectorEnvironment
from rl3jax.ranges import Size

DRAW_TASKS = (
    PointRobot, BernoulliBandit, GaussianBandit, MetaMaze, SimpleBandit, Reacher, Swimmer
)  # fmt: skip
"""Environments of gymnax's whose resets draw what tasks differ in."""
DERIVED: dict[type, dict[str, tuple[str, Callable[[Any], Any]]]] = {
    CartPole: {
        "total_mass": ("masscart and masspole", lambda p: p.masscart + p.masspole),
        "polemass_length": ("masspole and length", lambda p: p.masspole * p.length),
    },
    Acrobot: {
        "link_com_pos_1": ("link_length_1", lambda p: p.link_length_1 / 2),
        "link_com_pos_2": ("link_length_2", lambda p: p.link_length_2 / 2),
    },
}
"""Parameters that follow from others: from which, and how. A link is a homogeneous rod."""
LIMIT = "max_steps_in_episode"
LARGEST_SCALE = 1e30
SIGN = "action_sign"
"""In a task: −1 where actions have the opposite effect, else 1."""

Ranges: TypeAlias = tuple[tuple[str, tuple[float, ...]], ...]
"""By field, the ascending ends of one interval, or of several."""


class GymnaxDistribution(VectorEnvironment):
    """Base of distributions of a gymnax environment's parameters.

    Attributes:
        gymnax_id: what gymnax calls it, or the environment itself.
        arguments: of its constructor, by name.
        vary: ranges of the fields of its parameters that tasks differ in.
        action_sign: whether tasks differ in the sign of actions as well.
        low, high: `D` numbers each, the scales of states; `None`: the environment's.
        time_limit: steps of an episode; `None`: the environment's.
    """

    gymnax_id: Any
    vary: Any
    arguments: Any = ()
    action_sign: Any = False
    low: Any = None
    high: Any = None
    time_limit: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_inner(self.inner)
        self.action_space()
        for field, bounds in self.vary:
            _check_range(field, bounds)
            _check_field(self.inner, field, bounds)
        if not (self.vary or self.action_sign):
            raise ConfigError("vary must name a field of the parameters, or all tasks are the same")
        _check_scales(self)

    @property
    def inner(self) -> Any:
        """Gymnax's environment, the same object for the same name and options."""
        named = isinstance(self.gymnax_id, str)
        return _made(self.gymnax_id, self.arguments) if named else self.gymnax_id

    def params(self, task: Mapping[str, Any]) -> Any:
        """Gymnax's parameters in a task."""
        fields = {name: value for name, value in task.items() if name != SIGN}
        limit = self.task_horizon
        return _with_derived(
            self.inner, dataclasses.replace(_defaults(self.inner), **fields, **{LIMIT: limit})
        )

    @property
    def may_end(self) -> bool:
        """Whether the environment has ends other than its time limit."""
        return _may_end(self.inner)

    @property
    def task_horizon(self) -> int:
        """The environment's own time limit, unless another is given."""
        return self.time_limit or int(getattr(_defaults(self.inner), LIMIT))

    @property
    def learner_space(self) -> spaces.Box:
        """The environment's observations, flat, with the scales as bounds."""
        low, high = _scales(self.inner, self.low, self.high)
        return spaces.Box(low, high, low.shape, jnp.zeros(()).dtype)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """The environment's own box."""
        task = self.default_params if params is None else params
        space = self.inner.observation_space(self.params(task))
        bounds = (jnp.ravel(jnp.broadcast_to(x, space.shape)) for x in (space.low, space.high))
        low, high = (jnp.asarray(x, float) for x in bounds)
        return spaces.Box(low, high, low.shape, low.dtype)

    def action_space(self, params: Any = None) -> spaces.Discrete | spaces.Box:
        """The environment's own, or points of its box, whatever the task."""
        del params
        return self.binned(_action_space(self.inner))

    def sample_task(self, key: PRNGKeyArray) -> dict[str, Float[Array, ""]]:
        """Each field uniformly in its range. The key is consumed."""
        key_sign, *keys = jax.random.split(key, 1 + len(self.vary))
        task = {f: _uniform(k, bounds) for k, (f, bounds) in zip(keys, self.vary, strict=True)}
        if self.action_sign:
            task[SIGN] = jax.random.rademacher(key_sign, dtype=float)
        return task

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """Validations of few tasks: of a thousand long ones they would outlast ten iterations."""
        return super().training_defaults(algo, horizon) | {"validation_tasks": 100}

    def start(self, key: PRNGKeyArray, task: Any) -> tuple[Any, Float[Array, " D"]]:
        """As gymnax's environment starts."""
        vector, inner = self.inner.reset_env(key, self.params(task))
        return inner, jnp.ravel(vector)

    def advance(self, key: PRNGKeyArray, inner: Any, action: Array, task: Any) -> Advance:
        """A step of gymnax's environment."""
        own = _action_space(self.inner)
        action = self.unbinned(action, own)
        if self.action_sign:
            action = _signed(action, task[SIGN], own)
        vector, inner, reward, terminated, _ = self.inner.step_env(
            key, inner, action, self.params(task)
        )
        return Advance(inner, jnp.ravel(vector), reward, terminated)


@dataclass(frozen=True)
class GymnaxTasks(GymnaxDistribution):
    """A gymnax environment whose tasks differ in its parameters.

    A task is a dict from each varied field to its value. Parameters that follow from others, as the
    total mass of CartPole, follow them.

    For instance `GymnaxTasks("Pendulum-v1", vary={"m": (0.5, 1.5), "l": (0.5, 1.5)})`.

    Raises:
        ConfigError: on construction, if there is no such environment, it draws its tasks itself or
            has no finite scales, or a field or range is none. The message is one line.
    """

    gymnax_id: Any
    """What gymnax calls the environment, or the environment itself."""
    vary: Any
    """From fields of its parameters to ranges: (low, high), or the ascending ends of several
    intervals."""
    when_ended: Literal["wait", "restart"] = "wait"
    """What an episode does that ends before its time limit: wait for it at reward 0, or restart."""
    action_sign: bool = False
    """Whether actions have the opposite effect in half of the tasks: those in a box are turned
    about its middle, others counted from the last."""
    low: Any = None
    """Scale of states: what is shown as −1, a number or one for each dimension. None: the
    environment's bound."""
    high: Any = None
    """What is shown as 1, likewise."""
    time_limit: Size | None = None
    """Steps of an episode. None: the environment's."""
    arguments: Any = ()
    """Of the environment's constructor, by name."""
    bins: Bins | None = None
    """Points of a box of actions along each dimension, which are then finitely many. None: any."""

    def __post_init__(self) -> None:
        for name in ("vary", "arguments"):
            object.__setattr__(self, name, _pairs(name, getattr(self, name)))
        for name in ("low", "high"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        super().__post_init__()


# --- gymnax's environments, by what they are made of ---


@functools.cache
def _made(name: str, arguments: tuple[tuple[str, Any], ...]) -> environment.Environment:
    """Hashed by identity, hence made once."""
    check_choice("gymnax environment", name, gymnax.registered_envs)
    try:
        with jax.ensure_compile_time_eval():
            return gymnax.make(name, **dict(arguments))[0]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"arguments of {name}: {one_line(error)}") from error


@functools.cache
def _defaults(inner: environment.Environment) -> Any:
    with jax.ensure_compile_time_eval():
        return _with_derived(inner, inner.default_params)


def _derived(inner: environment.Environment) -> dict[str, tuple[str, Callable[[Any], Any]]]:
    return next((own for cls, own in DERIVED.items() if isinstance(inner, cls)), {})


def _with_derived(inner: environment.Environment, params: Any) -> Any:
    derived = {field: of(params) for field, (_, of) in _derived(inner).items()}
    return dataclasses.replace(params, **derived)


@functools.cache
def _action_space(inner: environment.Environment) -> spaces.Discrete | spaces.Box:
    with jax.ensure_compile_time_eval():
        space = inner.action_space(_defaults(inner))
        if isinstance(space, spaces.Box):
            low, high = (_bound(x, space.shape) for x in (space.low, space.high))
            return spaces.Box(low, high, space.shape, space.dtype)
        return space


def _bound(x: Any, shape: tuple[int, ...]) -> Any:
    """A number, if it is the same in all dimensions, which gymnax's conversions want."""
    array = np.broadcast_to(np.asarray(x, float), shape)
    return float(array.flat[0]) if (array == array.flat[0]).all() else array


@functools.cache
def _scales(
    inner: environment.Environment, low: Any, high: Any
) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """Those given, else the bounds of observations, of which there are D."""
    with jax.ensure_compile_time_eval():
        space = inner.observation_space(_defaults(inner))
        bounds = (np.broadcast_to(np.asarray(x), space.shape) for x in (space.low, space.high))
        own_low, own_high = (np.ravel(x).astype(float) for x in bounds)
    given_low, given_high = (
        own if given is None else np.broadcast_to(given if len(given) > 1 else given[0], own.shape)
        for own, given in ((own_low, low), (own_high, high))
    )
    return given_low, given_high


@functools.cache
def _may_end(inner: environment.Environment) -> bool:
    """Whether `terminated` depends on anything."""
    return any(jax.tree.leaves(_influences(inner, only_end=True)))


@functools.cache
def _influences(inner: environment.Environment, only_end: bool = False) -> Any:
    """For each field of the parameters, key, state and action, whether steps depend on it.

    Read off the traced program; derived parameters count for what they follow from.
    """

    def play(params: Any, key: PRNGKeyArray, state: Any, action: Any) -> Any:
        stepped = inner.step_env(key, state, action, _with_derived(inner, params))
        return stepped[3] if only_end else stepped[:4]

    def arguments(key: PRNGKeyArray) -> Any:
        key_reset, key_action = jax.random.split(key)
        params = jax.tree.map(jnp.asarray, _defaults(inner))
        _, state = inner.reset_env(key_reset, params)
        return params, key, state, _action_space(inner).sample(key_action)

    shapes = jax.eval_shape(arguments, jax.random.key(0))
    program = jax.make_jaxpr(play)(*shapes).jaxpr
    needed = {x for x in program.outvars if isinstance(x, Var)}
    for equation in reversed(program.eqns):
        if needed & set(equation.outvars):
            needed |= {x for x in equation.invars if isinstance(x, Var)}
    return jax.tree.unflatten(jax.tree.structure(shapes), [x in needed for x in program.invars])


# --- tasks and actions ---


def _uniform(key: PRNGKeyArray, bounds: Sequence[float]) -> Float[Array, ""]:
    """A number drawn uniformly from intervals, given by their ascending ends."""
    low, high = np.asarray(bounds[::2]), np.asarray(bounds[1::2])
    filled = np.cumsum(high - low)
    x = jax.random.uniform(key, maxval=filled[-1])
    gaps = zip(filled[:-1].tolist(), (low[1:] - high[:-1]).tolist(), strict=True)
    return low[0] + x + sum(jnp.where(x >= end, gap, 0.0) for end, gap in gaps)


def _signed(action: Array, sign: Float[Array, ""], space: spaces.Discrete | spaces.Box) -> Array:
    """The action that has the opposite effect where the sign is −1."""
    if isinstance(space, spaces.Discrete):
        return jnp.where(sign > 0, action, space.n - 1 - action)
    return jnp.where(sign > 0, action, jnp.asarray(space.low + space.high) - action)


# --- bad input ---


def _pairs(name: str, given: Any) -> tuple[tuple[str, Any], ...]:
    """A mapping as pairs in the order of their names, all of which hash."""
    try:
        items = dict(given).items()
        return tuple(sorted((key, tuple(x) if isinstance(x, list) else x) for key, x in items))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be a dict, not {shown(given)}") from error


def _numbers(name: str, given: Any) -> tuple[float, ...] | None:
    """Finite numbers."""
    if given is None:
        return None
    numbers = tuple(np.ravel(given).tolist())
    if not all(isinstance(x, int | float) and is_finite(x) for x in numbers):
        raise ConfigError(f"{name} must be finite numbers, not {shown(given)}")
    return tuple(map(float, numbers))


def _check_inner(inner: Any) -> None:
    name = inner.name if isinstance(inner, environment.Environment) else shown(inner)
    if not isinstance(inner, environment.Environment):
        raise ConfigError(f"{name} is neither a gymnax environment nor the name of one")
    if isinstance(inner, DRAW_TASKS):
        raise ConfigError(
            f"{name} draws its task anew at each reset, so that restarts would change it; write "
            "such a distribution as an rl3jax.TaskDistribution"
        )
    if not hasattr(inner.default_params, LIMIT):
        raise ConfigError(f"default_params of {name} must be a dataclass that has {LIMIT}")
    space = _action_space(inner)
    is_box = isinstance(space, spaces.Box) and len(space.shape) == 1
    if not (isinstance(space, spaces.Discrete) or is_box):
        raise ConfigError(f"actions of {name} must be Discrete or a Box of vectors, not {space}")
    seen = inner.observation_space(_defaults(inner))
    if not isinstance(seen, spaces.Box):
        raise ConfigError(f"observations of {name} must be a Box, not {seen}")


def _check_scales(env: GymnaxDistribution) -> None:
    name = env.inner.name
    try:
        low, high = _scales(env.inner, env.low, env.high)
    except ValueError:
        (size,) = _scales(env.inner, None, None)[0].shape
        raise ConfigError(f"low and high of {name} must be {size} numbers, or one") from None
    for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if max(abs(a), abs(b)) > LARGEST_SCALE:
            raise ConfigError(
                f"states of {name} have no finite scale in dimension {i}, where they lie in "
                f"[{a:.2g}, {b:.2g}]; give low and high"
            )
        if a >= b:
            raise ConfigError(f"low of {name} must be below high; dimension {i}: {a:g}, {b:g}")


def _check_range(field: str, bounds: Any) -> None:
    numbers = bounds if isinstance(bounds, tuple) else ()
    are_numbers = all(isinstance(x, int | float) and is_finite(x) for x in numbers)
    if len(numbers) < 2 or len(numbers) % 2 or not are_numbers:
        raise ConfigError(f"the range of {field} must be (low, high), not {shown(bounds)}")
    if any(b <= a for a, b in itertools.pairwise(numbers)):
        raise ConfigError(f"the range of {field} is empty or reversed: {shown(bounds)}")


def _check_field(inner: environment.Environment, field: str, bounds: tuple[float, ...]) -> None:
    defaults, derived, name = _defaults(inner), _derived(inner), inner.name
    fields = {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)}
    physics = [f for f, x in fields.items() if isinstance(x, float) and f not in derived]
    if field in derived:
        raise ConfigError(f"{field} of {name} follows from {derived[field][0]}: vary that")
    if field in fields and field not in physics:
        raise ConfigError(f"{field} of {name} is no physics; choose among {', '.join(physics)}")
    check_choice(f"field of {name}", field, physics)
    if not getattr(_influences(inner)[0], field):
        raise ConfigError(f"{field} of {name} has no effect on its steps")
    if fields[field] * bounds[0] < 0 or fields[field] * bounds[-1] < 0:
        raise ConfigError(
            f"the range of {field} must be of the sign of {name}'s own, {fields[field]:g}, not "
            f"{shown(bounds)}"
        )
