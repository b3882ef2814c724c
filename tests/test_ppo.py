import dataclasses
import functools
import math

import chex
import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from rl3jax import ppo
from rl3jax.config import Config
from rl3jax.devices import AXIS, Devices
from rl3jax.networks import make_network

T, B, D, A = 6, 10, 4, 3

update = jax.jit(ppo.update, static_argnums=0)


def train_actor(phase, actor, minibatch):
    return _train_actor(phase.settings, phase[1:], actor, minibatch)


def train_critic(phase, critic, minibatch):
    return _train_critic(phase.settings, phase[1:], critic, minibatch)


@functools.partial(jax.jit, static_argnums=0)
def _train_actor(settings, rest, actor, minibatch):
    return ppo._train_actor(ppo.Phase(settings, *rest), actor, minibatch)


@functools.partial(jax.jit, static_argnums=0)
def _train_critic(settings, rest, critic, minibatch):
    return ppo._train_critic(ppo.Phase(settings, *rest), critic, minibatch)


def hyperparams(**changes):
    return Config(**changes).resolve().hyperparams()


def settings(**changes):
    network = make_network("markov", width=16, horizon=T)
    values = dict(
        actor=dataclasses.replace(network, num_outputs=A),
        critic=dataclasses.replace(network, num_outputs=1),
        epochs=3,
        tasks_per_minibatch=4,
        kl_limit=math.inf,
        adam_epsilon=1e-7,
    )
    return ppo.Settings(**(values | changes))


def batch(key, models, s):
    key_x, key_a, key_adv, key_target = jax.random.split(key, 4)
    observation = jax.random.normal(key_x, (T, B, D))
    logits = s.actor.unroll(models.actor.params, observation)
    return ppo.Batch(
        observation=observation,
        action=jax.random.categorical(key_a, logits),
        log_probs=jax.nn.log_softmax(logits),
        advantage=jax.random.normal(key_adv, (T, B)),
        value_target=jax.random.normal(key_target, (T, B)),
    )


def fresh(s, seed=0, **changes):
    key_init, key_batch, key_update = jax.random.split(jax.random.key(seed), 3)
    models = ppo.init(s, hyperparams(**changes), D, key_init)
    return models, batch(key_batch, models, s), key_update


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


def test_actor_loss_at_the_behaviour_policy():
    s = settings()
    models, data, _ = fresh(s)
    loss, (entropy, kl) = ppo.actor_loss(
        models.actor.params, s.actor, data, jnp.asarray(0.2), jnp.asarray(0.1)
    )
    log_p = data.log_probs
    assert kl == pytest.approx(0.0, abs=1e-6)
    assert entropy == pytest.approx(float(-(jnp.exp(log_p) * log_p).sum(-1).mean()), rel=1e-5)
    assert loss == pytest.approx(float(-data.advantage.mean() - 0.1 * entropy), abs=1e-5)


def test_actor_statistics_agree_with_distrax():
    s = settings()
    models, data, _ = fresh(s)
    data = data.replace(
        log_probs=jax.nn.log_softmax(2.0 * data.log_probs + 0.1 * data.observation[..., :A])
    )
    loss, (entropy, kl) = ppo.actor_loss(
        models.actor.params, s.actor, data, jnp.asarray(0.2), jnp.asarray(0.1)
    )
    behaviour = distrax.Categorical(logits=data.log_probs)
    current = distrax.Categorical(logits=s.actor.unroll(models.actor.params, data.observation))
    log_ratio = current.log_prob(data.action) - behaviour.log_prob(data.action)
    objective = ppo.clipped_surrogate(log_ratio, data.advantage, 0.2).mean()
    assert entropy == pytest.approx(float(current.entropy().mean()), rel=1e-5)
    assert kl == pytest.approx(float(behaviour.kl_divergence(current).mean()), rel=1e-4)
    assert kl > 0.01
    assert loss == pytest.approx(float(-objective - 0.1 * entropy), abs=1e-5)


def test_actor_gradient_at_the_behaviour_policy_is_the_policy_gradient():
    s = settings()
    models, data, _ = fresh(s)

    def surrogate(params):
        return ppo.actor_loss(params, s.actor, data, jnp.asarray(0.2), jnp.zeros(()))[0]

    def policy_gradient(params):
        log_p = jax.nn.log_softmax(s.actor.unroll(params, data.observation))
        taken = jnp.take_along_axis(log_p, data.action[..., None], axis=-1)[..., 0]
        return -(taken * data.advantage).mean()

    ours = jax.grad(surrogate)(models.actor.params)
    theirs = jax.grad(policy_gradient)(models.actor.params)
    chex.assert_trees_all_close(ours, theirs, atol=1e-5)


def test_critic_loss_is_half_the_mean_squared_error():
    s = settings()
    models, data, _ = fresh(s)
    value = s.critic.unroll(models.critic.params, data.observation)[..., 0]
    expected = 0.5 * np.mean(np.square(value - data.value_target))
    loss = ppo.critic_loss(models.critic.params, s.critic, data)
    assert loss == pytest.approx(expected, rel=1e-5)


# --- optimisation ------------------------------------------------------------------------------


def test_weight_decay_is_l2_added_to_the_critics_gradient_before_adam():
    s = settings()
    phase = ppo.Phase(s, hyperparams(grad_clip=math.inf, learning_rate=0.1), jnp.zeros(()))
    optimiser = phase.optimiser(0.5)
    params, grads = {"w": jnp.array([2.0, -4.0])}, {"w": jnp.array([1.0, 2.0])}
    updates, _ = optimiser.update(grads, optimiser.init(params), params)
    # gradient + 0.5 w = [2, 0]; Adam's first step is lr * sign
    np.testing.assert_allclose(updates["w"], [-0.1, 0.0], atol=1e-6)


def test_gradient_clip_bounds_the_norm_seen_by_adam():
    h = hyperparams(grad_clip=0.5, learning_rate=1e-3)
    phase = ppo.Phase(settings(adam_epsilon=1.0), h, jnp.zeros(()))
    optimiser = phase.optimiser(0.0)
    params = {"w": jnp.zeros(2)}
    updates, _ = optimiser.update({"w": jnp.array([30.0, 40.0])}, optimiser.init(params), params)
    clipped = np.array([0.3, 0.4])
    np.testing.assert_allclose(updates["w"], -1e-3 * clipped / (clipped + 1), rtol=1e-4)


def test_learning_rate_follows_its_schedule():
    h = hyperparams(learning_rate=0.4, final_learning_rate=0.0)
    rates = [ppo.Phase(settings(), h, jnp.asarray(p)).learning_rate for p in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(rates, [0.4, 0.2, 0.0], atol=1e-7)


def test_update_equals_its_steps_written_out():
    """Whole equals parts: epochs × minibatches (the last one smaller) in a plain Python loop."""
    s = settings(epochs=2)
    models, data, key = fresh(s)
    h = hyperparams()
    progress = jnp.asarray(0.3)
    whole, _ = update(s, h, models, data, progress, key)

    phase = ppo.Phase(s, h, progress)
    for index in range(2):
        order = ppo.shuffled(s, B, jax.random.fold_in(key, index))
        assert sorted(order.tolist()) == list(range(B))
        for tasks in (order[:4], order[4:8], order[8:]):
            minibatch = jax.tree.map(lambda x, tasks=tasks: x[:, tasks], data)
            actor, _ = train_actor(phase, models.actor, minibatch)
            critic, _ = train_critic(phase, models.critic, minibatch)
            models = ppo.Models(actor, critic)
    chex.assert_trees_all_close(whole, models, rtol=1e-4, atol=1e-6)


def test_actor_stops_after_the_epoch_that_reaches_the_kl_limit_and_critic_goes_on():
    free = settings(epochs=4)
    models, data, key = fresh(free)
    h = hyperparams(learning_rate=0.05)

    def run(epochs, kl_limit):
        s = settings(epochs=epochs, kl_limit=kl_limit)
        return update(s, h, models, data, jnp.zeros(()), key)

    stopped, diagnostics = run(4, 1e-9)
    unlimited, all_epochs = run(4, math.inf)
    assert (diagnostics.actor_epochs, all_epochs.actor_epochs) == (1, 4)

    # what the actor became is what one epoch makes of it (keys of the epochs are the same)
    phase = ppo.Phase(free, h, jnp.zeros(()))
    order = ppo.shuffled(free, B, jax.random.fold_in(key, 0))
    actor = models.actor
    for tasks in (order[:4], order[4:8], order[8:]):
        minibatch = jax.tree.map(lambda x, tasks=tasks: x[:, tasks], data)
        actor, _ = train_actor(phase, actor, minibatch)
    chex.assert_trees_all_close(stopped.actor.params, actor.params, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(
        stopped.critic.params, unlimited.critic.params, rtol=1e-4, atol=1e-5
    )


def test_large_kl_limit_changes_nothing():
    models, data, key = fresh(settings())
    h = hyperparams()
    with_limit, _ = update(settings(kl_limit=1e9), h, models, data, jnp.zeros(()), key)
    without, _ = update(settings(), h, models, data, jnp.zeros(()), key)
    chex.assert_trees_all_close(with_limit, without, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("n_tasks", "size"), [(12, 4), (10, 4), (15, 4), (8, 8), (5, 8), (24, 1)])
def test_an_epoch_takes_every_task_once_in_a_new_order(n_tasks, size):
    s = settings(tasks_per_minibatch=min(size, n_tasks))
    orders = [ppo.shuffled(s, n_tasks, jax.random.key(i)).tolist() for i in range(40)]
    assert all(sorted(order) == list(range(n_tasks)) for order in orders)
    assert len(set(map(tuple, orders))) > 20 or size >= n_tasks


def test_minibatches_are_random_and_each_has_its_share_of_every_group():
    """Of 12 tasks 4 make a minibatch: one of 0–2, one of 3–5, … each as often as the others."""
    s = settings(tasks_per_minibatch=4)
    keys = jax.random.split(jax.random.key(0), 3000)
    first = np.asarray(jax.vmap(lambda key: ppo.shuffled(s, 12, key)[:4])(keys))
    np.testing.assert_array_equal(np.sort(first // 3, axis=1), np.tile(np.arange(4), (3000, 1)))
    counts = np.bincount(first.ravel(), minlength=12)
    assert chisquare(counts).pvalue > 0.01
    together = np.mean((first == 0).any(axis=1) & (first == 3).any(axis=1))
    assert together == pytest.approx(1 / 9, abs=0.02)


def test_several_devices_share_the_minibatches_of_one():
    """Of 12 tasks, device 0 has 0–5 and device 1 has 6–11; each counts its own from 0."""
    alone = ppo.shuffled(settings(tasks_per_minibatch=4), 12, jax.random.key(0)).reshape(3, 2, 2)
    shared = settings(tasks_per_minibatch=4, devices=Devices(2))
    of_device = functools.partial(ppo.shuffled, shared, 6)
    own = jax.vmap(of_device, None, axis_name=AXIS, axis_size=2)(jax.random.key(0))
    for device in range(2):
        expected = alone[:, device] - 6 * device
        np.testing.assert_array_equal(own[device].reshape(3, 2), expected)


@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_gradients_in_chunks_are_those_of_the_whole_minibatch(size):
    models, data, key = fresh(settings(tasks_per_minibatch=B))
    h = hyperparams()
    arguments = (h, models, data, jnp.zeros(()), key)
    whole, stats = update(settings(tasks_per_minibatch=B), *arguments)
    chunked, chunked_stats = update(
        settings(tasks_per_minibatch=B, tasks_per_gradient=size), *arguments
    )
    chex.assert_trees_all_close(chunked, whole, rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_close(chunked_stats, stats, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5, 10, 64])
def test_chunks_of_tasks_change_no_result(size):
    x = jnp.arange(float(T * B * D)).reshape(T, B, D)
    y = jnp.arange(float(T * B)).reshape(T, B)
    chunked = ppo.over_task_chunks(lambda x, y: x.sum(-1) + y, size, x, y)
    np.testing.assert_array_equal(chunked, x.sum(-1) + y)


def test_chunks_of_one_array_whose_results_have_further_axes():
    x = jnp.arange(float(T * B * D)).reshape(T, B, D)
    np.testing.assert_array_equal(ppo.over_task_chunks(lambda x: 2 * x, 3, x), 2 * x)


def test_ppo_learns_the_better_action_and_the_value():
    """A known optimum: action 1 pays, whatever is observed."""
    s = settings(epochs=8, tasks_per_minibatch=5)
    models, data, key = fresh(s)
    h = hyperparams(learning_rate=0.01, entropy=0.0)
    for iteration in range(15):
        key_action, key_update = jax.random.split(jax.random.fold_in(key, iteration))
        logits = s.actor.unroll(models.actor.params, data.observation)
        action = jax.random.categorical(key_action, logits)
        paid = (action == 1).astype(float)
        data = data.replace(
            log_probs=jax.nn.log_softmax(logits),
            action=action,
            advantage=paid,
            value_target=jnp.full((T, B), 0.7),
        )
        models, _ = update(s, h, models, data, jnp.zeros(()), key_update)
    probability = jax.nn.softmax(s.actor.unroll(models.actor.params, data.observation))[..., 1]
    assert probability.min() > 0.95
    value = ppo.values(s.critic, models.critic.params, data.observation)
    np.testing.assert_allclose(value, 0.7, atol=0.1)
