"""The cores of a CPU as devices of JAX, which has to know of them before it looks for devices."""

import contextlib
import importlib
import logging
import os

import jax
from jax.extend.backend import clear_backends

from rl3jax.checks import ConfigError

UNSET = -1  # of jax_num_cpu_devices


def use_all_cores(count: int | None = None) -> None:
    """Makes each core of a CPU a device, as the commands do; trainings and evaluations share them.

    Call it first: JAX counts devices when it first needs one. Where JAX_NUM_CPU_DEVICES or
    XLA_FLAGS say how many there are, that holds, and this does nothing; nor does it on GPUs.

    Args:
        count: how many devices (default: as many as cores that this process may use).

    Raises:
        ConfigError: if JAX has looked for devices already.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.config.values["jax_num_cpu_devices"] != UNSET:
        return
    if has_looked():
        raise ConfigError(
            "use_all_cores() comes too late: JAX has looked for devices already, as it does for "
            "the first array (or when gymnax is imported before rl3jax)"
        )
    jax.config.update("jax_num_cpu_devices", count or _cores())


def has_looked() -> bool:
    """Whether JAX has looked for devices: it then takes no other number of them."""
    before = jax.config.values["jax_num_cpu_devices"]
    try:
        jax.config.update("jax_num_cpu_devices", before + 2)
    except RuntimeError:
        return True
    jax.config.update("jax_num_cpu_devices", before)
    return False


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _import_gymnax() -> None:
    """Gymnax makes an array when it is imported; JAX may look for devices anew after that."""
    looked = has_looked()
    importlib.import_module("gymnax")
    if not looked:
        clear_backends()


def _import_matplotlib() -> None:
    """Gymnax needs it, and we for figures in files; not the backend that MPLBACKEND asks for.

    Where that is not there, as a notebook's is not in all processes that the notebook starts,
    matplotlib cannot be imported. Where there is no home its cache is elsewhere, and it says so at
    length; the commands have a warning of their own.
    """
    asked, log = os.environ.pop("MPLBACKEND", None), logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    matplotlib = importlib.import_module("matplotlib")
    log.setLevel(level)
    if asked is not None:
        os.environ["MPLBACKEND"] = asked
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = asked  # as it does itself


_import_matplotlib()
_import_gymnax()
