"""The published protocol, quirks included: its rows, its tables to the byte, and tables read back.

    published.evaluate(table).metric_table     # as metric.log has it

Takes the table of ``prediction_table``. Sums are taken in the order of the samples, as the published tool does:
in another order a half-way case may round otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from inference.data.vecbench import GROUPS
from inference.metrics.calibration import N_BINS, bin_of
from inference.metrics.classification import accuracy, weighted_f1
from inference.metrics.prediction_table import OVERALL, group_slices, task_slices
from inference.metrics.rows import NOT_AVAILABLE, Row, percent, ruled_table

THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))
METRIC_COLUMNS = (("Acc", 8, "accuracy", ">6.2f"), ("F1", 8, "f1", ">6.2f"))
CONFIDENCE_COLUMNS = (
    ("Acc", 6, "accuracy", ">6.2f"),
    ("F1", 6, "f1", ">6.2f"),
    ("ECE", 8, "ece", ">8.2f"),
    ("Brier", 10, "brier", ">10.2f"),
    ("ROC AUC", 10, "roc_auc", ">10.2f"),
)

LABELS = ("published_truth", "published_label", "published_overall_label")

# group → a row per threshold: threshold, accuracy, f1, coverage (None without any sample)
Thresholds = dict[str, list[dict[str, float | None]]]


def _row(name: str, kind: str, part: pd.DataFrame, label: str = "published_label") -> Row:
    pair = part["published_truth"], part[label]
    metrics = {"accuracy": accuracy(*pair), "f1": float(weighted_f1(*pair)[0])} if len(part) else {}
    return Row(name, kind, len(part), metrics)


def metric_rows(table: pd.DataFrame) -> list[Row]:
    """metric.log: Acc and F1 per task, then Overall, which reads the whole response."""
    rows = [_row(name, "task", part) for name, part in task_slices(table)]
    return [*rows, _row(OVERALL, "overall", table, "published_overall_label")]


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["published_confidence_unreadable"].to_numpy(dtype=bool)]


def calibration_error(confidence: np.ndarray, correctness: np.ndarray) -> float:
    """ECE over the published tool's bins (``calibration.bin_of``), a fraction (Guo et al., 2017, eq. 3); 0 if n is 0.

    Args:
        confidence, correctness: (n,) in [0, 1], and 0 or 1.
    """
    index = bin_of(confidence, published=True)
    error = 0.0  # added one by one: from Python 3.12 on, sum() compensates for rounding
    for inside in (index == k for k in range(N_BINS)):
        if inside.any():
            error += float(abs(correctness[inside].mean() - confidence[inside].mean()) * inside.mean())
    return error


def brier_score(confidence: np.ndarray, correctness: np.ndarray) -> float:
    """Mean squared difference of confidence and correctness, (n,) each, n ≥ 1 (Brier, 1950, for one event)."""
    return float(np.mean((confidence - correctness) ** 2))


def confidence_rows(table: pd.DataFrame) -> list[Row]:
    """metric_conf.log: the task rows, the groups with calibration, Overall.

    Samples whose confidence is not a number are dropped from every row (published quirk).
    A group without any confidence keeps Acc over all its samples; with one class only (all right or all wrong) the
    published table prints neither ECE, Brier nor ROC AUC.
    """
    table = _readable(table)
    *rows, overall = metric_rows(table)
    for group, part in group_slices(table):
        row = _row(group, "group", part)
        scored = part[part["published_confidence"].notna()]
        if len(scored):
            confidence = scored["published_confidence"].to_numpy()
            correctness = (scored["published_truth"] == scored["published_label"]).to_numpy(dtype=float)
            row.metrics["accuracy"] = float(correctness.mean())
            if len(np.unique(correctness)) == 2:
                row.metrics["ece"] = calibration_error(confidence, correctness)
                row.metrics["brier"] = brier_score(confidence, correctness)
                row.metrics["roc_auc"] = float(roc_auc_score(correctness, confidence))
        rows.append(row)
    return [*rows, overall]


def threshold_analysis(table: pd.DataFrame) -> Thresholds:
    """Accuracy, F1 and coverage when only answers with confidence ≥ t are given, t = 0.1 … 0.9.

    As published, accuracy and F1 are 0 where no answer is left. Coverage is a share of all samples of the group, with
    a confidence or without.
    """
    analysis: Thresholds = {}
    for group, part in group_slices(_readable(table)):
        analysis[group] = []
        for threshold in THRESHOLDS:
            row: dict[str, float | None] = {"threshold": threshold, "accuracy": None, "f1": None, "coverage": None}
            if len(part):
                answered = part[part["published_confidence"] >= threshold]
                row |= {"accuracy": 0.0, "f1": 0.0, **_row(group, "group", answered).metrics}
                row["coverage"] = len(answered) / len(part)
            analysis[group].append(row)
    return analysis


def metric_table(rows: list[Row]) -> str:
    """metric.log's table. The number cells are narrower than their header, as published."""
    return ruled_table("Task", METRIC_COLUMNS, rows, padded=False)


def confidence_table(rows: list[Row]) -> str:
    """metric_conf.log's table; ECE, Brier and ROC AUC are in the group rows only."""
    return ruled_table("Task/Group", CONFIDENCE_COLUMNS, rows)


def metric_tsv(rows: list[Row]) -> str:
    """Acc and F1 of every row as two tab-separated lines under a header line."""
    lines = [["", *(row.name for row in rows)]]
    lines += [[name, *(percent(row.metrics.get(metric)) for row in rows)] for name, _, metric, _ in METRIC_COLUMNS]
    return "\n".join("\t".join(line) for line in lines) + "\n"


def group_tsv(rows: list[Row]) -> str:
    """Acc, F1, ECE, Brier and ROC AUC of the three groups as one tab-separated line under a header."""
    cells = [
        (f"{row.name} {name}", percent(row.metrics.get(metric)))
        for row in rows
        if row.kind == "group"
        for name, _, metric, _ in CONFIDENCE_COLUMNS
    ]
    return "\n".join("\t".join(line) for line in zip(*cells, strict=True)) + "\n"


def thresholds_tsv(analysis: Thresholds) -> str:
    """A line per threshold: ``t:`` and Acc, F1, Coverage of each group in turn, tab-separated."""
    lines = []
    for rows in zip(*analysis.values(), strict=True):
        cells = [percent(row[name]) for row in rows for name in ("accuracy", "f1", "coverage")]
        lines.append("\t".join([f"{rows[0]['threshold']:.1f}:", *cells]) + "\n")
    return "".join(lines)


@dataclass
class Published:
    """What the published protocol says of a table, as texts and as metrics.json has it."""

    metric_table: str
    metric_tsv: str
    confidence_table: str
    confidence_tsv: str
    thresholds_tsv: str
    json: dict[str, Any]


def _coded(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that the protocol reads, labels as their places in the order of their names: F1 sorts many times."""
    codes, _ = pd.factorize(np.concatenate([table[name] for name in LABELS]), sort=True)
    columns = ["task", "group", "published_confidence", "published_confidence_unreadable"]
    return table[columns].assign(**dict(zip(LABELS, codes.reshape(len(LABELS), -1), strict=True)))


def evaluate(table: pd.DataFrame) -> Published:
    """Every row and text of the published protocol."""
    table = _coded(table)
    metric, confidence, analysis = metric_rows(table), confidence_rows(table), threshold_analysis(table)
    lines = thresholds_tsv(analysis)
    title = "Acc, F1, Coverage of ID VSA, ID VER, OOD VER for confidence >= threshold"
    return Published(
        metric_table(metric),
        metric_tsv(metric),
        confidence_table(confidence),
        f"{group_tsv(confidence)}\n{title}\n{lines}",
        lines,
        {
            "metric": [row.to_json() for row in metric],
            "metric_conf": [row.to_json() for row in confidence],
            "dropped_unreadable_confidence": int(table["published_confidence_unreadable"].sum()),
            "thresholds": analysis,
        },
    )


def read_table(path: Path) -> list[Row]:
    """The rows of a published table in metric.log or metric_conf.log.

    Raises:
        OSError: when the file cannot be read.
        ValueError: when it holds no such table.
    """
    names = {name: metric for name, _, metric, _ in CONFIDENCE_COLUMNS}
    rows: list[Row] = []
    header: list[str] | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] in ("Task", "Task/Group"):
            if header is not None:
                break  # the corrected table follows
            header = cells
            continue
        if header is None or len(cells) != len(header):
            raise ValueError(f"{path}, line {number}: expected a row of the published table")
        name = cells[0]
        kind = "overall" if name == OVERALL else "group" if name in GROUPS else "task"
        try:
            metrics = {
                names[column]: float(cell) / 100
                for column, cell in zip(header[1:-1], cells[1:-1], strict=True)
                if cell != NOT_AVAILABLE
            }
            rows.append(Row(name, kind, int(cells[-1]), metrics))
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: expected numbers in percent, {error}") from None
    if not rows or rows[-1].kind != "overall":
        raise ValueError(f"{path}: expected the published table, ending with its {OVERALL} row")
    return rows
