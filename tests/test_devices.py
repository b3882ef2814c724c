"""Several devices do what one does: in float64 to 1e-9, whatever their number.

As a script it trains and scores on the devices that it has, and prints what it found.
"""

import contextlib
import json
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from rl3jax import Config, baselines, devices, evaluate_agent, make_env, make_trainer, train
from rl3jax.checks import ConfigError
from rl3jax.devices import AXIS, Devices, choose
from tests import children

COMMON = {"width": 8, "n_tasks": 32, "horizon": 12, "epochs": 2, "learning_rate": 0.01}
RUNS = {
    "transformer, uneven minibatches, early stop": (
        8, {"env": "mdp", "network": "transformer", "layers": 1, "n_tasks": 40,
            "minibatch_tasks": 16, "kl_limit": 1e-3},
    ),
    "steps that wait": (
        2, {"env": "cartpole", "algo": "rl2", "network": "gru", "minibatches": 2, "horizon": 24,
            "kl_limit": 0.1},
    ),
    "belief, chunks": (
        2, {"env": "gridworld", "belief": "varibad", "belief_width": 8, "minibatches": 2,
            "rollout_chunk": 2, "gradient_chunk": 1, "decoded_steps": 5},
    ),
}  # fmt: skip
FLAGS = "--n-tasks 16 --minibatches 2 --horizon 6 --epochs 1 --width 8 --validation-tasks 16"


# --- in a process with eight devices ------------------------------------------------------------


def trained(count, options):
    """Parameters and metrics of three iterations."""
    trainer = make_trainer(Config(devices=count, **COMMON | options))
    assert trainer.settings.devices.count == count
    state, returns = trainer.init(jax.random.key(0)), []
    for _ in range(3):
        state, metrics = trainer.update(state)
        returns.append(metrics.to_dict())
    learned = jax.device_get((state.models, state.learner_params))
    return jax.tree.leaves((learned, returns))


def largest_difference(count, options):
    pairs = zip(trained(count, options), trained(1, options), strict=True)
    return max(float(np.abs(np.asarray(a) - b).max()) for a, b in pairs)


def metrics_of_resumed(folder, first, then):
    """Two iterations on so many devices, and two more on as many as `then`."""
    train.main([*FLAGS.split(), "--iterations=2", f"--devices={first}", f"--out={folder}"])
    train.main([f"--resume={folder}", "--iterations=4", f"--devices={then}"])
    assert json.loads((folder / "config.json").read_text())["devices"] == then
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def scores():
    """Of every baseline, four tasks each."""
    envs = make_env("bandit"), make_env("mdp")
    plays = {agent: env for env in envs for agent in baselines.names(env, 10)}
    return {
        agent: evaluate_agent(agent, env, 10, 4, jax.random.key(0)).mean
        for agent, env in plays.items()
    }


def widths(x, empty):
    assert x.shape[1:] == (3,)
    assert empty.shape == (len(x), 0)
    return x + jnp.hstack((x, empty)).shape[1]


def in_meshes():
    """Returns of a trainer for two devices alone, and in meshes that the user sets."""
    trainer = make_trainer(Config(devices=2, iterations=2, algo="rl2", minibatches=2, **COMMON))
    state = trainer.init(jax.random.key(0))

    def returns(state):
        state, metrics = trainer.update(state)
        score = evaluate_agent(trainer.agent(state), trainer.env, 6, 8, jax.random.key(1))
        _, history = jax.vmap(trainer.train)(jax.random.split(jax.random.key(2), 2))
        return jax.tree.map(float, [metrics.mean_return, score.mean, *history.mean_return[:, 1]])

    found = [returns(state)]
    for kind in (AxisType.Explicit, AxisType.Auto):
        with jax.set_mesh(jax.make_mesh((2,), ("x",), (kind,), devices=jax.devices()[:2])):
            found.append(returns(state))
    return found


def find():
    """All that the tests below want to know."""
    several = scores()
    with contextlib.redirect_stdout(sys.stderr):
        moved = metrics_of_resumed(Path("moved"), 4, 2)
        jax.local_device_count = lambda: 1  # of scores and validations
        stayed = metrics_of_resumed(Path("stayed"), 1, 1)
    arrays, two = (jnp.zeros((4, 3)), jnp.zeros((4, 0))), Devices(2)
    runs_of_empty = (two.on_each(widths), two.split(widths))
    return {
        "differences": {name: largest_difference(*run) for name, run in RUNS.items()},
        "moved": moved,
        "stayed": stayed,
        "in_meshes": in_meshes(),
        "scores": {"one": scores(), "several": several},
        "empty": [jax.jit(run)(*arrays).tolist() for run in runs_of_empty],
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    result = children.run(
        "-m",
        "tests.test_devices",
        folder=folder,
        timeout=1200,
        num_cpu_devices=8,
        enable_x64=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
def test_parameters_and_metrics_are_those_of_one_device(found):
    assert found["differences"].keys() == RUNS.keys()
    assert max(found["differences"].values()) < 1e-9, found["differences"]


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(found):
    a, b = found["moved"], found["stayed"]
    assert len(a) == len(b) == 4
    for name in a[-1].keys() - {"seconds", "steps_per_second"}:
        assert [line.get(name) for line in a] == pytest.approx([line.get(name) for line in b])


@pytest.mark.slow
def test_every_baseline_scores_as_on_one_device(found):
    one, several = found["scores"].values()
    assert {"gittins", "beb", "optimal"} <= several.keys()
    assert several == pytest.approx(one)


@pytest.mark.slow
def test_arrays_without_entries(found):  # jaxlib 0.11.2 crashes on them
    assert found["empty"] == [[[3.0] * 3] * 4] * 2


@pytest.mark.slow
def test_in_meshes_of_the_users_own_several_devices_do_what_they_do_alone(found):
    alone, *others = found["in_meshes"]
    for other in others:
        assert other == pytest.approx(alone, rel=1e-9)


# --- how many ------------------------------------------------------------------------------------


def test_as_many_devices_as_divide_the_work(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert choose(None, {"tasks": 40}).count == 8
    assert choose(None, {"tasks": 40, "of a minibatch": 12}).count == 4
    assert choose(None, {"tasks": 7}).count == 7
    assert choose(2, {"tasks": 40}).count == 2


def test_several_processes_use_all_their_devices(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert choose(None, {"tasks": 40}).count == 8
    assert choose(8, {"tasks": 40}).count == 8
    with pytest.raises(ConfigError, match="devices must be 8, those of all processes; not 4"):
        choose(4, {"tasks": 40})


def test_devices_that_there_are_not():
    with pytest.raises(ConfigError, match="devices must be at most 1, all that there are; not 64"):
        make_trainer(Config(devices=64, n_tasks=64, minibatches=1))


def test_tasks_that_do_not_divide(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    with pytest.raises(ConfigError, match=r"the tasks of a minibatch \(8\).*1, 2, 4, 8"):
        make_trainer(Config(devices=3, n_tasks=24, minibatches=3))
    with pytest.raises(ConfigError, match=r"n_tasks \(20\).*1, 2, 4, 5"):
        make_trainer(Config(devices=8, n_tasks=20, minibatches=1))


@pytest.mark.parametrize(
    ("field", "share"), [("rollout_chunk", "12 tasks"), ("gradient_chunk", "6 tasks")]
)
def test_chunks_that_do_not_divide(field, share):
    with pytest.raises(ConfigError, match=f"{field} must divide the {share}.*5 does not, [34] do"):
        make_trainer(Config(n_tasks=12, minibatches=2, **{field: 5}))


@pytest.mark.parametrize(("field", "value"), [("devices", 0), ("rollout_chunk", 0)])
def test_numbers_out_of_range(field, value):
    with pytest.raises(ConfigError, match=f"{field} must be at least 1, not 0"):
        Config(**{field: value})


def test_one_device_leaves_everything_as_it_is():
    x = jnp.arange(6.0)
    alone = Devices()
    np.testing.assert_array_equal(alone.own(x), x)
    assert alone.mean(x) == 2.5
    assert alone.on_each(max) is max
    assert alone.split(max) is max


# An axis of vmap stands in for devices wherever no more is asked of them than to talk.


def test_means_are_over_all_devices():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(jax.vmap(Devices(2).mean, axis_name=AXIS)(x), [2.5, 2.5])
    average = jax.vmap(Devices(2).average, axis_name=AXIS)({"x": x, "first": [x[:, 0]]})
    np.testing.assert_array_equal(average["x"], [[1.5, 2.5, 3.5]] * 2)
    np.testing.assert_array_equal(average["first"][0], [1.5, 1.5])


def test_every_device_has_a_share_of_its_own():
    x = jnp.arange(12.0).reshape(6, 2)
    own = jax.vmap(Devices(3).own, None, axis_name=AXIS, axis_size=3)(x)
    np.testing.assert_array_equal(own, x.reshape(3, 2, 2))


@pytest.mark.parametrize(
    ("backend", "capability", "expected"),
    [("cpu", None, False), ("gpu", "7.5", False), ("gpu", "8.0", True), ("gpu", "12.0", True),
     ("gpu", "gfx942", False), ("tpu", None, False)],
)  # fmt: skip
def test_only_some_gpus_have_fused_attention(monkeypatch, backend, capability, expected):
    device = types.SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert devices.has_flash_attention() is expected


if __name__ == "__main__":
    sys.stdout.write(json.dumps(find()))
