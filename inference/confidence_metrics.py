"""How far a confidence can be trusted: calibration, scores, ranking, selective prediction.

Every formula works on a ``Tally``: how many answers, and how many right ones, there are at each
distinct confidence. A tally may hold many resamples of the data at once (leading axes), so that
a bootstrap costs one call a formula and the figure and its interval come from the same code.
Results are fractions of shape ``(...)``; NaN where a figure is not defined.

    tally = Tally.of([0.9, 0.9, 0.6], [1, 1, 0])
    smooth_calibration_error(tally)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import idct
from scipy.special import digamma

N_BINS = 10
# Stated confidences have two decimals, so 0 and 1 mean "within half a hundredth".
# Beyond that, a wrong answer with a confidence of 1 would make log loss and logit infinite.
LEAST_DOUBT = 0.005
COSINES = 256  # modes of the smoothed residual: kernels down to a width of about 0.004 are resolved


@dataclass(frozen=True)
class Tally:
    """Answers by confidence.

    Attributes:
        value: (v,) the distinct confidences in [0, 1], ascending.
        count: (..., v) answers at each value; weights need not be integers.
        correct: (..., v) right ones among them.
    """

    value: np.ndarray
    count: np.ndarray
    correct: np.ndarray

    @classmethod
    def of(cls, confidence: ArrayLike, correctness: ArrayLike) -> Tally:
        """From one confidence in [0, 1] and one correctness (0 or 1) a sample, each (n,)."""
        value, index = np.unique(np.asarray(confidence, dtype=float), return_inverse=True)
        count = np.bincount(index, minlength=len(value)).astype(float)
        return cls(value, count, np.bincount(index, np.asarray(correctness, dtype=float), len(value)))

    @cached_property
    def n(self) -> np.ndarray:
        return self.count.sum(axis=-1)

    @cached_property
    def n_correct(self) -> np.ndarray:
        return self.correct.sum(axis=-1)

    @cached_property
    def from_the_top(self) -> tuple[np.ndarray, np.ndarray]:
        """(answers, right ones) with at least each confidence, the most confident value first."""
        return np.cumsum(self.count[..., ::-1], axis=-1), np.cumsum(self.correct[..., ::-1], axis=-1)


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """The quotient; NaN where the denominator is zero."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator != 0)


def accuracy(tally: Tally) -> np.ndarray:
    """Share of right answers."""
    return _ratio(tally.n_correct, tally.n)


def mean_confidence(tally: Tally) -> np.ndarray:
    """Mean of the confidences."""
    return _ratio(tally.count @ tally.value, tally.n)


def confidence_spread(tally: Tally) -> np.ndarray:
    """Standard deviation of the confidences. Near zero: the model says the same whatever it sees."""
    variance = _ratio(tally.count @ tally.value**2, tally.n) - mean_confidence(tally) ** 2
    return np.sqrt(np.maximum(variance, 0.0))


def distinct_confidences(tally: Tally) -> np.ndarray:
    """Number of different confidences in use."""
    return (tally.count > 0).sum(axis=-1).astype(float)


def top_two_share(tally: Tally) -> np.ndarray:
    """Share of the answers that state one of the two most frequent confidences; 1 is a collapse."""
    return _ratio(np.sort(tally.count, axis=-1)[..., -2:].sum(axis=-1), tally.n)


def confidence_gap(tally: Tally) -> np.ndarray:
    """Mean confidence minus accuracy: above zero overconfident, below zero underconfident."""
    return mean_confidence(tally) - accuracy(tally)


# --- calibration -----------------------------------------------------------------------------


def bin_of(confidence: np.ndarray, n_bins: int = N_BINS, close_last: bool = True) -> np.ndarray:
    """Index of the equal-width bin [low, high) over [0, 1], edges ``linspace(0, 1, n_bins + 1)``; −1 for none.

    ``close_last`` puts 1.0 into the last bin. The published tool leaves it out.
    """
    # side="right" puts a value on an edge into the bin that the edge opens, as low <= c < high does.
    index = np.searchsorted(np.linspace(0.0, 1.0, n_bins + 1), confidence, side="right") - 1
    if close_last:
        index = np.where(confidence == 1.0, n_bins - 1, index)
    return np.where((index >= 0) & (index < n_bins), index, -1)


def _sums_by_bin(index: np.ndarray, tally: Tally, n_bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(count, sum of confidence, right ones) of each bin, (..., n_bins); ``index`` is (v,) or (..., v)."""
    weights = (tally.count, tally.count * tally.value, tally.correct)
    if index.ndim == 1:
        member = (index[:, None] == np.arange(n_bins)).astype(float)
        return tuple(weight @ member for weight in weights)
    rows = np.arange(index[..., 0].size).reshape(*index.shape[:-1], 1)
    flat, size = (rows * n_bins + index).ravel(), rows.size * n_bins
    shape = (*index.shape[:-1], n_bins)
    return tuple(np.bincount(flat, weight.ravel(), size).reshape(shape) for weight in weights)


def _bins(tally: Tally, n_bins: int, equal_mass: bool, close_last: bool = True):
    if not equal_mass:
        return _sums_by_bin(bin_of(tally.value, n_bins, close_last), tally, n_bins)
    # A confidence goes whole to the bin that holds the middle of its ranks: ties stay together.
    middle = np.cumsum(tally.count, axis=-1) - tally.count / 2
    share = np.nan_to_num(_ratio(middle, tally.n[..., None]))
    return _sums_by_bin(np.minimum((share * n_bins).astype(int), n_bins - 1), tally, n_bins)


def expected_calibration_error(
    tally: Tally, n_bins: int = N_BINS, equal_mass: bool = False, close_last: bool = True
) -> np.ndarray:
    """ECE: sum over bins of share × |accuracy − mean confidence| (Guo et al., 2017, eq. 3).

    Bins of equal width, or of equal mass (Nguyen & O'Connor, 2015: adaptive binning), where all
    answers of one confidence stay in one bin. ``close_last=False`` leaves a confidence of 1.0
    out of every bin, as the published tool does; it still counts in the shares.
    """
    _, confidence, correct = _bins(tally, n_bins, equal_mass, close_last)
    return _ratio(np.abs(correct - confidence).sum(axis=-1), tally.n)


def maximum_calibration_error(tally: Tally, n_bins: int = N_BINS) -> np.ndarray:
    """MCE: the largest |accuracy − mean confidence| of an equal-width bin (Guo et al., 2017, eq. 4)."""
    count, confidence, correct = _bins(tally, n_bins, equal_mass=False)
    gap = np.where(count > 0, np.abs(_ratio(correct - confidence, count)), 0.0)
    return np.where(tally.n > 0, gap.max(axis=-1), np.nan)


def overconfidence(tally: Tally, n_bins: int = N_BINS) -> np.ndarray:
    """The part of ECE from bins whose confidence is above their accuracy (Thulasidasan et al., 2019)."""
    _, confidence, correct = _bins(tally, n_bins, equal_mass=False)
    return _ratio(np.maximum(confidence - correct, 0.0).sum(axis=-1), tally.n)


def underconfidence(tally: Tally, n_bins: int = N_BINS) -> np.ndarray:
    """The part of ECE from bins whose confidence is below their accuracy."""
    _, confidence, correct = _bins(tally, n_bins, equal_mass=False)
    return _ratio(np.maximum(correct - confidence, 0.0).sum(axis=-1), tally.n)


def smooth_calibration_error(tally: Tally, steps: int = 12) -> np.ndarray:
    """smECE, which needs no bins (Błasiok & Nakkiran, 2023, definition 3 and theorem 8).

    The residual (correctness − confidence) is smoothed over the confidence by a Gaussian kernel
    that is reflected at 0 and 1; the mean of its absolute value falls as the kernel widens, and
    the figure is where it equals the kernel's width. A reflected Gaussian is a factor on each
    cosine mode, so a width costs one inverse transform, whatever the number of samples.
    """
    residual = _ratio(tally.correct - tally.count * tally.value, tally.n[..., None])
    mode = np.arange(COSINES)
    modes = residual @ np.cos(np.pi * tally.value[:, None] * mode)
    low, high = np.zeros(residual.shape[:-1]), np.ones(residual.shape[:-1])
    for _ in range(steps):
        width = (low + high) / 2
        factor = np.exp(-0.5 * (np.pi * mode * width[..., None]) ** 2)
        # idct, type 2, is (c₀ + 2 Σ c_k cos(…)) / 2 N at N cell centres; the integral is the mean over the cells.
        smoothed = 2 * COSINES * idct(modes * factor, type=2, axis=-1)
        above = np.abs(smoothed).mean(axis=-1) > width
        low, high = np.where(above, width, low), np.where(above, high, width)
    return np.where(tally.n > 0, (low + high) / 2, np.nan)


def ece_if_calibrated(tally: Tally, n_bins: int = N_BINS, draws: int = 200, seed: int = 0) -> float:
    """Mean ECE that chance alone would give these confidences if each were exactly right.

    Correctness is drawn with the confidence as its probability (consistency resampling, Bröcker &
    Smith, 2007). An ECE near this value is no evidence of miscalibration. ``tally`` holds one data
    set, (v,).
    """
    count = tally.count.astype(int)
    correct = np.random.default_rng(seed).binomial(count, tally.value, size=(draws, len(count)))
    drawn = Tally(tally.value, np.broadcast_to(count, correct.shape), correct)
    return float(np.mean(expected_calibration_error(drawn, n_bins)))


# --- proper scores ---------------------------------------------------------------------------


def brier_score(tally: Tally) -> np.ndarray:
    """Mean of (confidence − correctness)² (Brier, 1950, for one event)."""
    wrong = tally.count - tally.correct
    return _ratio(tally.correct @ (1 - tally.value) ** 2 + wrong @ tally.value**2, tally.n)


def brier_decomposition(tally: Tally, n_bins: int = N_BINS) -> dict[str, np.ndarray]:
    """Brier = reliability − resolution + uncertainty + within-bin remainder.

    Murphy (1973) over equal-width bins, with the remainder of Stephenson et al. (2008) that
    binning leaves, so that the four add up to the Brier score.
    """
    count, confidence, correct = _bins(tally, n_bins, equal_mass=False)
    base, n = accuracy(tally), tally.n
    weight = np.where(count > 0, count, 0.0)
    mean_correct, mean_conf = np.nan_to_num(_ratio(correct, count)), np.nan_to_num(_ratio(confidence, count))
    reliability = _ratio((weight * (mean_conf - mean_correct) ** 2).sum(axis=-1), n)
    resolution = _ratio((weight * (mean_correct - np.nan_to_num(base)[..., None]) ** 2).sum(axis=-1), n)
    uncertainty = base * (1 - base)
    return {
        "reliability": reliability,
        "resolution": resolution,
        "uncertainty": uncertainty,
        "within_bins": brier_score(tally) - reliability + resolution - uncertainty,
    }


def clip_confidence(confidence: ArrayLike) -> np.ndarray:
    """Confidences moved into [0.005, 0.995], where logarithm and logit are finite; NaN stays NaN."""
    return np.clip(np.asarray(confidence, dtype=float), LEAST_DOUBT, 1 - LEAST_DOUBT)


def log_loss(tally: Tally) -> np.ndarray:
    """Mean of −ln(probability given to what happened) (Good, 1952), in nats.

    Confidences are kept 0.005 away from 0 and 1.
    """
    value = clip_confidence(tally.value)
    return _ratio(-(tally.correct @ np.log(value) + (tally.count - tally.correct) @ np.log1p(-value)), tally.n)


# --- ranking and selective prediction ----------------------------------------------------------


def roc_auc(tally: Tally) -> np.ndarray:
    """Probability that a right answer has more confidence than a wrong one, ties half (Hanley & McNeil, 1982)."""
    wrong = tally.count - tally.correct
    below = np.cumsum(wrong, axis=-1) - wrong / 2
    return _ratio((tally.correct * below).sum(axis=-1), tally.n_correct * (tally.n - tally.n_correct))


def average_precision(tally: Tally) -> np.ndarray:
    """AUPRC, right answers as positives: Σ (recallᵢ − recallᵢ₋₁) × precisionᵢ, most confident first."""
    kept, right = tally.from_the_top
    precision = np.nan_to_num(_ratio(right, kept))
    return _ratio((tally.correct[..., ::-1] * precision).sum(axis=-1), tally.n_correct)


def average_precision_of_errors(tally: Tally) -> np.ndarray:
    """AUPRC, wrong answers as positives, least confident first (Hendrycks & Gimpel, 2017: AUPR-Error)."""
    reverse = slice(None, None, -1)
    wrong = tally.count - tally.correct
    return average_precision(Tally(1 - tally.value[reverse], tally.count[..., reverse], wrong[..., reverse]))


def _harmonic(n: np.ndarray) -> np.ndarray:
    return digamma(n + 1) + np.euler_gamma


def area_under_risk_coverage(tally: Tally) -> np.ndarray:
    """AURC: mean error rate of the k most confident answers over k = 1 … n (Geifman & El-Yaniv, 2017).

    Answers of equal confidence have no order: this is the mean over all orders of them, in closed
    form (inside a tie the expected number of errors grows linearly with k).
    """
    kept, right = tally.from_the_top
    count, errors = tally.count[..., ::-1], (tally.count - tally.correct)[..., ::-1]
    before = kept - count
    rate = np.nan_to_num(_ratio(errors, count))
    offset = (before - (right - tally.correct[..., ::-1])) - before * rate
    return _ratio((count * rate + offset * (_harmonic(kept) - _harmonic(before))).sum(axis=-1), tally.n)


def excess_area_under_risk_coverage(tally: Tally) -> np.ndarray:
    """E-AURC: AURC minus that of a confidence which ranks every right answer first (Geifman et al., 2019)."""
    n, right = tally.n, tally.n_correct
    best = _ratio((n - right) - right * (_harmonic(n) - _harmonic(right)), n)
    return area_under_risk_coverage(tally) - best


def accuracy_at_coverage(tally: Tally, coverage: float) -> np.ndarray:
    """Accuracy of the most confident ``coverage`` of the answers (El-Yaniv & Wiener, 2010: one minus selective risk).

    A tie that is cut counts in proportion.
    """
    kept, right = tally.from_the_top
    wanted = coverage * tally.n[..., None]
    cut = np.minimum((kept < wanted - 1e-9).sum(axis=-1, keepdims=True), kept.shape[-1] - 1)
    at = lambda array: np.take_along_axis(array, cut, axis=-1)  # noqa: E731
    count, correct = tally.count[..., ::-1], tally.correct[..., ::-1]
    missing = _ratio(at(kept) - wanted, at(count))
    return _ratio(at(right) - np.nan_to_num(missing) * at(correct), wanted)[..., 0]


def coverage_at_risk(tally: Tally, risk: float) -> np.ndarray:
    """Largest share of answers that a confidence threshold can keep with an error rate of at most ``risk``.

    The coverage at a target risk of Geifman & El-Yaniv (2017), without their bound for unseen data.
    """
    kept, right = tally.from_the_top
    allowed = (kept > 0) & (kept - right <= risk * kept + 1e-9)
    return _ratio(np.where(allowed, kept, 0.0).max(axis=-1, initial=0.0), tally.n)


def all_figures(tally: Tally, n_bins: int = N_BINS) -> dict[str, np.ndarray]:
    """Every figure of this module under the name that metrics.json has it by."""
    return {
        "ece": expected_calibration_error(tally, n_bins),
        "ece_equal_mass": expected_calibration_error(tally, n_bins, equal_mass=True),
        "mce": maximum_calibration_error(tally, n_bins),
        "smooth_ece": smooth_calibration_error(tally),
        "overconfidence": overconfidence(tally, n_bins),
        "underconfidence": underconfidence(tally, n_bins),
        "confidence_gap": confidence_gap(tally),
        "brier": brier_score(tally),
        **{f"brier_{part}": value for part, value in brier_decomposition(tally, n_bins).items()},
        "log_loss": log_loss(tally),
        "roc_auc": roc_auc(tally),
        "auprc": average_precision(tally),
        "auprc_errors": average_precision_of_errors(tally),
        "aurc": area_under_risk_coverage(tally),
        "e_aurc": excess_area_under_risk_coverage(tally),
        "accuracy_at_80_coverage": accuracy_at_coverage(tally, 0.8),
        "accuracy_at_90_coverage": accuracy_at_coverage(tally, 0.9),
        "coverage_at_5_risk": coverage_at_risk(tally, 0.05),
        "coverage_at_10_risk": coverage_at_risk(tally, 0.10),
        "mean_confidence": mean_confidence(tally),
        "confidence_spread": confidence_spread(tally),
        "distinct_confidences": distinct_confidences(tally),
        "top_two_share": top_two_share(tally),
    }
