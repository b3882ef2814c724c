"""Checkpoints of any pytree, agents of any parts: save → load → save is the same, bit for bit."""

import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl3jax import load_agent, save_agent
from rl3jax.runs.checkpoint import read_manifest, restore_checkpoint, save_checkpoint
from tests.fuzz.files import abstract_agent

DTYPES = ("float32", "float16", "bfloat16", "int32", "int8", "uint8", "uint32", "bool")

shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def arrays(draw: st.DrawFn) -> jax.Array:
    """Any bits of any type; of an empty shape, of none, or of a few dimensions."""
    dtype, shape = jnp.dtype(draw(st.sampled_from(DTYPES))), draw(shapes)
    rng = np.random.default_rng(draw(seeds))
    bits = rng.integers(0, 256, size=(*shape, dtype.itemsize), dtype=np.uint8)
    if dtype.kind == "b":
        bits = bits % 2
    return jnp.asarray(bits.view(dtype).reshape(shape))


@st.composite
def keys(draw: st.DrawFn) -> jax.Array:
    """Typed keys: one, or a row of them."""
    key = jax.random.key(draw(seeds))
    count = draw(st.integers(0, 3))
    return jax.random.split(key, count) if count else key


names = st.text(st.sampled_from("abc_1é"), min_size=1, max_size=4)
trees: st.SearchStrategy[Any] = st.recursive(
    arrays() | keys(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.lists(inner, min_size=1, max_size=3).map(tuple)
        | st.dictionaries(names, inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


def bits(leaf):
    """Type, shape and every bit, so that NaN equals itself."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    data = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
    return str(leaf.dtype), leaf.shape, data.tobytes()


def check_checkpoint(tree, iteration=3):
    """Saved, restored and saved again."""
    with tempfile.TemporaryDirectory() as name:
        first = save_checkpoint(Path(name) / "a", iteration, tree, {"note": 1})
        restored = restore_checkpoint(first, jax.eval_shape(lambda: tree))
        second = save_checkpoint(Path(name) / "b", iteration, restored, {"note": 1})
        again = restore_checkpoint(second, jax.eval_shape(lambda: tree))
        manifests = [read_manifest(path) for path in (first, second)]
    for loaded in (restored, again):
        assert jax.tree.structure(loaded) == jax.tree.structure(tree)
        assert list(map(bits, jax.tree.leaves(loaded))) == list(map(bits, jax.tree.leaves(tree)))
    first_arrays, second_arrays = (manifest["arrays"] for manifest in manifests)
    assert first_arrays == second_arrays


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(trees)
def test_any_tree_is_restored_bit_for_bit(tree):
    check_checkpoint(tree)


PARTS: list[dict[str, Any]] = [
    {"env": "bandit", "network": "gru", "algo": "rl2"},
    {"env": "bandit", "network": "lstm"},
    {"env": "bandit", "network": "mingru"},
    {"env": "bandit", "network": "s5"},
    {"env": "mdp", "network": "transformer", "standard_errors": True, "value_scale": 0.1},
    {"env": "mdp", "network": "markov", "object_level": "q_learning", "step_size": 1 / 3},
    {"env": "gridworld", "network": "gru", "algo": "rl3-coarse", "cluster_radius": 2.7},
    {"env": "bandit", "shown": "estimates", "optimism": 0.1, "planning_discount": 0.7},
]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "-".join(map(str, parts.values())))
def test_an_agent_saved_again_is_the_same_file(tmp_path, parts):
    agent = abstract_agent(**parts)

    @settings(max_examples=3)
    @given(seeds)
    def check(seed):
        rng = np.random.default_rng(seed)
        params = jax.tree.map(
            lambda x: jnp.asarray(
                rng.normal(size=x.shape) * 10.0 ** rng.integers(-30, 30), x.dtype
            ),
            agent.params,
        )
        save_agent(tmp_path / "a", agent.replace(params=params, greedy=bool(seed % 2)))
        loaded = load_agent(tmp_path / "a")
        save_agent(tmp_path / "b", loaded)
        first, second = ((tmp_path / name / "agent.npz").read_bytes() for name in "ab")
        assert first == second
        assert list(map(bits, jax.tree.leaves(loaded.params))) == list(
            map(bits, jax.tree.leaves(params))
        )
        assert json.dumps(loaded.greedy) == json.dumps(bool(seed % 2))

    check()
