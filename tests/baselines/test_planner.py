"""Agents that act by the plans of a learner, with no policy."""

import jax
import jax.numpy as jnp
import numpy as np

from rl3jax import object_level
from rl3jax.baselines import PlannerAgent

ROW = ((0, 0, 1), (1, 0, 2), (2, 1, 2))  # three states: staying, left, right


def test_planners_are_greedy_in_the_exploring_plan_and_once_paid_in_the_careful_one():
    learner = object_level.local_model(ROW, 2, prior="none", optimism=500.0)
    ways = ((1, 0, -1.0, 0), (0, 1, -1.0, 1), (1, 1, -1.0, 2), (2, 0, -1.0, 1), (1, 1, 9.0, 2))
    for switches in (False, True):
        agent = PlannerAgent((), learner, switches)
        carry, differ = agent.init(1), []
        for i, (s, a, reward, s_next) in enumerate(ways):
            assert int(carry.state) == s
            carry = agent.observe(carry, a, reward, s_next, False, False, s_next)
            estimates = learner.estimates(carry.table, carry.state)
            by_q, by_q_plus = (np.asarray(x) for x in (estimates.q, estimates.q_optimistic))
            has_paid = i == 4
            q = by_q if switches and has_paid else by_q_plus
            action, _ = agent.act(carry, jax.random.key(i))
            assert q[int(action)] == q.max()
            differ.append(by_q.argmax() != by_q_plus.argmax())
        assert differ[-1]  # or the test could not tell the plans apart
    assert action.dtype == jnp.int32
