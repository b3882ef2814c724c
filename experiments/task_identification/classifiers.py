"""Classifiers of pairs of meta-episodes: in the same task or not? Trained, and what they reach."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from experiments.task_identification.evidence import BLOCK, Evidence, in_blocks, pairs
from experiments.task_identification.features import INPUTS

WIDTH, BATCH, EPOCHS, LEARNING_RATE = 32, 100, 10, 1e-2
"""Of the classifiers and their training."""


class Classifier(nn.Module):
    """From features `[S, A, F]` to the logit of "the same task"."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = nn.relu(nn.Dense(WIDTH)(x))
        x = nn.relu(nn.Dense(WIDTH)(x.mean(axis=(0, 1))))
        return nn.Dense(1)(x)[0]


def trained_logits(inputs: str, training: Evidence, test: Evidence, key: jax.Array) -> jax.Array:
    """Trains a classifier on N tasks' `[N, 2, ...]`; its logits on others'.

    Returns:
        `[2, M]`, those of pairs of the same task, and of different tasks.
    """
    key_init, key_order = jax.random.split(key)
    features, net = INPUTS[inputs], Classifier()
    one, second, elsewhere = pairs(jax.tree.map(lambda x: x[:BLOCK], training))
    sample = jnp.stack([jax.vmap(features)(one, other) for other in (second, elsewhere)])
    axes = (0, 1, 2, 3)
    mean, std = sample.mean(axes, keepdims=True)[0], sample.std(axes, keepdims=True)[0]

    def logits(params: Any, one: Evidence, second: Evidence, elsewhere: Evidence) -> Any:
        x = jnp.stack([features(one, second), features(one, elsewhere)])
        return jax.vmap(partial(net.apply, params))((x - mean) / jnp.maximum(std, 1e-6))

    def loss(params: Any, batch: Evidence) -> jax.Array:
        same, different = jax.vmap(partial(logits, params))(*pairs(batch)).T
        return jnp.mean(nn.softplus(-same) + nn.softplus(different))

    def update(carry: tuple[Any, Any], chosen: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, moments = carry
        grads = jax.grad(loss)(params, jax.tree.map(lambda x: x[chosen], training))
        updates, moments = optimizer.update(grads, moments)
        return (optax.apply_updates(params, updates), moments), None

    order = batches(len(training.q), key_order)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, len(order)))
    params = net.init(key_init, sample[0, 0])
    (params, _), _ = jax.lax.scan(update, (params, optimizer.init(params)), order)
    return in_blocks(lambda x: logits(params, *x), pairs(test)).T


@partial(jax.jit, static_argnums=0)
def trained_logits_by_step(
    inputs: str, training: Evidence, test: Evidence, keys: jax.Array
) -> jax.Array:
    """`trained_logits` of each of T numbers of steps, `[T, 2, M]`."""
    return jax.lax.map(lambda x: trained_logits(inputs, *x), (training, test, keys))


def batches(n: int, key: jax.Array) -> jax.Array:
    """Indices below `n` for every update, `[updates, batch]`; each at most once an epoch."""
    size = min(BATCH, n)
    permuted = jax.vmap(partial(jax.random.permutation, x=n))(jax.random.split(key, EPOCHS))
    return permuted[:, : n // size * size].reshape(-1, size)
