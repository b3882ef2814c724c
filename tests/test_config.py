import copy
import dataclasses
import json
import math
import pickle
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rl3jax.checks import ConfigError
from rl3jax.config import Config, Hyperparams
from rl3jax.envs import ENVIRONMENTS, env_class
from rl3jax.registry import owner_of


def test_resolve_leaves_no_shared_field_open():
    open_by_design = {
        "variation", "preset", "minibatch_tasks", "out", "devices", "rollout_chunk",
        "gradient_chunk", "memory_limit",
    }  # fmt: skip
    open_in = {
        "value_iteration": {"max_sweeps", "successor_slots", "optimism"},
        "local_model": {"optimism"},
        "linear_model": {"anchors_along"},
        "markov": set(),
        "gru": {"width", "embedding"},
        "mingru": {"width", "embedding", "layers"},
        "s5": {"width", "layers", "states"},
    }
    for env in [*ENVIRONMENTS, "rl3jax.envs:Bandit"]:
        config = Config(env=env).resolve()
        missing = {name for name, value in config.to_dict().items() if value is None}
        missing -= set(config.parts[0].options)
        decided = env_class(env).defaults_with(config.object_level, config.algo, config.horizon)
        open_here = open_in[config.object_level] | open_in[config.network]
        assert missing == (open_by_design | open_here) - decided.keys()


def test_resolve_is_idempotent_and_keeps_what_was_given():
    config = Config(env="mdp", n_tasks=96, minibatches=3, learning_rate=0.5, entropy=0.25)
    resolved = config.resolve()
    assert resolved == resolved.resolve()
    given = (resolved.n_tasks, resolved.minibatches, resolved.learning_rate, resolved.entropy)
    assert given == (96, 3, 0.5, 0.25)
    assert (resolved.final_learning_rate, resolved.final_entropy) == (0.0, 0.0)


def test_paper_v4_keeps_learning_rate_and_entropy_constant_also_when_given():
    for changes in ({}, {"learning_rate": 1e-4, "entropy": 0.5}):
        config = Config(env="mdp", preset="paper-v4", **changes).resolve()
        assert config.final_learning_rate == config.learning_rate
        assert config.final_entropy == config.entropy


def test_explicit_value_wins_over_preset_over_domain():
    plain = Config(env="mdp").resolve()
    preset = Config(env="mdp", preset="paper-v4").resolve()
    explicit = Config(env="mdp", preset="paper-v4", gae_lambda=0.7).resolve()
    assert plain.gae_lambda not in (0.3, 0.7)
    assert preset.gae_lambda == 0.3
    assert explicit.gae_lambda == 0.7


@pytest.mark.parametrize(
    ("preset", "env", "horizon", "n_tasks", "per_minibatch", "iterations", "entropy"),
    [
        # v4: 32 000 steps an iteration in minibatches of 3 200; RLC: 32 768 and 4 096.
        ("paper-v4", "bandit", 100, 320, 32, 3_000, 0.001),
        ("paper-v4", "bandit", 500, 64, 6, 6_000, 0.01),
        ("paper-v4", "mdp", 100, 320, 32, 10_000, 0.01),
        ("paper-v4", "mdp", 500, 64, 6, 24_000, 0.01),
        ("paper", "bandit", 512, 64, 8, 5_000, 0.1),
        ("paper-rlc", "mdp", 128, 256, 32, 8_000, 0.1),
        ("paper-rlc", "mdp", 1500, 21, 3, 5_000, 0.1),
        ("paper-rlc", "mdp", 2048, 16, 2, 5_000, 0.1),
    ],
)
def test_presets_have_the_papers_values(
    preset, env, horizon, n_tasks, per_minibatch, iterations, entropy
):
    config = Config(env=env, preset=preset, horizon=horizon).resolve()
    assert config.n_tasks == n_tasks
    assert config.tasks_per_minibatch == per_minibatch
    assert config.iterations == iterations
    assert config.entropy == entropy
    assert config.final_entropy == (entropy if preset == "paper-v4" else 0.0)
    assert config.network == "transformer"
    assert (config.learning_rate, config.epochs, config.kl_limit) == (3e-4, 8, 0.01)
    assert (config.clip, config.gae_lambda, config.discount) == (0.2, 0.3, 0.99)
    assert (config.weight_decay, config.adam_epsilon, config.grad_clip) == (1e-2, 1e-7, math.inf)
    assert config.planning_discount == (1.0 if preset == "paper-v4" else 0.95)
    assert config.smoothing == (0.0 if preset == "paper-v4" else 0.1)
    assert config.known_states == ("visited" if preset == "paper-v4" else "all")


@pytest.mark.parametrize(
    ("preset", "variation", "horizon", "n_tasks", "per_minibatch", "iterations"),
    [
        ("paper-v4", "11x11", 250, 128, 13, 20_000),
        ("paper-v4", "13x13-watery", 350, 91, 9, 12_000),
        ("paper-rlc", "11x11", 250, 128, 16, 20_000),
        ("paper-rlc", None, 350, 96, 12, 20_000),
    ],
)
def test_gridworld_presets_have_the_papers_values(
    preset, variation, horizon, n_tasks, per_minibatch, iterations
):
    config = Config(env="gridworld", preset=preset, variation=variation).resolve()
    assert config.horizon == horizon
    assert (config.n_tasks, config.tasks_per_minibatch) == (n_tasks, per_minibatch)
    assert config.iterations == iterations
    assert (config.learning_rate, config.final_learning_rate) == (2e-4, 2e-4)
    assert (config.entropy, config.final_entropy) == (0.04, 0.04)
    assert (config.network, config.width) == ("transformer", None)
    assert (config.known_states, config.warm_start, config.sweeps_per_step) == ("visited", True, 0)
    assert (config.value_scale, config.reward_scale, config.critic_scale) == (10.0, 1.0, 1.0)
    assert not config.squash_values
    planning = (config.planning_discount, config.smoothing, config.tolerance)
    assert planning == ((1.0, 0.0, 0.01) if preset == "paper-v4" else (0.95, 0.01, 0.1))


def test_a_gridworlds_budget_goes_with_its_size():
    assert Config(env="gridworld", variation="11x11").resolve().horizon == 250
    assert Config(env="gridworld", variation="13x13-dense").resolve().horizon == 350
    assert Config(env="gridworld").resolve().horizon == 350
    assert Config(env="gridworld", horizon=40).resolve().horizon == 40


def test_standard_errors_plan_to_the_tolerance_unless_told_otherwise():
    plain = {"env": "gridworld", "object_level": "value_iteration"}
    grid = {**plain, "standard_errors": True}
    assert Config(**plain).resolve().sweeps_per_step == 4
    assert Config(**grid).resolve().sweeps_per_step == 0
    assert Config(**grid, sweeps_per_step=3).resolve().sweeps_per_step == 3


def test_markov_networks_are_wider_than_the_papers():
    for env in ("bandit", "mdp", "gridworld"):
        assert Config(env=env).resolve().width == 128
        assert Config(env=env, network="gru").resolve().width is None
        assert Config(env=env, width=32).resolve().width == 32
        assert Config(env=env, preset="paper-v4", network="markov").resolve().width is None


def test_longer_budgets_of_mdps_are_discounted_less():
    assert Config(env="mdp", horizon=100).resolve().discount == 0.99
    assert Config(env="mdp", horizon=500).resolve().discount == pytest.approx(0.997)
    assert Config(env="mdp", horizon=500, discount=0.9).resolve().discount == 0.9
    assert Config(env="mdp", horizon=500, preset="paper-v4").resolve().discount == 0.99
    assert Config(env="bandit", horizon=500).resolve().discount == 0.99


def test_rlc_trains_rl2_longer_than_rl3():
    rl3 = Config(env="mdp", preset="paper", horizon=1024).resolve()
    rl2 = Config(env="mdp", preset="paper", horizon=1024, algo="rl2").resolve()
    assert (rl3.iterations, rl2.iterations) == (4_000, 12_000)


def test_preset_decides_an_open_horizon():
    assert Config(env="bandit", preset="paper").resolve().horizon == 512
    assert Config(env="mdp", preset="paper-v4").resolve().horizon == 100


def test_preset_at_another_horizon_needs_iterations():
    with pytest.raises(ConfigError, match="at horizon 512, not 100; give iterations"):
        Config(env="bandit", preset="paper", horizon=100).resolve()
    config = Config(env="bandit", preset="paper", horizon=100, iterations=7).resolve()
    assert (config.iterations, config.n_tasks) == (7, 327)


def test_default_minibatches_divide_any_number_of_tasks():
    for n_tasks in (1, 7, 48, 100, 4096):
        config = Config(n_tasks=n_tasks).resolve()
        assert n_tasks % config.minibatches == 0
    assert Config(n_tasks=100).resolve().minibatches == 50  # the nearest to 64
    assert Config(n_tasks=4096).resolve().minibatches == 64


def test_tasks_that_minibatches_do_not_divide_name_the_nearest_that_work():
    with pytest.raises(ConfigError) as caught:
        Config(n_tasks=100, minibatches=16)
    assert "minibatches 20" in str(caught.value)
    assert "n_tasks 96" in str(caught.value)
    # the default number of tasks is checked too, once resolved
    with pytest.raises(ConfigError, match="must divide"):
        Config(minibatches=30).resolve()


def test_divisors_of_a_large_prime_are_found_at_once():
    with pytest.raises(ConfigError, match="Nearest that work: minibatches 1, or"):
        Config(n_tasks=2**31 - 1, minibatches=16)
    assert Config(n_tasks=2**31 - 1).resolve().minibatches == 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n_tasks", 0, "n_tasks must be at least 1, not 0"),
        ("n_tasks", 2.5, "n_tasks must be a whole number, not 2.5"),
        ("n_tasks", True, "n_tasks must be a whole number, not True"),
        ("horizon", -3, "horizon must be at least 1, not -3"),
        ("learning_rate", 0.0, "learning_rate must be larger than 0, not 0.0"),
        ("learning_rate", math.nan, "learning_rate must be finite"),
        ("learning_rate", math.inf, "learning_rate must be finite"),
        ("discount", 1.5, r"discount must lie in \[0, 1\], not 1.5"),
        ("entropy", -0.1, "entropy must not be negative"),
        ("known_states", "visitd", "did you mean 'visited'"),
        ("env", 3, "env must be a string, not 3"),
        ("warm_start", 1, "warm_start must be True or False"),
        ("num_arms", 0, "num_arms must be at least 1"),
        ("optimism", math.nan, "optimism must be finite"),
        ("sweeps_per_step", -1, "sweeps_per_step must not be negative"),
        ("successor_slots", 0, "successor_slots must be at least 1"),
        ("memory_limit", 0.0, "memory_limit must be larger than 0, not 0.0"),
        ("n_tasks", 2**31, "n_tasks must be at most 2147483647, not 2147483648"),
        ("seed", 2**32, "seed must be at most 4294967295, not 4294967296"),
        ("seed", 10**300, "not a number of more than 80 digits"),
        ("learning_rate", 1e300, r"learning_rate must be within ±3.4e\+38, not 1e\+300"),
        ("discount", 10**400, r"discount must be within ±3.4e\+38, not a number of"),
        ("adam_epsilon", 1e-320, "adam_epsilon must be at least 1.2e-38"),
        ("out", "", "out must be text of printable characters, not ''"),
        ("variation", "a\nb", r"variation must be text of printable characters, not 'a\\nb'"),
        ("known_states", "a" * 1000, "unknown known_states 'a{79}…; did you mean"),
    ],
)
def test_bad_values_are_refused_in_one_line(field, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Config(**{field: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"env": "gridworld", "num_fatal": -1}, "num_fatal must not be negative"),
        ({"env": "gridworld", "slip": 1.2}, r"slip must lie in \[0, 1\], not 1.2"),
        ({"env": "gridworld", "side": 128}, r"side must lie in \[2, 127\], not 128"),
        ({"env": "gridworld", "goal_reward": "many"}, "goal_reward must be a number, not 'many'"),
        ({"object_level": "q_learning", "step_size": 0.0}, r"step_size must lie in \(0, 1\]"),
        ({"algo": "rl3-coarse", "cluster_radius": 0.0}, "cluster_radius must be larger than 0"),
        ({"network": "gru", "embedding": 1.5}, "embedding must be a whole number, not 1.5"),
        ({"side": 7}, "side is an option of env gridworld; this run has env bandit, object_level"),
        ({"embedding": 3}, "embedding is an option of network gru or mingru; this run has env"),
        ({"initial_value": 3}, "an option of object_level q_learning or tiles; this run has"),
        ({"cluster_size": 3}, "cluster_size is an option of algo rl3-coarse; this run has"),
        ({"algo": "rl2", "optimism": 1}, "optimism is an option of object_level value_iteration"),
        ({"env": "gridworld", "sid": 7}, r"sid is no field of Config; did you mean 'side'\?"),
        ({"env": "no_such_module:Class"}, "cannot import 'no_such_module'"),
        ({"algo": "rl4"}, "unknown algo 'rl4'; did you mean 'rl3'"),
    ],
)
def test_bad_options_of_parts_are_refused_in_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Config(**values)
    assert "\n" not in str(caught.value)


def test_options_of_parts_are_attributes_replaced_and_kept():
    config = Config(env="gridworld", object_level="value_iteration", side=7, optimism=15)
    assert (config.side, config.optimism, config.num_fatal) == (7, 15.0, None)
    assert type(config.optimism) is float
    other = dataclasses.replace(config, side=9, entropy=0.5)
    assert (other.side, other.optimism, other.entropy) == (9, 15.0, 0.5)
    assert Config.from_dict(json.loads(json.dumps(other.to_dict()))) == other
    assert copy.deepcopy(other) == pickle.loads(pickle.dumps(other)) == other
    assert (config.resolve().side, config.resolve().smoothing) == (7, 0.0)
    with pytest.raises(AttributeError, match="num_arms"):
        config.num_arms  # noqa: B018
    with pytest.raises(ConfigError, match="side is an option of env gridworld"):
        dataclasses.replace(config, env="bandit")


def test_numbers_of_numpy_and_jax_are_numbers():
    config = Config(n_tasks=np.int64(8), entropy=np.float32(0.5), num_arms=jnp.int32(3), clip=1)
    assert config == Config(n_tasks=8, entropy=0.5, num_arms=3, clip=1.0)
    assert {type(config.n_tasks), type(config.num_arms)} == {int}
    assert {type(config.entropy), type(config.clip)} == {float}


def test_values_of_every_domain_algorithm_preset_and_horizon():
    """A plain table of what resolves otherwise than a bandit's plain run, written before options
    belonged to parts."""
    table = json.loads((Path(__file__).parent / "resolved.json").read_text())
    for names, differing in table["runs"]:
        for name in names:
            env, variation, algo, preset, horizon = (None if x == "-" else x for x in name.split())
            config = Config(env=env, variation=variation, algo=algo, preset=preset,
                            object_level="value_iteration",
                            horizon=horizon and int(horizon)).resolve()  # fmt: skip
            found, expected = config.to_dict(), table["common"] | differing
            assert {k: found[k] for k in expected.keys() & found.keys()} == {
                k: expected[k] for k in expected.keys() & found.keys()
            }, name
            assert all(owner_of(option) for option in expected.keys() - found.keys())
            new = found.keys() - expected.keys() - {"env", "variation", "algo", "preset", "horizon"}
            assert {found[option] for option in new} <= {None, False, "plain", "none"}


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'paper-v4'"):
        Config(preset="paperv4").resolve()
    with pytest.raises(ConfigError, match="no values for env"):
        Config(env="rl3jax.envs:Bandit", preset="paper").resolve()


def test_json_round_trip_keeps_infinities():
    config = Config(env="mdp", n_tasks=64).resolve()
    assert math.isinf(config.kl_limit)
    text = json.dumps(config.to_dict(), allow_nan=False)
    assert Config.from_dict(json.loads(text)).resolve() == config


def test_json_round_trip_keeps_a_folder_called_inf():
    config = Config(out="inf")
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_field_in_a_file_is_named():
    with pytest.raises(ConfigError, match="n_task is no field of Config; did you mean 'n_tasks'"):
        Config.from_dict({"n_task": 3})


def test_hyperparams_carry_the_resolved_numbers():
    config = Config(env="bandit").resolve()
    hyperparams = config.hyperparams()
    for field in dataclasses.fields(Hyperparams):
        assert getattr(hyperparams, field.name) == pytest.approx(getattr(config, field.name))
