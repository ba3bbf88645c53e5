"""Formulas on arrays: accuracy, F1, calibration error, Brier score, log loss, ROC AUC, risk and coverage.

Every function takes one value a sample and returns a fraction (not a percentage; log loss is in
nats); None stands for "not defined" (no sample, one class only). scikit-learn and SciPy have the F1 score, the area
under the ROC curve and the Wilson interval; ``confidence_metrics`` has what is also resampled.

    from inference.metrics.scores import expected_calibration_error
    expected_calibration_error([0.9, 0.8], [1, 0])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from sklearn.metrics import f1_score, roc_auc_score

from inference.metrics import calibration
from inference.metrics.calibration import Tally

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
    codes, labels = pd.factorize(np.concatenate([np.asarray(truth, dtype=object), np.asarray(predicted, dtype=object)]))
    half = len(codes) // 2
    # scikit-learn sorts and compares labels many times over: each pair goes there once, its count as weight.
    counts = np.bincount(codes[:half] * len(labels) + codes[half:])
    (pairs,) = counts.nonzero()
    weights = counts[pairs]
    return float(f1_score(*divmod(pairs, len(labels)), average="weighted", sample_weight=weights, zero_division=0))


def calibration_bins(
    confidence: ArrayLike, correctness: ArrayLike, n_bins: int = 10, published: bool = False
) -> dict[str, np.ndarray]:
    """Equal-width bins [k / n_bins, (k + 1) / n_bins) over [0, 1], the last one closed (``calibration.bin_of``).

    Args:
        confidence: (n,) in [0, 1].
        correctness: (n,) of 0 and 1.
        published: the published tool's bins instead, edges ``linspace(0, 1, n_bins + 1)``, none for 1.0.

    Returns:
        arrays of length ``n_bins``: ``count``, ``confidence`` and ``correctness`` (bin means;
        NaN in an empty bin), ``low`` and ``high`` (edges).
    """
    confidence = np.asarray(confidence, dtype=float)
    correctness = np.asarray(correctness, dtype=float)
    edges = np.linspace(0.0, 1.0, n_bins + 1) if published else np.arange(n_bins + 1) / n_bins
    bin_index = calibration.bin_of(confidence, n_bins, published)
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


def expected_calibration_error(confidence: ArrayLike, correctness: ArrayLike, n_bins: int = 10) -> float | None:
    """ECE as ``confidence_metrics`` defines it."""
    tally = Tally.of(confidence, correctness)
    return float(calibration.expected_calibration_error(tally, n_bins)) if tally.n else None


def published_calibration_error(confidence: ArrayLike, correctness: ArrayLike, n_bins: int = 10) -> float | None:
    """ECE over the published tool's bins, summed in its order (that of the samples): half-way cases round alike."""
    confidence, correctness = np.asarray(confidence, dtype=float), np.asarray(correctness, dtype=float)
    if not len(confidence):
        return None
    index = calibration.bin_of(confidence, n_bins, published=True)
    error = 0.0
    for inside in (index == k for k in range(n_bins)):
        if inside.any():
            error += abs(correctness[inside].mean() - confidence[inside].mean()) * inside.mean()
    return float(error)


def brier_score(confidence: ArrayLike, correctness: ArrayLike) -> float | None:
    """Mean squared difference of confidence and correctness (Brier, 1950, for one event).

    NumPy's mean over the samples in the order given, as in the published tool: another order may
    round a half-way case otherwise.
    """
    difference = np.asarray(confidence, dtype=float) - np.asarray(correctness, dtype=float)
    return float(np.mean(difference**2)) if len(difference) else None


def log_loss(confidence: ArrayLike, correctness: ArrayLike) -> float | None:
    """Mean negative logarithm of the probability given to what happened, as ``confidence_metrics`` defines it."""
    tally = Tally.of(confidence, correctness)
    return float(calibration.log_loss(tally)) if tally.n else None


def confidence_roc_auc(confidence: ArrayLike, correctness: ArrayLike) -> float | None:
    """Area under the ROC curve of correctness by confidence; None when only one class is there."""
    correctness = np.asarray(correctness, dtype=int)
    if len(np.unique(correctness)) < 2:
        return None
    return float(roc_auc_score(correctness, np.asarray(confidence, dtype=float)))


def threshold_analysis(
    truth: Sequence[str], predicted: Sequence[str], confidence: ArrayLike, n_total: int
) -> list[dict[str, float | None]]:
    """Accuracy, F1 and coverage when only answers with confidence ≥ t are given, t = 0.1 … 0.9.

    As published, accuracy and F1 are 0 where no answer is left, and all three None without any sample.

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
                "accuracy": (accuracy(truth[kept], predicted[kept]) or 0.0) if n_total else None,
                "f1": (weighted_f1(truth[kept], predicted[kept]) or 0.0) if n_total else None,
                "coverage": float(kept.sum()) / n_total if n_total else None,
            }
        )
    return rows


def wilson_interval(successes: ArrayLike, counts: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a share by Wilson's score method (Wilson, 1927; recommended by Brown, Cai and DasGupta, 2001).

    Args:
        successes, counts: (n,) whole numbers, one pair a share.

    Returns:
        lower and upper ends, (n,) each; NaN where the count is 0.
    """
    ends = np.full((2, len(np.asarray(counts))), np.nan)
    for i, (success, count) in enumerate(zip(successes, counts, strict=True)):
        if count:
            ends[:, i] = binomtest(round(success), int(count)).proportion_ci(level, method="wilson")
    return ends[0], ends[1]


def risk_coverage_curve(confidence: ArrayLike, correctness: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Error rate of the answers kept when the k most confident are kept (El-Yaniv and Wiener, 2010).

    Answers of equal confidence come in together, as nothing tells which is first: the curve has
    one point for each distinct confidence. Answers without one (NaN) come last, all together.

    Args:
        confidence: (n,) any numbers, more is surer.
        correctness: (n,) of 0 and 1.

    Returns:
        coverage (share of the n answers kept, ascending, ends at 1) and risk, one value a point.
    """
    doubt = -np.nan_to_num(np.asarray(confidence, dtype=float), nan=-np.inf, neginf=-np.inf)
    correctness = np.asarray(correctness, dtype=float)
    _, step = np.unique(doubt, return_inverse=True)
    kept = np.cumsum(np.bincount(step))
    errors = np.cumsum(np.bincount(step, 1 - correctness))
    return kept / max(len(doubt), 1), errors / kept


def best_risk(accuracy: float, coverage: ArrayLike) -> np.ndarray:
    """Risk at each coverage > 0 of a confidence that puts every right answer before every wrong one."""
    return np.maximum(0.0, 1 - accuracy / np.asarray(coverage, dtype=float))
