"""Environments whose states are vectors: all that knows no indices takes them, all else says no."""

from collections import OrderedDict
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import spaces

import rl3jax
from rl3jax import Config, ConfigError, baselines, drawing, evaluate, make_trainer, render, train
from rl3jax.envs import ScaledFeatures, TaskDistribution
from rl3jax.object_level import REWARD, Feature, ObjectLearner
from rl3jax.rollout import rollouts, sample_tasks

NAME = f"{__name__}:Line"
H = 7


@struct.dataclass
class Point:
    place: jax.Array
    time: jax.Array


@dataclass(frozen=True)
class Line(TaskDistribution):
    """A point on a line, which one action moves to the right, the other to the left.

    Attributes:
        reach: As far from the start as the point can be.
    """

    reach: float = 2.0
    task_horizon = 5

    @property
    def learner_space(self):
        return spaces.Box(-self.reach, self.reach, (1,))

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def sample_task(self, key):
        return {"right_pays": jax.random.bernoulli(key).astype(float)}

    def learner_state(self, state):
        return state.place

    def entered_state(self, info):
        return info["entered"]

    def reset_env(self, key, params):
        return jnp.zeros(1), Point(jnp.zeros(1), jnp.int32(0))

    def step_env(self, key, state, action, params):
        place = jnp.clip(state.place + jnp.where(action == 0, 0.5, -0.5), -self.reach, self.reach)
        reward = (2 * params["right_pays"] - 1) * place[0]
        return place, Point(place, state.time + 1), reward, jnp.bool_(False), {"entered": place}


@dataclass(frozen=True)
class Boundless(Line):
    @property
    def learner_space(self):
        return spaces.Box(-self.reach, jnp.inf, (1,))


@dataclass(frozen=True)
class Pushed(Line):
    def action_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (1,))


@dataclass(frozen=True)
class Sorted(Line):
    action_anchors = None

    def action_space(self, params=None):
        return spaces.Dict({})


@dataclass(frozen=True)
class MeanRewards(ObjectLearner):
    """Means of each action's rewards, wherever it was taken, and the last place."""

    num_actions: int

    def init(self):
        return {"sum": jnp.zeros(2), "count": jnp.zeros(2), "place": jnp.zeros(1)}

    def update(self, table, s, a, r, s_next, terminated):
        sums, counts = table["sum"].at[a].add(r), table["count"].at[a].add(1)
        return {"sum": sums, "count": counts, "place": s_next}

    def estimates(self, table, s):
        raise NotImplementedError

    def features(self, table, s):
        means = table["sum"] / jnp.maximum(table["count"], 1)
        moved = Feature(s - table["place"], REWARD)
        return OrderedDict(means=Feature(means, REWARD), moved=moved)


def trainer_of(env=None, learner=None, **values):
    sizes = dict(n_tasks=4, horizon=H, width=4, iterations=2, minibatches=2)
    return make_trainer(Config(**(sizes | values)), env=env or Line(), learner=learner)


def trajectory_of(trainer, agent):
    keys = jax.random.split(jax.random.key(5), 3)
    tasks = sample_tasks(trainer.env, jax.random.split(jax.random.key(6), 3))
    return rollouts(agent, trainer.env, tasks, H, keys)


@pytest.fixture(scope="module")
def rl3():
    return trainer_of(learner=MeanRewards(2), algo="rl3", network="gru")


def test_a_policy_trains_and_scores_on_states_that_are_vectors():
    trainer = trainer_of(algo="rl2")
    assert trainer.config.env == NAME
    state = trainer.init(jax.random.key(0))
    state, metrics = trainer.update(state)
    assert np.isfinite(list(metrics.to_dict().values())).all()
    assert (metrics.overflowed_tasks, metrics.out_of_range_tasks) == (0, 0)
    score = rl3jax.evaluate_agent(trainer.agent(state), trainer.env, H, 5, jax.random.key(1))
    assert score.rewards.shape == (5, H)
    assert np.flatnonzero(score.episode_ends[0]).tolist() == [4]


def test_seeds_are_a_batch():
    trainer = trainer_of(algo="rl2")
    _, history = jax.vmap(trainer.train)(jax.random.split(jax.random.key(0), 2))
    assert np.isfinite(history.mean_return).all()
    assert history.mean_return.shape == (2, 2)


def test_a_policy_is_shown_the_vector_in_units_of_its_scales():
    features = Line(reach=3.0).features
    assert isinstance(features, ScaledFeatures)
    np.testing.assert_allclose(features(jnp.array([3.0])), [1.0])
    np.testing.assert_allclose(features(jnp.array([-1.5])), [-0.5])


def test_a_learner_of_vectors_is_shown(rl3):
    """Numbers by hand: the observation at each step has the place and what the data say."""
    trajectory = trajectory_of(rl3, rl3.agent(rl3.init(jax.random.key(0)), greedy=False))
    fields = rl3.layout.fields
    assert list(fields)[-2:] == ["means", "moved"]
    seen = {name: trajectory.observation[..., span] for name, span in fields.items()}
    for task in range(3):
        place, rewards = 0.0, [[], []]
        for t in range(H):
            means = [np.mean(r) if r else 0.0 for r in rewards]
            np.testing.assert_allclose(seen["state"][t, task], [place / 2], atol=1e-6)
            np.testing.assert_allclose(seen["means"][t, task], means, atol=1e-6)
            action = int(trajectory.action[t, task])
            entered = np.clip(place + (0.5, -0.5)[action], -2, 2)
            rewards[action].append(float(trajectory.reward[t, task]))
            assert abs(rewards[action][-1]) == abs(entered)
            place = 0.0 if t == 4 else entered
            if t < H - 1:  # a restart is no transition: the learner was last shown `entered`
                np.testing.assert_allclose(seen["moved"][t + 1, task], [place - entered], atol=1e-6)


def test_a_saved_agent_acts_the_same(rl3, tmp_path):
    agent = rl3.agent(rl3.init(jax.random.key(0)), greedy=False)
    rl3jax.save_agent(tmp_path, agent)
    loaded = rl3jax.load_agent(tmp_path, learner=rl3.learner)
    chex.assert_trees_all_equal(trajectory_of(rl3, loaded), trajectory_of(rl3, agent))
    rl2 = trainer_of(algo="rl2")
    agent = rl2.agent(rl2.init(jax.random.key(0)))
    rl3jax.save_agent(tmp_path / "rl2", agent)
    chex.assert_trees_all_equal(rl3jax.load_agent(tmp_path / "rl2"), agent)


def test_the_baseline_of_random_actions_alone_plays_it():
    assert baselines.names(Line(), H) == baselines.names(Pushed(), H) == ("random",)
    for env in (Line(), Pushed()):
        score = rl3jax.evaluate_agent("random", env, H, 3, jax.random.key(0))
        assert score.rewards.shape == (3, H)


def score_elsewhere():
    trainer = trainer_of(algo="rl2")
    agent = trainer.agent(trainer.init(jax.random.key(0)))
    rl3jax.evaluate_agent(agent, rl3jax.make_env("bandit"), H, 3, jax.random.key(0))


REFUSALS = {
    "value iteration": (lambda: trainer_of(), "object_level value_iteration knows states by index"),
    "Q-learning": (lambda: trainer_of(object_level="q_learning"), "object_level q_learning knows"),
    "clusters": (lambda: trainer_of(algo="rl3-coarse"), "states of Line have no coordinates"),
    "no scales": (lambda: trainer_of(Boundless(), algo="rl2"), "Boundless must have finite low"),
    "actions of no kind": (lambda: trainer_of(Sorted(), algo="rl2"), "Discrete or a .*, not Dict"),
    "elsewhere": (score_elsewhere, "states of 1 numbers and 2 actions, this .* 1 states and 5"),
    "drawing": (
        lambda: drawing.render_episode(baselines.UniformAgent(2), Line(), H, jax.random.key(0)),
        "Line cannot be drawn",
    ),
    "no dataclass": (lambda: rl3jax.make_env(f"{__name__}:TaskDistribution"), "frozen=True"),
}
for baseline in baselines.BASELINES.keys() - {"random"}:
    REFUSALS[baseline] = (
        lambda baseline=baseline: baselines.make_baseline(baseline, Line(), H),
        f"'{baseline}' plays .*; here play random",
    )


@pytest.mark.parametrize("refusal", sorted(REFUSALS))
def test_what_needs_indices_says_so(refusal):
    refused, message = REFUSALS[refusal]
    with pytest.raises(ConfigError, match=message) as caught:
        refused()
    assert "\n" not in str(caught.value)


def test_commands_take_it_and_its_options(tmp_path, capsys):
    run = str(tmp_path / "run")
    sizes = f"--n-tasks 4 --horizon {H} --iterations 1 --validation-tasks 3".split()
    train.main(["--env", NAME, "--algo", "rl2", "--reach", "3", *sizes, "--out", run])
    evaluate.main([run, "--env", NAME, "--n-tasks", "5"])
    table = capsys.readouterr().out
    assert all(name in table for name in ("rl2, greedy", "rl2, sampled", "random"))
    assert "optimal" not in table
    for command, arguments, message in (
        (evaluate, [run, "--env", NAME, "--baselines", "optimal"], "plays tabular environments"),
        (render, [run, "--env", NAME, "--out", f"{run}.gif"], "Line cannot be drawn"),
        (train, ["--env", NAME, *sizes, "--out", f"{run}-2"], "knows states by index"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command.main(arguments)
        error = capsys.readouterr().err
        assert stopped.value.code != 0
        assert message in error
        assert error.count("\n") == 1
