"""Local models: neighbours, plans beside dense ones, and what each prior knows of a task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, make_env, make_trainer, object_level
from rl3jax.checks import ConfigError
from rl3jax.object_level.local_planning import LocalMdp, sweep_locally
from rl3jax.object_level.neighbourhood import Neighbourhood, neighbours_within

SIDE = 3
PLACES = np.stack(np.divmod(np.arange(SIDE**2), SIDE), axis=1)
GRID = neighbours_within(PLACES, 1.0)
S, A, K = SIDE**2, 4, 5


def scrambled(rows):
    """The same neighbours under other names of states, which shifts no longer describe."""
    order = np.random.default_rng(0).permutation(len(rows))
    names = np.argsort(order)
    return tuple(tuple(int(names[s]) for s in rows[old]) for old in order), order


# --- neighbours ---------------------------------------------------------------------------------


def test_neighbours_of_a_grid_are_those_a_step_away():
    assert len(GRID[0]) == K
    for s, row in enumerate(GRID):
        near = {n for n in range(S) if np.abs(PLACES[n] - PLACES[s]).sum() == 1}
        assert row[0] == s
        assert set(row) == near | {s}
    steps = {tuple(PLACES[GRID[4][k]] - PLACES[4]) for k in range(K)}
    assert steps == {(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)}


def test_a_displacement_is_the_same_everywhere():
    neighbourhood = Neighbourhood(GRID)
    for k in range(1, K):
        steps = {tuple(PLACES[row[k]] - PLACES[s]) for s, row in enumerate(GRID) if row[k] != s}
        assert len(steps) == 1
    moves = [[int(neighbourhood.displacement(s, n)[0]) for n in GRID[s]] for s in range(S)]
    assert all(GRID[s][k] == n for s in range(S) for n, k in zip(GRID[s], moves[s], strict=True))
    assert not neighbourhood.displacement(jnp.int32(0), jnp.int32(8))[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: object_level.local_model([[1, 0], [1, 0]], 2), "first of neighbours"),
        (lambda: object_level.local_model([[0, 2], [1, 0]], 2), r"state indices .* in \[0, 2\)"),
        (lambda: object_level.local_model([[0, 1], [1]], 2), "a row of K state indices"),
        (lambda: object_level.local_model(GRID), "num_actions"),
        (lambda: object_level.local_model(GRID, 2, "learnt"), "did you mean 'learned'"),
        (lambda: object_level.local_model(GRID, 2, num_kinds=1), "num_kinds"),
        (lambda: object_level.local_model(GRID, 2, optimism=1.0), "prior none or pooled"),
        (lambda: make_trainer(Config(env="mdp", object_level="local_model")), "no neighbours"),
        (lambda: Config(env="bandit", prior="none"), "prior is an option of"),
        (
            lambda: make_trainer(
                Config(env="gridworld", algo="rl3-coarse", object_level="local_model")
            ),
            "rl3-coarse is not for object_level local_model",
        ),
    ],
)
def test_what_is_refused_is_refused_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


# --- plans --------------------------------------------------------------------------------------


def random_mdp(rows):
    keys = jax.random.split(jax.random.key(3), 5)
    return LocalMdp(
        moves=jax.nn.softmax(2 * jax.random.normal(keys[0], (A, K, len(rows))), axis=1),
        closed=jax.random.uniform(keys[1], (len(rows),)),
        reward=jax.random.normal(keys[2], (len(rows),)),
        goes_on=jax.random.uniform(keys[3], (len(rows),)),
        live=jnp.ones(len(rows)).at[2].set(0.0),
        bonus=jax.random.normal(keys[4], (A, len(rows))),
    )


def dense_sweep(mdp, rows, q, discount):
    """The definition, a state, an action and a displacement at a time."""
    v = np.max(q, axis=0) * mdp.live
    after = np.zeros_like(q)
    for s, row in enumerate(rows):
        stays = mdp.reward[s] + discount * v[s]
        for a in range(A):
            after[a, s] = mdp.bonus[a, s]
            for k, n in enumerate(row):
                arrives = mdp.reward[n] + discount * mdp.goes_on[n] * v[n]
                w = (1 - mdp.closed[n]) * arrives + mdp.closed[n] * stays
                after[a, s] += mdp.moves[a, k, s] * w
    return after


@pytest.mark.parametrize("rows", [GRID, scrambled(GRID)[0]], ids=["shifts", "gathers"])
def test_sweeps_are_those_of_the_definition(rows):
    mdp, q = random_mdp(rows), jax.random.normal(jax.random.key(1), (A, S))
    planned = sweep_locally(mdp, Neighbourhood(rows), q, 0.9, 3)
    expected = np.asarray(q)
    for _ in range(3):
        expected = dense_sweep(jax.tree.map(np.asarray, mdp), rows, expected, 0.9)
    np.testing.assert_allclose(planned, expected, rtol=1e-4, atol=1e-5)


def test_names_of_states_do_not_matter():
    rows, order = scrambled(GRID)
    plain, other = (object_level.local_model(r, A) for r in (GRID, rows))
    table, renamed = plain.init(), other.init()
    names = np.argsort(order)
    for s, a, r, s_next in ((4, 0, -1.0, 5), (5, 1, -1.0, 5), (5, 2, 3.0, 8)):
        table = plain.update(table, s, a, r, s_next, s_next == 8)
        renamed = other.update(renamed, names[s], a, r, names[s_next], s_next == 8)
    np.testing.assert_allclose(plain.q_table(table), other.q_table(renamed)[names], atol=1e-4)


# --- priors -------------------------------------------------------------------------------------


def corridor(prior, **options):
    """A row of five states; action 0 stays, 1 goes left, 2 right."""
    rows = [[s, max(s - 1, 0), min(s + 1, 4)] for s in range(5)]
    return object_level.local_model(rows, 3, prior, **{"discount": 0.9} | options)


def play(learner, *transitions):
    columns = [jnp.asarray(column) for column in zip(*transitions, strict=True)]
    return jax.lax.scan(
        lambda table, transition: (learner.update(table, *transition), None),
        learner.init(),
        columns,
    )[0]


TO_THE_RIGHT = [(2, 2, -1.0, 3, False), (3, 2, 10.0, 4, True)]


def test_without_a_prior_only_what_was_done_is_known():
    learner = corridor("none", sweeps_per_step=20)
    q = learner.q_table(play(learner, *TO_THE_RIGHT))
    np.testing.assert_allclose(q[3], [0, 0, 10], atol=1e-5)
    np.testing.assert_allclose(q[2], [0, 0, -1 + 0.9 * 10], atol=1e-5)
    np.testing.assert_allclose(q[jnp.array([0, 1, 4])], 0, atol=1e-6)


def test_what_was_never_tried_is_worth_the_optimism():
    learner = corridor("none", sweeps_per_step=20, optimism=50.0)
    estimates = learner.estimates(play(learner, *TO_THE_RIGHT), 3)
    np.testing.assert_allclose(estimates.q_optimistic, [50, 50, 10], rtol=1e-5)


def test_pooled_actions_move_alike_everywhere():
    """Going right was tried; it is known to lead back there from states never acted in."""
    learner = corridor("pooled", sweeps_per_step=30)
    right = [(2, 2, -1.0, 3, False), (3, 1, -1.0, 2, False)] * 20
    q = learner.q_table(play(learner, *right, *TO_THE_RIGHT))
    assert int(q[1].argmax()) == 2
    assert int(q[0].argmax()) == 2
    unpooled = corridor("none", sweeps_per_step=30)
    assert float(unpooled.q_table(play(unpooled, *right, *TO_THE_RIGHT))[1].max()) == 0


def test_a_wall_is_believed_in_after_bumps_and_never_where_one_has_been():
    learner = corridor("pooled")
    moves = [(2, 2, -1.0, 3, False), (3, 1, -1.0, 2, False)] * 10
    bumps = [(2, 1, -1.0, 2, False)] * 3
    closed = learner.posterior(play(learner, *moves, *bumps)).closed
    assert closed[1] > 0.9
    assert (closed[2:4] < 1e-4).all()
    assert abs(float(closed[4]) - 0.1) < 1e-3  # nothing is known of it


def test_transitions_to_what_is_no_neighbour_overflow():
    learner = corridor("learned")
    table = play(learner, (0, 2, 1.0, 4, False))
    assert learner.overflowed(table)
    assert jnp.isnan(learner.q_table(table)).all()
    assert not learner.overflowed(play(learner, *TO_THE_RIGHT))


def test_the_table_of_a_large_gridworld_is_small():
    table = object_level.local_model(make_env("gridworld", "13x13")).init()
    assert sum(x.nbytes for x in jax.tree.leaves(table)) <= 24 * 1024


@pytest.mark.parametrize("off", ["messages", "scarcity", "second_plan"])
def test_each_part_can_be_switched_off(off):
    trainer = make_trainer(small(**{off: False}))
    state, _ = trainer.update(trainer.init(jax.random.key(0)))
    state, metrics = trainer.update(state)
    assert np.isfinite(list(metrics.to_dict().values())).all()
    if off == "second_plan":
        table = trainer.learner.bind(state.learner_params).init()
        np.testing.assert_array_equal(table.q, table.q_optimistic)


def small(**changes):
    values = {
        "env": "gridworld", "side": 5, "num_obstacle_sets": 1, "obstacle_set_len": 1,
        "num_water_sets": 1, "num_fatal": 1, "min_goal_manhat": 2, "min_optimal_return": 0.0,
        "n_tasks": 8, "minibatches": 2, "horizon": 10, "width": 4, "iterations": 2,
    }  # fmt: skip
    return Config(**values | changes)


@pytest.mark.parametrize("prior", ["none", "pooled"])
def test_other_priors_train_and_have_no_parameters(prior):
    trainer = make_trainer(small(prior=prior))
    state, metrics = trainer.update(trainer.init(jax.random.key(0)))
    assert jax.tree.leaves(state.learner_params) == []
    assert np.isfinite(list(metrics.to_dict().values())).all()


def test_evaluation_leaves_the_prior_alone_and_training_updates_it_once_an_iteration():
    trainer = make_trainer(small())
    state = trainer.init(jax.random.key(0))
    agent = trainer.agent(state)
    assert int(agent.learner_params.iterations) == 0
    after, _ = trainer.update(state)
    assert int(after.learner_params.iterations) == 1
    assert not np.allclose(after.learner_params.kinds.reward, state.learner_params.kinds.reward)
