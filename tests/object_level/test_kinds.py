"""Kinds of states: evidence by hand, beliefs and learning by enumeration, found by random play."""

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from rl3jax import make_env, object_level
from rl3jax.agent import Agent
from rl3jax.envs.gridworld import OBSTACLE
from rl3jax.object_level import Transitions
from rl3jax.object_level import kinds as k
from rl3jax.object_level.neighbourhood import Neighbourhood
from rl3jax.rollout import rollouts, sample_tasks

# A row of three states: staying, left, right.
ROW = Neighbourhood(((0, 0, 1), (1, 0, 2), (2, 1, 2)))
C, S, A, K = 3, 3, 2, 3
SHARE = np.array([0.2, 0.5, 0.3])
AFFINITY = np.array([[0.5, -1.0, 0.3], [-1.0, 0.2, 0.1], [0.3, 0.1, -2.0]])
MOVES = np.array(
    [[[1, 0, 0], [1, 0, 0]], [[0.1, 0.8, 0.1], [0, 0.25, 0.75]], [[0.5, 0.3, 0.2], [0.6, 0.4, 0]]]
)


def make_kinds(affinity=None, **changes):
    kinds = k.uniform_kinds(C, S, A, K)
    share = jnp.log(jnp.asarray(SHARE, float))
    values = {
        "z_mean": jnp.array([0.0, k.z(jnp.array(-1.0)), 2.0]),
        "z_variance": jnp.array([1.0, 0.04, 0.25]),
        "ends": jnp.array([0.5, 0.1, 0.9]),
        "log_share": share,
        "log_place": jnp.broadcast_to(share[:, None], (C, S)),
        "affinity": jnp.zeros((C, C)) if affinity is None else jnp.asarray(affinity, float),
        "moves": jnp.asarray(MOVES, float),
    }
    return dataclasses.replace(kinds, **(values | changes))


# --- by hand ------------------------------------------------------------------------------------


def test_evidence_of_an_entry_by_hand():
    evidence = k.entry_evidence(make_kinds(), jnp.array(1.0), jnp.array(True))
    z = math.log(2)
    likelihood = [
        math.exp(-0.5 * (z + z) ** 2 / 0.04) / 0.2 * 0.1,
        math.exp(-0.5 * (z - 2) ** 2 / 0.25) / 0.5 * 0.9,
    ]
    difference = math.log(likelihood[0] / likelihood[1])
    np.testing.assert_allclose(evidence, [-20, max(difference, -20), 0], rtol=1e-5)


def test_evidence_of_a_move_by_hand():
    evidence = k.move_evidence(make_kinds(), jnp.int32(0), jnp.int32(1))
    np.testing.assert_allclose(evidence, [0, 0, math.log(0.3 / 0.8)], rtol=1e-6)
    unheard_of = k.move_evidence(make_kinds(), jnp.int32(1), jnp.int32(2))
    np.testing.assert_allclose(unheard_of, [0, 0, -5], rtol=1e-6)


def test_evidence_of_a_stay_by_hand():
    evidence = k.stay_evidence(jnp.array([0.1, 0.6, 0.3]), jnp.array([1.0, 0.2, 1.0]))
    left = math.log((0.1 + 0.3 * 1.0 + 0.6 + 0.001) / (0.1 + 0.3 * 1.0 + 0.001))
    right = math.log((0.1 + 0.6 * 0.2 + 0.3 + 0.001) / (0.1 + 0.6 * 0.2 + 0.001))
    np.testing.assert_allclose(evidence, [0, left, right], rtol=1e-5)


def test_a_state_that_is_surely_closed_still_has_kinds():
    believed = k.posterior(k.weigh(jnp.array([500.0, -400.0, -401.0])[:, None]))
    np.testing.assert_allclose(believed.closed, [1.0])
    np.testing.assert_allclose(believed.kind[:, 0], [0, 0.7310586, 0.2689414], rtol=1e-5)


# --- by enumeration -----------------------------------------------------------------------------


def enumerate_maps(kinds, evidence):
    """Every assignment of kinds to states with its probability, without what neighbours say."""
    maps = list(itertools.product(range(C), repeat=S))
    log_p = [sum(float(kinds.log_place[c, s] + evidence[c, s]) for s, c in enumerate(m)) for m in maps]  # fmt: skip  # noqa: E501
    p = np.exp(np.array(log_p) - max(log_p))
    return maps, p / p.sum()


def marginals(maps, p):
    share = np.zeros((C, S))
    for assignment, weight in zip(maps, p, strict=True):
        share[list(assignment), range(S)] += weight
    return share


def test_beliefs_are_the_marginals_of_all_maps():
    place = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (C, S)), axis=0)
    kinds = make_kinds(log_place=place)
    evidence = 3 * jax.random.normal(jax.random.key(1), (C, S))
    believed = k.posterior(k.weigh(kinds.log_place + evidence))
    share = marginals(*enumerate_maps(kinds, evidence))
    np.testing.assert_allclose(believed.closed, share[0], rtol=1e-4)
    np.testing.assert_allclose(believed.kind[1:], share[1:] / share[1:].sum(axis=0), rtol=1e-4)


def test_messages_are_exact_where_neighbours_are_certain():
    kinds = make_kinds(affinity=AFFINITY)
    around = (1, 2)  # the kinds of the outer two
    evidence = jnp.zeros((C, S)).at[around[0], 0].set(60.0).at[around[1], 2].set(60.0)
    received = k.messages(k.says(kinds, evidence), ROW)[:, 1]
    np.testing.assert_allclose(received, AFFINITY[:, around[0]] + AFFINITY[:, around[1]], rtol=1e-4)


def test_what_is_expected_of_a_task_is_what_all_maps_say():
    """Sums over maps of each state's, pair's and transition's share; by loops, in plain Python."""
    kinds = make_kinds()
    evidence = jnp.array([[-20.0, -20.0, 0.9], [0.4, -1.0, 0.0], [-0.3, 0.0, 0.0]])
    entered = np.array([True, True, False])
    rewards, ended = np.array([-1.0, 5.0, 0.0]), np.array([False, True, False])
    moved = Transitions(
        *map(jnp.array, ([0, 1, 1, 1], [0, 1, 1, 0])), jnp.zeros(4), jnp.array([1, 1, 0, 2]),
        jnp.zeros(4, bool),
    )  # fmt: skip
    seen = k.Seen(evidence, jnp.array(entered), jnp.array(rewards), jnp.array(ended), jnp.ones((2, C, k.FOUND)))  # fmt: skip  # noqa: E501
    believed = k.posterior(k.weigh(kinds.log_place + evidence))
    summary = k.summarise(kinds, ROW, seen, believed, moved)

    share = marginals(*enumerate_maps(kinds, evidence))
    open_share = share[1:] / share[1:].sum(axis=0)
    np.testing.assert_allclose(summary.place, share, rtol=1e-4)  # the last was tried in vain
    z = np.sign(rewards) * np.log1p(np.abs(rewards))
    for c in (1, 2):
        of_kind = open_share[c - 1] * entered
        expected = [of_kind.sum(), of_kind @ z, of_kind @ z**2, of_kind @ ended]
        np.testing.assert_allclose(summary.moments[c], expected, rtol=1e-4)
    pairs = sum(np.outer(share[:, i], share[:, j]) for i, j in ((0, 1), (1, 0), (1, 2), (2, 1)))
    np.testing.assert_allclose(summary.pairs, pairs, rtol=1e-4)

    moves = np.zeros((C, A, K))
    closed = share[0]
    for s, a, s_next in zip(*map(np.asarray, (moved.s, moved.a, moved.s_next)), strict=True):
        if s != s_next:
            moves[1:, a, ROW.rows[s].index(s_next)] += open_share[:, s]
            continue
        away = [closed[n] if n != s else 1.0 for n in ROW.rows[s]]
        stays = np.array([[open_share[c - 1, s] * MOVES[c, a, d] * away[d] for d in range(K)] for c in (1, 2)])  # fmt: skip  # noqa: E501
        moves[1:, a] += stays / stays.sum()
    np.testing.assert_allclose(summary.moves, moves, rtol=1e-4, atol=1e-6)
    assert float(summary.histogram[..., 0].sum()) == 2


def test_a_fit_is_the_means_of_what_was_summed():
    summary = k.no_summary(k.uniform_kinds(C, S, A, K))
    summary = dataclasses.replace(
        summary,
        place=jnp.array([[10.0, 0, 0], [80, 90, 100], [10, 10, 0]]),
        moments=jnp.array([[0, 0, 0, 0], [100, -70, 51, 1], [20, 40, 85, 20.0]]),
        first_entries=jnp.array(
            [[[0.0] * 4, [9, 4, 2, 1], [9, 0, 0, 0]], [[0.0] * 4, [9, 4, 2, 1], [19, 0, 9, 0]]]
        ),
        moves=jnp.array(MOVES * 1e6, float),
    )
    kinds = k.fit(summary)
    np.testing.assert_allclose(kinds.z_mean[1:], [-0.7, 2], rtol=1e-5)
    np.testing.assert_allclose(kinds.z_variance[1:], [0.51 - 0.49, 4.25 - 4], rtol=1e-4)
    np.testing.assert_allclose(kinds.ends[1:], [1.05 / 100.1, 20.05 / 20.1], rtol=1e-5)
    share = np.array([10, 270, 20]) / 300
    np.testing.assert_allclose(np.exp(kinds.log_share), share, rtol=1e-4)
    np.testing.assert_allclose(
        np.exp(kinds.log_place[:, 0]), (np.array([10, 80, 10]) + 20 * share) / 120, rtol=1e-4
    )
    np.testing.assert_allclose(np.exp(kinds.log_scarcity[2]), [2, 1, 5, 1], rtol=1e-5)
    np.testing.assert_allclose(kinds.moves[1:], MOVES[1:], atol=1e-4)


def test_affinity_is_that_of_the_pairs_and_none_of_independent_ones():
    summary = k.no_summary(k.uniform_kinds(C, S, A, K))
    place = jnp.asarray(SHARE[:, None] * 1e4 * np.ones(S), float)
    pairs = jnp.asarray(np.diag([2e4, 5e4, 3e4]), float)
    apart = k.fit(dataclasses.replace(summary, place=place, pairs=pairs)).affinity
    np.testing.assert_allclose(np.diag(apart), -np.log(SHARE), rtol=1e-2)
    assert (np.asarray(apart)[~np.eye(C, dtype=bool)] == -k.MOST_AFFINITY).all()
    independent = jnp.asarray(1e5 * np.outer(SHARE, SHARE), float)
    none = k.fit(dataclasses.replace(summary, place=place, pairs=independent)).affinity
    np.testing.assert_allclose(none, 0, atol=1e-3)


def outcomes(*entries):
    """A summary of entries only: (reward, ended, how many)."""
    histogram = sum(
        n * k._histogram(k.z(jnp.array([r])), jnp.array([e]), jnp.array([True]))
        for r, e, n in entries
    )
    return dataclasses.replace(k.no_summary(k.uniform_kinds(4, S, A, K)), histogram=histogram)


def test_seeds_lie_far_apart_and_the_rest_is_spare():
    summary = outcomes((-1.0, False, 90), (-2.0, False, 9), (100.0, True, 1))
    kinds, total = k.learn_kinds(k.uniform_kinds(4, S, A, K), summary, summary, jnp.bool_(True))
    np.testing.assert_allclose(kinds.reward[1:], [-1, 100, -2], rtol=1e-3)
    np.testing.assert_allclose(kinds.ends[1:], [0.05, 0.95, 0.05], rtol=1e-5)
    assert float(total.histogram.sum()) == 0

    two = outcomes((-1.0, False, 90), (100.0, True, 1))
    kinds, _ = k.learn_kinds(k.uniform_kinds(4, S, A, K), two, two, jnp.bool_(True))
    assert np.exp(kinds.log_share[3]) <= k.SHARE_OF_SPARE


@pytest.mark.parametrize(("reward", "moves"), [(100.0, True), (-1.3, False)])
def test_a_spare_kind_moves_to_what_none_explains(reward, moves):
    kinds, total = k.uniform_kinds(4, S, A, K), outcomes((-1.0, False, 90))
    moments = jnp.array([[0, 0, 0, 0], [90, -62, 43, 0], [0, 0, 0, 0], [9, 9, 9, 9.0]])
    total = dataclasses.replace(total, moments=moments)
    kinds = dataclasses.replace(k.fit(total), z_variance=jnp.full(4, 0.01))
    after, total = k.rescue(kinds, total, outcomes((-1.0, False, 9), (reward, reward > 0, 1)))
    assert bool((after.z_mean[2] != kinds.z_mean[2]).any()) == moves
    if moves:
        np.testing.assert_allclose(after.reward[2], reward, rtol=1e-3)
        np.testing.assert_allclose(after.z_mean[jnp.array([1, 3])], kinds.z_mean[jnp.array([1, 3])])


# --- found --------------------------------------------------------------------------------------


class Wanderer(Agent):
    """Acts at random, and takes in what comes of it."""

    params: Any
    learner: Any = struct.field(pytree_node=False)

    def init(self, s):
        return s, self.learner.bind(self.params).init()

    def act(self, carry, key):
        return jax.random.randint(key, (), 0, self.learner.num_actions), carry

    def take_in(self, carry, interaction):
        (s, table), (a, r, s_next, terminated, _, s_now, *_) = carry, interaction
        return s_now, self.learner.bind(self.params).update(table, s, a, r, s_next, terminated)

    def summarise(self, carry, transitions):
        return self.learner.bind(self.params).summarise(carry[1], transitions)


def test_random_play_finds_the_kinds_of_gridworlds():
    """Rewards, ends and slips within 0.02, the share of walls within 0.03."""
    env = make_env("gridworld", "11x11", side=7, num_obstacle_sets=4, obstacle_set_len=2,
                   num_water_sets=3, min_goal_manhat=4, num_fatal=1, min_optimal_return=20.0)  # fmt: skip  # noqa: E501
    learner = object_level.local_model(env)

    @jax.jit
    def iteration(params, key):
        key_tasks, key_rollouts = jax.random.split(key)
        tasks = sample_tasks(env, jax.random.split(key_tasks, 128))
        wanderer = Wanderer(params, learner)
        played = rollouts(wanderer, env, tasks, 120, jax.random.split(key_rollouts, 128))
        summary = jax.tree.map(lambda x: x.sum(axis=(0, 1)), played.summary)
        return learner.bind(params).learn(summary), (tasks.tiles == OBSTACLE).mean()

    params, walls = learner.init_params(jax.random.key(0)), []
    for key in jax.random.split(jax.random.key(1), 12):
        params, share = iteration(params, key)
        walls.append(share)
    kinds = params.kinds
    share = np.exp(kinds.log_share)
    assert abs(share[0] - np.mean(walls)) < 0.03
    slips = {-1.0: (0.8, 0.1), -2.0: (0.0, 0.5)}  # straight on, and to either side
    for reward, ends in ((-1.0, 0.0), (-2.0, 0.0), (-10.0, 0.0), (-100.0, 1.0), (100.0, 1.0)):
        (like,) = np.nonzero(
            (np.abs(np.asarray(kinds.reward) / reward - 1) < 0.02) & (share > 1e-3)
        )
        assert len(like) > 0, reward
        for c in like:
            assert abs(float(kinds.ends[c]) - ends) < 0.02
            if reward in slips:
                straight, aside = slips[reward]
                north = np.sort(np.asarray(kinds.moves[c, 1]))
                expected = np.sort([straight, aside, aside, 0, 0])
                np.testing.assert_allclose(north, expected, atol=0.02)

    described = {round(row["reward"] or 0): row for row in k.describe_kinds(kinds)}
    assert described[0]["kind"] == "closed"
    assert abs(described[-2]["slip"] - 1) < 0.02
    assert described[-100]["kind"] in described[-10]["neighbours"]  # a warning lies by its trap
    assert described[-1]["kind"] not in described[-10]["neighbours"]
    shares = [row["share of states"] for row in described.values()]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) > 0.9
