"""How far a confidence can be trusted: its use, its calibration, proper scores; its order is the matter of ``ranking``.

Every formula works on a ``Tally``: how many answers, and how many right ones, there are at each
distinct confidence. A tally may hold many resamples of the data at once (leading axes), so that
a bootstrap costs one call per formula, and a metric and its interval come from the same code.
Results are fractions of shape ``(...)``; NaN where a metric is not defined.

    tally = Tally.of([0.9, 0.9, 0.6], [1, 1, 0])
    smooth_calibration_error(tally)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.fft import idct
from scipy.stats import binomtest

N_BINS = 10
# Stated confidences have two decimals, so 0 and 1 mean "within half a hundredth".
# Beyond that, a wrong answer with a confidence of 1 would make log loss and logit infinite.
LEAST_DOUBT = 0.005
COSINES = 256  # modes of the smoothed residual: kernels down to a width of about 0.004 are resolved
GRID = 16_384  # values at most whose cosines are computed one by one


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
    _known: dict[tuple, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, confidence: ArrayLike, correctness: ArrayLike) -> Tally:
        """From one confidence in [0, 1] and one correctness (0 or 1) per sample, each (n,)."""
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


def ratio(numerator: ArrayLike, denominator: ArrayLike, undefined: float = np.nan) -> np.ndarray:
    """The quotient; ``undefined`` where the denominator is zero."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, undefined), where=denominator != 0)


def accuracy(tally: Tally) -> np.ndarray:
    """Share of right answers."""
    return ratio(tally.n_correct, tally.n)


def mean_confidence(tally: Tally) -> np.ndarray:
    """Mean of the confidences."""
    return ratio(tally.count @ tally.value, tally.n)


def confidence_spread(tally: Tally) -> np.ndarray:
    """Standard deviation of the confidences. Near zero: the model says the same whatever it sees."""
    variance = ratio(tally.count @ tally.value**2, tally.n) - mean_confidence(tally) ** 2
    return np.sqrt(np.maximum(variance, 0.0))


def distinct_confidences(tally: Tally) -> np.ndarray:
    """Number of different confidences in use."""
    return (tally.count > 0).sum(axis=-1).astype(float)


def top_two_share(tally: Tally) -> np.ndarray:
    """Share of the answers that state one of the two most frequent confidences; 1 is a collapse."""
    if tally.count.shape[-1] < 3:
        return ratio(tally.n, tally.n)
    return ratio(np.partition(tally.count, -2, axis=-1)[..., -2:].sum(axis=-1), tally.n)


def confidence_gap(tally: Tally) -> np.ndarray:
    """Mean confidence minus accuracy: above zero overconfident, below zero underconfident."""
    return mean_confidence(tally) - accuracy(tally)


# --- calibration -----------------------------------------------------------------------------


def bin_of(confidence: np.ndarray, n_bins: int = N_BINS, published: bool = False) -> np.ndarray:
    """Index of the equal-width bin [k / n_bins, (k + 1) / n_bins) over [0, 1], the last one closed; −1 for none.

    Bins are those of the decimal number that a confidence is written as: c × n_bins is rounded to 12
    decimals first, so that a stated 0.3, 3 of 10 answers that agree, and 0.1 + 0.2 all open bin 3,
    whatever the last bit of the float.

    ``published`` gives the bins of the published tool: edges ``linspace(0, 1, n_bins + 1)``, some of
    which lie just above the decimal number (0.3, 0.6 and 0.7 fall in the bin below), and no bin for 1.0.
    """
    if published:
        # side="right" puts a value on an edge into the bin that the edge opens, as low <= c < high does.
        index = np.searchsorted(np.linspace(0.0, 1.0, n_bins + 1), confidence, side="right") - 1
        return np.where((index >= 0) & (index < n_bins), index, -1)
    confidence = np.asarray(confidence, dtype=float)
    index = np.floor(np.round(confidence * n_bins, 12)).astype(int)
    return np.where((confidence >= 0) & (confidence <= 1), np.minimum(index, n_bins - 1), -1)


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


def _bins(tally: Tally, n_bins: int, published: bool = False) -> tuple[np.ndarray, ...]:
    key = n_bins, published
    if key not in tally._known:
        tally._known[key] = _sums_by_bin(bin_of(tally.value, n_bins, published), tally, n_bins)
    return tally._known[key]


def calibration_bins(confidence: ArrayLike, correctness: ArrayLike, n_bins: int = N_BINS) -> dict[str, np.ndarray]:
    """What a reliability diagram shows of each equal-width bin (``bin_of``).

    Args:
        confidence: (n,) in [0, 1].
        correctness: (n,) of 0 and 1.

    Returns:
        arrays of length ``n_bins``: ``count``, ``confidence`` and ``correctness`` (bin means;
        NaN in an empty bin), ``low`` and ``high`` (edges).
    """
    count, confidences, right = _bins(Tally.of(confidence, correctness), n_bins)
    edges = np.arange(n_bins + 1) / n_bins
    means = {"confidence": ratio(confidences, count), "correctness": ratio(right, count)}
    return {"count": count.astype(int), **means, "low": edges[:-1], "high": edges[1:]}


def gap_shares(tally: Tally, n_bins: int = N_BINS, published: bool = False) -> np.ndarray:
    """(..., n_bins) share of the answers × (accuracy − mean confidence) of each equal-width bin."""
    _, confidence, correct = _bins(tally, n_bins, published)
    return ratio(correct - confidence, tally.n[..., None])


def _equal_mass_gap_shares(tally: Tally, n_bins: int) -> np.ndarray:
    # A confidence goes whole to the bin that holds the middle of its ranks: ties stay together.
    middle = np.cumsum(tally.count, axis=-1) - tally.count / 2
    index = ratio(middle * n_bins, tally.n[..., None], 0.0).astype(int)
    _, confidence, correct = _sums_by_bin(np.minimum(index, n_bins - 1), tally, n_bins)
    return ratio(correct - confidence, tally.n[..., None])


def _gaps(tally: Tally, n_bins: int) -> np.ndarray:
    count, confidence, correct = _bins(tally, n_bins)
    return np.where(tally.n[..., None] > 0, ratio(correct - confidence, count, 0.0), np.nan)


def _scaled_gaps(tally: Tally, n_bins: int) -> np.ndarray:
    """√share × (accuracy − mean confidence): the sum of squares is Brier's reliability."""
    count, _, _ = _bins(tally, n_bins)
    return np.sqrt(ratio(count, tally.n[..., None])) * _gaps(tally, n_bins)


def _scaled_differences(tally: Tally, n_bins: int) -> np.ndarray:
    """√share × (accuracy of the bin − accuracy of all): the sum of squares is Brier's resolution."""
    count, _, correct = _bins(tally, n_bins)
    difference = np.where(count > 0, ratio(correct, count, 0.0) - accuracy(tally)[..., None], 0.0)
    return np.sqrt(ratio(count, tally.n[..., None])) * difference


def _residual_modes(tally: Tally, n_bins: int = 0) -> np.ndarray:
    """(..., COSINES) cosine modes of the mean residual (correctness − confidence) over the confidence."""
    residual = ratio(tally.correct - tally.count * tally.value, tally.n[..., None])
    value = tally.value
    if len(value) > GRID:
        # Shared out between the two nearest points of a grid, far finer than a kernel: a million values by 256
        # modes would be 2 GB.
        at = value * (GRID - 1)
        low = np.minimum(at.astype(int), GRID - 2)
        shares, columns = np.concatenate([1 - at + low, at - low]), np.concatenate([low, low + 1])
        rows = np.tile(np.arange(len(value)), 2)
        to_grid = sparse.csr_matrix((shares, (rows, columns)), shape=(len(value), GRID))
        residual, value = np.asarray((to_grid.T @ residual.T).T), np.arange(GRID) / (GRID - 1)
    return residual @ _cosines(value.astype(float).tobytes())


@lru_cache(maxsize=1)  # of several weightings of the same values, and of the grid
def _cosines(values: bytes) -> np.ndarray:
    """(v, COSINES) the modes at each of v values, given as the bytes of float64 numbers from 0 to 1."""
    return np.cos(np.pi * np.frombuffer(values)[:, None] * np.arange(COSINES))


def _smoothed_size(modes: np.ndarray, steps: int = 12) -> np.ndarray:
    """The kernel width that equals the mean absolute value of the residual smoothed by it."""
    mode = np.arange(COSINES)
    low, high = np.zeros(modes.shape[:-1]), np.ones(modes.shape[:-1])
    for _ in range(steps):
        width = (low + high) / 2
        factor = np.exp(-0.5 * (np.pi * mode * width[..., None]) ** 2)
        # idct, type 2, is (c₀ + 2 Σ c_k cos(…)) / 2 N at N cell centres; the integral is the mean over the cells.
        smoothed = 2 * COSINES * idct(modes * factor, type=2, axis=-1)
        above = np.abs(smoothed).mean(axis=-1) > width
        low, high = np.where(above, width, low), np.where(above, high, width)
    return np.where(np.isnan(modes[..., 0]), np.nan, (low + high) / 2)


@dataclass(frozen=True)
class GapMetric:
    """A metric that is the size of a vector of signed gaps, which chance alone keeps above zero.

    Attributes:
        gaps: (tally, n_bins) → (..., k).
        size: (..., k) → (...), a seminorm of them raised to ``power``.
    """

    gaps: Callable[[Tally, int], np.ndarray]
    size: Callable[[np.ndarray], np.ndarray]
    power: int = 1

    def parts(self, tally: Tally, n_bins: int = N_BINS) -> np.ndarray:
        """The signed gaps (..., k), computed once for a tally."""
        key = self.gaps, n_bins
        if key not in tally._known:
            tally._known[key] = self.gaps(tally, n_bins)
        return tally._known[key]

    def of(self, tally: Tally, n_bins: int = N_BINS) -> np.ndarray:
        return self.size(self.parts(tally, n_bins))


def _sum_of_absolutes(parts: np.ndarray) -> np.ndarray:
    return np.abs(parts).sum(axis=-1)


def _sum_of_squares(parts: np.ndarray) -> np.ndarray:
    return (parts**2).sum(axis=-1)


GAP_METRICS = {
    "ece": GapMetric(gap_shares, _sum_of_absolutes),
    "ece_equal_mass": GapMetric(_equal_mass_gap_shares, _sum_of_absolutes),
    "mce": GapMetric(_gaps, lambda parts: np.abs(parts).max(axis=-1)),
    "smooth_ece": GapMetric(_residual_modes, _smoothed_size),
    "overconfidence": GapMetric(gap_shares, lambda parts: np.maximum(-parts, 0.0).sum(axis=-1)),
    "underconfidence": GapMetric(gap_shares, lambda parts: np.maximum(parts, 0.0).sum(axis=-1)),
    "brier_reliability": GapMetric(_scaled_gaps, _sum_of_squares, power=2),
    "brier_resolution": GapMetric(_scaled_differences, _sum_of_squares, power=2),
}


def expected_calibration_error(tally: Tally, n_bins: int = N_BINS, equal_mass: bool = False) -> np.ndarray:
    """ECE: sum over bins of share × |accuracy − mean confidence| (Guo et al., 2017, eq. 3).

    Bins of equal width (``bin_of``), or of equal mass (Nguyen & O'Connor, 2015: adaptive binning),
    where all answers of one confidence stay in one bin.
    """
    return GAP_METRICS["ece_equal_mass" if equal_mass else "ece"].of(tally, n_bins)


def maximum_calibration_error(tally: Tally, n_bins: int = N_BINS) -> np.ndarray:
    """MCE: the largest |accuracy − mean confidence| of an equal-width bin (Guo et al., 2017, eq. 4)."""
    return GAP_METRICS["mce"].of(tally, n_bins)


def overconfidence(tally: Tally, n_bins: int = N_BINS) -> np.ndarray:
    """The part of ECE from bins whose confidence is above their accuracy (Thulasidasan et al., 2019)."""
    return GAP_METRICS["overconfidence"].of(tally, n_bins)


def underconfidence(tally: Tally, n_bins: int = N_BINS) -> np.ndarray:
    """The part of ECE from bins whose confidence is below their accuracy."""
    return GAP_METRICS["underconfidence"].of(tally, n_bins)


def smooth_calibration_error(tally: Tally) -> np.ndarray:
    """smECE, which needs no bins (Błasiok & Nakkiran, 2023, definition 3 and theorem 8).

    The residual (correctness − confidence) is smoothed over the confidence by a Gaussian kernel
    that is reflected at 0 and 1; the mean of its absolute value falls as the kernel widens, and
    the metric is where it equals the kernel's width. A reflected Gaussian is a factor on each
    cosine mode, so a width costs one inverse transform, whatever the number of samples.
    """
    return GAP_METRICS["smooth_ece"].of(tally)


def ece_if_calibrated(tally: Tally, n_bins: int = N_BINS, draws: int = 200, seed: int = 0) -> float:
    """Mean ECE that chance alone would give these confidences if each were exactly right.

    Correctness is drawn with the confidence as its probability (consistency resampling, Bröcker &
    Smith, 2007). An ECE near this value is no evidence of miscalibration. ``tally`` holds one data
    set, (v,). Values in one hundredth of a bin are drawn by their mean, which changes the variance
    of a bin by less than 10⁻⁴ of its samples and keeps the cost the same for a million values.
    """
    cell = np.minimum(np.floor(np.round(tally.value * n_bins, 12) * 100), 100 * n_bins - 1).astype(int)
    count, total = (np.bincount(cell, weight, 100 * n_bins) for weight in (tally.count, tally.count * tally.value))
    (used,) = count.nonzero()
    count, total, index = count[used], total[used], used // 100
    mean = np.clip(total / count, 0.0, 1.0)
    correct = np.random.default_rng(seed).binomial(np.rint(count).astype(int), mean, size=(draws, len(used)))
    member = (index[:, None] == np.arange(n_bins)).astype(float)
    return float(np.abs((correct - total) @ member).sum(axis=1).mean() / count.sum())


# --- proper scores ---------------------------------------------------------------------------


def brier_score(tally: Tally) -> np.ndarray:
    """Mean of (confidence − correctness)² (Brier, 1950, for one event)."""
    wrong = tally.count - tally.correct
    return ratio(tally.correct @ (1 - tally.value) ** 2 + wrong @ tally.value**2, tally.n)


def brier_decomposition(tally: Tally, n_bins: int = N_BINS) -> dict[str, np.ndarray]:
    """Brier = reliability − resolution + uncertainty + within-bin remainder.

    Murphy (1973) over equal-width bins, with the remainder of Stephenson et al. (2008) that
    binning leaves, so that the four add up to the Brier score.
    """
    reliability, resolution = (GAP_METRICS[f"brier_{part}"].of(tally, n_bins) for part in ("reliability", "resolution"))
    uncertainty = accuracy(tally) * (1 - accuracy(tally))
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
    return ratio(-(tally.correct @ np.log(value) + (tally.count - tally.correct) @ np.log1p(-value)), tally.n)


def wilson_interval(successes: ArrayLike, counts: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a share by Wilson's score method (Wilson, 1927; recommended by Brown, Cai and DasGupta, 2001).

    Args:
        successes, counts: (n,) whole numbers, one pair per share.

    Returns:
        lower and upper ends, (n,) each; NaN where the count is 0.
    """
    ends = np.full((2, len(np.asarray(counts))), np.nan)
    for i, (success, count) in enumerate(zip(successes, counts, strict=True)):
        if count:
            ends[:, i] = binomtest(round(success), int(count)).proportion_ci(level, method="wilson")
    return ends[0], ends[1]
