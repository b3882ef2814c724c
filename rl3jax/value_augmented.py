"""RL³ for other trainers: meta-episodes, and what a policy is shown in them, as an environment."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rl3jax.agent import PolicyAgent, PolicyCarry, layout_of
from rl3jax.checks import ConfigError, shown
from rl3jax.config import Resolved
from rl3jax.envs import TaskDistribution, check_usable
from rl3jax.networks import Markov
from rl3jax.object_level import NoLearner, ObjectLearner
from rl3jax.policy import Network, ObservationLayout, PlainHead, distribution_over
from rl3jax.ranges import NonNegative, Positive, Size, check_fields
from rl3jax.rollout import interact

_NO_NETWORK = Network(Markov(), PlainHead())
"""The policy is somebody else's: this one has no memory and never acts."""


@struct.dataclass
class MetaState:
    """Where a meta-episode is.

    Attributes:
        time: `[]` int32, env steps taken in this meta-episode.
        task: drawn when it began.
        env_state: the state of the environment in that task.
        carry: the object-level learner's table, and what else an observation is made of.
    """

    time: jax.Array
    task: Any
    env_state: Any
    carry: PolicyCarry


@dataclass(frozen=True)
class ValueAugmented(environment.Environment):
    """A gymnax environment whose episodes are meta-episodes, shown as RL³ shows them to a policy.

    For trainers of one's own, of Stoix, rejax or purejaxrl: an algorithm that trains a recurrent
    policy on it is RL³ (Bhatia et al., section 4), or RL² if the learner is `object_level.none`. A
    reset draws a fresh task. An episode takes `horizon` env steps in it, over all restarts of
    object-level episodes, and then is terminated: the budget is all there is, and time is shown.
    Rewards and actions are those of `env`.

    Gymnax's `params` are the learner's parameters (`learner.init_params`); most have none. Gymnax's
    `step` draws a fresh task at each step, for the case that the episode ends: where that takes
    long, as in gridworlds, so do steps.

    Attributes:
        env: the distribution of tasks.
        learner: its object-level RL.
        horizon: env steps of a meta-episode.
        value_scale, reward_scale, squash_values: how values and rewards are shown
            (`rl3jax.Config`); `None`: as in trainings of rl3jax's own in `env`.
        shown: what of it all: all, no-values, no-counts or estimates.

    Raises:
        ConfigError: on construction, if a field's value is not allowed, the learner is for other
            states or actions than those of `env`, or nothing that it gives is `shown`.
    """

    env: TaskDistribution
    learner: ObjectLearner
    horizon: Size
    value_scale: Positive | None = None
    reward_scale: NonNegative | None = None
    squash_values: bool | None = None
    shown: str = "all"

    def __post_init__(self) -> None:
        check_usable(self.env)
        if not isinstance(self.learner, ObjectLearner):
            raise ConfigError(
                f"learner must be one of rl3jax.object_level, not {shown(self.learner)}"
            )
        check_fields(self)
        layout = self.layout  # made here, so that wrong scales are named now
        given = {field.name for field in layout.estimates} & layout.fields.keys()
        if self.shown != "all" and not given:
            raise ConfigError(f"shown {self.shown} leaves nothing of what {self.learner} gives")

    @functools.cached_property
    def layout(self) -> ObservationLayout:
        """What the numbers of an observation are; `layout.describe()` lists them."""
        usual = self.env.defaults_with(None, "rl3", self.horizon)
        units = {
            name: usual.get(name, getattr(Resolved, name)) if value is None else value
            for name in ("value_scale", "reward_scale", "squash_values")
            for value in [getattr(self, name)]
        }
        return layout_of(
            self.env,
            self.learner,
            self._distribution,
            self.horizon,
            shows_estimates=not isinstance(self.learner, NoLearner),
            squash=units.pop("squash_values"),
            shown=self.shown,
            **units,
        )

    @property
    def default_params(self) -> Any:
        """The object-level learner's parameters before any training; `()` if it has none."""
        return self.learner.init_params(jax.random.key(0))

    @property
    def num_actions(self) -> int:
        """A, the number of actions, or of anchors among those in a box."""
        return self.env.num_actions

    def action_space(self, params: Any = None) -> spaces.Discrete | spaces.Box:
        """The environment's own."""
        del params
        return self.env.action_space()

    def observation_space(self, params: Any = None) -> spaces.Box:
        """Vectors `[D]` without bounds."""
        del params
        return spaces.Box(-jnp.inf, jnp.inf, (self.layout.size,), jnp.zeros(()).dtype)

    def is_truncated(self, state: MetaState, params: Any) -> Bool[Array, ""]:
        """Never: a meta-episode's end is true."""
        del state, params
        return jnp.bool_(False)

    def observe(
        self, key: PRNGKeyArray, state: MetaState, action: Any, params: Any
    ) -> Float[Array, " D"]:
        """What a policy is shown in the current state; the key is not consumed."""
        del key, action
        return self._agent(params).observation(state.carry)

    def reset_env(self, key: PRNGKeyArray, params: Any) -> tuple[Float[Array, " D"], MetaState]:
        """The first observation `[D]` and state of a meta-episode in a fresh task."""
        key_task, key_start = jax.random.split(key)
        return self.begin(key_start, self.env.sample_task(key_task), params)

    def begin(
        self, key: PRNGKeyArray, task: Any, params: Any
    ) -> tuple[Float[Array, " D"], MetaState]:
        """The same, in a task that is given. The key is consumed."""
        agent = self._agent(params)
        _, env_state = self.env.reset(key, task)
        carry = agent.init(self.env.learner_state(env_state))
        return agent.observation(carry), MetaState(jnp.int32(0), task, env_state, carry)

    def step_env(
        self, key: PRNGKeyArray, state: MetaState, action: Any, params: Any
    ) -> tuple[
        Float[Array, " D"], MetaState, Float[Array, ""], Bool[Array, ""], dict[str, Bool[Array, ""]]
    ]:
        """One env step, without a new meta-episode: observation, state, reward, terminated, info.

        `info["episode_ended"]` says whether an object-level episode ended, `info["overflowed"]`
        whether the learner's table could no longer hold the task's data (estimates are then NaN).
        """
        agent = self._agent(params)
        step = interact(agent, self.env, state.task, state.env_state, state.carry, action, key)
        after = dataclasses.replace(
            state, time=state.time + 1, env_state=step.env_state, carry=step.agent
        )
        info = {"episode_ended": step.terminated | step.truncated, "overflowed": step.overflowed}
        ended = after.time >= self.horizon
        return agent.observation(after.carry), after, step.transition.r, ended, info

    @property
    def _distribution(self) -> Any:
        return distribution_over(self.env.action_space(), self.env.action_anchors, squashed=False)

    def _agent(self, params: Any) -> PolicyAgent:
        """All of a policy but its network."""
        return PolicyAgent(
            params=(),
            features=self.env.features,
            learner_params=params,
            network=_NO_NETWORK,
            learner=self.learner,
            distribution=self._distribution,
            layout=self.layout,
        )
