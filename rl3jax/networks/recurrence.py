"""Linear recurrences of numbers: h_t = a_t h_{t-1} + b_t, each number for itself.

There is no product of matrices in them, and all that goes into them can be computed for all steps
at once. On CPU they are a loop over steps, which costs next to nothing beside those products; on
accelerators, which would wait for each step, an associative scan.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from rl3jax.devices import on_cpu


@jax.custom_vjp
def recurrence(
    decay: Inexact[Array, "T *batch"],
    inputs: Inexact[Array, "T *batch"],
    before: Inexact[Array, "*batch"],
) -> Inexact[Array, "T *batch"]:
    """Returns h_t = decay_t h_{t-1} + inputs_t for every step t, with `before` ahead of the first.

    Its backward pass is such a recurrence too, from the last step to the first.

    Args:
        decay: real or complex.
        inputs: of the same type and shape.
        before: of the same type.
    """
    return _scan(decay, inputs, before)


def _scan(decay: Array, inputs: Array, before: Array, reverse: bool = False) -> Array:
    """The recurrence; in reverse, that from the last step to the first."""
    if not on_cpu():
        first = -1 if reverse else 0
        inputs = inputs.at[first].add(decay[first] * before)
        return jax.lax.associative_scan(_compose, (decay, inputs), reverse=reverse)[1]

    def step(h: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        decay_t, inputs_t = now
        h = decay_t * h + inputs_t
        return h, h

    return jax.lax.scan(step, before, (decay, inputs), reverse=reverse)[1]


def _compose(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
    """One step, as (decay, inputs), that does what two do."""
    return first[0] * then[0], then[0] * first[1] + then[1]


def _forward(
    decay: Array, inputs: Array, before: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    h = _scan(decay, inputs, before)
    return h, (decay, h, before)


def _backward(residuals: tuple[Array, Array, Array], dh: Array) -> tuple[Array, Array, Array]:
    decay, h, before = residuals
    decay_tp1 = jnp.concatenate([decay[1:], jnp.zeros_like(decay[:1])])
    d_inputs = _scan(decay_tp1, dh, jnp.zeros_like(before), reverse=True)
    h_tm1 = jnp.concatenate([before[None], h[:-1]])
    return d_inputs * h_tm1, d_inputs, d_inputs[0] * decay[0]


recurrence.defvjp(_forward, _backward)
