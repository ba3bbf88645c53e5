"""Maps from a stated confidence to the probability of being right, fitted after the fact.

    from inference.metrics.recalibration import cross_fitted, fit_recalibration
    honest = fit_recalibration("isotonic", confidence, correctness).apply(confidence)

A confidence enters temperature and Platt scaling by its logit, after it was moved into
[0.005, 0.995] (``calibration.clip_confidence``). Data that say too little give a defined map:

* fewer than 10 samples: the identity, whatever the method;
* all right or all wrong, or one distinct confidence only: the smoothed base rate
  (right + 1) / (n + 2), Laplace's rule, for every confidence. Temperature scaling has no
  constant map: it is fitted as usual, and is the identity when every confidence is 0.5.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from inference.metrics.calibration import clip_confidence

MIN_SAMPLES = 10
# Histogram binning: at most so many bins, each of at least MIN_SAMPLES samples on average.
MAX_BINS = 10
IDENTITY = "identity"


Confidences = tuple[Annotated[float, msgspec.Meta(ge=0, le=1)], ...]


class Recalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A fitted map; plain numbers, so that a file holds all of it, and the schema of that file.

    Attributes:
        method: one of ``METHODS``, or "identity".
        n: samples it was fitted on.
        slope, intercept: of the logit (temperature, Platt). The temperature is 1 / slope.
        x, y: knots between which isotonic regression is a straight line; for histogram binning
            the upper ends of the bins and their values.
        remark: why the map is not the method's usual one; empty when it is.
    """

    method: str
    n: Annotated[int, msgspec.Meta(ge=0)]
    slope: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    intercept: float = 0.0
    x: Confidences = ()
    y: Confidences = ()
    remark: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError: what the fields' types cannot say."""
        if self.method not in (*METHODS, IDENTITY):
            raise ValueError(f"method: expected one of {', '.join((*METHODS, IDENTITY))}, got {self.method!r}")
        if list(self.x) != sorted(self.x):
            raise ValueError("x: expected ascending numbers")
        if len(self.x) != len(self.y):
            raise ValueError(f"y: expected as many numbers as in x, {len(self.x)}")
        if self.method in ("isotonic", "histogram") and not self.x:
            raise ValueError("x: expected at least one number")

    def apply(self, confidence: ArrayLike) -> np.ndarray:
        """Recalibrated confidences in [0, 1], of the shape given; NaN stays NaN."""
        confidence = np.asarray(confidence, dtype=float)
        if self.method in ("temperature", "platt"):
            return expit(self.slope * logit(clip_confidence(confidence)) + self.intercept)
        if self.method == "isotonic":
            return np.interp(confidence, self.x, self.y)
        if self.method == "histogram":
            bin_index = np.minimum(np.searchsorted(self.x, confidence, side="left"), len(self.x) - 1)
            return np.where(np.isnan(confidence), np.nan, np.asarray(self.y)[bin_index])
        return confidence.copy()


def _fit_slope(score: np.ndarray, target: np.ndarray, fit_intercept: bool) -> tuple[float, float]:
    """Most likely (slope, intercept) of a logistic regression on targets in [0, 1].

    scikit-learn takes classes, so each sample is once in each class, with its target as weight.
    """
    model = LogisticRegression(C=np.inf, fit_intercept=fit_intercept, tol=1e-7, max_iter=1000)
    classes = np.repeat([1, 0], len(score))
    model.fit(np.tile(score, 2)[:, None], classes, sample_weight=np.concatenate([target, 1 - target]))
    return float(model.coef_[0, 0]), float(model.intercept_[0]) if fit_intercept else 0.0


def _smoothed_targets(correctness: np.ndarray) -> np.ndarray:
    """(N+ + 1) / (N+ + 2) and 1 / (N- + 2) in place of 1 and 0 (Platt, 1999, section 2.2): they keep a slope finite."""
    right = correctness.sum()
    return np.where(correctness == 1, (right + 1) / (right + 2), 1 / (len(correctness) - right + 2))


def fit_temperature(confidence: np.ndarray, correctness: np.ndarray) -> Recalibration:
    """Temperature scaling: one slope on the logit, the most likely one (Guo et al., 2017, section 4.2, for one event).

    A slope below 0 is no temperature: it becomes 0, which is 0.5 for every confidence. Where every
    answer above 0.5 is right and every one below wrong, or the other way round, no slope is the most
    likely: Platt's smoothed targets keep it finite there, and the remark says so.
    """
    score = logit(clip_confidence(confidence))
    sure = np.abs(score) > 1e-9
    if not sure.any():
        return Recalibration(IDENTITY, len(score), remark="every confidence is 0.5, which no temperature changes")
    agrees = (score > 0) == (correctness == 1)
    separated = len(np.unique(agrees[sure])) < 2
    target = _smoothed_targets(correctness) if separated else correctness
    slope, _ = _fit_slope(score, target, fit_intercept=False)
    remark = "right and wrong answers are apart at 0.5: fitted to Platt's smoothed targets" if separated else ""
    if slope <= 0:
        remark = "surer answers are not more often right: slope 0"
    return Recalibration("temperature", len(score), slope=max(slope, 0.0), remark=remark)


def fit_platt(confidence: np.ndarray, correctness: np.ndarray) -> Recalibration:
    """Platt scaling: slope and intercept on the logit, with smoothed targets (Platt, 1999, section 2.2).

    A slope below 0 would turn the order of the answers around: it becomes 0, which is the
    smoothed base rate for every confidence.
    """
    score = logit(clip_confidence(confidence))
    slope, intercept = _fit_slope(score, _smoothed_targets(correctness), fit_intercept=True)
    if slope > 0:
        return Recalibration("platt", len(confidence), slope=slope, intercept=intercept)
    return constant("platt", confidence, correctness, "surer answers are not more often right: slope 0")


def fit_isotonic(confidence: np.ndarray, correctness: np.ndarray) -> Recalibration:
    """Isotonic regression: the non-decreasing map of least squared error (Zadrozny and Elkan, 2002)."""
    model = IsotonicRegression(y_min=0.0, y_max=1.0).fit(confidence, correctness)
    knots = (tuple(map(float, values)) for values in (model.X_thresholds_, model.y_thresholds_))
    return Recalibration("isotonic", len(confidence), 1.0, 0.0, *knots)


def fit_histogram(confidence: np.ndarray, correctness: np.ndarray) -> Recalibration:
    """Histogram binning: the accuracy of each of at most ten equal-mass bins (Zadrozny and Elkan, 2001).

    A bin ends at a value of the data, so equal confidences are in one bin, and with few distinct
    values there are fewer bins. The map need not be monotone.
    """
    n_bins = min(MAX_BINS, len(confidence) // MIN_SAMPLES)
    levels = np.arange(1, n_bins + 1) / n_bins
    upper = np.unique(np.quantile(confidence, levels, method="inverted_cdf"))
    bin_index = np.searchsorted(upper, confidence, side="left")
    value = np.bincount(bin_index, correctness) / np.bincount(bin_index)
    return Recalibration("histogram", len(confidence), 1.0, 0.0, tuple(upper.tolist()), tuple(value.tolist()))


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], Recalibration]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
    "histogram": fit_histogram,
}


def constant(method: str, confidence: np.ndarray, correctness: np.ndarray, remark: str) -> Recalibration:
    """The map to the smoothed base rate (right + 1) / (n + 2), in the method's own numbers."""
    n = len(correctness)
    rate = float((correctness.sum() + 1) / (n + 2))
    if method == "platt":
        return Recalibration(method, n, slope=0.0, intercept=float(logit(rate)), remark=remark)
    return Recalibration(method, n, x=(float(confidence[0]),), y=(rate,), remark=remark)


def _checked(method: str, confidence: ArrayLike, correctness: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    confidence, correctness = np.asarray(confidence, dtype=float), np.asarray(correctness, dtype=float)
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if confidence.ndim != 1 or confidence.shape != correctness.shape:
        raise ValueError(f"expected two arrays of one length, got shapes {confidence.shape} and {correctness.shape}")
    if not np.all((confidence >= 0) & (confidence <= 1)):
        raise ValueError("confidence: expected numbers in [0, 1] (leave out answers without a confidence)")
    if not np.all((correctness == 0) | (correctness == 1)):
        raise ValueError("correctness: expected 0 or 1")
    return confidence, correctness


def fit_recalibration(method: str, confidence: ArrayLike, correctness: ArrayLike) -> Recalibration:
    """Fit the map from a confidence to the probability that the answer is right.

    Args:
        method: one of ``METHODS``.
        confidence: (n,) in [0, 1].
        correctness: (n,) of 0 and 1.

    Raises:
        ValueError: on another method, lengths that differ, or values out of range. Data that say
            too little are no error; the module's head says what they give.
    """
    confidence, correctness = _checked(method, confidence, correctness)
    n = len(confidence)
    if n < MIN_SAMPLES:
        return Recalibration(IDENTITY, n, remark=f"{n} samples, fewer than {MIN_SAMPLES}: left as stated")
    if method != "temperature":
        if len(np.unique(correctness)) < 2:
            return constant(method, confidence, correctness, "all right or all wrong: smoothed base rate")
        if len(np.unique(confidence)) < 2:
            return constant(method, confidence, correctness, "one distinct confidence: smoothed base rate")
    return METHODS[method](confidence, correctness)


def folds(
    correctness: np.ndarray, groups: Sequence | None = None, n_splits: int = 5, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to fit on, rows held out) of each fold; empty when the data cannot be split.

    Folds have equal shares of right answers as far as possible. With ``groups``, rows of one
    group are never in two folds. There are fewer folds when there are fewer groups, or fewer
    rows of the more frequent class.
    """
    if not len(correctness):
        return []
    most = int(np.bincount(correctness.astype(int)).max())
    if groups is not None:
        _, groups = np.unique(np.asarray(groups), return_inverse=True)
        most = min(most, groups.max() + 1)
    n_splits = min(n_splits, int(most))
    if n_splits < 2:
        return []
    splitter = (StratifiedKFold if groups is None else StratifiedGroupKFold)(n_splits, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer rows than folds is fine here: its share is then 0 in some folds.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return list(splitter.split(np.zeros(len(correctness)), correctness, groups))


def cross_fitted(
    method: str,
    confidence: ArrayLike,
    correctness: ArrayLike,
    groups: Sequence | None = None,
    n_splits: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Recalibrated confidences (n,), each by a map fitted on the other folds only.

    What a map is judged by: no sample has a part in the map that is applied to it. As folds have
    equal shares of right answers, a map meets the mean of the fold it is judged on better than that
    of new data: an ECE below the standard error of the accuracy means no more than that error.

    Args:
        groups: (n,) ids of what belongs together, as the images: never on both sides of a fold.
        n_splits, seed: see ``folds``. Data that cannot be split come back as they are.

    Raises:
        ValueError: as ``fit_recalibration``.
    """
    confidence, correctness = _checked(method, confidence, correctness)
    return recalibrate_held_out(method, confidence, correctness, folds(correctness, groups, n_splits, seed))


def recalibrate_held_out(
    method: str, confidence: np.ndarray, correctness: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Each fold's confidences by the map fitted on the rest of it; ``splits`` as ``folds`` gives them."""
    result = confidence.copy()
    for fit, held_out in splits:
        result[held_out] = fit_recalibration(method, confidence[fit], correctness[fit]).apply(confidence[held_out])
    return result
