import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import ConfigError, make_env
from rl3jax.baselines.beb import BebAgent
from rl3jax.baselines.episodic import (
    EpisodicAgent,
    expected_reward,
    expected_transition_probs,
)
from rl3jax.baselines.optimal import finite_horizon_plan
from rl3jax.baselines.psrl import OptimisticPsrlAgent, PsrlAgent
from rl3jax.baselines.ucrl2 import Ucrl2Agent
from rl3jax.baselines.uniform import UniformAgent
from rl3jax.bellman import backward_induction
from rl3jax.envs import RandomMdp
from rl3jax.rollout import rollout, rollouts, sample_tasks

AGENTS = (PsrlAgent, OptimisticPsrlAgent, BebAgent, Ucrl2Agent)
SMALL = RandomMdp(num_states=3, num_actions=2, task_horizon=4)


# --- beliefs --------------------------------------------------------------------------------------


def test_beliefs_by_hand():
    seen = BebAgent.for_env(SMALL).no_experience()
    for s, a, r, s_next in [(0, 1, 2.0, 2), (0, 1, 4.0, 2), (2, 0, -1.0, 1)]:
        seen = seen.add(jnp.int32(s), jnp.int32(a), jnp.asarray(r), jnp.int32(s_next))
    np.testing.assert_array_equal(seen.visits, [[0, 2], [0, 0], [1, 0]])
    np.testing.assert_array_equal(seen.reward_sum, [[0, 6], [0, 0], [-1, 0]])
    mean_reward = expected_reward(seen, 1.0)
    np.testing.assert_allclose(mean_reward, [[1, 7 / 3], [1, 1], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(expected_reward(seen, 0.0)[0], [0, 2])
    probs = expected_transition_probs(seen)
    np.testing.assert_allclose(probs[0, 1], [1 / 5, 1 / 5, 3 / 5], rtol=1e-6)
    np.testing.assert_allclose(probs[2, 0], [1 / 4, 2 / 4, 1 / 4], rtol=1e-6)
    np.testing.assert_allclose(probs[1], np.full((2, 3), 1 / 3), rtol=1e-6)


# --- plans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_optimal_plan_of_one_episode_is_backward_induction(seed):
    env = make_env("mdp", num_states=4, num_actions=3, task_horizon=5)
    model = env.tabular(env.sample_task(jax.random.key(seed)))

    def backup(v):
        return model.mean_reward + model.transition_probs @ v

    _, q = backward_induction(backup, jnp.zeros(4), 5, keep=lambda q: q)
    value, actions = finite_horizon_plan(model, env.task_horizon, env.task_horizon)
    np.testing.assert_allclose(q[0].max(axis=-1)[0], value, rtol=1e-6)
    for e in range(5):  # the plan for the whole meta-episode is here that of its only episode
        np.testing.assert_array_equal(q[e].argmax(axis=-1), actions[e, e])


class ByTotal(EpisodicAgent):
    """Plans the action `total visits mod A`, everywhere."""

    def backup(self, experience, key):
        del key
        action = experience.visits.sum() % self.num_actions
        q = jax.nn.one_hot(jnp.full(self.num_states, action), self.num_actions)
        return lambda v: q


def test_a_plan_is_followed_for_a_whole_episode():
    env = make_env("mdp", num_states=3, num_actions=5, task_horizon=4)
    key_task, key = jax.random.split(jax.random.key(0))
    task = env.sample_task(key_task)
    actions = jax.jit(rollout, static_argnums=(1, 3))(
        ByTotal.for_env(env), env, task, 11, key
    ).action
    np.testing.assert_array_equal(actions, [0, 0, 0, 0, 4, 4, 4, 4, 3, 3, 3])


@pytest.mark.parametrize("agent_class", AGENTS)
def test_experience_is_what_the_environment_showed(agent_class):
    agent = agent_class.for_env(SMALL).for_horizon(7)
    carry = agent.init(jnp.int32(0))
    steps = [(0, 1, 2.0, 2), (2, 0, 0.5, 1), (1, 1, 1.0, 0), (0, 0, 3.0, 2), (0, 1, 1.0, 1)]
    for i, (s, a, r, s_next) in enumerate(steps):
        assert carry.state == s
        end = jnp.bool_(i == 3)  # the fifth transition starts in state 0 again
        s_now = jnp.int32(0 if i == 3 else s_next)
        carry = agent.observe(
            carry, jnp.int32(a), jnp.asarray(r), jnp.int32(s_next), jnp.bool_(False), end, s_now
        )
    expected = np.zeros((3, 2, 3), int)
    for s, a, _, s_next in steps:
        expected[s, a, s_next] += 1
    np.testing.assert_array_equal(carry.experience.counts, expected)
    np.testing.assert_array_equal(carry.experience.reward_sum, [[3, 3], [0, 1], [0.5, 0]])
    assert carry.episode_step == 1


@pytest.mark.parametrize("agent_class", AGENTS)
def test_with_much_experience_every_plan_is_nearly_optimal(agent_class):
    env = make_env("mdp", num_states=3, num_actions=3, task_horizon=5)
    model = env.tabular(env.sample_task(jax.random.key(4)))
    counts = np.round(20_000 * np.asarray(model.transition_probs)).astype(np.int32)
    triples = np.repeat(np.arange(counts.size), counts.ravel())
    agent = agent_class.for_env(env).for_horizon(len(triples))
    experience = agent.no_experience().replace(
        counts=jnp.asarray(counts), reward_sum=model.mean_reward * counts.sum(axis=-1)
    )
    if isinstance(agent, PsrlAgent):
        experience = experience.replace(log=jnp.asarray(triples, jnp.int32))
    plan = agent.q_values(experience, jax.random.key(5)).argmax(axis=-1)
    optimum, _ = finite_horizon_plan(model, 5, 5)
    assert value_of(plan, model)[0] > optimum - 0.02


def value_of(plan, model):
    """Value of a plan `[E, S]` at an episode's start, by state."""
    states = np.arange(plan.shape[1])
    v = np.zeros(len(states))
    for actions in np.asarray(plan)[::-1]:
        v = model.mean_reward[states, actions] + model.transition_probs[states, actions] @ v
    return v


# --- environments, tracing ------------------------------------------------------------------------


def test_no_plan_is_made_and_thrown_away_under_vmap():
    """A condition batched over tasks would have become a selection from both branches."""

    def has_condition(agent):
        key_tasks, key = jax.random.split(jax.random.key(0))
        tasks = sample_tasks(SMALL, jax.random.split(key_tasks, 4))
        jaxpr = jax.make_jaxpr(lambda tasks, keys: rollouts(agent, SMALL, tasks, 9, keys))
        return " cond[" in str(jaxpr(tasks, jax.random.split(key, 4)))

    assert has_condition(PsrlAgent.for_env(SMALL).for_horizon(9))
    assert not has_condition(UniformAgent(2))


class Fatal(RandomMdp):
    """Claims a terminal state."""

    def tabular(self, task):
        return super().tabular(task)._replace(terminal=jnp.arange(self.num_states) == 1)


@pytest.mark.parametrize("agent_class", AGENTS)
def test_refuses_environments_whose_episodes_differ_in_length(agent_class):
    with pytest.raises(ConfigError, match=f"{agent_class.__name__} needs .* a task horizon"):
        agent_class.for_env(make_env("gridworld"))
    with pytest.raises(ConfigError, match=f"{agent_class.__name__} needs .* terminal states"):
        agent_class.for_env(Fatal())


def test_is_made_within_compiled_code():
    mean = jax.jit(lambda beta: BebAgent.for_env(SMALL, beta=beta).beta * 2)
    assert mean(1.5) == 3
