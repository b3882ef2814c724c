"""What a policy is shown: the only module that knows the layout of an observation.

Fields, in order, with their sizes (A actions, F state features):

| field                | size | value                                                          |
|----------------------|------|----------------------------------------------------------------|
| `previous_action`    | A    | one-hot; zeros at the first step of a meta-episode             |
| `previous_reward`    | 1    | times `reward_scale`; 0 at the first step                      |
| `first_step`         | 1    | 1 at the first step of a meta-episode, else 0                  |
| `time`               | 1    | t / horizon, t = steps taken in the meta-episode               |
| `episode_time`       | 1    | steps taken in the object-level episode / task horizon         |
| `state`              | F    | the environment's features of the current state                |
| `advantages` (RL³)   | A    | (Q(s, ·) − V(s)) / `value_scale`, V(s) = max_a Q(s, a)         |
| `value` (RL³)        | 1    | V(s) / `value_scale`                                           |
| `q_stderr` (option)  | A    | standard errors of Q(s, ·), / `value_scale`                    |
| `v_stderr` (option)  | 1    | that of V(s), / `value_scale`                                  |
| `visits` (RL³)       | A    | N(s, ·) / 10                                                   |
| `optimistic_advantages` (option) | A | as `advantages`, of optimistic values Q⁺           |
| `optimistic_value` (option)      | 1 | as `value`                                         |
| `mean_rewards` (option) | A    | of the actions in this state, times `reward_scale`             |

Under the option `squash`, x = estimate / `value_scale` is shown as sign(x) · ln(1 + |x|), and N
as ln(1 + N).

What is `shown` need not be all: fields named in `SHOWN` may be left out.

`ObservationLayout.fields` gives the indices for one configuration: bandit with 5 arms under RL³ has
`previous_action` 0–4, `previous_reward` 5, `first_step` 6, `time` 7, `episode_time` 8, no state,
`advantages` 9–13, `value` 14 and `visits` 15–19.
"""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rl3jax.checks import check_choice, check_flag, check_number, check_size
from rl3jax.object_level import Estimates

VISITS_SCALE = 10.0  # RL³'s published program shows counts in tens

CONTEXT = ("previous_action", "previous_reward", "first_step", "time", "episode_time", "state")
VALUES = (
    "advantages", "value", "q_stderr", "v_stderr", "optimistic_advantages", "optimistic_value",
    "mean_rewards",
)  # fmt: skip
SHOWN: dict[str, tuple[str, ...]] = {
    "all": (),
    "no-values": VALUES,
    "no-counts": ("visits",),
    "estimates": CONTEXT,
}
"""What may be shown, and which fields it leaves out."""


@dataclass(frozen=True)
class ObservationLayout:
    """The static description of an observation (RL³, section 4 and the table above).

    Attributes:
        num_actions: A.
        num_features: F, the number of state features.
        horizon: interaction budget that `time` is a fraction of, in env steps.
        task_horizon: steps that `episode_time` is a fraction of; `None` stands for `horizon`.
        value_scale: estimates are divided by it; `None` leaves estimates out (RL²).
        reward_scale: the previous reward is multiplied by it.
        squash: show x = estimate / `value_scale` as sign(x) · ln(1 + |x|) (symlog, Hafner et al.
            2023) and counts as ln(1 + N): small differences stay visible beside large values.
        standard_errors, optimism, mean_rewards: whether estimates with these are shown; they need a
            learner that gives them.
        shown: one of `SHOWN`: all, no-values, no-counts or estimates (values and counts alone, as
            the paper's RL³-Markov has it).

    Raises:
        ValueError: on construction, if a value is not allowed. The message is one line.
    """

    num_actions: int
    num_features: int
    horizon: int
    task_horizon: int | None
    value_scale: float | None
    reward_scale: float = 1.0
    squash: bool = False
    standard_errors: bool = False
    optimism: bool = False
    mean_rewards: bool = False
    shown: str = "all"

    def __post_init__(self) -> None:
        check_size("num_actions", self.num_actions)
        if self.num_features != 0:
            check_size("num_features", self.num_features)
        check_size("horizon", self.horizon)
        if self.task_horizon is not None:
            check_size("task_horizon", self.task_horizon)
        if self.value_scale is not None:
            check_number("value_scale", self.value_scale, 0, low_allowed=False)
        check_number("reward_scale", self.reward_scale)
        for name in ("squash", "standard_errors", "optimism", "mean_rewards"):
            check_flag(name, getattr(self, name))
        check_choice("shown", self.shown, SHOWN)

    @property
    def fields(self) -> dict[str, slice]:
        """Where each field lies, by name, in order."""
        sizes = {
            "previous_action": self.num_actions,
            "previous_reward": 1,
            "first_step": 1,
            "time": 1,
            "episode_time": 1,
            "state": self.num_features,
        }
        if self.value_scale is not None:
            sizes |= self._sizes_of_estimates()
        sizes = {name: size for name, size in sizes.items() if name not in SHOWN[self.shown]}
        ends = list(itertools.accumulate(sizes.values()))
        starts = [0, *ends[:-1]]
        return {name: slice(*span) for name, *span in zip(sizes, starts, ends, strict=True)}

    def _sizes_of_estimates(self) -> dict[str, int]:
        sizes = {"advantages": self.num_actions, "value": 1}
        if self.standard_errors:
            sizes |= {"q_stderr": self.num_actions, "v_stderr": 1}
        sizes |= {"visits": self.num_actions}
        if self.optimism:
            sizes |= {"optimistic_advantages": self.num_actions, "optimistic_value": 1}
        if self.mean_rewards:
            sizes |= {"mean_rewards": self.num_actions}
        return sizes

    @property
    def size(self) -> int:
        """Length D of an observation."""
        return max(span.stop for span in self.fields.values())

    def encode(
        self,
        previous_action: Int[Array, ""],
        previous_reward: Float[Array, ""],
        t: Int[Array, ""],
        episode_step: Int[Array, ""],
        features: Float[Array, " F"],
        estimates: Estimates,
    ) -> Float[Array, " D"]:
        """The observation of one task at one step.

        Args:
            previous_action: last action of this meta-episode; −1 (zeros in one-hot) if none.
            previous_reward: last reward of this meta-episode; 0 if none.
            t: steps taken in this meta-episode.
            episode_step: steps taken in this object-level episode.
            features: the current state's features.
            estimates: object-level estimates of the current state; unused under RL².
        """
        parts = {
            "previous_action": jax.nn.one_hot(previous_action, self.num_actions),
            "previous_reward": previous_reward[None] * self.reward_scale,
            "first_step": (t == 0)[None].astype(features.dtype),
            "time": t[None] / self.horizon,
            "episode_time": episode_step[None] / (self.task_horizon or self.horizon),
            "state": features,
        }
        if self.value_scale is not None:
            parts |= self._encode_estimates(estimates)
        return jnp.concatenate([parts[name] for name in self.fields])

    def _encode_estimates(self, estimates: Estimates) -> dict[str, Float[Array, " _"]]:
        visits = estimates.visits.astype(estimates.q.dtype)
        parts = self._advantages_and_value(estimates.q)
        parts["visits"] = jnp.log1p(visits) if self.squash else visits / VISITS_SCALE
        if self.standard_errors:
            assert estimates.q_stderr is not None
            assert estimates.v_stderr is not None
            parts["q_stderr"] = self._in_units(estimates.q_stderr)
            parts["v_stderr"] = self._in_units(estimates.v_stderr)[None]
        if self.optimism:
            assert estimates.q_optimistic is not None
            parts |= self._advantages_and_value(estimates.q_optimistic, "optimistic_")
        if self.mean_rewards:
            assert estimates.mean_reward is not None
            parts["mean_rewards"] = estimates.mean_reward * self.reward_scale
        return parts

    def _advantages_and_value(
        self, q: Float[Array, " A"], prefix: str = ""
    ) -> dict[str, Float[Array, " _"]]:
        value = jnp.max(q)
        return {
            f"{prefix}advantages": self._in_units(q - value),
            f"{prefix}value": self._in_units(value)[None],
        }

    def _in_units(self, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
        """A value, or a difference of values, in the policy's units."""
        assert self.value_scale is not None
        x = x / self.value_scale
        return jnp.sign(x) * jnp.log1p(jnp.abs(x)) if self.squash else x
