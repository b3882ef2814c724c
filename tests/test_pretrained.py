"""Agents that come with the package load, are small, and are what their cards say."""

import math
from pathlib import Path

import pytest

import rl3jax
from experiments.pretrained import RECIPES
from experiments.pretrained import main as make_agents
from rl3jax import evaluate, pretrained, render
from rl3jax.commands import parse
from rl3jax.train import TrainArgs

NAMES = rl3jax.pretrained_names()


def test_there_are_some_of_every_row():
    assert set(NAMES) == set(RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_is_small_and_fits_its_environment(name):
    files = [file for file in (pretrained.FOLDER / name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 2e6
    agent, card = rl3jax.load_pretrained(name), rl3jax.pretrained_card(name)
    assert agent.greedy
    assert card.name == name
    config = rl3jax.Config.from_dict(card.config)
    trainer = rl3jax.make_trainer(config)
    assert agent.layout == trainer.layout
    assert agent.learner == trainer.learner
    assert agent.network == trainer.settings.actor


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_complete(name):
    card = rl3jax.pretrained_card(name)
    python, dash_m, module, *flags = card.command.split()
    assert (python, dash_m, module) == ("python", "-m", "rl3jax.train")
    trained = parse(TrainArgs, flags, "train").config.resolve()
    config = rl3jax.Config.from_dict(card.config).resolve()
    assert trained.n_tasks * trained.horizon * trained.iterations == card.env_steps
    assert (trained.seed, trained.algo) == (config.seed, config.algo)
    assert dict(trained.options).get("optimism") == dict(config.options).get("optimism")
    assert card.provenance.keys() >= {"device", "platform", "packages"}
    own = getattr(rl3jax.make_env(config.env, variation=config.variation), "variation", None)
    recipe = RECIPES[name]
    scored = [(variation, config.horizon) for variation in (own, *recipe.shifted)]
    scored += [(own, horizon) for horizon in recipe.longer]
    assert [(score.variation, score.horizon) for score in card.scores] == scored
    for score in card.scores:
        for mean, stderr in (score.greedy, score.sampled, score.optimal):
            assert math.isfinite(mean)
            assert stderr > 0 or (config.env, mean) == ("cartpole", 1000)  # the most that there is
        assert max(score.greedy[0], score.sampled[0]) <= score.optimal[0]


@pytest.mark.parametrize("name", ["bandit-h100-rl3", "mdp-h100-rl3"])
def test_an_agent_scores_what_its_card_says(name):
    card = rl3jax.pretrained_card(name)
    own = card.scores[0]
    env = rl3jax.make_env(card.config["env"], variation=own.variation)
    agent = rl3jax.load_pretrained(name)
    result = rl3jax.evaluate_agent(agent, env, own.horizon, 200, rl3jax.held_out_key())
    assert abs(result.mean - own.greedy[0]) < 4 * result.stderr


def test_an_unknown_name_is_one_line():
    with pytest.raises(rl3jax.ConfigError, match="did you mean 'bandit-h100-rl3'"):
        rl3jax.load_pretrained("bandit-h100-rl2")


def test_the_command_that_makes_them_refuses_an_unknown_name_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        make_agents(["--agents", "mdp-h100-rl3", "mdp-h7-rl3", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: unknown agent 'mdp-h7-rl3'; there are bandit")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_commands_take_their_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(pretrained.FOLDER.rglob("*"))
    evaluate.main(
        ["bandit-h100-rl3", "--horizon", "20", "--n-tasks", "20", "--baselines", "optimal"]
    )
    shown = capsys.readouterr().out
    assert "rl3, greedy" in shown
    assert "written" not in shown  # the package is no place for results
    render.main(["bandit-h100-rl3", "--horizon", "5", "--out", "pulls.png"])
    assert (tmp_path / "pulls.png").is_file()
    assert sorted(pretrained.FOLDER.rglob("*")) == before


def test_a_folder_goes_before_an_agent_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = Path("bandit-h100-rl3")
    assert pretrained.locate(name) == pretrained.FOLDER / name
    assert pretrained.locate(Path("runs/bandit-h100-rl3")) == Path("runs/bandit-h100-rl3")
    name.mkdir()
    assert pretrained.locate(name) == name
