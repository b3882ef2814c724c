"""Object-level plans without a policy: what meta-RL has to add to.

They are those of a trained agent's own learner, with all that it has learned from other tasks.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int, PRNGKeyArray
from typing_extensions import override

from rl3jax.agent import IndexAgent, Interaction, PolicyAgent, cast
from rl3jax.baselines.greedy import LearnerCarry
from rl3jax.baselines.ties import argmax_at_random
from rl3jax.object_level import ObjectLearner, TabularLearner

PLANNERS = ("planner", "planner-switch")
"""Greedy in the exploring plan; or only until the task has paid, and then in the careful one."""


class PlannerAgent(IndexAgent):
    """Greedy in the plans of an object-level learner; ties are broken at random.

    Attributes:
        learner_params, learner: whose plans they are.
        switches: act by the careful plan once some state has paid more than 0 in the mean;
            otherwise always by the exploring one.
    """

    learner_params: Any
    learner: ObjectLearner = struct.field(pytree_node=False)
    switches: bool = struct.field(pytree_node=False, default=False)

    @property
    def bound_learner(self) -> ObjectLearner:
        """The learner with its parameters."""
        return self.learner.bind(self.learner_params)

    @override
    def init(self, s: ArrayLike) -> LearnerCarry:
        return LearnerCarry(self.bound_learner.init(), cast("s", s, jnp.int32(0)))

    @override
    def act(self, carry: LearnerCarry, key: PRNGKeyArray) -> tuple[Int[Array, ""], LearnerCarry]:
        learner, table, s = self.bound_learner, carry.table, carry.state
        estimates = learner.estimates(table, s)
        q = estimates.q_optimistic
        if self.switches:
            has_paid = learner.features(table, s)["best_reward"].numbers[0] > 0
            q = jnp.where(has_paid, estimates.q, q)
        return argmax_at_random(q, key), carry

    @override
    def take_in(self, carry: LearnerCarry, interaction: Interaction) -> LearnerCarry:
        i = interaction
        table = self.bound_learner.update(
            carry.table, carry.state, i.action, i.reward, i.s_next, i.terminated
        )
        return LearnerCarry(table, i.s_now)

    @override
    def overflowed(self, carry: LearnerCarry) -> Bool[Array, ""]:
        return jnp.asarray(self.learner.overflowed(carry.table))


def planners(agent: PolicyAgent) -> dict[str, PlannerAgent]:
    """By their names in `PLANNERS`, those that an agent's learner has; none if it has no Q⁺."""
    if not isinstance(agent.learner, TabularLearner):
        return {}
    learner = agent.bound_learner
    features = jax.eval_shape(lambda: learner.features(learner.init(), jnp.int32(0)))
    needed = {"planner": {"optimistic_advantages"}}
    needed["planner-switch"] = needed["planner"] | {"best_reward"}
    return {
        name: PlannerAgent(agent.learner_params, agent.learner, switches=name == "planner-switch")
        for name in PLANNERS
        if needed[name] <= features.keys()
    }
