"""What a policy is shown: the only module that knows the layout of an observation.

First comes the context, with P numbers for the previous action (A, one-hot) and F for the state:

| field             | size | value                                                           |
|-------------------|------|-----------------------------------------------------------------|
| `previous_action` | P    | zeros at the first step of a meta-episode                       |
| `previous_reward` | 1    | times `reward_scale`; 0 at the first step                       |
| `first_step`      | 1    | 1 at the first step of a meta-episode, else 0                   |
| `time`            | 1    | t / horizon, t = steps taken in the meta-episode                |
| `episode_time`    | 1    | steps taken in the object-level episode / task horizon          |
| `state`           | F    | the environment's features of the current state                 |

RL³ shows after it what the object-level learner gives (`ObjectLearner.features`), in its order and
in the policy's units: values and their errors divided by `value_scale`, rewards times
`reward_scale`, counts in tens. Under the option `squash`, a value x so divided is shown as
sign(x) · ln(1 + |x|), and a count N as ln(1 + N). What a belief says of its latent variable, whose
scale is learned and may grow, is always shown as sign(x) · ln(1 + |x|): as it is, policies have
jumped away from what they had learned.

Where actions lie in a box, learners know some of them, the anchors, and policies are also shown the
best of these, `best_action` (and `best_optimistic_action`), in units in which the box is [−1, 1];
so is the previous action, which is clipped to it.

What is `shown` need not be all. `ObservationLayout.describe` lists the fields of one configuration
with their indices: bandit with 5 arms under RL³ has `previous_action` 0–4, `previous_reward` 5,
`first_step` 6, `time` 7, `episode_time` 8, no state, `advantages` 9–13, `value` 14, `visits` 15–19.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rl3jax.checks import check_choice, check_flag, check_number, check_size
from rl3jax.object_level import COUNT, LATENT, PLAIN, REWARD, VALUE, Feature, Features
from rl3jax.symlog import symlog

VISITS_SCALE = 10.0  # RL³'s published program shows counts in tens

CONTEXT = "context"
"""The unit, so to speak, of what a policy is shown under RL² too."""
SHOWN: dict[str, tuple[str, ...]] = {
    "all": (),
    "no-values": (VALUE, REWARD),
    "no-counts": (COUNT,),
    "estimates": (CONTEXT,),
}
"""What may be shown, and the units of the fields that it leaves out."""
UNITS = (CONTEXT, VALUE, REWARD, COUNT, LATENT, PLAIN)
LOGARITHMIC = "as sign(x) · ln(1 + |x|)"


@dataclass(frozen=True)
class Field:
    """Consecutive numbers of an observation: their name, how many, and their unit."""

    name: str
    size: int
    unit: str

    def __post_init__(self) -> None:
        if self.size != 0:
            check_size(self.name, self.size)
        check_choice("unit", self.unit, UNITS)


def fields_of(features: Features) -> tuple[Field, ...]:
    """The fields that show features, of which shapes are enough."""
    return tuple(Field(name, f.numbers.shape[0], f.unit) for name, f in features.items())


@dataclass(frozen=True)
class ObservationLayout:
    """The static description of an observation (RL³, section 4; module `policy.observation`).

    Attributes:
        action_size: P, numbers that show the previous action.
        num_features: F, numbers that show a state.
        horizon: interaction budget that `time` is a fraction of, in env steps.
        task_horizon: steps that `episode_time` is a fraction of; `None` stands for `horizon`.
        estimates: what is shown of the object-level learner's features; nothing under RL².
        value_scale: values are divided by it.
        reward_scale: rewards are multiplied by it.
        squash: show a value x so divided as sign(x) · ln(1 + |x|) (symlog, Hafner et al. 2023) and
            counts as ln(1 + N): small differences stay visible beside large values.
        belief: what is shown of a belief, last; nothing where there is none.
        shown: one of `SHOWN`: all, no-values, no-counts or estimates (values and counts alone, as
            the paper's RL³-Markov has it).

    Raises:
        ValueError: on construction, if a value is not allowed. The message is one line.
    """

    action_size: int
    num_features: int
    horizon: int
    task_horizon: int | None
    estimates: tuple[Field, ...] = ()
    value_scale: float = 1.0
    reward_scale: float = 1.0
    squash: bool = False
    shown: str = "all"
    belief: tuple[Field, ...] = ()

    def __post_init__(self) -> None:
        check_size("action_size", self.action_size)
        if self.num_features != 0:
            check_size("num_features", self.num_features)
        check_size("horizon", self.horizon)
        if self.task_horizon is not None:
            check_size("task_horizon", self.task_horizon)
        check_number("value_scale", self.value_scale, 0, low_allowed=False)
        check_number("reward_scale", self.reward_scale)
        check_flag("squash", self.squash)
        check_choice("shown", self.shown, SHOWN)

    @property
    def _shown_fields(self) -> list[Field]:
        context = {
            "previous_action": self.action_size,
            "previous_reward": 1,
            "first_step": 1,
            "time": 1,
            "episode_time": 1,
            "state": self.num_features,
        }
        fields = [Field(name, size, CONTEXT) for name, size in context.items()]
        return [
            f for f in (*fields, *self.estimates, *self.belief) if f.unit not in SHOWN[self.shown]
        ]

    @property
    def fields(self) -> dict[str, slice]:
        """Where each field lies, by name, in order."""
        fields = self._shown_fields
        ends = list(itertools.accumulate(field.size for field in fields))
        return {f.name: slice(end - f.size, end) for f, end in zip(fields, ends, strict=True)}

    @property
    def size(self) -> int:
        """Length D of an observation."""
        return sum(field.size for field in self._shown_fields)

    def describe(self) -> str:
        """A line for each field: its first and last index, its name, its unit and scale."""
        return "\n".join(
            f"{span.start:4d}–{span.stop - 1:<4d} {field.name:24s}{self._scale(field)}".rstrip()
            for field, span in zip(self._shown_fields, self.fields.values(), strict=True)
            if field.size
        )

    def _scale(self, field: Field) -> str:
        """What `_in_units` makes of a field, in words."""
        values = f"in reward units, over {self.value_scale:g}"
        rewards = f"in reward units, times {self.reward_scale:g}"
        return {
            CONTEXT: rewards if field.name == "previous_reward" else "",
            VALUE: f"{values}, {LOGARITHMIC}" if self.squash else values,
            REWARD: rewards,
            COUNT: "a count N, as ln(1 + N)" if self.squash else f"a count, over {VISITS_SCALE:g}",
            LATENT: LOGARITHMIC,
            PLAIN: "as it is",
        }[field.unit]

    def encode(
        self,
        previous_action: Float[Array, " P"],
        previous_reward: Float[Array, ""],
        t: Int[Array, ""],
        episode_step: Int[Array, ""],
        state: Float[Array, " F"],
        estimates: Mapping[str, Feature],
    ) -> Float[Array, " D"]:
        """The observation of one task at one step.

        Args:
            previous_action: what is shown of the last action of this meta-episode; zeros if none.
            previous_reward: last reward of this meta-episode; 0 if none.
            t: steps taken in this meta-episode.
            episode_step: steps taken in this object-level episode.
            state: the current state's features.
            estimates: what the object-level learner gives of the current state, and the belief.
        """
        parts = {
            "previous_action": previous_action,
            "previous_reward": previous_reward[None] * self.reward_scale,
            "first_step": (t == 0)[None].astype(state.dtype),
            "time": t[None] / self.horizon,
            "episode_time": episode_step[None] / (self.task_horizon or self.horizon),
            "state": state,
        }
        shown = (*self.estimates, *self.belief)
        parts |= {field.name: self._in_units(estimates[field.name]) for field in shown}
        return jnp.concatenate([parts[name] for name in self.fields])

    def _in_units(self, feature: Feature) -> Float[Array, " _"]:
        """A learner's numbers in the policy's units."""
        x = feature.numbers
        if feature.unit == VALUE:
            x = x / self.value_scale
            return symlog(x) if self.squash else x
        if feature.unit == COUNT:
            return jnp.log1p(x) if self.squash else x / VISITS_SCALE
        if feature.unit == LATENT:
            return symlog(x)
        return x * self.reward_scale if feature.unit == REWARD else x
