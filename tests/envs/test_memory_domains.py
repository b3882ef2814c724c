"""What tells memories apart: repeat-previous and t-maze, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, make_env
from rl3jax.envs.repeat_previous import RepeatPreviousTask
from rl3jax.envs.t_maze import DOWN, UP, TMazeTask


def played(env, task, actions):
    """Vectors before each step, rewards, and truncations, of a task's first steps."""
    key_reset, key_steps = jax.random.split(jax.random.key(0))

    def step(state, inputs):
        key, action = inputs
        _, after, reward, terminated, truncated, _ = env.step(key, state, action, task)
        return after, (state.vector, reward, truncated, terminated)

    _, start = env.reset(key_reset, task)
    inputs = (jax.random.split(key_steps, len(actions)), jnp.asarray(actions, jnp.int32))
    _, (vectors, rewards, truncated, terminated) = jax.lax.scan(step, start, inputs)
    assert not terminated.any()
    return np.asarray(vectors), np.asarray(rewards), np.flatnonzero(truncated)


@pytest.mark.parametrize(
    ("variation", "cards", "k"), [("easy", 52, 4), ("medium", 104, 32), ("hard", 156, 64)]
)
def test_who_remembers_the_cards_is_paid_one(variation, cards, k):
    env = make_env("repeat-previous", variation)
    steps = cards - 1
    assert env.task_horizon == steps
    assert Config(env="repeat-previous", variation=variation).resolve().horizon == steps
    task = env.sample_task(jax.random.key(1))
    suits = np.asarray(task.suits)
    np.testing.assert_array_equal(np.bincount(suits), cards // 4)
    answers = np.concatenate([np.zeros(k - 1, int), suits[: steps - k + 1]])
    vectors, rewards, ends = played(env, task, np.tile(answers, 2))
    np.testing.assert_array_equal(vectors.argmax(axis=1), np.tile(suits[:-1], 2))
    np.testing.assert_array_equal(vectors.sum(axis=1), 1)
    np.testing.assert_array_equal(ends, [steps - 1, 2 * steps - 1])
    expected = np.where(np.arange(steps) < k - 1, 0, 1 / (cards - k))
    np.testing.assert_allclose(rewards, np.tile(expected, 2), rtol=1e-6)
    assert rewards.sum() == pytest.approx(2, abs=1e-4)


def test_a_wrong_suit_costs_what_a_right_one_pays():
    env = make_env("repeat-previous")
    suits = jnp.arange(52, dtype=jnp.int32) // 13
    _, rewards, _ = played(env, RepeatPreviousTask(suits), [1, 1, 1, 0, 1, 2])
    np.testing.assert_allclose(rewards * 48, [0, 0, 0, 1, -1, -1], atol=1e-6)


def test_decks_are_shuffled():
    env = make_env("repeat-previous")
    suits = np.asarray(jax.vmap(env.sample_task)(jax.random.split(jax.random.key(2), 2000)).suits)
    for place in (0, 25, 51):
        counts = np.bincount(suits[:, place], minlength=4)
        assert np.abs(counts - 500).max() < 4 * np.sqrt(2000 * 3 / 16)


def test_a_t_maze_by_hand():
    env = make_env("t-maze", length=3)
    assert Config(env="t-maze").resolve().horizon == 400
    actions = [UP, UP, UP, DOWN, DOWN, DOWN]
    for indicator, paid in ((1.0, [4, -3]), (-1.0, [-3, 4])):
        vectors, rewards, ends = played(env, TMazeTask(jnp.float32(indicator)), actions)
        first, shown, last, noise = vectors.T
        np.testing.assert_array_equal(first, [1, 0, 0, 1, 0, 0])
        np.testing.assert_array_equal(shown, indicator * first)
        np.testing.assert_array_equal(last, [0, 0, 1, 0, 0, 1])
        assert set(np.abs(noise)) == {1}
        np.testing.assert_array_equal(rewards, [0, 0, paid[0], 0, 0, paid[1]])
        np.testing.assert_array_equal(ends, [2, 5])


def test_the_noise_of_a_t_maze_is_noise():
    env = make_env("t-maze")
    vectors, rewards, _ = played(env, env.sample_task(jax.random.key(3)), np.zeros(400, int))
    assert abs(vectors[:, 3].sum()) < 4 * 20
    assert abs(vectors[1:, 3] @ vectors[:-1, 3]) < 4 * 20
    assert set(rewards.reshape(4, 100)[:, -1]) in ({4.0}, {-3.0})
    indicators = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(4), 400)).indicator
    assert abs(indicators.sum()) < 4 * 20
