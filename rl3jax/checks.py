"""Checks of arguments, and the one kind of error that they raise: a line fit for a user."""

import difflib
import math
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """A field's value is not allowed; the message is one line fit to be shown to a user."""


def nearest_name(name: str, allowed: Iterable[str]) -> str:
    """`"did you mean 'x'? Allowed: x, y"`: the tail of an error message."""
    names = sorted(allowed)
    (nearest,) = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=0.0)
    return f"did you mean {nearest!r}? Allowed: {', '.join(names)}"


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> None:
    """Raises ConfigError, naming the nearest, unless `value` is one of the names `allowed`."""
    if value not in allowed:
        raise ConfigError(f"unknown {name} {value!r}; {nearest_name(str(value), allowed)}")


def check_size(name: str, value: Any) -> None:
    """Raises ConfigError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    low_allowed: bool = True,
) -> None:
    """Raises ConfigError unless `value` is a finite number from `low` to `high`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    in_range = is_number and math.isfinite(value) and low <= value <= high
    if not in_range or (value == low and not low_allowed):
        opening = "[" if low_allowed else "("
        raise ConfigError(
            f"{name} must be a finite number in {opening}{low:g}, {high:g}], not {value!r}"
        )


def largest_divisor(n: int, at_most: int) -> int:
    """The largest divisor of `n` that is at most `at_most`, which must be at least 1."""
    return max(d for d in range(1, min(n, at_most) + 1) if n % d == 0)
