"""Importing this gives JAX a device for each core of a CPU; to be imported before rl3jax.

JAX takes the setting only before its first operation, and the import of rl3jax and of what it needs
is one.
"""

import os

import jax

CORES = os.cpu_count() or 1
jax.config.update("jax_num_cpu_devices", CORES)
