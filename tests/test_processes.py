"""A run in two processes on one machine."""

import json
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from jax.errors import JaxRuntimeError

from rl3jax import processes, train
from rl3jax.checks import ConfigError
from rl3jax.processes import Processes, join
from tests.children import Child

SMALL = (
    "--n-tasks=16", "--horizon=8", "--minibatches=2", "--epochs=1", "--width=8",
    "--validation-tasks=20",
)  # fmt: skip
SHORT = (*SMALL, "--iterations=9", "--checkpoint-every=3", "--validate-every=3")
TIMINGS = ("seconds", "steps_per_second")
ABORTED = -signal.SIGABRT


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


PROGRAM = """
from rl3jax import processes, train

processes.HEARTBEAT_SECONDS = 8
processes.MEETING_SECONDS = {meeting}
ask, asked = processes.in_any, iter(range({iterations}))


def in_any(flag):
    if next(asked, None) is None:
        import os, signal
        os.kill(os.getpid(), signal.{signal})
    return ask(flag)


processes.in_any = in_any
train.main()
"""


def start(flags, *, environment=None, meeting=60, signal="SIGKILL", iterations=10**9):
    """A process of a run, in float64, that gets a signal in the iteration after so many."""
    program = PROGRAM.format(meeting=meeting, signal=signal, iterations=iterations)
    return Child("-c", program, *flags, environment=environment, enable_x64=True)


def end(pair):
    """The exit codes of processes, and what they said on stderr."""
    errors = [process.communicate(timeout=120)[1] for process in pair]
    return [process.returncode for process in pair], errors


def by_hand(port, process_id):
    """The flags of one of two."""
    place = ["--coordinator", f"localhost:{port}", "--process-id", str(process_id)]
    return [*place, "--num-processes", "2"]


def slurm(job, process_id):
    """What SLURM says to one of two."""
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(process_id),
        "SLURM_LOCALID": str(process_id),
    }


def metrics(folder):
    """The lines of metrics.jsonl, without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run in two processes that a cluster started."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    port = free_port()
    pair = [
        start(
            [*SHORT, "--out", str(run), "--distributed"],
            environment=slurm(1, i) | {"JAX_COORDINATOR_PORT": str(port)},
        )
        for i in (0, 1)
    ]
    codes, errors = end(pair)
    assert codes == [0, 0], errors
    return run


@pytest.mark.slow
def test_two_processes_train_what_one_does(undisturbed, tmp_path):
    start([*SHORT, "--out", str(tmp_path / "alone")]).communicate()
    for ours, expected in zip(metrics(undisturbed), metrics(tmp_path / "alone"), strict=True):
        for name, value in expected.items():
            assert ours[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_the_run_goes_on(undisturbed, tmp_path):
    run, flags = tmp_path / "run", [*SHORT, "--out", str(tmp_path / "run")]
    for lost, checkpoint in ((1, 3), (0, 6)):  # in the next iteration but one
        port = free_port()
        pair = [
            start([*flags, *by_hand(port, i)], iterations=4 if i == lost else 10**9) for i in (0, 1)
        ]
        codes, errors = end(pair)
        assert codes[lost] == -signal.SIGKILL
        assert codes[1 - lost] in (1, ABORTED)
        assert re.search("process of this run was lost|another task died", errors[1 - lost])
        assert newest_checkpoint(run) == checkpoint
        flags = ["--resume", str(run)]
    port = free_port()
    codes, errors = end([start([*flags, *by_hand(port, i)]) for i in (0, 1)])
    assert codes == [0, 0], errors
    assert metrics(run) == metrics(undisturbed)
    for name in ("agent/agent.npz", "best_agent/agent.npz"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_silent_process_ends_the_other(tmp_path, lost):
    port, flags = free_port(), [*SHORT, "--out", str(tmp_path / "run")]
    pair = [
        start(
            [*flags, *by_hand(port, i)],
            signal="SIGSTOP",
            iterations=1 if i == lost else 10**9,
        )
        for i in (0, 1)
    ]
    (code,), (error,) = end([pair[1 - lost]])
    pair[lost].kill()
    end(pair)
    assert code == ABORTED
    assert "another task died" in error


@pytest.fixture
def pair(tmp_path):
    """Two processes of a run that is past its first iteration."""
    port, run = free_port(), tmp_path / "run"
    flags = [*SMALL, "--iterations", "1000000", "--validate-every", "0", "--out", str(run)]
    processes = [start([*flags, *by_hand(port, i)]) for i in (0, 1)]
    while not (run / "metrics.jsonl").is_file() and processes[0].poll() is None:
        time.sleep(0.2)
    yield processes
    for process in processes:
        process.kill()
    end(processes)


def newest_checkpoint(run):
    return int(sorted(path.name for path in (run / "checkpoints").iterdir())[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to"),
    [(signal.SIGTERM, [0]), (signal.SIGTERM, [0, 1]), (signal.SIGINT, [1])],
)
def test_a_signal_to_any_stops_all_after_the_same_iteration(pair, tmp_path, number, to):
    for i in to:
        pair[i].send_signal(number)
    (output, first_error), (other_output, other_error) = (p.communicate(timeout=60) for p in pair)
    assert [process.returncode for process in pair] == [train.INTERRUPTED] * 2
    assert "Traceback" not in first_error + other_error
    done = len(metrics(tmp_path / "run"))
    assert newest_checkpoint(tmp_path / "run") == done
    assert f"stopped after iteration {done} of 1000000; to go on:" in output
    assert f"python -m rl3jax.train --resume {tmp_path / 'run'}" in output
    assert f"stopped with the others after iteration {done}" in other_output


@pytest.mark.slow
def test_processes_of_different_flags_say_which(tmp_path):
    port, flags = free_port(), [*SMALL, "--out", str(tmp_path / "run")]
    pair = [start([*flags, *by_hand(port, i), "--entropy", f"0.{i + 1}"]) for i in (0, 1)]
    codes, errors = end(pair)
    assert codes == [2, 2]
    for error in errors:
        assert "error: process 1 has entropy = 0.2, process 0 has 0.1" in error
        assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_process_that_cannot_go_on_ends_the_other(tmp_path):
    port, flags = free_port(), [*SMALL, "--out", str(tmp_path / "file" / "run")]
    (tmp_path / "file").touch()
    pair = [start([*flags, *by_hand(port, i)]) for i in (0, 1)]
    codes, errors = end(pair)
    assert errors[0].splitlines()[-1].startswith("error: ")
    assert codes[0] == 2
    assert codes[1] in (1, ABORTED)


@pytest.mark.slow
@pytest.mark.parametrize("process_id", [0, 1])
def test_who_waits_for_others_in_vain_says_so(process_id):
    port = free_port()
    codes, (error,) = end([start(by_hand(port, process_id), meeting=2)])
    assert codes == [2]
    assert error == (
        f"error: the processes of this run did not all come to localhost:{port} within 2 s; "
        "does process 0 listen there, and do the others run?\n"
    )


@pytest.mark.slow
def test_where_there_is_no_cluster():
    codes, (error,) = end([start(["--distributed"])])
    assert codes == [2]
    assert error.startswith("error: --distributed: no cluster here says where the processes are")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((False, None, 2, 0), "coordinator is missing"),
        ((False, "localhost:1", None, None), "num_processes, process_id is missing"),
        ((False, "localhost:1", 2, 2), "process_id must be from 0 to num_processes - 1"),
        ((False, "localhost:1", 2, -1), "not -1"),
        ((False, "localhost", 2, 0), "coordinator must be HOST:PORT, not 'localhost'"),
        ((True, "localhost:1", 2, 0), "--distributed asks the cluster; it goes without --coord"),
    ],
)
def test_arguments_that_do_not_fit(arguments, expected):
    with pytest.raises(ConfigError, match=expected):
        join(Processes(*arguments))


def never(*_, **__):
    time.sleep(0.3)


def find_no_cluster(*_, **__):
    raise ValueError("coordinator_address should be defined.")


def fail_to_meet(*_, **__):
    raise JaxRuntimeError("INTERNAL: address in use\nand much more")


@pytest.mark.parametrize(
    ("initialize", "given", "expected"),
    [
        (never, Processes(False, "host:1", 2, 0), "did not all come to host:1 within 0.1 s"),
        (never, Processes(True), "did not all come to the address that the cluster gives within"),
        (
            find_no_cluster,
            Processes(True),
            "--distributed: no cluster here says where .* should be",
        ),
        (fail_to_meet, Processes(False, "host:1", 2, 0), "no meeting at host:1: .* in use$"),
    ],
)
def test_a_meeting_that_fails(monkeypatch, initialize, given, expected):
    monkeypatch.setattr(processes, "MEETING_SECONDS", 0.1)
    monkeypatch.setattr(processes.jax.distributed, "initialize", initialize)
    with ThreadPoolExecutor(1) as thread:
        monkeypatch.setattr(processes, "_THREAD", thread)
        with pytest.raises(ConfigError, match=expected):
            join(given)


def test_one_process_needs_nothing():
    join(Processes())
    processes.check_agreement({"a": 1})
    assert processes.in_any(True)
    assert not processes.in_any(False)
    processes.part()
    with pytest.raises(ZeroDivisionError), processes.ending_at_once():
        raise ZeroDivisionError


@pytest.fixture
def one_of_several(monkeypatch):
    """What a process asks JAX when it believes itself to be one of several."""
    monkeypatch.setattr(processes.jax.distributed, "is_initialized", lambda: True)


def test_a_flag_in_any_process_counts_and_all_part_together(one_of_several, monkeypatch):
    flags, parted = [0, 1], []
    monkeypatch.setattr(
        processes.multihost_utils, "process_allgather", lambda own: np.array([own, flags[1:]])
    )
    monkeypatch.setattr(processes.jax.distributed, "shutdown", lambda: parted.append(True))
    assert processes.in_any(False)
    flags[1] = 0
    assert not processes.in_any(False)
    assert processes.in_any(True)
    processes.part()
    assert parted == [True]


def test_a_process_of_other_flags_is_named(monkeypatch):
    ours, theirs = {"env": "mdp", "entropy": 0.1}, {"env": "mdp", "entropy": 0.2}

    def gather(own):
        other = json.dumps(theirs).encode().ljust(len(own))
        return np.stack([own, own, np.frombuffer(other, np.uint8)])

    monkeypatch.setattr(processes.jax, "process_count", lambda: 3)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", gather)
    with pytest.raises(ConfigError, match=r"process 2 has entropy = 0.2, process 0 has 0.1"):
        processes.check_agreement(ours)
    theirs["entropy"] = 0.1
    processes.check_agreement(ours)


GLOO = "UNKNOWN: Gloo AllGather failed: Connection closed by peer\nmore"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SystemExit(3), 3, ""),
        (ConfigError("Gloo?"), 1, "ConfigError: Gloo?"),
        (ValueError("no more"), 1, "ValueError: no more"),
        *((kind(GLOO), 1, "lost (UNKNOWN: Gloo") for kind in (ValueError, JaxRuntimeError)),
    ],
)
def test_one_of_several_that_fails_ends_soon(
    one_of_several, monkeypatch, capsys, error, code, said
):
    class EndedError(BaseException):
        pass

    def end(code):
        raise EndedError(code)

    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(processes.jax.distributed, "shutdown", lambda: time.sleep(0.3))
    monkeypatch.setattr(processes.os, "_exit", end)
    with pytest.raises(EndedError) as ended, processes.ending_at_once():
        raise error
    assert ended.value.args == (code,)
    told = capsys.readouterr().err
    assert said in told
    assert ("Traceback" in told) == (code == 1 and "lost" not in said)
