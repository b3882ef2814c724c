"""Heads: the planning head by hand, from an observation back to the plans, and as it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, make_trainer, object_level
from rl3jax.checks import ConfigError
from rl3jax.policy import Gaussian, PlanningHead, TanhGaussian
from rl3jax.rollout import rollouts, sample_tasks

GRID = {
    "env": "gridworld", "side": 5, "num_obstacle_sets": 1, "obstacle_set_len": 1,
    "num_water_sets": 1, "num_fatal": 1, "min_goal_manhat": 2, "min_optimal_return": 0.0,
    "n_tasks": 8, "minibatches": 2, "horizon": 12, "iterations": 1,
}  # fmt: skip


def test_the_planning_head_by_hand():
    head = PlanningHead(2, careful_at=1, exploring_at=3, value_scale=10.0, temperature=2.0)
    kernel = jnp.array([[0.5, -0.5, 0.2, 0.1]])
    params = {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.array([0.0, 0.0, 0.0, -2.0])}}}
    observation = jnp.array([9.0, 0.0, -0.4, -20.0, 0.0])  # advantages: 0, -4; -200, 0
    logits = head.apply(params, jnp.array([3.0]), observation)
    beta, trust = np.exp(0.6), 1 / (1 + np.exp(-(0.3 - 2)))
    plan = (1 - trust) * np.array([-30.0, 0]) + trust * np.array([0, -2.0])
    np.testing.assert_allclose(logits, [1.5, -1.5] + beta * plan, rtol=1e-5)


def test_the_planning_head_of_actions_in_a_box_by_hand():
    """The mean is the plan's average of the anchors, and deviations a third of half the box."""
    anchors = ((-1.0, 1.0), (0.0, 0.0), (1.0, 1.0))
    head = PlanningHead(4, careful_at=0, exploring_at=3, anchors=anchors, trust=0.5)
    observation = jnp.array([0.0, -1.0, -2.0, -1.0, 0.0, -1.0])
    params = head.init(jax.random.key(0), jnp.zeros(2), observation)
    out = head.apply(params, jnp.zeros(2), observation)
    weights = np.exp([-0.5, -0.5, -1.5]) / np.exp([-0.5, -0.5, -1.5]).sum()
    np.testing.assert_allclose(out[:2], weights @ np.array(anchors), rtol=1e-5)
    distribution = Gaussian((-2.0, 0.0), (2.0, 1.0), ((-2.0, 1.0), (0.0, 0.5), (2.0, 1.0)))
    assert distribution.drawn_anchors == anchors
    np.testing.assert_allclose(distribution._normal(out).stddev(), 0.33, atol=0.01)
    squashed = TanhGaussian(distribution.low, distribution.high, distribution.anchors)
    for u, anchor in zip(squashed.drawn_anchors, squashed.anchors, strict=True):
        np.testing.assert_allclose(squashed.played(jnp.array(u)), anchor, atol=0.1)


@pytest.mark.parametrize("squash", [True, False])
def test_a_fresh_policy_acts_by_its_plan(squash):
    """Most probable is what the mixture of the learner's own plans says, whatever is shown."""
    trainer = make_trainer(Config(**GRID, squash_values=squash))
    state = trainer.init(jax.random.key(0))
    agent = trainer.agent(state)
    key_tasks, key_rollouts = jax.random.split(jax.random.key(1))
    tasks = sample_tasks(trainer.env, jax.random.split(key_tasks, 4))
    played = rollouts(agent, trainer.env, tasks, 12, jax.random.split(key_rollouts, 4))
    fields, scale = trainer.layout.fields, trainer.layout.value_scale

    def shown(name):
        x = played.observation[..., fields[name]]
        return scale * (np.sign(x) * np.expm1(np.abs(x)) if squash else np.asarray(x))

    trust = 1 / (1 + np.exp(2))
    mixture = (1 - trust) * np.maximum(shown("optimistic_advantages"), -30)
    mixture += trust * np.maximum(shown("advantages"), -30)
    best = np.take_along_axis(mixture, np.asarray(played.action)[..., None], axis=-1)[..., 0]
    assert (best > mixture.max(axis=-1) - 0.5).all()  # up to the little that the residual adds


@pytest.mark.parametrize("network", ["gru", "transformer"])
def test_the_planning_head_goes_with_any_memory(network):
    trainer = make_trainer(Config(**GRID, network=network, width=8, temperature=0.5))
    _, metrics = trainer.update(trainer.init(jax.random.key(0)))
    assert np.isfinite(list(metrics.to_dict().values())).all()
    assert trainer.settings.actor.head.temperature == 0.5
    assert trainer.settings.critic.head.num_outputs == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": "mdp"}, "head planning needs optimistic_advantages"),
        ({"env": "mdp", "algo": "rl2"}, "head planning needs advantages"),
        ({"env": "gridworld", "algo": "rl2"}, "head planning needs advantages"),
        ({"env": "gridworld", "shown": "no-values"}, "head planning needs advantages"),
        ({"env": "mdp", "head": "planing"}, "did you mean 'planning'"),
        ({"env": "mdp", "head": "plain", "temperature": 1.0}, "temperature is an option of head"),
        ({"env": "gridworld", "temperature": 0.0}, "temperature must be larger than 0"),
        ({"env": "gridworld", "trust": 1.0}, r"trust must lie in \(0, 1\)"),
    ],
)
def test_what_a_planning_head_needs_is_said_in_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_trainer(Config(**{"head": "planning"} | changes))
    assert "\n" not in str(error.value)


def test_a_learner_of_ones_own_has_a_plain_head_unless_asked():
    learner = object_level.q_learning(25, 5)
    trainer = make_trainer(Config(**GRID), learner=learner)
    assert type(trainer.settings.actor.head).__name__ == "PlainHead"
