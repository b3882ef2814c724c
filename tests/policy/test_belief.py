"""Beliefs: VariBAD's loss by hand, and what the house makes of a belief."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Config, make_trainer
from rl3jax.checks import ConfigError
from rl3jax.policy import Evidence, ObservationLayout, Varibad
from rl3jax.symlog import symlog

T, B, S, A = 4, 2, 3, 2
LAYOUT = ObservationLayout(action_size=A, num_features=S, horizon=T, task_horizon=None)


def make_belief(decoder):
    return Varibad(
        num_states=S if decoder == "states" else None, decoder=decoder, reward_scale=0.5, width=4,
        latent_size=2, kl_weight=0.3, learning_rate=1e-3, decoded_beliefs=9, decoded_steps=9,
    )  # fmt: skip


def make_evidence():
    rng = np.random.default_rng(0)
    states = rng.integers(S, size=(T + 1, B))
    return Evidence(
        state=jax.nn.one_hot(states[:-1], S),
        action=jax.nn.one_hot(rng.integers(A, size=(T, B)), A),
        reward=jnp.array([[1.0, -0.1], [-0.1, -0.1], [1.0, 1.0], [-0.1, 1.0]]),
        entered=jax.nn.one_hot(states[1:], S),
        entered_index=jnp.asarray(states[1:], jnp.int32),
    )


def kl_by_hand(belief, before):
    (mean, log_variance), (m, log_v) = belief, before
    v, u = np.exp(log_variance), np.exp(log_v)
    return sum(np.log(np.sqrt(u / v)) + (v + (mean - m) ** 2) / (2 * u) - 0.5)


def told_by_hand(decoder, latent, step):
    """Dense relu layers on (latent, s, a, s'), whose first kernel is in two parts."""
    first, of_x, second, last = (decoder["params"][f"Dense_{i}"] for i in range(4))
    x = np.concatenate([step.state, step.action, step.entered])
    hidden = np.maximum(latent @ first["kernel"] + first["bias"] + x @ of_x["kernel"], 0)
    hidden = np.maximum(hidden @ second["kernel"] + second["bias"], 0)
    return (hidden @ last["kernel"] + last["bias"])[0]


@pytest.mark.parametrize("decoder", ["states", "transitions"])
def test_the_loss_is_that_of_all_beliefs_and_steps_one_by_one(decoder):
    belief, evidence = make_belief(decoder), make_evidence()
    key_params, key_chance = jax.random.split(jax.random.key(1))
    params = belief.init_params(key_params, LAYOUT)
    keys = jax.random.split(key_chance, B)
    chance = jax.vmap(lambda key: belief.chance(key, T), out_axes=1)(keys)
    weight = jnp.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])

    likelihood, divergence = 0.0, 0.0
    update, features = jax.jit(belief.update), jax.jit(belief.features)
    for b in range(B):
        steps = [jax.tree.map(lambda x, t=t, b=b: x[t, b], evidence) for t in range(T)]
        held, before = belief.init(), (np.zeros(2), np.zeros(2))
        for k in range(T + 1):
            mean, log_variance = (f.numbers for f in features(params, held).values())
            divergence += kl_by_hand((mean, log_variance), before)
            before = mean, log_variance
            latent = mean + np.exp(log_variance / 2) * chance.noise[k, b]
            for t, step in enumerate(steps):
                if decoder == "states":
                    p = belief.decoded(params, latent)[step.entered_index]
                    of_step = np.log(p if step.reward == 1 else 1 - p)
                else:
                    told = told_by_hand(params["decoder"], latent, step)
                    of_step = -((told - 0.5 * step.reward) ** 2)
                likelihood += weight[t, b] * of_step
            held = held if k == T else update(params, held, steps[k])

    loss, said = jax.jit(belief.loss)(params, evidence, chance, weight)
    np.testing.assert_allclose(said["decoding_loss"], -likelihood / B, rtol=1e-5)
    np.testing.assert_allclose(said["belief_kl"], divergence / B, rtol=1e-4)
    np.testing.assert_allclose(loss, (-likelihood + 0.3 * divergence) / B, rtol=1e-5)
    if decoder == "transitions":  # of some of the steps, scaled up: in the mean the same
        some = [chance._replace(steps=jnp.full((1, B), t)) for t in range(T)]
        losses = [jax.jit(belief.loss)(params, evidence, one, weight)[0] for one in some]
        np.testing.assert_allclose(np.mean(losses), loss, rtol=1e-5)


SMALL = {"belief": "varibad", "belief_width": 6, "latent_size": 2, "width": 8, "n_tasks": 8,
         "minibatches": 2, "horizon": 12, "iterations": 1, "epochs": 2}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "decoder"),
    [
        ({"env": "gridnavi", "algo": "rl2"}, "states"),
        ({"env": "bandit", "algo": "rl3"}, "transitions"),
        ({"env": "cartpole", "algo": "rl2"}, "transitions"),  # episodes wait
    ],
)
def test_a_belief_is_carried_shown_recorded_and_learned(config, decoder):
    trainer = make_trainer(Config(**SMALL | config))
    before = trainer.init(jax.random.key(0))
    assert before.models.keys() == {"actor", "critic", "belief"}
    assert list(trainer.layout.fields)[-2:] == ["belief_mean", "belief_log_variance"]
    assert ("value" in trainer.layout.fields) == (config["algo"] == "rl3")
    params, belief = before.models["belief"].params, trainer.belief
    assert belief.decoder == decoder
    keys = jax.random.split(jax.random.key(1))
    played = jax.jit(trainer.collect)(before, *keys)

    def step(held, evidence):
        return belief.update(params, held, evidence), belief.features(params, held)

    of_one = jax.tree.map(lambda x: x[:, 3], played.evidence)
    _, features = jax.lax.scan(step, belief.init(), of_one)
    for name, feature in features.items():
        shown = played.observation[:, 3, trainer.layout.fields[name]]
        np.testing.assert_allclose(shown, symlog(feature.numbers), atol=1e-6)
    assert (np.abs(np.diff(features["belief_mean"].numbers, axis=0)) > 0).all()

    after, metrics = trainer.update(before)
    assert np.isfinite(list(metrics.to_dict().values())).all()
    assert {
        "belief_loss",
        "belief_grad_norm",
        "decoding_loss",
        "belief_kl",
    } <= metrics.to_dict().keys()
    leaves = (jax.tree.leaves(state.models["belief"].params) for state in (before, after))
    assert all((a != b).any() for a, b in zip(*leaves, strict=True))
    # Where the policy's learning rate has fallen to 0, so has the belief's.
    last = dataclasses.replace(before, iteration=before.iteration + 1)
    learned = (state.models["belief"].params for state in (before, trainer.update(last)[0]))
    chex.assert_trees_all_equal(*learned)


def test_a_belief_learns_what_its_task_pays():
    """Two tasks that pay alike for all that is done: after a step there is nothing to guess."""
    belief, evidence = make_belief("transitions"), make_evidence()
    belief = dataclasses.replace(belief, reward_scale=1.0, kl_weight=0.0)
    evidence = evidence._replace(reward=jnp.broadcast_to(jnp.array([1.0, -1.0]), (T, B)))
    params = belief.init_params(jax.random.key(0), LAYOUT)

    def train(params, key):
        keys = jax.random.split(key, B)
        chance = jax.vmap(lambda key: belief.chance(key, T), out_axes=1)(keys)
        (_, said), grad = jax.value_and_grad(belief.loss, has_aux=True)(
            params, evidence, chance, None
        )
        return jax.tree.map(lambda x, dx: x - 0.01 * dx, params, grad), said["decoding_loss"]

    _, losses = jax.lax.scan(train, params, jax.random.split(jax.random.key(1), 300))
    prior_alone = T * 1.0  # the variance of what tasks pay, at each step that the prior decodes
    assert losses[0] > 3 * prior_alone
    assert prior_alone * 0.7 < losses[-50:].mean() < prior_alone * 1.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "gru"}, "belief varibad is the memory .* needs network markov, not Gru"),
        ({"preset": "paper"}, "needs network markov, not Transformer"),
        ({"belief": "varibat"}, "did you mean 'varibad'"),
        ({"belief": "none", "latent_size": 3}, "latent_size is an option of belief varibad"),
        ({"env": "pendulum", "belief_decoder": "states"}, "belief_decoder states is for states by"),
        ({"belief_decoder": "goals"}, "belief_decoder"),
    ],
)
def test_what_a_belief_needs_is_said_in_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_trainer(Config(**{"belief": "varibad"} | changes))
    assert "\n" not in str(error.value)
