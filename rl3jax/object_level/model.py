"""The estimated model of one task: counts of what was seen, and Bellman backups from them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

Backup = Callable[[Float[Array, " S"]], Float[Array, "S A"]]
"""From state values v to action values q."""


@struct.dataclass
class EstimatedModel:
    """Sufficient statistics of a task's transitions.

    Attributes:
        counts: `[S, A, S]` float, N(s, a, s').
        reward_sums: `[S, A, S]`, sum of the rewards of those transitions.
        known: `[S]` bool, states that the model consists of.
        absorbing: `[S]` bool, states in which an episode has terminated.
    """

    counts: jax.Array
    reward_sums: jax.Array
    known: jax.Array
    absorbing: jax.Array


def empty_model(num_states: int, num_actions: int, all_known: bool) -> EstimatedModel:
    """The model before any data; states not known from the start become so when visited."""
    zeros = jnp.zeros((num_states, num_actions, num_states))
    return EstimatedModel(
        counts=zeros,
        reward_sums=zeros,
        known=jnp.full(num_states, all_known),
        absorbing=jnp.zeros(num_states, bool),
    )


def record(
    model: EstimatedModel,
    s: Int[ArrayLike, ""],
    a: Int[ArrayLike, ""],
    r: Real[ArrayLike, ""],
    s_next: Int[ArrayLike, ""],
    terminated: Bool[ArrayLike, ""],
) -> EstimatedModel:
    """The model with one more transition."""
    return EstimatedModel(
        counts=model.counts.at[s, a, s_next].add(1),
        reward_sums=model.reward_sums.at[s, a, s_next].add(r),
        known=model.known.at[s].set(True).at[s_next].set(True),
        absorbing=model.absorbing.at[s_next].max(terminated),
    )


def visits(model: EstimatedModel, s: Int[ArrayLike, ""]) -> Int[Array, " A"]:
    """N(s, ·), how often each action was taken in state `s`."""
    return model.counts[s].sum(axis=-1).astype(jnp.int32)


def bellman_backup(model: EstimatedModel, discount: float, smoothing: float) -> Backup:
    """The function q(s, a) = Σ_s' P̂(s'|s,a) (R̂(s,a,s') + discount · v(s')) of v.

    With l = `smoothing` and K known states, P̂(s'|s,a) = (N(s,a,s') + l) / (N(s,a) + l·K) for
    known s', or 1/K where (s, a) was never tried; R̂ is the mean reward, 0 if unseen. Values of
    unknown and absorbing states are 0, and must be so in v. (RL³, Bhatia et al.)
    """
    visits = model.counts.sum(axis=-1)
    mean_rewards = model.reward_sums / jnp.maximum(model.counts, 1)
    reward = jnp.sum((model.counts + smoothing) * mean_rewards, axis=-1)
    # The same l for every known s' is a rank-one term. A pair never tried is all smoothing, so
    # that any l > 0 gives 1/K.
    pseudo_count = jnp.where(visits > 0, smoothing, 1.0)
    total = visits + pseudo_count * model.known.sum()
    live = model.known & ~model.absorbing
    scale = jnp.where(live[:, None], 1 / total, 0.0)

    def backup(v: Float[Array, " S"]) -> Float[Array, "S A"]:
        return scale * (reward + discount * (model.counts @ v + pseudo_count * v.sum()))

    return backup
