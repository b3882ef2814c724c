"""Proximal policy optimisation on whole meta-episodes (RL³, section 4 and appendix B).

Knows no environment: its input is what a rollout recorded. Time is axis 0, tasks are axis 1.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rl3jax.checks import largest_divisor
from rl3jax.config import Hyperparams
from rl3jax.devices import Devices
from rl3jax.networks import Network


@struct.dataclass
class Learned:
    """One network's parameters with their optimiser's state."""

    params: Any
    opt_state: Any


@struct.dataclass
class Batch:
    """What PPO learns from; every field is `[T, B, ...]`.

    Attributes:
        observation: `[T, B, D]`.
        action: `[T, B]` int32.
        log_probs: `[T, B, A]`, of all actions under the behaviour policy.
        advantage: `[T, B]`.
        value_target: `[T, B]`.
    """

    observation: jax.Array
    action: jax.Array
    log_probs: jax.Array
    advantage: jax.Array
    value_target: jax.Array


@struct.dataclass
class Diagnostics:
    """Means over the minibatches of an iteration in which the respective network was trained."""

    actor_loss: jax.Array
    critic_loss: jax.Array
    entropy: jax.Array
    kl: jax.Array
    actor_grad_norm: jax.Array
    critic_grad_norm: jax.Array
    actor_epochs: jax.Array


class Settings(NamedTuple):
    """The static side of PPO.

    Attributes:
        tasks_per_minibatch: on all devices together.
        tasks_per_gradient: tasks that a device backpropagates through at a time, at most.
        devices: share the tasks; arguments of `update` are one device's share.
    """

    actor: Network
    critic: Network
    epochs: int
    tasks_per_minibatch: int
    kl_limit: float
    adam_epsilon: float
    tasks_per_gradient: int | None = None
    devices: Devices = Devices()

    @property
    def own_tasks_per_minibatch(self) -> int:
        """Tasks of a minibatch on one device."""
        return self.tasks_per_minibatch // self.devices.count

    def tasks_at_a_time(self, network: Network, horizon: int) -> int:
        """Meta-episodes that go through a network together, for the sake of caches and memory."""
        rows = network.rows_at_a_time
        limits = (
            self.own_tasks_per_minibatch,
            self.tasks_per_gradient,
            None if rows is None else max(1, rows // horizon),
        )
        return min(limit for limit in limits if limit is not None)


class Models(NamedTuple):
    """What PPO trains."""

    actor: Learned
    critic: Learned


# --- equations ----------------------------------------------------------------------------------


def gae(
    reward_t: Float[Array, "T ..."],
    value_t: Float[Array, "T ..."],
    discount: Float[Array, ""] | float,
    lambda_: Float[Array, ""] | float,
) -> Float[Array, "T ..."]:
    """Generalised advantage estimates over one meta-episode (Schulman et al. 2016, equation 16).

    The meta-episode truly ends after its last step: the value there is 0. Ends of object-level
    episodes do not cut the sum.
    """
    value_tp1 = jnp.concatenate([value_t[1:], jnp.zeros_like(value_t[:1])])
    delta_t = reward_t + discount * value_tp1 - value_t

    def backward(advantage_tp1: jax.Array, delta_t: jax.Array) -> tuple[jax.Array, jax.Array]:
        advantage_t = delta_t + discount * lambda_ * advantage_tp1
        return advantage_t, advantage_t

    _, advantage_t = jax.lax.scan(backward, jnp.zeros_like(delta_t[0]), delta_t, reverse=True)
    return advantage_t


def normalise(
    x: Float[Array, "..."], mean: Callable[[jax.Array], jax.Array] = jnp.mean
) -> Float[Array, "..."]:
    """Zero mean and unit standard deviation over all entries; `mean` may look beyond `x`."""
    centred = x - mean(x)
    return centred / (jnp.sqrt(mean(jnp.square(centred))) + 1e-8)


def clipped_surrogate(
    log_ratio: Float[Array, "..."],
    advantage: Float[Array, "..."],
    clip: Float[Array, ""] | float,
) -> Float[Array, "..."]:
    """PPO's pessimistic objective (Schulman et al. 2017, equation 7), to be maximised."""
    ratio = jnp.exp(log_ratio)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)


def linear_schedule(
    start: Float[Array, ""], end: Float[Array, ""], progress: Float[Array, ""]
) -> Float[Array, ""]:
    """From `start` at progress 0 to `end` at progress 1."""
    return start + (end - start) * jnp.clip(progress, 0, 1)


# --- losses -------------------------------------------------------------------------------------


def actor_loss(
    params: Any, network: Network, batch: Batch, clip: jax.Array, entropy_coefficient: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Loss, and (mean entropy, mean KL(behaviour ‖ current)) of a minibatch, in nats.

    Its advantages should be normalised. Written out, not by distrax: here each logarithm is taken
    once.
    """
    log_probs = jax.nn.log_softmax(network.unroll(params, batch.observation))
    log_ratios = log_probs - batch.log_probs
    taken = jax.nn.one_hot(batch.action, log_ratios.shape[-1])
    log_ratio = jnp.sum(log_ratios * taken, axis=-1)
    objective = jnp.mean(clipped_surrogate(log_ratio, batch.advantage, clip))
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1))
    kl = -jnp.mean(jnp.sum(jnp.exp(batch.log_probs) * log_ratios, axis=-1))
    return -objective - entropy_coefficient * entropy, (entropy, kl)


def critic_loss(params: Any, network: Network, batch: Batch) -> jax.Array:
    """½ · mean squared error to the value targets."""
    return 0.5 * jnp.mean(
        jnp.square(values(network, params, batch.observation) - batch.value_target)
    )


def values(
    network: Network, params: Any, observation: Float[Array, "T B D"]
) -> Float[Array, "T B"]:
    """The critic's values of whole meta-episodes."""
    return network.unroll(params, observation)[..., 0]


# --- optimisation -------------------------------------------------------------------------------


class Phase(NamedTuple):
    """What holds for all updates of one iteration; `progress` in [0, 1] drives the schedules."""

    settings: Settings
    hyperparams: Hyperparams
    progress: Float[Array, ""]

    @property
    def learning_rate(self) -> Float[Array, ""]:
        """Adam's, now."""
        hyperparams = self.hyperparams
        return linear_schedule(
            hyperparams.learning_rate, hyperparams.final_learning_rate, self.progress
        )

    @property
    def entropy(self) -> Float[Array, ""]:
        """Coefficient of the entropy bonus, now."""
        return linear_schedule(
            self.hyperparams.entropy, self.hyperparams.final_entropy, self.progress
        )

    def optimiser(self, weight_decay: jax.Array | float) -> optax.GradientTransformation:
        """Adam after a clip of the gradient's global norm and L2 added to the gradient."""
        return optax.chain(
            optax.clip_by_global_norm(self.hyperparams.grad_clip),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_adam(eps=self.settings.adam_epsilon),
            optax.scale_by_learning_rate(self.learning_rate),
        )


def init(
    settings: Settings, hyperparams: Hyperparams, num_inputs: int, key: PRNGKeyArray
) -> Models:
    """Fresh networks and optimiser states."""
    key_actor, key_critic = jax.random.split(key)
    optimiser = Phase(settings, hyperparams, jnp.zeros(())).optimiser(weight_decay=0.0)

    def learned(network: Network, key: PRNGKeyArray) -> Learned:
        params = network.init(key, num_inputs)
        return Learned(params, optimiser.init(params))

    return Models(learned(settings.actor, key_actor), learned(settings.critic, key_critic))


def update(
    settings: Settings,
    hyperparams: Hyperparams,
    models: Models,
    batch: Batch,
    progress: Float[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Models, Diagnostics]:
    """All epochs of one iteration.

    The actor's training stops after the epoch whose exact KL(behaviour ‖ current), averaged over
    all steps, reaches the limit; the critic's goes on.
    """
    phase = Phase(settings, hyperparams, progress)
    n_tasks = batch.action.shape[1]

    def epoch(
        carry: tuple[Models, Bool[Array, ""]], index: Int[Array, ""]
    ) -> tuple[tuple[Models, Bool[Array, ""]], tuple[_ActorStats, _CriticStats]]:
        models, actor_trains = carry

        def step(models: Models, tasks: Int[Array, " M"]) -> tuple[Models, Any]:
            minibatch = jax.tree.map(lambda x: x[:, tasks], batch)
            actor, actor_stats = jax.lax.cond(
                actor_trains, partial(_train_actor, phase), _skip_actor, models.actor, minibatch
            )
            critic, critic_stats = _train_critic(phase, models.critic, minibatch)
            return Models(actor, critic), (actor_stats, critic_stats)

        order = shuffled(settings, n_tasks, jax.random.fold_in(key, index))
        models, stats = _over_minibatches(step, models, order, settings.own_tasks_per_minibatch)
        return (models, _actor_goes_on(settings, models.actor.params, batch, actor_trains)), stats

    (models, _), stats = jax.lax.scan(epoch, (models, jnp.bool_(True)), jnp.arange(settings.epochs))
    return models, _diagnostics(*stats)


def shuffled(settings: Settings, own_tasks: int, key: PRNGKeyArray) -> Int[Array, " own_tasks"]:
    """A device's tasks in the order in which an epoch trains on them.

    Neighbouring tasks form groups, of which every minibatch takes equally many tasks, at random. So
    every device has its share of every minibatch at hand, whatever the number of devices: no task's
    data ever travel. Tasks are independent, hence such minibatches are as random as any.
    """
    n_tasks, size = own_tasks * settings.devices.count, settings.tasks_per_minibatch
    num_groups = math.gcd(size, n_tasks % size)  # as many as possible: `size`, if that divides
    order = jnp.argsort(jax.random.uniform(key, (num_groups, n_tasks // num_groups)), axis=1)
    own = settings.devices.own(order)
    first = jnp.arange(0, own_tasks, n_tasks // num_groups)
    return (own + first[:, None]).T.ravel()


class _ActorStats(NamedTuple):
    trained: jax.Array
    loss: jax.Array
    entropy: jax.Array
    kl: jax.Array
    grad_norm: jax.Array


class _CriticStats(NamedTuple):
    loss: jax.Array
    grad_norm: jax.Array


def _train_actor(phase: Phase, actor: Learned, minibatch: Batch) -> tuple[Learned, _ActorStats]:
    settings = phase.settings
    advantage = normalise(minibatch.advantage, settings.devices.mean)
    minibatch = dataclasses.replace(minibatch, advantage=advantage)

    def loss(params: Any, batch: Batch) -> Any:
        return actor_loss(params, settings.actor, batch, phase.hyperparams.clip, phase.entropy)

    (value, (entropy, kl)), grads = _gradient(
        loss, actor.params, minibatch, settings, settings.actor
    )
    actor = _apply(phase.optimiser(weight_decay=0.0), actor, grads)
    return actor, _ActorStats(jnp.ones(()), value, entropy, kl, optax.tree.norm(grads))


def _skip_actor(actor: Learned, minibatch: Batch) -> tuple[Learned, _ActorStats]:
    del minibatch
    return actor, _ActorStats(*[jnp.zeros(())] * 5)


def _train_critic(phase: Phase, critic: Learned, minibatch: Batch) -> tuple[Learned, _CriticStats]:
    settings = phase.settings

    def loss(params: Any, batch: Batch) -> Any:
        return critic_loss(params, settings.critic, batch), ()

    (value, _), grads = _gradient(loss, critic.params, minibatch, settings, settings.critic)
    critic = _apply(phase.optimiser(phase.hyperparams.weight_decay), critic, grads)
    return critic, _CriticStats(value, optax.tree.norm(grads))


def _gradient(
    loss: Any, params: Any, minibatch: Batch, settings: Settings, network: Network
) -> Any:
    """Value (with auxiliaries) and gradient by `params` of a mean over the minibatch.

    It is the average of those of equal parts: over chunks of a device's tasks, over devices.
    """
    horizon, n_tasks = minibatch.action.shape
    chunk = largest_divisor(n_tasks, settings.tasks_at_a_time(network, horizon))
    gradient = partial(jax.value_and_grad(loss, has_aux=True), params)

    def add(total: Any, first: Int[Array, ""]) -> tuple[Any, None]:
        part = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, first, chunk, axis=1), minibatch
        )
        return jax.tree.map(jnp.add, total, gradient(part)), None

    if chunk == n_tasks:
        return settings.devices.average(gradient(minibatch))
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(gradient, minibatch))
    total, _ = jax.lax.scan(add, zeros, jnp.arange(0, n_tasks, chunk))
    mean = jax.tree.map(lambda x: x * (chunk / n_tasks), total)
    return settings.devices.average(mean)


def _apply(optimiser: optax.GradientTransformation, learned: Learned, grads: Any) -> Learned:
    updates, opt_state = optimiser.update(grads, learned.opt_state, learned.params)
    return Learned(optax.apply_updates(learned.params, updates), opt_state)


def _over_minibatches(
    step: Any, models: Models, order: Int[Array, " B"], size: int
) -> tuple[Models, Any]:
    """`step` over the tasks in `order`, `size` at a time; the last time there may be fewer."""
    n_whole = len(order) // size * size
    models, stats = jax.lax.scan(step, models, order[:n_whole].reshape(-1, size))
    if n_whole < len(order):
        models, rest = step(models, order[n_whole:])
        stats = jax.tree.map(jnp.append, stats, rest)
    return models, stats


def _actor_goes_on(
    settings: Settings, params: Any, batch: Batch, active: Bool[Array, ""]
) -> Bool[Array, ""]:
    """Whether the actor trains in the next epoch too."""
    if math.isinf(settings.kl_limit):
        return active

    def kl(observation: jax.Array, log_probs: jax.Array) -> jax.Array:
        current = distrax.Categorical(logits=settings.actor.unroll(params, observation))
        return distrax.Categorical(logits=log_probs).kl_divergence(current)

    def check() -> Bool[Array, ""]:
        divergence = over_task_chunks(
            kl,
            settings.tasks_at_a_time(settings.actor, batch.action.shape[0]),
            batch.observation,
            batch.log_probs,
        )
        return settings.devices.mean(divergence) < settings.kl_limit

    return jax.lax.cond(active, check, lambda: jnp.bool_(False))


def over_task_chunks(function: Any, size: int, *arrays: jax.Array) -> jax.Array:
    """`function` of `[T, B, ...]` arrays, `size` tasks at a time: bounds memory, same result."""
    n_tasks = arrays[0].shape[1]
    size = min(size, n_tasks)
    n_whole = n_tasks // size * size

    def chunk(first: Int[Array, ""]) -> jax.Array:
        return function(*(jax.lax.dynamic_slice_in_dim(x, first, size, axis=1) for x in arrays))

    result = jax.lax.map(chunk, jnp.arange(0, n_whole, size))
    result = jnp.moveaxis(result, 0, 1).reshape(arrays[0].shape[0], n_whole, *result.shape[3:])
    if n_whole < n_tasks:
        rest = function(*(x[:, n_whole:] for x in arrays))
        result = jnp.concatenate([result, rest], axis=1)
    return result


def _diagnostics(actor: _ActorStats, critic: _CriticStats) -> Diagnostics:
    """Means over `[epochs, minibatches]`, the actor's over those in which it was trained."""
    trained = actor.trained

    def mean(x: jax.Array) -> jax.Array:
        return jnp.sum(x * trained) / jnp.sum(trained)

    return Diagnostics(
        actor_loss=mean(actor.loss),
        critic_loss=jnp.mean(critic.loss),
        entropy=mean(actor.entropy),
        kl=mean(actor.kl),
        actor_grad_norm=mean(actor.grad_norm),
        critic_grad_norm=jnp.mean(critic.grad_norm),
        actor_epochs=jnp.sum(trained[:, 0]),
    )
