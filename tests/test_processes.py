"""A run in two processes on one machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
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
    """A process of a run, in float64, that takes 8 seconds of silence for a loss instead of 20."""
    program = "from rl3jax import processes, train; processes.SILENT_BEATS = 8; train.main()"
    command = [sys.executable, "-c", program, *SMALL.split(), "--out", str(out), *flags]
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


@pytest.fixture
def pair(tmp_path):
    """Two processes of a run that is past its first iteration."""
    port, run = free_port(), tmp_path / "run"
    flags = ("--iterations", "1000000", "--validate-every", "0")
    processes = [start(run, port, i, *flags) for i in (0, 1)]
    while not (run / "metrics.jsonl").is_file() and processes[0].poll() is None:
        time.sleep(0.2)
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def newest_checkpoint(run):
    return int(sorted(path.name for path in (run / "checkpoints").iterdir())[-1])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other_within_a_minute(pair, tmp_path, how, lost):
    survivor = pair[1 - lost]
    pair[lost].send_signal(signal.Signals[how])
    _, error = survivor.communicate(timeout=60)
    assert survivor.returncode == train.LOST
    why = {"SIGKILL": "it ended", "SIGSTOP": "silent for 8 s"}[how]
    assert error.startswith(f"error: process {lost} of this run was lost ({why})")
    assert error.count("\n") == 1
    done = 0 if lost == 0 else len(metrics(tmp_path / "run"))
    assert newest_checkpoint(tmp_path / "run") == done
    assert (f"go on from iteration {done}, the last complete one: --resume" in error) == (lost == 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to"),
    [(signal.SIGTERM, [0]), (signal.SIGTERM, [1]), (signal.SIGTERM, [0, 1]), (signal.SIGINT, [1])],
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


def fail_to_meet(*address):
    raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: too late\nand much more")


@pytest.mark.parametrize(
    ("meet", "expected"),
    [
        (lambda *address: time.sleep(0.3), "the 2 processes did not all come to host:1 within 0.1"),
        (fail_to_meet, "no meeting at coordinator host:1: DEADLINE_EXCEEDED: too late$"),
    ],
)
def test_a_meeting_that_fails(monkeypatch, meet, expected):
    monkeypatch.setattr(processes, "MEETING_SECONDS", 0.1)
    monkeypatch.setattr(processes, "_meet", meet)
    with ThreadPoolExecutor(1) as thread:
        monkeypatch.setattr(processes, "_THREAD", thread)
        with pytest.raises(ConfigError, match=expected):
            join(Processes("host:1", 2, 0))


def test_one_process_needs_nothing():
    join(Processes())
    processes.check_agreement({"a": 1})
    assert processes.together(lambda: 3) == 3
    assert processes.in_any(True)
    assert not processes.in_any(False)
    processes.part()
    with pytest.raises(ZeroDivisionError), processes.ending_at_once():
        processes.together(lambda: 1 / 0)


# --- the line between processes -----------------------------------------------------------------


@pytest.fixture
def short_beats(monkeypatch):
    monkeypatch.setattr(processes, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(processes, "SILENT_BEATS", 25)


def test_process_0_has_a_line_to_each_of_the_others(monkeypatch):
    held, port_of_first, known = {}, [], threading.Event()

    def gather(port):
        if threading.current_thread().name == "0":
            port_of_first.append(port)
            known.set()
        known.wait(5)
        return port_of_first

    def hold(line, peer, number):
        held[threading.current_thread().name, number] = peer

    monkeypatch.setattr(processes, "_gather", gather)
    monkeypatch.setattr(processes.Line, "hold", hold)
    threads = [
        threading.Thread(target=processes.Line().open, args=("localhost:1", 3, i), name=str(i))
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert held.keys() == {("0", 1), ("0", 2), ("1", 0), ("2", 0)}
    for i in (1, 2):
        with held["0", i] as first, held[str(i), 0] as other:
            first.sendall(b"hello")
            assert other.recv(5) == b"hello"


def test_beats_keep_a_line(short_beats):
    lines, ends = (processes.Line(), processes.Line()), socket.socketpair()
    for line, end in zip(lines, ends, strict=True):
        line.hold(end, 1)
    assert not lines[0].lost.wait(1)
    assert not lines[1].lost.is_set()
    ends[0].shutdown(socket.SHUT_RDWR)
    assert all(line.lost.wait(5) for line in lines)


@pytest.mark.parametrize(("closes", "why"), [(True, "it ended"), (False, "silent for 0.5 s")])
def test_who_hangs_up_or_is_silent_is_lost(short_beats, closes, why):
    ours, theirs = socket.socketpair()
    line = processes.Line()
    with theirs:
        line.hold(ours, 7)
        if closes:
            theirs.close()
        assert line.lost.wait(5)
    assert line.news == f"process 7 of this run was lost ({why})"


def test_a_door_stays_open_when_what_is_behind_it_has_gone():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = processes._door_to(f"127.0.0.1:{listener.getsockname()[1]}").split(":")
        client = socket.create_connection((host, int(port)), timeout=5)
        server, _ = listener.accept()
    with client:
        with server:
            client.sendall(b"ping")
            assert server.recv(100) == b"ping"
            server.sendall(b"pong")
            assert client.recv(100) == b"pong"
        client.settimeout(0.3)
        for _ in range(3):
            client.sendall(b"still there?")
            with pytest.raises(TimeoutError):
                client.recv(100)


# --- what needs the others ----------------------------------------------------------------------


@pytest.fixture
def one_of_several(monkeypatch):
    """The line of a process that believes itself to be one of several."""
    line = processes.Line()
    monkeypatch.setattr(processes, "_LINE", line)
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(processes.jax.distributed, "is_initialized", lambda: True)
    return line


def lose(line):
    line.news = "process 1 was lost"
    line.lost.set()


def test_waiting_ends_when_a_process_is_lost(one_of_several):
    released = threading.Event()
    threading.Timer(0.1, lose, [one_of_several]).start()
    with pytest.raises(processes.LostProcessError, match="process 1 was lost"):
        processes.together(lambda: released.wait(10))
    released.set()


def test_what_the_lost_one_sent_before_counts(one_of_several):
    lose(one_of_several)
    assert processes.together(lambda: time.sleep(0.05) or 3) == 3


@pytest.mark.parametrize("kind", processes.EXCHANGE_ERRORS)
def test_failed_exchanges_are_a_loss_if_there_is_one(one_of_several, kind):
    def fail():
        raise kind("connection closed")

    with pytest.raises(kind, match="connection closed"):
        processes.together(fail)
    threading.Timer(0.05, lose, [one_of_several]).start()
    with pytest.raises(processes.LostProcessError, match="process 1 was lost"):
        processes.together(fail)


def test_errors_of_ours_are_no_loss(one_of_several):
    def fail():
        raise ConfigError("no such thing")

    lose(one_of_several)
    with pytest.raises(ConfigError, match="no such thing"):
        processes.together(fail)


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


@pytest.mark.parametrize(("error", "code"), [(SystemExit(3), 3), (ValueError("no more"), 1)])
def test_one_of_several_that_fails_ends_without_waiting(one_of_several, monkeypatch, error, code):
    class EndedError(BaseException):
        pass

    def end(code):
        raise EndedError(code)

    monkeypatch.setattr(processes.os, "_exit", end)
    with pytest.raises(EndedError) as ended, processes.ending_at_once():
        raise error
    assert ended.value.args == (code,)
