"""Every figure of tasks, groups and Overall, for the data as they are and for resamples of them.

cells = Cells.of(estimate_columns(table), table["image"])
point = estimate_rows(cells, cells.weights)            # [(name, kind, {figure: (1,)}), …]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

from inference.data.vecbench import GROUPS, TASKS, group_of
from inference.metrics import calibration
from inference.metrics.bootstrap import Cells, interval, resampled
from inference.metrics.calibration import ERRORS, N_BINS, Tally

OVERALL = "Overall"

NOISE = "noise of "  # before the name of an error: its size in the gaps' deviations of a resample


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
    task, names = pd.factorize(cells.columns["task"])
    of_task = {name: np.flatnonzero(task == code) for code, name in enumerate(names) if group_of(name)}
    yield from ((name, "task", of_task[name]) for name in TASKS if name in of_task)
    for group in GROUPS:
        members = [index for name, index in of_task.items() if group_of(name) == group]
        yield group, "group", np.sort(np.concatenate([np.zeros(0, dtype=int), *members]))
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
    """The tally of each resample over the cells that have a confidence; equal confidences are one value."""
    scored = np.flatnonzero(np.isfinite(confidence))
    if not len(scored):
        none = np.zeros((len(weights), 1))
        return Tally(np.array([0.5]), none, none)
    order = scored[np.argsort(confidence[scored], kind="stable")]
    value, start, size = np.unique(confidence[order], return_index=True, return_counts=True)
    if size.max() > 8:
        weights = weights[:, order]
        count = np.add.reduceat(weights, start, axis=1)
        return Tally(value, count, np.add.reduceat(weights * correct[order], start, axis=1))
    # Many short runs of equal values, where reduceat is slow: the first cell of each value, then the second …
    count, right = np.zeros((2, len(weights), len(value)))
    for place in range(size.max()):
        some = slice(None) if place < size.min() else size > place
        cells = order[start[some] + place]
        taken = weights[:, cells]
        count[:, some] += taken
        right[:, some] += taken * correct[cells]
    return Tally(value, count, right)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def estimate_rows(
    cells: Cells,
    weights: np.ndarray,
    label: str = "label",
    confidence: str = "confidence",
    n_bins: int = N_BINS,
    noise: bool = False,
) -> list[tuple[str, str, dict[str, np.ndarray]]]:
    """(name, kind, figure → (resamples,)) of each task, group and Overall.

    Every sample is in the denominators of accuracy, F1 and the two rates; the confidence figures
    are over the samples with a confidence. ``macro_`` figures are means over the tasks of a row,
    the others pool its samples.

    Args:
        weights: (resamples, cells), ``cells.weights`` or a chunk of ``cells.resamples``.
        label, confidence: the columns to judge, for other confidences than the stated one.
        noise: add the ``NOISE`` of each error, the size of the deviations from the cells' own gaps.
    """
    columns, own_weights = cells.columns, cells.weights
    as_they_are = np.array_equal(weights, own_weights)
    truth, predicted = columns["truth"].to_numpy(), columns[label].to_numpy()
    # astype(object): a table read from no rows at all has columns of other types
    truth, predicted = truth.astype(object), predicted.astype(object)
    stated, task = columns[confidence].to_numpy(dtype=float), columns["task"].to_numpy()
    formed = columns["well_formed"].to_numpy(dtype=float)
    has_confidence = columns.get("has_confidence", columns[confidence].notna()).to_numpy(dtype=float)
    correct = (truth == predicted).astype(float)
    rows = []
    for name, kind, index in slices(cells):
        row_weights = weights if kind == "task" else cells.thinned(weights, index)
        w = row_weights[:, index]
        n = w.sum(axis=1)
        figures = {
            "accuracy": _ratio(w @ correct[index], n),
            "f1": np.where(n > 0, f1_by_class(truth[index], predicted[index], w), np.nan),
            "confidence_rate": _ratio(w @ has_confidence[index], n),
            "format_rate": _ratio(w @ formed[index], n),
        }
        if kind != "task" and len(index):
            members = [index[task[index] == other] for other in pd.unique(task[index])]
            parts = [(own, row_weights[:, own]) for own in members]
            figures["macro_accuracy"] = np.mean([_ratio(w @ correct[own], w.sum(axis=1)) for own, w in parts], axis=0)
            figures["macro_f1"] = np.mean([f1_by_class(truth[own], predicted[own], w) for own, w in parts], axis=0)
        tally = tally_of(stated[index], correct[index], w if len(index) else w[:1])
        figures |= calibration.all_figures(tally, n_bins)
        if noise:
            seen = tally if as_they_are else tally_of(stated[index], correct[index], own_weights[:, index])
            deviations = {of: error.parts(tally, n_bins) - error.parts(seen, n_bins) for of, error in ERRORS.items()}
            figures |= {NOISE + of: ERRORS[of].size(values) for of, values in deviations.items()}
        rows.append((name, kind, {figure: np.broadcast_to(values, len(w)) for figure, values in figures.items()}))
    return rows


def opposites(columns: pd.DataFrame, labels: Sequence[str] = ("label",), truth_column: str = "truth") -> pd.DataFrame:
    """Cells with every yes-or-no outcome turned around: right and wrong, well-formed, with a confidence or without.

    The confidence itself stays, as that of the answer that turned out otherwise.
    """
    truth = columns[truth_column].to_numpy(dtype=object)
    turned = {name: np.where(columns[name].to_numpy(dtype=object) == truth, "", truth) for name in labels}
    for flag in ("well_formed", "has_confidence"):
        if flag in columns:
            turned[flag] = ~columns[flag].to_numpy(dtype=bool)
    return columns.assign(**turned)


def figure_interval(
    figure: str, point: float, resampled: np.ndarray, noise: np.ndarray | None = None
) -> tuple[float, float] | None:
    """The 95 % interval of a figure from its resamples; None when it is not defined.

    The percentiles of the resamples (Efron, 1979), and always with the estimate. An error that is a
    norm of signed gaps is raised by chance, so that zero, which no resample shows, may be the truth.
    By the triangle inequality |gaps seen| ≤ |true gaps| + |chance|: its interval starts at the
    estimate less the 97.5th percentile of |chance|, but not below 0, where chance are the deviations
    of the resamples' gaps from those seen. As a norm is convex, the upper percentile of the resamples,
    in which chance counts twice, is not too low. So this interval is conservative: it holds the true
    value in 95 % of the samples or more, whatever the gaps.

    Args:
        noise: for an error of ``ERRORS``, the size of the deviations in each resample.
    """
    low, high = (float(bound) for bound in interval(resampled))
    if not (np.isfinite(low) and np.isfinite(point)):
        return None
    if noise is not None:
        root = 1 / ERRORS[figure].power
        low = max(0.0, point**root - float(interval(noise)[1]) ** root) ** ERRORS[figure].power
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
    cells = Cells.of(columns.assign(has_confidence=columns[confidence].notna()), table["image"])

    def figures_of(part: Cells, weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        rows = estimate_rows(part, weights, label, confidence, n_bins, noise=True)
        return {(name, figure): values for name, _, figures in rows for figure, values in figures.items()}

    point, drawn = resampled(cells, n_resamples if len(table) else 0, seed, figures_of, lambda c: opposites(c, [label]))
    rows, weights = [], cells.weights
    for name, kind, index in slices(cells):
        row = Estimate(name, kind, round(weights[0, index].sum()))
        stated = cells.columns[confidence].to_numpy(dtype=float)[index]
        tally = tally_of(stated, np.zeros(len(index)), weights[:, index])
        if tally.n.sum():
            single = Tally(tally.value, tally.count[0], tally.correct[0])
            row.figures["ece_if_calibrated"] = calibration.ece_if_calibrated(single, n_bins)
        for (other, figure), value in point.items():
            if other != name or figure.startswith(NOISE) or not np.isfinite(value):
                continue
            row.figures[figure] = value
            if (name, figure) in drawn:
                bounds = figure_interval(figure, value, drawn[name, figure], drawn.get((name, NOISE + figure)))
                if bounds is not None:
                    row.intervals[figure] = bounds
        rows.append(row)
    return rows
