"""Random MDPs: dense random transitions and random rewards."""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rl3jax.envs.base import (
    Environment,
    TabularModel,
    Transition,
    sample_index,
)
from rl3jax.ranges import OneOf, Size

ALIASES = {"ood": "ood-dirichlet"}
VARIATIONS = ("iid", "ood-dirichlet", "ood-uniform-reward")


@struct.dataclass
class RandomMdpTask:
    """What random MDPs differ in.

    Attributes:
        transition_probs: `[S, A, S]`, P(s' | s, a).
        mean_reward: `[S, A]`, in reward units.
        reward_std: `[]`, standard deviation of a reward about its mean, in reward units.
    """

    transition_probs: jax.Array
    mean_reward: jax.Array
    reward_std: jax.Array


@dataclass(frozen=True)
class RandomMdp(Environment):
    """Random MDP (RL³, Bhatia et al., domain "MDPs"; RL², Duan et al., section 3.2).

    Episodes start in state 0 and have no terminal state. The reward of (s, a) is normal about
    R[s, a] with standard deviation 1, whatever the next state.

    | variation          | P[s, a, ·]      | R[s, a]         | of                               |
    |--------------------|-----------------|-----------------|----------------------------------|
    | iid                | Dirichlet(1)    | N(1, 1)         |                                  |
    | ood-dirichlet, ood | Dirichlet(0.25) | N(1, 1)         | RL³, RLC 2025                    |
    | ood-uniform-reward | Dirichlet(1)    | U(0, 2), exact  | RL³, arXiv version 4             |

    Raises:
        ValueError: on construction, for a size that is no positive integer, or an unknown
            variation.
    """

    num_states: Size = 10
    """States."""
    num_actions: Size = 5
    """Actions."""
    task_horizon: Size = 10
    """Steps of an object-level episode."""
    variation: Annotated[str, OneOf((*VARIATIONS, *ALIASES))] = "iid"

    def __post_init__(self) -> None:
        super().__post_init__()
        # An alias equals, and hashes as, what it stands for.
        object.__setattr__(self, "variation", ALIASES.get(self.variation, self.variation))

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """A longer sight for longer budgets, and what tells of an episode's last steps."""
        return {
            "discount": max(0.99, 1 - 1.5 / horizon),
            "gae_lambda": 0.8,
            "squash_values": True,
            "mean_rewards": algo == "rl3",
        }

    def sample_task(self, key: PRNGKeyArray) -> RandomMdpTask:
        """Independent transition rows and mean rewards. The key is consumed."""
        key_transition, key_reward = jax.random.split(key)
        pairs = (self.num_states, self.num_actions)
        if self.variation == "ood-dirichlet":
            concentration = jnp.full(self.num_states, 0.25)
            transition_probs = jax.random.dirichlet(key_transition, concentration, pairs)
        else:
            transition_probs = _flat_dirichlet(key_transition, (*pairs, self.num_states))
        if self.variation == "ood-uniform-reward":
            mean_reward = jax.random.uniform(key_reward, pairs, maxval=2.0)
            return RandomMdpTask(transition_probs, mean_reward, reward_std=jnp.zeros(()))
        mean_reward = 1.0 + jax.random.normal(key_reward, pairs)
        return RandomMdpTask(transition_probs, mean_reward, reward_std=jnp.ones(()))

    def start_index(self, key: PRNGKeyArray, task: RandomMdpTask) -> int:
        """State 0; the key is not consumed."""
        del key, task
        return 0

    def transition(
        self, key: PRNGKeyArray, s: Int[Array, ""], action: Int[Array, ""], task: RandomMdpTask
    ) -> Transition:
        """A next state from P[s, a] and, independently, a reward. The key is consumed."""
        key_next, key_reward = jax.random.split(key)
        noise = task.reward_std * jax.random.normal(key_reward)
        return Transition(
            next_state_index=sample_index(key_next, task.transition_probs[s, action]),
            reward=task.mean_reward[s, action] + noise,
            terminated=False,
        )

    def tabular(self, task: RandomMdpTask) -> TabularModel:
        """The task itself, started in state 0."""
        return TabularModel(
            transition_probs=task.transition_probs,
            mean_reward=task.mean_reward,
            start=jnp.zeros(self.num_states).at[0].set(1.0),
            terminal=jnp.zeros(self.num_states, bool),
        )


def _flat_dirichlet(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Dirichlet(1) rows: normalised exponentials, whose logarithms are minus Gumbel noise.

    A small fraction of the time that `jax.random.dirichlet` takes, which draws gammas by rejection.
    """
    return jax.nn.softmax(-jax.random.gumbel(key, shape))
