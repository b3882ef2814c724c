"""Flags of parts: an option of one's own from command line to resumed run, and foreign flags."""

import json
import re

import pytest

from rl3jax import Config, evaluate, sweep, train
from rl3jax.commands import parse
from rl3jax.config.flags import MOST_USED
from rl3jax.train import TrainArgs

OWN = """
from dataclasses import dataclass
from rl3jax.envs import Bandit
from rl3jax.ranges import Probability

@dataclass(frozen=True)
class Windy(Bandit):
    wind: Probability = 0.1
    \"\"\"How strong it blows.\"\"\"
"""
SMALL = "--n-tasks 8 --horizon 5 --minibatches 1 --epochs 1 --width 8 --validation-tasks 5"


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_envs.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return "--env own_envs:Windy"


def refused(capsys, command, arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        command.main(arguments.split())
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_an_option_of_ones_own_is_kept_and_resumes(own, tmp_path, capsys):
    train.main(f"{own} --wind 0.3 {SMALL} --iterations 1 --out a".split())
    assert json.loads((tmp_path / "a" / "config.json").read_text())["wind"] == 0.3
    assert "other --wind" in refused(capsys, train, f"--resume a {own} --wind 0.1")
    assert "other --seed, --wind" in refused(capsys, train, f"--resume a {own} --wind 0.1 --seed 2")
    train.main(f"--resume a {own} --wind 0.3 --iterations 2 --seed 0".split())
    assert len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) == 2
    evaluate.main(f"a {own} --n-tasks 5".split())


def test_a_default_that_differs_from_the_run_is_refused_too(own, capsys):
    train.main(f"{own} {SMALL} --seed 3 --iterations 1 --out b".split())
    assert "other --seed" in refused(capsys, train, f"--resume b {own} --seed 0")


def test_help_lists_the_options_of_the_named_class(own, capsys):
    for arguments, listed in ((own, True), ("--env mdp", False)):
        with pytest.raises(SystemExit) as ended:
            train.main([*arguments.split(), "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert ("How strong it blows. None: 0.1." in text) == listed
    listed = re.findall(r"--([a-z][a-z-]*) ", text.partition("show this help")[2])
    assert tuple(name.replace("-", "_") for name in listed[: len(MOST_USED)]) == MOST_USED
    assert "PPO options" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--side 7", "side is an option of env gridworld; this run has env bandit, object_level"),
        ("--algo rl2 --smoothing=1", "smoothing is an option of object_level value_iteration"),
        ("--env mdp --num-state 3", "unknown flag '--num-state'; did you mean '--num-states'?"),
        ("--wind 0.3", "unknown flag '--wind'"),
        ("--env mdp stray", "unexpected argument 'stray'"),
        ("--env gridworld --slip 2", "slip must lie in [0, 1], not 2.0"),
    ],
)
def test_flags_of_other_parts_are_refused_in_one_line(capsys, arguments, message):
    assert message in refused(capsys, train, arguments)
    assert message in refused(capsys, sweep, arguments)


@pytest.mark.parametrize(
    ("part", "option"),
    [
        ("--belief varibad", "latent_size"), ("--head hyper", "hyper_width"),
        ("--network mingru", "layers"), ("--env gridworld --object-level local_model", "num_kinds"),
    ],
)  # fmt: skip
def test_flags_of_a_part_are_taken_once_it_is_named(part, option):
    args = parse(TrainArgs, [*part.split(), f"--{option.replace('_', '-')}", "3"], "train")
    assert dict(args.config.options)[option] == 3


def test_a_grid_varies_traced_numbers_alone(own, capsys):
    assert "wind shapes the program" in refused(capsys, sweep, f"{own} --grid wind=0.1,0.2")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--mean-rewards", True),
        ("--mean-rewards True", True),
        ("--mean_rewards=True", True),
        ("--no-mean-rewards", False),
        ("--mean-rewards False", False),
        ("--mean-rewards None", None),
    ],
)
def test_booleans_take_a_value_or_none(flag, value):
    args = parse(TrainArgs, ["--env", "mdp", *flag.split(), "--seed", "1"], "train")
    assert args.config == Config(env="mdp", mean_rewards=value, seed=1)
    assert args.given == {"env", "mean_rewards", "seed"}
    if value is not None:  # so do those that are not of the config
        for name in ("debug", "distributed"):
            given = flag.replace("mean-rewards", name).replace("mean_rewards", name)
            args = parse(TrainArgs, [*given.split(), "--seed", "1"], "train")
            assert (args.debug, args.processes.distributed)[name == "distributed"] is value
