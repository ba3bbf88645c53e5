"""Intervals and differences: what is drawn, that it is drawn rightly, and that intervals hold the truth."""

import numpy as np
import pandas as pd
import pytest

from inference.data.vecbench import GROUPS, TASKS
from inference.metrics import bootstrap, corrected
from inference.metrics.bootstrap import Cells, drawn_together, holm, interval, two_sided_p
from inference.metrics.calibration import wilson_interval
from inference.metrics.corrected import estimate, opposites, slices
from inference.metrics.prediction_table import prediction_table
from tests.helpers.results import results_of


def table_of(*args, **options):
    return prediction_table(results_of(*args, **options))


def cells_of(table):
    return Cells.of(table[["task", "truth", "label", "confidence", "well_formed"]], table["image"])


def test_every_task_keeps_its_size_in_every_resample():
    cells = cells_of(table_of(["FI-2", "EmoSet-8"], 70))
    ((_, weights),) = cells.resamples(50)
    for task in ("FI-2", "EmoSet-8"):
        assert (weights[:, cells.columns["task"] == task].sum(axis=1) == 70).all()


def test_rows_of_one_image_are_drawn_together():
    table = table_of(["FI-2", "FI-8"], 40, images=lambda task, i: f"fi/{i}.jpg")
    cells = cells_of(table)
    ((_, weights),) = cells.resamples(20)
    by_image = pd.DataFrame(weights.T).groupby(cells.unit)
    assert (by_image.nunique() == 1).all().all()
    assert weights.sum(axis=1).tolist() == [80] * 20


def test_equal_rows_are_one_cell_and_the_metrics_do_not_change():
    table = table_of(["FI-2"], 300)
    cells = cells_of(table)
    assert len(cells.unit) < 30
    assert cells.weights.sum() == 300
    truth, label = table["truth"], table["label"]
    row = {row.name: row for row in estimate(table)}["FI-2"]
    assert row.metrics["accuracy"] == pytest.approx((truth == label).mean())


def test_drawing_cells_spreads_a_metric_as_drawing_rows_does():
    table = table_of(["EmoSet-8"], 400)
    right = (table["truth"] == table["label"]).to_numpy()
    random = np.random.default_rng(1)
    by_rows = right[random.integers(0, 400, (4000, 400))].mean(axis=1)
    cells = cells_of(table)
    ((_, weights),) = cells.resamples(4000)
    cell_right = (cells.columns["truth"] == cells.columns["label"]).to_numpy(dtype=float)
    assert np.std(weights @ cell_right / 400) == pytest.approx(np.std(by_rows), rel=0.06)


def test_shared_images_widen_the_interval_of_a_group():
    """Two answers to the same image, always right or wrong together, are less than two samples."""
    rows = results_of(["FI-2"], 200)
    twins = [{**row, "task": "WebEmo-2"} for row in rows]
    together = {row.name: row for row in estimate(prediction_table(rows + twins), 500)}["ID VSA"]
    apart_rows = [{**row, "image": f"other/{i}"} for i, row in enumerate(twins)]
    apart = {row.name: row for row in estimate(prediction_table(rows + apart_rows), 500)}["ID VSA"]

    assert width(together) > 1.2 * width(apart)


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others():
    table = table_of(["FI-2"], 100)
    first, again, other = (estimate(table, 100, seed)[0].intervals for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_every_metric_of_every_row_has_an_interval_that_holds_it():
    for row in estimate(table_of(list(TASKS), 30), 200):
        missing = set(row.metrics) - set(row.intervals) - {"ece_if_calibrated", "distinct_confidences"}
        assert not missing, row.name
        for metric, (low, high) in row.intervals.items():
            assert low <= row.metrics[metric] <= high, (row.name, metric)


def test_a_group_without_samples_and_a_run_without_confidences_have_what_is_defined():
    rows = [{**row, "response": "<answer>positive</answer>"} for row in results_of(["FI-2"], 10)]
    by_name = {row.name: row for row in estimate(prediction_table(rows), 50)}
    assert by_name["OOD VER"].n_samples == 0
    assert by_name["OOD VER"].metrics == {"distinct_confidences": 0.0}
    assert by_name["FI-2"].metrics["confidence_rate"] == 0.0
    assert "ece" not in by_name["FI-2"].metrics
    assert estimate(prediction_table([]), 50)[-1].n_samples == 0


def width(row, metric="accuracy"):
    low, high = row.intervals[metric]
    return high - low


def all_right(n, images=None, task="FI-2"):
    rows = results_of([task], n, images=images)
    return [{**row, "response": f"<answer>{row['ground_truth']}</answer><confidence>0.9</confidence>"} for row in rows]


def test_a_share_of_one_hundred_percent_has_an_interval_of_about_wilsons_width():
    row = estimate(prediction_table(all_right(120)), 500)[0]
    low, high = row.intervals["accuracy"]
    (wilson,), _ = wilson_interval([120], [120])
    assert high == 1.0
    assert low == pytest.approx(wilson, abs=0.015)
    for metric in ("f1", "confidence_rate", "confidence_gap", "brier", "log_loss", "aurc", "auprc", "ece"):
        assert width(row, metric) > 0.005, metric
    assert row.intervals["format_rate"][0] == 0.0 < row.intervals["format_rate"][1]  # none of the 120 is well-formed


def test_a_perfect_ranking_has_an_interval_below_100_percent():
    confidence = np.repeat([0.9, 0.2], 30)
    rows = [
        {**row, "response": row["response"].replace("0.9<", f"{c}<") if c > 0.5
         else f"<answer>none</answer><confidence>{c}</confidence>"}
        for row, c in zip(all_right(60), confidence, strict=True)
    ]  # fmt: skip
    row = estimate(prediction_table(rows), 500)[0]
    assert row.metrics["roc_auc"] == 1.0
    assert 0.8 < row.intervals["roc_auc"][0] < 0.99


def test_answers_to_one_image_count_once_where_all_are_right():
    """360 right answers to 120 images leave as much doubt as 120 right answers."""
    single = estimate(prediction_table(all_right(120)), 400)[0]
    images = estimate(prediction_table(all_right(360, lambda task, i: f"{i // 3}.jpg")), 400)[0]
    rows = estimate(prediction_table(all_right(360)), 400)[0]
    assert width(images) == pytest.approx(width(single), abs=0.012)
    assert width(rows) < 0.6 * width(images)


def test_a_row_of_many_tasks_has_one_unit_turned_around_as_a_task_has():
    """All right in nine tasks: about one answer in a resample is wrong, not nine."""
    rows = [row for task in TASKS for row in all_right(30, task=task)]
    cells = cells_of(prediction_table(rows))
    ((part, weights),) = cells.resamples(2000, opposite=opposites)
    wrong = (part.columns["truth"] != part.columns["label"]).to_numpy(dtype=float)
    n_rows = {}
    for name, kind, index in slices(part):
        w = weights if kind == "task" else part.thinned(weights, index)
        assert w.sum(axis=1).tolist() == [270] * 2000
        if len(index):
            n_rows[name] = (w[:, index] @ wrong[index]).mean()
    assert n_rows == pytest.approx(dict.fromkeys([*TASKS, *GROUPS, "Overall"], 30 / 31), abs=0.12)
    overall = estimate(prediction_table(rows), 300)[-1]
    for metric in ("accuracy", "macro_accuracy", "f1", "macro_f1"):
        assert width(overall, metric) == pytest.approx(3 / 270, abs=0.006), metric


def test_in_large_samples_the_unit_turned_around_changes_nothing():
    table = table_of(["EmoSet-8"], 3000)
    right = (table["truth"] == table["label"]).mean()
    low, high = estimate(table, 400)[0].intervals["accuracy"]
    error = 1.96 * np.sqrt(right * (1 - right) / 3000)
    assert (low, high) == (pytest.approx(right - error, abs=0.004), pytest.approx(right + error, abs=0.004))


@pytest.mark.parametrize("name", ["placeholder.jpg", "", "  "])
def test_records_that_all_name_one_image_have_the_intervals_of_single_records(name):
    table = table_of(["FI-2", "EmoSet-8"], 80, images=lambda task, i: name)
    apart = table.assign(image=[f"{i}.jpg" for i in range(len(table))])
    unit, n_apart = drawn_together(table["task"], table["image"])
    assert len(set(unit)) == 160
    assert n_apart == (160 if name.strip() else 0)
    for row, expected in zip(estimate(table, 200), estimate(apart, 200), strict=True):
        if row.n_samples:
            assert width(row) == pytest.approx(width(expected), rel=0.3), row.name


def test_one_image_that_most_records_name_is_no_image_to_draw_and_two_are():
    tasks = pd.Series(["FI-2"] * 100)
    _, n_apart = drawn_together(tasks, pd.Series(["a.jpg"] * 98 + ["b.jpg", "c.jpg"]))
    assert n_apart == 98
    unit, n_apart = drawn_together(tasks, pd.Series(["a.jpg", "b.jpg"] * 50))
    assert (len(set(unit)), n_apart) == (2, 0)


def test_images_of_other_tasks_do_not_make_up_for_a_missing_one():
    """One image that two tasks share, beside images of one task each."""
    tasks, images = pd.Series(["FI-2", "FI-8", "FI-2", "FI-2", "FI-8"]), pd.Series(["a", "a", "b", "c", "d"])
    unit, n_apart = drawn_together(tasks, images)
    assert (len(set(unit)), n_apart) == (5, 2)


def test_subsets_of_a_large_run_give_the_intervals_of_the_whole(monkeypatch):
    table = table_of(["FI-2", "FI-8", "EmoSet-8"], 700, images=lambda task, i: f"{task[:2]}{i}.jpg")
    table["confidence"] = np.random.default_rng(0).beta(5, 2, len(table))
    whole = estimate(table, 300)
    monkeypatch.setattr(bootstrap, "MAX_UNITS", 500)
    parts = estimate(table, 300)
    for row, expected in zip(parts, whole, strict=True):
        assert row.metrics == expected.metrics
        for metric in ("accuracy", "f1", "macro_f1", "ece", "brier", "roc_auc", "aurc", "smooth_ece"):
            if metric in expected.intervals:
                assert width(row, metric) == pytest.approx(width(expected, metric), rel=0.3), (row.name, metric)


def test_an_interval_that_most_resamples_do_not_define_is_none():
    low, high = interval(np.array([np.nan, np.nan, 0.5]))
    assert np.isnan(low) and np.isnan(high)


def test_a_difference_that_every_resample_shows_has_a_small_p_and_none_has_one():
    random = np.random.default_rng(0)
    assert two_sided_p(np.full(999, 0.1)) == pytest.approx(2 / 1000)
    assert two_sided_p(np.zeros(999)) == 1.0
    assert two_sided_p(random.normal(0, 1, 999)) > 0.5
    assert np.isnan(two_sided_p(np.full(10, np.nan)))


def test_holm_corrects_a_family_and_leaves_undefined_ones_alone():
    corrected = holm(np.array([0.01, 0.04, np.nan, 0.03]))
    assert corrected[[0, 1, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(corrected[2])


def test_intervals_of_thousands_of_different_confidences_are_those_of_all_of_them(monkeypatch):
    """In the resamples neighbours share a value, though a thousandth may hold most of them."""
    random = np.random.default_rng(0)
    confidence = 1 - random.random(3000) ** 4 * 0.2
    rows = results_of(["EmoSet-8"], 3000)
    table = prediction_table(rows).assign(confidence=confidence)
    table["label"] = np.where(random.random(3000) < confidence, table["truth"], "none")
    found = estimate(table, 300)[-1]
    assert len(set(corrected.fewer_values(table["confidence"]))) <= 1001
    monkeypatch.setattr(corrected, "RESAMPLED_VALUES", 10_000)
    exact = estimate(table, 300)[-1]
    assert found.metrics == exact.metrics
    for metric in ("accuracy", "ece", "smooth_ece", "brier", "log_loss", "roc_auc", "aurc"):
        width = exact.intervals[metric][1] - exact.intervals[metric][0]
        assert found.intervals[metric] == pytest.approx(exact.intervals[metric], abs=0.02 * width), metric
