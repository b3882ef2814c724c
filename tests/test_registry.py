"""Parts of one's own by name: they work as ours do, and clashes of names are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl3jax
from rl3jax import Config, ConfigError, envs, make_env, make_trainer, networks, object_level
from rl3jax.envs import ENVIRONMENTS, Bandit, Gridworld, RandomMdp
from rl3jax.networks import NETWORKS, Markov
from rl3jax.object_level import OBJECT_LEVEL, q_learning
from rl3jax.ranges import Fraction, Probability, Size


@dataclasses.dataclass(frozen=True)
class Windy(Bandit):
    wind: Probability = 0.1

    @classmethod
    def training_horizon(cls, variation):
        return 7

    @classmethod
    def training_defaults(cls, algo, horizon):
        return {"n_tasks": 8, "minibatches": 4, "network": "gru", "decay": 0.5, "smoothing": 0.3}


class Gusty(Windy):
    """Of a class that is not registered."""


def fading(env, horizon, decay: Fraction = 0.9):
    return q_learning(env.num_states, env.num_actions, step_size=decay, initial_value=horizon)


def deep(width: Size = 8, depth: Size = 3):
    return Markov(width=width + depth)


@pytest.fixture
def registered():
    registries = (ENVIRONMENTS, OBJECT_LEVEL, NETWORKS)
    before = [dict(registry) for registry in registries]
    envs.register("windy", Windy)
    object_level.register("fading", fading)
    networks.register("deep", deep)
    yield
    for registry, parts in zip(registries, before, strict=True):
        registry.clear()
        registry.update(parts)


@pytest.mark.usefixtures("registered")
def test_registered_parts_work_by_name():
    assert make_env("windy", wind=0.3) == Windy(wind=0.3)
    trainer = make_trainer(Config(env="windy", wind=0.3, object_level="fading"))
    assert trainer.env == Windy(wind=0.3)
    assert trainer.learner == q_learning(1, 5, step_size=0.5, initial_value=7.0)
    assert (trainer.config.network, trainer.n_tasks, trainer.config.horizon) == ("gru", 8, 7)
    other = make_trainer(Config(env="windy", network="deep", depth=2, decay=0.25,
                                object_level="fading"))  # fmt: skip
    assert other.learner.step_size == 0.25
    assert other.settings.actor.memory == Markov(width=10)
    assert other.config.to_dict().keys() >= {"wind", "decay", "depth"}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: envs.register("bandit", Windy), "env 'bandit' is taken"),
        (
            lambda: envs.register("no", envs.Environment),
            r"must be a @dataclass\(frozen=True\) that extends",
        ),
        (
            lambda: networks.register("mine", lambda seed=0: Markov()),
            "seed of network 'mine' is a field of Config; rename it",
        ),
        (
            lambda: object_level.register("mine", lambda env, horizon, slip=0.5: None),
            "slip of object_level 'mine' is an option of env gridworld, which may be used together",
        ),
        (lambda: Config(env="windy", win=1), r"win is no field of Config; did you mean 'wind'\?"),
        (lambda: Config(env="windy", wind=2), r"wind must lie in \[0, 1\], not 2"),
        (lambda: make_env("windy", wind=[1]), r"wind must be a number, not \[1\]"),
    ],
)
def test_clashes_and_bad_values_are_refused_in_one_line(register, message):
    with pytest.raises(ConfigError, match=message) as caught:
        register()
    assert "\n" not in str(caught.value)
    assert "mine" not in {**NETWORKS, **OBJECT_LEVEL}


def test_defaults_of_no_field_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Typo(Bandit):
        @classmethod
        def training_defaults(cls, algo, horizon):
            return {"n_task": 3}

    with pytest.raises(ConfigError, match=r"training_defaults of env .*Typo: n_task is no field"):
        make_trainer(Config(), env=Typo())


@pytest.mark.usefixtures("registered")
def test_a_trainer_takes_the_defaults_of_its_environment_and_records_it():
    mine = make_trainer(Config(iterations=3), env=Gusty(num_arms=3, wind=0.5, variation="ood"))
    assert (mine.config.n_tasks, mine.config.network) == (8, "gru")
    assert mine.config.env == f"{__name__}:Gusty"
    assert (mine.config.variation, mine.config.num_arms, mine.config.wind) == ("ood", 3, 0.5)
    ours = make_trainer(Config(), env=RandomMdp(num_states=4)).config
    assert ours == Config(env="mdp", num_states=4).resolve()
    grid = make_trainer(Config(), env=Gridworld("11x11")).config
    assert grid == Config(env="gridworld", variation="11x11").resolve()
    again = make_trainer(mine.config, env=mine.env)
    assert again.config == mine.config
    with pytest.raises(ConfigError, match="two environments are given"):
        make_trainer(Config().resolve(), env=Gusty())  # whose numbers are the bandit's


def test_what_parts_of_ones_own_would_ignore_is_refused():
    learner, network = q_learning(1, 5), Markov()
    for config, parts, message in (
        (Config(env="mdp"), {"env": Bandit()}, "two environments are given"),
        (Config(num_arms=3), {"env": Bandit()}, "two environments are given"),
        (Config(smoothing=0.5), {"learner": learner}, "smoothing is an option of object_level"),
        (Config(network="gru", embedding=4), {"network": network}, "embedding is an option of"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_trainer(config, **parts)
    make_trainer(Config(num_arms=3), env=Bandit(3))
    with pytest.raises(ConfigError, match="did you mean 'planning_discount'"):
        object_level.make_learner("value_iteration", "rl3", {"discont": 1}, Bandit(), 10)


def test_fields_that_do_not_hash_are_named():
    @dataclasses.dataclass(frozen=True)
    class Array(Bandit):
        goals: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(2))

    with pytest.raises(ConfigError, match="goals of Array is of type ndarray, which does not hash"):
        make_trainer(Config(), env=Array())


def test_traced_values_are_not_checked():
    assert jax.jit(lambda wind: Windy(wind=wind).wind)(2.0) == 2.0
    assert type(Windy(wind=jnp.float32(0.5)).wind) is float


def test_names_are_listed():
    assert {"bandit", "pendulum"} < set(rl3jax.list_envs())
    assert {"value_iteration", "linear_model"} < set(rl3jax.list_learners())
    assert {"markov", "gru"} < set(rl3jax.list_networks())
