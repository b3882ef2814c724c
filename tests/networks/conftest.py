import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture
def make_params():
    """Weights none of which is at a special value, such as a bias of zero."""

    def make(network, num_inputs):
        rng = np.random.default_rng(1)
        shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), num_inputs))
        return jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes
        )

    return make
