"""One loop trains however many parts: epochs × minibatches × devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import chisquare

from rl3jax.devices import AXIS, Devices
from rl3jax.learning.optimise import Learned, Part, Passes, optimise, over_task_chunks, shuffled

T, B, D = 6, 10, 4


def mean_of(name, noise=0.0):
    """A part that learns the mean of one array of the batch, and says how far it is."""

    def loss(params, batch, key):
        error = jnp.mean(jnp.square(params - batch[name].mean(axis=0)))
        chance = noise * params * jax.random.normal(key) if noise else 0.0
        return error + chance, {f"distance_{name}": error}

    return loss


def part(loss, **changes):
    return Part(**(dict(loss=loss, optimiser=optax.sgd(0.1), tasks_at_a_time=B) | changes))


def learned(parts):
    zero = jnp.zeros(())
    return {name: Learned(zero, one.optimiser.init(zero)) for name, one in parts.items()}


def batch():
    x, y = jax.random.normal(jax.random.key(1), (2, T, B))
    return {"x": x + 3.0, "y": y - 1.0}


def run(parts, epochs=2, size=4, seed=0):
    passes = Passes(epochs, size)
    return jax.jit(
        lambda state, data, key: optimise(parts, state, data, passes, key)
    )(learned(parts), batch(), jax.random.key(seed))  # fmt: skip


def test_a_third_part_is_one_entry_more_and_the_others_train_as_without_it():
    two = {"first": part(mean_of("x")), "second": part(mean_of("y"))}
    three = two | {"third": part(mean_of("x"), optimiser=optax.adam(0.5))}
    without, _ = run(two)
    together, said = run(three, epochs=30)
    also, _ = run(three)
    chex.assert_trees_all_close({k: also[k] for k in two}, without, rtol=1e-6)
    np.testing.assert_allclose(together["third"].params, 3.0, atol=0.5)
    assert {"third_loss", "third_grad_norm", "first_loss", "distance_x"} <= said.keys()
    assert all(value.shape == () for value in said.values())


def test_optimise_equals_its_steps_written_out():
    """Whole equals parts: epochs × minibatches (the last one smaller) in a plain Python loop."""
    parts = {"first": part(mean_of("x")), "second": part(mean_of("y"), optimiser=optax.adam(0.1))}
    whole, _ = run(parts)
    state, data = learned(parts), batch()
    for index in range(2):
        key_order, _ = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
        order = shuffled(Passes(2, 4), B, key_order)
        assert sorted(order.tolist()) == list(range(B))
        for tasks in (order[:4], order[4:8], order[8:]):
            minibatch = {name: x[:, tasks] for name, x in data.items()}
            for name, one in parts.items():
                params, opt_state = state[name].params, state[name].opt_state
                grads, _ = jax.grad(one.loss, has_aux=True)(params, minibatch, None)
                updates, opt_state = one.optimiser.update(grads, opt_state, params)
                state[name] = Learned(optax.apply_updates(params, updates), opt_state)
    chex.assert_trees_all_close(whole, state, rtol=1e-5, atol=1e-6)


def test_a_minibatch_is_prepared_as_a_whole_before_its_loss_is_taken_in_chunks():
    def centred(minibatch):
        return minibatch | {"x": minibatch["x"] - minibatch["x"].mean()}

    whole, _ = run({"a": part(mean_of("x"), prepare=centred)}, size=B)
    chunked, said = run({"a": part(mean_of("x"), prepare=centred, tasks_at_a_time=2)}, size=B)
    chex.assert_trees_all_close(whole, chunked, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole["a"].params, 0.0, atol=1e-6)
    assert said["a_loss"] > 0


def test_a_part_stops_when_it_says_so_and_the_others_go_on():
    stops = part(mean_of("x"), goes_on=lambda params, batch: params < 0.5)
    after, said = run({"stops": stops, "goes": part(mean_of("x"))}, epochs=5)
    one_epoch, _ = run({"stops": part(mean_of("x"))}, epochs=1)
    assert said["stops_epochs"] == 1
    assert "goes_epochs" not in said
    assert after["goes"].params > after["stops"].params
    np.testing.assert_allclose(after["stops"].params, one_epoch["stops"].params, rtol=1e-6)


def test_losses_have_chance_of_their_own():
    noisy = {name: part(mean_of("x", noise=1.0)) for name in ("a", "b")}
    first, again, other = (run(noisy, seed=seed)[0] for seed in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert first["a"].params != first["b"].params
    assert first["a"].params != other["a"].params


# --- minibatches --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_tasks", "size"), [(12, 4), (10, 4), (15, 4), (8, 8), (5, 8), (24, 1)])
def test_an_epoch_takes_every_task_once_in_a_new_order(n_tasks, size):
    passes = Passes(1, min(size, n_tasks))
    orders = [shuffled(passes, n_tasks, jax.random.key(i)).tolist() for i in range(40)]
    assert all(sorted(order) == list(range(n_tasks)) for order in orders)
    assert len(set(map(tuple, orders))) > 20 or size >= n_tasks


def test_minibatches_are_random_and_each_has_its_share_of_every_group():
    """Of 12 tasks 4 make a minibatch: one of 0–2, one of 3–5, … each as often as the others."""
    passes = Passes(1, 4)
    keys = jax.random.split(jax.random.key(0), 3000)
    first = np.asarray(jax.vmap(lambda key: shuffled(passes, 12, key)[:4])(keys))
    np.testing.assert_array_equal(np.sort(first // 3, axis=1), np.tile(np.arange(4), (3000, 1)))
    counts = np.bincount(first.ravel(), minlength=12)
    assert chisquare(counts).pvalue > 0.01
    together = np.mean((first == 0).any(axis=1) & (first == 3).any(axis=1))
    assert together == pytest.approx(1 / 9, abs=0.02)


def test_several_devices_share_the_minibatches_of_one():
    """Of 12 tasks, device 0 has 0–5 and device 1 has 6–11; each counts its own from 0."""
    alone = shuffled(Passes(1, 4), 12, jax.random.key(0)).reshape(3, 2, 2)
    of_device = functools.partial(shuffled, Passes(1, 4, Devices(2)), 6)
    own = jax.vmap(of_device, None, axis_name=AXIS, axis_size=2)(jax.random.key(0))
    for device in range(2):
        expected = alone[:, device] - 6 * device
        np.testing.assert_array_equal(own[device].reshape(3, 2), expected)


@pytest.mark.parametrize("size", [1, 3, 5, 10, 64])
def test_chunks_of_tasks_change_no_result(size):
    x = jnp.arange(float(T * B * D)).reshape(T, B, D)
    y = jnp.arange(float(T * B)).reshape(T, B)
    chunked = over_task_chunks(lambda x, y: x.sum(-1) + y, size, x, y)
    np.testing.assert_array_equal(chunked, x.sum(-1) + y)


def test_chunks_of_one_array_whose_results_have_further_axes():
    x = jnp.arange(float(T * B * D)).reshape(T, B, D)
    np.testing.assert_array_equal(over_task_chunks(lambda x: 2 * x, 3, x), 2 * x)
