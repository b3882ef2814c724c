"""Pendulum, mountain car, cart pole and acrobot with physics that differ between tasks."""

import functools
import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rl3jax.checks import ConfigError
from rl3jax.envs.base import Bins
from rl3jax.envs.gymnax_tasks import GymnaxDistribution, Ranges
from rl3jax.envs.vector import PLANNING
from rl3jax.ranges import Positive, check_fields

WhenEnded = Literal["wait", "restart"]


class ClassicControl(GymnaxDistribution):
    """Base of the environments here, whose ranges are pairs of options, `*_low` and `*_high`.

    Attributes:
        ranges: by the options' first part, the ends of the range that is there if none is given.
    """

    ranges: ClassVar[dict[str, tuple[float, ...]]]
    with_plan: ClassVar = PLANNING | {"n_tasks": 64, "minibatches": 8, "iterations": 60}

    @classmethod
    def training_horizon(cls, variation: str | None) -> int:
        """Five episodes."""
        del variation
        return 1000

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """Values of the size of a hundred."""
        own = {"n_tasks": 256, "critic_scale": 0.1, "value_scale": 50.0}
        return super().training_defaults(algo, horizon) | own

    def __post_init__(self) -> None:
        check_fields(self)
        for name, usual in self._usual_ranges.items():
            for option, end in ((f"{name}_low", usual[0]), (f"{name}_high", usual[-1])):
                if getattr(self, option) is None:
                    object.__setattr__(self, option, end)
            bounds = self._range(name)
            if any(b <= a for a, b in itertools.pairwise(bounds)):
                raise ConfigError(
                    f"{name}_low and {name}_high must be the ends of ascending numbers, not of "
                    f"{', '.join(f'{x:g}' for x in bounds)}"
                )
        super().__post_init__()

    @property
    def _usual_ranges(self) -> dict[str, tuple[float, ...]]:
        return self.ranges

    def _range(self, name: str) -> tuple[float, ...]:
        """The usual range with the ends that the options give it."""
        inside = self._usual_ranges[name][1:-1]
        return (getattr(self, f"{name}_low"), *inside, getattr(self, f"{name}_high"))


@dataclass(frozen=True)
class Pendulum(ClassicControl):
    """Swing up a pendulum and hold it there (gymnax's Pendulum-v1; ranges: Packer et al. 2018).

    Five episodes of 200 steps are the budget. States are the angle's cosine and sine, and its
    speed; the action is a torque within ±2.

    | variation | mass and length                        | the torque's sign |
    |-----------|----------------------------------------|-------------------|
    | uniform   | each uniform in 0.5–1.5                | 1                 |
    | packer-r  | each uniform in 0.75–1.25              | 1                 |
    | packer-e  | each in 0.5–1.5, but not in 0.75–1.25  | 1                 |
    | sign      | as packer-r                            | 1 or −1           |

    Raises:
        ConfigError: on construction, for an unknown variation, or a range that is empty.
    """

    variation: Literal["uniform", "packer-r", "packer-e", "sign"] = "uniform"
    """It decides every option that is not given."""
    mass_low: Positive | None = None
    """The lightest bob, in kg. This and what follows, None: the variation's."""
    mass_high: Positive | None = None
    """The heaviest bob."""
    length_low: Positive | None = None
    """The shortest rod, in m."""
    length_high: Positive | None = None
    """The longest rod."""
    bins: Bins | None = None
    """Torques from one end to the other that there are. None: any between them."""

    gymnax_id = "Pendulum-v1"

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """Rewards are of the size of ten, values of hundreds."""
        own = {"reward_scale": 0.1, "critic_scale": 0.01, "value_scale": 100.0}
        return super().training_defaults(algo, horizon) | own

    @property
    def _usual_ranges(self) -> dict[str, tuple[float, ...]]:
        ranges = {"uniform": (0.5, 1.5), "packer-e": (0.5, 0.75, 1.25, 1.5)}
        usual = ranges.get(self.variation, (0.75, 1.25))
        return {"mass": usual, "length": usual}

    @property
    def vary(self) -> Ranges:
        """Of gymnax's `m` and `l`."""
        return (("l", self._range("length")), ("m", self._range("mass")))

    @property
    def action_sign(self) -> bool:
        """Whether there are tasks in which the torque turns the other way."""
        return self.variation == "sign"


@dataclass(frozen=True)
class MountainCar(ClassicControl):
    """Rock a car out of a valley (gymnax's MountainCar-v0; ranges: Packer et al. 2018, R).

    Five episodes of 200 steps are the budget. States are position and velocity; actions push to
    the left, not at all, or to the right; a step costs 1 until the goal is reached. Tasks are drawn
    anew until pushing along the velocity, from position −0.5, reaches the goal within an episode.

    Raises:
        ConfigError: on construction, for a range that is empty, or that has no such task.
    """

    force_low: Positive | None = None
    """The weakest motor, in change of velocity a step. This and the others, None: 0.0005–0.005 and
    0.001–0.005."""
    force_high: Positive | None = None
    """The strongest motor."""
    gravity_low: Positive | None = None
    """The least pull of gravity, in change of velocity a step."""
    gravity_high: Positive | None = None
    """The largest pull of gravity."""
    when_ended: WhenEnded = "wait"
    """What an episode does at the goal: wait for its time limit at reward 0, or restart."""

    gymnax_id = "MountainCar-v0"
    ranges: ClassVar = {"force": (0.0005, 0.005), "gravity": (0.001, 0.005)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(self._range(name) != usual for name, usual in self.ranges.items()):
            _check_admits_tasks(self)

    @property
    def vary(self) -> Ranges:
        """Of gymnax's `force` and `gravity`."""
        return (("force", self._range("force")), ("gravity", self._range("gravity")))

    def sample_task(self, key: PRNGKeyArray) -> dict[str, Float[Array, ""]]:
        """Each field uniformly in its range, until the task can be solved. The key is consumed."""
        key_first, key_others = jax.random.split(key)
        data, impl = jax.random.key_data(key_others), jax.random.key_impl(key_others)

        def again(drawn: Any) -> Any:
            data, _, tries = drawn
            key_task, key = jax.random.split(jax.random.wrap_key_data(data, impl=impl))
            task = super(MountainCar, self).sample_task(key_task)
            return jax.random.key_data(key), task, tries + 1

        def goes_on(drawn: Any) -> Bool[Array, ""]:
            _, task, tries = drawn
            return ~self.is_solved_by_rocking(task) & (tries < MOST_TRIES)

        first = super().sample_task(key_first)
        return jax.lax.while_loop(goes_on, again, (data, first, jnp.int32(0)))[1]

    def is_solved_by_rocking(self, task: dict[str, Any]) -> Bool[Array, ""]:
        """Whether pushing along the velocity from position −0.5 reaches the goal in an episode."""
        params = self.params(task)

        def push(carry: Any, _: None) -> tuple[Any, None]:
            position, velocity, solved = carry
            force = jnp.where(velocity < 0, -params.force, params.force)
            velocity += force - jnp.cos(3 * position) * params.gravity
            velocity = jnp.clip(velocity, -params.max_speed, params.max_speed)
            position = jnp.clip(position + velocity, params.min_position, params.max_position)
            velocity = jnp.where((position == params.min_position) & (velocity < 0), 0.0, velocity)
            return (position, velocity, solved | (position >= params.goal_position)), None

        start = (jnp.asarray(-0.5, float), jnp.zeros(()), jnp.bool_(False))
        return jax.lax.scan(push, start, length=self.task_horizon)[0][2]


MOST_TRIES = 1000
"""Tasks drawn at most; far more than options need that are not refused."""
TRIAL_TASKS = 200


@functools.cache
def _check_admits_tasks(env: MountainCar) -> None:
    """Raises ConfigError if none of some tasks can be solved."""

    def is_solved(key: PRNGKeyArray) -> Bool[Array, ""]:
        return env.is_solved_by_rocking(super(MountainCar, env).sample_task(key))

    with jax.ensure_compile_time_eval():
        solved = jax.jit(jax.vmap(is_solved))(jax.random.split(jax.random.key(0), TRIAL_TASKS))
    if not np.asarray(solved).any():
        raise ConfigError(
            f"with force in {env.force_low:g}–{env.force_high:g} and gravity in "
            f"{env.gravity_low:g}–{env.gravity_high:g} the goal is out of reach"
        )


@dataclass(frozen=True)
class CartPole(ClassicControl):
    """Balance a pole on a cart (gymnax's CartPole-v1).

    Five episodes of 200 steps are the budget. States are the cart's position and velocity, and the
    pole's angle and speed; actions push to the left or to the right; a step pays 1.

    | variation | force, length and mass of the pole | what action 0 does                    |
    |-----------|------------------------------------|---------------------------------------|
    | physics   | drawn from the ranges              | pushes to the left                    |
    | sign      | likewise                           | in half of the tasks, to the right    |

    Raises:
        ConfigError: on construction, for an unknown variation, or a range that is empty.
    """

    variation: Literal["physics", "sign"] = "physics"
    """Whether tasks differ in the actions' sign as well."""
    force_low: Positive | None = None
    """The weakest push, in N. This and the other ranges, None: 5–15, 0.25–0.75, 0.05–0.5."""
    force_high: Positive | None = None
    """The strongest push."""
    length_low: Positive | None = None
    """The shortest pole's half, in m."""
    length_high: Positive | None = None
    """The longest pole's half."""
    mass_low: Positive | None = None
    """The lightest pole, in kg."""
    mass_high: Positive | None = None
    """The heaviest pole."""
    when_ended: WhenEnded = "wait"
    """What an episode does once the pole has fallen: wait for its time limit at reward 0, or
    restart."""

    gymnax_id = "CartPole-v1"
    low, high = (-2.4, -3.0, -0.21, -3.0), (2.4, 3.0, 0.21, 3.0)
    time_limit = 200
    ranges: ClassVar = {"force": (5.0, 15.0), "length": (0.25, 0.75), "mass": (0.05, 0.5)}

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """Every step pays: what is unknown must be worth more."""
        own = {
            "optimism": 20.0,
            "optimism_weight": 0.1,
            "planning_discount": 0.95,
            "anchors_along": 7,
        }
        return super().training_defaults(algo, horizon) | own

    @property
    def vary(self) -> Ranges:
        """Of gymnax's `force_mag`, `length` and `masspole`."""
        names = {"force_mag": "force", "length": "length", "masspole": "mass"}
        return tuple((field, self._range(name)) for field, name in names.items())

    @property
    def action_sign(self) -> bool:
        """Whether there are tasks in which the actions are exchanged."""
        return self.variation == "sign"


@dataclass(frozen=True)
class Acrobot(ClassicControl):
    """Swing two linked rods above a line (gymnax's Acrobot-v1).

    Three episodes of 500 steps are the budget. States are cosine and sine of both joints' angles,
    and their speeds; actions are torques −1, 0 and 1 on the second joint; a step costs 1 until the
    line is reached. Centres of mass are in the middle of the rods, whose moments of inertia stay.

    Raises:
        ConfigError: on construction, for a range that is empty.
    """

    length_low: Positive | None = None
    """The shortest rod, in m. This and the others, None: 0.75–1.25."""
    length_high: Positive | None = None
    """The longest rod."""
    mass_low: Positive | None = None
    """The lightest rod, in kg."""
    mass_high: Positive | None = None
    """The heaviest rod."""
    when_ended: WhenEnded = "wait"
    """What an episode does at the line: wait for its time limit at reward 0, or restart."""

    gymnax_id = "Acrobot-v1"
    ranges: ClassVar = {"length": (0.75, 1.25), "mass": (0.75, 1.25)}

    @classmethod
    def training_horizon(cls, variation: str | None) -> int:
        """Three episodes."""
        del variation
        return 1500

    @property
    def vary(self) -> Ranges:
        """Of gymnax's lengths and masses of both links."""
        names = ("length", "mass")
        return tuple((f"link_{name}_{i}", self._range(name)) for name in names for i in (1, 2))
