"""The numbers behind the plots equal the data."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.data.vecbench import TASKS
from inference.evaluate import evaluate
from inference.metrics.prediction_table import prediction_table
from inference.plots import remove_plots
from inference.plots.confidence import (
    histogram_counts,
    reliability_bins,
)
from inference.plots.confusion import confusion_counts, confusion_matrices, file_part, label_order, row_shares
from inference.plots.curves import draw_all, draw_sources
from inference.plots.intervals import heights, leaves_out, run_comparison
from tests.helpers.plots import a_table, some_results
from tests.helpers.results import a_result, answer, results_in_memory

# matplotlib warns where a plot has gone wrong: axes without room, a label it cannot draw.
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def table():
    return prediction_table(some_results())


def test_an_unknown_format_is_named_before_anything_is_drawn(table, tmp_path):
    with pytest.raises(ValueError, match="formats: expected some of png, pdf, svg, got 'gif'"):
        draw_all(table, tmp_path, formats=("png", "gif"))
    assert list(tmp_path.iterdir()) == []


def test_reliability_intervals_hold_the_accuracy_of_their_bin(table):
    bins = reliability_bins(table)
    filled = bins["count"] > 0
    assert filled.sum() == 4  # 0.6 and 0.7 lie just below the edges of linspace, 0.85 and 0.9 to 1.0 in theirs
    assert np.all(bins["interval_low"][filled] <= bins["correctness"][filled])
    assert np.all(bins["interval_high"][filled] >= bins["correctness"][filled])
    assert np.isnan(bins["interval_low"][~filled]).all()


@pytest.mark.parametrize("step", range(21))
def test_each_multiple_of_a_twentieth_has_a_bar_of_its_own(step):
    table = a_table(("FI-2", "positive", "positive", round(0.05 * step, 2)), ("FI-2", "positive", "negative", 0.5))
    right, wrong = histogram_counts(table)
    assert right.tolist() == [int(i == step) for i in range(21)]
    assert wrong.tolist() == [int(i == 10) for i in range(21)]


@given(st.lists(st.tuples(st.booleans(), st.none() | st.floats(0, 1)), max_size=30))
def test_histograms_hold_every_answer_with_a_confidence_once(rows):
    table = pd.DataFrame({
        "truth": ["awe"] * len(rows),
        "label": ["awe" if right else "fear" for right, _ in rows],
        "confidence": np.array([c for _, c in rows], dtype=float),
    })  # fmt: skip
    right, wrong = histogram_counts(table)
    assert right.sum() == sum(1 for y, c in rows if y and c is not None)
    assert wrong.sum() == sum(1 for y, c in rows if not y and c is not None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "b", "c", "d", "unknown"])), max_size=40))
def test_confusion_counts_equal_a_cross_table(rows):
    part = pd.DataFrame(rows, columns=["truth", "label"])
    labels = label_order("my own", part, ["a", "b", "c"])
    counts, columns = confusion_counts(part, labels)
    for i, truth in enumerate(labels):
        for j, label in enumerate(columns):
            assert counts[i, j] == rows.count((truth, label))
    assert counts.sum() == len(rows)
    assert ("unknown" in columns) == any(label == "unknown" for _, label in rows)
    shares = row_shares(counts)
    for sums, total in zip(shares.sum(axis=1), counts.sum(axis=1), strict=True):
        assert sums == pytest.approx(1.0) if total else np.isnan(sums)


def test_labels_stand_in_the_order_of_the_candidates_then_of_vecbench_then_of_the_alphabet():
    part = a_table(("EmoSet-8", "awe", "fear", None))
    assert label_order("EmoSet-8", part) == list(TASKS["EmoSet-8"].labels)
    assert label_order("EmoSet-8", part, ["Sadness", "fear"]) == ["sadness", "fear", "awe"]
    assert label_order("my own", part) == ["awe", "fear"]


def test_candidates_of_a_task_are_those_of_its_records():
    results = [a_result(), {**a_result(), "task": "mine", "candidates": ["b", "a"]}]
    results.append({**a_result(), "task": "mine", "candidates": ["a", "c"]})
    assert results_in_memory(results).candidates == {
        "EmoSet-8": list(TASKS["EmoSet-8"].labels),
        "mine": ["b", "a", "c"],
    }


def test_two_tasks_that_a_file_name_cannot_tell_apart_make_two_files(tmp_path):
    assert file_part("a/b") == file_part("a:b") == "a-b"
    results = [{**a_result(response=answer("awe", 0.9)), "task": task} for task in ("a/b", "a:b")]
    written = confusion_matrices(prediction_table(results), tmp_path / "c", ("svg",))
    assert [path.name for path in written] == ["c_a-b.svg", "c_a-b_.svg"]


def test_plots_of_an_earlier_evaluation_of_other_data_are_not_left_beside_new_tables(tmp_path):
    """A report shows every picture of the folder."""
    results = [a_result(response=answer("awe", 0.9), label_votes={"awe": 2, "fear": 1}) for _ in range(3)]
    draw_all(prediction_table(results), tmp_path, formats=("png",))
    draw_sources([("verbalized", "ECE", 10.0, 5.0, 15.0)], tmp_path, formats=("png",))
    assert {"vote_agreement.png", "confusion_EmoSet-8.png"} <= {path.name for path in tmp_path.iterdir()}
    users = {"my own.png", "reliability.pdf"}  # evaluation draws no PDF
    for name in users:
        (tmp_path / name).write_bytes(b"")
    remove_plots(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == users
    (tmp_path / "confusion_FI-2.png").write_bytes(b"")
    evaluate(results_in_memory(results), tmp_path)
    assert not list(tmp_path.glob("confusion_*"))


def test_a_table_without_a_row_has_no_confusion_matrix(tmp_path):
    assert confusion_matrices(prediction_table([]), tmp_path / "c") == []


COMPARISON = [
    ("EmoSet-8", "accuracy", 1.0, -0.5, 2.5),
    ("Overall", "accuracy", 0.8, 0.1, 1.5),
    ("EmoSet-8", "ROC AUC", None, None, None),
    ("Overall", "ROC AUC", 0.4, float("nan"), float("nan")),
]


def test_a_row_of_another_length_is_named():
    with pytest.raises(ValueError, match=r"row 1: expected \(name, metric, value, low, high\), got \('a', 'ECE', 1\)"):
        run_comparison([COMPARISON[0], ("a", "ECE", 1)], "unused")


def test_only_an_interval_on_one_side_of_zero_leaves_it_out():
    assert leaves_out(0.0, 0.1, 0.5) and leaves_out(0.0, -0.5, -0.1)
    assert not leaves_out(0.0, -0.1, 0.5) and not leaves_out(0.0, 0.0, 0.5)
    assert not leaves_out(0.0, None, None) and not leaves_out(0.0, float("nan"), 1.0)


def test_tasks_groups_and_overall_stand_apart():
    assert heights(["FI-2", "FI-8", "ID VSA", "Overall"]) == {"FI-2": 0, "FI-8": 1, "ID VSA": 2.5, "Overall": 4.0}
