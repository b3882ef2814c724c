"""Damaged files of a run: read as they were, or refused in one line."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.files import KINDS, READ, DamagedFiles, damages
from tests.fuzz.inputs import ACCEPTED, outcome


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return DamagedFiles(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("kind", KINDS)
def test_undamaged_files_are_read(files, kind):
    files.files[kind].write_bytes(files.whole[kind])
    assert outcome(lambda: READ[kind](files.folder)) == ACCEPTED


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(damage=damages)
def test_a_damaged_file_is_read_or_refused_in_one_line(files, damage):
    files.outcome(damage)
