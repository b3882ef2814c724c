"""Several devices do what one does: in float64 to 1e-9, whatever their number."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, devices, make_trainer
from rl3jax.checks import ConfigError
from rl3jax.devices import AXIS, Devices, choose

RUNS = {
    "gru": {"env": "mdp", "network": "gru", "minibatches": 2},
    "transformer": {"env": "mdp", "network": "transformer", "minibatches": 2},
    "markov, uneven minibatches, early stop": {
        "n_tasks": 40, "minibatch_tasks": 16, "kl_limit": 1e-3,
    },
    "gridworld, chunks": {
        "env": "gridworld", "minibatches": 2, "rollout_chunk": 2, "gradient_chunk": 1,
    },
}  # fmt: skip
COMMON = {"width": 8, "n_tasks": 32, "horizon": 12, "epochs": 2, "learning_rate": 0.01}

SCRIPT = """
import json, sys
import jax, numpy as np
from rl3jax import Config, make_trainer

worst = {}
for name, options in json.load(sys.stdin).items():
    results = []
    for count in (1, 2, 8):
        trainer = make_trainer(Config(devices=count, **options))
        assert trainer.settings.devices.count == count
        state, returns = trainer.init(jax.random.key(0)), []
        for _ in range(3):
            state, metrics = trainer.update(state)
            returns.append(metrics.to_dict())
        results.append(jax.tree.leaves((jax.device_get(state.models), returns)))
    worst[name] = max(
        float(np.abs(np.asarray(a) - b).max())
        for result in results[1:] for a, b in zip(result, results[0], strict=True)
    )
print(json.dumps(worst))
"""


def with_devices(count, *command, **options):
    """A subprocess in which a CPU is that many devices."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(count), "JAX_ENABLE_X64": "1"}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, **options
    )


@pytest.mark.slow
def test_parameters_and_metrics_are_those_of_one_device():
    runs = {name: COMMON | options for name, options in RUNS.items()}
    result = with_devices(8, "-c", SCRIPT, input=json.dumps(runs))
    assert result.returncode == 0, result.stderr
    worst = json.loads(result.stdout)
    assert worst.keys() == RUNS.keys()
    assert max(worst.values()) < 1e-9, worst


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(tmp_path):
    flags = "--n-tasks 16 --minibatches 2 --horizon 6 --epochs 1 --width 8 --validation-tasks 16"

    def train(count, *arguments):
        result = with_devices(count, "-m", "rl3jax.train", *arguments)
        assert result.returncode == 0, result.stderr

    moved, stayed = str(tmp_path / "moved"), str(tmp_path / "stayed")
    train(4, *flags.split(), "--iterations", "2", "--out", moved)
    train(2, "--resume", moved, "--iterations", "4", "--devices", "2")
    train(1, *flags.split(), "--iterations", "2", "--out", stayed)
    train(1, "--resume", stayed, "--iterations", "4")
    a, b = (
        [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
        for run in (moved, stayed)
    )
    for name in a[-1].keys() - {"seconds", "steps_per_second"}:
        assert [line.get(name) for line in a] == pytest.approx([line.get(name) for line in b])
    assert json.loads((Path(moved) / "config.json").read_text())["devices"] == 2


SCORES = """
import json
import jax
from rl3jax import baselines, evaluate_agent, make_env

scores = {}
for name in ("bandit", "mdp"):
    env = make_env(name)
    for agent in baselines.names(env, 10):
        scores[f"{agent} on {name}"] = evaluate_agent(agent, env, 10, 4, jax.random.key(0)).mean
print(json.dumps(scores))
"""


@pytest.mark.slow
def test_every_baseline_scores_as_on_one_device():
    one, two = (with_devices(count, "-c", SCORES) for count in (1, 2))
    assert two.returncode == 0, two.stderr
    scores = json.loads(two.stdout)
    assert {"gittins on bandit", "beb on mdp", "optimal on mdp"} <= scores.keys()
    assert scores == pytest.approx(json.loads(one.stdout))


EMPTY = """
import jax
import jax.numpy as jnp
from rl3jax.devices import Devices

def widths(x, empty):
    assert x.shape[1:] == (3,) and empty.shape == (len(x), 0)
    return x + jnp.hstack((x, empty)).shape[1]

x, empty, two = jnp.zeros((4, 3)), jnp.zeros((4, 0)), Devices(2)
for run in (two.on_each(widths), two.split(widths)):
    print(jax.jit(run)(x, empty).tolist())
"""


@pytest.mark.slow
def test_arrays_without_entries():  # jaxlib 0.11.2 crashes on them
    result = with_devices(2, "-c", EMPTY)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str([[3.0] * 3] * 4)] * 2


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
