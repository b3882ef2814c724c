"""The README and the site's pages: their code runs, commands exist, links lead on."""

import importlib
import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

import rl3jax
from rl3jax import Config, __main__, check_env, evaluate_agent, load_agent, make_trainer, train
from rl3jax.baselines import OptimalPolicy
from rl3jax.commands import parse
from rl3jax.networks import NETWORKS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = {path: path.read_text() for path in (README, *sorted((ROOT / "docs").glob("*.md")))}
TEXT = "\n".join(PAGES.values())
EXAMPLES = dict(re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", TEXT, re.DOTALL))

TINY = {"n_tasks=256": "n_tasks=8", "horizon=20": "horizon=5", "iterations=10": "iterations=1"}
SMALLER = {
    "first": {"n_tasks=1024": "n_tasks=8", "iterations=20": "iterations=2", "=1000": "=10"},
    "seeds": {"n_tasks=512": "n_tasks=8", "iterations=20": "iterations=2", "=1000": "=10"},
    "fit": {
        "n_tasks=1024": "n_tasks=8, horizon=5, validation_tasks=5",
        "iterations=20": "iterations=2",
    },
    "compare": {"n_tasks=1000": "n_tasks=20"},
    "gymnax": {
        "n_tasks=256, minibatches=16": "n_tasks=4, minibatches=2",
        "horizon=1000": "horizon=30",
        "iterations=30": "iterations=2",
    },
    "pretrained": {"horizon=100": "horizon=5", "n_tasks=100": "n_tasks=10"},
    "network": TINY,
    "register": {},
    "learner": TINY,
    "augmented": {},
    "vectors": {},
    "render": {"horizon=100": "horizon=2"},
}
"""Of each example, what makes it quick."""
PRINTED = {
    "first": "of 100 pulls paid",
    "seeds": "±",
    "compare": "Gittins − UCB1",
    "pretrained": "mdp-h500-rl3",
    "augmented": "advantages",
    "vectors": "best_action",
    "render": ", 3)",
}
"""And what is among the things that it prints."""


@pytest.fixture
def corridor(monkeypatch):
    """The README's environment, in a module of its own."""
    module = ModuleType("my_module")
    monkeypatch.setitem(sys.modules, "my_module", module)
    exec(compile(EXAMPLES["environment"], "own-environment.md", "exec"), module.__dict__)
    return module.Corridor


def test_every_block_of_python_is_an_example_that_is_tried():
    assert TEXT.count("```python") == len(EXAMPLES)
    assert EXAMPLES.keys() == SMALLER.keys() | {"environment"}
    assert len(README.read_bytes()) <= 8192
    lines = [line for line in EXAMPLES["first"].splitlines() if line]
    assert len(lines) <= 10


@pytest.mark.parametrize("name", SMALLER)
def test_examples_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(NETWORKS, "two-layers", None)  # taken back afterwards
    del NETWORKS["two-layers"]
    code = EXAMPLES[name]
    for size, smaller in SMALLER[name].items():
        assert size in code
        code = code.replace(size, smaller)
    exec(compile(code, name, "exec"), {"__name__": "example"})
    assert PRINTED.get(name, "") in capsys.readouterr().out
    if name == "seeds":
        assert load_agent("my-agent").greedy


def test_commands_exist_and_know_their_flags(corridor):
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL))
    targets = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z]+)", blocks, re.MULTILINE):
        assert f"\n{target}:" in targets
    started = re.findall(r"(?:^|`)python -m ([\w.]+)([^`\n]*)", TEXT, re.MULTILINE)
    assert len(started) > 40
    for module, arguments in started:
        package, _, name = module.partition(".")
        assert importlib.util.find_spec(module), module
        if package == "rl3jax" and name and arguments.strip():
            command = importlib.import_module(module)
            words = [
                word
                for word in shlex.split(arguments, comments=True)
                if word not in ("…", "--help")
            ]
            parse(getattr(command, f"{name.capitalize()}Args"), words, name)
    assert all(f"python -m rl3jax.{name}" in TEXT for name in __main__.COMMANDS)


def test_notebooks_are_made_of_cells():
    pages = runpy.run_path(str(ROOT / "docs" / "notebook_pages.py"))
    notebooks = sorted(pages["FOLDER"].glob("*.py"))
    assert notebooks
    for path in notebooks:
        cells = pages["cells"](path.read_text())
        code = "\n".join(text for is_code, text in cells if is_code)
        compile(code, path.name, "exec")
        made = json.loads(pages["as_ipynb"](path.read_text()))["cells"]
        assert len(made) == len(cells) > 4


def test_links_lead_to_files():
    for path, text in PAGES.items():
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (path.parent / link).is_file(), f"{path.name}: {link}"


def test_the_reference_has_every_public_name():
    reference = PAGES[ROOT / "docs" / "api.md"]
    missing = [name for name in rl3jax.__all__ if f"::: rl3jax.{name}\n" not in reference]
    assert set(missing) <= {"pretrained"}  # whose functions are there


def test_nothing_is_wrong_with_the_environment(corridor):
    assert check_env(corridor()) == ()


def test_own_environment_is_learned(corridor):
    """Its optimum is known: 3 steps to the goal, and all of the first episodes if need be."""
    env = corridor()
    config = Config(
        n_tasks=256, horizon=30, iterations=20, minibatches=8, value_scale=1.0,
        squash_values=True, gae_lambda=0.8,
    )  # fmt: skip
    trainer = make_trainer(config, env=env)
    state, history = trainer.train(jax.random.key(0))
    key_optimal, key_greedy = jax.random.split(jax.random.key(1))
    optimal = evaluate_agent(OptimalPolicy(env, 30), env, 30, 50, key_optimal)
    np.testing.assert_array_equal(optimal.returns, 10.0)
    greedy = evaluate_agent(trainer.agent(state), env, 30, 200, key_greedy)
    assert history.mean_return[0] < 4
    assert greedy.mean > 8.5  # it cannot know the side at first: 9.5 at best


def test_own_environment_from_the_command_line(corridor, tmp_path):
    out = tmp_path / "run"
    flags = "--env my_module:Corridor --num-states 9 --n-tasks 8 --horizon 12 --iterations 1"
    train.main([*flags.split(), "--out", str(out)])
    assert load_agent(out / "agent").learner.num_states == 9
