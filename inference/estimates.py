"""Every figure of tasks, groups and Overall, for the data as they are and for resamples of them.

cells = Cells.of(estimate_columns(table), table["image"])
point = estimate_rows(cells, cells.weights)            # [(name, kind, {figure: (1,)}), …]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

from inference import confidence_metrics
from inference.bootstrap import Cells, interval
from inference.confidence_metrics import N_BINS, Tally
from inference.vecbench import GROUPS, TASKS, group_of

OVERALL = "Overall"

# An error that is a mean of absolute or squared gaps is raised by noise, and a resample adds noise
# once more: their percentiles are lowered by the mean that the resamples are above the estimate.
RAISED_BY_NOISE = {
    *("ece", "ece_equal_mass", "mce", "smooth_ece", "overconfidence", "underconfidence"),
    *("brier_reliability", "brier_resolution"),
}
# Continuous confidences (a probability of tokens) are rounded for the tally: 1,001 values at most.
DECIMALS = 3


@dataclass
class Estimate:
    """The figures of one task, group or Overall; what is not defined is left out.

    Attributes:
        kind: "task", "group" or "overall".
        intervals: figure → (low, high), the 95 % bootstrap interval.
    """

    name: str
    kind: str
    n_samples: int
    figures: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


def one_hot(codes: np.ndarray, n_codes: int) -> sparse.csr_matrix:
    """(rows, n_codes) with a 1 at each row's code."""
    return sparse.csr_matrix((np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), n_codes))


def sums(weights: np.ndarray, member: sparse.csr_matrix) -> np.ndarray:
    """weights (resamples, rows) summed by member's columns: (resamples, columns)."""
    return np.asarray((member.T @ weights.T).T)


def slices(cells: Cells) -> Iterator[tuple[str, str, np.ndarray]]:
    """(name, kind, indices of cells): tasks with a sample in the table's order, the groups, Overall."""
    task = cells.columns["task"].to_numpy()
    yield from ((name, "task", np.flatnonzero(task == name)) for name in TASKS if (task == name).any())
    group = np.array([group_of(name) for name in task], dtype=object)
    yield from ((name, "group", np.flatnonzero(group == name)) for name in GROUPS)
    yield OVERALL, "overall", np.arange(len(task))


def f1_by_class(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted F1 (the mean of the classes' F1 by their number of true samples), one value a resample."""
    codes, names = pd.factorize(np.concatenate([truth, predicted]))
    true_code, predicted_code = codes[: len(truth)], codes[len(truth) :]
    of_truth, of_prediction = one_hot(true_code, len(names)), one_hot(predicted_code, len(names))
    true, said = sums(weights, of_truth), sums(weights, of_prediction)
    hits = sums(weights * (true_code == predicted_code), of_truth)
    f1 = 2 * hits / np.maximum(true + said, 1e-300)
    return (f1 * true).sum(axis=1) / np.maximum(true.sum(axis=1), 1e-300)


def tally_of(confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> Tally:
    """The tally of each resample over the cells that have a confidence."""
    scored = np.flatnonzero(np.isfinite(confidence))
    if not len(scored):
        none = np.zeros((len(weights), 1))
        return Tally(np.array([0.5]), none, none)
    value, code = np.unique(confidence[scored], return_inverse=True)
    member, weights = one_hot(code, len(value)), weights[:, scored]
    return Tally(value, sums(weights, member), sums(weights * correct[scored], member))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def estimate_rows(
    cells: Cells, weights: np.ndarray, label: str = "label", confidence: str = "confidence", n_bins: int = N_BINS
) -> list[tuple[str, str, dict[str, np.ndarray]]]:
    """(name, kind, figure → (resamples,)) of each task, group and Overall.

    Every sample is in the denominators of accuracy, F1 and the two rates; the confidence figures
    are over the samples with a confidence. ``macro_`` figures are means over the tasks of a row,
    the others pool its samples.

    Args:
        weights: (resamples, cells), ``cells.weights`` or a chunk of ``cells.resamples``.
        label, confidence: the columns to judge, for other confidences than the stated one.
    """
    columns = cells.columns
    truth, predicted = columns["truth"].to_numpy(), columns[label].to_numpy()
    # astype(object): a table read from no rows at all has columns of other types
    truth, predicted = truth.astype(object), predicted.astype(object)
    stated, task = columns[confidence].to_numpy(dtype=float), columns["task"].to_numpy()
    formed = columns["well_formed"].to_numpy(dtype=float)
    correct = (truth == predicted).astype(float)
    rows, by_task = [], {}
    for name, kind, index in slices(cells):
        w = weights[:, index]
        n = w.sum(axis=1)
        scored = np.isfinite(stated[index])
        figures = {
            "accuracy": _ratio(w @ correct[index], n),
            "f1": np.where(n > 0, f1_by_class(truth[index], predicted[index], w), np.nan),
            "confidence_rate": _ratio(w @ scored.astype(float), n),
            "format_rate": _ratio(w @ formed[index], n),
        }
        if kind == "task":
            by_task[name] = figures
        elif len(index):
            inside = pd.unique(task[index])
            for other in inside:
                if other not in by_task:  # a task outside VECBench has no row, but is in Overall
                    own = np.flatnonzero(task == other)
                    by_task[other] = {
                        "accuracy": _ratio(weights[:, own] @ correct[own], weights[:, own].sum(axis=1)),
                        "f1": f1_by_class(truth[own], predicted[own], weights[:, own]),
                    }
            for figure in ("accuracy", "f1"):
                figures[f"macro_{figure}"] = np.mean([by_task[other][figure] for other in inside], axis=0)
        figures |= confidence_metrics.all_figures(tally_of(stated[index], correct[index], w), n_bins)
        rows.append((name, kind, figures))
    return rows


def figure_arrays(
    cells: Cells,
    n_resamples: int,
    seed: int = 0,
    label: str = "label",
    confidence: str = "confidence",
    n_bins: int = N_BINS,
) -> dict[tuple[str, str], np.ndarray]:
    """(row name, figure) → its value in each resample, (n_resamples,)."""
    chunks: dict[tuple[str, str], list[np.ndarray]] = {}
    for weights in cells.resamples(n_resamples, seed):
        for name, _, figures in estimate_rows(cells, weights, label, confidence, n_bins):
            for figure, values in figures.items():
                chunks.setdefault((name, figure), []).append(values)
    return {key: np.concatenate(values) for key, values in chunks.items()}


def figure_interval(figure: str, point: float, resampled: np.ndarray) -> tuple[float, float] | None:
    """The 95 % interval of a figure from its resamples; None when it is not defined.

    Over data drawn from a known truth (1,000 samples, 8 confidences), the intervals held the true
    value in 92 to 96 % of the draws for accuracy, scores, rankings and AURC, in 93 % for ECE when
    the true ECE was 0.03 or 0.13. They always hold the estimate, and so never an error of zero: hold
    ECE against ``ece_if_calibrated``.
    """
    low, high = (float(bound) for bound in interval(resampled))
    if not (np.isfinite(low) and np.isfinite(point)):
        return None
    if figure in RAISED_BY_NOISE:
        raised = float(np.nanmean(resampled)) - point
        low, high = max(0.0, low - raised), high - raised
    return min(low, point), max(high, point)


def estimate(
    table: pd.DataFrame,
    n_resamples: int = 0,
    seed: int = 0,
    label: str = "label",
    confidence: str = "confidence",
    n_bins: int = N_BINS,
) -> list[Estimate]:
    """Figures, and with ``n_resamples`` their intervals, of a ``prediction_table``.

    Rows in the order of ``slices``: tasks, groups, Overall. ``label`` and ``confidence`` name the
    columns to judge, ``n_bins`` the bins of the figures that need bins.
    """
    columns = table[["task", "truth", label, confidence, "well_formed"]]
    cells = Cells.of(columns.assign(**{confidence: columns[confidence].round(DECIMALS)}), table["image"])
    sizes = {name: int(cells.weights[0, index].sum()) for name, _, index in slices(cells)}
    resampled = figure_arrays(cells, n_resamples, seed, label, confidence, n_bins) if n_resamples and len(table) else {}
    rows = []
    point_rows = estimate_rows(cells, cells.weights, label, confidence, n_bins)
    for (name, kind, figures), (_, _, index) in zip(point_rows, slices(cells), strict=True):
        row = Estimate(name, kind, sizes[name])
        stated = cells.columns[confidence].to_numpy(dtype=float)[index]
        tally = tally_of(stated, np.zeros(len(index)), cells.weights[:, index])
        if tally.n.sum():
            single = Tally(tally.value, tally.count[0], tally.correct[0])
            row.figures["ece_if_calibrated"] = confidence_metrics.ece_if_calibrated(single, n_bins)
        for figure, values in figures.items():
            point = float(values[0])
            if not np.isfinite(point):
                continue
            row.figures[figure] = point
            if (name, figure) in resampled:
                bounds = figure_interval(figure, point, resampled[name, figure])
                if bounds is not None:
                    row.intervals[figure] = bounds
        rows.append(row)
    return rows
