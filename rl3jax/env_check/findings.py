"""A finding about an environment, and how an exception becomes one."""

import sys
import traceback
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class EnvFinding:
    """Something that is wrong with an environment.

    Attributes:
        kind: a word; `rl3jax.check_env` lists them.
        message: what is wrong, in one line.
        fix: what to do about it, in one line.
    """

    kind: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}. Fix: {self.fix}."


class EnvFailureError(Exception):
    """What is wrong ends the check that found it."""

    def __init__(self, finding: EnvFinding) -> None:
        super().__init__(str(finding))
        self.finding = finding


# By the first that matches: kind of finding, exceptions, fix.
_KINDS: tuple[tuple[str, tuple[type[Exception], ...], str], ...] = (
    (
        "error",
        (jax.errors.UnexpectedTracerError,),
        "pass what a method needs as its argument and return what it makes; keep no array in self "
        "or in a global",
    ),
    (
        "error",
        (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError),
        "Python cannot look into a traced value: use jnp.where or jax.lax.cond instead of if, and "
        "jnp instead of np, int() and bool()",
    ),
    (
        "key",
        (jax.errors.KeyReuseError,),
        "split the key, and use each child once: draws from one key are the same draw",
    ),
)


def as_finding(env: Any, name: str, error: Exception) -> EnvFinding:
    """What an exception says is wrong with `name` of the environment."""
    first_line = next(iter(str(error).strip().splitlines()), "").rstrip(".:")
    message = f"{name} raises {type(error).__name__}: {first_line}{_line_of(env, error)}"
    for kind, errors, fix in _KINDS:
        if isinstance(error, errors):
            return EnvFinding(kind, message, fix)
    return EnvFinding("error", message, f"call {name} by itself to see where")


def _line_of(env: Any, error: Exception) -> str:
    """The last line of the environment's own module that the exception came through."""
    file = getattr(sys.modules.get(type(env).__module__), "__file__", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
