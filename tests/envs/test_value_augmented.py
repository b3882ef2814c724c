"""RL³ for other trainers: the same meta-episodes as ours, behind gymnax's interface."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from gymnax.wrappers import FlattenObservationWrapper, LegacyStepAPIWrapper, LogWrapper

from rl3jax import Config, ConfigError, ValueAugmented, make_env, make_trainer, object_level
from rl3jax.rollout import rollout

HORIZON = 12
ROOT = Path(__file__).parents[2]


def trainer_of(env, algo="rl3", **fields):
    return make_trainer(
        Config(env=env, algo=algo, n_tasks=2, horizon=HORIZON, minibatches=1, width=4, **fields)
    )


@pytest.mark.parametrize(
    ("env", "fields"),
    [
        ("bandit", {"algo": "rl2"}),
        ("mdp", {"mean_rewards": True, "shown": "no-counts"}),
        ("cartpole", {}),  # vectors, waiting, a learned prior
        ("point-robot", {}),  # actions in a box
    ],
)
def test_observations_and_rewards_are_those_of_our_rollouts(env, fields):
    trainer = trainer_of(env, **fields)
    env = trainer.env
    augmented = ValueAugmented(env, trainer.learner, HORIZON, shown=fields.get("shown", "all"))
    assert augmented.layout == trainer.layout
    state = trainer.init(jax.random.key(0))
    agent, params = trainer.agent(state, greedy=False), state.learner_params

    @jax.jit
    def both(task, key):
        ours = rollout(agent, env, task, HORIZON, key)
        key_reset, key_steps = jax.random.split(key)

        def step(carry, drawn):
            key, obs, state = carry
            key, _, key_env = jax.random.split(key, 3)
            after, state, reward, ended, info = augmented.step_env(
                key_env, state, agent.played(drawn), params
            )
            return (key, after, state), (obs, reward, ended, info["episode_ended"])

        first = augmented.begin(key_reset, task, params)
        (_, _, last), played = jax.lax.scan(step, (key_steps, *first), ours.action)
        return ours, played, augmented.observe(key_steps, last, None, params)

    with jax.debug_key_reuse(False):  # the same chance twice is the point
        task = env.sample_task(jax.random.key(1))
        ours, (obs, reward, ended, episode_ended), last = both(task, jax.random.key(2))
    np.testing.assert_array_equal(obs, ours.observation)
    np.testing.assert_array_equal(reward, ours.reward)
    np.testing.assert_array_equal(episode_ended, ours.terminated | ours.truncated)
    assert ended.tolist() == [False] * (HORIZON - 1) + [True]
    assert last.shape == (trainer.layout.size,)


def test_gymnax_restarts_it_in_a_fresh_task_and_its_wrappers_take_it(check_by_gymnasium):
    env = make_env("bandit", num_arms=3)
    augmented = ValueAugmented(env, object_level.value_iteration(1, 3), horizon=2)
    wrapped = LogWrapper(FlattenObservationWrapper(augmented))
    params = wrapped.default_params
    start, state = wrapped.reset(jax.random.key(0), params)
    first = state.env_state.task
    for seed in (1, 2):
        obs, state, _, terminated, truncated, info = wrapped.step(
            jax.random.key(seed), state, 0, params
        )
    assert (terminated, truncated) == (True, False)
    assert info["returned_episode_lengths"] == 2
    np.testing.assert_array_equal(obs, start)
    assert (info["final_observation"] != start).any()
    assert (state.env_state.task.success_prob != first.success_prob).all()
    assert (state.env_state.time, state.env_state.carry.t) == (0, 0)
    check_by_gymnasium(augmented)
    legacy = LegacyStepAPIWrapper(augmented)
    _, state = legacy.reset(jax.random.key(0), params)
    assert len(legacy.step(jax.random.key(1), state, 0, params)) == 5


def test_the_example_trains_by_a_plain_ppo():
    example = runpy.run_path(str(ROOT / "examples" / "ppo.py"))
    sizes = {algo: example["make_env"](algo, horizon=5).layout.size for algo in ("rl2", "rl3")}
    assert sizes["rl3"] == sizes["rl2"] + 11  # advantages, value, visits
    train = example["make_train"](
        example["make_env"]("rl3", horizon=5), n_tasks=4, iterations=2, epochs=1, minibatches=2
    )
    (params, _), returns = jax.jit(train)(jax.random.key(0))
    assert ((returns >= 0) & (returns <= 5)).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


def test_what_does_not_fit_is_named(unchecked):
    env = make_env("bandit")
    learner = object_level.none(1, 5)
    on_plane = object_level.linear_model((-1, -1), (1, 1), 5)
    make = unchecked(ValueAugmented)
    for arguments, message in (
        (("bandit", learner, 5), "env must be an environment"),
        ((env, "rl3", 5), "learner must be one of rl3jax.object_level, not 'rl3'"),
        ((env, learner, 0), "horizon must be at least 1, not 0"),
        ((env, learner, 5, -1.0), "value_scale must be larger than 0"),
        ((env, learner, 5, None, None, None, "most"), "unknown shown 'most'"),
        ((env, learner, 5, None, None, None, "estimates"), "leaves nothing of what"),
        ((env, learner, 5, None, None, None, "no-values"), "shown no-values leaves nothing of"),
        ((env, object_level.none(1, 4), 5), "the learner has num_actions 4, Bandit has 5"),
        ((env, on_plane, 5), "the learner has num_dims 2, Bandit has None"),
        ((make_env("point-robot", bins=2), on_plane, 5), "num_actions 5, PointRobot has 4"),
        ((make_env("pendulum", bins=5), on_plane, 5), "num_dims 2, Pendulum has 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(*arguments)
