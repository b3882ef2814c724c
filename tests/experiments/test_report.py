"""RESULTS.md, from whatever result files there are."""

import os
import re
from pathlib import Path

import pytest

from experiments import bandits, figures, gridworlds, mdps, report, training_curves
from experiments.published import sources

MODULES = (bandits, mdps, gridworlds, training_curves)


@pytest.fixture
def no_pictures(monkeypatch):
    """Saves time where no picture is looked at."""
    monkeypatch.setattr(figures, "save", lambda figure, stem: None)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Makes the report of the results in a folder and returns its text."""
    monkeypatch.chdir(tmp_path)

    def make(out="RESULTS.md"):
        report.main(["--results=results", f"--out={out}"])
        return (tmp_path / out).read_text(encoding="utf-8")

    return make


def sections(text):
    """The parts of a report by their headings."""
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    return {part.partition("\n")[0]: part for part in parts}


def test_of_nothing_every_row_is_not_yet_run(
    no_pictures, build, capsys, assert_tables_are_well_formed
):
    text = build()
    assert assert_tables_are_well_formed(text) >= 8
    parts = sections(text)
    for module in MODULES:
        part = parts[module.EXPERIMENT.title]
        for row in module.rows("paper"):
            # By budget, a line has the shifted tasks as well.
            title = row.title.removesuffix(", OOD") if row.variation == mdps.OOD else row.title
            (line, *_) = [x for x in part.splitlines() if f" {title} |" in x]
            assert "not yet run" in line
        assert "To repeat it" not in part
    assert "Not used" not in text
    for source in sources().values():
        assert source.title in text
    assert capsys.readouterr().err == ""


def test_of_some_results_those_rows_are_shown(
    no_pictures, build, tmp_path, fill, capsys, assert_tables_are_well_formed
):
    fill(tmp_path / "results", bandits.EXPERIMENT, "quick", seeds=2)
    text = build()
    assert_tables_are_well_formed(text)
    parts = sections(text)
    ours = parts[bandits.EXPERIMENT.title]
    assert "not yet run" not in ours
    assert ours.count("| quick, 2 × ") == 2 * len(bandits.rows("paper"))
    assert "To repeat it: `python -m experiments.bandits --preset quick`." in ours
    assert "not yet run" in parts[mdps.EXPERIMENT.title]
    assert capsys.readouterr().err == ""


def test_of_every_row_the_largest_preset_is_shown(no_pictures, build, tmp_path, make_result):
    for preset, seeds, rows in (("quick", 2, bandits.rows("quick")), ("cpu", 3, [])):
        for row in rows or bandits.rows("cpu")[:1]:
            for seed in range(seeds):
                path = tmp_path / "results" / "bandits" / preset / f"{row.name}-s{seed}.json"
                make_result(row, "bandits", preset, seed).write(path)
    ours = sections(build())[bandits.EXPERIMENT.title]
    assert ours.count("| H = 100 | cpu, 3 × ") == 2
    assert ours.count("| H = 500 | quick, 2 × ") == 2
    assert "--preset cpu`, `python -m experiments.bandits --preset quick`" in ours


def test_pictures_of_the_report_are_there(build, tmp_path, fill, monkeypatch):
    monkeypatch.setattr(report, "EXPERIMENTS", (mdps.EXPERIMENT,))
    fill(tmp_path / "results", mdps.EXPERIMENT, "quick", seeds=1)
    (tmp_path / "pages").mkdir()
    text = build("pages/RESULTS.md")
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(pictures) == 2
    for picture in pictures:
        assert (tmp_path / "pages" / picture).is_file()
        assert (tmp_path / "pages" / picture).with_suffix(".svg").is_file()


def test_damaged_files_are_named_in_the_report_and_on_stderr_once(
    no_pictures, build, tmp_path, fill, capsys
):
    results = tmp_path / "results"
    fill(results, bandits.EXPERIMENT, "quick", seeds=2)
    cut = results / "bandits" / "quick" / f"{bandits.rows('quick')[0].name}-s0.json"
    cut.write_bytes(cut.read_bytes()[:1000])
    rubbish = results / "baselines" / "rubbish.json"
    rubbish.write_bytes(b"\xff\x00")
    text = build()
    error = capsys.readouterr().err
    for path in (cut, rubbish):
        name = str(path.relative_to(tmp_path))
        assert f"- Not used: {name} was cut short or damaged" in text
        assert error.count(f"warning: {name} was cut short or damaged\n") == 1
    assert error.count("\n") == 2
    assert "| H = 100 | quick, 1 × " in text
    assert "| H = 500 | quick, 2 × " in text


def test_equal_results_make_equal_files(build, tmp_path, fill, monkeypatch):
    monkeypatch.setattr(report, "EXPERIMENTS", (bandits.EXPERIMENT,))
    fill(tmp_path / "results", bandits.EXPERIMENT, "quick", seeds=3)

    def built():
        build()
        files = [*(tmp_path / "results" / "figures").iterdir(), tmp_path / "RESULTS.md"]
        return {path.name: path.read_bytes() for path in files}

    first = built()
    assert {"RESULTS.md", "bandits-regret.png", "bandits-regret.svg"} <= first.keys()
    assert built() == first


def test_a_report_that_cannot_be_written_is_one_line(no_pictures, build, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit) as caught:
        build("folder")
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "folder" in error
    assert error.count("\n") == 1


def test_the_report_in_the_repository_is_that_of_its_result_files(
    no_pictures, tmp_path, monkeypatch
):
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    report.main([f"--out={tmp_path / 'RESULTS.md'}"])
    # Pictures are linked from where the page is.
    pictures = os.path.relpath(root / "experiments", tmp_path)
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8").replace(pictures, "experiments")
    assert text == (root / "RESULTS.md").read_text(encoding="utf-8")
