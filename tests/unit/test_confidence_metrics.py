"""Confidence metrics against scikit-learn, relplot and the definitions, spelled out slowly."""

import itertools

import numpy as np
import pandas as pd
import pytest
import relplot
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from inference.metrics import calibration as cm
from inference.metrics import ranking
from inference.metrics.calibration import Tally
from inference.metrics.corrected import confidence_metrics, estimate
from tests.helpers.results import calibrated_sample as sample

# Stated confidences are few and tied; probabilities of tokens are many and not.
values = st.sampled_from([0.0, 0.05, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]) | st.floats(0, 1)
scored = st.lists(st.tuples(values, st.integers(0, 1)), min_size=1, max_size=60)


def arrays(rows):
    confidence, correctness = zip(*rows, strict=True)
    return np.array(confidence), np.array(correctness)


@given(scored)
def test_scores_and_rankings_agree_with_scikit_learn(rows):
    confidence, correctness = arrays(rows)
    tally = Tally.of(confidence, correctness)
    assert cm.brier_score(tally) == pytest.approx(brier_score_loss(correctness, confidence, pos_label=1))
    clipped = np.clip(confidence, cm.LEAST_DOUBT, 1 - cm.LEAST_DOUBT)
    assert cm.log_loss(tally) == pytest.approx(log_loss(correctness, clipped, labels=[0, 1]))
    if correctness.any():
        assert ranking.average_precision(tally) == pytest.approx(average_precision_score(correctness, confidence))
    if not correctness.all():
        expected = average_precision_score(1 - correctness, 1 - confidence)
        # 1 − c may tie confidences that differ in the last bit; such rows are rare and skipped.
        if len(np.unique(1 - confidence)) == len(np.unique(confidence)):
            assert ranking.average_precision_of_errors(tally) == pytest.approx(expected)
    if 0 < correctness.sum() < len(correctness):
        assert ranking.roc_auc(tally) == pytest.approx(roc_auc_score(correctness, confidence))
    else:
        assert np.isnan(ranking.roc_auc(tally))


@pytest.mark.parametrize("bias", [0.3, 0.1, 0.03, 0.0])
@pytest.mark.parametrize("stated", [None, [0.6, 0.7, 0.8, 0.9, 0.95]])
def test_smooth_ece_agrees_with_its_authors_package(bias, stated):
    # relplot halves the weight of confidences of exactly 0 and 1 (its reflection leaves the edge out).
    confidence, correctness = sample(1500, bias, seed=3, stated=stated)
    expected = relplot.smECE(confidence, correctness.astype(float))
    assert cm.smooth_calibration_error(Tally.of(confidence, correctness)) == pytest.approx(expected, abs=0.002)


def test_smooth_ece_of_very_many_values_is_that_of_each_value_alone(monkeypatch):
    expected = cm.smooth_calibration_error(Tally.of(*sample(5000, 0.05)))
    monkeypatch.setattr(cm, "GRID", 1000)
    assert cm.smooth_calibration_error(Tally.of(*sample(5000, 0.05))) == pytest.approx(expected, abs=3e-4)


def test_equal_mass_bins_hold_equally_many_answers():
    confidence, correctness = sample(500, 0.15)
    order = np.argsort(confidence)
    gaps = [
        abs(correctness[part].mean() - confidence[part].mean()) * len(part) / 500 for part in np.array_split(order, 10)
    ]
    error = cm.expected_calibration_error(Tally.of(confidence, correctness), equal_mass=True)
    assert error == pytest.approx(sum(gaps))


@given(scored, st.integers(1, 20))
def test_overconfident_and_underconfident_parts_add_up_to_ece(rows, n_bins):
    tally = Tally.of(*arrays(rows))
    parts = cm.overconfidence(tally, n_bins) + cm.underconfidence(tally, n_bins)
    assert parts == pytest.approx(cm.expected_calibration_error(tally, n_bins), abs=1e-12)


@given(scored)
def test_brier_decomposition_adds_up_and_its_terms_have_their_signs(rows):
    tally = Tally.of(*arrays(rows))
    part = cm.brier_decomposition(tally)
    total = part["reliability"] - part["resolution"] + part["uncertainty"] + part["within_bins"]
    assert total == pytest.approx(cm.brier_score(tally))
    assert min(part["reliability"], part["resolution"], part["uncertainty"]) >= 0


def test_without_spread_inside_bins_nothing_remains_of_the_decomposition():
    tally = Tally.of(*sample(400, 0.1, stated=[0.65, 0.75, 0.85, 0.95]))
    assert cm.brier_decomposition(tally)["within_bins"] == pytest.approx(0, abs=1e-12)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0.5, 0.7, 0.9]), st.integers(0, 1)), min_size=1, max_size=6))
def test_aurc_is_the_mean_over_every_order_of_tied_answers(rows):
    def one_order(ordered):
        wrong = np.cumsum([1 - correct for _, correct in ordered])
        return np.mean(wrong / np.arange(1, len(ordered) + 1))

    orders = [p for p in itertools.permutations(rows) if all(a[0] >= b[0] for a, b in itertools.pairwise(p))]
    expected = np.mean([one_order(order) for order in orders])
    tally = Tally.of(*arrays(rows))
    assert ranking.area_under_risk_coverage(tally) == pytest.approx(expected)
    best = one_order(sorted(rows, key=lambda row: -row[1]))
    assert ranking.excess_area_under_risk_coverage(tally) == pytest.approx(expected - best)


@given(scored)
def test_coverage_at_risk_is_what_the_best_threshold_keeps(rows):
    confidence, correctness = arrays(rows)
    kept = [confidence >= threshold for threshold in np.unique(confidence)]
    expected = max([k.mean() for k in kept if 1 - correctness[k].mean() <= 0.1 + 1e-9], default=0.0)
    assert ranking.coverage_at_risk(Tally.of(confidence, correctness), 0.1) == pytest.approx(expected)


def test_accuracy_at_coverage_without_ties_is_that_of_the_first_answers():
    confidence, correctness = sample(200, 0.1)
    first = np.argsort(-confidence)[:160]
    value = ranking.accuracy_at_coverage(Tally.of(confidence, correctness), 0.8)
    assert value == pytest.approx(correctness[first].mean())


def test_a_tie_that_is_cut_by_the_coverage_counts_in_proportion():
    # 2 answers at 0.9, both right; 8 at 0.5, half of them right: 80 % keeps 2 + 6.
    tally = Tally.of([0.9] * 2 + [0.5] * 8, [1, 1, *[1, 0] * 4])
    assert ranking.accuracy_at_coverage(tally, 0.8) == pytest.approx((2 + 3) / 8)


def test_collapse_shows_in_spread_distinct_values_and_the_top_two():
    tally = Tally.of([0.9] * 6 + [0.8] * 3 + [0.7], [1] * 10)
    assert cm.distinct_confidences(tally) == 3
    assert cm.top_two_share(tally) == pytest.approx(0.9)
    assert cm.confidence_spread(tally) == pytest.approx(np.std([0.9] * 6 + [0.8] * 3 + [0.7]))
    assert cm.confidence_gap(tally) == pytest.approx(0.85 - 1.0)


def test_ece_by_chance_alone_is_what_exact_confidences_get():
    stated = np.array([0.6, 0.7, 0.8, 0.9])
    errors = []
    for seed in range(200):
        errors.append(float(cm.expected_calibration_error(Tally.of(*sample(400, 0.0, seed, stated)))))
    expected = cm.ece_if_calibrated(Tally.of(*sample(400, 0.3, 0, stated)))
    assert expected == pytest.approx(np.mean(errors), rel=0.1)
    assert expected > 0.01


@settings(max_examples=30)
@given(st.lists(scored, min_size=2, max_size=4))
def test_many_resamples_at_once_give_what_each_gives_alone(resamples):
    grid = np.unique([c for rows in resamples for c, _ in rows])

    def on_grid(rows):
        confidence, correctness = arrays(rows)
        index = np.searchsorted(grid, confidence)
        return np.bincount(index, minlength=len(grid)), np.bincount(index, correctness, len(grid))

    counts, correct = (np.array(column, dtype=float) for column in zip(*map(on_grid, resamples), strict=True))
    together = confidence_metrics(Tally(grid, counts, correct))
    for i, rows in enumerate(resamples):
        for name, value in confidence_metrics(Tally.of(*arrays(rows))).items():
            # Smooth ECE is found by bisection: on the edge of two steps, the last bits of a sum decide.
            tolerance = 2**-12 if name == "smooth_ece" else 1e-9
            assert together[name][i] == pytest.approx(float(value), abs=tolerance, nan_ok=True), name


def test_all_metrics_of_distinct_confidences_agree_with_scikit_learn_however_close_they_are():
    """Probabilities of tokens near 1: a thousandth holds hundreds of them."""
    random = np.random.default_rng(0)
    confidence = 1 - random.random(500) * 1e-3
    right = random.random(500) < 0.5 + 400 * (confidence - 0.9995)
    table = pd.DataFrame({"task": "FI-2", "truth": "positive", "label": np.where(right, "positive", "negative"),
                          "confidence": confidence, "well_formed": True, "image": None, "votes": None,
                          "response_distribution": None, "candidate_distribution": None})  # fmt: skip
    metrics = estimate(table)[-1].metrics
    assert metrics["distinct_confidences"] == 500
    assert metrics["roc_auc"] == pytest.approx(roc_auc_score(right, confidence))
    assert metrics["auprc"] == pytest.approx(average_precision_score(right, confidence))
    errors = np.cumsum(~right[np.argsort(-confidence)]) / np.arange(1, 501)
    assert metrics["aurc"] == pytest.approx(errors.mean())
    allowed = np.flatnonzero(errors <= 0.1) + 1
    assert metrics["coverage_at_10_risk"] == pytest.approx(allowed.max(initial=0) / 500)
    swapped = table.assign(confidence=[0.9999, 0.9996] * 250, label=["positive", "negative"] * 250)
    assert estimate(swapped)[-1].metrics["roc_auc"] == 1.0


def test_harmonic_numbers_of_a_table_and_of_the_digamma_function_agree():
    n = np.arange(6.0)
    expected = [0, 1, 1.5, 11 / 6, 25 / 12, 137 / 60]
    assert ranking._harmonic(n) == pytest.approx(expected)
    assert ranking._harmonic(n + 1e-9) == pytest.approx(expected, abs=1e-8)
