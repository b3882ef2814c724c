"""Whole runs where actions lie in a box and episodes wait: what holds of tables holds of them."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from rl3jax import (
    Binned,
    Config,
    ConfigError,
    GymnaxTasks,
    evaluate,
    evaluate_agent,
    load_agent,
    make_env,
    make_trainer,
    render,
    train,
)
from rl3jax.policy import TanhGaussian

SIZES = "--algo rl2 --network gru --n-tasks 4 --horizon 24 --width 4 --minibatches 2 --epochs 1"
FLAGS = f"{SIZES} --validation-tasks 4 --validate-every 1 --checkpoint-every 1"
ENDLESS = GymnaxTasks("MountainCarContinuous-v0", {"power": [0.001, 0.002]}, time_limit=7)


def parameters(folder):
    return [np.asarray(x) for x in jax.tree.leaves(load_agent(Path(folder) / "agent").params)]


def test_a_run_resumes_is_scored_and_drawn(tmp_path, capsys):
    flags = f"--env point-robot --variation dense --squash-actions {FLAGS}"
    for name, iterations in (("whole", 2), ("parts", 1)):
        out = str(tmp_path / name)
        # Of the schedules nothing may depend on how long a run was meant to be.
        schedule = "--final-learning-rate 2e-3 --final-entropy 0.01"
        train.main([*f"{flags} {schedule} --iterations {iterations}".split(), "--out", out])
    train.main(["--resume", str(tmp_path / "parts"), "--iterations", "2"])
    for whole, parts in zip(
        parameters(tmp_path / "whole"), parameters(tmp_path / "parts"), strict=True
    ):
        np.testing.assert_array_equal(whole, parts)
    agent = load_agent(tmp_path / "whole" / "agent")
    assert isinstance(agent.distribution, TanhGaussian)
    evaluate.main([str(tmp_path / "whole"), "--n-tasks", "4"])
    table = capsys.readouterr().out
    assert all(name in table for name in ("rl2, greedy", "rl2, sampled", "random"))
    picture = tmp_path / "a.png"
    render.main([str(tmp_path / "whole"), "--out", str(picture)])
    assert picture.stat().st_size > 0


@pytest.mark.parametrize("env", ["pendulum", "cartpole"])
def test_by_default_a_policy_is_shown_what_a_linear_model_knows(env):
    """Of the anchors where actions lie in a box, and the best of them."""
    small = dict(width=4, n_tasks=2, horizon=12, minibatches=1, num_frequencies=4, anchors_along=2)
    trainer = make_trainer(Config(env=env, **small))
    fields = trainer.layout.fields
    assert ("best_action" in fields) == (env == "pendulum")
    assert len(range(trainer.layout.size)[fields["advantages"]]) == trainer.env.num_actions
    _, metrics = trainer.update(trainer.init(jax.random.key(0)))
    assert np.isfinite(list(metrics.to_dict().values())).all()


@pytest.mark.parametrize(
    "env", [make_env("point-robot"), GymnaxTasks("Pendulum-v1", {"m": (1, 2)})]
)
def test_bins_are_an_option_that_is_known_again(env):
    """The same as around the environment; in a config, on the command line and for a policy."""
    own, around = dataclasses.replace(env, bins=3), Binned(env, 3)
    assert own.action_space().n == around.action_space().n
    task, (_, state) = env.default_params, env.reset(jax.random.key(0), env.default_params)
    for action in (0, own.num_actions - 1):
        ends = [e.step(jax.random.key(1), state, action, task)[0] for e in (own, around)]
        np.testing.assert_array_equal(*ends)
    trainer = make_trainer(Config(width=4, n_tasks=2, horizon=9, minibatches=1), env=own)
    assert make_trainer(Config.from_dict(trainer.config.to_dict())).env == own


def test_a_run_in_a_gymnax_environment_knows_it_again(tmp_path):
    config = Config(algo="rl2", width=4, n_tasks=2, horizon=9, minibatches=1)
    trainer = make_trainer(config, env=ENDLESS)
    values = json.loads(json.dumps(trainer.config.to_dict()))
    assert make_trainer(Config.from_dict(values)).env == ENDLESS
    _, history = jax.vmap(make_trainer(
        Config.from_dict(values | {"iterations": 2})).train)(jax.random.split(jax.random.key(0), 2)
    )  # fmt: skip
    assert np.isfinite(history.mean_return).all()
    agent = trainer.agent(trainer.init(jax.random.key(0)))
    with pytest.raises(ConfigError, match=r"states of 2 numbers and actions from \(-1.0,\)"):
        evaluate_agent(agent, make_env("mountain-car"), 9, 2, jax.random.key(0))
