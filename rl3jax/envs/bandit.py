"""Bernoulli bandits: one state, and a new object-level episode at every pull."""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rl3jax.envs.base import Environment, TabularModel, Transition
from rl3jax.ranges import OneOf, Size

POPGYM: dict[str, tuple[int, int]] = {
    "popgym-easy": (10, 200),
    "popgym-medium": (20, 400),
    "popgym-hard": (30, 600),
}
"""Arms and pulls of POPGym's MultiarmedBandit (Morad et al. 2023), whose arms are as in "iid"."""
VARIATIONS = ("iid", "ood", *POPGYM)
_USUAL = (5, 100)

_BY_VARIATION: Any = None


@struct.dataclass
class BanditTask:
    """What bandits differ in.

    Attributes:
        success_prob: `[num_arms]`, probability in [0, 1] that an arm pays 1.
    """

    success_prob: jax.Array


@dataclass(frozen=True)
class Bandit(Environment):
    """Bernoulli bandit (RL³, Bhatia et al., domain "Bandits"; RL², Duan et al., section 3.1).

    An arm pays 1 with its success probability, else 0. Success probabilities are U(0, 1)
    (variation "iid"), or normal with mean and standard deviation 0.5, clipped to [0, 1] ("ood").
    The other variations, U(0, 1) as well, have the arms and budgets of `POPGYM`.

    Raises:
        ValueError: on construction, for a number of arms that is no positive integer, or an
            unknown variation.
    """

    num_arms: Size = _BY_VARIATION
    """Arms. None: popgym-easy 10, popgym-medium 20, popgym-hard 30, else 5."""
    variation: Annotated[str, OneOf(VARIATIONS)] = "iid"

    num_states = 1
    task_horizon = 1

    def __post_init__(self) -> None:
        if self.num_arms is None:
            object.__setattr__(self, "num_arms", POPGYM.get(self.variation, _USUAL)[0])
        super().__post_init__()

    @classmethod
    def training_horizon(cls, variation: str | None) -> int:
        """That of POPGym's variations, else 100."""
        return POPGYM.get(variation or "", _USUAL)[1]

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """Many tasks and few iterations; values are probabilities."""
        del algo, horizon
        return {
            "n_tasks": 4096,
            "iterations": 60,
            "minibatches": 64,
            "gae_lambda": 0.8,
            "value_scale": 1.0,
            "squash_values": True,
        }

    @property
    def num_actions(self) -> int:
        """The number of arms."""
        return self.num_arms

    @property
    def state_features(self) -> Float[Array, "1 0"]:
        """Nothing: there is one state."""
        return jnp.zeros((1, 0), jnp.float32)

    def sample_task(self, key: PRNGKeyArray) -> BanditTask:
        """Independent success probabilities. The key is consumed."""
        if self.variation == "ood":
            normal = 0.5 + 0.5 * jax.random.normal(key, (self.num_arms,))
            return BanditTask(success_prob=jnp.clip(normal, 0.0, 1.0))
        return BanditTask(success_prob=jax.random.uniform(key, (self.num_arms,)))

    def start_index(self, key: PRNGKeyArray, task: BanditTask) -> int:
        """The only state; the key is not consumed."""
        del key, task
        return 0

    def transition(
        self, key: PRNGKeyArray, s: Int[Array, ""], action: Int[Array, ""], task: BanditTask
    ) -> Transition:
        """One pull. The key is consumed."""
        success = jax.random.bernoulli(key, task.success_prob[action])
        return Transition(next_state_index=s, reward=success, terminated=False)

    def tabular(self, task: BanditTask) -> TabularModel:
        """One state, S = 1, that every arm leads back to."""
        return TabularModel(
            transition_probs=jnp.ones((1, self.num_arms, 1)),
            mean_reward=task.success_prob[None, :],
            start=jnp.ones(1),
            terminal=jnp.zeros(1, bool),
        )
