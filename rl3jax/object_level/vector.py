"""Learners on states that are vectors in a box."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from rl3jax.checks import ConfigError, shown
from rl3jax.object_level.base import ObjectLearner
from rl3jax.ranges import Size, check_fields

Vector = tuple[float, ...]


@dataclass(frozen=True)
class VectorLearner(ObjectLearner):
    """A learner on states that are vectors `[D]`.

    Attributes:
        low, high: D finite numbers each, the scales of states; a state may lie outside.
        num_actions: A.

    Raises:
        ConfigError: on construction, if a field's value is not allowed.
    """

    low: Vector
    high: Vector
    num_actions: Size

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("low", "high"):
            object.__setattr__(self, name, numbers(name, getattr(self, name)))
        if len(self.low) != len(self.high):
            raise ConfigError(f"low and high must be as long: {len(self.low)}, {len(self.high)}")
        for d, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low < high:
                raise ConfigError(f"low[{d}] must be less than high[{d}], not {low:g} and {high:g}")

    @property
    def num_dims(self) -> int:
        """D."""
        return len(self.low)

    def scaled(self, s: Float[ArrayLike, " D"]) -> Float[Array, " D"]:
        """The state on a scale of −1 at `low` to 1 at `high`."""
        s = jnp.asarray(s, float)
        low, high = jnp.asarray(self.low, s.dtype), jnp.asarray(self.high, s.dtype)
        return 2 * (s - low) / (high - low) - 1


def numbers(name: str, values: Any) -> Vector:
    """Finite numbers as a tuple.

    Raises:
        ConfigError: if they are anything else, or none.
    """
    try:
        given = tuple(float(x) for x in values)
    except (TypeError, ValueError):
        given = ()
    if not given or not all(map(math.isfinite, given)):
        raise ConfigError(f"{name} must be a row of finite numbers, not {shown(values)}")
    return given


def scales_of(env: Any, learner: str) -> tuple[Vector, Vector, int]:
    """`low`, `high` and A of an environment, for a learner of that name.

    Raises:
        ConfigError: if its states have indices.
    """
    space: Any = getattr(env, "learner_space", None)
    if getattr(env, "num_states", None) is not None or not hasattr(space, "low"):
        raise ConfigError(
            f"object_level {learner} is for states that are vectors; those of "
            f"{type(env).__name__} have indices: choose value_iteration, for instance"
        )
    low, high = (jnp.broadcast_to(x, space.shape).tolist() for x in (space.low, space.high))
    return tuple(low), tuple(high), env.num_actions
