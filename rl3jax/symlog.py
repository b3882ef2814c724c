"""A scale on which small differences stay visible beside large values (Hafner et al. 2023)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def symlog(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """sign(x) · ln(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """sign(x) · (e^|x| − 1), the inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))
