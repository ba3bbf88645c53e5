"""The two protocols: from one table of predictions to rows of metrics.

``published_*`` reproduce the published tables, quirks included; ``corrected_rows`` is what
the metrics mean. All take the table that ``prediction_table`` makes (one row a sample) and
return rows of fractions; ``inference.tables`` turns them into text.

    table = prediction_table(results)
    rows = published_rows(table)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from inference import metrics
from inference.response import Reading, read_response
from inference.vecbench import GROUPS, TASKS, canonical_task, group_of

OVERALL = "Overall"


@dataclass
class Row:
    """One line of a table: fractions, None where a number is not defined."""

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

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


def prediction_table(results: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Read each response once: one row a sample, in order.

    Columns: task, group (None outside VECBench), truth (lower-cased) and the fields of
    ``Reading``; both confidences are floats with NaN where there is none, the published one
    clipped to [0, 1].
    """
    rows = []
    for result in results:
        reading = read_response(result["response"], result["candidates"])
        task = canonical_task(result["task"])
        rows.append((task, group_of(task), result["ground_truth"].lower(), *vars(reading).values()))
    columns = ["task", "group", "truth", *(field.name for field in fields(Reading))]
    table = pd.DataFrame(rows, columns=columns)
    for column in ("published_confidence", "confidence"):
        table[column] = table[column].astype(float)
    table["published_confidence"] = table["published_confidence"].clip(0.0, 1.0)
    return table


def task_slices(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(task, its samples) in the table's order; tasks without a sample are left out."""
    by_task = dict(tuple(table.groupby("task", sort=False)))
    return ((name, by_task[name]) for name in TASKS if name in by_task)


def group_slices(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(group, its samples) for all three groups, empty ones included."""
    return ((group, table[table["group"] == group]) for group in GROUPS)


def _correct(part: pd.DataFrame, label: str) -> np.ndarray:
    return (part["truth"].to_numpy() == part[label].to_numpy()).astype(int)


def _prediction_row(name: str, kind: str, part: pd.DataFrame, label: str) -> Row:
    truth, predicted = part["truth"].to_numpy(), part[label].to_numpy()
    return Row(name, kind, len(part), metrics.accuracy(truth, predicted), metrics.weighted_f1(truth, predicted))


def _without_unreadable(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["published_confidence_unreadable"].astype(bool)]


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
            confidence, correct = scored["published_confidence"].to_numpy(), _correct(scored, "published_label")
            row.accuracy = float(correct.mean())
            row.roc_auc = metrics.confidence_roc_auc(confidence, correct)
            if row.roc_auc is not None:  # the published table prints all three or none
                row.ece = metrics.expected_calibration_error(confidence, correct, close_last=False)
                row.brier = metrics.brier_score(confidence, correct)
        rows.append(row)
    return [*rows, overall]


def published_thresholds(table: pd.DataFrame) -> dict[str, list[dict[str, float]]]:
    """group → accuracy, F1 and coverage for t = 0.1 … 0.9 (see ``metrics.threshold_analysis``)."""
    table = _without_unreadable(table)
    analysis = {}
    for group, part in group_slices(table):
        scored = part[part["published_confidence"].notna()]
        columns = (scored[name].to_numpy() for name in ("truth", "published_label", "published_confidence"))
        analysis[group] = metrics.threshold_analysis(*columns, n_total=len(part))
    return analysis


def corrected_rows(table: pd.DataFrame) -> list[Row]:
    """Tasks, groups and Overall under the corrected protocol.

    Every sample is in every denominator of Acc, F1 and the two rates. The calibration
    numbers are over the samples with a valid confidence, whose share is ``confidence_rate``.
    ``macro_accuracy`` is the mean of the tasks' accuracies.
    """
    rows = []
    slices = [
        *(("task", *pair) for pair in task_slices(table)),
        *(("group", *pair) for pair in group_slices(table)),
        ("overall", OVERALL, table),
    ]
    for kind, name, part in slices:
        row = _prediction_row(name, kind, part, "label")
        if len(part):
            scored = part[part["confidence"].notna()]
            confidence, correct = scored["confidence"].to_numpy(), _correct(scored, "label")
            row.ece = metrics.expected_calibration_error(confidence, correct)
            row.brier = metrics.brier_score(confidence, correct)
            row.roc_auc = metrics.confidence_roc_auc(confidence, correct)
            row.confidence_rate = len(scored) / len(part)
            row.format_rate = float(part["well_formed"].mean())
            if kind != "task":
                by_task = pd.Series(_correct(part, "label")).groupby(part["task"].to_numpy()).mean()
                row.macro_accuracy = float(by_task.mean())
        rows.append(row)
    return rows


def calibration_curves(table: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """group → ``metrics.calibration_bins`` under the corrected protocol."""
    curves = {}
    for group, part in group_slices(table):
        scored = part[part["confidence"].notna()]
        curves[group] = metrics.calibration_bins(scored["confidence"].to_numpy(), _correct(scored, "label"))
    return curves
