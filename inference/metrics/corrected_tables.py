"""The texts of the corrected protocol: its tables beside the published ones, its notes, its numbers for a spreadsheet.

    print(corrected_table(rows))

Takes rows of ``corrected.estimate``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from inference.metrics.bootstrap import LEVEL, drawn_together
from inference.metrics.calibration import N_BINS
from inference.metrics.rows import METRICS, VOTE_METRICS, Row, aligned_table, metric_text, ruled_table, short_name

COLUMNS = (
    ("Acc", 6, "accuracy", ">6.2f"),
    ("Macro", 6, "macro_accuracy", ">6.2f"),
    ("F1", 6, "f1", ">6.2f"),
    ("ECE", 6, "ece", ">6.2f"),
    ("Brier", 6, "brier", ">6.2f"),
    ("ROC AUC", 7, "roc_auc", ">7.2f"),
    ("Conf %", 6, "confidence_rate", ">6.2f"),
    ("Format %", 8, "format_rate", ">8.2f"),
)
# What tells one confidence from another at a glance.
SOURCE_METRICS = (
    "accuracy", "ece", "smooth_ece", "brier", "log_loss", "roc_auc", "aurc", "coverage_at_10_risk",
    "vote_distance",
)  # fmt: skip
DRAWN_SOURCE_METRICS = ("ece", "brier", "roc_auc", "aurc")

_NOTES = """\
What differs from the published protocol:
  Prediction: the one candidate that is a whole word inside <answer>, newlines allowed; what is between <think>
    and </think> is not searched. Compared in lower case and Unicode's NFKC, blanks around and within a label made one.
  Several labels: different candidates in the answers are no answer (published: the first of the record's order).
  Overall: the same prediction as the rows (published: the whole response, reasoning included).
  Conf %: a confidence that is missing, not one plain number (85%, 0,85) or outside [0, 1] is a format failure; its
    sample stays in Acc, F1.
  ECE: {n_bins} bins of equal width over decimal numbers, the last one closed (published: 10, over floats, so that 0.3,
    0.6 and 0.7 are in the bin below, and 1.00 in none); ECE, Brier, ROC AUC are over the valid confidences.
  Macro: the mean of the tasks' accuracies, as in the paper's table; Acc pools the samples, as its group rows do.
  Format %: all five reasoning steps, one answer and one valid confidence.
What differs from the published tool in the published tables: a confidence "nan" is text that is no number (there: a
  number, which makes metrics of its group nan), and the task UnbaisedEmo-6 is UnbiasedEmo-6 (there: another task)."""


def notes(n_bins: int = N_BINS) -> str:
    """What differs from the published protocol where the corrected metrics have so many bins."""
    return _NOTES.format(n_bins=n_bins)


def apart_note(n_rows: int) -> list[str]:
    """What must be said when samples of one image are drawn one by one (``bootstrap.drawn_together``)."""
    if not n_rows:
        return []
    return [
        f"{n_rows} samples share an image, a placeholder perhaps, beside which their tasks have hardly another one: "
        "they were drawn one by one, as if each had an image of its own"
    ]


def interval_notes(table: pd.DataFrame, n_resamples: int) -> list[str]:
    """How the intervals in brackets were made, and which are none in the strict sense; empty without any."""
    if not n_resamples:
        return []
    _, n_apart = drawn_together(table["task"], table["image"])
    return [
        f"{LEVEL:.0%} bootstrap interval, {n_resamples} resamples of the images within their tasks",
        *apart_note(n_apart),
    ]


def corrected_table(rows: Sequence[Row]) -> str:
    """The table below the published one; Macro is in the group and Overall rows."""
    return ruled_table("Task/Group", COLUMNS, rows)


def _without_absent_votes(metrics: Iterable[str], rows: Sequence[Row]) -> list[str]:
    """The metrics without those about votes that no row has."""
    return [name for name in metrics if name not in VOTE_METRICS or any(name in row.metrics for row in rows)]


def full_table(rows: Sequence[Row], notes: Sequence[str] = (), n_bins: int = N_BINS) -> str:
    """One line per metric, one column per group and Overall, under ``interval_notes``. The tasks are in metrics.tsv."""
    shown = [row for row in rows if row.kind != "task"]
    metrics = _without_absent_votes(METRICS, rows)
    lines = [[METRICS[metric].label, *(metric_text(row, metric) for row in shown)] for metric in metrics]
    text = f"Confidence in full, corrected protocol, {n_bins} bins; tasks in metrics.tsv\n"
    text += "".join(f"{'[low, high]' if i == 0 else 'NOTE'}: {note}\n" for i, note in enumerate(notes))
    return text + aligned_table(["", *(row.name for row in shown)], lines)


def _n_with_confidence(row: Row) -> str:
    return str(round(row.n_samples * row.metrics.get("confidence_rate", 0)))


def sources_table(sources: Mapping[str, Sequence[Row]]) -> str:
    """Every confidence of the run side by side, for the groups and Overall; empty with only one.

    Not every sample has every confidence: the first column counts those that do.
    """
    if len(sources) < 2:
        return ""
    metrics = _without_absent_votes(SOURCE_METRICS, next(iter(sources.values())))
    lines = [
        [f"{rows[0].name}: {source}", _n_with_confidence(row), *(metric_text(row, metric) for metric in metrics)]
        for rows in zip(*sources.values(), strict=True)
        if rows[0].kind != "task"
        for source, row in zip(sources, rows, strict=True)
    ]
    head = "Confidences compared; With it: samples that have this confidence; metrics of it are over these\n"
    return head + aligned_table(["", "With it", *map(short_name, metrics)], lines)


def metrics_tsv(sources: Mapping[str, Sequence[Row]]) -> str:
    """Every metric of every row, one per line: confidence, row, kind, n, name, value, low, high (fractions)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(["confidence", "row", "kind", "n_samples", "figure", "value", "low", "high"])
    for source, rows in sources.items():
        for row in rows:
            for metric in METRICS:
                if metric in row.metrics:
                    bounds = [f"{bound:.6f}" for bound in row.intervals.get(metric, ())] or ["", ""]
                    value = f"{row.metrics[metric]:.6f}"
                    writer.writerow([source, row.name, row.kind, row.n_samples, metric, value, *bounds])
    return buffer.getvalue()


def source_points(sources: Mapping[str, Sequence[Row]]) -> list[tuple[str, str, float | None, float, float]]:
    """(confidence, metric, value, low, high) over all samples, as ``plots.intervals`` draws them."""
    points = []
    for metric in DRAWN_SOURCE_METRICS:
        factor = METRICS[metric].factor
        for source, rows in sources.items():
            value = rows[-1].metrics.get(metric)
            bounds = rows[-1].intervals.get(metric, (float("nan"), float("nan")))
            known = None if value is None else factor * value
            points.append((source, short_name(metric), known, *(factor * bound for bound in bounds)))
    return points
