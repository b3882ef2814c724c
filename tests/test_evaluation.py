import dataclasses
from dataclasses import dataclass, field

import jax
import numpy as np
import pytest

from rl3jax import (
    Config,
    ConfigError,
    Evaluation,
    evaluate_agent,
    evaluation,
    make_env,
    make_trainer,
)
from rl3jax.baselines import OptimalPolicy, UniformAgent
from rl3jax.envs import Bandit, check_usable
from rl3jax.seeding import held_out_key, training_key, tuning_key, validation_key


def key():
    """Fresh each time: a key object is consumed once, its tasks are always the same."""
    return jax.random.key(11)


def test_scores_by_hand():
    result = Evaluation(
        rewards=np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 5.0, 1.0]]),
        episode_ends=np.array([[False, True, False, False], [False, False, True, True]]),
    )
    np.testing.assert_array_equal(result.returns, [10.0, 6.0])
    assert result.mean == 8.0
    assert result.stderr == pytest.approx(2.0)
    np.testing.assert_array_equal(result.reward_per_step, [0.5, 1.0, 4.0, 2.5])
    per_episode, reached = result.return_per_episode()
    np.testing.assert_array_equal(per_episode, [4.0, 4.0])  # (3 + 5) / 2, (7 + 1) / 2
    np.testing.assert_array_equal(reached, [2, 2])


def test_later_episodes_average_over_the_tasks_that_reached_them():
    result = Evaluation(
        rewards=np.array([[1.0, 2.0, 4.0], [1.0, 1.0, 1.0]]),
        episode_ends=np.array([[True, True, False], [False, False, False]]),
    )
    per_episode, reached = result.return_per_episode()
    np.testing.assert_array_equal(per_episode, [2.0, 2.0, 4.0])
    np.testing.assert_array_equal(reached, [2, 1, 1])


@pytest.mark.parametrize("variation", ["iid", "ood"])
def test_floor_and_ceiling_of_the_bandit(variation):
    env = make_env("bandit", variation=variation)
    floor = evaluate_agent(UniformAgent(env.num_actions), env, 100, 2000, key())
    ceiling = evaluate_agent(OptimalPolicy(env, 100), env, 100, 2000, key())
    assert abs(floor.mean - 50) < 4 * floor.stderr
    best = {"iid": 100 * 5 / 6, "ood": _ood_best()}[variation]
    assert abs(ceiling.mean - best) < 4 * ceiling.stderr


def _ood_best():
    """100 × E max of five normals clipped to [0, 1], by simulation in NumPy."""
    draws = np.random.default_rng(0).normal(0.5, 0.5, size=(400_000, 5)).clip(0, 1)
    return 100 * draws.max(axis=1).mean()


def test_floor_and_ceiling_of_the_mdp():
    env = make_env("mdp")
    floor = evaluate_agent(UniformAgent(env.num_actions), env, 100, 1000, key())
    ceiling = evaluate_agent(OptimalPolicy(env, 100), env, 100, 1000, key())
    assert abs(floor.mean - 100) < 4 * floor.stderr  # mean reward 1
    assert abs(ceiling.mean - 218) < 4  # RL³ (RLC 2025): about 21.8 per 10 steps
    np.testing.assert_allclose(ceiling.return_per_episode()[0], 21.8, atol=0.6)


def test_the_ceiling_agrees_with_its_exact_value():
    env = make_env("mdp", num_states=3, num_actions=2, task_horizon=4)
    policy = OptimalPolicy(env, 10)  # the last episode has two steps only
    result = evaluate_agent(policy, env, 10, 4000, key())
    key_tasks, _ = jax.random.split(key())
    tasks = jax.vmap(env.sample_task)(jax.random.split(key_tasks, 4000))
    exact = jax.vmap(policy.expected_return)(tasks)
    difference = result.returns - np.asarray(exact)
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(4000)


def test_every_agent_meets_the_same_tasks_whatever_the_batch():
    env = make_env("bandit", num_arms=3)
    policy = OptimalPolicy(env, 20)
    whole = evaluate_agent(policy, env, 20, 50, key())
    parts = evaluate_agent(policy, env, 20, 50, key(), batch_size=8)
    np.testing.assert_array_equal(whole.rewards, parts.rewards)
    # the optimal policy's rewards say which tasks they were: high where the best arm is good
    key_tasks, _ = jax.random.split(key())
    tasks = jax.vmap(env.sample_task)(jax.random.split(key_tasks, 50))
    best = np.asarray(tasks.success_prob).max(axis=1)
    assert np.corrcoef(best, whole.returns)[0, 1] > 0.7


def test_a_policy_scores_alike_greedy_or_sampled_when_it_is_certain():
    trainer = make_trainer(Config(env="bandit", n_tasks=8, horizon=10))
    agent = trainer.agent(trainer.init(key()), greedy=True)
    certain = agent.replace(params=jax.tree.map(lambda x: 1e3 * x, agent.params))
    greedy = evaluate_agent(certain, trainer.env, 10, 100, key())
    sampled = evaluate_agent(certain.replace(greedy=False), trainer.env, 10, 100, key())
    assert np.mean(greedy.rewards == sampled.rewards) > 0.95


def test_a_longer_budget_than_trained_moves_the_window():
    trainer = make_trainer(
        Config(env="bandit", n_tasks=4, horizon=8, network="transformer", width=8)
    )
    agent = trainer.agent(trainer.init(key()))
    result = evaluate_agent(agent, trainer.env, 14, 6, key())
    assert result.rewards.shape == (6, 14)


def test_purposes_never_share_a_key():
    keys = [training_key(seed) for seed in range(50)] + [
        validation_key(),
        tuning_key(),
        held_out_key(),
    ]
    data = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}
    assert len(data) == len(keys)


def test_given_tasks_are_played():
    env = make_env("bandit", num_arms=2)
    drawn = evaluate_agent(OptimalPolicy(env, 6), env, 6, 5, key())
    tasks = jax.tree.map(np.asarray, drawn.tasks)
    given = evaluate_agent(OptimalPolicy(env, 6), env, 6, key=key(), tasks=tasks)
    np.testing.assert_array_equal(given.rewards, drawn.rewards)
    sure = jax.tree.map(np.ones_like, tasks)
    assert evaluate_agent("random", env, 6, key=key(), tasks=sure).mean == 6


@dataclass(frozen=True)
class Unhashable(Bandit):
    """An array as an option."""

    arms: np.ndarray = field(default_factory=lambda: np.ones(2))


@pytest.fixture(scope="module")
def policy():
    trainer = make_trainer(Config(env="mdp", n_tasks=4, horizon=4, width=8, num_states=3))
    states = jax.vmap(trainer.init)(jax.random.split(jax.random.key(0), 2))
    return trainer, trainer.agent(trainer.init(key())), trainer.agent(states)


def test_bad_arguments_are_one_line(policy):
    trainer, agent, batch = policy
    env, one = trainer.env, agent.learner
    other = agent.replace(learner=dataclasses.replace(one, num_states=4))
    task = env.sample_task(key())
    for arguments, changes, message in (
        ((agent, env, 0, 4), {}, "horizon must be a whole number of at least 1, not 0"),
        ((agent, env, 4, 0), {}, "n_tasks must be a whole number of at least 1, not 0"),
        ((agent, env, 4), {}, "n_tasks must be .*, not None"),
        ((agent, env, 4, 4), {"batch_size": 0}, "batch_size must be .*, not 0"),
        ((agent, env, 4, 4), {"key": None}, "needs a key"),
        ((batch, env, 4, 4), {}, "a batch of 2 policies"),
        ((other, env, 4, 4), {}, "learner is for 4 states, this environment has 3"),
        ((agent, Unhashable(), 4, 4), {}, "arms of Unhashable is of type ndarray"),
        ((agent, env, 4), {"tasks": task}, "tasks must be|an array of tasks is"),
        ((agent, env, 4), {"tasks": np.zeros(3)}, "tasks must be like those of RandomMdp"),
        ((lambda task: 3, env, 4, 4), {}, "made no agent of a task, but 3"),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            evaluate_agent(*arguments, **{"key": key()} | changes)
        assert "\n" not in str(error.value)
    for check, wrong in (
        (evaluation._check_playable, trainer),
        (evaluation._check_playable, agent.params),
        (evaluation._split, jax.random.split(key(), 2)),
        (evaluation._split, 0),
        (check_usable, "bandit"),
    ):
        with pytest.raises(ConfigError, match=r"not \S|needs a key"):
            check(wrong)
