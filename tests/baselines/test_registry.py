"""What every baseline must do, whichever it is, and how one is chosen by name."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Agent, ConfigError, baselines, evaluate_agent, make_env
from rl3jax.baselines import BASELINES, make_baseline, tuned_constant
from rl3jax.baselines.tuning import best_constant
from rl3jax.baselines.uniform import UniformAgent, UniformBoxAgent
from rl3jax.seeding import held_out_key, tuning_key
from tests.test_agent import interact

HORIZON = 12
ENVS = {
    "bandit": make_env("bandit", num_arms=2),
    "mdp": make_env("mdp", num_states=3, num_actions=2, task_horizon=4),
    "gridworld": make_env("gridworld", variation="11x11"),
}
PLAYED = [(name, env) for env in ENVS for name in baselines.names(ENVS[env], HORIZON)]
# What plays everywhere is compiled for gridworlds once, where they differ most from the rest.
COMPARED = [pair for pair in PLAYED if pair[1] != "gridworld" or pair[0] == "greedy"]


def key():
    return jax.random.key(3)


def agent_for(name, env, task):
    agent = make_baseline(name, env, HORIZON)
    agent = agent if isinstance(agent, Agent) else agent(task)
    return agent.for_horizon(HORIZON)


def test_who_plays_what():
    assert set(dict(PLAYED)) == set(BASELINES)
    everywhere = ("random", "optimal", "greedy", "q-learning")
    assert baselines.names(ENVS["gridworld"], 350) == everywhere
    assert set(baselines.names(make_env("mdp"), 100)) == {
        *everywhere, "psrl", "psrl-prior-0", "opsrl", "beb", "ucrl2",
    }  # fmt: skip
    bandit = {*everywhere, "thompson", "ucb1", "gittins"}
    assert set(baselines.names(make_env("bandit"), 100)) == bandit
    assert set(baselines.names(make_env("bandit"), 10)) == bandit | {"bayes-optimal"}


@pytest.mark.parametrize(("name", "env_name"), COMPARED)
def test_acting_step_by_step_is_what_evaluation_scores(name, env_name):
    """Whole equals parts: a Python loop over the protocol against the compiled, vmapped rollout."""
    env = ENVS[env_name]
    key_tasks, key_episodes = jax.random.split(key())
    tasks = jax.vmap(env.sample_task)(jax.random.split(key_tasks, 2))
    keys = jax.random.split(key_episodes, 2)
    result = evaluate_agent(name, env, HORIZON, 2, key())
    for i in range(2):
        task = jax.tree.map(lambda x, i=i: x[i], tasks)
        agent = agent_for(name, env, task)
        (_, action, reward, *_), _ = interact(agent, env, task, keys[i])
        np.testing.assert_allclose(reward, result.rewards[i], rtol=1e-5)
        assert action.dtype == np.int32
        assert ((action >= 0) & (action < env.num_actions)).all()


@functools.cache
def played(name, env):
    return evaluate_agent(name, env, 60, 400, key())


@pytest.mark.parametrize("name", sorted(BASELINES.keys() - {"random", "optimal"}))
def test_what_learns_beats_chance_and_not_the_optimum(name):
    env = make_env("bandit" if "bandit" in dict(PLAYED)[name] else "mdp")
    if name in ("thompson", "ucb1", "gittins", "bayes-optimal"):
        env = make_env("bandit", num_arms=2)
    floor, score, ceiling = (played(which, env) for which in ("random", name, "optimal"))
    for low, high in ((floor, score), (score, ceiling)):
        difference = high.returns - low.returns
        assert difference.mean() > 3 * difference.std() / np.sqrt(len(difference))


def test_sources_are_cited():
    classes = [cls for cls in vars(baselines).values() if isinstance(cls, type)]
    agents = [cls for cls in classes if issubclass(cls, Agent)]
    learnt = [cls for cls in agents if cls not in (Agent, UniformAgent, UniformBoxAgent)]
    assert len(learnt) >= 8
    for cls in learnt:
        assert re.search(r"\b(19|20)\d\d\b", cls.__doc__ or ""), cls


# ---- by name ----


def test_a_name_stands_for_the_agent():
    env = ENVS["bandit"]
    by_name = evaluate_agent("thompson", env, HORIZON, 20, key())
    by_agent = evaluate_agent(baselines.ThompsonAgent(2), env, HORIZON, 20, key())
    np.testing.assert_array_equal(by_name.rewards, by_agent.rewards)


@pytest.mark.parametrize(
    ("name", "env", "says"),
    [
        ("thomson", "bandit", "did you mean 'thompson'"),
        ("psrl", "bandit", "here play random, optimal, greedy"),
        ("gittins", "mdp", "'gittins' plays bandits"),
        ("psrl", "gridworld", "task horizon"),
    ],
)
def test_names_that_do_not_play_here(name, env, says):
    with pytest.raises(ConfigError, match=re.escape(says)) as error:
        evaluate_agent(name, ENVS[env], HORIZON, 2, key())
    assert "\n" not in str(error.value)


# ---- tuning ----


class AlwaysOrNever(baselines.UniformAgent):
    """Pulls arm 0 with probability 1 − |c − 0.3|, else arm 1."""

    c: jax.Array = 0.0

    def act(self, carry, key):
        return jax.random.bernoulli(key, jnp.abs(self.c - 0.3)).astype(jnp.int32), carry


def test_the_best_constant_is_chosen():
    def family(env, horizon, constant):
        return AlwaysOrNever(env.num_actions, constant)

    class FirstArmPays(type(ENVS["bandit"])):
        def sample_task(self, key):
            return super().sample_task(key).replace(success_prob=jnp.array([1.0, 0.0]))

    env = FirstArmPays(num_arms=2)
    assert best_constant(family, (0.0, 0.2, 0.3, 0.5, 1.0), env, HORIZON) == 0.3
    assert best_constant(family, (1.0, 0.0, 0.8), env, HORIZON) == 0.0


def test_constants_are_tuned_on_tasks_that_are_not_scored():
    env = make_env("bandit")
    tuning, scored = (env.sample_task(key).success_prob for key in (tuning_key(), held_out_key()))
    assert not np.allclose(tuning, scored)
    chosen = tuned_constant("ucb1", env, 100)
    assert chosen in BASELINES["ucb1"].constants
    assert make_baseline("ucb1", env, 100).c == pytest.approx(chosen)
    assert tuned_constant("thompson", env, 100) is None


def test_of_a_shifted_distribution_nothing_is_known():
    env, shifted = make_env("bandit"), make_env("bandit", variation="ood")
    agent = make_baseline("ucb1", shifted, 100, tuned_on=env)
    assert agent.c == pytest.approx(tuned_constant("ucb1", env, 100))
