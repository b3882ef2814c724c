"""Gymnax's environments as distributions of tasks: physics, ranges, and what is refused."""

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax import Binned, ConfigError, GymnaxTasks, make_env
from rl3jax.envs import describe_env

# Of each environment: gymnasium's attributes in a task, and its state from ours.
GYMS = {
    "pendulum": (
        "Pendulum-v1",
        lambda task: {"m": task["m"], "l": task["l"]},
        lambda inner: np.array([inner.theta, inner.theta_dot], float),
    ),
    "mountain-car": (
        "MountainCar-v0",
        dict,
        lambda inner: np.array([inner.position, inner.velocity], float),
    ),
    "cartpole": (
        "CartPole-v1",
        lambda task: {
            "force_mag": task["force_mag"],
            "length": task["length"],
            "masspole": task["masspole"],
            "total_mass": 1.0 + task["masspole"],
            "polemass_length": task["masspole"] * task["length"],
        },
        lambda inner: np.array([inner.x, inner.x_dot, inner.theta, inner.theta_dot], float),
    ),
    "acrobot": (
        "Acrobot-v1",
        lambda task: (
            {name.upper(): value for name, value in task.items()}
            | {f"LINK_COM_POS_{i}": task[f"link_length_{i}"] / 2 for i in (1, 2)}
        ),
        lambda inner: np.array(
            [inner.joint_angle1, inner.joint_angle2, inner.velocity_1, inner.velocity_2], float
        ),
    ),
}


@pytest.mark.parametrize("name", GYMS)
def test_physics_are_gymnasiums_own_in_the_same_task(name):
    env, (gym_id, attributes, state_of) = make_env(name), GYMS[name]
    task = env.sample_task(jax.random.key(2))
    gym = gymnasium.make(gym_id).unwrapped
    gym.reset(seed=0)
    for attribute, value in attributes({k: float(v) for k, v in task.items()}).items():
        assert hasattr(gym, attribute)
        setattr(gym, attribute, value)
    _, state = env.reset(jax.random.key(3), task)
    gym.state = state_of(state.inner)
    step = jax.jit(lambda state, action: env.step(jax.random.key(0), state, action, task))
    for action_key in jax.random.split(jax.random.key(4), 30):
        action = np.asarray(env.action_space().sample(action_key))
        vector, state, reward, _, _, info = step(state, action)
        seen, paid, terminated, *_ = gym.step(action)
        np.testing.assert_allclose(vector, seen, atol=1e-4)
        np.testing.assert_allclose(reward, paid, atol=1e-4)
        assert info["entered_terminal"] == terminated
        if terminated:
            break


def test_a_task_is_its_fields_each_in_its_range():
    intervals = (0.5, 0.75, 1.25, 1.5)
    env = GymnaxTasks("Pendulum-v1", vary={"m": intervals, "l": (0.5, 1.5)}, action_sign=True)
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(0), 1000))
    assert set(tasks) == {"m", "l", "action_sign"}
    low, mid, other_mid, high = np.histogram(tasks["m"], [0.5, 0.75, 1.0, 1.25, 1.5])[0]
    assert mid == other_mid == 0
    assert abs(low - high) < 130
    assert (tasks["l"].min() > 0.5) & (tasks["l"].max() < 1.5)
    assert set(np.unique(tasks["action_sign"])) == {-1.0, 1.0}


@pytest.mark.parametrize(("name", "pair"), [("pendulum", ([1.5], [-1.5])), ("cartpole", (0, 1))])
def test_a_negative_sign_turns_actions_round(name, pair):
    env = make_env(name, variation="sign")
    task = env.default_params
    _, state = env.reset(jax.random.key(0), task)
    one, other = (
        env.step(jax.random.key(1), state, jnp.asarray(a), task | {"action_sign": jnp.asarray(s)})
        for a, s in zip(pair, (1.0, -1.0), strict=True)
    )
    np.testing.assert_array_equal(one[0], other[0])


def test_derived_parameters_follow():
    env = GymnaxTasks("CartPole-v1", {"masscart": (1, 2)}, low=-3, high=3)
    params = env.params({"masscart": 1.5})
    np.testing.assert_allclose((params.total_mass, params.polemass_length), (1.6, 0.05), rtol=1e-6)


def test_mountain_cars_can_all_be_solved():
    env = make_env("mountain-car")
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(0), 50))
    assert jax.vmap(env.is_solved_by_rocking)(tasks).all()
    assert not env.is_solved_by_rocking({"force": 0.0005, "gravity": 0.005})


def test_point_robots_are_paid_near_the_goal():
    for variation, rewards in (("sparse", (0.0, 0.9)), ("dense", (-0.9, -0.1))):
        env = make_env("point-robot", variation=variation)
        task = env.default_params.replace(goal=jnp.array([0.0, 1.0]))
        _, state = env.reset(jax.random.key(0), task)
        for step in range(1, 10):
            action = jnp.array([0.0, 1.0])
            _, state, reward, *_ = env.step(jax.random.key(1), state, action, task)
            if step in (1, 9):
                np.testing.assert_allclose(reward, rewards[step == 9], atol=1e-6)


def test_a_description_makes_an_equal_environment():
    env = GymnaxTasks("Acrobot-v1", {"link_mass_1": [0.5, 1.5]}, when_ended="restart")
    options = describe_env(env)
    name = options.pop("env")
    assert make_env(name, **options) == env
    assert not env.waits
    assert GymnaxTasks("Acrobot-v1", {"link_mass_1": (0.5, 1.5)}).waits
    assert not make_env("pendulum").waits  # no pendulum ends early


class Strange(gymnax.environments.classic_control.pendulum.Pendulum):
    """Of its own class, not gymnax's, with a parameter that nothing reads."""

    @property
    def default_params(self):
        return super().default_params.replace(g=9.0)


def test_an_environment_of_ones_own_will_do():
    inner = Strange()
    env = GymnaxTasks(inner, {"m": (0.5, 1.5)})
    assert env.inner is inner
    assert env.params({"m": 1.0}).g == 9.0
    assert env == GymnaxTasks(inner, {"m": (0.5, 1.5)})


PENDULUM, CARTPOLE = "Pendulum-v1", "CartPole-v1"
REFUSED = [
    (lambda: GymnaxTasks("Pendulm-v1", {"m": (1, 2)}), "did you mean 'Pendulum-v1'"),
    (lambda: GymnaxTasks(5, {"m": (1, 2)}), "5 is neither a gymnax environment nor the name"),
    (lambda: GymnaxTasks("Reacher-misc", {"m": (1, 2)}), "Reacher-misc draws its task anew"),
    (lambda: GymnaxTasks("FrozenLake-misc", {"m": (1, 2)}), "must be a Box, not Discrete"),
    (lambda: GymnaxTasks(PENDULUM, {"mm": (1, 2)}), "unknown field .* 'mm'; did you mean 'm'"),
    (lambda: GymnaxTasks(PENDULUM, {"max_steps_in_episode": (1, 2)}), "is no physics"),
    (lambda: GymnaxTasks(CARTPOLE, {"total_mass": (1, 2)}), "follows from masscart and masspole"),
    (lambda: GymnaxTasks(PENDULUM, {"m": (2, 1)}), r"range of m is empty or reversed: \(2, 1\)"),
    (lambda: GymnaxTasks(PENDULUM, {"m": (1, 1)}), "range of m is empty or reversed"),
    (lambda: GymnaxTasks(PENDULUM, {"m": 1}), r"range of m must be \(low, high\), not 1"),
    (lambda: GymnaxTasks(PENDULUM, {"m": (1, np.nan)}), r"range of m must be \(low, high\)"),
    (lambda: GymnaxTasks(PENDULUM, {"max_torque": (-1, 1)}), "of the sign of Pendulum-v1's own"),
    (lambda: GymnaxTasks(PENDULUM, {}), "vary must name a field"),
    (lambda: GymnaxTasks(PENDULUM, 3), "vary must be a dict, not 3"),
    (lambda: GymnaxTasks(CARTPOLE, {"length": (1, 2)}), "no finite scale in dimension 1.*give low"),
    (lambda: GymnaxTasks(CARTPOLE, {"length": (1, 2)}, low=(1, 2)), "must be 4 numbers, or one"),
    (lambda: GymnaxTasks(PENDULUM, {"m": (1, 2)}, low=3), "low of Pendulum-v1 must be below high"),
    (lambda: GymnaxTasks(PENDULUM, {"m": (1, 2)}, when_ended="never"), "unknown when_ended"),
    (lambda: GymnaxTasks(PENDULUM, {"m": (1, 2)}, arguments={"x": 1}), "arguments of Pendulum-v1"),
    (lambda: GymnaxTasks("Swimmer-misc", {"dt": (1, 2)}), "draws its task anew"),
    (lambda: make_env("pendulum", mass_low=2.0), "mass_low and mass_high must be .* 2, 1.5"),
    (lambda: make_env("pendulum", variation="packer"), "unknown variation 'packer'"),
    (lambda: make_env("mountain-car", force_high=6e-4, gravity_low=4e-3), "goal is out of reach"),
    (lambda: Binned(make_env("cartpole")), "actions of CartPole are in no box"),
    (lambda: GymnaxTasks("CartPole-v1", {"length": (1, 2)}, bins=3), "of GymnaxTasks are in no"),
    (lambda: make_env("cartpole", bins=3), "env 'cartpole' has no option 'bins'"),
    (lambda: Binned("pendulum", 3), "base must be an environment, as of rl3jax.make_env; not 'pen"),
    (lambda: Binned(make_env("point-robot"), 500), "bins 500 .* 250000 actions, more than 10000"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_is_no_distribution_of_tasks_is_refused_in_one_line(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_field_without_effect_is_refused():
    class Idle(gymnax.environments.classic_control.pendulum.Pendulum):
        def step_env(self, key, state, action, params):
            return super().step_env(key, state, action, params.replace(m=1.0))

    with pytest.raises(ConfigError, match="m of Pendulum-v1 has no effect on its steps"):
        GymnaxTasks(Idle(), {"m": (0.5, 1.5)})
