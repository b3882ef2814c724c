"""The page of every experiment: from no results, from one seed, from several."""

import io

import matplotlib.pyplot as plt
import pytest

from experiments import bandits, continuous, gridworlds, mdps, popgym, training_curves
from experiments.gathered import Gathered, gather
from experiments.rows import PRESETS
from experiments.sections import render
from rl3jax import baselines, make_env

MODULES = (bandits, mdps, gridworlds, continuous, popgym, training_curves)
NOTHING = Gathered({}, {}, [])


@pytest.fixture(params=MODULES, ids=lambda module: module.EXPERIMENT.name)
def experiment(request):
    return request.param.EXPERIMENT


def drawn(experiment, found):
    """The figures' names, each drawn in full."""
    pictures = experiment.figures(found)
    for figure in pictures.values():
        figure.savefig(io.BytesIO(), format="png", dpi=40)
        plt.close(figure)
    return list(pictures)


def titles_in(text):
    """Titles of the rows that the tables of a section have, of whatever table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return {line.split(" | ")[0].removeprefix("| ") for line in lines}


def test_from_nothing(experiment, assert_tables_are_well_formed):
    text = experiment.section(NOTHING)
    assert assert_tables_are_well_formed(text) >= 1
    assert "not yet run" in text
    assert "nan" not in text.lower()
    drawn(experiment, NOTHING)


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_from_results_of_every_row(
    experiment, tmp_path, fill, seeds, assert_tables_are_well_formed
):
    fill(tmp_path, experiment, "cpu", seeds)
    found = gather(tmp_path, experiment.name, PRESETS)
    assert found.problems == []
    text = experiment.section(found)
    assert_tables_are_well_formed(text)
    assert "not yet run" not in text.lower()
    assert "nan" not in text.lower()
    titles = " ".join(titles_in(text))
    for row in experiment.rows("paper"):
        assert row.title.removesuffix(", OOD") in titles
    assert f"| cpu, {seeds} " in text
    # Brackets are intervals over seeds; with one seed errors are over tasks.
    interval = "[" in text.replace("[brackets]", "")
    assert interval == (seeds == 4)
    assert seeds == 4 or drawn(experiment, found)


def test_from_baselines_alone(experiment, tmp_path, fill, assert_tables_are_well_formed):
    fill(tmp_path, experiment, seeds=0)
    found = gather(tmp_path, experiment.name, PRESETS)
    text = experiment.section(found)
    assert_tables_are_well_formed(text)
    assert "not yet run" in text
    for row in experiment.baseline_rows():
        for name in baselines.names(make_env(row.env, row.variation), row.horizon):
            assert f"| {baselines.BASELINES[name].title} | " in text
    drawn(experiment, found)


def test_from_trained_agents_alone(experiment, tmp_path, fill, assert_tables_are_well_formed):
    fill(tmp_path, experiment, seeds=1, with_baselines=False)
    found = gather(tmp_path, experiment.name, PRESETS)
    text = experiment.section(found)
    assert_tables_are_well_formed(text)
    assert ("Baselines: not yet run." in text) == (experiment.name != "training_curves")


def test_a_page_has_its_pictures_commands_and_problems(tmp_path, fill):
    fill(tmp_path, bandits.EXPERIMENT, "cpu", seeds=1)
    (tmp_path / "bandits" / "cpu" / "cut.json").write_text("{")
    found = gather(tmp_path, "bandits", PRESETS)
    text = render(bandits.EXPERIMENT, found, tmp_path / "figures", tmp_path / "page.md")
    assert text.startswith("# Bernoulli bandits (table 2)\n\n")
    assert "![bandits regret](figures/bandits-regret.png)" in text
    assert "To repeat it: `python -m experiments.bandits --preset cpu`." in text
    assert text.endswith("cut.json was cut short or damaged")
    assert (tmp_path / "figures" / "bandits-regret.svg").is_file()
    assert plt.get_fignums() == []
