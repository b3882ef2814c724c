"""The README's examples run as they stand."""

import re
import sys
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

from rl3jax import Config, check_env, evaluate_agent, load_agent, make_trainer, train
from rl3jax.baselines import OptimalPolicy

README = (Path(__file__).parents[1] / "README.md").read_text()


def example(name):
    (code,) = re.findall(rf"<!-- example: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    return code


@pytest.fixture
def corridor(monkeypatch):
    """The README's environment, in a module of its own."""
    module = ModuleType("my_module")
    monkeypatch.setitem(sys.modules, "my_module", module)
    exec(compile(example("environment"), "README.md", "exec"), module.__dict__)
    return module.Corridor


def test_nothing_is_wrong_with_the_environment(corridor):
    assert check_env(corridor()) == ()


def test_seeds_as_one_program(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = example("seeds")
    assert code.count("\n") - code.count("\n\n") <= 15
    quick = code.replace("n_tasks=512", "n_tasks=8").replace("iterations=20", "iterations=2")
    quick = quick.replace("n_tasks=1000", "n_tasks=10")
    exec(compile(quick, "README.md", "exec"), {})
    assert "±" in capsys.readouterr().out
    assert load_agent("my-agent").greedy


def test_baselines_are_compared(capsys):
    quick = example("compare").replace("n_tasks=1000", "n_tasks=20")
    exec(compile(quick, "README.md", "exec"), {})
    assert "Gittins − UCB1" in capsys.readouterr().out


def test_gymnax_environments_are_trained_in(capsys):
    quick = example("gymnax").replace("n_tasks=256, minibatches=16", "n_tasks=4, minibatches=2")
    quick = quick.replace("horizon=1000", "horizon=30").replace("iterations=30", "iterations=2")
    exec(compile(quick, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.split()) == 2


def test_own_environment_is_learned(corridor):
    """Its optimum is known: 3 steps to the goal, and all of the first episodes if need be."""
    env = corridor()
    config = Config(
        n_tasks=256, horizon=30, iterations=20, minibatches=8, value_scale=1.0,
        squash_values=True, gae_lambda=0.8,
    )  # fmt: skip
    trainer = make_trainer(config, env=env)
    state, history = trainer.train(jax.random.key(0))
    key_optimal, key_greedy = jax.random.split(jax.random.key(1))
    optimal = evaluate_agent(OptimalPolicy(env, 30), env, 30, 50, key_optimal)
    np.testing.assert_array_equal(optimal.returns, 10.0)
    greedy = evaluate_agent(trainer.agent(state), env, 30, 200, key_greedy)
    assert history.mean_return[0] < 4
    assert greedy.mean > 8.5  # it cannot know the side at first: 9.5 at best


def test_own_environment_from_the_command_line(corridor, tmp_path):
    out = tmp_path / "run"
    flags = "--env my_module:Corridor --num-states 9 --n-tasks 8 --horizon 12 --iterations 1"
    train.main([*flags.split(), "--out", str(out)])
    assert load_agent(out / "agent").learner.num_states == 9
