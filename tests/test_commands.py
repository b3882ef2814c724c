"""What the commands share: caches and cores, errors in one line, signals."""

import io
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest

from rl3jax import __main__, commands, train
from rl3jax import cores as cores_of_jax
from rl3jax.checks import ConfigError


@pytest.fixture
def jax_config(monkeypatch, tmp_path):
    """The settings of a JAX to which nobody has said anything yet."""
    values = {"jax_compilation_cache_dir": None, "jax_num_cpu_devices": cores_of_jax.UNSET}
    config = SimpleNamespace(values=values, update=values.__setitem__)
    for module in (commands, cores_of_jax):
        monkeypatch.setattr(module, "jax", SimpleNamespace(config=config))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    return values


@pytest.mark.parametrize(("cores", "devices"), [(None, 3), (2, 2)])
def test_cores_are_devices_and_compiled_programs_are_kept(jax_config, cores, devices, tmp_path):
    commands.prepare_jax(cores)
    assert jax_config == {
        "jax_compilation_cache_dir": str(tmp_path / "rl3jax" / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_num_cpu_devices": devices,
    }


def no_home(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", missing)


def missing():
    raise RuntimeError("Could not determine home directory.")


def a_home_that_is_a_file(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))


def a_full_disk(monkeypatch, tmp_path):
    def full(**_):
        raise OSError(28, "No space left on device", "compiled")

    monkeypatch.setattr(commands.tempfile, "TemporaryFile", full)


@pytest.mark.parametrize("without", [no_home, a_home_that_is_a_file, a_full_disk])
def test_where_nothing_can_be_kept_a_warning_says_so(
    jax_config, monkeypatch, tmp_path, capsys, without
):
    without(monkeypatch, tmp_path)
    commands.prepare_jax(2)
    assert jax_config["jax_compilation_cache_dir"] is None
    assert capsys.readouterr().err.count("warning: compiled programs are not kept: ") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_terminal_lacks_is_replaced(monkeypatch, encoding):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    with pytest.raises(SystemExit):
        train.main(["--help"])
    sys.stdout.write("± – … × ━ 😀")
    sys.stdout.flush()
    assert len(written.getvalue()) > 5000
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding))
    with commands.stop_signals():
        signal.raise_signal(signal.SIGTERM)


def test_output_that_is_closed_or_full_ends_no_command_in_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        train.main(["--help"])
    assert ended.value.code == 0
    full = open("/dev/full", "w")  # noqa: SIM115 (closing it fails, too)
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(SystemExit) as ended, commands.one_line_errors():
        sys.stdout.write("scores")
    assert ended.value.code == commands.BAD_INPUT
    assert capsys.readouterr().err == "error: standard output: No space left on device\n"
    assert sys.stdout is not full  # which would be tried again at the end
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_matplotlib_is_there_whatever_backend_is_asked_for(monkeypatch):
    asked, backend = "no-backend", matplotlib.get_backend()
    with pytest.raises(ValueError, match="not a valid value"):
        matplotlib.rcParams["backend"] = asked
    monkeypatch.setenv("MPLBACKEND", asked)
    cores_of_jax._import_matplotlib()
    assert (os.environ["MPLBACKEND"], matplotlib.get_backend()) == (asked, backend)


def test_in_a_thread_no_signal_is_caught():
    def signals():
        with commands.stop_signals() as stop:
            return stop()

    with ThreadPoolExecutor() as threads:
        assert threads.submit(signals).result() is False


def test_what_the_environment_says_goes_first(jax_config, monkeypatch):
    said = {"jax_compilation_cache_dir": "/mine", "jax_num_cpu_devices": 7}
    jax_config |= said
    commands.prepare_jax(2)
    assert jax_config == said
    jax_config["jax_num_cpu_devices"] = cores_of_jax.UNSET
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    commands.prepare_jax(2)
    assert jax_config["jax_num_cpu_devices"] == cores_of_jax.UNSET


@pytest.mark.parametrize(("count", "cores"), [(6, 6), (None, 1)])
def test_where_no_core_is_assigned_all_are_taken(monkeypatch, count, cores):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert cores_of_jax._cores() == cores


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("x must be y, not z"), "error: x must be y, not z\n"),
        (FileNotFoundError(2, "No such file", "a.json"), "error: a.json: No such file\n"),
        (OSError("disk is full"), "error: standard output: disk is full\n"),
    ],
)
def test_errors_of_the_user_are_one_line(capsys, error, line):
    with pytest.raises(SystemExit) as ended, commands.one_line_errors():
        raise error
    assert ended.value.code == commands.BAD_INPUT == 2
    assert capsys.readouterr().err == line


def test_the_package_lists_its_commands_and_starts_them(monkeypatch, capsys):
    __main__.main([])
    listed = capsys.readouterr().out
    assert all(f"python -m rl3jax.{name}" in listed for name in __main__.COMMANDS)
    monkeypatch.setattr(sys, "argv", ["rl3jax", "render", "--help"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 0
    assert "python -m rl3jax.render" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        __main__.main(["trian"])
    assert ended.value.code == commands.BAD_INPUT
    assert "did you mean 'train'" in capsys.readouterr().err


def test_errors_of_ours_are_not_hidden():
    with pytest.raises(ZeroDivisionError), commands.one_line_errors():
        1 / 0  # noqa: B018


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_a_second_one_acts_as_ever(number, capfd):
    acted = []
    before = signal.signal(number, lambda *_: acted.append("as ever"))
    try:
        with commands.stop_signals() as stop:
            assert not stop()
            signal.raise_signal(number)
            assert (stop(), acted) == (True, [])
            signal.raise_signal(number)
            assert acted == ["as ever"]
        signal.raise_signal(number)
        assert acted == ["as ever", "as ever"]
    finally:
        signal.signal(number, before)
    assert capfd.readouterr().err == "\nstopping after this iteration …\n"
