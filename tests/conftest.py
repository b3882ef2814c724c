"""What every test runs under: strict JAX, checked shapes, no display, reproducible examples."""

import atexit
import contextlib
import ctypes
import gc
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

# In the environment, so that commands which a test starts as subprocesses are as strict.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_DEBUG_KEY_REUSE"] = "1"
os.environ["JAX_NUM_CPU_DEVICES"] = "1"  # commands take all cores: other rounding on each machine
os.environ["MPLBACKEND"] = "Agg"
# Compiling dominates the tests' time. What a process has compiled, of the workers and of those that
# tests start, none compiles again; nothing is kept of other runs, unless a folder is given.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Without optimisation it takes a fraction, and half of that by XLA's older emitters of loops, which
# jax 0.11 has no more.
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_optimization_level=0",
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_cpu_use_fusion_emitters=false" if version("jax").startswith("0.10.") else "",
    )
)
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # xdist workers share a GPU

import hypothesis
import jax
import jaxtyping
import matplotlib
import pytest

# Once more for this process: a pytest plugin may have imported these before the lines above.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
matplotlib.use("Agg")

# Freed memory is the system's again, in each of malloc's arenas, so that the process grows by what
# is in use (tests/test_memory.py). Where malloc has no such settings nothing is measured.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 2**17)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**20)

# Every annotation of a function in rl3jax, shapes included, is checked when it is called. Not those
# of dataclasses' own __init__: JAX rebuilds pytrees with leaves of any kind, and the config says
# itself what a value of a wrong type should have been.
# The hook must be in place before rl3jax is first imported.
jaxtyping._decorator.dataclasses = SimpleNamespace(is_dataclass=lambda _: False)
INT_IS_A_FLOAT = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook("rl3jax", INT_IS_A_FLOAT)

hypothesis.settings.register_profile("rl3jax", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("rl3jax")


MOST_MEMORY_MAPS = 10_000
"""Of the 65 530 that Linux gives a process. Each compiled program holds some, and with those of all
tests the process would crash."""


def pytest_collection_finish():
    """What is imported is no garbage, and to look for some that often takes a fifth of the time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def programs_are_let_go():
    """Those of earlier modules spare later ones some compiling, until they are too many."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > MOST_MEMORY_MAPS:
        jax.clear_caches()
