"""A run in two processes on one machine."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from rl3jax import processes, train
from rl3jax.checks import ConfigError
from rl3jax.processes import Processes, join

SMALL = "--n-tasks 16 --horizon 8 --minibatches 2 --epochs 1 --width 8 --validation-tasks 20"


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def start(out, port, process_id, *flags, num_processes=2):
    """A process of a run, in float64."""
    command = [sys.executable, "-m", "rl3jax.train", *SMALL.split(), "--out", str(out), *flags]
    if port is not None:
        command += ["--coordinator", f"localhost:{port}", "--process-id", str(process_id)]
        command += ["--num-processes", str(num_processes)]
    return subprocess.Popen(
        command,
        env=os.environ | {"JAX_ENABLE_X64": "1", "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def metrics(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    port, flags = free_port(), ("--iterations", "3", "--validate-every", "3")
    pair = [start(tmp_path / "pair", port, i, *flags) for i in (0, 1)]
    errors = [process.communicate()[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], errors
    alone = start(tmp_path / "alone", None, None, *flags)
    alone.communicate()
    for ours, expected in zip(metrics(tmp_path / "pair"), metrics(tmp_path / "alone"), strict=True):
        for name in expected.keys() - {"seconds", "steps_per_second"}:
            assert ours[name] == pytest.approx(expected[name], abs=1e-9), name


@pytest.mark.slow
def test_a_lost_process_ends_the_other_with_a_checkpoint(tmp_path):
    port, run = free_port(), tmp_path / "run"
    flags = ("--iterations", "1000000", "--validate-every", "0")
    first, second = (start(run, port, i, *flags) for i in (0, 1))
    while not (run / "metrics.jsonl").is_file() and first.poll() is None:
        time.sleep(0.2)
    second.kill()
    _, error = first.communicate(timeout=60)
    second.communicate()
    assert first.returncode == train.LOST
    assert "another process of this run was lost" in error
    assert "Traceback" not in error
    done = len(metrics(run))
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[-1] == f"{done:08d}"


@pytest.mark.slow
def test_processes_of_different_flags_say_which(tmp_path):
    port = free_port()
    pair = [start(tmp_path / "run", port, i, "--entropy", f"0.{i + 1}") for i in (0, 1)]
    for process in pair:
        _, error = process.communicate()
        assert process.returncode == 2
        assert "process 1 has entropy = 0.2, process 0 has 0.1" in error
        assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, 2, 0), "coordinator is missing"),
        (("localhost:1", None, None), "num_processes, process_id is missing"),
        (("localhost:1", 2, 2), "process_id must be from 0 to num_processes - 1"),
        (("localhost:1", 2, -1), "not -1"),
        (("localhost", 2, 0), "coordinator must be HOST:PORT, not 'localhost'"),
    ],
)
def test_arguments_that_do_not_fit(arguments, expected):
    with pytest.raises(ConfigError, match=expected):
        join(Processes(*arguments))


def test_a_coordinator_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(processes, "MEETING_SECONDS", 1)
    port = free_port()
    with pytest.raises(ConfigError, match=f"localhost:{port} did not answer within 1 s"):
        join(Processes(f"localhost:{port}", 2, 1))


def test_one_process_needs_nothing():
    join(Processes())
    processes.check_agreement({"a": 1})


def test_other_errors_than_of_processes_pass():
    with pytest.raises(ZeroDivisionError), processes.others_needed():
        _ = 1 / 0
