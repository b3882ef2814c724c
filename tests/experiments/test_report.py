"""RESULTS.md and the pages of the experiments, from whatever result files there are."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

import rl3jax
from experiments import (
    bandits,
    continuous,
    figures,
    front,
    gridworlds,
    mdps,
    pretrained,
    report,
    tables,
    task_identification,
    training_curves,
)
from experiments.gathered import Gathered
from experiments.published import sources

MODULES = (bandits, mdps, gridworlds, training_curves)
NAMES = ("pretrained", *(experiment.name for experiment in report.EXPERIMENTS))
NOT_YET_RUN = "not yet run"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_pictures(monkeypatch):
    """Saves time where no picture is looked at."""
    monkeypatch.setattr(figures, "save", lambda figure, stem: None)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Makes the report of the results in a folder; its pages by name, "front" the first of them."""
    monkeypatch.chdir(tmp_path)

    def make(out="RESULTS.md"):
        report.main(["--results=results", f"--out={out}"])
        details = (tmp_path / out).parent.glob("docs/results/*.md")
        paths = {"front": tmp_path / out} | {path.stem: path for path in details}
        return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}

    return make


def links(text):
    """Where the links and pictures of a page lead, of those that stay here."""
    return re.findall(r"\]\((?!https?:|#)([^)#]+)", text)


def test_of_nothing_every_row_is_not_yet_run(
    no_pictures, build, capsys, assert_tables_are_well_formed
):
    pages = build()
    assert assert_tables_are_well_formed(pages["front"]) == 1
    assert "![" not in pages["front"]
    assert pages.keys() == {"front", "pretrained", *(e.name for e in report.EXPERIMENTS)}
    for module in MODULES:
        part = pages[module.EXPERIMENT.name]
        assert assert_tables_are_well_formed(part) >= 1
        for row in module.rows("paper"):
            # By budget, a line has the shifted tasks as well.
            title = row.title.removesuffix(", OOD") if row.variation == mdps.OOD else row.title
            (line, *_) = [x for x in part.splitlines() if f" {title} |" in x]
            assert NOT_YET_RUN in line
        assert "To repeat it" not in part
    assert not any("Not used" in page for page in pages.values())
    for source in sources().values():
        assert source.title in pages["front"]
    # Tables that have a column of published numbers are known to have one.
    beside = {name for name, page in pages.items() if re.search(r"\| (paper|published) \|", page)}
    assert beside <= {"pretrained", *(e.name for e in report.EXPERIMENTS if e.beside_published)}
    assert capsys.readouterr().err == ""


def test_of_every_row_the_largest_preset_is_shown(
    no_pictures, build, tmp_path, make_result, assert_tables_are_well_formed
):
    for preset, seeds, number in (("quick", 1, 3), ("cpu", 2, 3), ("paper", 3, 1)):
        for row in bandits.rows(preset)[:number]:
            for seed in range(seeds):
                path = tmp_path / "results" / "bandits" / preset / f"{row.name}-s{seed}.json"
                make_result(row, "bandits", preset, seed).write(path)
    pages = build()
    ours = pages["bandits"]
    assert_tables_are_well_formed(ours)
    assert ours.count("| H = 100 | paper, 3 × ") == 2
    assert ours.count("| H = 500 | cpu, 2 × ") == 2
    assert "To repeat it: `python -m experiments.bandits --preset cpu`, `python" in ours
    assert "(table 2)](docs/results/bandits.md): 3 of 3 rows run" in pages["front"]
    assert NOT_YET_RUN in pages["mdps"]


def test_quick_results_stand_beside_no_published_number(build, tmp_path, fill, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, stem: drawn.append(stem.name))
    before = build()
    for experiment in report.EXPERIMENTS:
        if experiment.beside_published:
            fill(tmp_path / "results", experiment, "quick", seeds=1, with_baselines=False)
    assert build() == before
    assert drawn[: len(drawn) // 2] == drawn[len(drawn) // 2 :]
    assert not task_identification.EXPERIMENT.beside_published


def line_of(title, found):
    """The cells of a domain on the front page, from its second."""
    text = front.table(found, defaultdict(str))
    (line,) = [x for x in text.splitlines() if x.startswith(f"| [{title}]")]
    return line.strip("| ").split(" | ")[1:]


def test_the_front_page_has_the_best_of_ours_and_what_it_took(monkeypatch, make_result, make_score):
    row = bandits.rows("cpu")[0]
    scores = {"rl3 greedy": [70, 72], "rl3-markov greedy": [98, 100], "rl2 sampled": [100, 100]}
    scores = {name: make_score(returns=returns) for name, returns in scores.items()}
    result = make_result(row, preset="cpu", n_tasks=2, scores=scores)
    found = defaultdict(lambda: Gathered({row.name: [result]}, {}, []))
    assert line_of("Bandits, H = 100", found) == [
        "**99.0 ± 1.0**", "RL³-Markov, 1 × 2", "76.9 ± 0.6", "77.5 ± 0.5", "1.5 min",
        "2 cores, Abacus 3000", "12–24 GPU hours",
    ]  # fmt: skip
    monkeypatch.setattr(pretrained, "cards_of", lambda row: [])
    cells = [NOT_YET_RUN, "–", "392.1 ± 2.5", "393.2 ± 2.7", "–", "–", "–"]
    assert line_of("Bandits, H = 500", found) == cells


def test_agents_of_the_package_and_fractions_are_on_the_front_page(make_result, make_score):
    nothing = defaultdict(lambda: Gathered({}, {}, []))
    score = rl3jax.pretrained_card("bandit-h500-rl3").scores[1]
    cells = line_of("Bandits, H = 500, OOD", nothing)
    assert f"{score.greedy[0]:.1f} ± {score.greedy[1]:.1f}" in cells[0]
    assert cells[1] == "`bandit-h500-rl3`, 1 × 1000"
    title = "Pendulum, last episode"
    score = rl3jax.pretrained_card("pendulum-rl3").scores[0]
    last, optimum = score.greedy_episodes[-1], score.optimal_episodes[-1]
    cell = f"{tables.over_tasks(*last)} (optimum {tables.over_tasks(*optimum)})"
    assert line_of(title, nothing)[:3] == [cell, "`pendulum-rl3`, 1 × 100", "–"]
    assert f"[{title}](pretrained)" in front.table(nothing, {e: e for e in NAMES})
    row = continuous.rows("cpu")[0]
    scores = {"optimal": make_score(returns=[1, 2]), "rl3 greedy": make_score(returns=[1, 1])}
    result = make_result(row, "continuous", "cpu", n_tasks=2, scores=scores)
    found = defaultdict(lambda: Gathered({row.name: [result]}, {}, []))
    assert " (optimum " in line_of(title, found)[0]
    assert f"[{title}](continuous)" in front.table(found, {e: e for e in NAMES})
    row, _ = mdps.figure_rows("cpu")[3]
    scores = {"optimal": make_score(returns=[10, 20]), "rl2 greedy": make_score(returns=[10, 19])}
    result = make_result(row, "mdps", "cpu", n_tasks=2, scores=scores)
    found = defaultdict(lambda: Gathered({row.name: [result]}, {}, []))
    cells = line_of("MDPs, H = 1024, share of the optimum", found)
    assert cells[0].startswith("**0.97 ± ")
    assert cells[1:4] == ["RL², 1 × 2", "0.865", "0.898"]


def test_pictures_and_links_lead_to_files(build, tmp_path, fill, monkeypatch):
    def touch(figure, stem):
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".png").touch()

    monkeypatch.setattr(figures, "save", touch)
    fill(tmp_path / "results", mdps.EXPERIMENT, "cpu", seeds=1)
    (tmp_path / "pages").mkdir()
    pages = build("pages/RESULTS.md")
    assert pages["front"].count("![") == 1
    assert pages["mdps"].count("![") == 2
    for name, text in pages.items():
        folder = tmp_path / ("pages" if name == "front" else "pages/docs/results")
        for link in links(text):
            assert (folder / link).is_file() or link == "docs/method.md"


def test_damaged_files_are_named_in_the_report_and_on_stderr_once(
    no_pictures, build, tmp_path, fill, capsys
):
    results = tmp_path / "results"
    fill(results, bandits.EXPERIMENT, "cpu", seeds=2)
    cut = results / "bandits" / "cpu" / f"{bandits.rows('cpu')[0].name}-s0.json"
    cut.write_bytes(cut.read_bytes()[:1000])
    rubbish = results / "baselines" / "rubbish.json"
    rubbish.write_bytes(b"\xff\x00")
    text = build()["bandits"]
    error = capsys.readouterr().err
    for path in (cut, rubbish):
        name = str(path.relative_to(tmp_path))
        assert f"- Not used: {name} was cut short or damaged" in text
        assert error.count(f"warning: {name} was cut short or damaged\n") == 1
    assert error.count("\n") == 2
    assert "| H = 100 | cpu, 1 × " in text
    assert "| H = 500 | cpu, 2 × " in text


def test_equal_results_make_equal_files(build, tmp_path, fill, monkeypatch):
    save = figures.save

    def save_one(figure, stem):
        if stem.name == "bandits-regret":
            save(figure, stem)

    monkeypatch.setattr(figures, "save", save_one)
    fill(tmp_path / "results", bandits.EXPERIMENT, "cpu", seeds=3)

    def built():
        pages = build()
        pictures = (tmp_path / "results" / "figures").iterdir()
        return pages | {path.name: path.read_bytes() for path in pictures}

    first = built()
    assert {"front", "bandits", "bandits-regret.png", "bandits-regret.svg"} <= first.keys()
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
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    report.main([])
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    paths = [Path("RESULTS.md"), *Path("docs/results").iterdir()]
    assert {path.name for path in (ROOT / "docs/results").iterdir()} == {p.name for p in paths[1:]}
    for path in paths:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")
        assert all((ROOT / path.parent / link).is_file() for link in links(text))
        assert path.name == "RESULTS.md" or f"- results/{path.name}\n" in site
