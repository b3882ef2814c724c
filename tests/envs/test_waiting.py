"""Episodes that end early wait for their time limit: what agents are told, shown, and learn."""

from collections import OrderedDict
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import rl3jax
from rl3jax import Config, make_env, make_trainer
from rl3jax.baselines import PlannerAgent, UniformAgent
from rl3jax.envs import Advance, VectorEnvironment
from rl3jax.object_level import COUNT, PLAIN, REWARD, Estimates, Feature, ObjectLearner, none
from rl3jax.rollout import rollouts, sample_tasks

LIMIT, H = 5, 12
ENDS = 3
"""Steps until the fuse is at its end."""


@dataclass(frozen=True)
class Fuse(VectorEnvironment):
    """It burns down a step at a time, and pays what the task says; at its end the episode ends."""

    when_ended: str = "wait"
    task_horizon = LIMIT
    learner_space = spaces.Box(0.0, float(LIMIT), (1,))

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def sample_task(self, key):
        return {"pay": jax.random.uniform(key, minval=1.0, maxval=2.0)}

    def start(self, key, task):
        return jnp.zeros(()), jnp.zeros(1)

    def advance(self, key, inner, action, task):
        burnt = inner + 1
        return Advance(burnt, burnt[None], task["pay"] * (1 + action), burnt >= ENDS)


@dataclass(frozen=True)
class Notes(ObjectLearner):
    """How many transitions, and ends, it was shown, and the last of them."""

    num_actions: int

    def init(self):
        return {"count": jnp.zeros(2), "reward": jnp.zeros(()), "s_next": jnp.zeros(1)}

    def update(self, table, s, a, r, s_next, terminated):
        count = table["count"] + jnp.stack([jnp.ones(()), terminated.astype(float)])
        return {"count": count, "reward": r, "s_next": s_next}

    def estimates(self, table, s):
        q = jnp.array([0.0, 1.0])
        visits = jnp.full(2, table["count"][0]).astype(jnp.int32)
        return Estimates(q, visits, q_optimistic=q[::-1] * table["count"][0])

    def features(self, table, s):
        return OrderedDict(
            count=Feature(table["count"], COUNT),
            reward=Feature(table["reward"][None], REWARD),
            s_next=Feature(table["s_next"], PLAIN),
            s=Feature(s, PLAIN),
        )


def trainer_of(env):
    sizes = dict(n_tasks=4, horizon=H, width=4, iterations=2, minibatches=2, network="gru")
    return make_trainer(Config(**sizes), env=env, learner=Notes(2))


@pytest.fixture(scope="module")
def played():
    trainer = trainer_of(Fuse())
    agent = trainer.agent(trainer.init(jax.random.key(0)), greedy=False)
    tasks = sample_tasks(trainer.env, jax.random.split(jax.random.key(1), 3))
    trajectory = rollouts(agent, trainer.env, tasks, H, jax.random.split(jax.random.key(2), 3))
    fields = trainer.layout.fields
    seen = {n: np.asarray(trajectory.observation[:, 0, span]) for n, span in fields.items()}
    return trajectory, tasks, seen


def test_ended_episodes_wait_at_reward_zero(played):
    trajectory, tasks, _ = played
    step = np.arange(H) % LIMIT
    for task in range(3):
        np.testing.assert_array_equal(trajectory.waiting[:, task], step >= ENDS)
        np.testing.assert_array_equal(trajectory.truncated[:, task], step == LIMIT - 1)
        assert not trajectory.terminated.any()
        pays = tasks["pay"][task] * (1 + trajectory.action[:, task]) * (step < ENDS)
        np.testing.assert_allclose(trajectory.reward[:, task], pays)


def test_the_policy_is_shown_the_final_state_and_the_learner_nothing_new(played):
    trajectory, _, seen = played
    learnt = [min(t % LIMIT, ENDS) + t // LIMIT * ENDS for t in range(H)]
    ends = [t // LIMIT + (t % LIMIT >= ENDS) for t in range(H)]
    np.testing.assert_allclose(seen["count"] * 10, np.stack([learnt, ends], axis=1), rtol=1e-5)
    for t in range(H):
        burnt = min(t % LIMIT, ENDS)
        np.testing.assert_array_equal(seen["s"][t], [burnt])
        np.testing.assert_allclose(seen["state"][t], [2 * burnt / LIMIT - 1], rtol=1e-5)
        np.testing.assert_allclose(seen["episode_time"][t], [t % LIMIT / LIMIT], rtol=1e-6)
        np.testing.assert_allclose(seen["time"][t], [t / H], rtol=1e-6)
        idle = t == 0 or trajectory.waiting[t - 1, 0]
        action = np.zeros(2) if idle else np.eye(2)[trajectory.action[t - 1, 0]]
        np.testing.assert_array_equal(seen["previous_action"][t], action)
        reward = 0 if idle else trajectory.reward[t - 1, 0]
        np.testing.assert_allclose(seen["previous_reward"][t], [reward], rtol=1e-6)
        if t > 0:  # what ended an episode is the last that it was shown, through the waiting
            np.testing.assert_array_equal(seen["s_next"][t], [min((t - 1) % LIMIT + 1, ENDS)])
            assert seen["reward"][t] > 0


def test_the_learner_is_told_nothing_by_an_observation_of_waiting():
    trainer = trainer_of(Fuse())
    agent = trainer.agent(trainer.init(jax.random.key(0)))
    carry = agent.init(jnp.zeros(1))
    interaction = (1, 2.0, jnp.ones(1), False, False, jnp.ones(1))
    idle, learnt = (
        agent.observe(carry, *interaction, waiting=True),
        agent.observe(carry, *interaction),
    )
    assert (idle.table["count"][0], learnt.table["count"][0]) == (0, 1)
    assert (idle.t, idle.episode_step, idle.previous_reward) == (1, 1, 0)


@pytest.mark.parametrize("careful", [False, True])
def test_a_planner_learns_and_waits_like_a_policy(careful):
    agent = PlannerAgent.for_env(Notes(2), Fuse(), careful)
    carry = agent.init(np.zeros(1))
    carry = agent.observe(carry, 1, 2.0, [1.0], False, False, [1.0])
    action, carry = agent.act(carry, jax.random.key(0))
    assert action == careful
    idle = agent.observe(carry, 1, 0.0, [1.0], False, False, [1.0], waiting=True)
    assert idle.table["count"][0] == 1
    robot = PlannerAgent.for_env(none(None, 9), make_env("point-robot"), careful=True)
    action, _ = robot.act(robot.init(np.zeros(2)), jax.random.key(0))
    assert tuple(action.tolist()) in robot.actions.anchors


def test_scores_are_sums_of_returns_by_episode():
    agent = UniformAgent(2)
    waits, restarts = (
        rl3jax.evaluate_agent(agent, Fuse(w), H, 4, jax.random.key(0)) for w in ("wait", "restart")
    )
    assert waits.episode_ends.sum(axis=1).tolist() == [2] * 4
    assert restarts.episode_ends.sum(axis=1).tolist() == [4] * 4
    pay = waits.tasks["pay"]
    ((mean, *_), _) = waits.return_per_episode()
    assert 3 * pay.min() <= mean <= 6 * pay.max()
    assert (restarts.rewards > 0).all()


def test_an_iteration_is_finite_and_compiled_once():
    trainer = trainer_of(Fuse())
    before = trainer.update._cache_size()
    state = trainer.init(jax.random.key(0))
    for _ in range(2):
        state, metrics = trainer.update(state)
    assert np.isfinite(list(metrics.to_dict().values())).all()
    assert trainer.update._cache_size() == before + 1
    without = make_trainer(Config(env="mdp", n_tasks=2, horizon=4, minibatches=1))
    shapes = jax.eval_shape(
        without.collect, without.init(jax.random.key(0)), *2 * [jax.random.key(1)]
    )
    assert shapes.waiting == ()  # where no episode waits there is no such work
