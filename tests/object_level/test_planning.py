import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.object_level import planning
from rl3jax.object_level.planning import sweep


@pytest.fixture(params=["cpu", "accelerator"])
def machine(request, monkeypatch):
    """An accelerator loops over sweeps in its own way, which CPUs run as well."""
    monkeypatch.setattr(planning, "on_cpu", lambda: request.param == "cpu")


on_every_machine = pytest.mark.usefixtures("machine")


def halve(v):
    """One state, one action: reward 1 and discount 0.5, so that q → 2."""
    return 1 + 0.5 * v[:, None]


@on_every_machine
@pytest.mark.parametrize("max_sweeps", [1, 2, 3, 10, 16, 17, 23])
def test_sweeps_are_counted(max_sweeps):
    q = sweep(halve, jnp.zeros((1, 1)), max_sweeps, tolerance=0.0)
    np.testing.assert_allclose(q, [[2 - 0.5 ** (max_sweeps - 1)]])


@on_every_machine
def test_sweeps_end_after_the_one_that_changes_less_than_the_tolerance():
    # The sweeps' changes are 1, 1/2, 1/4, 1/8, …
    for tolerance, done in ((2.0, 1), (0.5, 3), (0.51, 2), (0.25, 4), (0.2, 4), (2.0**-17, 19)):
        q = sweep(halve, jnp.zeros((1, 1)), 100, tolerance)
        np.testing.assert_allclose(q, [[2 - 0.5 ** (done - 1)]])


@on_every_machine
def test_sweeps_go_on_from_the_given_q():
    q = sweep(halve, jnp.full((1, 1), 1.75), 100, tolerance=0.2)
    np.testing.assert_allclose(q, [[1.875]])  # the first change is 1/8


def test_sweeps_are_synchronous():
    def backup(v):
        return jnp.stack([v[1], jnp.ones(())])[None, :]  # one action

    np.testing.assert_array_equal(sweep(backup, jnp.zeros((1, 2)), 1, 0.0), [[0, 1]])
    np.testing.assert_array_equal(sweep(backup, jnp.zeros((1, 2)), 2, 0.0), [[1, 1]])


def test_without_a_tolerance_there_are_as_many_sweeps_as_asked():
    for max_sweeps in (1, 2, 7):
        q = sweep(halve, jnp.full((1, 1), 2.0), max_sweeps, tolerance=None)
        np.testing.assert_array_equal(q, [[2.0]])
        q = sweep(halve, jnp.zeros((1, 1)), max_sweeps, tolerance=None)
        np.testing.assert_allclose(q, [[2 - 0.5 ** (max_sweeps - 1)]])


@on_every_machine
def test_under_vmap_every_task_ends_by_itself():
    starts = jnp.array([0.0, 3.0, 2.1])  # which takes 4, 3 and 1 sweeps
    q = jax.vmap(lambda q_0: sweep(halve, jnp.full((1, 1), q_0), 100, 0.2))(starts)
    np.testing.assert_allclose(q[:, 0, 0], [1.875, 2.125, 2.05])
