"""The corrected protocol's figures in full: as text with intervals, and as a table for programs.

print(full_table(rows, interval_notes(1000, 0)))
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import pandas as pd

from inference.metrics.bootstrap import LEVEL
from inference.metrics.calibration import N_BINS
from inference.metrics.protocols import Row, corrected_rows
from inference.metrics.sources import VERBALIZED, source_rows
from inference.metrics.tables import NOT_AVAILABLE

# figure → (what it is, number format, factor): percentages where it is a share or a probability.
FIGURES = {
    "accuracy": ("Acc", ".2f", 100),
    "macro_accuracy": ("Acc, mean over tasks", ".2f", 100),
    "f1": ("F1 (weighted)", ".2f", 100),
    "macro_f1": ("F1, mean over tasks", ".2f", 100),
    "format_rate": ("Format adherence", ".2f", 100),
    "confidence_rate": ("Confidence adherence", ".2f", 100),
    "ece": ("ECE, equal-width bins", ".2f", 100),
    "ece_if_calibrated": ("  ECE by chance alone", ".2f", 100),
    "ece_equal_mass": ("ECE, equal-mass bins", ".2f", 100),
    "smooth_ece": ("Smooth ECE, no bins", ".2f", 100),
    "mce": ("MCE", ".2f", 100),
    "overconfidence": ("Overconfident part of ECE", ".2f", 100),
    "underconfidence": ("Underconfident part of ECE", ".2f", 100),
    "confidence_gap": ("Confidence − accuracy", ".2f", 100),
    "brier": ("Brier", ".2f", 100),
    "brier_reliability": ("  reliability (lower is better)", ".2f", 100),
    "brier_resolution": ("  resolution (higher is better)", ".2f", 100),
    "brier_uncertainty": ("  uncertainty", ".2f", 100),
    "brier_within_bins": ("  within bins", ".2f", 100),
    "log_loss": ("Log loss, nats", ".3f", 1),
    "roc_auc": ("ROC AUC", ".2f", 100),
    "auprc": ("AUPRC", ".2f", 100),
    "auprc_errors": ("AUPRC of errors", ".2f", 100),
    "aurc": ("AURC", ".2f", 100),
    "e_aurc": ("E-AURC", ".2f", 100),
    "accuracy_at_80_coverage": ("Acc at 80 % coverage", ".2f", 100),
    "accuracy_at_90_coverage": ("Acc at 90 % coverage", ".2f", 100),
    "coverage_at_5_risk": ("Coverage at 5 % risk", ".2f", 100),
    "coverage_at_10_risk": ("Coverage at 10 % risk", ".2f", 100),
    "mean_confidence": ("Mean confidence", ".2f", 100),
    "confidence_spread": ("Spread of confidence (std)", ".2f", 100),
    "distinct_confidences": ("Distinct confidences", ".0f", 1),
    "top_two_share": ("Share of the top two", ".2f", 100),
}
# What tells one confidence from another at a glance.
SOURCE_FIGURES = ("accuracy", "ece", "smooth_ece", "brier", "log_loss", "roc_auc", "aurc", "coverage_at_10_risk")
DRAWN_SOURCE_FIGURES = ("ece", "brier", "roc_auc", "aurc")


def short_name(figure: str) -> str:
    """The figure's name without its explanation."""
    return FIGURES[figure][0].strip().partition(",")[0]


def figure_value(row: Row, figure: str) -> float | None:
    """The figure of a row, whether it is one of the row's own fields or one of ``more``."""
    return row.more.get(figure, getattr(row, figure, None))


def rows_by_source(table: pd.DataFrame, n_resamples: int = 0, n_bins: int = N_BINS) -> dict[str, list[Row]]:
    """confidence → its rows under the corrected protocol, the verbalized one first."""
    others = source_rows(table, n_resamples, n_bins)
    stated = {VERBALIZED: corrected_rows(table, n_resamples, n_bins)}
    return stated | {name: [Row.of(row) for row in rows] for name, rows in others.items()}


def figure_text(row: Row, figure: str) -> str:
    """The number, with its interval in brackets when it has one."""
    value = figure_value(row, figure)
    if value is None:
        return NOT_AVAILABLE
    _, number_format, factor = FIGURES[figure]
    text = format(factor * value, number_format)
    if figure in row.intervals and number_format != ".0f":
        text += " [{}, {}]".format(*(format(factor * bound, number_format) for bound in row.intervals[figure]))
    return text


def _columns(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]

    def text(line: Sequence[str]) -> str:
        return "  ".join([line[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(line[1:], widths[1:], strict=True))])

    return "\n".join([text(header), "-" * (sum(widths) + 2 * len(widths) - 2), *map(text, lines)]) + "\n"


def apart_note(n_rows: int) -> list[str]:
    """What must be said when samples of one image are drawn one by one (``bootstrap.drawn_together``)."""
    if not n_rows:
        return []
    return [
        f"{n_rows} samples share an image, a placeholder perhaps, beside which their tasks have hardly another one: "
        "they were drawn one by one, as if each had an image of its own"
    ]


def interval_notes(n_resamples: int, n_apart: int) -> list[str]:
    """How the intervals in brackets were made, and which are none in the strict sense; empty without any."""
    if not n_resamples:
        return []
    return [
        f"{LEVEL:.0%} bootstrap interval, {n_resamples} resamples of the images within their tasks",
        *apart_note(n_apart),
    ]


def full_table(rows: Sequence[Row], notes: Sequence[str] = (), n_bins: int = N_BINS) -> str:
    """One line per metric, one column per group and Overall, under ``interval_notes``. The tasks are in metrics.tsv."""
    shown = [row for row in rows if row.kind != "task"]
    lines = [[name, *(figure_text(row, figure) for row in shown)] for figure, (name, _, _) in FIGURES.items()]
    text = f"Confidence in full, corrected protocol, {n_bins} bins; tasks in metrics.tsv\n"
    text += "".join(f"{'[low, high]' if i == 0 else 'NOTE'}: {note}\n" for i, note in enumerate(notes))
    return text + _columns(["", *(row.name for row in shown)], lines)


def sources_table(sources: Mapping[str, Sequence[Row]]) -> str:
    """Every confidence of the run side by side, for the groups and Overall; empty with only one."""
    if len(sources) < 2:
        return ""
    names = [row.name for row in next(iter(sources.values())) if row.kind != "task"]
    lines = [
        [f"{name}: {source}", *(figure_text(row, figure) for figure in SOURCE_FIGURES)]
        for name in names
        for source, rows in sources.items()
        for row in rows
        if row.name == name
    ]
    return "Confidences compared\n" + _columns(["", *map(short_name, SOURCE_FIGURES)], lines)


def metrics_tsv(sources: Mapping[str, Sequence[Row]]) -> str:
    """Every figure of every row, one per line: confidence, row, kind, n, figure, value, low, high (fractions)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(["confidence", "row", "kind", "n_samples", "figure", "value", "low", "high"])
    for source, rows in sources.items():
        for row in rows:
            for figure in FIGURES:
                value = figure_value(row, figure)
                if value is not None:
                    bounds = (f"{bound:.6f}" for bound in row.intervals.get(figure, ()))
                    cells = [source, row.name, row.kind, row.n_samples, figure, f"{value:.6f}", *bounds]
                    writer.writerow(cells + [""] * (8 - len(cells)))
    return buffer.getvalue()


def source_points(sources: Mapping[str, Sequence[Row]]) -> list[tuple[str, str, float | None, float, float]]:
    """(confidence, figure, value, low, high) over all samples, as ``plots_comparison`` draws them."""
    points = []
    for figure in DRAWN_SOURCE_FIGURES:
        factor = FIGURES[figure][2]
        for source, rows in sources.items():
            value = figure_value(rows[-1], figure)
            low, high = rows[-1].intervals.get(figure, (float("nan"), float("nan")))
            known = None if value is None else factor * value
            points.append((source, short_name(figure), known, factor * low, factor * high))
    return points
