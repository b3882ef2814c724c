import json
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from rl3jax import (
    Config,
    evaluate_agent,
    load_agent,
    make_trainer,
    render,
    save_agent,
    train,
)
from rl3jax.drawing import evaluation_task, files, record_episode
from rl3jax.render import RenderArgs
from rl3jax.runs.folder import RunFolder
from rl3jax.seeding import held_out_key
from rl3jax.trainer import config_env

SIZES = {
    "bandit": {"env": "bandit", "num_arms": 3},
    "mdp": {"env": "mdp", "num_states": 4, "num_actions": 2, "task_horizon": 3},
    "gridworld": {"env": "gridworld", "variation": "11x11", "object_level": "q_learning"},
    "rl2": {"env": "mdp", "num_states": 4, "num_actions": 2, "task_horizon": 3, "algo": "rl2"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run folder of each kind, with a policy that is not trained yet."""
    root = tmp_path_factory.mktemp("runs")
    for name, values in SIZES.items():
        trainer = make_trainer(Config(n_tasks=1, horizon=6, width=4, **values))
        folder = RunFolder(root / name)
        folder.path.mkdir()
        folder.write_config(trainer.config)
        agent = trainer.agent(trainer.init(jax.random.key(0)))
        save_agent(folder.agent, agent)
        other = jax.tree.map(lambda x: x + 1, agent.params)
        save_agent(folder.best_agent, agent.replace(params=other))
    return root


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """The name of an environment that there are no pictures of."""
    (tmp_path / "strange_envs.py").write_text(
        "from dataclasses import dataclass\n"
        "from rl3jax.envs import Bandit, Environment\n"
        "@dataclass(frozen=True)\n"
        "class Strange(Environment):\n"
        "    num_states = 1\n"
        "    num_actions = 3\n"
        "    task_horizon = 1\n"
        "    sample_task = Bandit.sample_task\n"
        "    start_index = Bandit.start_index\n"
        "    transition = Bandit.transition\n"
        "    tabular = Bandit.tabular\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "strange_envs:Strange"


def run(arguments, command=render):
    command.main([str(argument) for argument in arguments])


def refused(capsys, arguments, command=render):
    """The error of a refusal with exit code 2: one line (tyro's box counts as one)."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(arguments, command)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.startswith("error: ") is (error.count("\n") == 1)
    return error


# --- from end to end ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bandit", "mdp", "gridworld"])
def test_a_run_of_each_domain_becomes_a_film(runs, tmp_path, capsys, name):
    out = tmp_path / "episode.gif"
    run([runs / name, "--out", out, "--fps", "20"])
    with Image.open(out) as film:
        assert film.n_frames == 7
        assert min(film.size) > 300
    output = capsys.readouterr().out
    assert "RL³: return" in output
    assert f"written to {out}" in output
    assert list(tmp_path.iterdir()) == [out]


def test_rl2_and_rl3_side_by_side(runs, tmp_path, capsys):
    run([runs / "mdp", "--against", runs / "rl2", "--out", tmp_path / "a.png"])
    output = capsys.readouterr().out
    assert "RL³: return" in output
    assert "RL²: return" in output
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 600


def test_runs_of_one_algorithm_are_told_apart_by_their_folders(runs, tmp_path, capsys):
    subprocess.run(["cp", "-r", runs / "mdp", tmp_path / "other"], check=True)
    run([runs / "mdp", "--against", tmp_path / "other", "--out", tmp_path / "a.png"])
    output = capsys.readouterr().out
    assert "mdp: return" in output
    assert "other: return" in output


def test_frames_are_left_out_on_request_and_a_free_name_is_found(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bandit-task0.gif").touch()
    run([runs / "bandit", *["--horizon", "4", "--every", "3", "--dpi", "50"]])
    with Image.open("bandit-task0-2.gif") as film:
        assert film.n_frames == 3  # after 0, 3 and 4 steps
        assert film.width == 430


def test_what_was_asked_for_is_recorded(runs, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(render.drawing, "record_episodes", lambda *what: seen.append(what) or {})
    monkeypatch.setattr(render.drawing, "save_picture", lambda *_: None)

    def asked(*options):
        run([runs / "bandit", "--out", tmp_path / "a.gif", *options])
        ((_, agent),) = seen[-1][0].items()
        return agent, *seen[-1][1:4]

    agent, env, task, horizon = asked()
    assert agent.greedy
    assert (env.variation, horizon) == ("iid", 6)
    assert not asked("--actions", "sampled")[0].greedy
    best = asked("--policy", "best")[0]
    last_leaf, best_leaf = (jax.tree.leaves(x.params)[0] for x in (agent, best))
    np.testing.assert_allclose(best_leaf, last_leaf + 1)
    assert asked("--variation", "ood")[1].variation == "ood"
    assert (asked("--task", "3")[2].success_prob != task.success_prob).all()
    assert asked("--horizon", "9")[3] == 9


@pytest.mark.parametrize("index", [0, 5])
def test_the_held_out_tasks_are_those_of_evaluate(runs, index):
    folder = RunFolder(runs / "mdp")
    env, agent = config_env(folder.read_config()), load_agent(folder.agent)
    scores = evaluate_agent(agent, env, 6, 8, held_out_key())
    task, key = evaluation_task(env, held_out_key(), index)
    episode = record_episode(agent, env, task, 6, key)
    np.testing.assert_allclose(episode.reward, scores.rewards[index], rtol=1e-5)


def test_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as caught:
        run(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for field in RenderArgs.__dataclass_fields__.keys() - {"run"}:
        assert f"--{field.replace('_', '-')} " in text
    assert text.count("(default:") >= len(RenderArgs.__dataclass_fields__) - 2


# --- while training -----------------------------------------------------------------------------

TINY = "--n-tasks 4 --horizon 5 --epochs 1 --width 4 --validate-every 0 --iterations 3"


def test_training_draws_every_so_many_iterations(tmp_path):
    run([*TINY.split(), "--draw-every", "2", "--out", tmp_path / "run"], train)
    pictures = sorted((tmp_path / "run" / "drawings").iterdir())
    assert [path.name for path in pictures] == ["00000002.png", "00000003.png"]
    with Image.open(pictures[0]) as picture:
        assert min(picture.size) > 600


def test_training_does_not_start_if_it_cannot_draw(strange, tmp_path, capsys):
    arguments = [*TINY.split(), "--env", strange, "--draw-every", "2", "--out", tmp_path / "run"]
    assert "Strange cannot be drawn" in refused(capsys, arguments, train)
    assert not (tmp_path / "run").exists()


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--out {tmp}/a.jpg", "must end in one of .gif"),
        ("--out {tmp}/episode", "must end in one of .gif"),
        ("--out {tmp}/missing/a.gif", "there is no folder"),
        ("--out {tmp}/a.gif --variation oood", "Allowed: iid, ood"),
        ("--out {tmp}/a.gif --horizon 0", "horizon must be at least 1"),
        ("--out {tmp}/a.gif --task -1", "task must be a whole number from 0"),
        ("--out {tmp}/a.gif --every 0", "every must be a whole number of at least 1"),
        ("--out {tmp}/a.gif --fps 0", "fps must be a finite number in (0, 50]"),
        ("--out {tmp}/a.gif --fps inf", "fps must be a finite number"),
        ("--out {tmp}/a.gif --dpi 401", "dpi must be a finite number in [20, 400]"),
        ("--out {tmp}/a.gif --policy first", "first"),
        ("--out {tmp}/a.gif --against {runs}/mdp", "is a run on mdp"),
        ("--out {tmp}/a.gif --against {runs}/bandit", "is the same run"),
        ("--out {tmp}/a.gif --against {runs}/nothing", "is no run folder"),
    ],
)
def test_bad_flags(runs, tmp_path, capsys, arguments, expected):
    filled = arguments.format(tmp=tmp_path, runs=runs).split()
    error = refused(capsys, [runs / "bandit", *filled])
    assert expected in error
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_or_no_agent(runs, tmp_path, capsys):
    out = ["--out", tmp_path / "a.gif"]
    assert "no run folder" in refused(capsys, [tmp_path, *out])
    subprocess.run(["cp", "-r", runs / "bandit", tmp_path / "a"], check=True)
    (tmp_path / "a" / "agent" / "agent.npz").unlink()
    assert "holds no agent" in refused(capsys, [tmp_path / "a", *out])


def test_a_policy_of_another_size_is_refused(runs, tmp_path, capsys):
    out = ["--out", tmp_path / "a.gif"]
    error = refused(capsys, [runs / "gridworld", *out, "--variation", "13x13"])
    assert "is for 121 states and 5 actions, this environment has 169 states and 5" in error


def test_an_environment_without_pictures_is_refused(runs, strange, tmp_path, capsys):
    subprocess.run(["cp", "-r", runs / "bandit", tmp_path / "a"], check=True)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    del config["num_arms"]
    config["env"] = strange
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    error = refused(capsys, [tmp_path / "a", "--out", tmp_path / "a.gif", "--env", strange])
    assert "Strange cannot be drawn; there are pictures of Bandit, RandomMdp, Gridworld" in error


def test_mp4_without_its_package_is_refused(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    error = refused(capsys, [runs / "bandit", "--out", tmp_path / "a.mp4"])
    assert "pip install 'rl3jax[video]'" in error


def test_what_goes_wrong_while_writing_leaves_no_file(runs, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "a.gif")

    monkeypatch.setattr(files, "gif", full)
    error = refused(capsys, [runs / "bandit", "--out", tmp_path / "a.gif"])
    assert "No space left" in error
    assert list(Path(tmp_path).iterdir()) == []
