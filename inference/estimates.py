"""Every figure of tasks, groups and Overall, for the data as they are and for resamples of them.

cells = Cells.of(estimate_columns(table), table["image"])
point = estimate_rows(cells, cells.weights)            # [(name, kind, {figure: (1,)}), …]
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse

from inference import confidence_metrics
from inference.bootstrap import Cells
from inference.confidence_metrics import Tally
from inference.vecbench import GROUPS, TASKS, group_of

OVERALL = "Overall"


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
    value, code = np.unique(confidence[scored], return_inverse=True)
    member, weights = one_hot(code, len(value)), weights[:, scored]
    return Tally(value, sums(weights, member), sums(weights * correct[scored], member))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def estimate_rows(
    cells: Cells, weights: np.ndarray, label: str = "label", confidence: str = "confidence"
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
        figures |= confidence_metrics.all_figures(tally_of(stated[index], correct[index], w))
        rows.append((name, kind, figures))
    return rows
