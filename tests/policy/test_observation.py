import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.object_level import COUNT, LATENT, PLAIN, REWARD, VALUE, Estimates, Feature
from rl3jax.object_level.base import features_of
from rl3jax.policy import SHOWN, Categorical, Field, ObservationLayout

ESTIMATES = Estimates(q=jnp.array([1.0, 4.0, 2.0]), visits=jnp.array([5, 0, 20]))


def fields_of(features):
    return tuple(Field(name, len(f.numbers), f.unit) for name, f in features.items())


def layout(estimates=ESTIMATES, **changes):
    """Shows all that there is of the estimates."""
    values = dict(action_size=3, num_features=2, horizon=50, task_horizon=10, value_scale=2.0)
    return ObservationLayout(estimates=fields_of(features_of(estimates)), **(values | changes))


def encode(layout, action=2, reward=1.5, t=7, episode_step=3, estimates=ESTIMATES):
    return layout.encode(
        Categorical(3).show(jnp.int32(action)), jnp.asarray(reward), jnp.int32(t),
        jnp.int32(episode_step), jnp.array([0.25, 0.75]), features_of(estimates),
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
    estimates = Estimates(q=jnp.zeros(5), visits=jnp.zeros(5, jnp.int32))
    bandit = layout(estimates, action_size=5, num_features=0, horizon=100, task_horizon=1)
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
    rl2 = dataclasses.replace(layout(), estimates=())
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


# --- options --------------------------------------------------------------------------------------

FULL = Estimates(
    q=jnp.array([1.0, 4.0, 2.0]),
    visits=jnp.array([5, 0, 20]),
    q_stderr=jnp.array([0.5, 1.0, 3.0]),
    v_stderr=jnp.asarray(1.0),
    q_optimistic=jnp.array([9.0, 8.0, 10.0]),
    mean_reward=jnp.array([0.5, 0.0, -2.0]),
)


def full(**changes):
    return layout(FULL, **changes)


def test_standard_errors_stand_between_values_and_visits_and_the_rest_behind():
    shown, fields = encode(full(), estimates=FULL), full().fields
    expected = [-1.5, 0, -1, 2, 0.25, 0.5, 1.5, 0.5, 0.5, 0, 2, -0.5, -1, 0, 5, 0.5, 0, -2]
    np.testing.assert_allclose(shown[fields["advantages"].start :], expected, rtol=1e-6)
    np.testing.assert_allclose(shown[fields["v_stderr"]], [0.5])
    np.testing.assert_allclose(shown[fields["optimistic_value"]], [5.0])
    assert fields["mean_rewards"].stop == full().size == len(shown)


def test_squashed_estimates_by_hand():
    squashed, plain = full(squash=True), full()
    assert squashed.fields == plain.fields
    raw, shown = encode(plain, estimates=FULL), encode(squashed, estimates=FULL)
    for name, span in plain.fields.items():
        expected = np.asarray(raw[span])
        if name.startswith(("advantages", "value", "optimistic")) or name.endswith("stderr"):
            expected = np.sign(expected) * np.log(1 + np.abs(expected))
        if name == "visits":
            expected = np.log(1 + 10 * expected)
        np.testing.assert_allclose(shown[span], expected, rtol=1e-6)
    np.testing.assert_allclose(shown[plain.fields["value"]], [np.log(3.0)])


@pytest.mark.parametrize("squash", [False, True])
def test_a_feature_is_scaled_by_its_unit_and_nothing_else(squash):
    units = {COUNT: 0.7 if not squash else np.log(8), LATENT: np.log(8), PLAIN: 7, REWARD: 1.4}
    units[VALUE] = np.log(2.75) if squash else 1.75
    features = {f"of_{unit}": Feature(jnp.full(2, 7.0), unit) for unit in units}
    own = layout(squash=squash, value_scale=4.0, reward_scale=0.2)
    own = dataclasses.replace(own, estimates=fields_of(features))
    context = jnp.zeros(3), jnp.zeros(()), jnp.int32(0), jnp.int32(0), jnp.zeros(2)
    observation = own.encode(*context, features)
    for unit, expected in units.items():
        np.testing.assert_allclose(observation[own.fields[f"of_{unit}"]], expected, rtol=1e-6)
        assert f"of_{unit}" in own.describe()
    scale = "a count N, as ln(1 + N)" if squash else "a count, over 10"
    assert scale in own.describe()
    assert "in reward units, over 4" in own.describe()


def test_a_unit_is_one_of_those_there_are():
    with pytest.raises(ValueError, match="unknown unit 'values'; did you mean 'value'"):
        Field("own", 1, "values")


VALUES = {"advantages", "value", "q_stderr", "v_stderr", "mean_rewards"}
VALUES |= {"optimistic_advantages", "optimistic_value"}
LEFT_OUT = {
    "all": set(),
    "no-values": VALUES,
    "no-counts": {"visits"},
    "estimates": {"previous_action", "previous_reward", "first_step", "time", "episode_time"}
    | {"state"},
}


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("shown", SHOWN)
def test_what_is_not_shown_is_left_out_and_the_rest_as_it_is(shown, squash):
    everything, part = full(squash=squash), full(squash=squash, shown=shown)
    assert set(part.fields) == set(everything.fields) - LEFT_OUT[shown]
    whole, observation = encode(everything, estimates=FULL), encode(part, estimates=FULL)
    assert observation.shape == (part.size,)
    for name, span in part.fields.items():
        np.testing.assert_array_equal(observation[span], whole[everything.fields[name]])


def test_estimates_alone_are_values_and_counts():
    assert list(layout(shown="estimates").fields) == ["advantages", "value", "visits"]
    assert list(layout(shown="no-counts").fields)[-2:] == ["advantages", "value"]
    assert list(layout(shown="no-values").fields)[-2:] == ["state", "visits"]


def test_mean_rewards_are_shown_like_the_previous_reward():
    shown = full(reward_scale=0.1, squash=True)
    observation = encode(shown, reward=1.5, estimates=FULL)
    np.testing.assert_allclose(observation[shown.fields["previous_reward"]], [0.15])
    np.testing.assert_allclose(observation[shown.fields["mean_rewards"]], [0.05, 0.0, -0.2])
