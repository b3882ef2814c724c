"""Object-level plans without a policy: what meta-RL has to add to.

They are those of a trained agent's own learner, with all that it has learned from other tasks.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import Agent, Interaction, PolicyAgent, cast, learnt
from rl3jax.baselines.greedy import LearnerCarry
from rl3jax.baselines.ties import argmax_at_random
from rl3jax.envs import ScaledFeatures, TaskDistribution
from rl3jax.object_level import NoLearner, ObjectLearner
from rl3jax.policy import ActionDistribution, Categorical, distribution_over

PLANNERS = ("planner", "planner-switch")
"""Greedy in the exploring plan; or only until the task has paid, and then in the careful one."""


class PlannerAgent(Agent):
    """Greedy in the plans of an object-level learner; ties are broken at random.

    What is expected counts as certain (certainty equivalence: Kumar and Varaiya 1986). Of actions
    in a box it takes anchors.

    Attributes:
        learner_params, learner: whose plans they are.
        switches: act by the careful plan once some state has paid more than 0 in the mean;
            otherwise always by the exploring one.
        careful: act by the careful plan always.
        actions: a distribution of those that are played, which knows the learner's; `None`: theirs.
        state_size: D of states that are vectors; `None` of indices.
    """

    learner_params: Any
    learner: ObjectLearner = struct.field(pytree_node=False)
    switches: bool = struct.field(pytree_node=False, default=False)
    careful: bool = struct.field(pytree_node=False, default=False)
    actions: ActionDistribution | None = struct.field(pytree_node=False, default=None)
    state_size: int | None = struct.field(pytree_node=False, default=None)

    @classmethod
    def for_env(
        cls, learner: ObjectLearner, env: TaskDistribution, careful: bool = False
    ) -> "PlannerAgent":
        """A planner that plays `env`, with the parameters that the learner begins with."""
        return cls(
            learner_params=learner.init_params(jax.random.key(0)),
            learner=learner,
            careful=careful,
            actions=distribution_over(env.action_space(), env.action_anchors),
            state_size=env.features.size if isinstance(env.features, ScaledFeatures) else None,
        )

    @property
    def bound_learner(self) -> ObjectLearner:
        """The learner with its parameters."""
        return self.learner.bind(self.learner_params)

    @property
    def _actions(self) -> ActionDistribution:
        return self.actions or Categorical(self.learner.num_actions)

    @override
    def takes(self) -> tuple[Array, Array]:
        state = jnp.int32(0) if self.state_size is None else jnp.zeros(self.state_size)
        return self._actions.no_action(), state

    @override
    def init(self, s: ArrayLike) -> LearnerCarry:
        return LearnerCarry(self.bound_learner.init(), cast("s", s, self.takes()[1]))

    @override
    def act(self, carry: LearnerCarry, key: PRNGKeyArray) -> tuple[Array, LearnerCarry]:
        learner, table, s = self.bound_learner, carry.table, carry.state
        estimates = learner.estimates(table, s)
        q = estimates.q if self.careful else estimates.q_optimistic
        assert q is not None
        if self.switches:
            has_paid = learner.features(table, s)["best_reward"].numbers[0] > 0
            q = jnp.where(has_paid, estimates.q, q)
        return self._actions.anchor(argmax_at_random(q, key)), carry

    @override
    def take_in(self, carry: LearnerCarry, interaction: Interaction) -> LearnerCarry:
        index = self._actions.index(interaction.action)
        table = learnt(self.bound_learner, carry.table, carry.state, index, interaction)
        return LearnerCarry(table, interaction.s_now)

    @override
    def overflowed(self, carry: LearnerCarry) -> Bool[Array, ""]:
        return jnp.asarray(self.learner.overflowed(carry.table))


def planners(agent: PolicyAgent) -> dict[str, PlannerAgent]:
    """By their names in `PLANNERS`, those that an agent's learner has; none if it has no Q⁺."""
    if isinstance(agent.learner, NoLearner):
        return {}
    learner, state = agent.bound_learner, agent.takes()[1]
    features = jax.eval_shape(lambda: learner.features(learner.init(), state))
    needed = {"planner": {"optimistic_advantages"}}
    needed["planner-switch"] = needed["planner"] | {"best_reward"}
    return {
        name: PlannerAgent(
            agent.learner_params,
            agent.learner,
            switches=name == "planner-switch",
            actions=agent.distribution,
            state_size=state.size if state.ndim else None,
        )
        for name in PLANNERS
        if needed[name] <= features.keys()
    }
