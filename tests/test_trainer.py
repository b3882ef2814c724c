import dataclasses
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, ConfigError, evaluate_agent, make_env, make_trainer, object_level
from rl3jax.baselines import bayes_optimal_return
from rl3jax.envs import Bandit
from rl3jax.networks import make_network
from rl3jax.policy import Network, PlainHead
from rl3jax.statistics import paired_difference
from rl3jax.trainer import Trainer


def key():
    """Fresh each time, since a key object is consumed once."""
    return jax.random.key(0)


def small(**changes):
    values = dict(env="bandit", n_tasks=8, horizon=6, iterations=3, minibatches=2, epochs=2,
                  width=8)  # fmt: skip
    return Config(**(values | changes))


@pytest.mark.parametrize(
    ("env", "algo", "network"),
    [  # every pair of two, with those of test_determinism.py
        ("bandit", "rl2", "gru"),
        ("bandit", "rl3", "markov"),
        ("mdp", "rl2", "markov"),
        ("mdp", "rl3", "transformer"),
        ("gridworld", "rl2", "gru"),
        ("gridworld", "rl3", "markov"),
        ("gridworld", "rl3-coarse", "transformer"),
    ],
)
def test_parts_combine(env, algo, network):
    layers = {"layers": 1} if network == "transformer" else {}  # two: in test_determinism.py
    trainer = make_trainer(small(env=env, algo=algo, network=network, **layers))
    before = trainer.init(key())
    after, metrics = trainer.update(before)
    assert after.iteration == 1
    assert all(np.isfinite(value) for value in metrics.to_dict().values())
    assert before.models.keys() == after.models.keys() == {"actor", "critic"}
    for name, old in before.models.items():
        new = after.models[name]
        leaves = zip(jax.tree.leaves(old.params), jax.tree.leaves(new.params), strict=True)
        assert all((a != b).any() for a, b in leaves)


@pytest.mark.parametrize("learner", ["value_iteration", "q_learning"])
def test_every_learner_trains(learner):
    trainer = make_trainer(small(env="mdp", object_level=learner))
    _, metrics = trainer.update(trainer.init(key()))
    assert np.isfinite(metrics.mean_return)


GRID = {"env": "gridworld", "variation": "11x11", "object_level": "value_iteration"}


def test_what_object_level_rl_gives_is_what_the_policy_sees():
    """Of the learner that the config makes, the layout shows every kind of estimate it keeps."""
    for changes, fields in (
        ({}, {"advantages", "value", "visits"}),
        ({"algo": "rl2"}, set()),
        ({"object_level": "q_learning"}, {"advantages", "value", "visits"}),
        ({"optimism": 5.0}, {"optimistic_advantages", "optimistic_value"}),
        ({"mean_rewards": True}, {"mean_rewards"}),
        ({"shown": "no-counts"}, {"state", "advantages", "value"}),
        (
            {"env": "mdp", "variation": "iid", "standard_errors": True, "optimism": 5.0},
            {"q_stderr", "v_stderr", "optimistic_value"},
        ),
    ):
        trainer = make_trainer(small(**(GRID | changes)))
        assert fields <= trainer.layout.fields.keys()
        assert ("optimistic_value" in trainer.layout.fields) == ("optimism" in changes)
        assert ("q_stderr" in trainer.layout.fields) == ("standard_errors" in changes)
        assert ("value" in trainer.layout.fields) == (changes.get("algo") != "rl2")
        if trainer.config.env == "mdp":
            trainer.update(trainer.init(key()))


def test_rl3_coarse_plans_on_clusters_and_is_shown_visits_of_states():
    trainer = make_trainer(small(algo="rl3-coarse", optimism=3.0, **GRID))
    learner = trainer.learner
    assert (learner.size, learner.radius) == (2, 1.2)
    assert learner.learner.slots == 6  # two states with three next states each
    table = learner.init()
    table = learner.update(table, 60, 1, -1.0, 49, False)  # a step north: one cluster
    assert table.num_clusters == 1
    np.testing.assert_array_equal(learner.estimates(table, 60).visits, [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(learner.estimates(table, 49).visits, 0)
    np.testing.assert_array_equal(learner.estimates(table, 49).q, learner.estimates(table, 60).q)


def test_gridworld_plans_by_fixed_sweeps_in_few_slots_or_to_the_papers_tolerance():
    ours = make_trainer(small(**GRID)).learner
    assert (ours.slots, ours.sweeps_per_step) == (3, 4)
    coarse = make_trainer(small(algo="rl3-coarse", **GRID)).learner.learner
    assert (coarse.slots, coarse.sweeps_per_step) == (6, 2)
    paper = make_trainer(small(preset="paper", **GRID)).learner
    assert (paper.slots, paper.sweeps_per_step, paper.tolerance) == (3, None, 0.1)
    assert (paper.warm_start, paper.known, paper.max_sweeps) == (True, "visited", 6)
    assert make_trainer(small(successor_slots=5, **GRID)).learner.slots == 5


def test_the_critic_learns_scaled_rewards_and_nothing_else_changes():
    one = make_trainer(small(env="mdp", critic_scale=1.0))
    tenth = make_trainer(small(env="mdp", critic_scale=0.1))
    state = one.init(key())
    (_, metrics), (_, scaled) = one.update(state), tenth.update(state)
    assert scaled.mean_return == metrics.mean_return
    assert scaled.diagnostics["critic_loss"] < 0.1 * metrics.diagnostics["critic_loss"]


def test_a_task_with_more_next_states_than_slots_is_counted_and_scoring_it_is_refused():
    trainer = make_trainer(small(env="mdp", horizon=60, successor_slots=2))
    state, metrics = trainer.update(trainer.init(key()))
    assert metrics.overflowed_tasks == 8
    with pytest.raises(ConfigError, match=r"8 of 8 tasks had .* more next states .* slots"):
        evaluate_agent(trainer.agent(state), trainer.env, 60, 8, jax.random.key(1))
    enough = make_trainer(small(env="mdp", horizon=60, successor_slots=10))
    _, metrics = enough.update(enough.init(key()))
    assert metrics.overflowed_tasks == 0


def test_update_compiles_once():
    trainer = make_trainer(small(horizon=7))
    state = trainer.init(key())
    compiled = Trainer.update._cache_size()
    for _ in range(4):
        state, _ = trainer.update(state)
    # so are trainers that differ in what is traced, in the seed, or in files alone
    others = dict(learning_rate=0.1, entropy=0.3, iterations=9, seed=5, out="elsewhere")
    state, _ = make_trainer(small(horizon=7, **others)).update(state)
    assert Trainer.update._cache_size() == compiled + 1


def test_train_is_the_scan_of_update():
    trainer = make_trainer(small())
    whole, history = trainer.train(key())
    state, returns = trainer.init(key()), []
    for _ in range(3):
        state, metrics = trainer.update(state)
        returns.append(metrics.mean_return)
    np.testing.assert_allclose(history.mean_return, returns, rtol=1e-6)
    chex.assert_trees_all_close(
        whole.models["actor"].params, state.models["actor"].params, rtol=1e-4, atol=1e-6
    )


def test_update_depends_on_the_key_and_on_nothing_else():
    trainer = make_trainer(small())
    first, _ = trainer.update(trainer.init(key()))
    again, _ = trainer.update(trainer.init(jax.random.key(0)))
    other, _ = trainer.update(trainer.init(jax.random.key(1)))
    chex.assert_trees_all_equal(first.models, again.models)
    assert not np.array_equal(
        jax.tree.leaves(first.models["actor"].params)[-1],
        jax.tree.leaves(other.models["actor"].params)[-1],
    )


def test_methods_compared_train_on_the_same_series_of_tasks(monkeypatch):
    seen = []
    sample_tasks = sys.modules["rl3jax.trainer"].sample_tasks

    def recorded(*args):
        tasks = sample_tasks(*args)
        jax.debug.callback(lambda p: seen.append(np.asarray(p)), tasks.success_prob)
        return tasks

    monkeypatch.setattr("rl3jax.trainer.sample_tasks", recorded)
    for config in (small(horizon=5), small(horizon=5, algo="rl2", network="gru")):
        trainer = make_trainer(config)
        state = trainer.init(key())
        for _ in range(2):
            state, _ = trainer.update(state)
        jax.effects_barrier()
    rl3, rl2 = seen[:2], seen[2:]
    np.testing.assert_array_equal(rl3, rl2)
    assert not np.array_equal(rl3[0], rl3[1])


def test_traced_hyperparams_batch_into_one_program():
    """Learning rate 0 leaves the parameters, another moves them: in one vmap."""
    trainer = make_trainer(small())
    plain = trainer.config.hyperparams()
    rates = jnp.array([0.0, 1e-2])
    batched = dataclasses.replace(
        jax.tree.map(lambda x: jnp.stack([x, x]), plain),
        learning_rate=rates, final_learning_rate=rates,
    )  # fmt: skip
    states, _ = jax.vmap(trainer.train)(jax.random.split(key(), 2), batched)
    starts = jax.vmap(trainer.init)(jax.random.split(key(), 2))
    after, before = (jax.tree.leaves(s.models["actor"].params) for s in (states, starts))
    for x, y in zip(after, before, strict=True):
        np.testing.assert_allclose(x[0], y[0], rtol=1e-6)
        assert not np.allclose(x[1], y[1])


@pytest.mark.parametrize(
    "changes",
    [
        dict(env="mdp", network="gru"),
        dict(env="bandit", algo="rl2", network="transformer", layers=1),
        dict(env="mdp", network="markov", object_level="q_learning", kl_limit=0.01),
    ],
    ids=lambda changes: changes["network"],
)
def test_a_batch_of_seeds_equals_each_seed_alone_in_float64(changes):
    sizes = dict(n_tasks=6, horizon=12, iterations=3, minibatches=3, epochs=2, width=8)
    with jax.enable_x64(True):
        trainer = make_trainer(Config(**sizes, **changes))
        keys = jax.random.split(key(), 2)
        states, _ = jax.vmap(trainer.train)(jax.random.clone(keys))
        for i in range(2):
            alone, _ = trainer.train(keys[i])
            for a, b in zip(
                jax.tree.leaves(alone.models), jax.tree.leaves(states.models), strict=True
            ):
                assert a.dtype in (np.float64, np.int32)
                np.testing.assert_allclose(b[i], a, rtol=0, atol=1e-9)


def test_schedules_end_with_the_run():
    trainer = make_trainer(small(entropy=0.5, final_entropy=0.0, final_learning_rate=0.0))
    states = [trainer.init(key())]
    for _ in range(3):
        states.append(trainer.update(states[-1])[0])
    last = [jax.tree.leaves(s.models["actor"].params)[-1] for s in states]
    assert not np.allclose(last[0], last[1])
    np.testing.assert_array_equal(last[2], last[3])  # the last iteration has learning rate 0


def test_own_parts_take_the_place_of_named_ones():
    env = make_env("bandit", num_arms=3)
    learner = object_level.q_learning(1, 3, initial_value=2.0)
    network = make_network("gru", width=4, horizon=6)
    trainer = make_trainer(small(), env=env, learner=learner, network=network)
    assert (trainer.env, trainer.learner) == (env, learner)
    assert trainer.settings.actor == Network(network, PlainHead(3))
    assert trainer.settings.critic == Network(network, PlainHead(1))
    trainer.update(trainer.init(key()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(env="bandid"), "did you mean 'bandit'"),
        (dict(algo="rl4"), "unknown algo 'rl4'; did you mean"),
        (dict(network="grü"), "did you mean 'gru'"),
        (dict(object_level="qlearning"), "did you mean 'q_learning'"),
        (dict(variation="odd"), "did you mean 'ood'"),
        (dict(num_states=3), "num_states"),
        (dict(env="no_such_module:Class"), "no_such_module"),
        (dict(env="os:path"), "os:path"),
        (dict(env="gridworld", variation="12x12"), "11x11, 13x13, 13x13-corner, 13x13-dangerous"),
        (dict(env="gridworld", min_goal_manhat=40), "min_goal_manhat"),
        (dict(env="mdp", algo="rl3-coarse"), "states of RandomMdp have no coordinates"),
        (dict(env="mdp", slip=0.1), "slip is an option of env gridworld; this run has env mdp"),
        (dict(algo="rl2", optimism=1.0), "optimism is an option of object_level value_iteration"),
        (dict(env="cartpole", squash_actions=True), "squash_actions is of actions in a box; these"),
        (dict(algo="rl2", shown="no-values"), "shown is of value estimates and counts"),
        (dict(shown="values"), "unknown shown 'values'; did you mean 'no-values'"),
        (dict(object_level="q_learning", standard_errors=True), "option of object_level value_it"),
        (dict(env="mdp", sweeps_per_step=2, planning_discount=1.0), "discount below 1"),
    ],
)
def test_bad_names_are_refused_in_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_trainer(small(**changes))
    assert "\n" not in str(caught.value)


def test_meta_training_learns_bayes_optimal_play():
    """Two arms, twelve pulls: within 1 % of the exact optimum, on the same tasks."""
    config = Config(
        env="bandit", num_arms=2, n_tasks=1024, horizon=12, iterations=50, minibatches=16
    )
    trainer = make_trainer(config)
    state, history = trainer.train(jax.random.key(0))
    assert abs(history.mean_return[0] - 6) < 0.3  # random pulls
    learned, optimal = (
        evaluate_agent(agent, trainer.env, 12, 50_000, jax.random.key(1))
        for agent in (trainer.agent(state, greedy=True), "bayes-optimal")
    )
    exact = bayes_optimal_return(2, 12)
    assert abs(optimal.mean - exact) < 4 * optimal.stderr
    difference = paired_difference(learned.returns, optimal.returns)
    assert difference.low > -0.01 * exact
    assert difference.mean < 3 * difference.stderr  # nothing beats the optimum


def test_explicit_meshes_change_nothing():
    """Of one device here: keys that are split by type, and a mesh that is set."""
    trainer = make_trainer(small(iterations=2, algo="rl2"))
    mesh = jax.make_mesh((1,), ("x",), (jax.sharding.AxisType.Explicit,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))

    def keys():
        return jax.random.split(key(), 2)

    expected = jax.vmap(trainer.train)(keys())[1].mean_return
    _, metrics = jax.vmap(trainer.train)(jax.device_put(keys(), split))
    np.testing.assert_allclose(metrics.mean_return, expected, rtol=1e-5)
    plain = trainer.config.hyperparams()
    rates = plain.replace(learning_rate=jax.device_put(jnp.array([1e-3, 1e-2]), split))
    axes = plain.replace(**dict.fromkeys(vars(plain)) | {"learning_rate": 0})
    jax.vmap(trainer.train, in_axes=(0, axes))(jax.device_put(keys(), split), rates)
    with jax.set_mesh(mesh):
        _, metrics = jax.vmap(trainer.train)(jax.device_put(keys(), split))
        agent = trainer.agent(trainer.init(key()))
        evaluate_agent(agent, trainer.env, 6, 4, key())
    np.testing.assert_allclose(metrics.mean_return, expected, rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Annotated(Bandit):
    """A bandit whose tasks also have an array without entries."""

    def sample_task(self, key):
        return super().sample_task(key), jnp.zeros((0, 2))

    def start_index(self, key, task):
        return super().start_index(key, task[0])

    def transition(self, key, s, action, task):
        return super().transition(key, s, action, task[0])

    def tabular(self, task):
        return super().tabular(task[0])


def test_tasks_with_arrays_without_entries_are_played_in_chunks():
    whole, chunked = (
        make_trainer(small(rollout_chunk=chunk), env=Annotated()) for chunk in (None, 2)
    )
    (_, expected), (_, metrics) = (t.update(t.init(key())) for t in (whole, chunked))
    assert metrics.mean_return == expected.mean_return
