"""The optimum where states are vectors: plans on grids, and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import baselines, make_env
from rl3jax.baselines.grid_plan import Outcome, StateGrid
from rl3jax.baselines.known_physics import COORDINATES, KnownPhysicsAgent, OptimalPhysics
from rl3jax.rollout import rollout


def test_a_plan_on_a_line_by_hand():
    """A step costs 1 and leads a half to either side; 4 ends it; between places are means."""
    grid = StateGrid((0.0,), (4.0,), (5,))

    def outcomes(x):
        entered = x[None] + jnp.array([[-0.5], [0.5]])
        return Outcome(entered, jnp.array([-1.0, -1.0]), entered[:, 0] >= 4)

    values = grid.plan(outcomes, 40)
    # V(3) = −1 + (V(3) + V(4)) / 2, and so on: each place is worth 2 less than the next.
    np.testing.assert_allclose(values, [-9, -7, -5, -3, -1], rtol=1e-4)
    np.testing.assert_allclose(grid.interpolate(values, jnp.array([[2.5], [9.0]])), [-4, -1])


@pytest.mark.parametrize(
    ("name", "options", "low", "high"),
    [
        ("pendulum", {"variation": "sign", "bins": 3}, -600, 0),
        ("mountain-car", {"force_low": 0.00099, "force_high": 0.00101,
                          "gravity_low": 0.00249, "gravity_high": 0.00251}, -125, -83),
        ("cartpole", {"variation": "sign"}, 200, 200),
        ("point-robot", {}, 92, 95),
    ],
)  # fmt: skip
def test_it_pays_what_the_plan_promises(name, options, low, high):
    """And is in the range of the best that is known, as of the usual mountain car."""
    env = make_env(name, **options)
    assert "optimal" in baselines.names(env, env.task_horizon)

    def play(key):
        key_task, key_episode = jax.random.split(key)
        task = env.sample_task(key_task)
        agent = OptimalPhysics(env)(task)
        promised = jnp.zeros(())
        if isinstance(agent, KnownPhysicsAgent):
            _, state = env.reset(jax.random.split(key_episode)[0], task)
            coordinates = jnp.asarray(COORDINATES[type(env.inner)].of(state.vector))
            grid = COORDINATES[type(env.inner)].grid
            promised = grid.interpolate(agent.values, coordinates)
        return rollout(agent, env, task, env.task_horizon, key_episode).reward.sum(), promised

    with jax.debug_key_reuse(False):  # the start is looked at, and then played from
        returns, promised = map(
            np.asarray, jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), 6))
        )
    assert (low <= returns).all()
    assert (returns <= high).all()
    if promised.any():
        np.testing.assert_allclose(returns, promised, atol=8)


def test_where_there_is_none():
    for name, options in (("acrobot", {}), ("point-robot", {"bins": 3})):
        assert "optimal" not in baselines.names(make_env(name, **options), 100)
