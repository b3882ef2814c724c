"""`use_all_cores`, in processes of their own: JAX counts devices once."""

import os
import subprocess
import sys

import pytest

from tests import children

UNSET = -1


@pytest.mark.parametrize(
    ("lines", "printed"),
    [
        ("rl3jax.use_all_cores(3); print(jax.device_count())", "3"),
        ("rl3jax.use_all_cores(); print(jax.device_count())", str(len(os.sched_getaffinity(0)))),
        (
            "jax.numpy.ones(1)\ntry: rl3jax.use_all_cores()\n"
            "except rl3jax.ConfigError as error: print(error)",
            "use_all_cores() comes too late: JAX has looked for devices already",
        ),
    ],
    ids=["as many as given", "all cores", "too late"],
)
def test_cores_become_devices_unless_jax_has_counted_them(lines, printed):
    ran = children.run("-c", f"import jax, rl3jax\n{lines}", num_cpu_devices=UNSET)
    assert ran.stdout.startswith(printed), ran.stderr


def test_what_the_environment_says_of_devices_holds():
    code = (
        "import sys, jax, rl3jax; rl3jax.use_all_cores(3); print(jax.device_count())\n"
        "assert not {'distrax', 'tensorflow_probability'} & sys.modules.keys()"  # which take long
    )
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.stdout == "2\n", result.stderr
