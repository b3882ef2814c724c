import dataclasses
import functools
import os
import re

import chex
import jax
import jax.numpy as jnp
import pytest

from rl3jax import Config, make_trainer, memory, train
from rl3jax.checks import ConfigError
from rl3jax.liveness import peak, size_of
from rl3jax.memory import (
    GIB,
    check_memory,
    device_memory,
    estimate_memory,
    gib,
    process_memory,
)

FLOAT = jnp.zeros(()).dtype.itemsize
SMALL = {"iterations": 1, "validate_every": 0}
RUNS = {
    "bandit markov": {"n_tasks": 512, "minibatches": 4, "width": 64},
    "bandit markov, gradients in chunks": {"n_tasks": 512, "minibatches": 1, "gradient_chunk": 16},
    "mdp gru": {"env": "mdp", "network": "gru", "n_tasks": 256, "minibatches": 1},
    "mdp transformer": {
        "env": "mdp", "network": "transformer", "n_tasks": 256, "minibatches": 32, "horizon": 200,
    },
    "gridworld markov": {"env": "gridworld", "n_tasks": 256, "minibatches": 32, "horizon": 60},
}  # fmt: skip

FEW_TASKS = RUNS["bandit markov"] | {"n_tasks": 64}


@functools.cache
def estimate_by_config(trainer, config):
    """Trainers are equal whatever their configs, of which validation is a part."""
    del config
    return estimate_memory(trainer)


def estimate_once(trainer):
    """`estimate_memory`, to which the limit makes no difference."""
    config = dataclasses.replace(trainer.config, memory_limit=None)
    return estimate_by_config(trainer, config)


def estimate_of(run):
    """What a run needs that validates as well."""
    return estimate_once(make_trainer(Config(**RUNS[run], iterations=1)))


def reserved(trainer):
    """Bytes that XLA reserves for an iteration."""
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    analysis = jax.jit(trainer.update).lower(state).compile().memory_analysis()
    return (
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
    )


# --- bytes of a traced function -----------------------------------------------------------------


X = jnp.zeros((50, 50))
SIZE = 2500 * FLOAT


def test_chains_of_elementwise_operations_are_one_array():
    assert peak(lambda x: jnp.exp(jnp.sin(x) + 1) * 2, X) == SIZE


def test_operands_of_a_product_are_arrays():
    assert peak(lambda x: jnp.sin(x) @ jnp.cos(x), X) == 3 * SIZE


def test_what_is_read_no_more_makes_room():
    def products(x):
        for _ in range(5):
            x = x @ x
        return x

    assert peak(products, X) == 2 * SIZE


def test_loops_keep_their_carry_and_what_they_stack():
    def stacked(x):
        def step(carry, _):
            row = carry.sum(axis=1)
            return carry + 1, row

        return jax.lax.scan(step, x, length=10)

    rows = 50 * FLOAT
    assert peak(stacked, X) == pytest.approx(SIZE + 10 * rows, abs=2 * rows)


def test_the_larger_branch_counts():
    def branch(x):
        return jax.lax.cond(x.sum() > 0, lambda x: (x @ x) @ (x @ x), lambda x: x, x)

    assert peak(branch, X) == pytest.approx(3 * SIZE, abs=100)


def test_key_arrays_have_a_size():
    assert size_of(jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 5))) == 40


# --- a run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_the_estimate_is_near_what_xla_reserves(name):
    trainer = make_trainer(Config(**RUNS[name], **SMALL))
    ratio = estimate_memory(trainer).total / reserved(trainer)
    assert 1 / 1.5 < ratio < 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "chunks"),
    [
        ("mdp gru", {"gradient_chunk": 16}),
        ("mdp transformer", {"rollout_chunk": 16}),
        ("gridworld markov", {"rollout_chunk": 16}),
    ],
)
def test_chunks_save_memory_as_estimated(name, chunks):
    run = RUNS[name] | SMALL
    whole = make_trainer(Config(**run))
    chunked = make_trainer(Config(**run | chunks))
    saved = reserved(whole) - reserved(chunked)
    expected = estimate_memory(whole).total - estimate_memory(chunked).total
    assert saved > 0.1 * reserved(whole)
    assert 1 / 2 < expected / saved < 2


def test_rollouts_in_chunks_are_those_of_all_tasks_at_once():
    played = []
    for chunk in (None, 3):
        trainer = make_trainer(Config(n_tasks=12, horizon=7, rollout_chunk=chunk))
        keys = jax.random.split(jax.random.key(0), 3)
        state = trainer.init(keys[0])
        played.append(jax.jit(trainer.collect)(state, keys[1], keys[2]))
    chex.assert_trees_all_close(*played, rtol=1e-5, atol=1e-6)


def test_validation_counts_and_chunks_bound_it():
    run = RUNS["mdp transformer"] | {"iterations": 1}
    whole = estimate_of("mdp transformer")
    assert whole.phase == "validation"
    chunked = estimate_memory(make_trainer(Config(**run, rollout_chunk=8)))
    assert sum(chunked.phases["validation"].values()) < 0.1 * whole.total


def test_terms_are_named_largest_first():
    estimate = estimate_of("mdp transformer")
    assert next(iter(estimate.terms)) == "networks' carries while acting"
    assert estimate.terms["networks' carries while acting"] >= 1000 * 200 * 2 * 2 * 64 * FLOAT
    assert list(estimate.terms.values()) == sorted(estimate.terms.values(), reverse=True)


# --- limits -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def the_same_trainer_is_estimated_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "estimate_memory", estimate_once)
        yield


def limited(run, **changes):
    """The line of a run, or its refusal."""
    try:
        return check_memory(make_trainer(Config(**run | {"iterations": 1} | changes)))
    except ConfigError as error:
        return str(error)


def as_config(flags):
    """Flags of a message as fields."""
    pairs = re.findall(r"--([a-z-]+) (\d+)", flags)
    return {name.replace("-", "_"): int(value) for name, value in pairs}


@pytest.mark.parametrize(
    ("run", "share", "field"),
    [
        ("mdp transformer", 0.3, "rollout_chunk"),
        ("mdp gru", 0.5, "gradient_chunk"),
        ("bandit markov", 0.15, "n_tasks"),
    ],
)
def test_over_the_limit_it_names_settings_that_fit(run, share, field):
    needed, run = estimate_of(run), RUNS[run]
    limit = share * needed.total / GIB
    message = limited(run, memory_limit=limit)
    assert "\n" not in message
    assert f"this run needs about {gib(needed.total)} of a device" in message
    assert next(iter(needed.terms)) in message
    fits = as_config(message.partition("Fits: ")[2])
    assert field in fits
    assert limited(run | fits, memory_limit=limit).startswith("memory: about")


def test_fewer_tasks_keep_the_size_of_minibatches():
    run = FEW_TASKS
    whole = make_trainer(Config(**run, iterations=1))
    limit = 0.4 * estimate_memory(whole).total / GIB
    fits = as_config(limited(run, memory_limit=limit).partition("Fits: ")[2])
    fitting = make_trainer(Config(**run | fits, iterations=1))
    assert fitting.settings.tasks_per_minibatch == whole.settings.tasks_per_minibatch


def test_below_the_smallest_run_it_says_what_that_needs():
    run = FEW_TASKS
    message = limited(run, memory_limit=1e-5)
    assert message.startswith("memory_limit, 1e-05 GiB, is below the smallest possible run")
    amount = float(re.search(r"run, ([0-9.e-]+) GiB", message)[1])
    smallest = as_config(message)
    assert smallest["n_tasks"] == 1
    assert limited(run | smallest, memory_limit=amount).startswith("memory: about")
    assert "smallest possible run" in limited(run, memory_limit=0.9 * amount)
    assert "smallest possible run" not in limited(run, memory_limit=amount)


def test_without_a_limit_the_device_is_it(monkeypatch):
    assert limited(RUNS["bandit markov"]).startswith("memory: about")
    assert 0.1 < device_memory() / GIB < 1e5
    monkeypatch.setattr(memory, "device_memory", lambda: 2 * 2**20)
    assert "over a device's memory, 0.00196 GiB" in limited(FEW_TASKS)


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


def test_devices_share_the_tasks():
    trainer = make_trainer(Config(**RUNS["mdp gru"], **SMALL))
    settings = trainer.settings
    halved = dataclasses.replace(
        trainer,
        settings=settings._replace(devices=dataclasses.replace(settings.devices, count=2)),
    )
    alone = make_trainer(Config(**RUNS["mdp gru"] | {"n_tasks": 128}, **SMALL))
    assert estimate_memory(halved).total == estimate_memory(alone).total


def test_sizes_are_rounded_up():
    assert gib(GIB) == "1 GiB"
    assert gib(GIB + 1) == "1.01 GiB"
    assert gib(int(0.0123401 * GIB)) == "0.0124 GiB"


@pytest.mark.parametrize("flags", ["--memory-limit 0.0001", "--memory-limit 0.02"])
def test_the_command_checks_before_it_compiles_or_writes(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    compiled = []
    monkeypatch.setattr(train, "initial_state", compiled.append)
    with pytest.raises(SystemExit) as caught:
        train.main(f"--n-tasks 4096 {flags}".split())
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert not compiled
