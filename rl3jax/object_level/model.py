"""The estimated model of one task: counts of what was seen, and Bellman backups from them.

The counts of a pair (s, a) lie in slots, one for each next state. With a slot for every state the
next state is the slot's index. With few slots they are given to next states in the order seen, and
the next states are kept beside them: a gridworld's pair has at most 3 of 169.

States are the last axis, so that the maximum over actions, in every sweep, is one of whole vectors.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.custom_batching import custom_vmap
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Real

Backup = Callable[[Float[Array, " S"]], Float[Array, "A S"]]
"""From state values v to action values q."""

VarianceBackup = Callable[[Float[Array, " S"], Float[Array, " S"]], Float[Array, "A S"]]
"""From state values v and their variances to the variances of action values."""


@struct.dataclass
class EstimatedModel:
    """Sufficient statistics of a task's transitions, in K slots for each pair of state and action.

    The second group follows from the first. It is kept since a step changes one pair of it, where
    a backup would have to sum over all slots of all pairs.

    Attributes:
        counts: `[K, A, S]`, N(s, a, s') of the slot's s'; int16 beside `successors`, else float.
        reward_sums: `[K, A, S]`, sum of the rewards of those transitions.
        reward_squares: `[K, A, S]`, sum of their squares; `None` if not kept.
        successors: `[K, A, S]` int, s' of each slot that has a count; `None`: slot k is state k.
        known: `[S]` bool, states that the model consists of.
        absorbing: `[S]` bool, states in which an episode has terminated.
        overflowed: `[]` bool, whether a transition found no slot, or its count no room; `None`
            where neither can be.

        visits: `[A, S]` float, N(s, a).
        rewards: `[A, S]`, sum of all rewards of the pair.
        mean_rewards: `[A, S]`, sum of R̂(s, a, s') over s'.
        tries: `[A]` float, how often an action was taken, wherever.
        stays: `[A]` float, how often it led back to the same state.
        stay_rewards: `[A]`, sum of the rewards of these.
    """

    counts: jax.Array
    reward_sums: jax.Array
    reward_squares: jax.Array | None
    successors: jax.Array | None
    known: jax.Array
    absorbing: jax.Array
    overflowed: jax.Array | None

    visits: jax.Array
    rewards: jax.Array
    mean_rewards: jax.Array
    tries: jax.Array
    stays: jax.Array
    stay_rewards: jax.Array


def empty_model(
    num_states: int,
    num_actions: int,
    all_known: bool,
    slots: int | None = None,
    keep_squares: bool = False,
) -> EstimatedModel:
    """The model before any data; states not known from the start become so when visited.

    Args:
        num_states: S.
        num_actions: A.
        all_known: whether all states are known from the start.
        slots: K; `None` is one for every state.
        keep_squares: whether to keep squares of rewards.
    """
    is_sparse = slots is not None and slots < num_states
    zeros = jnp.zeros((slots if is_sparse else num_states, num_actions, num_states))
    index_dtype = jnp.int16 if num_states <= jnp.iinfo(jnp.int16).max else jnp.int32
    return EstimatedModel(
        counts=zeros.astype(jnp.int16) if is_sparse else zeros,
        reward_sums=zeros,
        reward_squares=zeros if keep_squares else None,
        successors=jnp.zeros(zeros.shape, index_dtype) if is_sparse else None,
        known=jnp.full(num_states, all_known),
        absorbing=jnp.zeros(num_states, bool),
        overflowed=jnp.bool_(False) if is_sparse else None,
        visits=zeros[0],
        rewards=zeros[0],
        mean_rewards=zeros[0],
        tries=zeros[0, :, 0],
        stays=zeros[0, :, 0],
        stay_rewards=zeros[0, :, 0],
    )


def record(
    model: EstimatedModel,
    s: Int[ArrayLike, ""],
    a: Int[ArrayLike, ""],
    r: Real[ArrayLike, ""],
    s_next: Int[ArrayLike, ""],
    terminated: Bool[ArrayLike, ""],
) -> EstimatedModel:
    """The model with one more transition, or without it and overflowed if its pair has no slot."""
    slot, fits = _slot_of(model, s, a, s_next)
    stayed = jnp.equal(s, s_next)
    counts = model.counts.at[slot, a, s].add(fits.astype(model.counts.dtype))
    reward_sums = model.reward_sums.at[slot, a, s].add(fits * r)
    squares, successors = model.reward_squares, model.successors
    return EstimatedModel(
        counts=counts,
        reward_sums=reward_sums,
        reward_squares=None if squares is None else squares.at[slot, a, s].add(fits * r**2),
        successors=None if successors is None else _put(successors, (slot, a, s), s_next),
        known=model.known.at[s].set(True).at[s_next].set(True),
        absorbing=model.absorbing.at[s_next].max(terminated),
        overflowed=None if model.overflowed is None else model.overflowed | ~fits,
        visits=model.visits.at[a, s].add(1),
        rewards=model.rewards.at[a, s].add(r),
        mean_rewards=model.mean_rewards.at[a, s].set(
            jnp.sum(reward_sums[:, a, s] / jnp.maximum(counts[:, a, s], 1))
        ),
        tries=model.tries.at[a].add(1),
        stays=model.stays.at[a].add(stayed),
        stay_rewards=model.stay_rewards.at[a].add(stayed * r),
    )


def _slot_of(
    model: EstimatedModel, s: Int[ArrayLike, ""], a: Int[ArrayLike, ""], s_next: Int[ArrayLike, ""]
) -> tuple[Int[ArrayLike, ""], Bool[Array, ""]]:
    """The slot of a transition, and whether there is one."""
    if model.successors is None:
        return s_next, jnp.bool_(True)
    counts = model.counts[:, a, s]
    holds = (counts > 0) & (model.successors[:, a, s] == s_next)
    # Its own slot, else the first free one.
    slot = jnp.argmax(jnp.where(holds, 2, counts == 0))
    return slot, (holds[slot] | (counts[slot] == 0)) & (counts[slot] < jnp.iinfo(counts).max)


def visits(model: EstimatedModel, s: Int[ArrayLike, ""]) -> Int[Array, " A"]:
    """N(s, ·), how often each action was taken in state `s`."""
    return model.visits[:, s].astype(jnp.int32)


def mean_reward_of(model: EstimatedModel, s: Int[ArrayLike, ""]) -> Float[Array, " A"]:
    """Mean of the rewards of each action in state `s`; 0 of one that was not taken there."""
    return model.rewards[:, s] / jnp.maximum(model.visits[:, s], 1)


def bellman_backup(model: EstimatedModel, discount: float, smoothing: float) -> Backup:
    """The function q(s, a) = Σ_s' P̂(s'|s,a) (R̂(s,a,s') + discount · v(s')) of v.

    With l = `smoothing` and K known states, P̂(s'|s,a) = (N(s,a,s') + l) / (N(s,a) + l·K) for
    known s', or 1/K where (s, a) was never tried; R̂ is the mean reward, 0 if unseen. Values of
    unknown and absorbing states are 0, and must be so in v. (RL³, Bhatia et al.)
    """
    # The same l for every known s' is a rank-one term.
    pseudo_count, total = _smoothed_total(model, smoothing)
    scale = jnp.where(_live(model), 1 / total, 0.0)
    reward = scale * (model.rewards + smoothing * model.mean_rewards)
    seen, unseen = discount * scale, discount * scale * pseudo_count
    expectation = _expectation(model)

    def backup(v: Float[Array, " S"]) -> Float[Array, "A S"]:
        total_v = v @ jnp.ones_like(v)  # a dot: XLA's CPU fusions around a plain sum are slow
        return reward + seen * expectation(v) + unseen * total_v

    return backup


def optimistic_backup(model: EstimatedModel, discount: float, optimism: float) -> Backup:
    """A backup in which a pair that was never tried is worth `optimism` where it leads away.

    Tried pairs have unsmoothed counts: any smoothing would lead everywhere, so also to what is
    unexplored. (R-max, Brafman and Tennenholtz 2002.)

    Whether an action leads away at all is pooled over the task's states: a pair never tried stays
    with the share of the action's transitions that stayed (paying what those paid on average), and
    leads to the unknown with the rest. So an action without effect, once tried, does not make
    every state look unexplored. The share that leads away is (leaving + 0.2) / (all + 0.2): 1
    at first.
    """
    untried = (model.visits == 0) & ~model.absorbing[None, :]
    stay_share = (model.stays / (model.tries + LEAVING_PRIOR))[:, None]
    stay_reward = (model.stay_rewards / jnp.maximum(model.stays, 1))[:, None]
    if_untried = stay_share * stay_reward + (1 - stay_share) * optimism
    scale = 1 / jnp.maximum(model.visits, 1)
    reward = jnp.where(untried, if_untried, scale * model.rewards)
    seen, staying = discount * scale, discount * jnp.where(untried, stay_share, 0.0)
    expectation = _expectation(model)

    def backup(v: Float[Array, " S"]) -> Float[Array, "A S"]:
        return reward + seen * expectation(v) + staying * v[None, :]

    return backup


LEAVING_PRIOR = 0.2
"""Pseudo-count of a transition that leads away, of every action."""


def variance_backup(model: EstimatedModel, discount: float, smoothing: float) -> VarianceBackup:
    """The variance of each q(s, a), given state values and their variances.

    With p = P̂(s'|s,a), T = N(s,a) + l·K, se(P̂)² = p (1 − p) / T, or 1/12 if N(s,a) = 0, and
    se(R̂)² the variance of the mean reward, or 1 of less than two rewards:

        W = se(R̂)² + discount² Var v(s'),
        Var q(s, a) = Σ_s' [p² W + (R̂ + discount v(s'))² se(P̂)² + W se(P̂)²]

    over known s'. Unknown and absorbing states have none. (RL³, Bhatia et al.: an option of the
    published program.) Needs a model that keeps squares of rewards.
    """
    seen = model.counts > 0
    pseudo_count, total = (x[None] for x in _smoothed_total(model, smoothing))
    tried = (model.visits > 0)[None]

    def moments(p: Float[Array, "#K A S"]) -> tuple[Float[Array, "#K A S"], ...]:
        """p² + se(P̂)², and se(P̂)²."""
        variance = jnp.where(tried, p * (1 - p) / total, 1 / 12)
        return p**2 + variance, variance

    # A next state that was seen adds its own terms in place of those of one that was not.
    moment_unseen, var_unseen = moments(pseudo_count / total)
    moment_seen, var_seen = moments((model.counts + pseudo_count) / total)
    mean_rewards = _mean_rewards(model)
    var_rewards = _variance_of_mean_rewards(model)
    num_known = model.known.sum()
    live = _live(model)

    def backup(v: Float[Array, " S"], var_v: Float[Array, " S"]) -> Float[Array, "A S"]:
        v, var_v = discount * v, discount**2 * var_v
        all_unseen = moment_unseen * (num_known + var_v.sum()) + var_unseen * jnp.sum(v**2)
        v_next, var_next = _at_successors(model, v), _at_successors(model, var_v)
        as_seen = moment_seen * (var_rewards + var_next) + var_seen * (mean_rewards + v_next) ** 2
        as_unseen = moment_unseen * (1 + var_next) + var_unseen * v_next**2
        correction = jnp.sum(jnp.where(seen, as_seen - as_unseen, 0.0), axis=0)
        return jnp.where(live, jnp.maximum(all_unseen[0] + correction, 0.0), 0.0)

    return backup


def _mean_rewards(model: EstimatedModel) -> Float[Array, "K A S"]:
    return model.reward_sums / jnp.maximum(model.counts, 1)


def _variance_of_mean_rewards(model: EstimatedModel) -> Float[Array, "K A S"]:
    """se(R̂)²: of n rewards, the mean of squares less the mean squared, over n − 1; 1 if n ≤ 1."""
    assert model.reward_squares is not None
    counts = jnp.maximum(model.counts, 1)
    spread = jnp.maximum(model.reward_squares / counts - _mean_rewards(model) ** 2, 0.0)
    return jnp.where(model.counts <= 1, 1.0, spread / jnp.maximum(counts - 1, 1))


def _smoothed_total(
    model: EstimatedModel, smoothing: float
) -> tuple[Float[Array, "A S"], Float[Array, "A S"]]:
    """The pseudo-count of every known next state, and N(s, a) with all of them.

    A pair never tried is all smoothing, so that any l > 0 gives 1/K.
    """
    pseudo_count = jnp.where(model.visits > 0, smoothing, 1.0)
    return pseudo_count, model.visits + pseudo_count * model.known.sum()


def _live(model: EstimatedModel) -> Bool[Array, "1 S"]:
    """States that have values: known, and not the end of an episode."""
    return (model.known & ~model.absorbing)[None, :]


def _expectation(model: EstimatedModel) -> Callable[[Float[Array, " S"]], Float[Array, "A S"]]:
    """The function Σ_s' N(s, a, s') v(s') of v."""
    if model.successors is None:
        return lambda v: jnp.tensordot(v, model.counts, 1)
    slots = list(zip(model.counts, model.successors, strict=True))  # sliced once for all sweeps
    return lambda v: sum(count * _take(v, s_next) for count, s_next in slots)


def _at_successors(model: EstimatedModel, x: Float[Array, " S"]) -> Float[Array, "K #A #S"]:
    """The x of each slot's next state."""
    return x[:, None, None] if model.successors is None else _take(x, model.successors)


def _put(x: Int[Array, "*any"], index: Any, value: Int[ArrayLike, ""]) -> Int[Array, "*any"]:
    return x.at[index].set(jnp.asarray(value).astype(x.dtype))


@custom_vmap
def _take(x: Float[Array, " S"], index: Int[Array, "*any"]) -> Float[Array, "*any"]:
    return x.at[index].get(mode="promise_in_bounds")


@_take.def_vmap
def _take_in_every_task(
    n_tasks: int, batched: list[bool], x: Float[Array, "*B S"], index: Int[Array, "*any"]
) -> tuple[Float[Array, "{n_tasks} ..."], bool]:
    """One gather from all tasks' x laid end to end: plain `vmap` builds pairs of indices for it."""
    if not all(batched):
        in_axes = [0 if is_batched else None for is_batched in batched]
        return jax.vmap(_take.fun, in_axes)(x, index), True
    first = jnp.arange(n_tasks, dtype=jnp.int32) * x.shape[1]
    first = first.reshape(n_tasks, *(1 for _ in index.shape[1:]))
    return _take.fun(x.ravel(), first + index), True
