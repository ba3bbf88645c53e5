"""The two protocols: from one table of predictions to rows of scores.

``published_*`` reproduce the published tables, quirks included; ``corrected_rows`` is what
the metrics mean. All take the table that ``prediction_table`` makes (one row a sample) and
return rows of fractions; ``inference.metrics.tables`` turns them into text.

    table = prediction_table(results)
    rows = published_rows(table)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from inference.data.doubts import label_doubt
from inference.data.response import UNKNOWN, Reading, normal_label, read_response
from inference.data.vecbench import GROUPS, TASKS, canonical_task, group_of, image_of
from inference.metrics import scores
from inference.metrics.calibration import N_BINS
from inference.metrics.estimates import OVERALL, Estimate, estimate

MAX_MATRIX_LABELS = 1000  # a million cells; as many labels as samples, as bad data may have, would fill the memory


@dataclass
class Row:
    """One line of a table: fractions, None where a number is not defined.

    Attributes:
        more: further figures of the corrected protocol, by name.
        intervals: figure → (low, high), 95 % bootstrap intervals.
    """

    name: str
    kind: str  # "task", "group" or "overall"
    n_samples: int
    accuracy: float | None = None
    f1: float | None = None
    ece: float | None = None
    brier: float | None = None
    roc_auc: float | None = None
    macro_accuracy: float | None = None
    confidence_rate: float | None = None
    format_rate: float | None = None
    more: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, estimate: Estimate) -> Row:
        own = {field.name for field in fields(cls)}
        main = {name: value for name, value in estimate.figures.items() if name in own}
        more = {name: value for name, value in estimate.figures.items() if name not in own}
        return cls(estimate.name, estimate.kind, estimate.n_samples, **main, more=more, intervals=estimate.intervals)

    def to_json(self) -> dict[str, Any]:
        main = asdict(self)
        more, intervals = main.pop("more"), main.pop("intervals")
        known = {key: value for key, value in main.items() if value is not None} | more
        bounds = {figure: {"low": low, "high": high} for figure, (low, high) in intervals.items()}
        return known | ({"intervals": bounds} if bounds else {})


class _CanonicalTasks(dict):
    """Task name as written → (its name in the table, its group), looked up once a name."""

    def __missing__(self, name: str) -> tuple[str, str | None]:
        self[name] = canonical_task(name), group_of(name)
        return self[name]


def prediction_table(results: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Read each response once: one row a sample, in order.

    Columns: sample_id, task, group (None outside VECBench), image (None when it is not named), truth
    (of ``normal_label``) and published_truth (lower-cased), label_doubt, cut_off (by the limit of new
    tokens), and the fields of ``Reading``; both confidences are floats with NaN where there is none, the
    published one clipped to [0, 1].
    """
    rows = []
    canonical = _CanonicalTasks()
    for result in results:
        reading = read_response(result["response"], result["candidates"])
        truth = result["ground_truth"]
        known = (result.get("sample_id"), *canonical[result["task"]], image_of(result))
        labels = (normal_label(truth), truth.lower(), label_doubt(truth, tuple(result["candidates"])))
        rows.append((*known, *labels, result.get("finish_reason") == "length", *reading))
    known_names = ("sample_id", "task", "group", "image", "truth", "published_truth", "label_doubt", "cut_off")
    names = (*known_names, *Reading._fields)
    # Column by column and typed: pandas would look at each value to find out what it is.
    values = zip(*rows, strict=True) if rows else ((),) * len(names)
    types = dict.fromkeys(("published_confidence", "confidence"), float)
    types |= dict.fromkeys(("published_confidence_unreadable", "well_formed", "cut_off"), bool)
    table = pd.DataFrame(
        {name: np.array(column, dtype=types.get(name, object)) for name, column in zip(names, values, strict=True)}
    )
    table["published_confidence"] = table["published_confidence"].clip(0.0, 1.0)
    return table


def _by(table: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """value of a column → its samples in the table's order; samples without a value are left out."""
    return dict(tuple(table.groupby(column, sort=False)))


def task_slices(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(task, its samples) in the published table's order; tasks without a sample are left out."""
    by_task = _by(table, "task")
    return ((name, by_task[name]) for name in TASKS if name in by_task)


def group_slices(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(group, its samples) for all three groups, empty ones included."""
    by_group = _by(table, "group")
    return ((group, by_group.get(group, table.iloc[:0])) for group in GROUPS)


def _correct(part: pd.DataFrame, truth: str = "truth", label: str = "label") -> np.ndarray:
    return (part[truth].to_numpy() == part[label].to_numpy()).astype(int)


def _prediction_row(name: str, kind: str, part: pd.DataFrame, label: str) -> Row:
    truth, predicted = part["published_truth"].to_numpy(), part[label].to_numpy()
    return Row(name, kind, len(part), scores.accuracy(truth, predicted), scores.weighted_f1(truth, predicted))


def _without_unreadable(table: pd.DataFrame) -> pd.DataFrame:
    unreadable = table["published_confidence_unreadable"].to_numpy(dtype=bool)
    return table[~unreadable] if unreadable.any() else table


def published_rows(table: pd.DataFrame) -> list[Row]:
    """metric.log: Acc and F1 per task, then Overall, which reads the whole response."""
    rows = [_prediction_row(name, "task", part, "published_label") for name, part in task_slices(table)]
    return [*rows, _prediction_row(OVERALL, "overall", table, "published_overall_label")]


def published_confidence_rows(table: pd.DataFrame) -> list[Row]:
    """metric_conf.log: the task rows, the groups with calibration, Overall.

    Samples whose confidence is not a number are dropped from every row (published quirk).
    A group without any confidence keeps Acc over all its samples; its other cells are None.
    """
    table = _without_unreadable(table)
    *rows, overall = published_rows(table)
    for group, part in group_slices(table):
        row = _prediction_row(group, "group", part, "published_label")
        scored = part[part["published_confidence"].notna()]
        if len(scored):
            confidence, correct = (
                scored["published_confidence"].to_numpy(),
                _correct(scored, "published_truth", "published_label"),
            )
            row.accuracy = float(correct.mean())
            row.roc_auc = scores.confidence_roc_auc(confidence, correct)
            if row.roc_auc is not None:  # the published table prints all three or none
                row.ece = scores.published_calibration_error(confidence, correct)
                row.brier = scores.brier_score(confidence, correct)
        rows.append(row)
    return [*rows, overall]


def published_thresholds(table: pd.DataFrame) -> dict[str, list[dict[str, float]]]:
    """group → accuracy, F1 and coverage for t = 0.1 … 0.9 (see ``scores.threshold_analysis``)."""
    table = _without_unreadable(table)
    analysis = {}
    for group, part in group_slices(table):
        scored = part[part["published_confidence"].notna()]
        columns = (scored[name].to_numpy() for name in ("published_truth", "published_label", "published_confidence"))
        analysis[group] = scores.threshold_analysis(*columns, n_total=len(part))
    return analysis


def corrected_rows(table: pd.DataFrame, n_resamples: int = 0, n_bins: int = N_BINS, seed: int = 0) -> list[Row]:
    """Tasks, groups and Overall under the corrected protocol, with every figure of ``estimates``.

    Every sample is in every denominator of Acc, F1 and the two rates. The calibration
    numbers are over the samples with a valid confidence, whose share is ``confidence_rate``.
    ``macro_accuracy`` is the mean of the tasks' accuracies. ``n_resamples`` of the bootstrap give
    each figure an interval; 0 gives none. ``n_bins`` are those of ECE, MCE and Brier's parts.
    """
    return [Row.of(row) for row in estimate(table, n_resamples, seed, n_bins=n_bins)]


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
    by_task = _by(table, "task")
    for name in [*(name for name in TASKS if name in by_task), *sorted(by_task.keys() - TASKS.keys())]:
        part = by_task[name]
        labels = label_order(name, part)
        labels += [UNKNOWN] if UNKNOWN not in labels and (part["label"] == UNKNOWN).any() else []
        # As numbers: scikit-learn sorts and compares labels many times over.
        code = pd.Index(labels)
        truth, predicted = code.get_indexer(part["truth"]), code.get_indexer(part["label"])
        codes = np.arange(len(labels))
        precision, recall, f1, support = precision_recall_fscore_support(
            truth, predicted, labels=codes, zero_division=np.nan
        )
        matrix = None
        if len(labels) <= MAX_MATRIX_LABELS:  # counted here: scikit-learn warns of a matrix of one label
            cells = np.bincount(truth * len(labels) + predicted, minlength=len(labels) ** 2)
            matrix = cells.reshape(len(labels), len(labels)).tolist()
        columns = {"precision": precision, "recall": recall, "f1": f1}
        reports[name] = {
            "labels": labels,
            "confusion_matrix": matrix,
            **{key: [None if value != value else float(value) for value in column] for key, column in columns.items()},
            "support": support.tolist(),
        }
    return reports


def calibration_curves(table: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """group → ``scores.calibration_bins`` under the corrected protocol."""
    curves = {}
    for group, part in group_slices(table):
        scored = part[part["confidence"].notna()]
        curves[group] = scores.calibration_bins(scored["confidence"].to_numpy(), _correct(scored))
    return curves
