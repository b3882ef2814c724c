"""What holds of every object-level learner, and how learners are made."""

import dataclasses
import inspect
import json
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import agent_files, object_level
from rl3jax.object_level import (
    ObjectLearner,
    abstraction,
    local_model,
    none,
    q_learning,
    value_iteration,
)

S, A = 4, 3
PLACES = [(0, 0), (0, 1), (1, 1), (0, 2)]
NEAR = [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]

MAKERS = {
    "abstraction-q_learning": lambda s, a: abstraction(q_learning(s, a), PLACES, 1.2, 2),
    "abstraction-value_iteration": lambda s, a: abstraction(
        value_iteration(s, a, known="visited", warm_start=True), PLACES, 1.2, 2
    ),
    "local_model-counts": lambda s, a: local_model(NEAR, a, "none", optimism=5.0),
    "local_model-learned": lambda s, a: local_model(NEAR, a, num_kinds=3),
    "local_model-pooled": lambda s, a: local_model(NEAR, a, "pooled", sweeps_per_step=2),
    "none": none,
    "q_learning": q_learning,
    "q_learning-constant": lambda s, a: q_learning(s, a, step_size=0.5, initial_value=2.0),
    "value_iteration": value_iteration,
    "value_iteration-one-sweep": lambda s, a: value_iteration(s, a, max_sweeps=1),
    "value_iteration-v4": lambda s, a: value_iteration(
        s, a, discount=1, smoothing=0, known="visited"
    ),
    "value_iteration-warm": lambda s, a: value_iteration(
        s, a, known="visited", warm_start=True, tolerance=0.1
    ),
    "value_iteration-slots": lambda s, a: value_iteration(
        s, a, known="visited", slots=S - 1, sweeps_per_step=2, optimism=5.0
    ),
    "value_iteration-errors": lambda s, a: value_iteration(s, a, standard_errors=True),
}


@pytest.fixture(params=list(MAKERS.values()), ids=list(MAKERS))
def learner(request):
    return request.param(S, A)


def assert_trees_close(left, right):
    chex.assert_trees_all_equal_shapes_and_dtypes(left, right)
    chex.assert_trees_all_close(left, right, rtol=1e-5, atol=1e-6)


def test_a_learner_is_static(learner):
    twin = dataclasses.replace(learner)
    assert twin == learner
    assert hash(twin) == hash(learner)
    with pytest.raises(dataclasses.FrozenInstanceError):
        learner.num_states = 5


def test_a_learner_is_rebuilt_from_what_files_hold_of_it(learner):
    held = json.loads(json.dumps(agent_files._describe(learner)))
    assert agent_files._rebuild(held, ObjectLearner) == learner


def test_shapes_and_dtypes_before_and_after_data(learner):
    empty = learner.init()
    table = learner.update(empty, 0, 1, 1.0, 2, False)
    for t in (empty, table):
        estimates = learner.estimates(t, 0)
        assert estimates.q.shape == estimates.visits.shape == (A,)
        assert estimates.q.dtype == jnp.float32
        assert estimates.visits.dtype == jnp.int32
        assert learner.q_table(t).shape == (S, A)
    chex.assert_trees_all_equal_shapes_and_dtypes(table, empty)


def test_estimates_are_rows_of_the_table(learner, replay, random_transitions):
    transitions = random_transitions(S, A, 30)
    table, _ = replay(learner, transitions)
    visits = np.zeros((S, A), int)
    np.add.at(visits, (transitions.s, transitions.a), 1)
    for s in range(S):
        estimates = learner.estimates(table, s)
        np.testing.assert_array_equal(estimates.q, learner.q_table(table)[s])
        expected = np.zeros(A) if learner == none(S, A) else visits[s]
        np.testing.assert_array_equal(estimates.visits, expected)


def test_before_any_data_estimates_are_the_initial_value(learner):
    estimates = learner.estimates(learner.init(), 0)
    assert (estimates.q == getattr(learner, "initial_value", 0.0)).all()
    assert (estimates.visits == 0).all()


def test_jit_changes_nothing(learner, replay, random_transitions):
    transitions = random_transitions(S, A, 6)
    jitted, _ = replay(learner, transitions)
    table = learner.init()
    with jax.disable_jit():
        for s, a, r, s_next, terminated in zip(*transitions, strict=True):
            table = learner.update(table, s, a, float(r), s_next, terminated)
    assert_trees_close(table, jitted)


def test_vmap_is_a_loop(learner, replay, random_transitions):
    many = [random_transitions(S, A, 20, seed) for seed in range(3)]
    batch = jax.vmap(lambda *columns: replay(learner, columns))(
        *(jnp.stack(column) for column in zip(*many, strict=True))
    )
    for i, transitions in enumerate(many):
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], batch), replay(learner, transitions))


def test_double_precision_is_used_when_enabled(learner, replay, random_transitions):
    with jax.enable_x64(True):
        table, q = replay(learner, random_transitions(S, A, 2))
        estimates = learner.estimates(table, 0)
    assert q.dtype == estimates.q.dtype == jnp.float64
    assert estimates.visits.dtype == jnp.int32
    assert all(leaf.dtype != jnp.float32 for leaf in jax.tree.leaves(table))


def test_none_keeps_nothing():
    assert jax.tree.leaves(none(S, A).init()) == []


# --- making learners ----------------------------------------------------------------------------


def test_the_package_has_the_functions_and_not_the_modules_of_one_name():
    for name in ("value_iteration", "q_learning", "none", "abstraction"):
        assert f"rl3jax.object_level.{name}" in sys.modules
        assert inspect.isfunction(getattr(object_level, name))


def test_signatures_are_the_public_ones():
    def defaults(function):
        parameters = inspect.signature(function).parameters
        return {
            name: None if p.default is inspect.Parameter.empty else p.default
            for name, p in parameters.items()
        }

    sizes = {"num_states": None, "num_actions": None}
    assert defaults(none) == sizes
    assert defaults(abstraction) == dict.fromkeys(("learner", "coordinates", "radius", "size"))
    assert defaults(q_learning) == sizes | {
        "discount": 0.95,
        "step_size": None,
        "initial_value": 0.0,
    }
    assert defaults(value_iteration) == sizes | {
        "discount": 0.95,
        "smoothing": 0.1,
        "max_sweeps": 10,
        "tolerance": 0.01,
        "known": "all",
        "warm_start": False,
        "sweeps_per_step": None,
        "slots": None,
        "standard_errors": False,
        "optimism": None,
        "mean_rewards": False,
    }


@pytest.mark.parametrize("make", [none, q_learning, value_iteration])
@pytest.mark.parametrize("sizes", [(0, 2), (2, 0), (True, 2), (2, -1)])
def test_sizes_are_whole_numbers_of_at_least_1(make, sizes):
    with pytest.raises(ValueError, match=r"num_\w+ must be (at least 1|a whole number), not"):
        make(*sizes)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            value_iteration,
            {"discount": 1.1},
            r"discount must lie in \[0, 1\], not 1.1",
        ),
        (value_iteration, {"discount": float("nan")}, "discount must be .*, not nan"),
        (value_iteration, {"smoothing": -0.1}, "smoothing must not be negative"),
        (value_iteration, {"smoothing": float("inf")}, "smoothing must be .*, not inf"),
        (value_iteration, {"max_sweeps": 0}, "max_sweeps must be at least 1"),
        (value_iteration, {"tolerance": -1.0}, "tolerance must not be negative"),
        (value_iteration, {"known": "al"}, "unknown known 'al'; did you mean 'all'"),
        (value_iteration, {"slots": 0}, "slots must be at least 1, not 0"),
        (value_iteration, {"optimism": float("nan")}, "optimism must be finite, not nan"),
        (value_iteration, {"sweeps_per_step": 0}, "sweeps_per_step must be at least 1, not 0"),
        (
            value_iteration,
            {"sweeps_per_step": 2, "discount": 1},
            "sweeps_per_step needs a discount below 1",
        ),
        (q_learning, {"discount": -0.5}, r"discount must lie in \[0, 1\], not -0.5"),
        (q_learning, {"discount": 1.1}, r"discount must lie in \[0, 1\], not 1.1"),
        (q_learning, {"step_size": 2.0}, r"step_size must lie in \(0, 1\], not 2.0"),
        (q_learning, {"step_size": 0.0}, r"step_size must lie in \(0, 1\], not 0.0"),
        (q_learning, {"initial_value": float("inf")}, "initial_value must be finite, not inf"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(make, options, message):
    with pytest.raises(ValueError, match=message) as error:
        make(2, 2, **options)
    assert "\n" not in str(error.value)
