"""Files are written whole or not at all, each writer on its own; JSON is JSON."""

import errno
import json
import os
from contextlib import ExitStack

import numpy as np
import pytest

from rl3jax import plots
from rl3jax.archive import write_archive
from rl3jax.files import forget_temporaries, json_text, read_json, replacing, write_json


def test_writers_of_one_file_do_not_meet_and_the_last_one_wins(tmp_path):
    path = tmp_path / "a.json"
    with ExitStack() as first, ExitStack() as second:
        paths = [writer.enter_context(replacing(path)) for writer in (first, second)]
        for i, temporary in enumerate(paths):
            temporary.write_text(json.dumps({"writer": i}))
        second.close()
        assert read_json(path) == {"writer": 1}
    assert read_json(path) == {"writer": 0}
    assert os.listdir(tmp_path) == ["a.json"]


def write_array(path):
    write_archive(path, {"x": np.zeros(3)})


def write_figure(path):
    plots.learning_curve([], "title", path)


@pytest.mark.parametrize("write", [write_array, write_figure, lambda path: write_json(path, {})])
def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path, monkeypatch, write):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.png"
    path.write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as error:
            write(path)
    assert error.value.filename == str(path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.png"]
    with pytest.raises(OSError, match="missing") as error:
        write(tmp_path / "missing" / "a.png")
    assert error.value.filename == str(tmp_path / "missing" / "a.png")


def test_what_killed_writers_left_is_forgotten(tmp_path):
    for name in (".a.12345678.tmp.npz", ".lock", "a.npz"):
        (tmp_path / name).touch()
    forget_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".lock", "a.npz"]


def test_json_has_null_where_a_number_is_not_finite():
    value = {"a": [float("nan"), (np.float64("inf"), 1.5)], "b": -float("inf"), "c": "NaN"}
    assert json_text(value) == '{"a": [null, [null, 1.5]], "b": null, "c": "NaN"}'
    value = {"a": np.array([1, np.nan], np.float32), "b": np.float16("inf"), "c": np.int64(3)}
    assert json_text(value) == '{"a": [1.0, null], "b": null, "c": 3}'
