"""Planning: value-iteration sweeps, and exact optimal plans for a whole meta-episode."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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


def finite_horizon_plan(
    transition_probs: Float[Array, "S A S"],
    mean_reward: Float[Array, "S A"],
    start: Float[Array, " S"],
    terminal: Bool[Array, " S"],
    task_horizon: int | None,
    budget: int,
    max_successors: int | None = None,
) -> tuple[Float[Array, ""], Int[Array, "H E S"]]:
    """The optimal policy of a known task for a meta-episode, by backward induction.

    Entering a terminal state or reaching the task horizon continues in a start state; the
    meta-episode ends, with value 0, after `budget` steps. With R = `mean_reward`, P =
    `transition_probs` and e the step of the object-level episode,

        V_t(e, s) = max_a R(s, a) + Σ_s' P(s'|s, a) C_t(e, s'),
        C_t(e, s') = Σ_s start(s) V_t+1(0, s) after an episode's end, else V_t+1(e + 1, s').

    Args:
        transition_probs: P(s' | s, a).
        mean_reward: E[r | s, a].
        start: distribution of start states.
        terminal: states in which an episode ends.
        task_horizon: E, length of an object-level episode; `None` if it has no limit, in which
            case e does not matter and the plan has a single row, E = 1.
        budget: H, length of the meta-episode.
        max_successors: the most next states of positive probability that a pair of state and action
            has, where that is known to be few; the plan is the same, and quicker.

    Returns:
        The optimal expected undiscounted return, and the optimal actions by step of the
        meta-episode, step of the object-level episode and state: int8, or int32 if A > 127.
    """
    num_states, num_actions = mean_reward.shape
    expectation = _expectation(transition_probs, max_successors)
    action_dtype = jnp.int8 if num_actions <= 127 else jnp.int32

    def step_back(
        v_tp1: Float[Array, "E S"], _: None
    ) -> tuple[Float[Array, "E S"], Int[Array, "E S"]]:
        restart = jnp.full((1, num_states), start @ v_tp1[0])
        carry_on = v_tp1 if task_horizon is None else jnp.concatenate([v_tp1[1:], restart])
        continuation = jnp.where(terminal[None, :], restart, carry_on)
        q_t = mean_reward[None] + expectation(continuation)
        return q_t.max(axis=-1), q_t.argmax(axis=-1).astype(action_dtype)

    v_end = jnp.zeros((task_horizon or 1, num_states), mean_reward.dtype)
    v_0, actions = jax.lax.scan(step_back, v_end, length=budget, reverse=True)
    return start @ v_0[0], actions


def _expectation(
    transition_probs: Float[Array, "S A S"], max_successors: int | None
) -> Callable[[Float[Array, "E S"]], Float[Array, "E S A"]]:
    """The function Σ_s' P(s'|s, a) v(e, s') of v."""
    if max_successors is None or max_successors >= len(transition_probs):
        return lambda v: jnp.einsum("san,en->esa", transition_probs, v)
    probs, successors = jax.lax.top_k(transition_probs, max_successors)
    return lambda v: jnp.einsum("sak,esak->esa", probs, v[:, successors])
