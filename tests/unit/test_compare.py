"""Paired comparison of runs, and of a run with published tables: what it says and what it refuses."""

import numpy as np
import pytest

from inference.compare import main
from inference.data.vecbench import TASKS
from inference.metrics.paired_comparison import comparison_text, differences
from inference.metrics.paired_comparison import paired_table as paired_tables
from inference.metrics.prediction_table import prediction_table
from inference.metrics.published import confidence_rows, confidence_table, metric_rows, metric_table, read_table
from inference.metrics.published_comparison import (
    PUBLISHED_FOLDER,
    published_comparison,
    published_intervals,
    read_published,
)
from tests.helpers.commands import write_jsonl
from tests.helpers.results import THREE_TASKS, improved, results_of


def overconfident(rows):
    """The same answers, each stated with confidence 0.99."""
    return [
        {**row, "response": row["response"].split("<confidence>")[0] + "<confidence>0.99</confidence>"} for row in rows
    ]


def paired_table(rows_a, rows_b):
    return paired_tables(prediction_table(rows_a), prediction_table(rows_b))


def by_key(found):
    return {(item.row, item.metric): item for item in found}


def test_a_run_compared_with_itself_differs_in_nothing():
    rows = results_of(THREE_TASKS, 60)
    found = differences(paired_table(rows, rows[::-1]), 200)
    assert found
    for item in found:
        assert (item.difference, item.low, item.high, item.p, item.verdict) == (0, 0, 0, 1, ""), item


def test_differences_are_those_of_the_two_evaluations():
    a, b = results_of(THREE_TASKS, 60, seed=1), results_of(THREE_TASKS, 60, seed=2)
    for row, other in zip(a, b, strict=True):  # the same questions, other answers
        other["ground_truth"] = row["ground_truth"]
    found = by_key(differences(paired_table(a, b), 200))
    for name in ("FI-2", "ID VER", "Overall"):
        means = []
        for rows in (a, b):
            table = prediction_table(rows)
            part = table if name == "Overall" else table[(table["task"] == name) | (table["group"] == name)]
            means.append((part["truth"] == part["label"]).mean())
        item = found[name, "accuracy"]
        assert (item.a, item.b) == pytest.approx(tuple(means))
        assert item.low <= item.difference <= item.high


def test_a_better_run_is_called_better_and_one_with_worse_confidence_worse():
    rows = results_of(THREE_TASKS, 150)
    found = by_key(differences(paired_table(rows, improved(rows)), 500))
    assert found["Overall", "accuracy"].verdict == "better"
    found = by_key(differences(paired_table(rows, overconfident(rows)), 500))
    assert found["Overall", "accuracy"].difference == 0
    assert found["Overall", "brier"].verdict == "worse"
    assert found["Overall", "ece"].verdict == "worse"


def test_confidences_closer_than_a_thousandth_are_told_apart():
    rows = results_of(["FI-2"], 60)
    sure = [
        {**row, "response": f"<answer>{label}</answer><confidence>{c}</confidence>"}
        for row in rows
        for label, c in [(row["ground_truth"], 0.9999) if row["sample_id"][-1] in "02468" else ("none", 0.9996)]
    ]
    assert by_key(differences(paired_table(rows, sure), 100))["FI-2", "roc_auc"].b == 1.0


@pytest.mark.parametrize(("n_resamples", "said"), [(199, True), (200, False)])
def test_fewer_resamples_than_the_correction_needs_are_said(n_resamples, said):
    """Five rows: p is at least 2 / (n + 1), and five times that has to be below 0.05."""
    rows = results_of(["FI-2", "EmoSet-8"], 150)
    found = differences(paired_table(rows, improved(rows)), n_resamples)
    text = comparison_text(found, "a", "b", n_resamples)
    assert sum(item.metric == "accuracy" for item in found) == 5
    assert ("too few for a verdict" in text) == said
    assert ("expected --n_resamples 200 or more" in text) == said
    assert bool(by_key(found)["Overall", "accuracy"].verdict) != said


def test_pairing_makes_the_interval_of_a_small_change_narrow():
    """One answer in twenty changed: the runs' own intervals are wide, that of the difference is not."""
    rows = results_of(["EmoSet-8"], 400)
    changed = [improved([row])[0] if i % 20 == 0 else row for i, row in enumerate(rows)]
    item = by_key(differences(paired_table(rows, changed), 500))["EmoSet-8", "accuracy"]
    single = 2 * 1.96 * np.sqrt(item.a * (1 - item.a) / 400)
    assert item.high - item.low < 0.5 * single


def test_runs_of_other_data_are_refused_with_the_reason(tmp_path, monkeypatch):
    rows = results_of(["FI-2"], 5)
    other = [{**row, "sample_id": f"x{i}"} for i, row in enumerate(rows)]
    relabelled = [
        {**row, "ground_truth": "negative" if row["ground_truth"] == "positive" else "positive"} for row in rows
    ]
    for name, kept in (("a", rows), ("other", other), ("relabelled", relabelled), ("empty", None)):
        (tmp_path / name).mkdir()
        if kept is not None:
            write_jsonl(tmp_path / name / "merged.jsonl", kept)
    for name, reason in (
        ("other", "no sample in common"),
        ("relabelled", "sample FI-2-0: FI-2,"),
        ("empty", "no such file. Run python -m inference.evaluate"),
    ):
        monkeypatch.setattr("sys.argv", ["compare", str(tmp_path / "a"), str(tmp_path / name)])
        with pytest.raises(SystemExit, match=f"^cannot compare: .*{reason}"):
            main()


def test_published_intervals_are_around_the_published_protocols_numbers():
    table = prediction_table(results_of(list(TASKS), 50))
    found = published_intervals(table, 200)
    metric, confidence = metric_rows(table), confidence_rows(table)
    for row in [*metric, *(row for row in confidence if row.kind == "group")]:
        for figure in ("accuracy", "f1", "ece", "brier", "roc_auc"):
            expected = row.metrics.get(figure)
            if expected is not None:
                value, low, high = found[row.name, figure]
                assert value == pytest.approx(expected), (row.name, figure)
                assert low <= value <= high


def test_the_released_models_tables_are_read_as_they_stand():
    rows = {row.name: row for row in read_published(PUBLISHED_FOLDER)}
    assert list(rows)[:9] == list(TASKS)
    assert (rows["OOD VER"].metrics["ece"], rows["OOD VER"].n_samples) == (pytest.approx(0.1217), 2035)
    assert (rows["Overall"].metrics["accuracy"], "ece" in rows["Abstract-8"].metrics) == (pytest.approx(0.6135), False)


def test_each_published_number_is_within_above_or_below(tmp_path):
    """A reference made of the run's own tables is within; one that is 30 points lower is below."""
    rows = results_of(list(TASKS), 50)
    table = prediction_table(rows)
    metric, confidence = metric_rows(table), confidence_rows(table)
    (tmp_path / "metric.log").write_text(metric_table(metric))
    (tmp_path / "metric_conf.log").write_text(confidence_table(confidence))
    text = published_comparison(table, tmp_path, 200)
    assert "35 within, 0 above, 0 below" in text
    for row in metric:
        row.metrics["accuracy"] -= 0.3
    (tmp_path / "metric.log").write_text(metric_table(metric))
    assert "25 within, 0 above, 10 below" in published_comparison(table, tmp_path, 200)


def test_a_reference_that_is_no_table_names_file_and_line(tmp_path):
    (tmp_path / "metric.log").write_text("| Task | Acc | F1 | #Samples |\n| FI-2 | high | 1.0 | 5 |\n")
    with pytest.raises(ValueError, match=r"metric\.log, line 2: expected numbers"):
        read_table(tmp_path / "metric.log")
