"""What holds of every learner whose states are vectors."""

import dataclasses
import json
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import agent_files, make_env
from rl3jax.checks import ConfigError
from rl3jax.object_level import (
    OBJECT_LEVEL,
    Estimates,
    ObjectLearner,
    Prototypes,
    least_squares_value_iteration,
    linear_model,
    prototypes,
    q_learning,
    tiles,
    value_iteration,
)

A = 2
LOW, HIGH = (-1.0, 0.0), (1.0, 4.0)
SMALL = {"num_frequencies": 6, "anchors_along": 3, "steps_per_sweep": 2}
MAKERS = {
    "least_squares_value_iteration": lambda: least_squares_value_iteration(
        LOW, HIGH, A, 8, num_frequencies=6, steps_per_sweep=2, ridge_penalty=1.0
    ),
    "linear_model": lambda: linear_model(LOW, HIGH, A, **SMALL),
    "linear_model-errors": lambda: linear_model(LOW, HIGH, A, **SMALL, standard_errors=True),
    "linear_model-learned": lambda: with_params(linear_model(LOW, HIGH, A, "learned", **SMALL)),
    "linear_model-entering": lambda: with_params(
        linear_model(LOW, HIGH, A, "learned", **SMALL, paid_for="entering", reward_noise=0.5)
    ),
    "prototypes": lambda: prototypes(value_iteration(6, A, optimism=2.0), LOW, HIGH, 0.5),
    "tiles": lambda: tiles(q_learning(7, A), LOW, HIGH, (2, 3)),
}


def with_params(learner):
    return learner.bind(learner.init_params(jax.random.key(0)))


@pytest.fixture(params=list(MAKERS.values()), ids=list(MAKERS))
def learner(request):
    return request.param()


def random_transitions(length, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    s, s_next = (rng.uniform(LOW, HIGH, size=(length, 2)) for _ in range(2))
    return (
        jnp.asarray(s, dtype),
        jnp.asarray(rng.integers(A, size=length), jnp.int32),
        jnp.asarray(rng.normal(size=length), dtype),
        jnp.asarray(s_next, dtype),
        jnp.asarray(rng.random(length) < 0.2),
    )


def replay(learner, transitions):
    """The final table, and estimates after each transition."""

    def step(table, transition):
        table = learner.update(table, *transition)
        return table, learner.estimates(table, transition[3])

    return jax.lax.scan(step, learner.init(), transitions)


def test_a_learner_is_static_and_rebuilt_from_what_files_hold_of_it(learner):
    assert dataclasses.replace(learner) == learner
    assert hash(dataclasses.replace(learner)) == hash(learner)
    held = json.loads(json.dumps(agent_files._describe(learner)))
    assert agent_files._rebuild(held, ObjectLearner) == learner


def test_at_first_nothing_is_known_and_then_something_of_the_same_shape(learner):
    """Also of states outside of the box."""
    far = jnp.array([50.0, -30.0])

    @jax.jit
    def before_and_after():
        empty = learner.init()
        table = learner.update(empty, jnp.array([-7.0, 9.0]), 1, 1.0, far, True)
        return [(t, learner.estimates(t, far)) for t in (empty, table)]

    (empty, before), (table, after) = before_and_after()
    assert before.q.tolist() == [0.0] * A
    assert before.visits.tolist() == [0] * A
    chex.assert_trees_all_equal_shapes_and_dtypes((table, after), (empty, before))
    assert after.visits.dtype == jnp.int32
    assert after.q.dtype == jnp.float32
    for x in jax.tree.leaves(dataclasses.replace(after, v_stderr=None)):
        assert x.shape == (A,)
        assert np.isfinite(x).all()


def test_vmap_is_a_loop_and_jit_changes_nothing(learner):
    many = [random_transitions(8, seed) for seed in range(2)]
    batch = jax.jit(jax.vmap(lambda *columns: replay(learner, columns)))(
        *(jnp.stack(column) for column in zip(*many, strict=True))
    )
    for i, transitions in enumerate(many):
        alone = replay(learner, transitions)
        own = jax.tree.map(lambda x, i=i: x[i], batch)
        chex.assert_trees_all_close(own, alone, rtol=1e-4, atol=1e-4)


def test_double_precision_is_used_when_enabled(learner):
    with jax.enable_x64(True):
        fresh = dataclasses.replace(learner, params=())
        fresh = with_params(fresh)
        table, estimates = replay(fresh, random_transitions(2, dtype=jnp.float64))
        kinds = {leaf.dtype for leaf in jax.tree.leaves(table)}
    assert jnp.float32 not in kinds
    assert estimates.q.dtype == jnp.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear_model((0,), (1, 2), 2), "low and high must be as long"),
        (lambda: linear_model((0, 2), (1, 2), 2), r"low\[1\] must be less than high\[1\]"),
        (lambda: linear_model((0, -np.inf), (1, 2), 2), "low must be a row of finite numbers"),
        (lambda: linear_model((0,), (1,), 0), "num_actions must be at least 1"),
        (lambda: linear_model((0,), (1,), 2, "lerned"), "did you mean 'learned'"),
        (lambda: linear_model((0,), (1,), 2, length_scale=0.0), "length_scale"),
        (lambda: linear_model((0,), (1,), 2, paid_for="leving"), "did you mean 'leaving'"),
        (lambda: tiles(q_learning(4, 2), (0, 0), (1, 1), 2), "num_states of at least 5"),
        (lambda: tiles(q_learning(9, 2), (0, 0), (1, 1), (2, 2, 2)), "bins must be 2 whole"),
        (lambda: Prototypes((0,), (1,), 2, "q", 0.1), "learner must be a TabularLearner"),
        (lambda: prototypes(q_learning(9, 2), (0,), (1,), 0.0), "radius"),
        (lambda: OBJECT_LEVEL["linear_model"](make_env("bandit"), 9), "have indices"),
    ],
)
def test_what_is_refused_is_refused_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


VECTOR_LEARNERS = ["linear_model", "least_squares_value_iteration", "prototypes", "tiles"]


@pytest.mark.parametrize("name", VECTOR_LEARNERS)
def test_registered_learners_are_made_for_an_environments_scales(name):
    space = SimpleNamespace(low=-1.0, high=jnp.array([1.0, 2.0]), shape=(2,))
    learner = OBJECT_LEVEL[name](SimpleNamespace(learner_space=space, num_actions=A), 20)
    assert learner.num_actions == A
    assert isinstance(learner.estimates(learner.init(), jnp.zeros(2)), Estimates)


# --- tables on vectors --------------------------------------------------------------------------


def test_tiles_are_counted_in_c_order_and_ends_are_a_state_of_their_own():
    learner = tiles(q_learning(7, A), LOW, HIGH, (2, 3))
    table = learner.init()
    places = {(-0.5, 0.5): 0, (-0.1, 2.0): 1, (-9.0, 9.0): 2, (0.0, 0.0): 3, (1.0, 4.0): 5}
    for place, tile in places.items():
        assert learner.index(table, learner.scaled(jnp.array(place))) == tile
    table = learner.update(table, jnp.array([-0.5, 0.5]), 1, 3.0, jnp.array([1.0, 4.0]), True)
    assert learner.estimates(table, jnp.array([-0.9, 0.1])).q.tolist() == [0, 3]
    assert learner.estimates(table, jnp.array([1.0, 4.0])).visits.tolist() == [0, 0]
    table = learner.update(table, jnp.array([1.0, 4.0]), 0, 1.0, jnp.array([-0.5, 0.5]), False)
    assert learner.estimates(table, jnp.array([1.0, 4.0])).q[0] == pytest.approx(1 + 0.95 * 3)


def test_prototypes_are_where_states_were_met_first():
    learner = prototypes(q_learning(4, A), LOW, HIGH, 0.5)
    table = learner.init()
    points = [(0.0, 2.0), (0.4, 2.0), (0.6, 2.0), (0.0, 3.2), (-1.0, 0.0), (1.0, 0.0)]
    indices = []
    for place in points:
        u = learner.scaled(jnp.array(place))
        table = learner.meet(table, u)
        indices.append(int(learner.index(table, u)))
    # The fourth opens the third and last one; of the others, each is with the nearest.
    assert indices == [0, 0, 1, 2, 0, 1]
    assert table.number == 3
