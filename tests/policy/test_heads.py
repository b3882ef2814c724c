"""Heads by hand, as wholes of parts, and as they start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, make_trainer, object_level
from rl3jax.checks import ConfigError
from rl3jax.policy import Gaussian, HyperHead, PlanningHead, StateHead, TanhGaussian
from rl3jax.rollout import rollouts, sample_tasks

SIZES = {"n_tasks": 8, "minibatches": 2, "horizon": 12, "iterations": 1}
GRID = {
    "env": "gridworld", "side": 5, "num_obstacle_sets": 1, "obstacle_set_len": 1,
    "num_water_sets": 1, "num_fatal": 1, "min_goal_manhat": 2, "min_optimal_return": 0.0, **SIZES,
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


BOX = {"env": "point-robot", **SIZES}


@pytest.mark.parametrize(
    ("config", "head", "option", "value"),
    [
        (GRID | {"network": "gru"}, "planning", "temperature", 0.5),
        (GRID | {"network": "transformer"}, "planning", "temperature", 0.5),
        (BOX | {"network": "gru", "squash_actions": True}, "hyper", "hyper_inputs", 4),
        (BOX | {"network": "lstm", "algo": "rl2"}, "state", "head_width", 5),
    ],
)
def test_heads_go_with_any_memory_and_actions(config, head, option, value):
    trainer = make_trainer(Config(**config, width=8, head=head, **{option: value}))
    before = trainer.init(jax.random.key(0))
    after, metrics = trainer.update(before)
    assert np.isfinite(list(metrics.to_dict().values())).all()
    assert getattr(trainer.settings.actor.head, option) == value
    assert trainer.settings.critic.head.num_outputs == 1
    old, new = (jax.tree.leaves(state.models["actor"].params["head"]) for state in (before, after))
    assert all((a != b).any() for a, b in zip(old, new, strict=True))


def layers_by_hand(x, *layers):
    """Dense layers of (kernel, bias), relu between them."""
    for kernel, bias in layers[:-1]:
        x = jnp.maximum(x @ kernel + bias, 0)
    kernel, bias = layers[-1]
    return x @ kernel + bias


def drawn(*sizes):
    """Arrays of so many normal numbers."""
    keys = jax.random.split(jax.random.key(0), len(sizes))
    return [jax.random.normal(key, (size,)) for key, size in zip(keys, sizes, strict=True)]


def test_the_state_head_by_hand():
    head, (features, observation) = StateHead(2, head_width=3), drawn(4, 5)
    params = head.init(jax.random.key(1), features, observation)
    layers = [(x["kernel"], x["bias"]) for x in params["params"].values()]
    by_hand = layers_by_hand(jnp.concatenate([features, observation]), *layers)
    np.testing.assert_allclose(head.apply(params, features, observation), by_hand, atol=1e-6)


def test_a_hyper_head_is_a_network_whose_weights_are_generated():
    head, (features, observation) = (
        HyperHead(2, head_width=5, hyper_inputs=4, hyper_width=3),
        drawn(6, 7),
    )
    started = head.init(jax.random.key(1), features, observation)
    leaves, structure = jax.tree.flatten(started)
    values = drawn(*(leaf.size for leaf in leaves))
    moved = [x.reshape(leaf.shape) for x, leaf in zip(values, leaves, strict=True)]
    params = jax.tree.unflatten(structure, moved)

    def by_hand(params):
        own = params["params"]
        z = features @ own["Dense_0"]["kernel"] + own["Dense_0"]["bias"]
        z = jnp.tanh(z @ own["Dense_1"]["kernel"] + own["Dense_1"]["bias"])
        layers = []
        for i, n in enumerate((5, 5, 2)):
            layer = own[f"GeneratedDense_{i}"]["Dense_0"]
            kernels = layer["kernel"].reshape(-1, 4, n)  # [D, K + 1, N]
            biases = layer["bias"].reshape(4, n)
            kernel = kernels[:, 0] + sum(z[k] * kernels[:, k + 1] for k in range(3))
            layers.append((kernel, biases[0] + sum(z[k] * biases[k + 1] for k in range(3))))
        return layers_by_hand(observation, *layers)

    logits = head.apply(params, features, observation)
    np.testing.assert_allclose(logits, by_hand(params), rtol=1e-4)
    # At the start features have no say, and the weights are those of any network.
    logits = head.apply(started, features, observation)
    np.testing.assert_array_equal(head.apply(started, -features, observation), logits)
    kernel = started["params"]["GeneratedDense_1"]["Dense_0"]["kernel"]
    assert (kernel[:, 5:] == 0).all()
    assert 0.7 < jnp.abs(kernel[:, :5]).max() / np.sqrt(6 / 10) <= 1


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
        ({"head": "state", "hyper_width": 3}, "hyper_width is an option of head hyper"),
        ({"head": "hyper", "head_width": 0}, "head_width must be at least 1, not 0"),
    ],
)
def test_what_a_head_needs_is_said_in_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_trainer(Config(**{"head": "planning"} | changes))
    assert "\n" not in str(error.value)


def test_a_learner_of_ones_own_has_a_plain_head_unless_asked():
    learner = object_level.q_learning(25, 5)
    trainer = make_trainer(Config(**GRID), learner=learner)
    assert type(trainer.settings.actor.head).__name__ == "PlainHead"
