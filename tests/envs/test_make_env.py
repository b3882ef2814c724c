import pytest

from rl3jax.envs import (
    ENVIRONMENTS,
    Bandit,
    Gridworld,
    Pendulum,
    RandomMdp,
    env_options,
    make_env,
)

USER_MODULE = """
from dataclasses import dataclass
from rl3jax.envs import Bandit, Environment

@dataclass(frozen=True)
class TwoArms(Bandit):
    num_arms: int = 2

@dataclass
class Thawed:
    num_arms: int = 2

class Bare(Environment):
    pass

NUMBER = 3
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "user_envs.py").write_text(USER_MODULE)
    (tmp_path / "broken_envs.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)


def one_line(error):
    return "\n" not in str(error.value)


def test_names_make_environments():
    assert make_env("bandit") == Bandit()
    assert make_env("mdp") == RandomMdp()
    assert make_env("gridworld") == Gridworld("13x13")
    assert make_env("gridworld", variation="11x11") == Gridworld(variation="11x11")
    assert make_env("bandit", num_arms=7, variation="ood") == Bandit(7, "ood")
    assert make_env("mdp", variation="ood") == RandomMdp(variation="ood-dirichlet")
    vectors = {"pendulum", "mountain-car", "cartpole", "acrobot", "point-robot"}
    vectors |= {"repeat-previous", "t-maze"}
    assert set(ENVIRONMENTS) == {"bandit", "mdp", "gridworld", "gridnavi"} | vectors
    assert make_env("bandit", variation="popgym-hard") == Bandit(30, "popgym-hard")
    assert make_env("pendulum", mass_low=0.5) == Pendulum() != Pendulum("packer-r")


def test_options_are_the_fields():
    assert env_options(Bandit) == ("num_arms",)
    assert env_options(RandomMdp) == ("num_states", "num_actions", "task_horizon")
    assert env_options(Gridworld)[:3] == ("side", "num_obstacle_sets", "obstacle_set_len")
    assert len(env_options(Gridworld)) == 15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_env("bandti"), r"unknown env 'bandti'; did you mean 'bandit'\?.*mdp.*module"),
        (lambda: make_env(""), "unknown env ''.*bandit, cartpole, gridnavi, gridworld, mdp"),
        (lambda: make_env("bandit", num_arm=3), r"option 'num_arm'; did you mean 'num_arms'\?"),
        (lambda: make_env("bandit", num_states=3), "env 'bandit' has no option 'num_states'"),
        (lambda: make_env("bandit", num_arms=0), "num_arms must be at least 1, not 0"),
        (lambda: make_env("gridword"), "unknown env 'gridword'; did you mean 'gridworld'"),
        (lambda: make_env("gridworld", slips=0.1), r"option 'slips'; did you mean 'slip'\?"),
        (lambda: make_env("gridworld", slip=2), r"slip must lie in \[0, 1\], not 2"),
        (lambda: make_env("gridworld", variation="11"), "unknown variation '11'; .*11x11, 13x13"),
        (lambda: make_env("bandit", variation="odd"), r"unknown variation 'odd'.*'ood'"),
        (lambda: make_env("gridnavi", side=7), "env 'gridnavi' has no option 'side'"),
        (lambda: make_env("gridnavi", "iid"), "env 'gridnavi' has no variations, so not 'iid'"),
        (lambda: make_env("repeat-previous", "eas"), "unknown variation 'eas'.*'easy'.*medium"),
        (lambda: make_env("t-maze", length=1), "length must be at least 2, not 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert one_line(error)


@pytest.mark.usefixtures("user_module")
def test_an_environment_of_ones_own_is_imported():
    env = make_env("user_envs:TwoArms", variation="ood")
    assert env.num_actions == 2
    assert env.variation == "ood"
    assert make_env("user_envs:TwoArms", num_arms=3).num_actions == 3


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_at_all:Env", "cannot import 'no_such_module_at_all'"),
        ("broken_envs:Env", "cannot import 'broken_envs': No module named"),
        (":Env", "cannot import ''"),
        (".relative:Env", "cannot import '.relative'"),
        ("user_envs:TwoArm", r"no 'TwoArm' in user_envs; did you mean 'TwoArms'\?"),
        ("user_envs:", "no '' in user_envs"),
        ("user_envs:NUMBER", "must be a @dataclass.frozen=True. that extends"),
        ("user_envs:Thawed", "must be a @dataclass.frozen=True. that extends"),
        ("user_envs:Bare", "must be a @dataclass.frozen=True. that extends"),
    ],
)
def test_a_bad_import_is_refused_in_one_line(name, message):
    with pytest.raises(ValueError, match=message) as error:
        make_env(name)
    assert one_line(error)
