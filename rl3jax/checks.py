"""Checks of arguments, and the one kind of error that they raise: a line fit for a user."""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any

LARGEST_SIZE = 2**31 - 1
"""Of an int32, in which sizes and steps are counted."""
LARGEST_NUMBER = 3.4028234663852886e38
"""Of a float32, beyond which there is only infinity."""
LONGEST_SHOWN = 80
MOST_LISTED = 40


class ConfigError(ValueError):
    """A field's value is not allowed; the message is one line fit to be shown to a user."""


def shown(value: Any) -> str:
    """`value` as it stands in an error message: on one line, and no longer than one."""
    if isinstance(value, int) and abs(value) > 10**LONGEST_SHOWN:  # maybe too long for Python
        return f"a number of more than {LONGEST_SHOWN} digits"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def one_line(error: Exception) -> str:
    """What an error says, on one line that is not too long."""
    line = " ".join(str(error).split())[:200] or type(error).__name__
    return "".join(character if character.isprintable() else "?" for character in line)


def nearest_name(name: str, allowed: Iterable[str]) -> str:
    """`"did you mean 'x'? Allowed: x, y"`: the tail of an error message.

    Of very many names only the nearest is given.
    """
    names = sorted(allowed)
    written = name[:LONGEST_SHOWN].casefold()
    (nearest,) = difflib.get_close_matches(written, names, n=1, cutoff=0.0)
    if len(names) > MOST_LISTED:
        return f"did you mean {nearest!r}?"
    return f"did you mean {nearest!r}? Allowed: {', '.join(names)}"


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> None:
    """Raises ConfigError, naming the nearest, unless `value` is one of the names `allowed`."""
    names = tuple(allowed)
    if value not in names:
        written = value if isinstance(value, str) else ""
        raise ConfigError(f"unknown {name} {shown(value)}; {nearest_name(written, names)}")


def check_size(name: str, value: Any) -> None:
    """Raises ConfigError unless `value` is a whole number of at least 1 that fits an int32."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, not {shown(value)}")
    check_at_most(name, int(value), LARGEST_SIZE)


def check_flag(name: str, value: Any) -> None:
    """Raises ConfigError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, not {shown(value)}")


def check_at_most(name: str, value: int, most: int) -> None:
    """Raises ConfigError if `value` is more than `most`."""
    if value > most:
        raise ConfigError(f"{name} must be at most {most}, not {shown(value)}")


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    low_allowed: bool = True,
) -> None:
    """Raises ConfigError unless `value` is a number from `low` to `high`, finite as a float32."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    in_range = is_number and is_finite(value) and low <= value <= high
    if not in_range or (value == low and not low_allowed):
        opening = "[" if low_allowed else "("
        raise ConfigError(
            f"{name} must be a finite number in {opening}{low:g}, {high:g}], not {shown(value)}"
        )


def is_finite(value: float) -> bool:
    """Whether a number is neither NaN nor, as a float32, infinite."""
    return -LARGEST_NUMBER <= value <= LARGEST_NUMBER


def divisors(n: int) -> list[int]:
    """All divisors of `n`, in order."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})


def largest_divisor(n: int, at_most: int) -> int:
    """The largest divisor of `n` that is at most `at_most`, which must be at least 1."""
    return max(d for d in divisors(n) if d <= at_most)
