"""Formulas against scikit-learn, hand-worked cases and an independent, slower implementation."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, roc_auc_score

from inference.metrics import calibration, published, ranking
from inference.metrics.calibration import Tally, calibration_bins, wilson_interval
from inference.metrics.classification import accuracy, weighted_f1
from inference.metrics.prediction_table import prediction_table
from inference.metrics.ranking import best_risk, risk_coverage_curve
from tests.helpers.results import HALF_WAY, a_result, answer, score

LABELS = ["awe", "fear", "joy"]
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "unknown"])), min_size=1, max_size=60)
# Edges on purpose: 0, 1 and every multiple of 0.1 come up often.
confidences = st.sampled_from([i / 10 for i in range(11)]) | st.floats(0, 1)
scored = st.lists(st.tuples(confidences, st.integers(0, 1)), min_size=1, max_size=60)


def ece(confidence, correctness, n_bins=10):
    return score(calibration.expected_calibration_error, confidence, correctness, n_bins)


def as_published(formula, confidence, correctness):
    return formula(np.array(confidence, dtype=float), np.array(correctness, dtype=float))


def ece_by_hand(confidence, correctness, edges, last_closed):
    """The definition, bin by bin, as the field words it."""
    total = 0.0
    for low, high in itertools.pairwise(edges):
        inside = [
            (c, y)
            for c, y in zip(confidence, correctness, strict=True)
            if low <= c and (c < high or (last_closed and high == c == 1))
        ]
        if inside:
            mean_c = sum(float(c) for c, _ in inside) / len(inside)
            mean_y = sum(y for _, y in inside) / len(inside)
            total += abs(mean_y - mean_c) * len(inside) / len(confidence)
    return total


@given(pairs)
def test_accuracy_and_f1_equal_scikit_learns_to_the_last_bit(rows):
    truth, predicted = zip(*rows, strict=True)
    assert accuracy(truth, predicted) == accuracy_score(truth, predicted)
    assert weighted_f1(truth, predicted) == [f1_score(truth, predicted, average="weighted", zero_division=0)]


@given(scored)
def test_published_ece_agrees_with_its_definition(rows):
    confidence, correctness = zip(*rows, strict=True)
    expected = ece_by_hand(confidence, correctness, np.linspace(0, 1, 11), last_closed=False)
    assert as_published(published.calibration_error, confidence, correctness) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1)), min_size=1, max_size=60), st.integers(1, 25))
def test_ece_has_the_bins_of_exact_arithmetic(rows, n_bins):
    """Confidences written with three decimals, binned as fractions are."""
    thousandths, correctness = zip(*rows, strict=True)
    edges = [Fraction(k, n_bins) for k in range(n_bins + 1)]
    expected = ece_by_hand([Fraction(c, 1000) for c in thousandths], correctness, edges, last_closed=True)
    stated = [float(f"{c / 1000:.3f}") for c in thousandths]
    assert ece(stated, correctness, n_bins) == pytest.approx(expected)


@pytest.mark.parametrize(("right", "wrong"), [(0.7, 0.75), (0.8, 0.85), (0.6, 0.65), (0.3, 0.35)])
def test_confidences_of_one_decimal_bin_are_in_one_bin(right, wrong):
    """One bin with accuracy 1/2; two bins would add up the two gaps."""
    expected = abs(0.5 - (right + wrong) / 2)
    assert ece([right, wrong], [1, 0]) == pytest.approx(expected)
    tally = Tally.of([right, wrong], [1, 0])
    assert calibration.maximum_calibration_error(tally) == pytest.approx(expected)
    assert calibration.brier_decomposition(tally)["reliability"] == pytest.approx(expected**2)
    bins = calibration_bins([right, wrong], [1, 0])
    assert bins["count"].max() == 2
    assert bins["low"][bins["count"].argmax()] == math.floor(10 * wrong) / 10


def test_a_confidence_that_was_computed_is_in_the_bin_of_its_decimal_number():
    for n in range(1, 41):
        for k in range(n + 1):
            values = [k / n, min(1.0, sum([1 / n] * k)), math.exp(math.log(k / n)) if k else 0.0]
            assert set(calibration.bin_of(np.array(values))) == {min(9, 10 * k // n)}, (k, n)
    assert calibration.bin_of(np.array([0.1 + 0.2, 0.2999999, 1.0, -0.1, 1.1])).tolist() == [3, 2, 9, -1, -1]


@given(scored)
def test_brier_and_roc_auc_agree_with_scikit_learn(rows):
    confidence, correctness = zip(*rows, strict=True)
    expected = brier_score_loss(correctness, confidence, pos_label=1)
    assert score(calibration.brier_score, confidence, correctness) == pytest.approx(expected)
    expected = roc_auc_score(correctness, confidence) if len(set(correctness)) == 2 else math.nan
    assert score(ranking.roc_auc, confidence, correctness) == pytest.approx(expected, nan_ok=True)


@given(scored)
def test_every_score_lies_between_0_and_1(rows):
    for metric in (calibration.expected_calibration_error, calibration.brier_score, ranking.roc_auc):
        value = score(metric, *zip(*rows, strict=True))
        assert math.isnan(value) or 0 <= value <= 1


def test_f1_counts_unknown_as_a_predicted_class():
    # awe: precision 1, recall 1/2, F1 2/3; fear: 1. Weights 2/3 and 1/3.
    value = weighted_f1(["awe", "awe", "fear"], ["awe", "unknown", "fear"])
    assert value == pytest.approx([2 / 3 * 2 / 3 + 1 / 3])


def test_ece_by_hand():
    # bin [0.8, 0.9): accuracy 1/2, confidence 0.85, share 2/3; bin [0.2, 0.3): accuracy 0, confidence 0.2
    value = ece([0.85, 0.85, 0.2], [1, 0, 0])
    assert value == pytest.approx(2 / 3 * 0.35 + 1 / 3 * 0.2)


def test_published_ece_counts_confidence_1_in_the_denominator_only():
    assert as_published(published.calibration_error, [1.0, 0.5], [0, 0]) == pytest.approx(0.25)
    assert ece([1.0, 0.5], [0, 0]) == pytest.approx(0.75)


def test_the_brier_score_is_the_mean_in_the_order_of_the_file():
    """Half-way between two printed numbers the order of a sum decides: exactly, this mean is 0.32675."""
    confidence, correctness = HALF_WAY
    assert sum((Fraction(str(c)) - y) ** 2 for c, y in zip(confidence, correctness, strict=True)) / len(
        confidence
    ) == Fraction("0.32675")
    brier = as_published(published.brier_score, confidence, correctness)
    assert brier == brier_score_loss(correctness, confidence, pos_label=1)
    assert (repr(100 * brier), f"{100 * brier:.2f}") == ("32.675000000000004", "32.68")
    assert f"{100 * as_published(published.brier_score, confidence[::-1], correctness[::-1]):.2f}" == "32.67"


def test_an_edge_belongs_to_the_bin_that_it_opens():
    counts = calibration_bins([0.0, 0.1, 0.5, 0.9], [1, 1, 1, 1])["count"].tolist()
    assert counts == [1, 1, 0, 0, 0, 1, 0, 0, 0, 1]


def test_published_edges_are_those_of_linspace_to_the_last_bit():
    edges = np.linspace(0, 1, 11)
    assert edges[3] > 0.3  # 0.30000000000000004: there, a confidence of 0.3 belongs to the bin below
    assert calibration.bin_of([0.3], published=True) == [2]
    assert calibration.bin_of([0.3]) == [3]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_certain_and_right_or_wrong(value):
    right = int(value)
    assert ece([value] * 3, [right] * 3) == 0
    assert ece([value] * 3, [1 - right] * 3) == 1
    assert score(calibration.brier_score, [value] * 3, [1 - right] * 3) == 1


def test_one_class_has_no_roc_auc():
    assert math.isnan(score(ranking.roc_auc, [0.1, 0.9], [1, 1]))


def test_nothing_is_not_a_number():
    assert math.isnan(accuracy([], []))
    assert np.isnan(weighted_f1([], [])).tolist() == [True]
    for metric in (calibration.expected_calibration_error, calibration.brier_score, calibration.log_loss):
        assert math.isnan(score(metric, [], []))


def test_thresholds_keep_what_is_at_or_above():
    said = [("awe", 0.9), ("fear", 0.5), ("fear", 0.2), ("fear", None)]
    truths = ["awe", "awe", "fear", "awe"]
    results = [a_result(truth=truth, response=answer(*given)) for truth, given in zip(truths, said, strict=True)]
    rows = published.threshold_analysis(prediction_table(results))
    by_threshold = {row["threshold"]: row for row in rows["ID VER"]}
    assert by_threshold[0.2]["coverage"] == 0.75
    assert by_threshold[0.5] == {"threshold": 0.5, "accuracy": 0.5, "f1": pytest.approx(2 / 3), "coverage": 0.5}
    assert by_threshold[0.9]["accuracy"] == 1.0
    assert rows["OOD VER"][0] == {"threshold": 0.1, "accuracy": None, "f1": None, "coverage": None}
    rows = published.threshold_analysis(prediction_table([a_result(response=answer("awe"))] * 3))
    assert rows["ID VER"][0] == {"threshold": 0.1, "accuracy": 0, "f1": 0, "coverage": 0}


def test_empty_bins_are_nan_not_zero():
    bins = calibration_bins([0.55], [1])
    assert math.isnan(bins["confidence"][0])
    assert bins["correctness"][5] == 1


@given(scored)
def test_log_loss_is_the_mean_negative_logarithm_of_the_clipped_confidence(rows):
    confidence, correctness = zip(*rows, strict=True)
    clipped = [min(max(c, 0.005), 0.995) for c in confidence]
    by_hand = [-math.log(c if y else 1 - c) for c, y in zip(clipped, correctness, strict=True)]
    assert score(calibration.log_loss, confidence, correctness) == pytest.approx(sum(by_hand) / len(by_hand))


def test_log_loss_of_one_class_is_a_number():
    assert score(calibration.log_loss, [1.0], [0]) == pytest.approx(-math.log(0.005))


def test_wilson_interval_by_its_formula():
    """(p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n), z = 1.96 (Wilson, 1927)."""
    z, n, p = 1.959963984540054, 40, 0.25
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = wilson_interval([10, 0, 0], [40, 0, 5])
    assert (low[0], high[0]) == pytest.approx(((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)))
    assert math.isnan(low[1]) and math.isnan(high[1])
    assert low[2] == 0 and 0 < high[2] < 1


def test_equal_confidences_are_one_step_of_the_risk_coverage_curve():
    coverage, risk = risk_coverage_curve([0.9, 0.9, 0.5, 0.5, 0.5], [1, 0, 1, 0, 0])
    assert coverage.tolist() == pytest.approx([0.4, 1.0])
    assert risk.tolist() == pytest.approx([0.5, 0.6])


def test_answers_without_a_confidence_are_kept_last():
    coverage, risk = risk_coverage_curve([math.nan, 0.0, math.nan], [0, 1, 0])
    assert coverage.tolist() == pytest.approx([1 / 3, 1.0])
    assert risk.tolist() == pytest.approx([0.0, 2 / 3])
    assert [len(part) for part in risk_coverage_curve([], [])] == [0, 0]


@given(scored)
def test_the_risk_coverage_curve_ends_at_the_error_rate_and_is_never_below_the_best_possible(rows):
    confidence, correctness = zip(*rows, strict=True)
    coverage, risk = risk_coverage_curve(confidence, correctness)
    share_right = sum(correctness) / len(correctness)
    assert (coverage[-1], risk[-1]) == (1.0, pytest.approx(1 - share_right))
    assert np.all(np.diff(coverage) > 0)
    assert np.all(risk >= best_risk(share_right, coverage) - 1e-12)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_a_confidence_that_knows_the_truth_has_the_best_possible_risk(correctness):
    coverage, risk = risk_coverage_curve(correctness, correctness)
    assert risk == pytest.approx(best_risk(sum(correctness) / len(correctness), coverage))
