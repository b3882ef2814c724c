import jax
import jax.numpy as jnp
import numpy as np

from rl3jax.networks import Markov
from rl3jax.policy import Network, PlainHead


def layer(kernel, bias):
    return {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}


def test_hand_computed_output():
    memory = {
        "Dense_0": layer([[1.0, -1.0], [2.0, 1.0]], [0.5, 0.0]),
        "Dense_1": layer([[1.0, -2.0], [0.5, 1.0]], [0.0, 1.0]),
    }
    head = {"Dense_0": layer([[2.0], [3.0]], [-1.0])}
    params = {"memory": {"params": memory}, "head": {"params": head}}
    x = jnp.array([1.0, -0.25])
    # first:  [1 - 0.5 + 0.5, -1 - 0.25] -> [1, 0]; second: [1, -2 + 1] -> [1, 0]; head: 2 - 1
    carry, y = Network(Markov(width=2), PlainHead(1)).step(params, (), x)
    assert carry == ()
    np.testing.assert_allclose(y, [1.0])


def test_sizes():
    network = Network(Markov(width=64), PlainHead(5))
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), 30))
    assert jax.tree.leaves(params["head"])[1].shape == (64, 5)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 1984 + 4160 + 325
