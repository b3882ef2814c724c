"""Packages that take long to import, for those who may need none of them."""

import importlib
from typing import Any

import jax


def imported(name: str) -> Any:
    """The package of that name, imported when it is used, maybe in the middle of a trace."""
    with jax.ensure_compile_time_eval():
        return importlib.import_module(name)
