"""Proximal policy optimisation on whole meta-episodes (RL³, section 4 and appendix B).

Two losses, of actor and critic, for `optimise`. Knows no environment: its input is what a rollout
recorded. Time is axis 0, tasks are axis 1.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rl3jax.config import Hyperparams
from rl3jax.devices import Devices
from rl3jax.lazy import imported
from rl3jax.learning.optimise import (
    Diagnostics,
    Learned,
    Optimiser,
    Part,
    Passes,
    over_task_chunks,
)
from rl3jax.policy import ActionDistribution, Belief, Network


@struct.dataclass
class Batch:
    """What PPO learns from; every field is `[T, B, ...]`.

    Attributes:
        observation: `[T, B, D]`.
        action: `[T, B]` int32, or `[T, B, ...]`, as drawn from the distributions.
        behaviour: `[T, B, P]`, parameters of the distributions that the actions were drawn from.
        advantage: `[T, B]`.
        value_target: `[T, B]`.
        weight: `[T, B]`, of steps in what concerns the actor, with mean 1 over a minibatch; 0 where
            actions did nothing. `None`: all alike.
        belief: evidence and chance, if there is a belief that learns of them; no part of PPO.
    """

    observation: jax.Array
    action: jax.Array
    behaviour: jax.Array
    advantage: jax.Array
    value_target: jax.Array
    weight: jax.Array | None = None
    belief: Any = ()


class Settings(NamedTuple):
    """The static side of PPO.

    Attributes:
        actor, critic: their networks; the critic has one output.
        distribution: what the actor's outputs are parameters of.
        tasks_per_minibatch: on all devices together.
        tasks_per_gradient: tasks that a device backpropagates through at a time, at most.
        devices: share the tasks.
    """

    actor: Network
    critic: Network
    distribution: ActionDistribution
    epochs: int
    tasks_per_minibatch: int
    kl_limit: float
    adam_epsilon: float
    tasks_per_gradient: int | None = None
    devices: Devices = Devices()

    @property
    def passes(self) -> Passes:
        """Epochs and minibatches."""
        return Passes(self.epochs, self.tasks_per_minibatch, self.devices)

    def tasks_at_a_time(self, network: Network | Belief, horizon: int) -> int:
        """Meta-episodes that go through a network together, for the sake of caches and memory."""
        rows = network.rows_at_a_time
        limits = (
            self.passes.own_tasks_per_minibatch,
            self.tasks_per_gradient,
            None if rows is None else max(1, rows // horizon),
        )
        return min(limit for limit in limits if limit is not None)


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
    """Zero mean and unit standard deviation over all entries; `mean` may look beyond `x`.

    Equal entries become 0, whatever rounding makes of their mean.
    """
    centre = mean(x)
    centred = x - centre
    return centred / (jnp.sqrt(mean(jnp.square(centred))) + 1e-8 + 1e-5 * jnp.abs(centre))


def weighted_mean(
    x: Float[Array, "..."],
    weight: Float[Array, "..."] | None,
    mean: Callable[[jax.Array], jax.Array] = jnp.mean,
) -> Float[Array, ""]:
    """Mean over all entries, by their weights if there are any; `mean` may look beyond `x`."""
    return mean(x) if weight is None else mean(x * weight) / mean(weight)


def normalised(batch: Batch, mean: Callable[[jax.Array], jax.Array] = jnp.mean) -> Batch:
    """A minibatch with advantages `normalise`d by the weights, which then have mean 1."""
    weight = batch.weight
    advantage = normalise(batch.advantage, lambda x: weighted_mean(x, weight, mean))
    weight = None if weight is None else weight / mean(weight)
    return dataclasses.replace(batch, advantage=advantage, weight=weight)


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
    params: Any,
    network: Network,
    distribution: ActionDistribution,
    batch: Batch,
    clip: jax.Array,
    entropy_coefficient: jax.Array,
) -> tuple[jax.Array, Diagnostics]:
    """Loss of a minibatch, its mean `entropy` and mean `kl`(behaviour ‖ current), in nats.

    Its advantages and weights should be normalised.
    """

    def mean(x: Float[Array, "T B"]) -> Float[Array, ""]:
        return jnp.mean(x if batch.weight is None else x * batch.weight)

    current = network.unroll(params, batch.observation)
    log_ratio = distribution.log_prob(current, batch.action) - distribution.log_prob(
        batch.behaviour, batch.action
    )
    objective = mean(clipped_surrogate(log_ratio, batch.advantage, clip))
    entropy = mean(distribution.entropy(current))
    kl = mean(distribution.kl(batch.behaviour, current))
    return -objective - entropy_coefficient * entropy, {"entropy": entropy, "kl": kl}


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


# --- the two parts ------------------------------------------------------------------------------


def parts(
    settings: Settings, hyperparams: Hyperparams, progress: Float[Array, ""], horizon: int
) -> dict[str, Part]:
    """Actor and critic, as they are trained in one iteration.

    Schedules are where `progress`, from 0 to 1, says.

    The actor's training stops after the epoch whose exact KL(behaviour ‖ current), averaged over
    all steps, reaches the limit; the critic's goes on.
    """
    actor, critic, devices = settings.actor, settings.critic, settings.devices
    entropy = linear_schedule(hyperparams.entropy, hyperparams.final_entropy, progress)

    def loss_of_actor(params: Any, batch: Batch, key: PRNGKeyArray) -> tuple[Array, Diagnostics]:
        del key
        return actor_loss(params, actor, settings.distribution, batch, hyperparams.clip, entropy)

    def loss_of_critic(params: Any, batch: Batch, key: PRNGKeyArray) -> tuple[Array, Diagnostics]:
        del key
        return critic_loss(params, critic, batch), {}

    def is_within_limit(params: Any, batch: Batch) -> Bool[Array, ""]:
        if math.isinf(settings.kl_limit):
            return jnp.bool_(True)

        def kl(observation: jax.Array, behaviour: jax.Array) -> jax.Array:
            return settings.distribution.kl(behaviour, actor.unroll(params, observation))

        size = settings.tasks_at_a_time(actor, horizon)
        divergence = over_task_chunks(kl, size, batch.observation, batch.behaviour)
        return weighted_mean(divergence, batch.weight, devices.mean) < settings.kl_limit

    return {
        "actor": Part(
            loss=loss_of_actor,
            optimiser=optimiser(settings, hyperparams, progress, weight_decay=0.0),
            tasks_at_a_time=settings.tasks_at_a_time(actor, horizon),
            prepare=partial(normalised, mean=devices.mean),
            goes_on=is_within_limit,
        ),
        "critic": Part(
            loss=loss_of_critic,
            optimiser=optimiser(settings, hyperparams, progress, hyperparams.weight_decay),
            tasks_at_a_time=settings.tasks_at_a_time(critic, horizon),
        ),
    }


def learning_rate(hyperparams: Hyperparams, progress: Float[Array, ""]) -> Float[Array, ""]:
    """Of actor and critic, where `progress` says."""
    return linear_schedule(hyperparams.learning_rate, hyperparams.final_learning_rate, progress)


def optimiser(
    settings: Settings,
    hyperparams: Hyperparams,
    progress: Float[Array, ""],
    weight_decay: jax.Array | float,
) -> Optimiser:
    """Adam after a clip of the gradient's global norm and L2 added to the gradient."""
    optax = imported("optax")
    return optax.chain(
        optax.clip_by_global_norm(hyperparams.grad_clip),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_adam(eps=settings.adam_epsilon),
        optax.scale_by_learning_rate(learning_rate(hyperparams, progress)),
    )


def init(
    settings: Settings, hyperparams: Hyperparams, num_inputs: int, key: PRNGKeyArray
) -> dict[str, Learned]:
    """Fresh networks and optimiser states of actor and critic. The key is consumed."""
    key_actor, key_critic = jax.random.split(key)
    fresh = {
        "actor": settings.actor.init(key_actor, num_inputs),
        "critic": settings.critic.init(key_critic, num_inputs),
    }
    trained = parts(settings, hyperparams, jnp.zeros(()), horizon=1)
    return {
        name: Learned(params, trained[name].optimiser.init(params))
        for name, params in fresh.items()
    }
