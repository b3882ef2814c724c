"""Which results stand in a table: of every row the best preset, and the baselines of its tasks."""

import pytest

from experiments import bandits, mdps
from experiments.gathered import gather
from experiments.rows import PRESETS

FIRST, SECOND, SHIFTED = bandits.rows("quick")


@pytest.fixture
def write(tmp_path, make_result):
    """Writes a result of a row and seed, of a preset."""

    def make(row, preset, seed, **changes):
        result = make_result(row, "bandits", preset, seed, **changes)
        result.write(tmp_path / "bandits" / preset / f"{row.name}-s{seed}.json")
        return result

    return make


def gathered(tmp_path, presets=PRESETS[::-1]):
    return gather(tmp_path, "bandits", presets)


def test_of_every_row_the_best_preset_wins_and_presets_never_mix(tmp_path, write):
    quick = [write(FIRST, "quick", seed) for seed in range(3)]
    cpu = [write(FIRST, "cpu", seed) for seed in range(2)]
    other = [write(SECOND, "quick", seed) for seed in range(2)]
    paper = [write(SHIFTED, "paper", 1)]
    found = gathered(tmp_path)
    assert found.trained == {FIRST.name: cpu, SECOND.name: other, SHIFTED.name: paper}
    assert found.problems == []
    assert gathered(tmp_path, ["quick"]).trained == {FIRST.name: quick, SECOND.name: other}


def test_seeds_are_in_the_order_of_numbers(tmp_path, write):
    for seed in (10, 2, 0, 1):
        write(FIRST, "quick", seed)
    assert [result.seed for result in gathered(tmp_path).trained[FIRST.name]] == [0, 1, 2, 10]


def test_a_missing_folder_is_empty(tmp_path):
    found = gathered(tmp_path / "nowhere")
    assert (found.trained, found.baselines, found.problems) == ({}, {}, [])
    assert found.of(FIRST) == found.of_baselines(FIRST) == found.scores(FIRST, "optimal") == []


def test_every_unusable_file_is_listed_also_of_presets_that_lose(tmp_path, write):
    good = write(FIRST, "cpu", 0)
    (tmp_path / "bandits" / "quick").mkdir()
    (tmp_path / "baselines").mkdir()
    (tmp_path / "bandits" / "quick" / "cut.json").write_text("{")
    (tmp_path / "bandits" / "cpu" / "list.json").write_text("[]")
    (tmp_path / "baselines" / "empty.json").write_text("")
    found = gathered(tmp_path)
    assert found.trained == {FIRST.name: [good]}
    assert len(found.problems) == 3
    for name, line in zip(("list", "cut", "empty"), found.problems, strict=True):
        assert f"{name}.json" in line


def test_another_experiments_results_are_not_taken(tmp_path, write):
    write(FIRST, "quick", 0)
    assert gather(tmp_path, "mdps", PRESETS).trained == {}


def test_baselines_are_shared_by_all_presets_and_rows_of_the_same_tasks(tmp_path, make_baselines):
    row = next(row for row in mdps.baseline_rows() if row.horizon == 1000)
    window = next(row for row in mdps.rows("cpu") if row.name.endswith("-window"))
    assert row.name != window.name
    baselines = make_baselines(row, "mdps", "quick")
    baselines.write(tmp_path / "baselines" / f"{row.name}.json")
    for preset in PRESETS:
        found = gather(tmp_path, "mdps", [preset])
        assert found.of(row) == found.of(window) == [baselines]
        assert found.scores(window, "psrl") == [baselines.scores["psrl"]]


@pytest.mark.parametrize("module", [bandits, mdps])
def test_baselines_are_found_under_their_rows_names(module):
    """They are looked up by `Row.tasks` and stored by name."""
    for row in module.EXPERIMENT.baseline_rows():
        assert row.name == row.tasks


def test_scores_are_one_a_seed_of_the_trained_and_one_of_all_others(
    tmp_path, write, make_baselines
):
    trained = [write(FIRST, "quick", seed) for seed in range(3)]
    baselines = make_baselines(FIRST)
    baselines.write(tmp_path / "baselines" / f"{FIRST.name}.json")
    found = gathered(tmp_path)
    assert found.scores(FIRST, "rl3 greedy") == [r.scores["rl3 greedy"] for r in trained]
    assert found.scores(FIRST, "ucb1") == [baselines.scores["ucb1"]]
    assert found.scores(FIRST, "optimal") == [trained[0].scores["optimal"]]
    assert found.scores(FIRST, "rl4 greedy") == []
    assert found.of(FIRST) == [*trained, baselines]


def test_a_seed_without_a_contender_is_left_out_of_its_scores(tmp_path, write, make_score):
    write(FIRST, "quick", 0)
    one = write(FIRST, "quick", 1, scores={"new greedy": make_score("new")})
    assert gathered(tmp_path).scores(FIRST, "new greedy") == [one.scores["new greedy"]]
