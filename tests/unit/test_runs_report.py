"""Several runs on one page: who is better than whom, the runs' names, the packed responses."""

import base64
import json
import zlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from inference.metrics.paired_comparison import (
    PAIRWISE,
    ComparisonError,
    aligned_runs,
    differences,
    needed_resamples,
    paired_table,
    pairwise_differences,
)
from inference.metrics.prediction_table import prediction_table
from inference.report.several_runs import (
    RESPONSE_BLOCK,
    Run,
    _points,
    common_samples,
    notices_of,
    packed,
    pair_matrix,
    run_names,
    verdicts,
)
from tests.helpers.results import STATED, THREE_TASKS, improved, results_in_memory, results_of


def with_other_answers(rows, seed):
    """The same questions, answered and stated by chance; every seventh without a confidence."""
    random = np.random.default_rng(seed)
    return [
        {
            **row,
            "response": f"<answer>{random.choice(row['candidates'])}</answer>"
            + ("" if i % 7 == 0 else f"<confidence>{random.choice(STATED)}</confidence>"),
        }
        for i, row in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def tables():
    rows = results_of(THREE_TASKS, 80)
    runs = {"A": rows, "B": with_other_answers(rows, 1), "C": improved(rows), "A again": rows}
    return {name: prediction_table(of) for name, of in runs.items()}


@pytest.fixture(scope="module")
def found(tables):
    return pairwise_differences(tables, 500)


def test_every_pair_is_there_once_with_the_metrics_that_others_compute(tables, found):
    assert list(found) == list(combinations(tables, 2))
    numbers = {}
    for name, table in tables.items():
        right = (table["label"] == table["truth"]).astype(int)
        stated = table["confidence"].notna()
        numbers[name, "accuracy"] = right.mean()
        numbers[name, "brier"] = brier_score_loss(right[stated], table["confidence"][stated])
        if right[stated].nunique() == 2:
            numbers[name, "roc_auc"] = roc_auc_score(right[stated], table["confidence"][stated])
    for (a, b), items in found.items():
        for item in items:
            if item.metric != "ece":
                assert (item.a, item.b) == pytest.approx((numbers[a, item.metric], numbers[b, item.metric]))
            assert item.difference == pytest.approx(item.b - item.a)
            assert item.low <= item.difference <= item.high


def test_a_metric_that_a_run_does_not_define_is_left_out(found):
    # Every answer of C is right: no wrong one to rank.
    assert [item.metric for item in found["A", "C"]] == ["accuracy", "ece", "brier"]
    assert [item.metric for item in found["A", "B"]] == list(PAIRWISE)


def test_a_pair_differs_as_when_two_runs_are_compared_alone(tables, found):
    alone = {d.metric: d for d in differences(paired_table(tables["A"], tables["B"]), 500) if d.row == "Overall"}
    for item in found["A", "B"]:
        other = alone[item.metric]
        assert (item.a, item.b, item.difference) == pytest.approx((other.a, other.b, other.difference))
        width = other.high - other.low
        assert (item.low, item.high) == pytest.approx((other.low, other.high), abs=0.25 * width)


def test_p_is_corrected_for_the_pairs_of_its_metric(found):
    for metric in PAIRWISE:
        items = sorted((d for of in found.values() for d in of if d.metric == metric), key=lambda d: d.p)
        floor = 0.0
        for rank, item in enumerate(items):  # Holm, 1979: the smallest p times their number, the next times one less …
            floor = max(floor, min(1.0, item.p * (len(items) - rank)))
            assert item.p_holm == pytest.approx(floor)


def test_a_run_is_not_better_than_itself_and_right_answers_are_better_than_chance(found):
    same = found["A", "A again"]
    assert all((d.difference, d.low, d.high, d.p_holm, d.verdict) == (0, 0, 0, 1, "") for d in same)
    assert found["A", "B"][0].verdict == "worse" and found["B", "C"][0].verdict == "better"


def test_the_matrix_says_the_same_from_both_sides(tables, found):
    names = list(tables)
    matrix = dict(pair_matrix(names, found, "accuracy"))
    for row, column in combinations(range(len(names)), 2):
        one, other = matrix[names[row]][column], matrix[names[column]][row]
        assert (one.difference, one.low, one.high) == (-other.difference, -other.high, -other.low)
        assert {one.verdict, other.verdict} in ({""}, {"better", "worse"})
        assert one.difference == pytest.approx(matrix[names[row]][row] - matrix[names[column]][column])
    assert verdicts(list(matrix.items())) == [("A", ["B"]), ("C", ["A", "B", "A again"]), ("A again", ["B"])]
    assert [cell for _, cells in pair_matrix(names, found, "roc_auc") for cell in cells].count(None) == 7  # with C


def test_lower_is_better_where_it_is(found):
    names = ["A", "B", "C", "A again"]
    matrix = dict(pair_matrix(names, found, "brier"))
    assert matrix["C"][1].difference < 0 and matrix["C"][1].verdict == "better"


def test_there_are_enough_resamples_for_a_verdict_among_the_pairs_of_many_runs():
    for n_pairs in (1, 3, 45, 190):
        smallest = 2 / (needed_resamples(n_pairs) + 1)
        assert smallest * n_pairs < 0.05


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "+12.34"), (-0.1234, "−12.34"), (-0.00001, "0.00"), (0.00001, "0.00"), (0.0, "0.00")]
)
def test_a_difference_has_a_sign_unless_it_is_rounded_to_zero(value, text):
    assert _points(value, "accuracy") == text


def test_runs_are_named_by_their_folders_with_as_much_above_as_tells_them_apart(tmp_path):
    folders = [tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "other"]
    assert run_names(folders) == ["x/run", "y/run", "other"]
    deep = [tmp_path / "1" / "x" / "run", tmp_path / "2" / "x" / "run", tmp_path / "y" / "run"]
    assert run_names(deep) == ["1/x/run", "2/x/run", "y/run"]


def test_a_run_that_is_named_twice_is_refused_however_it_is_written(tmp_path):
    with pytest.raises(ComparisonError, match="expected each run once"):
        run_names([tmp_path / "run", tmp_path / "run" / ".." / "run"])


def test_runs_of_other_data_are_refused_by_their_names():
    rows = results_of(THREE_TASKS, 5)
    relabelled = [{**rows[0], "ground_truth": "negative" if rows[0]["ground_truth"] == "positive" else "positive"}]
    with pytest.raises(ComparisonError, match=r"sample FI-2-0: FI-2, \w+ in run stage1, FI-2, \w+ in run stage2"):
        aligned_runs({"stage1": results_in_memory(rows), "stage2": results_in_memory(relabelled)})
    other = [{**row, "sample_id": f"other-{row['sample_id']}"} for row in rows]
    with pytest.raises(ComparisonError, match="runs stage1 and stage2 have no sample in common"):
        aligned_runs({"stage1": results_in_memory(rows), "stage2": results_in_memory(other)})


def test_samples_are_in_the_order_of_the_data_and_without_places_in_that_of_the_first_run():
    rows = results_of(["FI-2"], 4)
    failed = [{**rows[0], "error": "broken"}, {**rows[1], "error": "broken"}]
    a = Run("A", Path("A"), {}, results_in_memory(rows[1:3]), failed)
    b = Run("B", Path("B"), {}, results_in_memory(rows[::-1]), [])
    samples, rest, n_total = common_samples([a, b], 3)
    assert n_total == 4
    assert [sample["id"] for sample in samples] == ["FI-2-1", "FI-2-2", "FI-2-0"]
    assert ["error" in sample["answers"][0] for sample in samples] == [False, False, True]
    assert [[answer["response"] for answer in both] for both in rest[:2]] == [
        [row["response"]] * 2 for row in rows[1:3]
    ]
    placed = [{**row, "position": 10 - i} for i, row in enumerate(rows)]
    samples, _, _ = common_samples([Run("A", Path("A"), {}, results_in_memory(placed), [])] * 2, 10)
    assert [sample["id"] for sample in samples] == ["FI-2-3", "FI-2-2", "FI-2-1", "FI-2-0"]


def test_packed_responses_come_out_as_they_went_in():
    rest = [[{"response": f"{i} \ud800 </script> é"}, {}] for i in range(RESPONSE_BLOCK + 3)]
    blocks = packed(rest)
    assert len(blocks) == 2
    assert [one for block in blocks for one in json.loads(zlib.decompress(base64.b64decode(block)))] == rest


def test_what_runs_do_not_share_is_said_above_them():
    rows = results_of(["FI-2"], 4)
    more = [{**row, "candidates": [*row["candidates"], "neutral"]} for row in rows]

    def run(name, results, **metrics):
        return Run(name, Path(name), {"notices": ["toy"], **metrics}, results_in_memory(results), [])

    ten, fifteen = {"corrected": {"n_bins": 10}}, {"corrected": {"n_bins": 15}}
    assert notices_of([run("A", rows, **ten), run("B", rows, **ten)]) == ["toy"]
    assert notices_of([run("A", rows, doubts=["odd"], **ten), run("B", more, **fifteen)]) == [
        "toy",
        "A: odd",
        "the tables' ECE, MCE and Brier's parts are of different numbers of bins: A 10, B 15",
        "the candidates of FI-2 differ between A and B: only B has neutral",
    ]
