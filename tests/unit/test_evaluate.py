"""From results to tables: the published protocol to the byte, counts that add up, nothing lost."""

import json

import pytest

from inference.data.vecbench import TASKS
from inference.evaluate import NOT_IN_DATA, RELABELLED, checked_against_data, evaluate
from inference.metrics.corrected import estimate
from inference.metrics.prediction_table import prediction_table
from inference.metrics.published import (
    confidence_rows,
    confidence_table,
    metric_rows,
    metric_table,
    read_table,
    threshold_analysis,
    thresholds_tsv,
)
from inference.metrics.results import read_file
from inference.report.tables import tables_html
from tests.corpora.bad_records import a_record
from tests.helpers.commands import REPO, read_jsonl, write_jsonl
from tests.helpers.results import HALF_WAY, a_result, answer, results_in_memory


def published(results):
    """name → row of metric_conf.log."""
    return {row.name: row for row in confidence_rows(prediction_table(results))}


def corrected(results):
    return {row.name: row for row in estimate(prediction_table(results))}


GOLDEN = REPO / "tests" / "golden"


@pytest.fixture(scope="module")
def golden_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    evaluate(read_file(GOLDEN / "records.jsonl"), folder)
    return folder


def test_metric_log_holds_the_published_table_byte_for_byte(golden_run):
    assert (GOLDEN / "metric_table.txt").read_bytes() in (golden_run / "metric.log").read_bytes()


def test_metric_conf_log_holds_the_published_table_byte_for_byte(golden_run):
    assert (GOLDEN / "metric_conf_table.txt").read_bytes() in (golden_run / "metric_conf.log").read_bytes()


def test_thresholds_equal_the_published_ones_byte_for_byte(golden_run):
    assert (golden_run / "thresholds.tsv").read_bytes() == (GOLDEN / "thresholds.tsv").read_bytes()
    assert (GOLDEN / "thresholds.tsv").read_bytes() in (golden_run / "metric_conf.log").read_bytes()


def test_metrics_json_agrees_with_the_table(golden_run):
    summary = json.loads((golden_run / "metrics.json").read_text())
    assert summary["counts"] == {"read": 400, "predicted": 400, "failed": 0}
    overall = summary["published"]["metric"][-1]
    assert (overall["name"], overall["n_samples"], overall["accuracy"]) == ("Overall", 400, pytest.approx(0.395))


def test_the_published_reference_tables_are_well_formed_by_our_own_formatter():
    """The stored tables of the released model have the very layout that evaluation prints."""
    reference = REPO / "infer_results" / "emocaliber_published"
    rows = read_table(reference / "metric.log")
    assert metric_table(rows) == (reference / "metric.log").read_text()
    with_groups = read_table(reference / "metric_conf.log")
    assert confidence_table(with_groups) == (reference / "metric_conf.log").read_text()
    assert [row.n_samples for row in rows] == [*(task.n_test for task in TASKS.values()), 8032]


def test_an_unreadable_confidence_drops_the_row_from_the_confidence_tables_only():
    results = [a_result(response=answer("awe", "high")), a_result(response=answer("fear", 0.5))]
    assert published(results)["EmoSet-8"].n_samples == 1
    assert published(results)["Overall"].n_samples == 1
    table = prediction_table(results)
    assert [row.n_samples for row in metric_rows(table)] == [2, 2]


def test_the_corrected_protocol_keeps_it_in_the_denominators():
    row = corrected([a_result(response=answer("awe", "high")), a_result(response=answer("awe", 0.5))])["ID VER"]
    assert (row.n_samples, row.metrics["accuracy"], row.metrics["confidence_rate"]) == (2, 1.0, 0.5)


def test_published_group_accuracy_is_over_samples_with_a_confidence_and_f1_over_all():
    results = [
        a_result(response=answer("awe", 0.9)),
        a_result(response=answer("fear", 0.2)),
        a_result(response=answer("awe")),
    ]
    row = published(results)["ID VER"]
    assert (row.metrics["accuracy"], row.n_samples) == (0.5, 3)
    assert row.metrics["f1"] == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))  # recall 2/3, precision 1


def test_out_of_range_confidence_is_clipped_as_published_and_a_failure_when_corrected():
    results = [a_result(response=answer("awe", 1.7)), a_result(response=answer("fear", -3))]
    row = published(results)["ID VER"]
    assert row.metrics["brier"] == 0.0
    assert corrected(results)["ID VER"].metrics["confidence_rate"] == 0.0


def test_confidence_one_is_in_no_published_bin_but_in_the_corrected_last_one():
    results = [a_result(response=answer("fear", "1.0")), a_result(response=answer("awe", "0.95"))]
    assert published(results)["ID VER"].metrics["ece"] == pytest.approx(0.05 / 2)
    assert corrected(results)["ID VER"].metrics["ece"] == pytest.approx(abs(0.5 - 0.975))


def test_a_group_with_one_class_prints_na_for_all_three():
    row = published([a_result(response=answer("awe", 0.9))])["ID VER"]
    assert row.metrics == {"accuracy": 1.0, "f1": 1.0}


def test_a_model_without_confidences_gets_accuracy_over_all_samples():
    results = [a_result(response=answer("awe")), a_result(response=answer("fear"))]
    row = published(results)["ID VER"]
    assert (row.metrics["accuracy"], row.n_samples, "ece" in row.metrics) == (0.5, 2, False)


def test_an_empty_group_prints_na_and_0():
    text = confidence_table(list(published([a_result()]).values()))
    assert "| OOD VER         | N/A    | N/A    | N/A      | N/A        | N/A        | 0         |" in text


def test_a_group_without_samples_prints_na_at_every_threshold_and_one_that_keeps_none_zero():
    results = [a_result(response=answer("awe", 0.3)), a_result(task="FI-2", truth="positive", response="none")]
    analysis = threshold_analysis(prediction_table(results))
    lines = [line.split("\t") for line in thresholds_tsv(analysis).splitlines()]
    kept, none_kept, na = ["100.00"] * 3, ["0.00"] * 3, ["N/A"] * 3
    assert lines[2] == ["0.3:", *none_kept, *kept, *na]
    assert lines[3] == ["0.4:", *none_kept, *none_kept, *na]


def test_a_brier_score_half_way_between_two_numbers_is_rounded_as_the_published_sum_is(tmp_path):
    """The mean of the squares is exactly 0.32675; the sum in the order of the file lies just above it."""
    stated = zip(*HALF_WAY, strict=True)
    results = [a_result(response=answer("awe" if right else "fear", c), image=f"{c}.jpg") for c, right in stated]
    evaluate(results_in_memory(results), tmp_path)
    published_part = (tmp_path / "metric_conf.log").read_text().partition("Corrected protocol")[0]
    (line,) = [line for line in published_part.splitlines() if line.startswith("| ID VER")]
    assert line.split("|")[5].strip() == "32.68"


def test_samples_that_share_one_image_are_counted_above_the_intervals_and_these_are_no_points(tmp_path):
    results = [a_result(response=answer("awe" if i % 3 else "fear", 0.8), image="same.jpg") for i in range(60)]
    summary = evaluate(results_in_memory(results), tmp_path, n_resamples=200)
    text = (tmp_path / "metric_conf.log").read_text()
    assert text.count("NOTE: 60 samples share an image, a placeholder perhaps, beside which") == 1
    assert "60 samples share an image" in tables_html(summary)
    bounds = summary["corrected"]["metric"][-1]["intervals"]["accuracy"]
    assert bounds["high"] - bounds["low"] > 0.1


def test_tasks_outside_vecbench_count_in_overall_only():
    foreign = {**a_result(response=answer("awe", 0.5)), "task": "Elsewhere-8"}
    rows = published([a_result(), foreign])
    assert rows["Overall"].n_samples == 2
    assert "Elsewhere-8" not in rows


def test_the_overall_row_reads_the_whole_response_as_published():
    results = [a_result(response="<think>anger?</think>" + answer("awe"))]
    assert published(results)["EmoSet-8"].metrics["accuracy"] == 1.0
    assert published(results)["Overall"].metrics["accuracy"] == 0.0
    assert corrected(results)["Overall"].metrics["accuracy"] == 1.0


def test_macro_accuracy_is_the_mean_of_the_tasks():
    results = [a_result(), a_result(), a_result(), a_result(task="WebEmo-7", truth="joy", response=answer("fear"))]
    row = corrected(results)["ID VER"]
    assert (row.metrics["accuracy"], row.metrics["macro_accuracy"]) == (0.75, 0.5)


def test_another_number_of_bins_is_that_of_the_table_its_notes_and_its_curves_and_said_on_the_plots(tmp_path):
    results = [a_result(response=answer("awe", c)) for c in (0.31, 0.35)]  # two of 15 bins, one of 10
    drawn = []
    summary = evaluate(results_in_memory(results), tmp_path, lambda *call: drawn.append(call), n_bins=15)
    assert summary["corrected"]["metric"][-1]["mce"] == pytest.approx(0.69)
    assert [bin_["count"] for bin_ in summary["corrected"]["calibration_bins"]["ID VER"]][4:6] == [1, 1]
    assert "ECE: 15 bins of equal width" in (tmp_path / "metric_conf.log").read_text()
    assert drawn and all("10 bins; 15 in the tables" in [x for x in call if isinstance(x, str)] for call in drawn)


def test_no_result_at_all_still_prints_tables(tmp_path):
    summary = evaluate(results_in_memory([]), tmp_path)
    assert summary["counts"] == {"read": 0, "predicted": 0, "failed": 0}
    assert "| Overall         | N/A | N/A | 0" in (tmp_path / "metric.log").read_text()


def test_results_that_the_data_file_labels_otherwise_or_does_not_have_are_said_beside_the_missing_ones(tmp_path):
    """A label that was corrected after the run does not reach the tables, which would look as if it had."""
    records = [a_record(id=f"s{i}", ground_truth="awe", candidates=["awe", "fear"]) for i in range(4)]
    results = results_in_memory([{**r, "sample_id": r["id"], "response": answer("awe", 0.9)} for r in records[:3]])
    assert checked_against_data(results, write_jsonl(tmp_path / "data.jsonl", records[:3])) == ([], [])
    now = [records[1], {**records[2], "ground_truth": "fear"}, records[3]]
    missing, doubts = checked_against_data(results, write_jsonl(tmp_path / "data.jsonl", now))
    assert [row["sample_id"] for row in missing] == ["s3"]
    assert doubts == [
        f"1 row: {RELABELLED}; first: data.jsonl, line 2",
        f"1 row: {NOT_IN_DATA}; first: sample s0",
    ]
    beyond = checked_against_data(results, write_jsonl(tmp_path / "data.jsonl", records), limit=1)
    assert beyond == ([], [f"2 rows: {NOT_IN_DATA}; first: sample s1"])


def test_merged_conf_has_prediction_confidence_and_correctness(tmp_path):
    results = [a_result(response=answer("awe", 0.5)), a_result(response=answer("fear"))]
    evaluate(results_in_memory(results), tmp_path)
    rows = read_jsonl(tmp_path / "merged_conf.jsonl")
    assert [(r["prediction"], r["confidence"], r["correctness"]) for r in rows] == [("awe", 0.5, 1), ("fear", None, 0)]


def test_a_notice_in_the_data_stands_above_the_numbers(tmp_path):
    evaluate(results_in_memory([a_result(notice="made up", model_notice="tiny model")]), tmp_path)
    for name in ("metric.log", "metric_conf.log"):
        assert (tmp_path / name).read_text().startswith("NOTE: made up\nNOTE: tiny model\n")
