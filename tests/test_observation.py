import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.object_level import Estimates
from rl3jax.observation import ObservationLayout

ESTIMATES = Estimates(q=jnp.array([1.0, 4.0, 2.0]), visits=jnp.array([5, 0, 20]))


def layout(**changes):
    values = dict(num_actions=3, num_features=2, horizon=50, task_horizon=10, value_scale=2.0)
    return ObservationLayout(**(values | changes))


def encode(layout, action=2, reward=1.5, t=7, episode_step=3, estimates=ESTIMATES):
    return layout.encode(
        jnp.int32(action), jnp.asarray(reward), jnp.int32(t), jnp.int32(episode_step),
        jnp.array([0.25, 0.75]), estimates,
    )  # fmt: skip


def test_rl3_observation_by_hand():
    expected = [
        0, 0, 1,  # previous action 2
        1.5,  # previous reward
        0,  # not the first step
        7 / 50,  # time
        3 / 10,  # episode time
        0.25, 0.75,  # state
        -1.5, 0, -1,  # (Q - V) / c
        2,  # V / c
        0.5, 0, 2,  # N / 10
    ]  # fmt: skip
    np.testing.assert_allclose(encode(layout()), expected, rtol=1e-6)


def test_documented_indices_of_the_bandit():
    bandit = ObservationLayout(
        num_actions=5, num_features=0, horizon=100, task_horizon=1, value_scale=1.0
    )
    spans = {name: (span.start, span.stop) for name, span in bandit.fields.items()}
    assert spans == {
        "previous_action": (0, 5),
        "previous_reward": (5, 6),
        "first_step": (6, 7),
        "time": (7, 8),
        "episode_time": (8, 9),
        "state": (9, 9),
        "advantages": (9, 14),
        "value": (14, 15),
        "visits": (15, 20),
    }
    assert bandit.size == 20


def test_fields_locate_what_encode_writes():
    observation = encode(layout())
    fields = layout().fields
    np.testing.assert_allclose(observation[fields["value"]], [2.0])
    np.testing.assert_allclose(observation[fields["state"]], [0.25, 0.75])
    assert observation.shape == (layout().size,)


def test_first_step_shows_no_action_and_no_reward():
    observation = encode(layout(), action=-1, reward=0.0, t=0, episode_step=0)
    fields = layout().fields
    np.testing.assert_array_equal(observation[fields["previous_action"]], 0)
    np.testing.assert_array_equal(observation[fields["previous_reward"]], 0)
    np.testing.assert_array_equal(observation[fields["first_step"]], 1)


def test_rl2_is_the_same_without_estimates():
    rl2 = layout(value_scale=None)
    assert rl2.size == layout().size - 7
    np.testing.assert_array_equal(encode(rl2), encode(layout())[: rl2.size])
    other = Estimates(q=jnp.full(3, 9.0), visits=jnp.full(3, 9))
    np.testing.assert_array_equal(encode(rl2), encode(rl2, estimates=other))


def test_no_task_horizon_shows_the_budget_instead():
    observation = encode(layout(task_horizon=None))
    assert observation[layout().fields["episode_time"]] == pytest.approx(3 / 50)


def test_reward_scale():
    observation = encode(layout(reward_scale=0.1))
    assert observation[layout().fields["previous_reward"]] == pytest.approx(0.15)


def test_encode_vmaps():
    keys = jnp.arange(4)
    batched = jax.vmap(lambda a: encode(layout(), action=a))(keys % 3)
    for i in range(4):
        np.testing.assert_array_equal(batched[i], encode(layout(), action=i % 3))
