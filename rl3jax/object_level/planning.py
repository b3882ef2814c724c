"""Planning in an estimated model: value-iteration sweeps."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rl3jax.devices import on_cpu
from rl3jax.object_level.model import Backup, VarianceBackup

X = TypeVar("X")

LOOK_EVERY = 16
"""Sweeps of an accelerator between two looks at whether there are enough."""


def sweep(
    backup: Backup, q: Float[Array, "A S"], max_sweeps: int, tolerance: float | None
) -> Float[Array, "A S"]:
    """Synchronous sweeps q ← backup(max_a q) from `q` on.

    Ends after the sweep in which no q changes by `tolerance` or more, or after `max_sweeps`;
    without a tolerance, always after `max_sweeps`.
    """
    return _iterate(lambda q: backup(q.max(axis=0)), lambda q: q, q, max_sweeps, tolerance)


def sweep_with_variance(
    backup: Backup,
    variance_backup: VarianceBackup,
    q: Float[Array, "A S"],
    max_sweeps: int,
    tolerance: float | None,
) -> tuple[Float[Array, "A S"], Float[Array, "A S"]]:
    """`sweep` together with the variances of q, which start from 0.

    A state's variance is that of its greedy action.
    """

    def both(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        q, variance = carry
        v, var_v = q.max(axis=0), of_greedy_action(q, variance)
        return backup(v), variance_backup(v, var_v)

    return _iterate(both, lambda carry: carry[0], (q, jnp.zeros_like(q)), max_sweeps, tolerance)


def of_greedy_action(q: Float[Array, "A S"], x: Float[Array, "A S"]) -> Float[Array, " S"]:
    """x(s, a) of the action with the largest q (the first of equals)."""
    return jnp.take_along_axis(x, q.argmax(axis=0, keepdims=True), axis=0)[0]


def _iterate(
    step: Callable[[X], X],
    q_of: Callable[[X], Float[Array, "A S"]],
    x: X,
    max_sweeps: int,
    tolerance: float | None,
) -> X:
    """Repeats x ← step(x) until q changes by less than `tolerance`, `max_sweeps` times at most."""
    if max_sweeps == 1:
        return step(x)
    if tolerance is None:
        return jax.lax.fori_loop(0, max_sweeps, lambda _, x: step(x), x)

    def unfinished(carry: tuple[Array, X, Array]) -> Bool[Array, ""]:
        sweeps_done, _, change = carry
        return (sweeps_done < max_sweeps) & (change >= tolerance)

    def one_more(carry: tuple[Array, X, Array]) -> tuple[Array, X, Array]:
        sweeps_done, x, _ = carry
        x_next = step(x)
        return sweeps_done + 1, x_next, jnp.max(jnp.abs(q_of(x_next) - q_of(x)))

    start = (jnp.int32(0), x, jnp.full((), jnp.inf, q_of(x).dtype))
    return _repeat_while(unfinished, one_more, start, max_sweeps)[1]


def _repeat_while(
    condition: Callable[[X], Bool[Array, ""]], body: Callable[[X], X], carry: X, at_most: int
) -> X:
    """Repeats carry ← body(carry) while the condition holds, which it does `at_most` times.

    An accelerator looks at the condition after several times, of which those too many have no
    effect: for each look it waits for the host, as long as several sweeps take.
    """
    if on_cpu():
        return jax.lax.while_loop(condition, body, carry)

    def if_it_holds(_: Array, carry: X) -> X:
        return jax.tree.map(partial(jnp.where, condition(carry)), body(carry), carry)

    def several(carry: X) -> X:
        return jax.lax.fori_loop(0, min(at_most, LOOK_EVERY), if_it_holds, carry)

    if at_most <= LOOK_EVERY:
        return several(carry)
    return jax.lax.while_loop(condition, several, carry)
