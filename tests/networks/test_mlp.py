import jax
import jax.numpy as jnp
import numpy as np
from rl3jax.networks.mlp import MarkovParams

from rl3jax.networks import Markov
from rl3jax.networks.base import Dense


def test_hand_computed_output():
    params = MarkovParams(
        first=Dense(jnp.array([[1.0, -1.0], [2.0, 1.0]]), jnp.array([0.5, 0.0])),
        second=Dense(jnp.array([[1.0, -2.0], [0.5, 1.0]]), jnp.array([0.0, 1.0])),
        head=Dense(jnp.array([[2.0], [3.0]]), jnp.array([-1.0])),
    )
    x = jnp.array([1.0, -0.25])
    # first:  [1 - 0.5 + 0.5, -1 - 0.25] -> [1, 0]; second: [1, -2 + 1] -> [1, 0]; head: 2 - 1
    carry, y = Markov(width=2).step(params, (), x)
    assert carry == ()
    np.testing.assert_allclose(y, [1.0])


def test_sizes():
    params = Markov(width=64, num_outputs=5).init(jax.random.key(0), 30)
    assert params.first.kernel.shape == (30, 64)
    assert params.second.kernel.shape == (64, 64)
    assert params.head.kernel.shape == (64, 5)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1984 + 4160 + 325
