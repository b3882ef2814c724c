"""The causal transformer that RL³ was published with.

A decoder layer is written once, for any way to attend to the past. Training feeds it a whole
meta-episode, which attends to itself. Acting feeds it one embedding, which attends to a cache of
the keys and values of earlier ones, at a cost that grows with the steps so far.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rl3jax.checks import ConfigError, check_size
from rl3jax.devices import has_flash_attention, on_cpu
from rl3jax.networks.base import Memory
from rl3jax.networks.layers import (
    Dense,
    LayerNorm,
    dense,
    init_dense,
    init_layer_norm,
    layer_norm,
)
from rl3jax.ranges import Layers, Size

SHORTEST_PREFIX = 256
"""Steps in the shortest of a cache's copies; every further one is twice as long."""


class Attention(NamedTuple):
    """Weights of a self-attention, each `[width, width]`."""

    query: Dense
    key: Dense
    value: Dense
    output: Dense


class DecoderLayer(NamedTuple):
    """Weights of a post-norm decoder layer."""

    attention: Attention
    attention_norm: LayerNorm
    expand: Dense  # [width, 4 width]
    contract: Dense  # [4 width, width]
    feed_forward_norm: LayerNorm


class TransformerWeights(NamedTuple):
    """Weights of a `Transformer`, in the order of use."""

    expand: Dense  # [num_inputs, 4 width]
    contract: Dense  # [4 width, width]
    norm: LayerNorm
    positions: Array  # [horizon + 1, width]
    layers: tuple[DecoderLayer, ...]


class Prefix(NamedTuple):
    """Keys and values of the first steps, `[heads, head_dim, steps]`; zeros where not yet known.

    With steps behind, products read long rows.
    """

    keys: Array
    values: Array


LayerCache = tuple[Prefix, ...]
"""One decoder layer's keys and values: copies of ever longer prefixes, the last one of all steps.

Twice the memory at most; but a product over part of an array would have to copy that part, and a
product over many arrays is slower than over one.
"""


class Cache(NamedTuple):
    """Carry while the whole meta-episode is in sight: what attention needs of earlier steps."""

    layers: tuple[LayerCache, ...]
    t: Int[Array, ""]  # int32, steps taken so far


class Window(NamedTuple):
    """Carry of a meta-episode longer than the trained horizon: all embeddings so far.

    Cached keys would not do: they have attended to observations that the window drops.
    """

    embeddings: Array  # [horizon, width], before positions are added; zeros where not yet known
    t: Int[Array, ""]  # int32, steps taken so far


class Transformer(Memory):
    """Two dense relu layers and a layer norm, positions, post-norm decoder layers and a relu.

    The network of RL³ (Bhatia et al.), in the order of its released program, which adds the
    positions after the norm.

    Attributes:
        width: size of the embeddings, d; a multiple of `heads`.
        layers: number of decoder layers.
        heads: attention heads of each layer.
        horizon: steps of the meta-episodes it is trained on; there are `horizon + 1` positions.

    Raises:
        ValueError: a size is not a positive integer, or `heads` does not divide `width`.
    """

    width: Size = 64
    layers: Layers = 2
    heads: Size = 4
    horizon: Size = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(
                f"width must be a multiple of heads ({self.heads}) in a transformer, "
                f"got {self.width}"
            )

    @property
    def rows_at_a_time(self) -> int:
        """Rows (steps × meta-episodes) that it is best trained on together."""
        return 400 if on_cpu() else 65_536

    def initial_carry(self, horizon: int, num_inputs: int) -> Cache | Window:
        """The carry for `horizon` steps: a `Window` if that is beyond the trained horizon.

        Raises:
            ValueError: `horizon` is not a positive integer.
        """
        del num_inputs
        check_size("horizon", horizon)
        if horizon > self.horizon:
            return Window(jnp.zeros((horizon, self.width)), jnp.int32(0))

        def blank(steps: int) -> Array:
            return jnp.zeros((self.heads, self.width // self.heads, steps))

        layer = tuple(Prefix(blank(n), blank(n)) for n in prefix_lengths(horizon))
        return Cache((layer,) * self.layers, jnp.int32(0))

    def __call__(
        self, carry: Cache | Window, x: Float[Array, " D"]
    ) -> tuple[Cache | Window, Float[Array, " d"]]:
        """Takes in one observation, the t-th, and gives the features for it, in O(t).

        With a `Window` carry it recomputes the last observations, in O(trained horizon²).
        """
        weights = self._weights(x.shape[-1])
        embedding = _embed(weights, x[None])
        if isinstance(carry, Window):
            return self._step_in_window(weights, carry, embedding)
        x, caches = _with_positions(weights, embedding, carry.t), []
        for layer, cache in zip(weights.layers, carry.layers, strict=True):
            query, keys, values = _in_heads(layer.attention, x, self.heads)
            cache = _remember(cache, carry.t, keys, values)
            caches.append(cache)
            x = _decode(layer, x, _mix_past(query, cache, carry.t))
        return Cache(tuple(caches), carry.t + 1), jax.nn.relu(x[0])

    def unroll(self, xs: Float[Array, "T *batch D"]) -> Float[Array, "T *batch d"]:
        """Gives the features at every step of meta-episodes.

        Raises:
            ValueError: the meta-episodes are longer than the trained horizon.
        """
        num_steps, *batch, num_inputs = xs.shape
        if num_steps > self.horizon:
            raise ValueError(
                f"T must be at most the trained horizon {self.horizon}, got {num_steps}"
            )
        weights = self._weights(num_inputs)

        def unroll_one(xs: Float[Array, "T D"]) -> Float[Array, "T d"]:
            return self._read(weights, _embed(weights, xs))

        episodes = xs.reshape(num_steps, -1, num_inputs)
        features = jax.vmap(unroll_one, in_axes=1, out_axes=1)(episodes)
        return features.reshape(num_steps, *batch, self.width)

    @nn.compact
    def _weights(self, num_inputs: int) -> TransformerWeights:
        return self.param("weights", self._init_weights, num_inputs)

    def _init_weights(self, key: PRNGKeyArray, num_inputs: int) -> TransformerWeights:
        """Draws Glorot-uniform dense layers and N(0, 0.01²) positions; the key is consumed."""
        expand_key, contract_key, positions_key, layers_key = jax.random.split(key, 4)
        positions_shape = (self.horizon + 1, self.width)
        return TransformerWeights(
            expand=init_dense(expand_key, num_inputs, 4 * self.width),
            contract=init_dense(contract_key, 4 * self.width, self.width),
            norm=init_layer_norm(self.width),
            positions=0.01 * jax.random.normal(positions_key, positions_shape),
            layers=tuple(
                _init_layer(layer_key, self.width)
                for layer_key in jax.random.split(layers_key, self.layers)
            ),
        )

    def _read(
        self, weights: TransformerWeights, embeddings: Float[Array, "T d"]
    ) -> Float[Array, "T d"]:
        """The features at every step of a sequence that nothing comes before."""
        x = _with_positions(weights, embeddings, jnp.int32(0))
        for layer in weights.layers:
            x = _decode(layer, x, _mix_causally(*_in_heads(layer.attention, x, self.heads)))
        return jax.nn.relu(x)

    def _step_in_window(
        self, weights: TransformerWeights, carry: Window, embedding: Float[Array, "1 d"]
    ) -> tuple[Window, Float[Array, " d"]]:
        embeddings = jax.lax.dynamic_update_slice_in_dim(carry.embeddings, embedding, carry.t, 0)
        start = window_start(carry.t + 1, len(embeddings), self.horizon)
        # What lies behind the newest observation is still blank, and causality hides it.
        window = jax.lax.dynamic_slice_in_dim(embeddings, start, self.horizon)
        return Window(embeddings, carry.t + 1), self._read(weights, window)[carry.t - start]


def window_start(
    num_observations: Int[Array, "*batch"], horizon: int, trained_horizon: int
) -> Int[Array, "*batch"]:
    """Returns the first step that is in sight once there are `num_observations`.

    Nothing is dropped until half the trained horizon is in sight; then the window moves on with
    that length until its start is the last `trained_horizon` steps', where it stays. RL³ (Bhatia
    et al., v4), appendix B.1: trained at 500 and tested at 1000 steps, the context is 250 up to
    step 750, from where it grows to 500.

    Args:
        num_observations: how many observations there are, the newest one included.
        horizon: steps of the meta-episode.
        trained_horizon: steps of the meta-episodes in training, fewer.
    """
    context = max(1, trained_horizon // 2)
    return jnp.clip(num_observations - context, 0, horizon - trained_horizon)


def _init_layer(key: PRNGKeyArray, width: int) -> DecoderLayer:
    query_key, key_key, value_key, output_key, expand_key, contract_key = jax.random.split(key, 6)
    return DecoderLayer(
        attention=Attention(
            query=init_dense(query_key, width, width),
            key=init_dense(key_key, width, width),
            value=init_dense(value_key, width, width),
            output=init_dense(output_key, width, width),
        ),
        attention_norm=init_layer_norm(width),
        expand=init_dense(expand_key, width, 4 * width),
        contract=init_dense(contract_key, 4 * width, width),
        feed_forward_norm=init_layer_norm(width),
    )


def _embed(weights: TransformerWeights, xs: Float[Array, "T D"]) -> Float[Array, "T d"]:
    """Observations as embeddings, each for itself; positions are not in them yet."""
    hidden = jax.nn.relu(dense(weights.expand, xs))
    return layer_norm(weights.norm, jax.nn.relu(dense(weights.contract, hidden)))


def _with_positions(
    weights: TransformerWeights, embeddings: Float[Array, "T d"], first: Int[Array, ""]
) -> Float[Array, "T d"]:
    """Embeddings of steps from `first` on, with their positions."""
    positions = jax.lax.dynamic_slice_in_dim(weights.positions, first, len(embeddings))
    return embeddings + positions


def _in_heads(
    attention: Attention, x: Float[Array, "T d"], heads: int
) -> list[Float[Array, "heads T head_dim"]]:
    """Queries, scaled, keys and values of every step."""
    layers = (attention.query, attention.key, attention.value)
    query, keys, values = (
        dense(layer, x).reshape(len(x), heads, -1).swapaxes(0, 1) for layer in layers
    )
    return [query / math.sqrt(query.shape[-1]), keys, values]


def _decode(
    layer: DecoderLayer, x: Float[Array, "T d"], mixed: Float[Array, "heads T head_dim"]
) -> Float[Array, "T d"]:
    """A layer's results from its inputs and what its attention has mixed for each of them."""
    attended = dense(layer.attention.output, mixed.swapaxes(0, 1).reshape(x.shape))
    x = layer_norm(layer.attention_norm, x + attended)
    fed_forward = dense(layer.contract, jax.nn.gelu(dense(layer.expand, x)))
    return layer_norm(layer.feed_forward_norm, x + fed_forward)


def _mix_causally(
    query: Float[Array, "heads T head_dim"],
    keys: Float[Array, "heads T head_dim"],
    values: Float[Array, "heads T head_dim"],
) -> Float[Array, "heads T head_dim"]:
    """For every step the mean of values up to it, weighted by how their keys match its query."""
    if query.dtype == jnp.float32 and query.shape[-1] % 8 == 0 and has_flash_attention():
        return _mix_causally_fused(query, keys, values, "cudnn")
    steps = jnp.arange(query.shape[1])
    visible = steps[None, None, :] <= steps[None, :, None]
    scores = jnp.where(visible, query @ keys.swapaxes(1, 2), -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ values


def _mix_causally_fused(
    query: Float[Array, "heads T head_dim"],
    keys: Float[Array, "heads T head_dim"],
    values: Float[Array, "heads T head_dim"],
    implementation: Literal["cudnn", "xla"],
) -> Float[Array, "heads T head_dim"]:
    """`_mix_causally` in bfloat16, with weights that are never in memory as a whole."""
    in_time_order = (x.swapaxes(0, 1).astype(jnp.bfloat16) for x in (query, keys, values))
    mixed = jax.nn.dot_product_attention(
        *in_time_order, scale=1.0, is_causal=True, implementation=implementation
    )
    return mixed.swapaxes(0, 1).astype(query.dtype)


# --- acting: a query against the cache ----------------------------------------------------------


def prefix_lengths(horizon: int) -> tuple[int, ...]:
    """Steps in each copy of a cache for `horizon` steps."""
    lengths: list[int] = []
    while SHORTEST_PREFIX * 2 ** len(lengths) < horizon:
        lengths.append(SHORTEST_PREFIX * 2 ** len(lengths))
    return (*lengths, horizon)


def _remember(
    cache: LayerCache,
    t: Int[Array, ""],
    keys: Float[Array, "heads 1 head_dim"],
    values: Float[Array, "heads 1 head_dim"],
) -> LayerCache:
    """The cache with the keys and values of step `t`, in every copy that is long enough."""

    def put(cached: Array, new: Array) -> Array:
        return cached.at[:, :, t].set(new[:, 0], mode="drop")

    return tuple(Prefix(put(prefix.keys, keys), put(prefix.values, values)) for prefix in cache)


@custom_vmap
def _mix_past(
    query: Float[Array, "*B heads 1 head_dim"], cache: LayerCache, t: Int[Array, "*B"]
) -> Float[Array, "*B heads 1 head_dim"]:
    """`_mix_causally` for step `t`, of the values in the cache.

    Reads the shortest copy that holds all steps so far, and no other: O(t). In a batch of tasks,
    which are all at about the same step, those of the task that is furthest.
    """
    lengths = jnp.array([prefix.keys.shape[-1] for prefix in cache])
    shortest = jnp.searchsorted(lengths, jnp.max(t) + 1)

    def mix_in(prefix: Prefix) -> Callable[[], Array]:
        return lambda: _mix_prefix(query, prefix, t)

    return jax.lax.switch(shortest, [mix_in(prefix) for prefix in cache])


@_mix_past.def_vmap
def _mix_past_in_every_task(n_tasks: int, batched: list[Any], *args: Any) -> tuple[Array, bool]:
    """All tasks at once: plain `vmap` of a switch computes every branch."""

    def in_front(is_batched: bool, x: Array) -> Array:
        return x if is_batched else jnp.broadcast_to(x[None], (n_tasks, *x.shape))

    return _mix_past(*jax.tree.map(in_front, tuple(batched), args)), True


def _mix_prefix(
    query: Float[Array, "*B heads 1 head_dim"], prefix: Prefix, t: Int[Array, "*B"]
) -> Float[Array, "*B heads 1 head_dim"]:
    """The mean of values up to step `t`, weighted by how their keys match the query."""
    steps = jnp.arange(prefix.keys.shape[-1]).reshape((1,) * (query.ndim - 1) + (-1,))
    visible = steps <= t[..., None, None, None]
    scores = jnp.where(visible, query @ prefix.keys, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ prefix.values.swapaxes(-1, -2)
