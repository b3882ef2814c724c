"""Breaking ties: a fixed order among equals would favour some actions of a task for no reason."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def argmax_at_random(x: Float[Array, " A"], key: PRNGKeyArray) -> Int[Array, ""]:
    """One of the largest entries' indices, each as probable, int32. The key is consumed."""
    return jax.random.categorical(key, jnp.where(x == x.max(), 0.0, -jnp.inf)).astype(jnp.int32)
