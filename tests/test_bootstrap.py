"""Intervals and differences: what is drawn, that it is drawn rightly, and that intervals hold the truth."""

import numpy as np
import pandas as pd
import pytest

from inference import protocols
from inference.bootstrap import Cells, holm, interval, two_sided_p
from inference.estimates import estimate, figure_interval
from inference.vecbench import TASKS

STATED = [0.6, 0.7, 0.8, 0.9, 0.95]


def results_of(tasks, n, seed=0, images=None):
    """n answered samples a task; the model is right two times out of three."""
    random = np.random.default_rng(seed)
    rows = []
    for task in tasks:
        labels = TASKS[task].labels
        for i in range(n):
            truth = random.choice(labels)
            said = truth if random.random() < 2 / 3 else random.choice(labels)
            text = f"<answer>{said}</answer><confidence>{random.choice(STATED)}</confidence>"
            image = f"{task}/{i}.jpg" if images is None else images(task, i)
            rows.append({"task": task, "ground_truth": truth, "candidates": list(labels), "image": image,
                         "response": text, "sample_id": f"{task}-{i}"})  # fmt: skip
    return rows


def table_of(*args, **options):
    return protocols.prediction_table(results_of(*args, **options))


def cells_of(table):
    return Cells.of(table[["task", "truth", "label", "confidence", "well_formed"]], table["image"])


def test_every_task_keeps_its_size_in_every_resample():
    cells = cells_of(table_of(["FI-2", "EmoSet-8"], 70))
    (weights,) = cells.resamples(50)
    for task in ("FI-2", "EmoSet-8"):
        assert (weights[:, cells.columns["task"] == task].sum(axis=1) == 70).all()


def test_rows_of_one_image_are_drawn_together():
    table = table_of(["FI-2", "FI-8"], 40, images=lambda task, i: f"fi/{i}.jpg")
    cells = cells_of(table)
    (weights,) = cells.resamples(20)
    by_image = pd.DataFrame(weights.T).groupby(cells.unit)
    assert (by_image.nunique() == 1).all().all()
    assert weights.sum(axis=1).tolist() == [80] * 20


def test_equal_rows_are_one_cell_and_the_figures_do_not_change():
    table = table_of(["FI-2"], 300)
    cells = cells_of(table)
    assert len(cells.unit) < 30
    assert cells.weights.sum() == 300
    truth, label = table["truth"], table["label"]
    row = {row.name: row for row in estimate(table)}["FI-2"]
    assert row.figures["accuracy"] == pytest.approx((truth == label).mean())


def test_drawing_cells_spreads_a_figure_as_drawing_rows_does():
    table = table_of(["EmoSet-8"], 400)
    right = (table["truth"] == table["label"]).to_numpy()
    random = np.random.default_rng(1)
    by_rows = right[random.integers(0, 400, (4000, 400))].mean(axis=1)
    cells = cells_of(table)
    (weights,) = cells.resamples(4000)
    cell_right = (cells.columns["truth"] == cells.columns["label"]).to_numpy(dtype=float)
    assert np.std(weights @ cell_right / 400) == pytest.approx(np.std(by_rows), rel=0.06)


def test_shared_images_widen_the_interval_of_a_group():
    """Two answers to the same image, always right or wrong together, are less than two samples."""
    rows = results_of(["FI-2"], 200)
    twins = [{**row, "task": "WebEmo-2"} for row in rows]
    together = {row.name: row for row in estimate(protocols.prediction_table(rows + twins), 500)}["ID VSA"]
    apart_rows = [{**row, "image": f"other/{i}"} for i, row in enumerate(twins)]
    apart = {row.name: row for row in estimate(protocols.prediction_table(rows + apart_rows), 500)}["ID VSA"]

    def width(row):
        return row.intervals["accuracy"][1] - row.intervals["accuracy"][0]

    assert width(together) > 1.2 * width(apart)


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others():
    table = table_of(["FI-2"], 100)
    first, again, other = (estimate(table, 100, seed)[0].intervals for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_every_figure_of_every_row_has_an_interval_that_holds_it():
    for row in estimate(table_of(list(TASKS), 30), 200):
        missing = set(row.figures) - set(row.intervals) - {"ece_if_calibrated"}
        assert not missing, row.name
        for figure, (low, high) in row.intervals.items():
            assert low <= row.figures[figure] <= high, (row.name, figure)


def test_a_group_without_samples_and_a_run_without_confidences_have_what_is_defined():
    rows = [{**row, "response": "<answer>positive</answer>"} for row in results_of(["FI-2"], 10)]
    by_name = {row.name: row for row in estimate(protocols.prediction_table(rows), 50)}
    assert by_name["OOD VER"].n_samples == 0
    assert by_name["OOD VER"].figures == {"distinct_confidences": 0.0}
    assert by_name["FI-2"].figures["confidence_rate"] == 0.0
    assert "ece" not in by_name["FI-2"].figures
    assert estimate(protocols.prediction_table([]), 50)[-1].n_samples == 0


COVERED = ("accuracy", "brier", "roc_auc", "ece", "smooth_ece")


@pytest.fixture(scope="module")
def held():
    """figure → how many of 150 intervals hold the true value.

    150 data sets of 1,000 answers from a known, overconfident model; 95 % intervals from 300 resamples.
    """
    from inference.confidence_metrics import Tally, accuracy, all_figures

    value = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
    share, right = np.array([0.1, 0.2, 0.3, 0.3, 0.1]), value - 0.06

    def figures(weights):
        tally = Tally(value, weights[..., :5] + weights[..., 5:], weights[..., :5])
        return all_figures(tally) | {"accuracy": accuracy(tally)}

    random = np.random.default_rng(5)
    chances = np.concatenate([share * right, share * (1 - right)])
    truth = figures(chances * 1e9)
    counts = dict.fromkeys(COVERED, 0)
    for _ in range(150):
        seen = random.multinomial(1000, chances)
        observed = figures(seen.astype(float))
        resampled = figures(random.multinomial(1000, seen / 1000, size=300).astype(float))
        for figure in COVERED:
            low, high = figure_interval(figure, float(observed[figure]), resampled[figure])
            counts[figure] += low <= truth[figure] <= high
    return counts


@pytest.mark.parametrize("figure", COVERED)
def test_intervals_hold_the_true_value_about_as_often_as_they_say(held, figure):
    assert 0.88 <= held[figure] / 150 <= 0.99


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
