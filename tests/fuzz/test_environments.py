"""Environments of any options: tasks that are what they say, or one line that refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rl3jax.envs import ENVIRONMENTS, env_options, make_env
from tests.fuzz import inputs

NUM_TASKS, STEPS = 3, 40

sizes = st.integers(1, 6)
OPTIONS = {
    "bandit": {"num_arms": sizes, "variation": st.sampled_from(["iid", "ood", "popgym-easy"])},
    "mdp": {
        "num_states": sizes,
        "num_actions": sizes,
        "task_horizon": sizes,
        "variation": st.sampled_from(["iid", "ood", "ood-dirichlet", "ood-uniform-reward"]),
    },
    "gridworld": {  # mild enough that some grid is always accepted
        "variation": st.sampled_from(["11x11", "13x13"]),
        "side": st.integers(5, 9),
        "num_obstacle_sets": st.integers(0, 2),
        "obstacle_set_len": st.integers(1, 3),
        "num_water_sets": st.integers(0, 2),
        "water_set_length": st.integers(1, 3),
        "num_fatal": st.integers(0, 1),
        "min_goal_manhat": st.integers(1, 4),
        "slip": st.floats(0, 0.5, width=32),
        "step_reward": st.floats(-2, 0, width=32),
        "water_reward": st.floats(-5, 0, width=32),
        "warning_reward": st.floats(-20, 0, width=32),
        "fatal_reward": st.floats(-200, -50, width=32),
        "goal_reward": st.floats(50, 150, width=32),
        "min_optimal_return": st.just(-100.0),
        "max_optimal_return": st.just(1000.0),
    },
}


def draw_env(draw, name):
    chosen = sorted(OPTIONS[name])
    if name != "gridworld":  # whose options depend on each other
        chosen = draw(st.lists(st.sampled_from(chosen), unique=True))
    return make_env(name, **{option: draw(OPTIONS[name][option]) for option in chosen})


def check_environment(env):
    """Tables are distributions, and steps are drawn from them."""
    key_task, key_start, key_act, key_step = jax.random.split(jax.random.key(0), 4)
    task = env.sample_task(key_task)
    model = env.tabular(task)
    S, A = env.num_states, env.num_actions
    assert model.transition_probs.shape == (S, A, S)
    np.testing.assert_allclose(model.transition_probs.sum(axis=-1), 1, rtol=1e-4)
    np.testing.assert_allclose(model.start.sum(), 1, rtol=1e-5)
    assert np.isfinite(model.mean_reward).all()
    assert env.state_features.shape[0] == S
    if env.max_successors is not None:
        assert (np.asarray(model.transition_probs) > 0).sum(axis=-1).max() <= env.max_successors

    def step(s, keys):
        key_act, key_step = keys
        action = jax.random.randint(key_act, (), 0, A)
        drawn = env.transition(key_step, s, action, task)
        s_next = jnp.asarray(drawn.next_state_index, jnp.int32)
        prob = model.transition_probs[s, action, s_next]
        return s_next, (prob, jnp.asarray(drawn.reward, float), model.terminal[s_next], drawn[2])

    start = jnp.asarray(env.start_index(key_start, task), jnp.int32)
    keys = (jax.random.split(key_act, STEPS), jax.random.split(key_step, STEPS))
    _, (prob, reward, terminal, terminated) = jax.jit(
        lambda start, keys: jax.lax.scan(step, start, keys)
    )(start, keys)
    assert (np.asarray(prob) > 0).all()
    assert np.isfinite(reward).all()
    np.testing.assert_array_equal(terminal, terminated)


@pytest.mark.parametrize(("name", "examples"), [("bandit", 2), ("mdp", 2), ("gridworld", 1)])
def test_tasks_are_what_their_tables_say(name, examples):
    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def check(data):
        check_environment(draw_env(data.draw, name))

    check()


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_values_to_try(name):
    assert set(OPTIONS[name]) == {*env_options(ENVIRONMENTS[name]), "variation"}


@settings(max_examples=150)
@given(name=st.sampled_from(sorted(ENVIRONMENTS)), value=inputs.nasty, data=st.data())
def test_an_option_is_taken_or_refused_in_one_line(name, value, data):
    option = data.draw(st.sampled_from([*env_options(ENVIRONMENTS[name]), "variation"]))
    # Each one of these of other numbers costs a trial of seconds; configs have gridworlds of such.
    assume(name not in ("gridworld", "mountain-car") or type(value) not in (int, float))
    assume(option != "variation" or isinstance(value, str))
    inputs.outcome(lambda: make_env(name, **{option: value}))
