"""The causal transformer that RL³ was published with.

The decoder reads new embeddings against a cache of the keys and values of earlier ones. Acting
feeds it one embedding and a running cache; training feeds it a whole meta-episode and an empty one.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rl3jax.checks import check_size
from rl3jax.networks.base import (
    Dense,
    LayerNorm,
    Network,
    dense,
    init_dense,
    init_layer_norm,
    layer_norm,
    on_cpu,
)


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


class TransformerParams(NamedTuple):
    """Weights of a `Transformer` network, in the order of use."""

    expand: Dense  # [num_inputs, 4 width]
    contract: Dense  # [4 width, width]
    norm: LayerNorm
    positions: Array  # [horizon + 1, width]
    layers: tuple[DecoderLayer, ...]
    head: Dense  # [width, num_outputs]


class LayerCache(NamedTuple):
    """One decoder layer's keys and values, `[heads, horizon, head_dim]`; zeros where not yet known.

    With heads in front, an attention's products need no transposition.
    """

    keys: Array
    values: Array


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transformer(Network):
    """Two dense relu layers and a layer norm, positions, post-norm decoder layers and a dense head.

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

    width: int = 64
    layers: int = 2
    heads: int = 4
    horizon: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads ({self.heads}) in a transformer, "
                f"got {self.width}"
            )

    @property
    def rows_at_a_time(self) -> int:
        """Rows (steps × meta-episodes) that it is best trained on together."""
        return 400 if on_cpu() else 65_536

    def init(self, key: PRNGKeyArray, num_inputs: int) -> TransformerParams:
        """Draws Glorot-uniform dense layers and N(0, 0.01²) positions; the key is consumed.

        Raises:
            ValueError: `num_inputs` is not a positive integer.
        """
        check_size("num_inputs", num_inputs)
        expand_key, contract_key, positions_key, layers_key, head_key = jax.random.split(key, 5)
        positions_shape = (self.horizon + 1, self.width)
        return TransformerParams(
            expand=init_dense(expand_key, num_inputs, 4 * self.width),
            contract=init_dense(contract_key, 4 * self.width, self.width),
            norm=init_layer_norm(self.width),
            positions=0.01 * jax.random.normal(positions_key, positions_shape),
            layers=tuple(
                _init_layer(layer_key, self.width)
                for layer_key in jax.random.split(layers_key, self.layers)
            ),
            head=init_dense(head_key, self.width, self.num_outputs),
        )

    def initial_carry(self, horizon: int) -> Cache | Window:
        """Returns the carry for `horizon` steps: a `Window` if that is beyond the trained horizon.

        Raises:
            ValueError: `horizon` is not a positive integer.
        """
        check_size("horizon", horizon)
        if horizon > self.horizon:
            return Window(jnp.zeros((horizon, self.width)), jnp.int32(0))
        return self._empty_cache(horizon)

    def step(
        self, params: TransformerParams, carry: Cache | Window, x: Float[Array, " D"]
    ) -> tuple[Cache | Window, Float[Array, " num_outputs"]]:
        """Takes in one observation and gives the outputs for it, in O(horizon).

        With a `Window` carry it recomputes the last observations, in O(trained horizon²).
        """
        embedding = _embed(params, x[None])
        if isinstance(carry, Window):
            return self._step_in_window(params, carry, embedding)
        cache, ys = _decode(params, carry, embedding)
        return cache, ys[0]

    def unroll(
        self, params: TransformerParams, xs: Float[Array, "T *batch D"]
    ) -> Float[Array, "T *batch num_outputs"]:
        """Gives the outputs at every step of meta-episodes.

        Raises:
            ValueError: the meta-episodes are longer than the trained horizon.
        """
        num_steps, *batch, num_inputs = xs.shape
        if num_steps > self.horizon:
            raise ValueError(
                f"T must be at most the trained horizon {self.horizon}, got {num_steps}"
            )

        def unroll_one(xs: Float[Array, "T D"]) -> Float[Array, "T num_outputs"]:
            _, ys = _decode(params, self._empty_cache(num_steps), _embed(params, xs))
            return ys

        episodes = xs.reshape(num_steps, -1, num_inputs)
        ys = jax.vmap(unroll_one, in_axes=1, out_axes=1)(episodes)
        return ys.reshape(num_steps, *batch, self.num_outputs)

    def _empty_cache(self, horizon: int) -> Cache:
        blank = jnp.zeros((self.heads, horizon, self.width // self.heads))
        return Cache((LayerCache(blank, blank),) * self.layers, jnp.int32(0))

    def _step_in_window(
        self, params: TransformerParams, carry: Window, embedding: Float[Array, "1 d"]
    ) -> tuple[Window, Float[Array, " num_outputs"]]:
        embeddings = jax.lax.dynamic_update_slice_in_dim(carry.embeddings, embedding, carry.t, 0)
        start = window_start(carry.t + 1, len(embeddings), self.horizon)
        # What lies behind the newest observation is still blank, and causality hides it.
        window = jax.lax.dynamic_slice_in_dim(embeddings, start, self.horizon)
        _, ys = _decode(params, self._empty_cache(self.horizon), window)
        return Window(embeddings, carry.t + 1), ys[carry.t - start]


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


def _embed(params: TransformerParams, xs: Float[Array, "T D"]) -> Float[Array, "T d"]:
    """Observations as embeddings, each for itself; positions are not in them yet."""
    hidden = jax.nn.relu(dense(params.expand, xs))
    return layer_norm(params.norm, jax.nn.relu(dense(params.contract, hidden)))


def _decode(
    params: TransformerParams, cache: Cache, embeddings: Float[Array, "T d"]
) -> tuple[Cache, Float[Array, "T num_outputs"]]:
    """Reads T more embeddings into the cache and gives the outputs for them."""
    num_new, num_slots = len(embeddings), cache.layers[0].keys.shape[1]
    steps = cache.t + jnp.arange(num_new)
    visible = jnp.arange(num_slots)[None, :] <= steps[:, None]

    x = embeddings + jax.lax.dynamic_slice_in_dim(params.positions, cache.t, num_new)
    layer_caches = []
    for layer, layer_cache in zip(params.layers, cache.layers, strict=True):
        layer_cache, attended = _attend(layer.attention, layer_cache, cache.t, visible, x)
        x = layer_norm(layer.attention_norm, x + attended)
        fed_forward = dense(layer.contract, jax.nn.gelu(dense(layer.expand, x)))
        x = layer_norm(layer.feed_forward_norm, x + fed_forward)
        layer_caches.append(layer_cache)
    return Cache(tuple(layer_caches), cache.t + num_new), dense(params.head, jax.nn.relu(x))


def _attend(
    attention: Attention,
    cache: LayerCache,
    t: Int[Array, ""],
    visible: Bool[Array, "T slots"],
    x: Float[Array, "T d"],
) -> tuple[LayerCache, Float[Array, "T d"]]:
    """Puts keys and values of `x` into the cache from slot `t` on, then attends to the visible."""
    heads, _, head_dim = cache.keys.shape

    def in_heads(layer: Dense) -> Float[Array, "heads T head_dim"]:
        return dense(layer, x).reshape(-1, heads, head_dim).swapaxes(0, 1)

    query = in_heads(attention.query) / math.sqrt(head_dim)
    keys = jax.lax.dynamic_update_slice_in_dim(cache.keys, in_heads(attention.key), t, 1)
    values = jax.lax.dynamic_update_slice_in_dim(cache.values, in_heads(attention.value), t, 1)

    scores = jnp.where(visible[None], query @ keys.swapaxes(1, 2), -jnp.inf)
    mixed = (jax.nn.softmax(scores, axis=-1) @ values).swapaxes(0, 1)
    return LayerCache(keys, values), dense(attention.output, mixed.reshape(x.shape))
