"""How well a confidence tells right answers from wrong ones: ranking, and prediction of the most confident answers.

    roc_auc(Tally.of([0.9, 0.9, 0.6], [1, 1, 0]))

Each formula takes a ``calibration.Tally``, of one data set or of many resamples: results have the shape ``(...)``
of its leading axes; NaN where a metric is not defined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma

from inference.metrics.calibration import Tally, ratio


def roc_auc(tally: Tally) -> np.ndarray:
    """Probability that a right answer has more confidence than a wrong one, ties half (Hanley & McNeil, 1982)."""
    wrong = tally.count - tally.correct
    below = np.cumsum(wrong, axis=-1) - wrong / 2
    return ratio((tally.correct * below).sum(axis=-1), tally.n_correct * (tally.n - tally.n_correct))


def average_precision(tally: Tally) -> np.ndarray:
    """AUPRC, right answers as positives: Σ (recallᵢ − recallᵢ₋₁) × precisionᵢ, most confident first."""
    kept, right = tally.from_the_top
    precision = ratio(right, kept, 0.0)
    return ratio((tally.correct[..., ::-1] * precision).sum(axis=-1), tally.n_correct)


def average_precision_of_errors(tally: Tally) -> np.ndarray:
    """AUPRC, wrong answers as positives, least confident first (Hendrycks & Gimpel, 2017: AUPR-Error)."""
    reverse = slice(None, None, -1)
    wrong = tally.count - tally.correct
    return average_precision(Tally(1 - tally.value[reverse], tally.count[..., reverse], wrong[..., reverse]))


def _harmonic(n: np.ndarray) -> np.ndarray:
    """1 + 1/2 + … + 1/n, by digamma also between whole numbers."""
    most = int(n.max(initial=0.0))
    whole = np.rint(n).astype(int)
    if most < n.size and (whole == n).all():  # looked up: digamma would be most of the time of a bootstrap
        return (digamma(np.arange(most + 1) + 1.0) + np.euler_gamma)[whole]
    return digamma(n + 1) + np.euler_gamma


def area_under_risk_coverage(tally: Tally) -> np.ndarray:
    """AURC: mean error rate of the k most confident answers over k = 1 … n (Geifman & El-Yaniv, 2017).

    Answers of equal confidence have no order: this is the mean over all orders of them, in closed
    form (inside a tie the expected number of errors grows linearly with k).
    """
    kept, right = tally.from_the_top
    count, errors = tally.count[..., ::-1], (tally.count - tally.correct)[..., ::-1]
    before = kept - count
    rate = ratio(errors, count, 0.0)
    offset = (before - (right - tally.correct[..., ::-1])) - before * rate
    return ratio((count * rate + offset * (_harmonic(kept) - _harmonic(before))).sum(axis=-1), tally.n)


def least_area_under_risk_coverage(tally: Tally) -> np.ndarray:
    """AURC of a confidence which ranks every right answer first."""
    n, right = tally.n, tally.n_correct
    return ratio((n - right) - right * (_harmonic(n) - _harmonic(right)), n)


def excess_area_under_risk_coverage(tally: Tally) -> np.ndarray:
    """E-AURC: AURC minus that of a confidence which ranks every right answer first (Geifman et al., 2019)."""
    return area_under_risk_coverage(tally) - least_area_under_risk_coverage(tally)


def accuracy_at_coverage(tally: Tally, coverage: float) -> np.ndarray:
    """Accuracy of the most confident ``coverage`` of the answers (El-Yaniv & Wiener, 2010: one minus selective risk).

    A tie that is cut counts in proportion.
    """
    kept, right = tally.from_the_top
    wanted = coverage * tally.n[..., None]
    cut = np.minimum((kept < wanted - 1e-9).sum(axis=-1, keepdims=True), kept.shape[-1] - 1)
    at = lambda array: np.take_along_axis(array, cut, axis=-1)  # noqa: E731
    count, correct = tally.count[..., ::-1], tally.correct[..., ::-1]
    missing = ratio(at(kept) - wanted, at(count))
    return ratio(at(right) - np.nan_to_num(missing) * at(correct), wanted)[..., 0]


def coverage_at_risk(tally: Tally, risk: float) -> np.ndarray:
    """Largest share of answers that a confidence threshold can keep with an error rate of at most ``risk``.

    The coverage at a target risk of Geifman & El-Yaniv (2017), without their bound for unseen data.
    """
    kept, right = tally.from_the_top
    allowed = (kept > 0) & (kept - right <= risk * kept + 1e-9)
    return ratio(np.where(allowed, kept, 0.0).max(axis=-1, initial=0.0), tally.n)


def risk_coverage_curve(confidence: ArrayLike, correctness: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Error rate of the answers kept when the k most confident are kept (El-Yaniv and Wiener, 2010).

    Answers of equal confidence come in together, as nothing tells which is first: the curve has
    one point for each distinct confidence. Answers without one (NaN) come last, all together.

    Args:
        confidence: (n,) any numbers, more is surer.
        correctness: (n,) of 0 and 1.

    Returns:
        coverage (share of the n answers kept, ascending, ends at 1) and risk, one value per point.
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
