"""Cells and tables by hand."""

import numpy as np
import pytest

from experiments import bandits, tables
from experiments.gathered import Gathered, gather
from experiments.published import Published
from experiments.rows import PRESETS, Row
from rl3jax import statistics

NAN = float("nan")
ROW, SECOND, SHIFTED = bandits.rows("paper")


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def lines_of(table):
    """The cells of a Markdown table by the first of each line; the header's under its own."""
    return {cells(line)[0]: cells(line)[1:] for line in table.splitlines()}


# --- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (77.53, None, "77.5"),
        (2.0, None, "2.0"),
        (1.99951, None, "2.000"),
        (0.8646, None, "0.865"),
        (-0.25, None, "−0.250"),
        (-77.53, None, "−77.5"),
        (1234.56, 0, "1235"),
        (-0.04, 1, "0.0"),
        (0.0, 2, "0.00"),
        (NAN, None, "–"),
        (NAN, 2, "–"),
    ],
)
def test_number(value, decimals, text):
    assert tables.number(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (77.53, 0.52, "77.5 ± 0.5"),
        (391.75, 2.6, "391.8 ± 2.6"),
        (902, 27, "902 ± 27"),
        (0.86464, 0.0123, "0.86 ± 0.01"),
        (0.86464, 0.00451, "0.865 ± 0.005"),
        (0.86464, 0.1, "0.9 ± 0.1"),
        (-3.25, 0.04, "−3.25 ± 0.04"),
        (5, 0, "5.0 ± 0.0"),
        (5, NAN, "5.0 ± –"),
        (-0.01, 0.3, "0.0 ± 0.3"),
    ],
)
def test_over_tasks(value, stderr, text):
    assert tables.over_tasks(value, stderr) == text


def test_over_seeds_is_a_range_where_there_is_no_interval():
    assert tables.over_seeds([74.0, 78.0]) == "76.0 (74.0 … 78.0)"
    assert tables.over_seeds([0.5, -0.25]) == "0.125 (−0.250 … 0.500)"
    assert tables.over_seeds([3.0]) == "3.0"


def test_over_seeds_is_an_interval_else():
    scores = [70.0, 74.0, 78.0, 90.0]
    low, high = statistics.seed_interval(np.array(scores))[1:]
    # The mean of the middle half of four is that of the two in the middle.
    assert tables.over_seeds(scores) == f"76.0 [{low:.1f}, {high:.1f}]"


def test_over_seeds_has_three_decimals_where_all_numbers_are_small():
    assert tables.over_seeds([0.5, 1.5]) == "1.000 (0.500 … 1.500)"
    assert tables.over_seeds([0.5, 2.5]) == "1.5 (0.5 … 2.5)"


# --- scores: tasks and seeds never pooled ------------------------------------------------------


def test_a_score_that_is_not_there_is_not_yet_run():
    assert tables.scores_cell([]) == "not yet run"


def test_one_seed_has_the_error_over_tasks(make_score):
    assert tables.scores_cell([make_score(returns=[1, 2, 3, 6])]) == "3.0 ± 1.1"


def test_several_seeds_have_their_range_whatever_the_tasks_say(make_score):
    narrow = [make_score(returns=[10, 10, 10]), make_score(returns=[20, 20, 20])]
    wide = [make_score(returns=[0, 10, 20]), make_score(returns=[-80, 20, 120])]
    assert tables.scores_cell(narrow) == tables.scores_cell(wide) == "15.0 (10.0 … 20.0)"


def test_several_seeds_have_the_interval_of_their_means(make_score):
    scores = [make_score(returns=[mean - 5, mean + 5]) for mean in (10, 20, 30)]
    assert tables.scores_cell(scores) == tables.over_seeds([10, 20, 30])
    assert "[" in tables.scores_cell(scores)


def test_a_pair_is_compared_task_by_task_with_one_seed(make_result, make_score):
    a, b = make_score(returns=[10, 20, 33]), make_score(returns=[9, 18, 30])
    result = make_result(ROW, n_tasks=3, scores={"rl3 greedy": a, "rl2 greedy": b})
    # Differences 1, 2, 3: mean 2, standard error 1/√3 — far less than that over unpaired tasks.
    assert tables.paired_cell([result], "rl3 greedy", "rl2 greedy") == "2.0 ± 0.6"
    assert tables.paired_cell([result], "rl2 greedy", "rl3 greedy") == "−2.0 ± 0.6"


def test_pairs_are_compared_seed_by_seed_with_several(make_result, make_score):
    b = make_score(returns=[0, 4])
    results = [
        make_result(ROW, seed=seed, scores={"a": make_score(returns=[mean, 0]), "b": b})
        for seed, mean in enumerate((2, 12))
    ]
    assert tables.paired_cell(results, "a", "b") == "1.5 (−1.0 … 4.0)"


def test_a_pair_with_one_missing_is_not_compared(make_result, make_score):
    one = make_result(ROW, scores={"a": make_score(returns=[1, 2])})
    both = make_result(ROW, scores={n: make_score(returns=[1, 2]) for n in ("a", "b")})
    assert tables.paired_cell([], "a", "b") == tables.paired_cell([one], "a", "b") == "–"
    assert tables.paired_cell([one, both], "a", "b") == "0.0 ± 0.0"


# --- published numbers -------------------------------------------------------------------------


def number(value, stderr=None, source="duan2016"):
    return Published("row", "contender", "return", value, stderr, source)


def test_published_cells(make_score):
    assert tables.published_cell(None) == "–"
    assert tables.published_cell(number(77.5, 0.5, "v4")) == "77.5 ± 0.5"
    assert tables.published_cell(number(0.924, None, "rlc2025")) == "0.924"
    assert tables.published_cell(number(405.8)) == "405.8"


@pytest.mark.parametrize(
    ("mean", "text"),
    [(10, "10.0 ✓"), (12.9, "10.0 ✓"), (7.1, "10.0 ✓"), (13.1, "10.0"), (6, "10.0")],
)
def test_a_tick_is_agreement_within_three_standard_errors(make_score, mean, text):
    ours = make_score(returns=[mean - 1, mean + 1])  # ± 1
    assert ours.stderr == 1
    assert tables.published_cell(number(10), ours) == text


def test_only_numbers_quoted_from_memory_are_ticked(make_score):
    ours = make_score(returns=[9, 11])
    assert "✓" not in tables.published_cell(number(10, 1.0, "v4"), ours)
    assert "✓" not in tables.published_cell(number(10, None, "rlc2025"), ours)
    assert "✓" not in tables.published_cell(number(10), None)


# --- tables ------------------------------------------------------------------------------------


def test_a_table_is_markdown(assert_tables_are_well_formed):
    table = tables.table(["a", "b"], [["1", "2"], ["3", "4"]])
    assert table == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n| 3 | 4 |"
    assert assert_tables_are_well_formed(table) == 1


def test_malformed_tables_are_found(assert_tables_are_well_formed):
    with pytest.raises(AssertionError):
        assert_tables_are_well_formed(tables.table(["a", "b"], [["1"]]))
    with pytest.raises(AssertionError):
        assert_tables_are_well_formed(tables.table(["a", "b"], [["1", ""]]))


def test_meta_rl_without_results_has_the_papers_numbers_alone(assert_tables_are_well_formed):
    table = tables.meta_rl([ROW, SECOND], ("rl2", "rl3"), Gathered({}, {}, []), "greedy")
    assert_tables_are_well_formed(table)
    missing = "not yet run"
    assert lines_of(table) == {
        "tasks and budget": [
            "preset, seeds × tasks", "RL²", "paper", "RL³", "paper", "RL³ − RL²", "optimum",
        ],
        "---": ["---:"] * 7,
        "H = 100": ["–", missing, "76.9 ± 0.6", missing, "77.5 ± 0.5", "–", missing],
        "H = 500": ["–", missing, "392.1 ± 2.5", missing, "393.2 ± 2.7", "–", missing],
    }  # fmt: skip


def test_meta_rl_of_one_and_of_several_seeds(
    make_result, make_score, assert_tables_are_well_formed
):
    def result(row, preset, seed, rl2, rl3):
        scores = {"rl2 greedy": rl2, "rl3 greedy": rl3, "optimal": [85, 95]}
        scores = {name: make_score(name, returns) for name, returns in scores.items()}
        return make_result(row, "bandits", preset, seed, scores=scores)

    trained = {
        ROW.name: [result(ROW, "cpu", 0, [60, 70], [70, 80])],
        SECOND.name: [
            result(SECOND, "quick", 0, [300, 300], [310, 330]),
            result(SECOND, "quick", 1, [320, 320], [310, 370]),
        ],
    }
    table = tables.meta_rl([ROW, SECOND], ("rl2", "rl3"), Gathered(trained, {}, []), "greedy")
    assert_tables_are_well_formed(table)
    lines = lines_of(table)
    optimum = "90.0 ± 5.0"
    assert lines["H = 100"] == [
        "cpu, 1 × 12", "65.0 ± 5.0", "76.9 ± 0.6", "75.0 ± 5.0", "77.5 ± 0.5",
        "10.0 ± 0.0", optimum,
    ]  # fmt: skip
    assert lines["H = 500"] == [
        "quick, 2 × 12", "310.0 (300.0 … 320.0)", "392.1 ± 2.5",
        "330.0 (320.0 … 340.0)", "393.2 ± 2.7", "20.0 (20.0 … 20.0)", optimum,
    ]  # fmt: skip
    sampled = tables.meta_rl([ROW], ("rl2", "rl3"), Gathered(trained, {}, []), "sampled")
    assert lines_of(sampled)["H = 100"][1] == "not yet run"


def test_baselines_with_a_constant_a_gap_and_a_row_not_yet_run(
    make_baselines, make_score, assert_tables_are_well_formed
):
    rows = [Row(f"bandit-iid-h{h}", f"H = {h}", "bandit", "iid", h) for h in (10, 100, 500)]
    first, second = (make_baselines(row) for row in rows[:2])
    first.scores.clear()
    first.scores["ucb1"] = make_score("UCB1", [6, 7], constant=0.25)
    second.scores.clear()
    second.scores["ucb1"] = make_score("UCB1", [70, 71], constant=1.0)
    second.scores["gittins"] = make_score("Gittins index", [78, 79])
    found = Gathered({}, {rows[0].name: first, rows[1].name: second}, [])
    table = tables.baselines(rows, found)
    assert_tables_are_well_formed(table)
    lines = lines_of(table)
    assert lines["UCB1"] == [
        "6.5 ± 0.5 (0.25)", "6.7 ✓", "70.5 ± 0.5 (1)", "78.0", "not yet run", "405.8",
    ]  # fmt: skip
    assert lines["Gittins index"] == ["–", "6.6", "78.5 ± 0.5", "78.3 ✓", "not yet run", "405.8"]


def test_baselines_of_which_none_has_run():
    assert tables.baselines([ROW], Gathered({}, {}, [])) == "Baselines: not yet run."


def test_costs_show_every_training_once(tmp_path, fill, assert_tables_are_well_formed):
    fill(tmp_path, bandits.EXPERIMENT, "cpu", seeds=3)
    table = tables.costs(bandits.rows("paper"), gather(tmp_path, "bandits", PRESETS))
    assert_tables_are_well_formed(table)
    header, _, *lines = table.splitlines()
    assert cells(header)[1:] == ["seeds", "env steps", "wall-clock", "hardware", "commit"]
    # Two budgets of three algorithms; the shifted row plays the agents of another.
    trained = [t for horizon in (100, 500) for t in bandits.trainings("cpu", horizon).values()]
    assert len(lines) == len(trained) == 6
    for line in lines:
        assert cells(line)[1:] == ["3", "0.04 M", "1.5 min", "2 cores, Abacus 3000", "0123456+"]
        assert "--seed=0`" in line


def test_costs_without_results_are_nothing():
    assert tables.costs(bandits.rows("paper"), Gathered({}, {}, [])) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1.0 min"), (5400, "1.5 h"), (360_000, "100.0 h")],
)
def test_duration(seconds, text):
    assert tables.duration(seconds) == text


def test_hardware_and_commit():
    gpu = {"platform": "gpu", "devices": 2, "device": "NVIDIA H200", "commit": None}
    assert tables.hardware(gpu) == "2 × NVIDIA H200"
    assert tables.commit(gpu) == "unknown"
    assert tables.commit({"commit": "0123456789"}) == "0123456"
    assert tables.commit({"commit": "0123456789+"}) == "0123456+"


def test_no_cell_hides_a_nan(make_score):
    """A single task leaves the error unknown, which is shown as such."""
    assert tables.scores_cell([make_score(returns=[3])]) == "3.0 ± –"
