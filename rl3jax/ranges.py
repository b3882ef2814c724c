"""What values fields may have: ranges as annotated types, and the one checker that reads them.

A frozen dataclass writes a range once, beside the field, and calls `check_fields(self)` when it is
made. Bare types are checked too: an `int` fits an int32, a `float` is finite as a float32, a `str`
can be printed.
"""

import dataclasses
import math
import operator
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import jax
import numpy as np
from annotated_types import Ge, Gt, Interval, Le, Lt
from gymnax.environments import spaces
from jaxtyping import Float

from rl3jax.checks import (
    LARGEST_NUMBER,
    LARGEST_SIZE,
    ConfigError,
    check_choice,
    is_finite,
    shown,
)

SMALLEST_NUMBER = 1.1754943508222875e-38
"""Of a float32 that is not rounded to 0."""
OR_INFINITE = "or infinite"
"""Marks a float that may be inf."""


@dataclass(frozen=True)
class OneOf:
    """Marks a string that is one of these names; an error names the nearest."""

    names: tuple[str, ...]


Size = Annotated[int, Ge(1)]
"""A whole number of at least 1."""
Layers = Annotated[int, Ge(1), Le(64)]
"""Of a network: more would take minutes to compile."""
Count = Annotated[int, Ge(0)]
"""A whole number of at least 0."""
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
"""Of random numbers; JAX takes the rest of a division: beyond, seeds would repeat."""
Positive = Annotated[float, Gt(0), Ge(SMALLEST_NUMBER)]
"""A number larger than 0."""
PositiveOrInfinite = Annotated[float, Gt(0), Ge(SMALLEST_NUMBER), OR_INFINITE]
"""A number larger than 0, or inf."""
NonNegative = Annotated[float, Ge(0)]
"""A number of at least 0."""
Probability = Annotated[float, Interval(ge=0, le=1)]
"""A number in [0, 1]."""
Fraction = Annotated[float, Interval(gt=0, le=1)]
"""A number in (0, 1]."""
InsideUnit = Annotated[float, Interval(gt=0, lt=1)]
"""A number in (0, 1)."""

PLAIN = (bool, int, float, str)
"""Types that are checked; values of others are taken as they are."""
KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a string"}


def check_fields(instance: Any, bare_may_be_none: bool = False) -> None:
    """Checks every field of a frozen dataclass by its annotation, and makes its number Python's.

    Traced values are left alone, of which nothing is known; and, if so wished, a `None` in a field
    whose type has no range.

    Raises:
        ConfigError: if a value is not allowed. The message is one line.
    """
    hints = annotations(type(instance))
    for field in dataclasses.fields(instance):
        value, hint = getattr(instance, field.name), hints.get(field.name, Any)
        if not (value is None and bare_may_be_none and hint in PLAIN):
            object.__setattr__(instance, field.name, check_value(field.name, value, hint))


def annotations(part: Any) -> Mapping[str, Any]:
    """The annotations of a class's fields or a function's arguments, with their ranges.

    Empty if they name what does not exist where they are read, as of a class in a function.
    """
    try:
        return get_type_hints(part, include_extras=True)
    except (NameError, TypeError):
        return {}


def check_value(name: str, value: Any, annotation: Any) -> Any:
    """The value, as a Python number if it is one of NumPy's, and a float if its type is float.

    Raises:
        ConfigError: if it is not allowed by the annotation. The message is one line.
    """
    kind, ranges = unwrap(annotation)
    is_absent = value is None and type(None) in get_args(annotation)
    if is_absent or kind not in PLAIN:
        return value
    if isinstance(value, jax.Array) and (isinstance(value, jax.core.Tracer) or value.ndim):
        return value  # of a batch, or not known yet
    if isinstance(value, np.generic | jax.Array):
        value = value.item()
    _check_kind(name, value, kind)
    if kind is str:
        _check_text(name, value, ranges)
        return value
    if kind is not bool:
        _check_representable(name, value, kind, ranges)
    for limit in ranges:
        _check_limit(name, value, limit)
    return kind(value)


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation's plain type, and its ranges: `Size | None` is (int, (Ge(1),)).

    A `Literal` of strings is (str, (OneOf(…),)).
    """
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        given = [part for part in get_args(annotation) if part is not type(None)]
        return unwrap(given[0]) if len(given) == 1 else (None, ())
    if origin is Annotated:
        inner, *ranges = get_args(annotation)
        kind, others = unwrap(inner)
        return kind, (*others, *ranges)
    if origin is Literal and all(isinstance(name, str) for name in get_args(annotation)):
        return str, (OneOf(get_args(annotation)),)
    return annotation, ()


def box_ends(space: spaces.Box) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Low and high of a box, each of its shape, which gymnax gives as numbers or arrays."""
    ends = (np.broadcast_to(np.asarray(x, float), space.shape) for x in (space.low, space.high))
    low, high = ends
    return low, high


def _check_kind(name: str, value: Any, kind: type) -> None:
    fits = isinstance(value, int | float if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{name} must be {KINDS[kind]}, not {shown(value)}")


def _check_text(name: str, value: str, ranges: tuple[Any, ...]) -> None:
    if not value.isprintable() or not value:
        raise ConfigError(f"{name} must be text of printable characters, not {shown(value)}")
    for choice in ranges:
        if isinstance(choice, OneOf):
            check_choice(name, value, choice.names)


def _check_representable(name: str, value: float, kind: type, ranges: tuple[Any, ...]) -> None:
    """A whole number must fit an int32 unless it has a limit of its own, any other a float32."""
    if kind is int:
        if not any(isinstance(limit, Le) for limit in ranges):
            _check_limit(name, value, Le(LARGEST_SIZE))
        _check_limit(name, value, Ge(-LARGEST_SIZE))
    elif not is_finite(value) and not (value == math.inf and OR_INFINITE in ranges):
        large = isinstance(value, int) or math.isfinite(value)
        limit = f"within ±{LARGEST_NUMBER:.2g}" if large else "finite"
        raise ConfigError(f"{name} must be {limit}, not {shown(value)}")


def _check_limit(name: str, value: float, limit: Any) -> None:
    """Raises ConfigError unless the value keeps to a limit; what is none is passed over."""
    parts: tuple[Any, ...] = tuple(limit) if isinstance(limit, Interval) else (limit,)
    for part in parts:
        if type(part) not in LIMITS:
            continue
        words, holds = LIMITS[type(part)]
        (bound,) = dataclasses.astuple(part)
        if holds(value, bound):
            continue
        short = str(bound) if isinstance(bound, int) else f"{bound:.2g}"
        allowed = "not be negative" if part == Ge(0) else f"be {words} {short}"
        if isinstance(limit, Interval):
            low = f"({limit.gt}" if limit.ge is None else f"[{limit.ge}"
            high = f"{limit.lt})" if limit.le is None else f"{limit.le}]"
            allowed = f"lie in {low}, {high}"
        raise ConfigError(f"{name} must {allowed}, not {shown(value)}")


LIMITS: dict[type, tuple[str, Callable[[Any, Any], bool]]] = {
    Ge: ("at least", operator.ge),
    Gt: ("larger than", operator.gt),
    Le: ("at most", operator.le),
    Lt: ("less than", operator.lt),
}
"""Words and tests of one-sided limits."""
