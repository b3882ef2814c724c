from pathlib import Path

import pytest

from tests.mutants import __main__ as command

TOY = "def double(x):\n    return 2 * x\n"
TESTS = """
from rl3jax.toy import double

def test_double():
    assert double(1) == 2
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A module, whose test does not see the difference between 2 * x and 2 / x."""
    (tmp_path / "rl3jax").mkdir()
    (tmp_path / "rl3jax/__init__.py").touch()
    (tmp_path / "rl3jax/toy.py").write_text(TOY)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_toy.py").write_text(TESTS)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['slow']\n")
    monkeypatch.setattr(command, "TESTS", {"rl3jax/*.py": "tests/test_*.py"})
    monkeypatch.setattr(command, "PLUGIN", "no:jaxtyping")
    return tmp_path


def test_what_a_test_notices_is_caught_and_the_rest_survives(project, capsys):
    drawn = list(command.suspects(project))
    assert [str(suspect) for suspect in drawn] == [
        "rl3jax/toy.py:2:12: 2 * x -> 2 / x",
        "rl3jax/toy.py:2:12: 2 -> 3",
    ]
    verdicts = command.judge(project, drawn, jobs=2)
    assert [verdict.caught for verdict in verdicts] == [False, True]
    assert command.report(drawn, verdicts) == 0.5
    survivors = capsys.readouterr().out.partition("survivors:\n")[2]
    assert survivors == "  rl3jax/toy.py:2:12: 2 * x -> 2 / x\n    return (2 / x)\n"
    assert (project / "rl3jax/toy.py").read_text() == TOY


def test_a_change_after_which_nothing_ends_is_caught(project):
    (project / "tests/test_toy.py").write_text("def test_it():\n    while True: ...\n")
    assert command.run(project, ("tests/test_toy.py",), limit=2).outcome == "no end"


def test_tests_must_pass_without_a_change(project):
    (project / "tests/test_toy.py").write_text("def test_it():\n    assert False\n")
    with pytest.raises(SystemExit, match="without a change these must pass"):
        command.judge(project, list(command.suspects(project)), jobs=1)


def test_modules_with_their_own_tests_first():
    drawn = {str(suspect.module): suspect.tests for suspect in command.suspects()}
    assert drawn["rl3jax/object_level/model.py"][0] == "tests/object_level/test_model.py"
    assert drawn["rl3jax/learning/ppo.py"][0] == "tests/learning/test_ppo.py"
    assert {Path(module).parent.name for module in drawn} == {"object_level", "learning", "policy"}
