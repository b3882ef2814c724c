"""The count of operations that the benchmarks' fractions rest on, and their rows."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.flops import matrix_flops
from tests import children

SCRIPT = """
from benchmarks.measure import prepare

options = {"algo": "rl2", "width": 8, "n_tasks": 16, "horizon": 5, "minibatches": 2, "epochs": 1}
print(*(prepare(options | {"devices": count}).flops for count in (1, 2)))
"""


def compiled(function, *shapes):
    return jax.jit(function).lower(*map(jnp.zeros, shapes)).compile()


def test_a_product_is_two_operations_per_term():
    assert matrix_flops(compiled(jnp.matmul, (64, 32), (32, 128))) == 2 * 64 * 32 * 128


def test_batched_products_count_for_each_of_the_batch():
    batched = jax.vmap(jnp.matmul)
    assert matrix_flops(compiled(batched, (5, 64, 32), (5, 32, 128))) == 5 * 2 * 64 * 32 * 128


def test_a_loop_counts_as_often_as_it_runs():
    def loop(w, x):
        def inner(x, _):
            return jnp.tanh(x @ w), None

        def outer(x, _):
            return jax.lax.scan(inner, x, length=3)[0], None

        return jax.lax.scan(outer, x, length=7)[0]

    assert matrix_flops(compiled(loop, (64, 64), (32, 64))) == 7 * 3 * 2 * 32 * 64 * 64


def test_a_gradient_takes_two_more_products_than_its_function():
    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ w) ** 2)

    forward = 2 * 32 * 64 * 64
    both = compiled(jax.grad(loss, argnums=(0, 1)), (64, 64), (32, 64))
    assert matrix_flops(both) == pytest.approx(3 * forward)


def test_of_a_conditional_the_dearest_branch_counts():
    def either(take, w, x):
        return jax.lax.cond(take[0] > 0, lambda: x @ w @ w, lambda: x @ w)

    assert matrix_flops(compiled(either, (1,), (64, 64), (32, 64))) == 2 * 2 * 32 * 64 * 64


ROWS = """
import jax
from benchmarks import throughput
from rl3jax import Config, make_trainer

for backend in ("cpu", "gpu"):
    jax.default_backend = lambda backend=backend: backend
    rows = throughput.all_rows()
    assert len(rows) == 25
    for options in rows.values():
        make_trainer(Config(**options, devices=1))
"""


def test_every_row_can_be_trained():
    ran = children.run("-c", ROWS)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_an_iteration_takes_as_many_operations_on_two_devices_as_on_one():
    ran = children.run("-c", SCRIPT, num_cpu_devices=2)
    assert ran.returncode == 0, ran.stderr
    one, two = map(float, ran.stdout.split())
    assert one == two > 0
