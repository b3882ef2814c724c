import dataclasses
import math

import chex
import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.config import Config
from rl3jax.learning import ppo
from rl3jax.learning.optimise import optimise
from rl3jax.networks import make_network
from rl3jax.policy import Categorical, Network, PlainHead

T, B, D, A = 6, 10, 4, 3


def hyperparams(**changes):
    return Config(**changes).resolve().hyperparams()


def settings(**changes):
    memory = make_network("markov", width=16, horizon=T)
    values = dict(
        actor=Network(memory, PlainHead(A)),
        critic=Network(memory, PlainHead(1)),
        distribution=Categorical(A),
        epochs=3,
        tasks_per_minibatch=4,
        kl_limit=math.inf,
        adam_epsilon=1e-7,
    )
    return ppo.Settings(**(values | changes))


def _update(settings, hyperparams, models, batch, progress, key):
    parts = ppo.parts(settings, hyperparams, progress, T)
    return optimise(parts, models, batch, settings.passes, key)


update = jax.jit(_update, static_argnums=0)


def batch(key, models, s):
    key_x, key_a, key_adv, key_target = jax.random.split(key, 4)
    observation = jax.random.normal(key_x, (T, B, D))
    behaviour = s.actor.unroll(models["actor"].params, observation)
    return ppo.Batch(
        observation=observation,
        action=jax.random.categorical(key_a, behaviour),
        behaviour=behaviour,
        advantage=jax.random.normal(key_adv, (T, B)),
        value_target=jax.random.normal(key_target, (T, B)),
    )


def fresh(s, seed=0, **changes):
    key_init, key_batch, key_update = jax.random.split(jax.random.key(seed), 3)
    models = ppo.init(s, hyperparams(**changes), D, key_init)
    return models, batch(key_batch, models, s), key_update


def actor_loss(models, s, data, entropy=0.1):
    arguments = s.actor, s.distribution, data, jnp.asarray(0.2), jnp.asarray(entropy)
    return ppo.actor_loss(models["actor"].params, *arguments)


# --- equations ---------------------------------------------------------------------------------


def test_gae_by_hand():
    # delta = [1 + .5*4 - 2, 0 + .5*8 - 4, 3 - 8] = [1, 0, -5]; decay .5 * .5 = .25
    advantage = ppo.gae(jnp.array([1.0, 0.0, 3.0]), jnp.array([2.0, 4.0, 8.0]), 0.5, 0.5)
    np.testing.assert_allclose(advantage, [1 - 0.25 * 1.25, -1.25, -5.0])


def test_gae_with_lambda_one_is_monte_carlo_minus_value():
    rewards, values = np.random.default_rng(0).normal(size=(2, 7, 3))
    advantage = ppo.gae(jnp.array(rewards), jnp.array(values), 0.9, 1.0)
    returns = np.zeros((8, 3))
    for t in reversed(range(7)):
        returns[t] = rewards[t] + 0.9 * returns[t + 1]
    np.testing.assert_allclose(advantage, returns[:-1] - values, rtol=1e-5, atol=1e-5)


def test_gae_with_lambda_zero_is_the_td_error():
    rewards, values = np.random.default_rng(1).normal(size=(2, 7, 3))
    advantage = ppo.gae(jnp.array(rewards), jnp.array(values), 0.9, 0.0)
    after = np.concatenate([values[1:], np.zeros((1, 3))])
    np.testing.assert_allclose(advantage, rewards + 0.9 * after - values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(1.0, 2.0, 2.0), (1.5, 2.0, 2.4), (0.5, 2.0, 1.0), (1.5, -2.0, -3.0), (0.5, -2.0, -1.6)],
)
def test_clipped_surrogate_is_pessimistic(ratio, advantage, expected):
    objective = ppo.clipped_surrogate(jnp.log(jnp.asarray(ratio)), jnp.asarray(advantage), 0.2)
    assert objective == pytest.approx(expected)


def test_linear_schedule_and_its_ends():
    start, end = jnp.asarray(0.1), jnp.asarray(0.0)
    schedule = [ppo.linear_schedule(start, end, jnp.asarray(p)) for p in (0.0, 0.25, 1.0, 2.0)]
    np.testing.assert_allclose(schedule, [0.1, 0.075, 0.0, 0.0], atol=1e-8)


# --- losses ------------------------------------------------------------------------------------


def test_steps_without_weight_are_as_if_they_had_not_been():
    """In the actor's loss and its gradient, entropy, KL and normal advantages; in chunks too."""
    s = settings(epochs=1, tasks_per_minibatch=B)
    models, data, _ = fresh(s)
    data = dataclasses.replace(data, behaviour=data.behaviour + 0.3 * data.observation[..., :A])
    acts = np.random.default_rng(0).random((T, B)) < 0.6
    kept = jax.tree.map(lambda x: x[acts][:, None], data)  # a memoryless policy: in any order
    weighted = dataclasses.replace(data, weight=jnp.asarray(acts, float))
    for x, y in zip(
        jax.tree.leaves(actor_loss(models, s, ppo.normalised(weighted))),
        jax.tree.leaves(actor_loss(models, s, ppo.normalised(kept))),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, rtol=1e-5)
    trained = [
        update(settings(epochs=1, tasks_per_minibatch=B, tasks_per_gradient=chunk, kl_limit=0.5),
               hyperparams(), models, weighted, jnp.zeros(()), jax.random.key(0))
        for chunk in (None, 2)
    ]  # fmt: skip
    chex.assert_trees_all_close(*trained, rtol=1e-4, atol=1e-5)


def test_actor_loss_at_the_behaviour_policy():
    s = settings()
    models, data, _ = fresh(s)
    loss, said = actor_loss(models, s, data)
    log_p = jax.nn.log_softmax(data.behaviour)
    assert said["kl"] == pytest.approx(0.0, abs=1e-6)
    entropy = float(-(jnp.exp(log_p) * log_p).sum(-1).mean())
    assert said["entropy"] == pytest.approx(entropy, rel=1e-5)
    assert loss == pytest.approx(float(-data.advantage.mean() - 0.1 * entropy), abs=1e-5)


def test_actor_statistics_agree_with_distrax():
    s = settings()
    models, data, _ = fresh(s)
    data = data.replace(behaviour=2.0 * data.behaviour + 0.1 * data.observation[..., :A])
    loss, said = actor_loss(models, s, data)
    behaviour = distrax.Categorical(logits=data.behaviour)
    current = distrax.Categorical(logits=s.actor.unroll(models["actor"].params, data.observation))
    log_ratio = current.log_prob(data.action) - behaviour.log_prob(data.action)
    objective = ppo.clipped_surrogate(log_ratio, data.advantage, 0.2).mean()
    assert said["entropy"] == pytest.approx(float(current.entropy().mean()), rel=1e-5)
    assert said["kl"] == pytest.approx(float(behaviour.kl_divergence(current).mean()), rel=1e-4)
    assert said["kl"] > 0.01
    assert loss == pytest.approx(float(-objective - 0.1 * said["entropy"]), abs=1e-5)


def test_actor_gradient_at_the_behaviour_policy_is_the_policy_gradient():
    s = settings()
    models, data, _ = fresh(s)

    def surrogate(params):
        return actor_loss({"actor": models["actor"].replace(params=params)}, s, data, 0.0)[0]

    def policy_gradient(params):
        log_p = jax.nn.log_softmax(s.actor.unroll(params, data.observation))
        taken = jnp.take_along_axis(log_p, data.action[..., None], axis=-1)[..., 0]
        return -(taken * data.advantage).mean()

    ours = jax.grad(surrogate)(models["actor"].params)
    theirs = jax.grad(policy_gradient)(models["actor"].params)
    chex.assert_trees_all_close(ours, theirs, atol=1e-5)


def test_critic_loss_is_half_the_mean_squared_error():
    s = settings()
    models, data, _ = fresh(s)
    value = s.critic.unroll(models["critic"].params, data.observation)[..., 0]
    expected = 0.5 * np.mean(np.square(value - data.value_target))
    loss = ppo.critic_loss(models["critic"].params, s.critic, data)
    assert loss == pytest.approx(expected, rel=1e-5)


# --- the two parts ------------------------------------------------------------------------------


def adam(s, h, progress=0.0, weight_decay=0.0):
    return ppo.optimiser(s, h, jnp.asarray(progress), weight_decay)


def test_weight_decay_is_l2_added_to_the_critics_gradient_before_adam():
    optimiser = adam(settings(), hyperparams(grad_clip=math.inf, learning_rate=0.1), 0.0, 0.5)
    params, grads = {"w": jnp.array([2.0, -4.0])}, {"w": jnp.array([1.0, 2.0])}
    updates, _ = optimiser.update(grads, optimiser.init(params), params)
    # gradient + 0.5 w = [2, 0]; Adam's first step is lr * sign
    np.testing.assert_allclose(updates["w"], [-0.1, 0.0], atol=1e-6)


def test_the_actor_has_no_weight_decay():
    s, h = settings(), hyperparams(weight_decay=0.5)
    w = {"w": jnp.ones(2)}
    parts = ppo.parts(s, h, jnp.zeros(()), T)
    moved = {
        name: bool(jnp.any(part.optimiser.update(
            {"w": jnp.zeros(2)}, part.optimiser.init(w), w)[0]["w"] != 0))
        for name, part in parts.items()
    }  # fmt: skip
    assert moved == {"actor": False, "critic": True}


def test_gradient_clip_bounds_the_norm_seen_by_adam():
    optimiser = adam(settings(adam_epsilon=1.0), hyperparams(grad_clip=0.5, learning_rate=1e-3))
    params = {"w": jnp.zeros(2)}
    updates, _ = optimiser.update({"w": jnp.array([30.0, 40.0])}, optimiser.init(params), params)
    clipped = np.array([0.3, 0.4])
    np.testing.assert_allclose(updates["w"], -1e-3 * clipped / (clipped + 1), rtol=1e-4)


def test_learning_rate_follows_its_schedule():
    h = hyperparams(learning_rate=0.4, final_learning_rate=0.0, grad_clip=math.inf)
    params = {"w": jnp.zeros(1)}
    for progress, rate in ((0.0, 0.4), (0.5, 0.2), (1.0, 0.0)):
        optimiser = adam(settings(), h, progress)
        updates, _ = optimiser.update({"w": jnp.ones(1)}, optimiser.init(params), params)
        np.testing.assert_allclose(updates["w"], -rate, atol=1e-5)


def test_actor_stops_after_the_epoch_that_reaches_the_kl_limit_and_critic_goes_on():
    models, data, key = fresh(settings())
    h = hyperparams(learning_rate=0.05)

    def run(epochs, kl_limit):
        s = settings(epochs=epochs, kl_limit=kl_limit)
        return update(s, h, models, data, jnp.zeros(()), jax.random.clone(key))

    stopped, diagnostics = run(4, 1e-9)
    one_epoch, _ = run(1, math.inf)
    unlimited, all_epochs = run(4, math.inf)
    assert (diagnostics["actor_epochs"], all_epochs["actor_epochs"]) == (1, 4)
    # what the actor became is what one epoch makes of it (keys of the epochs are the same)
    chex.assert_trees_all_close(stopped["actor"], one_epoch["actor"], rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(stopped["critic"], unlimited["critic"], rtol=1e-4, atol=1e-5)


def test_large_kl_limit_changes_nothing():
    models, data, key = fresh(settings())
    h = hyperparams()
    runs = [
        update(settings(kl_limit=limit), h, models, data, jnp.zeros(()), jax.random.clone(key))[0]
        for limit in (1e9, math.inf)
    ]
    chex.assert_trees_all_close(*runs, rtol=1e-5, atol=1e-7)


def test_ppo_learns_the_better_action_and_the_value():
    """A known optimum: action 1 pays, whatever is observed."""
    s = settings(epochs=8, tasks_per_minibatch=5)
    models, data, key = fresh(s)
    h = hyperparams(learning_rate=0.01, entropy=0.0)
    for iteration in range(15):
        key_action, key_update = jax.random.split(jax.random.fold_in(key, iteration))
        logits = s.actor.unroll(models["actor"].params, data.observation)
        action = jax.random.categorical(key_action, logits)
        paid = (action == 1).astype(float)
        data = data.replace(
            behaviour=logits,
            action=action,
            advantage=paid,
            value_target=jnp.full((T, B), 0.7),
        )
        models, _ = update(s, h, models, data, jnp.zeros(()), key_update)
    probability = jax.nn.softmax(s.actor.unroll(models["actor"].params, data.observation))[..., 1]
    assert probability.min() > 0.95
    value = ppo.values(s.critic, models["critic"].params, data.observation)
    np.testing.assert_allclose(value, 0.7, atol=0.1)
