"""Formulas on arrays: accuracy, F1, calibration error, Brier score, ROC AUC, threshold analysis.

Every function takes one value a sample and returns a fraction (not a percentage); None stands
for "not defined" (no sample, one class only). scikit-learn has F1 and the area under the curve.

    from inference.metrics import expected_calibration_error
    expected_calibration_error([0.9, 0.8], [1, 0])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score, roc_auc_score

from inference import confidence_metrics
from inference.confidence_metrics import Tally

THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))


def accuracy(truth: Sequence[str], predicted: Sequence[str]) -> float | None:
    """Share of equal pairs."""
    truth, predicted = np.asarray(truth, dtype=object), np.asarray(predicted, dtype=object)
    return float(np.mean(truth == predicted)) if len(truth) else None


def weighted_f1(truth: Sequence[str], predicted: Sequence[str]) -> float | None:
    """F1 of each class of the truth, averaged with the number of true samples as weights.

    ``unknown`` counts as a predicted class like any other (it has no true sample, so its
    weight is zero, but it takes recall from the true class).
    """
    if not len(truth):
        return None
    # scikit-learn sorts and compares labels many times over: integers are several times faster.
    codes, _ = pd.factorize(np.concatenate([np.asarray(truth, dtype=object), np.asarray(predicted, dtype=object)]))
    half = len(codes) // 2
    return float(f1_score(codes[:half], codes[half:], average="weighted", zero_division=0))


def calibration_bins(
    confidence: ArrayLike, correctness: ArrayLike, n_bins: int = 10, close_last: bool = True
) -> dict[str, np.ndarray]:
    """Equal-width bins [lo, hi) over [0, 1], edges ``linspace(0, 1, n_bins + 1)``.

    Args:
        confidence: (n,) in [0, 1].
        correctness: (n,) of 0 and 1.
        close_last: whether the last bin holds 1.0. The published tool leaves it out.

    Returns:
        arrays of length ``n_bins``: ``count``, ``confidence`` and ``correctness`` (bin means;
        NaN in an empty bin), ``low`` and ``high`` (edges).
    """
    confidence = np.asarray(confidence, dtype=float)
    correctness = np.asarray(correctness, dtype=float)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    bin_index = confidence_metrics.bin_of(confidence, n_bins, close_last)
    inside = bin_index >= 0
    count = np.bincount(bin_index[inside], minlength=n_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bin_index[inside], confidence[inside], n_bins) / count
        mean_correctness = np.bincount(bin_index[inside], correctness[inside], n_bins) / count
    return {
        "count": count,
        "confidence": mean_confidence,
        "correctness": mean_correctness,
        "low": edges[:-1],
        "high": edges[1:],
    }


def expected_calibration_error(
    confidence: ArrayLike, correctness: ArrayLike, n_bins: int = 10, close_last: bool = True
) -> float | None:
    """ECE as ``confidence_metrics`` defines it; ``close_last=False`` is the published way."""
    tally = Tally.of(confidence, correctness)
    error = confidence_metrics.expected_calibration_error(tally, n_bins, close_last=close_last)
    return float(error) if tally.n else None


def brier_score(confidence: ArrayLike, correctness: ArrayLike) -> float | None:
    """Mean squared difference of confidence and correctness (Brier, 1950, for one event)."""
    tally = Tally.of(confidence, correctness)
    return float(confidence_metrics.brier_score(tally)) if tally.n else None


def confidence_roc_auc(confidence: ArrayLike, correctness: ArrayLike) -> float | None:
    """Area under the ROC curve of correctness by confidence; None when only one class is there."""
    correctness = np.asarray(correctness, dtype=int)
    if len(np.unique(correctness)) < 2:
        return None
    return float(roc_auc_score(correctness, np.asarray(confidence, dtype=float)))


def threshold_analysis(
    truth: Sequence[str], predicted: Sequence[str], confidence: ArrayLike, n_total: int
) -> list[dict[str, float]]:
    """Accuracy, F1 and coverage when only answers with confidence ≥ t are given, t = 0.1 … 0.9.

    Args:
        truth, predicted, confidence: samples that have a confidence.
        n_total: all samples, with a confidence or without: what coverage is a share of.
    """
    truth, predicted = np.asarray(truth, dtype=object), np.asarray(predicted, dtype=object)
    confidence = np.asarray(confidence, dtype=float)
    rows = []
    for threshold in THRESHOLDS:
        kept = confidence >= threshold
        rows.append(
            {
                "threshold": threshold,
                "accuracy": accuracy(truth[kept], predicted[kept]) or 0.0,
                "f1": weighted_f1(truth[kept], predicted[kept]) or 0.0,
                "coverage": float(kept.sum()) / n_total if n_total else 0.0,
            }
        )
    return rows
