"""Accuracy and F1 of predicted labels, for the data as they are and for weighted resamples; reports by label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.metrics import precision_recall_fscore_support

from inference.data.response import UNKNOWN, normal_label
from inference.data.vecbench import TASKS
from inference.metrics.prediction_table import by_value

MAX_MATRIX_LABELS = 1000  # a million cells; as many labels as samples, as bad data may have, would fill the memory


def sums_by_code(weights: np.ndarray, codes: np.ndarray, n_codes: int) -> np.ndarray:
    """weights (k, n) summed over the samples of each code: (k, n_codes)."""
    member = sparse.csc_array((np.ones(len(codes)), codes, np.arange(len(codes) + 1)), shape=(n_codes, len(codes)))
    return (member @ weights.T).T


def share(flags: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted share of ``flags`` (n,), 0 or 1, per row of ``weights`` (k, n): (k,); NaN where the weights are zero."""
    n = weights.sum(axis=1)
    return np.divide(weights @ flags, n, out=np.full(n.shape, np.nan), where=n > 0)


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of equal pairs; NaN without one."""
    equal = (np.asarray(truth) == np.asarray(predicted)).astype(float)
    return float(share(equal, np.ones((1, len(equal))))[0])


def weighted_f1(truth: ArrayLike, predicted: ArrayLike, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean of the classes' F1, weighted by their numbers of true samples: (k,), one per row of ``weights`` (k, n).

    ``unknown`` counts as a predicted class like any other: it has no true sample, so its weight is zero, but it takes
    recall from the true class. Classes are summed in the order of their names, as scikit-learn's
    ``f1_score(average="weighted")`` does, so that half-way cases round alike.
    """
    both = np.concatenate([np.asarray(truth), np.asarray(predicted)])
    weights = np.ones((1, len(both) // 2)) if weights is None else weights
    if not len(both):
        return np.full(len(weights), np.nan)
    codes, names = pd.factorize(both, sort=True)
    true_code, predicted_code = codes[: len(codes) // 2], codes[len(codes) // 2 :]
    true, said = (sums_by_code(weights, code, len(names)) for code in (true_code, predicted_code))
    hits = sums_by_code(weights * (true_code == predicted_code), true_code, len(names))
    f1 = np.divide(2 * hits, true + said, out=np.zeros(hits.shape), where=true + said > 0)
    n = true.sum(axis=1)
    return np.divide((f1 * true).sum(axis=1), n, out=np.full(n.shape, np.nan), where=n > 0)


def label_order(task: str, part: pd.DataFrame, candidates: Sequence[str] | None = None) -> list[str]:
    """Labels of a task's rows: the candidates, or else VECBench's; then any other label of the data, sorted.

    ``unknown`` is not among them unless a truth says so.
    """
    if candidates is None:
        candidates = TASKS[task].labels if task in TASKS else ()
    order = [label for label in dict.fromkeys(map(normal_label, candidates)) if label]
    others = set(part["truth"]) | (set(part["label"]) - {UNKNOWN})
    return order + sorted(others - set(order))


def label_reports(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """task → labels, confusion matrix (rows: truth, columns: prediction), precision, recall, F1, support.

    Under the corrected protocol, ``unknown`` a predicted class like any other; tasks outside
    VECBench come last. None where a label was never predicted (precision) or never true (recall), and for
    the matrix of more than ``MAX_MATRIX_LABELS`` labels.
    """
    reports = {}
    by_task = by_value(table[["task", "truth", "label"]], "task")
    for name in [*(name for name in TASKS if name in by_task), *sorted(by_task.keys() - TASKS.keys())]:
        part = by_task[name]
        labels = label_order(name, part)
        labels += [UNKNOWN] if UNKNOWN not in labels and (part["label"] == UNKNOWN).any() else []
        # As numbers: scikit-learn sorts and compares labels many times over.
        code = pd.Index(labels)
        truth, predicted = code.get_indexer(part["truth"]), code.get_indexer(part["label"])
        columns = precision_recall_fscore_support(truth, predicted, labels=np.arange(len(labels)), zero_division=np.nan)
        precision, recall, f1 = (
            [None if np.isnan(value) else float(value) for value in column] for column in columns[:3]
        )
        matrix = None
        if len(labels) <= MAX_MATRIX_LABELS:  # counted here: scikit-learn warns of a matrix of one label
            cells = np.bincount(truth * len(labels) + predicted, minlength=len(labels) ** 2)
            matrix = cells.reshape(len(labels), len(labels)).tolist()
        reports[name] = {
            "labels": labels,
            "confusion_matrix": matrix,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "support": columns[3].tolist(),
        }
    return reports
