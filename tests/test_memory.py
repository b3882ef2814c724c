"""Memory foreseen beside memory measured.

Programs are compiled without optimisation here (conftest.py). What they reserve is then other than
in a real run, by as much as a fifth, but what is foreseen is of the very programs that are
measured: the bounds are as tight as for optimised ones.
"""

import ctypes
import functools
import gc
import os
import re
from pathlib import Path

import chex
import jax
import pytest

from rl3jax import Config, evaluate_agent, make_trainer, memory, sweep, train
from rl3jax.checks import ConfigError
from rl3jax.devices import Devices
from rl3jax.memory import GIB, check_memory, device_memory, gib, process_memory
from rl3jax.runs.batch import Batch
from tests import children

TINY = {
    "algo": "rl2", "n_tasks": 8, "horizon": 4, "minibatches": 2, "epochs": 1, "width": 4,
    "iterations": 1,
}  # fmt: skip
FLAGS = (
    "--algo rl2 --n-tasks 8 --horizon 4 --minibatches 2 --epochs 1 --width 4 --validation-tasks 8"
)
RUNS = {
    "markov": {"n_tasks": 4096, "minibatches": 16, "horizon": 50},
    "gru": {"network": "gru", "n_tasks": 120, "minibatches": 1, "horizon": 50},
    "tables": {
        "env": "mdp", "num_states": 40, "n_tasks": 512, "minibatches": 64, "horizon": 20,
        "width": 8,
    },
    "transformer": {
        "network": "transformer", "n_tasks": 1536, "minibatches": 48, "horizon": 60, "width": 32,
    },
    "gridworld": {"env": "gridworld", "n_tasks": 512, "minibatches": 32, "horizon": 60},
}  # fmt: skip


def make(run, **changes):
    return make_trainer(
        Config(**{"iterations": 1, "epochs": 1, "validate_every": 0} | run | changes)
    )


def bytes_of(line):
    """The first amount of memory in a line."""
    return float(re.search(r"about ([0-9.e-]+) GiB", line)[1]) * GIB


@functools.cache
def needed(name):
    return bytes_of(check_memory(make(RUNS[name])))


def limited(run, **changes):
    """The line of a run, or its refusal."""
    try:
        return check_memory(make(run, **changes))
    except ConfigError as error:
        return str(error)


def as_config(flags):
    """Flags of a message as fields."""
    pairs = re.findall(r"--([a-z-]+) (\d+)", flags)
    return {name.replace("-", "_"): int(value) for name, value in pairs}


@functools.cache
def begin():
    """Take what a process takes once, in its first iteration."""
    trainer = make(TINY)
    jax.block_until_ready(trainer.update(trainer.init(jax.random.key(0))))


def measured(trainer):
    """Bytes by which an iteration, already compiled, makes this process grow at most."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system does not let a process forget its peak of memory")

    def resident(name):
        status = Path("/proc/self/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024

    begin()
    state = jax.block_until_ready(trainer.init(jax.random.key(0)))
    gc.collect()
    # What earlier tests freed may still be the process's: it would be taken first, without growth.
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what it is now
    jax.block_until_ready(trainer.update(state))
    return resident("VmHWM") - before


@pytest.fixture(autouse=True)
def compiled_alike(monkeypatch):
    """As all is without optimisation here: then what is tried is not compiled again to run."""
    monkeypatch.setattr(memory, "UNOPTIMISED", None)


@pytest.fixture
def compiled(caplog):
    """A function that says which programs were compiled since it was last called."""
    jax.clear_caches()  # earlier tests may have compiled the same
    jax.config.update("jax_log_compiles", True)

    def names():
        found = re.findall(r"Compiling jit\((\w+)\)", caplog.text)
        caplog.clear()
        return found

    yield names
    jax.config.update("jax_log_compiles", False)


# --- a run --------------------------------------------------------------------------------------


def test_what_was_compiled_to_foresee_is_not_compiled_again(compiled):
    trainer = make(TINY, validate_every=1, validation_tasks=16)
    check_memory(trainer)
    assert {"update", "_score"} <= set(compiled())
    state, _ = trainer.update(trainer.init(jax.random.key(0)))
    state, _ = trainer.update(state)
    agent = jax.device_get(trainer.agent(state))
    evaluate_agent(agent, trainer.env, trainer.config.horizon, 16, jax.random.key(1))
    assert {"update", "_score"}.isdisjoint(compiled())


def test_a_sweep_compiles_once_and_refuses_beyond_the_limit(tmp_path, compiled, capsys):
    out = tmp_path / "sweep"
    line = f"{FLAGS} --iterations 2 --seeds 3 --out {out}".split()
    sweep.main(line)
    assert capsys.readouterr().out.startswith("memory: about")
    names = compiled()
    assert names.count("update") == names.count("_score") == 1
    with pytest.raises(SystemExit) as caught:
        sweep.main([*line[:-1], f"{out}-2", "--memory-limit", "1e-6"])
    assert caught.value.code == 2
    assert "is below the smallest possible run" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


@pytest.mark.parametrize(
    "name", [*("markov", "gru"), *(pytest.param(n, marks=pytest.mark.slow) for n in list(RUNS)[2:])]
)
def test_a_run_takes_the_memory_that_is_foreseen(name):
    foreseen = needed(name)
    assert 1 < foreseen / measured(make(RUNS[name])) < 1.6


SCRIPT = """
import jax
from rl3jax import Config, evaluate_agent, make_trainer, memory

options = dict(
    algo="rl2", n_tasks=64, horizon=20, minibatches=2, width=4, validation_tasks=128, iterations=1
)
amounts = []
for devices in (1, 2):
    trainer = make_trainer(Config(devices=devices, **options))
    amounts.append(float(memory.check_memory(trainer).split()[2]))
assert 1.5 < amounts[0] / amounts[1] < 2, amounts
jax.config.update("jax_log_compiles", True)
state, _ = trainer.update(trainer.init(jax.random.key(0)))
agent = jax.device_get(trainer.agent(state))
evaluate_agent(agent, trainer.env, 20, 128, jax.random.key(1))
"""


@pytest.mark.slow
def test_devices_share_the_tasks_and_compile_once():
    result = children.run("-c", SCRIPT, num_cpu_devices=2)
    assert result.returncode == 0, result.stderr
    assert "Compiling jit(_init)" in result.stderr
    assert "Compiling jit(update)" not in result.stderr
    assert "Compiling jit(_score)" not in result.stderr


def test_runs_on_one_device_need_their_memory_each():
    trainer = make(TINY, algo="rl3")
    batches = (Batch(trainer, [trainer.config], range(runs), Devices()) for runs in (1, 4))
    one, four = (bytes_of(check_memory(trainer, batch.trace)) for batch in batches)
    assert 3 < four / one < 5


def test_rollouts_in_chunks_are_those_of_all_tasks_at_once():
    played = []
    for chunk in (None, 3):
        trainer = make_trainer(Config(n_tasks=12, horizon=7, rollout_chunk=chunk))
        keys = jax.random.split(jax.random.key(0), 3)
        state = trainer.init(keys[0])
        played.append(jax.jit(trainer.collect)(state, keys[1], keys[2]))
    chex.assert_trees_all_close(*played, rtol=1e-5, atol=1e-6)


def test_validation_counts_and_chunks_bound_it():
    run = TINY | {"network": "transformer", "layers": 1, "horizon": 20}
    alone = bytes_of(limited(run))
    validated = bytes_of(limited(run, validate_every=1, validation_tasks=800))
    in_chunks = bytes_of(limited(run, validate_every=1, validation_tasks=800, rollout_chunk=8))
    assert validated > 3 * alone
    assert in_chunks == alone


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "share", "flags"),
    [
        ("tables", 0.85, {"rollout_chunk"}),
        ("gru", 0.6, {"gradient_chunk"}),
        ("markov", 0.3, {"n_tasks", "minibatches", "gradient_chunk"}),
    ],
)
def test_over_the_limit_it_names_settings_that_train_within(name, share, flags):
    limit = share * needed(name)
    message = limited(RUNS[name], memory_limit=limit / GIB)
    assert "\n" not in message
    assert message.startswith(f"this run needs about {gib(int(needed(name)))} of a device, over")
    fits = as_config(message.partition("Fits: ")[2])
    assert fits.keys() == flags
    fitting = make(RUNS[name], **fits, memory_limit=limit / GIB)
    assert 0.4 * limit < bytes_of(check_memory(fitting)) <= limit
    assert measured(fitting) < limit
    if "n_tasks" in fits:
        assert fitting.config.tasks_per_minibatch == make(RUNS[name]).config.tasks_per_minibatch


def test_below_the_smallest_run_it_says_what_that_needs():
    message = limited(TINY, memory_limit=1e-6)
    assert message.startswith("memory_limit, 1e-06 GiB, is below the smallest possible run")
    amount = float(re.search(r"run, ([0-9.e-]+) GiB", message)[1])
    smallest = as_config(message)
    assert smallest["n_tasks"] == 1
    assert limited(TINY | smallest, memory_limit=amount).startswith("memory: about")
    assert "smallest possible run" in limited(TINY, memory_limit=0.9 * amount)
    assert "smallest possible run" not in limited(TINY, memory_limit=amount)


@pytest.mark.parametrize("field", ["n_tasks", "validation_tasks"])
def test_more_than_the_compiler_can_count_is_refused(field):
    many = 2**31 - 8
    changes = {"validation_tasks": 8, field: many}
    with jax.debug_key_reuse(False):  # the check of it makes arrays of so many keys
        message = limited(TINY, horizon=many, validate_every=1, **changes)
    assert "GiB, is below the smallest possible run" in message


def test_without_a_limit_the_device_is_it(monkeypatch):
    assert limited(TINY).startswith("memory: about")
    assert 0.1 < device_memory() / GIB < 1e5
    monkeypatch.setattr(memory, "device_memory", lambda: 2**16)
    assert "over a device's memory, 6.11e-05 GiB" in limited(TINY, n_tasks=64)


def test_a_cpu_has_what_the_process_does_not_need_itself(monkeypatch):
    if jax.default_backend() != "cpu":
        pytest.skip("on CPU")
    monkeypatch.setattr(memory, "process_memory", lambda: 64 * GIB)
    assert 0.1 * GIB < 64 * GIB - device_memory() < 32 * GIB
    monkeypatch.setattr(memory, "process_memory", lambda: 1)
    assert "a device's memory, 9.32e-10 GiB, is below" in limited(TINY)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b", {"a/memory.max": "3000000", "a/b/memory.max": "max"}, 3_000_000),
        ("0::/a/b", {"a/memory.max": "3000000", "a/b/memory.max": "2000000"}, 2_000_000),
        ("0::/", {"memory.max": "3000000"}, 3_000_000),
        ("0::/not/seen/in/the/container", {"memory.max": "3000000"}, 3_000_000),
        ("3:cpu:/x\n2:memory:/a", {"memory/a/memory.limit_in_bytes": "3000000"}, 3_000_000),
        ("2:memory:/a", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("0::/a", {"a/memory.max": "max"}, None),
        ("0::/a", {}, None),
        (None, {}, None),
    ],
)
def test_memory_is_that_of_the_control_groups_or_else_the_machines(
    tmp_path, membership, files, expected
):
    if membership is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(f"{membership}\n")
    for name, limit in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{limit}\n")
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert process_memory(tmp_path) == (expected or physical)


def test_sizes_are_rounded_up():
    assert gib(GIB) == "1 GiB"
    assert gib(GIB + 1) == "1.01 GiB"
    assert gib(int(0.0123401 * GIB)) == "0.0124 GiB"


def test_the_command_checks_before_it_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.undo()  # by the compiler's options, like a user's
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        train.main([*FLAGS.split(), "--memory-limit", "1e-6"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: memory_limit, 1e-06 GiB, is below")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
