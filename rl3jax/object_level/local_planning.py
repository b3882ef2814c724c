"""Planning where actions are displacements: value-iteration sweeps by static gathers."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rl3jax.object_level.neighbourhood import Neighbourhood


class LocalMdp(NamedTuple):
    """A task as a plan sees it.

    Attributes:
        moves: `[A, K, S]`, probability of setting out for each displacement.
        closed: `[S]`, probability that a state cannot be entered; who sets out for it stays.
        reward: `[S]`, of entering a state, or of staying there.
        goes_on: `[S]`, probability that entering does not end the episode.
        live: `[S]`, 0 of states that have ended an episode, which are worth nothing, else 1.
        bonus: `[A, S]`, added to the values, such as of what was never tried.
    """

    moves: jax.Array
    closed: jax.Array
    reward: jax.Array
    goes_on: jax.Array
    live: jax.Array
    bonus: jax.Array


def sweep_locally(
    mdp: LocalMdp,
    neighbourhood: Neighbourhood,
    q: Float[Array, "A S"],
    discount: float,
    sweeps: int,
) -> Float[Array, "A S"]:
    """Synchronous sweeps from `q` on, by v(s) = max_a q(s, a).

        w_k(s) = (1 − closed(n)) (R(n) + discount · goes_on(n) · v(n))
                 + closed(n) (R(s) + discount · v(s)),
        q(s, a) ← bonus(s, a) + Σ_k P(k|s,a) w_k(s),

    where displacement k leads from s to n.
    """
    closed = neighbourhood.around(mdp.closed)
    opened = 1 - mdp.closed

    def backup(v: Float[Array, " S"]) -> list[Float[Array, " S"]]:
        stays = mdp.reward + discount * v
        entered = neighbourhood.around(opened * (mdp.reward + discount * mdp.goes_on * v))
        outcomes = [w + c * stays for w, c in zip(entered, closed, strict=True)]
        return [
            bonus + sum(p * w for p, w in zip(moves, outcomes, strict=True))
            for bonus, moves in zip(mdp.bonus, mdp.moves, strict=True)
        ]

    def values(q: list[Float[Array, " S"]]) -> Float[Array, " S"]:
        return functools.reduce(jnp.maximum, q) * mdp.live

    # Only values are carried: a sweep is one loop over states, and writes nothing else.
    v = jax.lax.fori_loop(0, sweeps - 1, lambda _, v: values(backup(v)), values(list(q)))
    return jnp.stack(backup(v))
