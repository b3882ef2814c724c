"""`use_all_cores`, in processes of their own: JAX counts devices once."""

import os
import subprocess
import sys

import pytest


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
    code = f"import jax, rl3jax\n{lines}"
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.stdout.startswith(printed), result.stderr


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
