"""One fault of each kind; `python -m tests.faults` tries two hundred."""

import pytest

from tests.faults.__main__ import main
from tests.faults.struck import changes


@pytest.mark.slow
def test_a_fault_of_every_kind_is_survived():
    main(["--each", "1"])


@pytest.mark.parametrize(
    ("event", "args", "counts"),
    [
        ("open", ("/run/metrics.jsonl", "ab", 0o2101), True),
        ("open", ("/run/metrics.jsonl", "r", 0), False),
        ("open", ("/elsewhere/file", "w", 0o1101), False),
        ("open", (3, "w", 0o1101), False),
        ("os.rename", (b"/run/.a.tmp", "/run/a", -1, -1), True),
        ("os.listdir", ("/run",), False),
    ],
)
def test_only_changes_of_files_in_the_folder_count(event, args, counts):
    assert changes(event, args, "/run") is counts
