"""Result files: what is written is read, anything else is refused in one line that names it."""

import copy
import csv
import json
import os
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings

import rl3jax
from experiments import bandits
from experiments.results import (
    CURVE_POINTS,
    Curve,
    Result,
    ResultError,
    Score,
    TrainingRecord,
    read_all,
    read_result,
    write_text,
)

ROW = bandits.rows("quick")[0]
ANY_BYTES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@pytest.fixture
def result(make_result):
    return make_result(ROW, extra={"levels": [0.5, 1.0], "name": "RL³ − RL²"})


@pytest.fixture
def path(result, tmp_path):
    """A result file."""
    path = tmp_path / "folder" / "row-s0.json"
    result.write(path)
    return path


def refusal(path):
    """The one line with which a file is refused."""
    with pytest.raises(ResultError) as caught:
        read_result(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def changed(path, change):
    """The file with its JSON changed."""
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


# --- what is written is read -------------------------------------------------------------------


def test_what_is_written_is_read(result, path):
    assert read_result(path) == result


def test_baselines_have_no_seed_and_keep_their_constants(make_baselines, tmp_path):
    result = make_baselines(bandits.baseline_rows()[0])
    result.write(tmp_path / "a.json")
    read = read_result(tmp_path / "a.json")
    assert read == result
    assert read.seed is None
    assert read.scores["ucb1"].constant == 0.5
    assert read.scores["random"].constant is None


def test_the_csv_has_a_line_a_task_and_a_column_a_contender(result, path):
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["task", *result.scores]
    assert [int(line[0]) for line in lines] == list(range(result.n_tasks))
    for column, score in enumerate(result.scores.values(), start=1):
        assert [float(line[column]) for line in lines] == score.returns


def test_without_scores_there_is_no_csv(make_result, tmp_path):
    make_result(ROW, scores={}).write(tmp_path / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_result(tmp_path / "a.json").scores == {}


def test_the_mean_and_its_standard_error_are_over_tasks(make_score):
    score = make_score(returns=[1, 2, 3, 6])
    assert score.mean == 3
    assert score.stderr == pytest.approx(np.sqrt(14 / 3 / 4))


@pytest.mark.parametrize("size", [1, 2, CURVE_POINTS, CURVE_POINTS + 1, 5000])
def test_a_curve_keeps_its_ends_and_not_too_many_points(size):
    x = np.arange(size) / 3
    curve = Curve.of(x, 2 * x, np.ones(size))
    assert len(curve.x) == len(curve.mean) == len(curve.stderr) == min(size, CURVE_POINTS)
    assert curve.x[0] == 0
    assert curve.x[-1] == pytest.approx(x[-1], rel=1e-5)
    np.testing.assert_allclose(curve.mean, 2 * np.array(curve.x), rtol=1e-5)
    assert (np.diff(curve.x) > 0).all()
    assert all(len(str(value).replace(".", "").lstrip("0")) <= 6 for value in curve.x)


# --- anything else is refused ------------------------------------------------------------------


@given(st.data())
@ANY_BYTES
def test_cut_short_anywhere(path, data):
    content = path.read_bytes()
    # The last byte is a line's end, which nobody misses.
    size = data.draw(st.integers(0, len(content) - 2))
    cut = path.with_name("cut.json")
    cut.write_bytes(content[:size])
    assert refusal(cut).endswith("was cut short or damaged")


@given(st.binary(max_size=300))
@example(b"")
@example(b"\x89PNG\r\n\x1a\n")
@example(b"\xff\xfe{\x00}\x00")
@example('{"format": "ü"}'.encode("latin-1"))
@ANY_BYTES
def test_rubbish(path, content):
    rubbish = path.with_name("rubbish.json")
    rubbish.write_bytes(content)
    refusal(rubbish)


@given(st.data())
@ANY_BYTES
def test_a_changed_byte_is_a_result_or_is_refused(path, data):
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] = data.draw(st.integers(0, 255))
    damaged = path.with_name("damaged.json")
    damaged.write_bytes(content)
    try:
        result = read_result(damaged)
    except ResultError:
        refusal(damaged)
    else:
        assert isinstance(result, Result)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"format"', "{}", '[{"format": 1}]'])
def test_other_json_is_no_result_file(path, text):
    path.write_text(text)
    assert refusal(path).endswith("is no result file (it names no format)")


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 100_000])
def test_json_too_deep_to_parse(path, nested):
    path.write_text(nested)
    assert "cut short or damaged" in refusal(path)


def test_another_version_names_both(path):
    changed(path, lambda values: values.update(rl3jax="9.9.9"))
    message = refusal(path)
    assert "of another version" in message
    assert "9.9.9" in message
    assert rl3jax.__version__ in message


def test_another_format_names_both(path):
    changed(path, lambda values: values.update(format="rl3jax-result-0"))
    message = refusal(path)
    assert "rl3jax-result-0" in message
    assert "rl3jax-result-1" in message


def test_too_few_returns_are_counted(path, result):
    changed(path, lambda values: values["scores"]["rl3 greedy"]["returns"].pop())
    n = result.n_tasks
    assert f"rl3 greedy has {n - 1} of {n} returns" in refusal(path)


FIELDS = [
    *((name,) for name in Result.__dataclass_fields__),
    *(("scores", "rl2 greedy", name) for name in Score.__dataclass_fields__ if name != "constant"),
    *(("scores", "optimal", "regret", name) for name in Curve.__dataclass_fields__),
    *(("trainings", "rl3", name) for name in TrainingRecord.__dataclass_fields__),
    *(("trainings", "rl3", "curve", name) for name in Curve.__dataclass_fields__),
    *(("trainings", "rl3", "provenance", name) for name in ("commit", "platform", "devices")),
]


@pytest.mark.parametrize("field", FIELDS, ids=".".join)
def test_a_missing_field_is_named(path, field):
    def remove(values):
        for name in field[:-1]:
            values = values[name]
        del values[field[-1]]

    changed(path, remove)
    message = refusal(path)
    assert "is no complete result" in message
    assert field[-1] in message


def test_an_unknown_field_of_a_score_is_refused(path):
    changed(path, lambda values: values["scores"]["optimal"].update(regrets=[]))
    assert "regrets" in refusal(path)


# A value of a wrong type; "provenance" within a training takes any kind of values.
@pytest.mark.parametrize("field", [f for f in FIELDS if "provenance" not in f[:-1]], ids=".".join)
@pytest.mark.parametrize("value", [None, "x", [["x"]], {"x": 1}, 2.5])
def test_a_value_of_another_type_is_refused_or_allowed_there(path, field, value):
    def replace(values):
        for name in field[:-1]:
            values = values[name]
        values[field[-1]] = value

    allowed = {
        str: {"experiment", "preset", "row", "command", "title"},
        float: {"seconds"},
        type(None): {"seed"},
        dict: {"extra"} if field == ("extra",) else {"provenance"} if len(field) == 1 else set(),
    }
    changed(path, replace)
    if field[-1] in allowed.get(type(value), set()):
        assert isinstance(read_result(path), Result)
    else:
        assert "is no complete result" in refusal(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("where", ["returns", "mean", "extra"])
def test_numbers_that_are_not_finite_are_refused(path, number, where):
    values = json.loads(path.read_text())
    score = values["scores"]["rl3 greedy"]
    places = {
        "returns": score["returns"],
        "mean": score["regret"]["mean"],
        "extra": values["extra"]["levels"],
    }
    places[where][1] = "HERE"
    path.write_text(json.dumps(values).replace('"HERE"', number))
    if where == "extra" and number.startswith("1"):  # what an experiment keeps there is its own
        assert read_result(path).extra
    else:
        refusal(path)


def test_columns_of_a_curve_are_of_one_length(path):
    changed(path, lambda values: values["trainings"]["rl2"]["curve"]["x"].pop())
    assert "lengths" in refusal(path)


def test_a_file_that_is_not_there(tmp_path):
    assert "No such file" in refusal(tmp_path / "a.json")


def test_read_all_has_the_usable_and_a_line_on_every_other(path, result):
    folder = path.parent
    (folder / "a folder.json").mkdir()
    (folder / "deeper").mkdir()
    (folder / "deeper" / "cut.json").write_bytes(path.read_bytes()[:-20])
    (folder / ".row-s1.json.tmp").write_text("{")
    (folder / "notes.txt").write_text("none of ours")
    results, problems = read_all(folder)
    assert results == [result]
    assert [line.partition(".json")[0] + ".json" for line in problems] == [
        str(folder / "a folder.json"),
        str(folder / "deeper" / "cut.json"),
    ]


# --- whole or not at all -----------------------------------------------------------------------


def test_a_failure_while_writing_leaves_the_old_file(path, result, monkeypatch):
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    write = Path.write_text

    def write_half(self, text, **options):
        write(self, text[: len(text) // 2], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="No space left"):
        result.write(path)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_failure_while_replacing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(*paths):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PermissionError):
        write_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_not_written_at_all(result, tmp_path, value):
    broken = copy.deepcopy(result)
    broken.scores["rl3 greedy"].returns[3] = value
    with pytest.raises(ResultError, match=r"a\.json is not written"):
        broken.write(tmp_path / "folder" / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_returns_of_different_lengths_are_not_written_at_all(result, tmp_path):
    broken = copy.deepcopy(result)
    broken.scores["rl3 greedy"].returns.pop()
    with pytest.raises(ValueError, match="zip"):
        broken.write(tmp_path / "folder" / "a.json")
    assert list(tmp_path.iterdir()) == []
