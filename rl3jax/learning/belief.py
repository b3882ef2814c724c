"""Learning what is believed: a third loss, beside those of actor and critic."""

import jax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from rl3jax.config import Hyperparams
from rl3jax.lazy import imported
from rl3jax.learning.optimise import Diagnostics, Learned, Part
from rl3jax.learning.ppo import Batch, Settings, learning_rate
from rl3jax.policy import Belief, ObservationLayout


def parts(
    belief: Belief,
    settings: Settings,
    hyperparams: Hyperparams,
    progress: Float[Array, ""],
    horizon: int,
) -> dict[str, Part]:
    """The belief as it is trained in one iteration; nothing if it does not learn.

    Its learning rate falls as the policy's does, which could not follow it otherwise.
    """
    if not belief.learns:
        return {}
    rate = belief.learning_rate * learning_rate(hyperparams, progress) / hyperparams.learning_rate

    def loss(
        params: object, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Diagnostics]:
        del key
        evidence, chance = batch.belief
        return belief.loss(params, evidence, chance, batch.weight)

    optimiser = imported("optax").adam(rate)
    return {"belief": Part(loss, optimiser, settings.tasks_at_a_time(belief, horizon))}


def init(belief: Belief, layout: ObservationLayout, key: PRNGKeyArray) -> dict[str, Learned]:
    """Fresh parameters and their optimiser's state, likewise. The key is consumed."""
    if not belief.learns:
        return {}
    params = belief.init_params(key, layout)
    return {"belief": Learned(params, imported("optax").adam(belief.learning_rate).init(params))}


def chance(belief: Belief, keys: Key[Array, " B"], horizon: int) -> object:
    """What losses of B meta-episodes draw at random, `[_, B, ...]`. The keys are consumed."""
    return jax.vmap(lambda key: belief.chance(key, horizon), out_axes=1)(keys)
