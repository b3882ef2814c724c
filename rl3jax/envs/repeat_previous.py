"""RepeatPrevious: what a memory of many steps is good for, with cards."""

from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces
from jaxtyping import Array, Float, Int, PRNGKeyArray

from rl3jax.envs.vector import Advance, VectorEnvironment
from rl3jax.ranges import OneOf

SUITS = 4
VARIATIONS: dict[str, tuple[int, int]] = {"easy": (52, 4), "medium": (104, 32), "hard": (156, 64)}
"""Cards in all, and k."""


@struct.dataclass
class RepeatPreviousTask:
    """What decks differ in.

    Attributes:
        suits: `[cards]` int32, of the shuffled cards.
    """

    suits: jax.Array


@dataclass(frozen=True)
class RepeatPrevious(VectorEnvironment):
    """RepeatPrevious (POPGym, Morad et al. 2023): name the suit of the card k − 1 steps ago.

    An episode, which is the budget, shows a shuffled deck card by card, the last one when nothing
    is asked any more. The state is the suit shown, one-hot; an action names a suit. From the k-th
    card on, steps pay ±1/(cards − k) for a right or wrong one, so that the best return is 1. The
    deck is the task: what comes is not in the state, so train with algo rl2.

    | variation | decks | cards | k  |
    |-----------|-------|-------|----|
    | easy      | 1     | 52    | 4  |
    | medium    | 2     | 104   | 32 |
    | hard      | 3     | 156   | 64 |

    Raises:
        ConfigError: on construction, for an unknown variation.
    """

    variation: Annotated[str, OneOf(tuple(VARIATIONS))] = "easy"

    may_end = False

    @property
    def task_horizon(self) -> int:
        """Steps that show all cards but the first."""
        return VARIATIONS[self.variation][0] - 1

    @classmethod
    def training_horizon(cls, variation: str | None) -> int:
        """One episode."""
        return VARIATIONS[variation or cls.variation][0] - 1

    @classmethod
    def training_defaults(cls, algo: str, horizon: int) -> dict[str, Any]:
        """A memory for delays; rewards are small, and none depends on earlier actions."""
        own = {"network": "s5", "reward_scale": 50.0, "critic_scale": 10.0, "gae_lambda": 0.5}
        return super().training_defaults(algo, horizon) | own

    @property
    def learner_space(self) -> spaces.Box:
        """Suits, one-hot."""
        return spaces.Box(0.0, 1.0, (SUITS,), jnp.zeros(()).dtype)

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """Suits."""
        del params
        return spaces.Discrete(SUITS)

    def sample_task(self, key: PRNGKeyArray) -> RepeatPreviousTask:
        """A shuffled deck, in which all suits are as frequent. The key is consumed."""
        cards = jnp.arange(VARIATIONS[self.variation][0], dtype=jnp.int32)
        return RepeatPreviousTask(jax.random.permutation(key, cards % SUITS))

    def start(
        self, key: PRNGKeyArray, task: RepeatPreviousTask
    ) -> tuple[Int[Array, ""], Float[Array, "4"]]:
        """The first card; the key is not consumed."""
        del key
        return jnp.int32(0), jax.nn.one_hot(task.suits[0], SUITS)

    def advance(
        self, key: PRNGKeyArray, inner: Int[Array, ""], action: Int[Array, ""], task: Any
    ) -> Advance:
        """The next card, and what the answer pays; the key is not consumed.

        `inner` counts the cards before the one shown.
        """
        del key
        cards, k = VARIATIONS[self.variation]
        asked = inner - (k - 1)
        is_right = action == task.suits[jnp.maximum(asked, 0)]
        reward = jnp.where(is_right, 1.0, -1.0) / (cards - k)
        shown = jax.nn.one_hot(task.suits[inner + 1], SUITS)
        return Advance(inner + 1, shown, jnp.where(asked >= 0, reward, 0.0), terminated=False)
