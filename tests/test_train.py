import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import pytest
from PIL import Image

import rl3jax
from rl3jax import Config, compare, evaluate, load_agent, memory, render, train
from rl3jax.evaluate import EvaluateArgs
from rl3jax.files import FileError
from rl3jax.processes import Processes
from rl3jax.runs import folder as run_folder
from rl3jax.runs import resume
from rl3jax.runs.checkpoint import checkpoints
from rl3jax.train import TrainArgs
from tests.children import Child

SMALL = "--n-tasks 16 --horizon 8 --minibatches 2 --epochs 1 --width 8 --validation-tasks 20"
TIMINGS = ("seconds", "steps_per_second")


def run(arguments, command=train):
    command.main(arguments.split())


def metrics(folder):
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


def refused(capsys, arguments, command=train):
    """The one line of a refusal with exit code 2 (tyro's box counts as one)."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(arguments, command)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def assert_same_agent(a, b):
    chex.assert_trees_all_equal(load_agent(a), load_agent(b))


def assert_same_run(a, b):
    """Bit for bit: parameters and metrics, timings aside."""
    assert metrics(a) == metrics(b)
    for agent in ("agent", "best_agent"):
        assert_same_agent(a / agent, b / agent)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of six iterations, never interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(f"{SMALL} --iterations 6 --validate-every 2 --checkpoint-every 2 --out {folder}")
    return folder


# --- a run -------------------------------------------------------------------------------------


def test_a_run_folder_holds_what_is_promised(whole):
    lines = metrics(whole)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["env_steps"] for line in lines] == [128 * i for i in range(1, 7)]
    assert [("validation_return" in line) for line in lines] == [False, True] * 3
    expected = {"mean_return", "stderr_return", "entropy", "kl", "actor_loss", "critic_loss"}
    assert expected <= lines[0].keys()
    assert json.loads((whole / "config.json").read_text())["horizon"] == 8
    (entry,) = json.loads((whole / "provenance.json").read_text())
    assert entry["packages"]["jax"] == jax.__version__
    assert entry["device"]
    assert [path.name for path in checkpoints(whole / "checkpoints")] == ["00000006", "00000004"]
    assert load_agent(whole / "agent").greedy
    with Image.open(whole / "curve.png") as picture:
        assert min(picture.size) > 400


def test_the_best_policy_is_the_best_of_the_validated_ones(whole):
    validated = [line for line in metrics(whole) if "validation_return" in line]
    best = max(validated, key=lambda line: line["validation_return"])
    if best["iteration"] == 6:
        assert_same_agent(whole / "agent", whole / "best_agent")
    else:
        with pytest.raises(AssertionError):
            assert_same_agent(whole / "agent", whole / "best_agent")


def test_evaluate_writes_scores_beside_floor_and_ceiling(whole, capsys):
    run(f"{whole} --n-tasks 30", evaluate)
    output = capsys.readouterr().out
    for name in ("rl3, greedy", "rl3, sampled", "random", "optimal"):
        assert name in output
    report = json.loads((whole / "evaluations" / "iid-h8-last.json").read_text())
    scores = report["scores"]
    assert len(scores["rl3, greedy"]["returns"]) == 30
    assert len(scores["random"]["reward_per_step"]) == 8
    assert scores["optimal"]["mean_return"] > scores["random"]["mean_return"]
    with Image.open(whole / "evaluations" / "iid-h8-last.png") as picture:
        assert min(picture.size) > 400


def test_evaluate_out_of_distribution_and_at_another_horizon(whole, capsys):
    run(f"{whole} --n-tasks 10 --variation ood --horizon 5 --policy best", evaluate)
    assert (whole / "evaluations" / "ood-h5-best.json").is_file()


def test_evaluate_with_baselines_by_name(whole, capsys):
    run(f"{whole} --n-tasks 10 --baselines thompson gittins", evaluate)
    scores = json.loads((whole / "evaluations" / "iid-h8-last.json").read_text())["scores"]
    assert list(scores) == ["rl3, greedy", "rl3, sampled", "thompson", "gittins"]
    assert "of the optimum" not in capsys.readouterr().out


def test_several_runs_are_compared(whole, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["cp", "-r", whole, "twin"], check=True)
    run(f"{whole} twin --n-tasks 5 --baselines random", evaluate)
    output = capsys.readouterr().out
    assert f"− {whole.name}, greedy" in output
    row = next(line for line in output.splitlines() if "twin, greedy" in line)
    assert row.split("│")[-2].strip() == "0.00 ± 0.00"  # in the same tasks, by the same chance
    assert "written" not in output
    run(f"{whole} twin", compare)
    assert capsys.readouterr().out.splitlines()[-1] == "written to compare.png"
    assert "is the same run" in refused(capsys, f"{whole} {whole}", compare)
    metrics = Path("twin/metrics.jsonl")
    before = metrics.read_text()
    metrics.write_text('{"iteration": 1, "env_steps": "1"}\n')
    assert "env_steps is '1'" in refused(capsys, f"{whole} twin", compare)
    first, *others = map(json.loads, before.splitlines())
    huge = [{**first, "mean_return": 1e308, "validation_return": -1e308, "env_steps": 10**400}]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in huge + others))
    run(f"{whole} twin --out curves.png", compare)
    metrics.write_text(before)
    config = json.loads(Path("twin/config.json").read_text())
    Path("twin/config.json").write_text(json.dumps(config | {"horizon": 9}))
    assert "cannot be compared" in refused(capsys, f"{whole} twin", compare)
    assert "give a --variation or --horizon" in refused(capsys, f"{whole} twin", evaluate)


def test_evaluate_foresees_its_memory(whole, capsys, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 2**17)
    error = refused(capsys, f"{whole} --n-tasks 1024 --baselines random", evaluate)
    batch = re.search(r"over a device's memory, .*Fits: --batch-size (\d+) ", error).group(1)
    run(f"{whole} --n-tasks 1024 --baselines random --batch-size {batch}", evaluate)


def test_evaluate_of_baselines_alone(capsys):
    run("--env bandit --horizon 6 --n-tasks 10 --baselines all", evaluate)
    output = capsys.readouterr().out
    for name in ("random", "optimal", "greedy", "q-learning", "ucb1", "bayes-optimal"):
        assert name in output


def test_evaluate_refuses_baselines_that_do_not_play_here(whole, capsys):
    assert "did you mean 'psrl'" in refused(capsys, f"{whole} --baselines psl", evaluate)
    assert "plays environments" in refused(capsys, f"{whole} --baselines psrl", evaluate)
    assert "must explore" in refused(capsys, f"{whole} --baselines planner", evaluate)
    assert "RUN" in refused(capsys, "--baselines random", evaluate)
    assert "--env" in refused(capsys, f"{whole} --env bandit", evaluate)
    assert "did you mean 'bandit'" in refused(capsys, "--env bandits", evaluate)


def test_default_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run(f"{SMALL} --iterations 1 --algo rl2")
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["bandit-rl2-markov-h8-s0", "bandit-rl2-markov-h8-s0-2"]


def test_init_from_starts_with_that_policy(whole, tmp_path):
    run(f"{SMALL} --iterations 1 --learning-rate 1e-30 --init-from {whole} --out {tmp_path / 'b'}")
    assert_same_agent(whole / "agent", tmp_path / "b" / "agent")


def test_init_from_takes_what_fits_and_names_what_does_not(tmp_path, capsys):
    of_rl2 = f"{SMALL} --iterations 1 --learning-rate 1e-30 --algo rl2"
    own = "--network mingru --embedding 4"
    run(f"{of_rl2} {own} --out {tmp_path / 'a'}")
    like_it = f"{of_rl2} {own} --horizon 6 --init-from {tmp_path / 'a'}"
    run(f"{like_it} --out {tmp_path / 'b'}")
    before, after = (load_agent(tmp_path / name / "agent") for name in "ab")
    chex.assert_trees_all_close(before.params, after.params, atol=1e-20)
    for flags, expected in (
        (f"{like_it} --width 5", "its network has width 8, that of this run 5"),
        (like_it.replace(own, ""), "has class 'MinGru', that of this run 'Markov'"),
        (f"{like_it} --algo rl3", "has advantages None, that of this run range(9, 14)"),
    ):
        assert expected in refused(capsys, flags)
    with pytest.raises(FileError, match=f"did you mean {tmp_path / 'a' / 'agent'}"):
        load_agent(tmp_path / "a")


def test_own_environment_by_module_and_class(tmp_path, monkeypatch):
    (tmp_path / "my_envs.py").write_text(
        "from dataclasses import dataclass\n"
        "from rl3jax.envs.bandit import Bandit\n"
        "@dataclass(frozen=True)\n"
        "class MyBandit(Bandit):\n"
        "    num_arms: int = 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    run(f"{SMALL} --iterations 1 --env my_envs:MyBandit --num-arms 4 --out mine")
    assert load_agent("mine/agent").distribution.num_actions == 4
    run("--resume mine --env my_envs:MyBandit --iterations 2")
    run("mine --env my_envs:MyBandit --n-tasks 5", evaluate)


def test_code_that_a_run_folder_names_is_run_only_if_the_user_names_it_too(
    whole, tmp_path, monkeypatch, capsys
):
    (tmp_path / "hostile.py").write_text("import os; os.mkdir('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    edited(whole, tmp_path / "a", "config.json", lambda c: c.update(env="hostile:Env"))
    for arguments, command in (("--resume a", train), ("a", evaluate), ("a --out a.png", render)):
        assert "say so: --env hostile:Env" in refused(capsys, arguments, command)
        assert "say so: --env hostile:Env" in refused(
            capsys, f"{arguments} --env rl3jax.envs:Bandit", command
        )
    assert not (tmp_path / "executed").exists()


def test_tensorboard_receives_the_metrics(tmp_path):
    pytest.importorskip("tensorboardX")
    run(f"{SMALL} --iterations 2 --checkpoint-every 2 --log tensorboard --out {tmp_path / 'a'}")
    run(f"--resume {tmp_path / 'a'} --iterations 3 --log tensorboard")
    (events,) = (tmp_path / "a" / "tensorboard").iterdir()
    assert events.read_bytes().count(b"mean_return") == 3  # each step once


# --- going on ----------------------------------------------------------------------------------


def test_extended_with_resume(whole, tmp_path):
    flags = f"{SMALL} --entropy 0.02 --validate-every 2 --checkpoint-every 2"
    run(f"{flags} --iterations 4 --out {tmp_path / 'a'}")
    run(f"--resume {tmp_path / 'a'} --iterations 6")
    assert [line["iteration"] for line in metrics(tmp_path / "a")] == [1, 2, 3, 4, 5, 6]
    assert json.loads((tmp_path / "a" / "config.json").read_text())["iterations"] == 6
    assert len(json.loads((tmp_path / "a" / "provenance.json").read_text())) == 2


def start(arguments):
    """The command in a process of its own."""
    return Child("-m", "rl3jax.train", *arguments.split())


def wait_for_lines(folder, count, process):
    """Until `count` iterations are on record."""
    file = folder / "metrics.jsonl"
    for _ in range(1200):
        if file.is_file() and file.read_text().count("\n") >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no progress within a minute")


LONG = f"{SMALL} --iterations 150 --validate-every 7 --checkpoint-every 5"


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "long"
    run(f"{LONG} --out {folder}")
    return folder


def test_killed_at_any_moment_and_resumed_ends_bit_for_bit_the_same(long_run, tmp_path):
    folder = tmp_path / "killed"
    process = start(f"{LONG} --out {folder}")
    wait_for_lines(folder, 3, process)
    time.sleep(0.37)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 3 <= len(metrics(folder)) < 150
    run(f"--resume {folder}")
    assert_same_run(folder, long_run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_finishes_the_iteration_and_says_how_to_go_on(long_run, tmp_path, number):
    folder = tmp_path / "stopped"
    process = start(f"{LONG} --out {folder}")
    wait_for_lines(folder, 2, process)
    os.killpg(process.pid, number)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    done = len(metrics(folder))
    assert checkpoints(folder / "checkpoints")[0].name == f"{done:08d}"
    assert (folder / "curve.png").is_file()
    command = re.search(r"python -m rl3jax.train (--resume .+)", output).group(1)
    run(command)
    assert_same_run(folder, long_run)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(whole, tmp_path, capsys):
    folder = tmp_path / "damaged"
    run(f"{SMALL} --iterations 6 --validate-every 2 --checkpoint-every 2 --out {folder}")
    newest = checkpoints(folder / "checkpoints")[0]
    (newest / "state.npz").write_bytes(b"")
    run(f"--resume {folder}")
    assert "00000006 is damaged" in capsys.readouterr().err
    assert_same_run(folder, whole)


def test_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, capsys, monkeypatch):
    """An infinity from iteration 4 on."""
    original = train.make_trainer
    folder = tmp_path / "a"

    def make_broken(config):
        trainer = original(config)
        update = type(trainer).update

        def broken(self, state):
            state, values = update(self, state)
            loss = values.diagnostics["critic_loss"]
            nan = jnp.where(state.iteration >= 4, jnp.nan, loss)
            diagnostics = values.diagnostics | {"critic_loss": nan}
            return state, values.replace(diagnostics=diagnostics)

        monkeypatch.setattr(type(trainer), "update", jax.jit(broken, static_argnums=0))
        return trainer

    monkeypatch.setattr(train, "make_trainer", make_broken)
    with pytest.raises(SystemExit) as caught:
        run(f"{SMALL} --iterations 9 --checkpoint-every 1 --out {folder}")
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert "critic_loss is nan in iteration 4; what was before it is kept in" in error
    assert "--learning-rate" in error
    assert checkpoints(folder / "checkpoints")[0].name == "00000003"
    assert len(metrics(folder)) == 3


OWN_ENVS = """
from dataclasses import dataclass
import jax.numpy as jnp
from rl3jax.envs import Bandit, Environment

@dataclass(frozen=True)
class BadReward(Bandit):
    def transition(self, key, s, action, task):
        drawn = super().transition(key, s, action, task)
        return drawn._replace(reward=jnp.log(drawn.reward - 1))  # of 0 or of less

@dataclass(frozen=True)
class BadFeatures(Bandit):
    @property
    def state_features(self):
        return jnp.full((1, 1), jnp.nan)

@dataclass(frozen=True)
class BadState(Bandit):
    def transition(self, key, s, action, task):
        return super().transition(key, s, action, task)._replace(next_state_index=1)

@dataclass(frozen=True)
class NoModel(Bandit):
    tabular = Environment.tabular

@dataclass(frozen=True)
class Nothing(Bandit):
    def transition(self, key, s, action, task):
        return super().transition(key, s, action, task)._replace(reward=0)

    def tabular(self, task):
        model = super().tabular(task)
        return model._replace(mean_reward=0 * model.mean_reward)
"""


@pytest.mark.parametrize(
    ("env", "code", "expected"),
    [
        ("BadReward", 1, "reward is not finite in 100.00% of the tasks in iteration 1"),
        ("BadFeatures", 1, "observation (state) is not finite in 100.00% of the tasks"),
        ("BadState", 2, "in 16 of 16 tasks the environment named a state outside [0, num_states)"),
    ],
)
def test_what_goes_wrong_in_an_own_environment_is_named_where_it_appears(
    tmp_path, monkeypatch, capsys, env, code, expected
):
    (tmp_path / "bad_envs.py").write_text(OWN_ENVS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(f"{SMALL} --iterations 3 --env bad_envs:{env} --out {tmp_path / 'a'}")
    assert caught.value.code == code
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert checkpoints(tmp_path / "a" / "checkpoints")[0].name == "00000000"  # the last good state
    assert metrics_or_none(tmp_path / "a") == []


def strictly(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_defined_is_said_to_be_and_ends_nothing(tmp_path, monkeypatch, capsys):
    """Equal returns, one task, an optimum of 0: no variance to explain, no error, no fraction."""
    (tmp_path / "bad_envs.py").write_text(OWN_ENVS)
    monkeypatch.syspath_prepend(tmp_path)
    sizes = "--n-tasks 1 --minibatches 1 --horizon 1 --validation-tasks 1 --iterations 2 --debug"
    folder, env = tmp_path / "a", "--env bad_envs:Nothing"
    run(f"{sizes} {env} --width 8 --out {folder}")
    lines = [strictly(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = ("mean_return", "stderr_return", "explained_variance", "validation_stderr")
    assert [[line[name] for name in names] for line in lines] == [[0, None, None, None]] * 2
    run(f"{folder} {env} --n-tasks 1", evaluate)
    score = strictly((folder / "evaluations" / "iid-h1-last.json").read_text())["scores"]["optimal"]
    assert (score["mean_return"], score["stderr_return"]) == (0, None)
    assert re.search(r"optimal *│ *0\.00 │ *–", output := capsys.readouterr().out), output
    assert "nan" not in output


def test_an_environment_without_a_model_is_trained_in_and_scored(tmp_path, monkeypatch, capsys):
    (tmp_path / "bad_envs.py").write_text(OWN_ENVS)
    monkeypatch.syspath_prepend(tmp_path)
    env = "--env bad_envs:NoModel"
    assert rl3jax.check_env(rl3jax.make_env("bad_envs:NoModel")) == ()
    run(f"{SMALL} {env} --iterations 1 --out {tmp_path / 'a'}")
    run(f"{tmp_path / 'a'} {env} --n-tasks 5", evaluate)
    assert "without the optimum: NoModel has no exact model" in capsys.readouterr().out
    error = refused(capsys, f"{tmp_path / 'a'} {env} --baselines optimal", evaluate)
    assert "'optimal' plays tabular environments with an exact model" in error


def metrics_or_none(folder):
    return metrics(folder) if (folder / "metrics.jsonl").exists() else []


def test_debug_trains_the_same(tmp_path):
    flags = "--iterations 2 --validate-every 2 --checkpoint-every 2"
    run(f"{SMALL} {flags} --debug --out {tmp_path / 'a'}")
    run(f"{SMALL} {flags} --out {tmp_path / 'b'}")
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_checkpoints_at_other_intervals_change_nothing(whole, tmp_path):
    run(f"{SMALL} --iterations 6 --validate-every 2 --checkpoint-every 5 --out {tmp_path / 'a'}")
    assert_same_run(tmp_path / "a", whole)


def test_a_logger_whose_package_is_missing_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    error = refused(capsys, f"{SMALL} --iterations 1 --log wandb --out {tmp_path / 'a'}")
    assert "pip install 'rl3jax[wandb]'" in error
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    error = refused(capsys, f"{SMALL} --iterations 1 --out {tmp_path / 'file' / 'run'}")
    assert str(tmp_path / "file" / "run") in error


def test_ended_between_the_last_checkpoint_and_its_agents(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "a")
    for agent in ("agent", "best_agent"):
        shutil.rmtree(tmp_path / "a" / agent)
    run(f"--resume {tmp_path / 'a'}")
    assert_same_run(tmp_path / "a", whole)


def test_damaged_metrics_are_named(whole, tmp_path, capsys):
    subprocess.run(["cp", "-r", whole, tmp_path / "a"], check=True)
    (tmp_path / "a" / "metrics.jsonl").write_text("{\n")
    assert "metrics.jsonl is damaged" in refused(capsys, f"--resume {tmp_path / 'a'}")


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--env bandid", "did you mean 'bandit'"),
        ("--algo rl4", "unknown algo 'rl4'"),
        ("--network gruu", "did you mean 'gru'"),
        ("--object-level qlearning", "did you mean 'q_learning'"),
        ("--preset papr", "did you mean 'paper'"),
        ("--env mdp --num-arms 3", "num_arms"),
        ("--no-such-flag 3", "no-such-flag"),
        ("--n-tasks 0", "n_tasks must be at least 1, not 0"),
        ("--n-tasks -5", "n_tasks must be at least 1, not -5"),
        ("--n-tasks 2.5", "2.5"),
        ("--n-tasks many", "many"),
        ("--horizon 0", "horizon must be at least 1, not 0"),
        ("--n-tasks 100 --minibatches 16", "n_tasks 96"),
        ("--learning-rate nan", "learning_rate must be finite"),
        ("--log carrier-pigeon", "carrier-pigeon"),
        ("--resume no/such/run", "no run folder"),
        ("--init-from no/such/agent", "holds no agent"),
    ],
)
def test_bad_flags(capsys, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert expected in refused(capsys, arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_folder_is_refused_and_resume_offered(whole, capsys):
    before = metrics(whole)
    assert f"--resume {whole}" in refused(capsys, f"{SMALL} --iterations 1 --out {whole}")
    assert metrics(whole) == before


def test_resume_takes_no_other_flags(whole, capsys):
    for flag in ("--learning-rate 0.1", "--algo rl2", "--network gru", "--object-level q_learning"):
        name = flag.partition(" ")[0]
        assert f"takes no other {name}" in refused(capsys, f"--resume {whole} {flag}")
    assert "6 already" in refused(capsys, f"--resume {whole} --iterations 3")


def edited(folder, target, file, change):
    """A copy of a run with one JSON file changed."""
    subprocess.run(["cp", "-r", folder, target], check=True)
    path = target / file
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return target


def test_resume_of_another_config_names_the_field(whole, tmp_path, capsys):
    target = edited(whole, tmp_path / "a", "config.json", lambda c: c.update(entropy=0.5))
    assert "entropy" in refused(capsys, f"--resume {target}")


def test_resume_with_other_random_numbers_names_the_setting(whole, capsys):
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
        error = refused(capsys, f"--resume {whole}")
    assert "set JAX_THREEFRY_PARTITIONABLE=True" in error
    with jax.enable_x64(not jax.config.jax_enable_x64):
        assert "set JAX_ENABLE_X64=" in refused(capsys, f"--resume {whole}")


def test_the_commit_is_that_of_our_own_checkout_or_none(tmp_path, monkeypatch):
    installed = tmp_path / "rl3jax"
    installed.mkdir()
    (tmp_path / "mine.py").touch()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "mine"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    assert run_folder._commit(installed) is None
    for text in ('[project]\nname = "mine"\n', '[[tool.x]]\nname = "rl3jax"\n', "name ="):
        (tmp_path / "pyproject.toml").write_text(text)
        assert run_folder._commit(installed) is None
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "rl3jax"\n')
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as git's hooks have it
    assert re.fullmatch(r"[0-9a-f]{40}", run_folder._commit(installed))


def test_resume_of_another_version_names_both(whole, capsys, monkeypatch):
    monkeypatch.setattr(resume, "VERSION", "9.9")
    error = refused(capsys, f"--resume {whole}")
    assert "9.9" in error
    assert f"was written by rl3jax {rl3jax.__version__}" in error


def test_the_checkpoint_decides_what_may_change(whole, tmp_path):
    """config.json is written after it, so a kill between the two leaves an older one."""
    target = edited(whole, tmp_path / "a", "config.json", lambda c: c.update(iterations=900))
    run(f"--resume {target}")
    assert_same_run(target, whole)
    assert json.loads((target / "config.json").read_text())["iterations"] == 6


def test_an_extended_run_stays_extended_when_it_is_killed_at_once(whole, tmp_path):
    target = tmp_path / "a"
    subprocess.run(["cp", "-r", whole, target], check=True)
    trainer, _, _ = train._resume(TrainArgs(Config(iterations=8), target), ExitStack())
    assert trainer.config.iterations == 8
    run(f"--resume {target}")
    assert len(metrics(target)) == 8


def test_metrics_of_another_run_are_noticed(whole, tmp_path, capsys):
    run(f"{SMALL} --iterations 6 --seed 1 --validate-every 2 --out {tmp_path / 'other'}")
    target = tmp_path / "a"
    subprocess.run(["cp", "-r", whole, target], check=True)
    (tmp_path / "other" / "metrics.jsonl").rename(target / "metrics.jsonl")
    assert "metrics.jsonl is damaged: its lines" in refused(capsys, f"--resume {target}")


def test_two_trainings_do_not_share_a_folder(whole, tmp_path, capsys):
    with run_folder.RunFolder(whole).held():
        assert "another process trains into it" in refused(capsys, f"--resume {whole}")
    with run_folder.new_run(Config().resolve(), str(tmp_path / "a")):
        error = refused(capsys, f"{SMALL} --iterations 1 --out {tmp_path / 'a'}")
    assert "another process trains into it" in error


def test_a_folder_is_a_run_once_there_is_something_to_go_on_from(tmp_path, monkeypatch):
    """Killed before, it is started anew by the same command."""

    def killed(*_):
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.RunFolder, "write_config", killed)
        with pytest.raises(SystemExit):
            run(f"{SMALL} --iterations 1 --out {tmp_path / 'a'}")
    assert checkpoints(tmp_path / "a" / "checkpoints")
    run(f"{SMALL} --iterations 1 --out {tmp_path / 'a'}")


def test_digests_go_on_where_the_last_one_ended(tmp_path):
    folder, digests = run_folder.RunFolder(tmp_path), []
    for iteration in range(4):
        digests.append(folder.metrics_digest(iteration))
        folder.append_metrics({"iteration": iteration + 1})
    for iteration, digest in enumerate(digests):
        lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:iteration]
        assert digest == hashlib.sha256(b"".join(lines)).hexdigest()
    run_folder.RunFolder(tmp_path).truncate_metrics(2, digests[2])
    assert folder.read_metrics() == [{"iteration": 1}, {"iteration": 2}]


def test_a_line_of_metrics_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = run_folder.RunFolder(tmp_path)
    folder.append_metrics({"iteration": 1})

    class Full(io.FileIO):
        def write(self, data):
            super().write(data[:5])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, *args, **kwargs: Full(path, "ab"))
        with pytest.raises(OSError, match=r"No space left.*metrics\.jsonl"):
            folder.append_metrics({"iteration": 2})
    assert folder.read_metrics() == [{"iteration": 1}]


def test_resume_without_a_complete_checkpoint(whole, tmp_path, capsys):
    target = tmp_path / "a"
    subprocess.run(["cp", "-r", whole, target], check=True)
    for checkpoint in checkpoints(target / "checkpoints"):
        (checkpoint / "manifest.json").unlink()
    assert "no complete checkpoint" in refused(capsys, f"--resume {target}")


def test_evaluate_of_what_is_no_run_or_no_agent(whole, tmp_path, capsys):
    assert "no run folder" in refused(capsys, f"{tmp_path}", evaluate)
    subprocess.run(["cp", "-r", whole, tmp_path / "a"], check=True)
    (tmp_path / "a" / "agent" / "agent.npz").write_bytes(b"PK")
    assert "agent.npz is damaged or not ours" in refused(capsys, f"{tmp_path / 'a'}", evaluate)
    assert "did you mean 'ood'" in refused(capsys, f"{whole} --variation oood", evaluate)
    assert "n_tasks" in refused(capsys, f"{whole} --n-tasks 0", evaluate)


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        (
            train,
            {"resume", "init_from", "log", "debug", *Processes.__dataclass_fields__}
            | Config().names,
        ),
        (evaluate, EvaluateArgs.__dataclass_fields__.keys() - {"runs"}),
    ],
)
def test_help_explains_every_flag(command, fields, capsys):
    with pytest.raises(SystemExit) as caught:
        run("--help", command)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    flags = re.findall(r"(--[a-z][a-z-]*)(?: +[A-Z{\[]|, --no-)", text)
    assert sorted(flags) == sorted("--" + field.replace("_", "-") for field in fields)
    assert text.count("(default:") >= len(flags)
