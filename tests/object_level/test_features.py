"""What a learner of one's own gives policies to see, and its parameters, from end to end."""

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, load_agent, make_trainer, object_level, save_agent
from rl3jax.files import FileError
from rl3jax.object_level import COUNT, REWARD, VALUE, Estimates, Feature, QLearning, abstraction
from rl3jax.object_level.base import features_of
from rl3jax.rollout import rollouts, sample_tasks

HORIZON, N_TASKS = 6, 4
CONFIG = Config(env="bandit", num_arms=3, network="markov", width=8, n_tasks=N_TASKS,
                horizon=HORIZON, minibatches=1, epochs=1, squash_values=False)  # fmt: skip


def make_own_trainer(learner_class, **options):
    fields = dict(discount=0.9, step_size=None, initial_value=0.0)
    return make_trainer(CONFIG, learner=learner_class(1, 3, **(fields | options)))


def observe(trainer, agent):
    """Observations `[T, B, D]` of an agent."""
    key_tasks, key_rollouts = jax.random.split(jax.random.key(1))
    tasks = sample_tasks(trainer.env, jax.random.split(key_tasks, N_TASKS))
    keys = jax.random.split(key_rollouts, N_TASKS)
    return rollouts(agent, trainer.env, tasks, HORIZON, keys).observation


def test_estimates_that_there_are_make_features_of_their_units():
    full = Estimates(
        q=jnp.array([1.0, 4.0]),
        visits=jnp.array([5, 0]),
        q_stderr=jnp.array([0.5, 1.0]),
        v_stderr=jnp.asarray(1.0),
        q_optimistic=jnp.array([9.0, 8.0]),
        mean_reward=jnp.array([0.5, 0.0]),
    )
    expected = {
        "advantages": ([-3, 0], VALUE),
        "value": ([4], VALUE),
        "q_stderr": ([0.5, 1], VALUE),
        "v_stderr": ([1], VALUE),
        "visits": ([5, 0], COUNT),
        "optimistic_advantages": ([0, -1], VALUE),
        "optimistic_value": ([9], VALUE),
        "mean_rewards": ([0.5, 0], REWARD),
    }
    features = features_of(full)
    assert [(f.numbers.tolist(), f.unit) for f in features.values()] == list(expected.values())
    assert list(features) == list(expected)
    least = features_of(Estimates(q=full.q, visits=full.visits))
    assert list(least) == ["advantages", "value", "visits"]


# --- a learner with one more estimate -----------------------------------------------------------


@dataclass(frozen=True)
class Counting(QLearning):
    """Shows how many transitions it has seen, too."""

    def features(self, table, s):
        seen = Feature(table.visits.sum()[None].astype(float), COUNT)
        return super().features(table, s) | OrderedDict(seen=seen)


def test_an_estimate_of_ones_own_reaches_the_policy_by_the_learner_alone():
    trainer = make_own_trainer(Counting)
    assert list(trainer.layout.fields)[-2:] == ["visits", "seen"]
    state, _ = trainer.update(trainer.init(jax.random.key(0)))
    seen = observe(trainer, trainer.agent(state))[..., trainer.layout.fields["seen"]]
    expected = np.broadcast_to(np.arange(HORIZON)[:, None, None] / 10, seen.shape)
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


# --- a learner with parameters ------------------------------------------------------------------


@dataclass(frozen=True)
class LearnedStart(QLearning):
    """Q-learning from values that are parameters."""

    def init_params(self, key):
        return {"q": jax.random.normal(key, (self.num_states, self.num_actions))}

    def init(self):
        return dataclasses.replace(super().init(), q=self.params["q"])


@pytest.fixture(scope="module")
def trainer():
    return make_own_trainer(LearnedStart)


@pytest.fixture(scope="module")
def states(trainer):
    """Of two seeds, before and after an update."""
    before = jax.vmap(trainer.init)(jax.random.split(jax.random.key(0), 2))
    return before, jax.vmap(trainer.update)(before)[0]


@pytest.fixture(scope="module")
def agents(trainer, states):
    """Those of the two seeds after the update, each for itself."""
    both = jax.vmap(trainer.agent)(states[1])
    return [jax.tree.map(lambda x, i=i: x[i], both) for i in range(2)]


def test_a_learner_with_parameters_is_hashed_and_compared_without_them():
    learner = LearnedStart(1, 3, discount=0.9, step_size=None, initial_value=0.0)
    params = learner.init_params(jax.random.key(0))
    bound = learner.bind(params)
    assert bound == learner
    assert hash(bound) == hash(learner)
    assert learner.params == ()
    assert bound.params is params
    np.testing.assert_array_equal(bound.estimates(bound.init(), 0).q, params["q"][0])
    plain = object_level.q_learning(1, 3)
    assert plain.bind(plain.init_params(jax.random.key(0))) is plain


def test_clusters_have_the_parameters_of_their_learner():
    inner = LearnedStart(2, 3, discount=0.9, step_size=None, initial_value=0.0)
    learner = abstraction(inner, [[0.0], [9.0]], radius=1.0, size=1)
    params = learner.init_params(jax.random.key(0))
    bound = learner.bind(params)
    np.testing.assert_array_equal(bound.init().learner.q, params["q"])


def test_every_seed_has_parameters_of_its_own_which_training_keeps(states):
    before, after = states
    q = before.learner_params["q"]
    assert q.shape == (2, 1, 3)
    assert jnp.all(q[0] != q[1])
    chex.assert_trees_all_equal(after.learner_params, before.learner_params)
    first = jax.tree.leaves(after.models["actor"].params)[0]
    assert jnp.any(first != jax.tree.leaves(before.models["actor"].params)[0])


def test_policies_see_what_the_parameters_say(trainer, states, agents):
    for agent, q in zip(agents, states[0].learner_params["q"], strict=True):
        np.testing.assert_array_equal(agent.learner_params["q"], q)
        value = observe(trainer, agent)[0][:, trainer.layout.fields["value"]]
        expected = q.max() / trainer.layout.value_scale
        np.testing.assert_allclose(value, np.full((N_TASKS, 1), expected), rtol=1e-6)


def test_an_agent_is_saved_with_its_learners_parameters(agents, tmp_path, monkeypatch):
    agent = agents[1]
    save_agent(tmp_path, agent)
    with pytest.raises(FileError, match=r"LearnedStart.*neither rl3jax's nor flax's") as error:
        load_agent(tmp_path)
    assert "\n" not in str(error.value)

    # As if it were one of rl3jax's own.
    monkeypatch.setattr(LearnedStart, "__module__", "rl3jax.object_level")
    monkeypatch.setattr(object_level, "LearnedStart", LearnedStart, raising=False)
    save_agent(tmp_path, agent)
    loaded = load_agent(tmp_path)
    assert loaded.learner == agent.learner
    chex.assert_trees_all_equal(loaded, agent)
    decisions = [a.decide(a.init(jnp.int32(0)), jax.random.key(0))[0] for a in (agent, loaded)]
    chex.assert_trees_all_equal(*decisions)
