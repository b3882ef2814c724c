"""Kinds of states: what the tasks of a distribution share, and how it is learned from them.

States come in hidden kinds, such as floor, wall and goal. Kind 0 cannot be entered; each other has
a reward and an end of its own, and a way in which actions move. They are found by
expectation-maximisation (Dempster, Laird and Rubin 1977), online, over the tasks that an agent was
trained in: an empirical prior (Robbins 1956) of local models (Sherstov and Stone 2005; Leffler,
Littman and Edmunds 2007, where the kinds are told).

Rewards count as z(r) = sign(r) ln(1 + |r|). C kinds, S states, A actions, K displacements.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from rl3jax.object_level.base import Transitions
from rl3jax.object_level.neighbourhood import Neighbourhood
from rl3jax.symlog import symexp, symlog

LEAST_VARIANCE = 0.01
"""Of the rewards of a kind, on the scale of z."""
LEAST_EVIDENCE = -20.0
"""Of one entry against a kind, in nats."""
LEAST_EVIDENCE_OF_MOVE = -5.0
"""Of one move, likewise: kinds may be wrong about rare slips."""
BUMP_FLOOR = 0.001
"""Probability of staying for reasons that no kind knows."""
FOUND = 4
"""How many states of a kind a task has shown counts as 0, 1, 2, or 3 and more."""


@struct.dataclass
class Kinds:
    """What is believed of all tasks.

    Attributes:
        z_mean, z_variance: `[C]`, of rewards of entering, on the scale of z; kind 0's mean nothing.
        ends: `[C]`, probability that entering ends the episode.
        log_share: `[C]`, logarithm of the kinds' frequencies among states.
        log_place: `[C, S]`, logarithm of a state's probabilities of kinds.
        affinity: `[C, C]`, log p(c, c') / (p(c) p(c')) of adjacent states.
        log_scarcity: `[C, FOUND]`, log of how much likelier than by its place a state is of kind c
            where the task has shown so many.
        moves: `[C, A, K]`, probability of setting out for each displacement.
    """

    z_mean: jax.Array
    z_variance: jax.Array
    ends: jax.Array
    log_share: jax.Array
    log_place: jax.Array
    affinity: jax.Array
    log_scarcity: jax.Array
    moves: jax.Array

    @property
    def reward(self) -> Float[Array, " C"]:
        """Reward of entering a state of each kind, in reward units."""
        return symexp(self.z_mean)


def uniform_kinds(num_kinds: int, num_states: int, num_actions: int, num_moves: int) -> Kinds:
    """Kinds of which nothing is known: all the same."""
    log_share = jnp.full(num_kinds, -math.log(num_kinds), float)
    return Kinds(
        z_mean=jnp.zeros(num_kinds),
        z_variance=jnp.ones(num_kinds),
        ends=jnp.full(num_kinds, 0.5, float),
        log_share=log_share,
        log_place=jnp.repeat(log_share[:, None], num_states, axis=1),
        affinity=jnp.zeros((num_kinds, num_kinds)),
        log_scarcity=jnp.zeros((num_kinds, FOUND)),
        moves=jnp.full((num_kinds, num_actions, num_moves), 1 / num_moves, float),
    )


z = symlog  # of rewards


# --- in words -----------------------------------------------------------------------------------

LEAST_SHARE = 1e-3
"""Of states, below which a kind is not described: it is spare."""
LIKELY = 1.5
"""How much likelier than by chance kinds are adjacent that are called neighbours."""


def describe_kinds(kinds: Kinds) -> list[dict[str, Any]]:
    """What is known of each kind, the most frequent first; of kind 0, which is closed, no reward.

    `slip` is the probability of not setting out for where most actions like that set out for;
    `neighbours` are kinds that are adjacent more often than by chance, and how much.
    """
    kinds, reward = jax.device_get((kinds, kinds.reward))
    moves = np.asarray(kinds.moves)
    share = np.exp(kinds.log_share)
    main = np.einsum("c,cak->ak", share[1:], moves[1:]).argmax(axis=1)
    slips = 1 - np.take_along_axis(moves, main[None, :, None], axis=2)[..., 0]
    listed = [int(c) for c in np.argsort(-share) if share[c] >= LEAST_SHARE]
    ratio = np.exp(kinds.affinity)
    return [
        {
            "kind": "closed" if c == 0 else str(c),
            "share of states": float(share[c]),
            "reward": float(reward[c]) if c else None,
            "ends the episode": float(kinds.ends[c]) if c else None,
            "slip": float(slips[c].max()) if c else None,
            "neighbours": {
                "closed" if n == 0 else str(n): float(ratio[c, n])
                for n in listed
                if n != c and ratio[c, n] >= LIKELY
            },
        }
        for c in listed
    ]


# --- evidence, of one task ----------------------------------------------------------------------


def entry_evidence(
    kinds: Kinds, reward: Float[Array, ""], terminated: Bool[Array, ""]
) -> Float[Array, " C"]:
    """Log-likelihood, by kind, that a state was entered with this outcome, less the largest."""
    distance = jnp.square(z(reward) - kinds.z_mean) / kinds.z_variance
    of_reward = -0.5 * (distance + jnp.log(kinds.z_variance))
    of_end = jnp.log(jnp.where(terminated, kinds.ends, 1 - kinds.ends))
    evidence = _less_the_largest(of_reward + of_end, LEAST_EVIDENCE)
    return evidence.at[0].set(LEAST_EVIDENCE)


def move_evidence(kinds: Kinds, action: Int[Array, ""], move: Int[Array, ""]) -> Float[Array, " C"]:
    """Log-likelihood, by kind of the state left, that an action moved so, less the largest."""
    evidence = _less_the_largest(jnp.log(kinds.moves[:, action, move]), LEAST_EVIDENCE_OF_MOVE)
    return evidence.at[0].set(0.0)


def _less_the_largest(evidence: Float[Array, " C"], least: float) -> Float[Array, " C"]:
    """Of kinds that can be entered."""
    return jnp.maximum(evidence - evidence[1:].max(), least)


def stay_evidence(sets_out: Float[Array, " K"], closed: Float[Array, " K"]) -> Float[Array, " K"]:
    """Log-ratio, by displacement, of having stayed if the state there were closed or were open.

    Args:
        sets_out: probability of setting out for each displacement; 0 is staying.
        closed: probability that the state there is of kind 0; 1 off the map.
    """
    bumps = sets_out * closed
    others = sets_out[0] + jnp.sum(bumps[1:]) - bumps + BUMP_FLOOR
    return jnp.log1p(sets_out / others).at[0].set(0.0)


def says(kinds: Kinds, evidence: Float[Array, "C *n"]) -> Float[Array, "C *n"]:
    """What a state says of a neighbour, by the evidence on its own kind: log-evidence on that's."""
    prior = kinds.log_share.reshape(-1, *[1] * (evidence.ndim - 1))
    believed = jax.nn.softmax(prior + evidence, axis=0)
    return jnp.log(jnp.tensordot(jnp.exp(kinds.affinity), believed, 1))


def messages(said: Float[Array, "C S"], neighbourhood: Neighbourhood) -> Float[Array, "C S"]:
    """Log-evidence on a state's kind from its neighbours: the sum of what each says, one round."""
    around = neighbourhood.around(said)
    return sum(x * on[None] for on, x in zip(neighbourhood.exists, around, strict=True))


class Posterior(NamedTuple):
    """What is believed of every state of a task.

    Attributes:
        closed: `[S]`, probability of kind 0.
        kind: `[C, S]`, probabilities of the kinds of a state that can be entered; those of kind 0
            are 0.
    """

    closed: jax.Array
    kind: jax.Array

    @property
    def of_all(self) -> Float[Array, "C *S"]:
        """Probabilities of all kinds, kind 0 among them."""
        return (self.kind * (1 - self.closed)[None]).at[0].set(self.closed)


def weigh(log_weights: Float[Array, "C *S"]) -> Float[Array, "C *S"]:
    """Weights of the kinds, by logarithms; that of the likeliest one that can be entered is 1."""
    return jnp.exp(log_weights - log_weights[1:].max(axis=0)[None])


def posterior(weights: Float[Array, "C *S"]) -> Posterior:
    """By the products of prior and evidence.

    What remains without kind 0 is normalised by itself: to divide by 1 − p(0) would round, and the
    values of walls could grow beyond all bounds.
    """
    open_weight = weights[1:].sum(axis=0)
    is_open = (jnp.arange(len(weights)) > 0).reshape(-1, *[1] * (weights.ndim - 1))
    kind = jnp.where(is_open, weights / open_weight[None], 0.0)
    return Posterior(1 / (1 + open_weight / weights[0]), kind)


def expected(of_kind: Float[Array, "C *n"], believed: Posterior) -> Float[Array, "*n S"]:
    """What is to be expected in every state of what each kind has, if it can be entered."""
    # A sum of terms, one loop: XLA's products and sums of arrays of all tasks take far longer.
    place = believed.kind.reshape(len(of_kind), *[1] * (of_kind.ndim - 1), -1)
    return sum(x[..., None] * p for x, p in zip(of_kind[1:], place[1:], strict=True))


def scarcity(kinds: Kinds, found: Float[Array, " C"]) -> Float[Array, " C"]:
    """Logarithm of how much likelier further states of each kind are, after so many."""
    return jnp.sum(kinds.log_scarcity * by_count(found), axis=1)


def by_count(found: Float[Array, " C"]) -> Float[Array, "C found"]:
    """One-hot, how many states of each kind were found: 0, 1, 2, or 3 and more."""
    count = jnp.clip(jnp.round(found), 0, FOUND - 1).astype(jnp.int32)
    return jax.nn.one_hot(count, FOUND)


# --- learning: expectation ----------------------------------------------------------------------

BINS = 480
BIN_WIDTH = 0.05
"""Of a histogram of mean rewards on the scale of z, whose middle is 0."""


@struct.dataclass
class Summary:
    """What is expected of the kinds in tasks, summed over states, transitions and tasks.

    Attributes:
        place: `[C, S]`, states with evidence, by kind and place.
        moments: `[C, 4]`, of entered states: how many, sums of z and z² of their mean rewards, and
            how many ended the episode.
        pairs: `[C, C]`, adjacent states of which both have evidence.
        first_entries: `[2, C, FOUND]`, as in the table: before, and after.
        moves: `[C, A, K]`, transitions by what they set out for.
        histogram: `[2, BINS, 2]`, of entered states, those that ended no episode and those that
            did: how many, and sums of z of their mean rewards.
    """

    place: jax.Array
    moments: jax.Array
    pairs: jax.Array
    first_entries: jax.Array
    moves: jax.Array
    histogram: jax.Array


class Seen(NamedTuple):
    """What a task has shown of its states.

    Attributes:
        evidence: `[C, S]`, log-evidence on kinds.
        entered: `[S]` bool.
        mean_reward: `[S]`, of entering; 0 where not entered.
        ended: `[S]` bool, whether entering ended the episode.
        first_entries: `[2, C, FOUND]`.
    """

    evidence: jax.Array
    entered: jax.Array
    mean_reward: jax.Array
    ended: jax.Array
    first_entries: jax.Array


TRIED_IN_VAIN = 0.5
"""Log-evidence of being closed from which a state that was not entered counts as seen."""


def summarise(
    kinds: Kinds,
    neighbourhood: Neighbourhood,
    seen: Seen,
    believed: Posterior,
    transitions: Transitions,
) -> Summary:
    """What one task's data, believed of so at its end, say of the kinds."""
    has_evidence = seen.entered | (seen.evidence[0] > TRIED_IN_VAIN)
    place = believed.of_all * has_evidence[None]
    reward = z(seen.mean_reward)
    outcomes = jnp.stack([jnp.ones_like(reward), reward, jnp.square(reward), seen.ended * 1.0])
    exists = jnp.asarray(neighbourhood.exists, float)
    around = neighbourhood.around(place)
    closed = closed_around(neighbourhood, believed.closed)

    def set_out(s: Array, a: Array, s_next: Array) -> Float[Array, "C A K"]:
        move, is_any = neighbourhood.displacement(s, s_next)
        share = sets_out_for(kinds, believed.kind[:, s], closed[:, s], a, move) * is_any
        acted = jax.nn.one_hot(a, kinds.moves.shape[1])
        return share[:, None] * acted[None, :, None]

    return Summary(
        place=place,
        moments=(believed.kind * seen.entered[None]) @ outcomes.T,
        pairs=sum(place @ (there * on[None]).T for there, on in zip(around, exists, strict=True)),
        first_entries=seen.first_entries,
        moves=jax.vmap(set_out)(transitions.s, transitions.a, transitions.s_next).sum(axis=0),
        histogram=_histogram(reward, seen.ended, seen.entered),
    )


def no_summary(kinds: Kinds) -> Summary:
    """That of no task."""
    num_kinds, num_states = kinds.log_place.shape
    return Summary(
        place=jnp.zeros((num_kinds, num_states)),
        moments=jnp.zeros((num_kinds, 4)),
        pairs=jnp.zeros((num_kinds, num_kinds)),
        first_entries=jnp.zeros((2, num_kinds, FOUND)),
        moves=jnp.zeros_like(kinds.moves),
        histogram=jnp.zeros((2, BINS, 2)),
    )


def sets_out_for(
    kinds: Kinds,
    kind: Float[Array, " C"],
    closed: Float[Array, " K"],
    action: Int[Array, ""],
    move: Int[Array, ""],
) -> Float[Array, "C K"]:
    """Probabilities of what a transition set out for, and from which kind of state.

    Args:
        kinds: the kinds.
        kind: probabilities of the kind of the state left.
        closed: see `closed_around`.
        action: what was done there.
        move: the displacement; a stay is shared over all that may have been set out for in vain.
    """
    in_vain = kind[:, None] * kinds.moves[:, action] * closed[None]
    in_vain = in_vain / jnp.maximum(in_vain.sum(), 1e-9)
    arrived = kind[:, None] * jax.nn.one_hot(move, len(closed))[None]
    return jnp.where(move == 0, in_vain, arrived)


def closed_around(neighbourhood: Neighbourhood, closed: Float[Array, " S"]) -> Float[Array, "K S"]:
    """Probability that an agent that sets out does not get away: 1 of staying and off the map."""
    around = jnp.stack(neighbourhood.around(closed))
    return jnp.where(neighbourhood.exists, around, 1.0)


def _histogram(
    reward: Float[Array, " S"], ended: Bool[Array, " S"], entered: Bool[Array, " S"]
) -> Float[Array, "2 bins 2"]:
    bin_of = jnp.clip(jnp.floor(reward / BIN_WIDTH) + BINS // 2, 0, BINS - 1).astype(jnp.int32)
    weights = jnp.stack([jnp.ones_like(reward), reward], axis=1) * entered[:, None]
    return jnp.zeros((2, BINS, 2)).at[ended.astype(jnp.int32), bin_of].add(weights)


# --- learning: maximisation ---------------------------------------------------------------------

DECAY = 0.9
"""Of what earlier iterations have said, per iteration."""
PLACE_COUNTS = 20.0
"""Pseudo-counts of a state's kinds, shared as they are everywhere."""
PAIR_COUNTS = 20.0
"""Pseudo-counts of adjacent pairs, as if they were independent."""
MOVE_COUNTS = 5.0
"""Pseudo-counts of each kind's moves, shared as of all kinds together."""
MOST_AFFINITY = 6.0
END_WEIGHT = 3.0
"""Distance between an entry that ends the episode and one that does not, on the scale of z."""
SHARE_OF_SPARE = 1e-4
"""Frequency of kinds that are not needed, at first."""
UNEXPLAINED = 6.0
"""Standard deviations from every kind beyond which one moves there."""


def fit(summary: Summary) -> Kinds:
    """The likeliest kinds, given what is expected of them."""
    num_open = summary.moments[:, 0]
    count = jnp.maximum(num_open, 1e-6)
    z_mean = summary.moments[:, 1] / count
    z_variance = summary.moments[:, 2] / count - jnp.square(z_mean)
    share = _normalised(summary.place.sum(axis=1) + 1e-3)
    place = summary.place + PLACE_COUNTS * share[:, None]
    before, after = summary.first_entries
    scarce = jnp.clip((1 + after) / (1 + before), 0.001, 5.0)
    return Kinds(
        z_mean=z_mean,
        z_variance=jnp.maximum(z_variance, LEAST_VARIANCE),
        ends=(summary.moments[:, 3] + 0.05) / (num_open + 0.1),
        log_share=jnp.log(share),
        log_place=jnp.log(place / place.sum(axis=0, keepdims=True)),
        affinity=_affinity(summary.pairs, share),
        log_scarcity=jnp.log(scarce).at[0].set(0.0),
        moves=fit_moves(summary.moves),
    )


def _normalised(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return x / x.sum(axis=-1, keepdims=True)


def _affinity(pairs: Float[Array, "C C"], share: Float[Array, " C"]) -> Float[Array, "C C"]:
    joint = pairs + PAIR_COUNTS * jnp.outer(share, share)
    joint = joint / joint.sum()
    alone = joint.sum(axis=1)
    ratio = jnp.log(joint) - jnp.log(jnp.outer(alone, alone))
    return jnp.clip(ratio, -MOST_AFFINITY, MOST_AFFINITY)


def fit_moves(moves: Float[Array, "C A K"]) -> Float[Array, "C A K"]:
    """Probabilities by counts, with those of all kinds together as pseudo-counts."""
    pooled = _normalised(moves.sum(axis=0) + 0.01)
    return _normalised(moves + MOVE_COUNTS * pooled[None])


class Outcomes(NamedTuple):
    """Entries of all tasks by outcome: z of the reward, whether it ended an episode, how many."""

    z: jax.Array
    ended: jax.Array
    number: jax.Array


def _points(histogram: Float[Array, "2 bins 2"]) -> Outcomes:
    """The histogram's bins, `[2 · BINS]`."""
    count, total = jnp.moveaxis(histogram, -1, 0).reshape(2, -1)
    ended = jnp.repeat(jnp.arange(2.0), BINS)
    return Outcomes(total / jnp.maximum(count, 1), ended, count)


def seed(kinds: Kinds, summary: Summary) -> Kinds:
    """Kinds at outcomes that are far from each other, the first at the median of all.

    Each next one is the outcome farthest from all before, by z and `END_WEIGHT` · ended. Where
    there are fewer outcomes than kinds, the rest are spare: there is hardly any state of them.
    """
    points = _points(summary.histogram)
    by_z = jnp.argsort(points.z)
    below = jnp.cumsum(points.number[by_z])
    median = by_z[jnp.argmax(below >= below[-1] / 2)]

    def distance_to(chosen: Int[Array, ""]) -> Float[Array, " n"]:
        ends = END_WEIGHT * (points.ended - points.ended[chosen])
        far = jnp.hypot(points.z - points.z[chosen], ends)
        return jnp.where(points.number > 0, far, -1.0)

    def choose(nearest: Float[Array, " n"], _: None) -> tuple[Float[Array, " n"], Any]:
        chosen = jnp.argmax(nearest)
        return jnp.minimum(nearest, distance_to(chosen)), (chosen, nearest[chosen])

    num_open = kinds.z_mean.shape[0] - 1
    _, (others, apart) = jax.lax.scan(choose, distance_to(median), length=num_open - 1)
    chosen = jnp.concatenate([median[None], others])
    share = jnp.where(jnp.concatenate([jnp.ones(2), apart]) > 0, 1.0, SHARE_OF_SPARE)
    log_share = jnp.log(_normalised(share))
    pooled = fit_moves(summary.moves.sum(axis=0, keepdims=True))
    return dataclasses.replace(
        kinds,
        z_mean=kinds.z_mean.at[1:].set(points.z[chosen]),
        z_variance=jnp.full_like(kinds.z_variance, 0.1),
        log_share=log_share,
        log_place=jnp.broadcast_to(log_share[:, None], kinds.log_place.shape),
        ends=kinds.ends.at[1:].set(jnp.where(points.ended[chosen] > 0, 0.95, 0.05)),
        moves=jnp.broadcast_to(pooled, kinds.moves.shape),
    )


def learn_kinds(
    kinds: Kinds, total: Summary, latest: Summary, is_first: Bool[Array, ""]
) -> tuple[Kinds, Summary]:
    """The kinds after one more iteration, and what all iterations together say.

    The first one seeds them: what it says of kinds that were all the same is of no use.
    """
    total = jax.tree.map(lambda old, new: DECAY * old + new, total, latest)
    later = rescue(fit(total), total, latest)
    first = seed(kinds, latest), jax.tree.map(jnp.zeros_like, total)
    return jax.tree.map(lambda a, b: jnp.where(is_first, a, b), first, later)


def rescue(kinds: Kinds, total: Summary, latest: Summary) -> tuple[Kinds, Summary]:
    """A kind that is most like another moves to the outcome that all explain worst, if one does.

    That is one farther than `UNEXPLAINED` standard deviations from every kind: of a goal, for
    instance, that no task had found before. What was summed up of the kind is emptied.
    """
    points = _points(latest.histogram)
    from_kinds = jnp.square(points.z[None] - kinds.z_mean[1:, None]) / kinds.z_variance[1:, None]
    spread = kinds.ends * (1 - kinds.ends) + LEAST_VARIANCE
    from_kinds += jnp.square(points.ended[None] - kinds.ends[1:, None]) / spread[1:, None]
    farthest = jnp.where(points.number > 0, from_kinds.min(axis=0), 0.0)
    worst = jnp.argmax(farthest)
    spare = 1 + jnp.argmin(_distance_to_nearest(kinds, total))

    def moved(kinds: Kinds, total: Summary) -> tuple[Kinds, Summary]:
        ends = jnp.where(points.ended[worst] > 0, 0.95, 0.05)
        share = jnp.exp(kinds.log_share).at[spare].set(0.01)
        log_share = jnp.log(_normalised(share))
        kinds = dataclasses.replace(
            kinds,
            z_mean=kinds.z_mean.at[spare].set(points.z[worst]),
            z_variance=kinds.z_variance.at[spare].set(0.1),
            ends=kinds.ends.at[spare].set(ends),
            log_share=log_share,
            log_place=kinds.log_place.at[spare].set(log_share[spare]),
            affinity=kinds.affinity.at[spare].set(0.0).at[:, spare].set(0.0),
            log_scarcity=kinds.log_scarcity.at[spare].set(0.0),
            moves=kinds.moves.at[spare].set(_normalised(kinds.moves[1:].mean(axis=0))),
        )
        total = dataclasses.replace(
            total,
            place=total.place.at[spare].set(0.0),
            moments=total.moments.at[spare].set(0.0),
            pairs=total.pairs.at[spare].set(0.0).at[:, spare].set(0.0),
            first_entries=total.first_entries.at[:, spare].set(0.0),
            moves=total.moves.at[spare].set(0.0),
        )
        return kinds, total

    keep = (kinds, total)
    is_far = farthest[worst] > UNEXPLAINED**2
    return jax.tree.map(lambda a, b: jnp.where(is_far, a, b), moved(*keep), keep)


def _distance_to_nearest(kinds: Kinds, total: Summary) -> Float[Array, " open"]:
    """Of each kind that can be entered, how unlike the most similar one that is more common.

    0 of a kind without data.
    """
    apart = jnp.square(kinds.z_mean[:, None] - kinds.z_mean[None])
    apart = apart / (kinds.z_variance[:, None] + kinds.z_variance[None])
    apart += jnp.square(END_WEIGHT * (kinds.ends[:, None] - kinds.ends[None]))
    apart += jnp.abs(kinds.moves[:, None] - kinds.moves[None]).sum(axis=-1).mean(axis=-1)
    count = total.moments[:, 0]
    is_rarer = (count[:, None] < count[None]) | (
        (count[:, None] == count[None]) & jnp.tri(len(count), k=-1, dtype=bool)
    )
    nearest = jnp.where(is_rarer, apart, jnp.inf)[1:, 1:].min(axis=1)
    return jnp.where(count[1:] < 1, 0.0, nearest)
