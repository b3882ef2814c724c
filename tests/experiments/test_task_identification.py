"""Values and distances by hand; classifiers at chance, at certainty, and beside the exact odds."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from experiments.gathered import Gathered
from experiments.rows import PRESETS
from experiments.task_identification import EXPERIMENT, evidence
from experiments.task_identification.classifiers import trained_logits_by_step
from experiments.task_identification.domains import DOMAINS, rows
from experiments.task_identification.duplicates import (
    distance,
    duplicates,
    estimation_errors,
    nearest_other,
)
from experiments.task_identification.evidence import STEPS, Evidence, meta_episode
from experiments.task_identification.features import INPUTS
from experiments.task_identification.figures import draw
from experiments.task_identification.measure import measure, quality
from experiments.task_identification.posterior import posterior_log_odds
from experiments.task_identification.tables import section
from rl3jax import make_env, object_level

ROW = dataclasses.replace(rows("quick")[1], n_tasks=20)


def random_evidence(key, shape, level=0.0, states=3, actions=2):
    """Counts and values about `level`, of any number of meta-episodes."""
    key_q, key_counts, key_rewards = jax.random.split(key, 3)
    pairs = (*shape, states, actions)
    transitions = jax.random.poisson(key_counts, 2.0, (*pairs, states)).astype(float)
    visits = transitions.sum(-1)
    noise = jnp.sqrt(visits) * jax.random.normal(key_rewards, pairs)
    q = jnp.broadcast_to(level, pairs) + jax.random.normal(key_q, pairs)
    return Evidence(q, visits, visits * level + noise, transitions)


# --- duplicates ---------------------------------------------------------------------------------


def test_nearest_other_table_by_hand():
    q = jnp.array([0.0, 3.0, 4.0, 9.0])[:, None, None] * jnp.array([[[1.0, 0.5]]])
    nearest, which = nearest_other(q)
    assert nearest.tolist() == [3, 1, 1, 5]
    assert which.tolist() == [1, 2, 1, 2]


def test_distance_is_the_largest_difference():
    q = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    assert distance(q, jnp.array([[1.5, 2.0], [3.0, 1.0]])) == 3


def test_duplicates_by_hand():
    # Values of action 0 beside 1 of action 1; the first two tasks are 0.005 apart.
    first = jnp.array([0.0, 0.005, 2.0, 2.5])
    found = duplicates(jnp.stack([first, jnp.ones(4)], axis=-1)[:, None])
    # In absolute terms 0.01, 0.1 and 1; relative to the median distance of any two, which is
    # that of 0.005, 0.5, 1.995 and 2.5: 0.01, 0.1 and 0.25 times 1.2475.
    assert found["within"] == [2, 2, 4, 2, 2, 2]
    assert found["nearest_agree"] == 1.0  # 0 with 1, 2 with 3
    assert found["apart_agree"] == 0.5
    assert (found["nearest"][0], found["nearest"][-1]) == (0.005, 0.5)
    assert found["apart"][50] == pytest.approx(1.2475)


def test_a_copy_is_a_duplicate():
    q = jax.random.normal(jax.random.key(0), (5, 3, 2))
    found = duplicates(jnp.concatenate([q, q[:1]]))
    assert found["within"][0] == 2
    assert found["nearest"][0] == 0


def test_estimation_errors_by_hand():
    limit = jnp.array([0.0, 1.0, 5.0])[:, None, None]
    q = jnp.stack([limit + jnp.array([0.5, 2.0, 3.0])[:, None, None], limit])
    early, late = estimation_errors(q, limit)
    assert (early["error"][0], early["error"][50], early["error"][-1]) == (0.5, 2, 3)
    assert early["other_is_nearer"] == pytest.approx(1 / 3)
    assert late["other_is_nearer"] == 0


# --- meta-episodes ------------------------------------------------------------------------------


def test_evidence_is_what_the_learner_makes_of_the_data(monkeypatch):
    monkeypatch.setattr(evidence, "STEPS", (1, 4, 60))
    env = make_env("mdp", num_states=3, num_actions=2)
    learner = object_level.value_iteration(3, 2, smoothing=0.0, max_sweeps=10, tolerance=0.0)
    found = meta_episode(env, learner, env.sample_task(jax.random.key(0)), jax.random.key(1))
    assert found.visits.sum(axis=(1, 2)).tolist() == [1, 4, 60]
    np.testing.assert_array_equal(found.transitions.sum(axis=-1), found.visits)

    q, visits, rewards, counts = (x[-1] for x in found)
    assert visits.min() > 0
    expected = np.zeros((3, 2))
    for _ in range(10):
        expected = (rewards + 0.95 * counts @ expected.max(axis=1)) / visits
    np.testing.assert_allclose(q, expected, rtol=1e-5)


def test_bandit_q_is_the_mean_reward_of_an_arm(monkeypatch):
    monkeypatch.setattr(evidence, "STEPS", (7, 40))
    env = make_env("bandit")
    learner = object_level.value_iteration(1, 5, max_sweeps=1)
    task = env.sample_task(jax.random.key(0))
    found = meta_episode(env, learner, task, jax.random.key(1))
    means = found.rewards / jnp.maximum(found.visits, 1)
    np.testing.assert_allclose(found.q, means, rtol=1e-5)


# --- classifiers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INPUTS)
def test_features_are_the_same_in_either_order(name):
    one, other = (random_evidence(jax.random.key(i), ()) for i in (0, 1))
    features = INPUTS[name](one, other)
    assert features.shape[:2] == (3, 2)
    np.testing.assert_array_equal(features, INPUTS[name](other, one))


def test_q_alone_sees_no_counts():
    one, other = (random_evidence(jax.random.key(i), ()) for i in (0, 1))
    unseen = Evidence(one.q, one.visits + 1, one.rewards + 1, one.transitions + 1)
    np.testing.assert_array_equal(INPUTS["q"](one, other), INPUTS["q"](unseen, other))


def trained_quality(training, test, key):
    """Of the classifier of Q and counts."""
    one_step = jax.tree.map(lambda x: x[None], (training, test))
    return quality(np.asarray(trained_logits_by_step("q-counts", *one_step, key[None])[0]))


def test_nothing_seen_is_chance():
    nothing = Evidence(*(jnp.zeros((200, 2, 3, 2)),) * 3, jnp.zeros((200, 2, 3, 2, 3)))
    found = trained_quality(nothing, nothing, jax.random.key(0))
    assert found["accuracy"] == 0.5
    assert found["auc"] == 0.5


def test_tasks_that_do_not_differ_are_chance():
    training, test = (random_evidence(jax.random.key(i), (200, 2)) for i in (0, 1))
    found = trained_quality(training, test, jax.random.key(2))
    assert abs(found["accuracy"] - 0.5) < 0.08
    assert abs(found["auc"] - 0.5) < 0.08


def test_tasks_far_apart_are_told_apart():
    key_levels, *keys = jax.random.split(jax.random.key(0), 4)
    levels = 100 * jax.random.normal(key_levels, (2, 200, 1, 3, 2))
    training, test = (random_evidence(keys[i], (200, 2), levels[i]) for i in (0, 1))
    found = trained_quality(training, test, keys[2])
    assert found["accuracy"] > 0.97
    assert found["auc"] > 0.99


def test_quality_by_hand():
    found = quality(np.array([[2.0, 1.0, -1.0, 3.0], [-2.0, 1.0, -3.0, 0.0]]))
    assert found["accuracy"] == pytest.approx(6 / 8)
    # Of 16 pairs "same" is higher in 4 + 3 + 2 + 4, and there is one tie.
    assert found["auc"] == pytest.approx(13.5 / 16)
    assert found["stderr"] == pytest.approx(np.std([1, 0.5, 0.5, 1], ddof=1) / 2)


def one_pull(success):
    """A bandit whose only arm was pulled once."""
    ones = jnp.ones((1, 1))
    return Evidence(ones * success, ones, ones * success, ones[..., None])


def stack(*items):
    """A leading axis of items."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *items)


def test_posterior_odds_of_one_pull():
    # Both succeed: ∫p² = 1/3 against 1/4; they differ: ∫p(1 − p) = 1/6.
    tasks = stack(stack(one_pull(1), one_pull(1)), stack(one_pull(1), one_pull(0)))
    same, different = posterior_log_odds(DOMAINS["bandit-5"].log_likelihood, tasks)
    np.testing.assert_allclose(same, np.log([4 / 3, 2 / 3]), rtol=1e-5)
    np.testing.assert_allclose(different, np.log([2 / 3, 4 / 3]), rtol=1e-5)


def test_posterior_odds_of_one_step_in_an_mdp():
    """Rewards x, y of a pair of state and action, and next states that are the same or not."""

    def evidence(reward, s_next):
        ones = jnp.ones((1, 1))
        counts = jax.nn.one_hot(jnp.full((1, 1), s_next), 2)
        return Evidence(ones, ones, reward * ones, counts)

    x, y = 2.5, 0.5
    tasks = stack(stack(evidence(x, 0), evidence(y, 0)), stack(evidence(x, 0), evidence(y, 1)))
    (alike, unlike), _ = posterior_log_odds(DOMAINS["mdp-10x5"].log_likelihood, tasks)
    # About 1 the rewards have covariance [[2, 1], [1, 2]] in one task, [[2, 0], [0, 2]] in two.
    one_task, two_tasks = stats.multivariate_normal([1, 1], [[2, 1], [1, 2]]), stats.norm(1, 2**0.5)
    rewards = one_task.logpdf([x, y]) - two_tasks.logpdf([x, y]).sum()
    assert alike == pytest.approx(rewards + np.log(4 / 3), abs=1e-5)
    assert unlike == pytest.approx(rewards + np.log(2 / 3), abs=1e-5)


# --- measured and shown -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured():
    """What a tiny run finds, as it comes back from its file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "BLOCK", ROW.n_tasks)  # no remainder to compile for
        return json.loads(json.dumps(measure(ROW, 0, {}).extra))


def test_measure(measured):
    assert set(measured) == {"limit", "optimal", "errors", "classifiers"}
    assert len(measured["errors"]) == len(STEPS)
    for found in measured["classifiers"].values():
        assert all(len(values) == len(STEPS) for values in found.values())
        assert all(0 <= accuracy <= 1 for accuracy in found["accuracy"])
    medians = [errors["error"][50] for errors in measured["errors"]]
    assert medians == sorted(medians, reverse=True)
    assert measured["classifiers"]["posterior"]["accuracy"][-1] > 0.9


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_section_and_figures(seeds, measured, make_result, assert_tables_are_well_formed):
    results = [make_result(ROW, EXPERIMENT.name, seed=s, extra=measured) for s in range(seeds)]
    found = Gathered({ROW.name: results}, {}, [])
    text = section(found)
    assert assert_tables_are_well_formed(text) == 4
    assert text.count("not yet run") == 4 * 2
    assert f"| {ROW.title} | quick, {seeds} | Q∞ |" in text
    drawn = draw(found)
    assert len(drawn) == 2
    for figure in drawn.values():
        assert [axes.get_title() for axes in figure.axes] == [ROW.title]
        figure.canvas.draw()
        plt.close(figure)


def test_section_and_figures_of_nothing(assert_tables_are_well_formed):
    nothing = Gathered({}, {}, [])
    text = section(nothing)
    assert assert_tables_are_well_formed(text) == 4
    assert text.count("not yet run") == 4 * 3
    for figure in draw(nothing).values():
        plt.close(figure)


def test_every_preset_has_the_same_rows():
    names = [[row.name for row in rows(preset)] for preset in PRESETS]
    assert names == [list(DOMAINS)] * len(PRESETS)
    assert all(row.horizon in STEPS and not row.trainings for row in rows("paper"))
