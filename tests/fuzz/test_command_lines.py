"""Argument lists of any kind: taken, or refused with exit code 2 and a clear message."""

import shlex

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.command_lines import VALID_LINES, command_line_outcome, command_lines
from tests.fuzz.inputs import ACCEPTED, REFUSED


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """An empty working directory, which must stay so."""
    path = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield
    assert not list(path.iterdir())


@pytest.mark.parametrize("command", VALID_LINES)
def test_lines_to_start_from_are_valid_unless_they_name_a_run(command):
    for line in VALID_LINES[command]:
        expected = REFUSED if "runs/none" in line else ACCEPTED
        if "--init-from" not in line:  # which is read later
            assert command_line_outcome((command, shlex.split(line))) == expected, line


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(command_lines())
def test_a_command_line_is_taken_or_refused_in_clear_words(line):
    command_line_outcome(line)
