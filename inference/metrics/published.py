"""How numbers look as text: the two published tables to the byte, and the corrected one.

from inference.metrics.tables import published_table
print(published_table(rows))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inference.data.vecbench import GROUPS
from inference.metrics.estimates import OVERALL
from inference.metrics.protocols import Row
from inference.metrics.scores import THRESHOLDS

NOT_AVAILABLE = "N/A"

# (header, width, number format) of each column; numbers are percentages.
METRIC_COLUMNS = (("Task", 15, ""), ("Acc", 8, ">6.2f"), ("F1", 8, ">6.2f"), ("#Samples", 9, ""))
CONFIDENCE_COLUMNS = (
    ("Task/Group", 15, ""),
    ("Acc", 6, ">6.2f"),
    ("F1", 6, ">6.2f"),
    ("ECE", 8, ">8.2f"),
    ("Brier", 10, ">10.2f"),
    ("ROC AUC", 10, ">10.2f"),
    ("#Samples", 9, ""),
)
CORRECTED_COLUMNS = (
    ("Task/Group", 15, ""),
    ("Acc", 6, ">6.2f"),
    ("Macro", 6, ">6.2f"),
    ("F1", 6, ">6.2f"),
    ("ECE", 6, ">6.2f"),
    ("Brier", 6, ">6.2f"),
    ("ROC AUC", 7, ">7.2f"),
    ("Conf %", 6, ">6.2f"),
    ("Format %", 8, ">8.2f"),
    ("#Samples", 9, ""),
)

CORRECTED_NOTES = """\
What differs from the published protocol:
  Prediction: the one candidate that is a whole word inside <answer>, newlines allowed; what stands between <think>
    and </think> is not searched. Compared in lower case and Unicode's NFKC, blanks around and within a label made one.
  Several labels: different candidates in the answers are no answer (published: the first of the record's order).
  Overall: the same prediction as the rows (published: the whole response, reasoning included).
  Conf %: a confidence that is missing, not one plain number (85%, 0,85) or outside [0, 1] is a format failure; its
    sample stays in Acc, F1.
  ECE: bins are [0.0, 0.1), [0.1, 0.2) … [0.9, 1.0] in decimal, so that 0.3, 0.6 and 0.7 open a bin (published: the bin
    below) and 1.00 counts (published: in no bin); ECE, Brier, ROC AUC are over the valid confidences.
  Macro: the mean of the tasks' accuracies, as in the paper's table; Acc pools the samples, as its group rows do.
  Format %: all five reasoning steps, one answer and one valid confidence.
What differs from the published tool in the published tables: a confidence "nan" is text that is no number (there: a
  number, which makes figures of its group nan), and the task UnbaisedEmo-6 is UnbiasedEmo-6 (there: another task)."""


def percent(value: float | None, number_format: str) -> str:
    return NOT_AVAILABLE if value is None else format(100 * value, number_format)


def _render(columns: Sequence[tuple[str, int, str]], blocks: Sequence[Sequence[Sequence[str]]]) -> str:
    """A header and blocks of cells between rules; cells are padded to the header's width."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    header = line([f"{name:<{width}}" for name, width, _ in columns])
    rule = "-" * len(header)
    lines = [rule, header, rule]
    for block in blocks:
        if block:
            lines += [line(cells) for cells in block]
            lines.append(rule)
    return "\n".join(lines) + "\n"


def _blocks(rows: Sequence[Row], cells) -> list[list[list[str]]]:
    return [[cells(row) for row in rows if row.kind == kind] for kind in ("task", "group", "overall")]


def published_table(rows: Sequence[Row]) -> str:
    """metric.log's table. The number cells are narrower than their header, as published."""

    def cells(row: Row) -> list[str]:
        return [f"{row.name:<15}", percent(row.accuracy, ">6.2f"), percent(row.f1, ">6.2f"), f"{row.n_samples:<9}"]

    return _render(METRIC_COLUMNS, _blocks(rows, cells))


def _padded(columns: Sequence[tuple[str, int, str]], row: Row, values: Sequence[float | None]) -> list[str]:
    inner = [f"{percent(value, fmt):<{width}}" for value, (_, width, fmt) in zip(values, columns[1:-1], strict=True)]
    return [f"{row.name:<{columns[0][1]}}", *inner, f"{row.n_samples:<{columns[-1][1]}}"]


def published_confidence_table(rows: Sequence[Row]) -> str:
    """metric_conf.log's table; ECE, Brier and ROC AUC stand in the group rows only."""

    def cells(row: Row) -> list[str]:
        return _padded(CONFIDENCE_COLUMNS, row, (row.accuracy, row.f1, row.ece, row.brier, row.roc_auc))

    return _render(CONFIDENCE_COLUMNS, _blocks(rows, cells))


def corrected_table(rows: Sequence[Row]) -> str:
    """The corrected protocol's table; Macro stands in the group and Overall rows."""

    def cells(row: Row) -> list[str]:
        values = (row.accuracy, row.macro_accuracy, row.f1, row.ece, row.brier, row.roc_auc)
        return _padded(CORRECTED_COLUMNS, row, (*values, row.confidence_rate, row.format_rate))

    return _render(CORRECTED_COLUMNS, _blocks(rows, cells))


def metric_tsv(rows: Sequence[Row]) -> str:
    """Acc and F1 of every row as two tab-separated lines under a header line."""
    lines = [["", *(row.name for row in rows)]]
    lines.append(["Acc", *(percent(row.accuracy, ".2f") for row in rows)])
    lines.append(["F1", *(percent(row.f1, ".2f") for row in rows)])
    return "\n".join("\t".join(line) for line in lines) + "\n"


def group_tsv(rows: Sequence[Row]) -> str:
    """Acc, F1, ECE, Brier and ROC AUC of the three groups as one tab-separated line under a header."""
    groups = [row for row in rows if row.kind == "group"]
    names = ("Acc", "F1", "ECE", "Brier", "ROC AUC")
    header = [f"{row.name} {name}" for row in groups for name in names]
    values = [
        percent(value, ".2f") for row in groups for value in (row.accuracy, row.f1, row.ece, row.brier, row.roc_auc)
    ]
    return "\t".join(header) + "\n" + "\t".join(values) + "\n"


def thresholds_tsv(analysis: dict[str, list[dict[str, float]]]) -> str:
    """A line a threshold: ``t:`` and Acc, F1, Coverage of each group in turn, tab-separated."""
    lines = []
    for i, threshold in enumerate(THRESHOLDS):
        cells = [
            percent(analysis[group][i][name], ".2f") for group in GROUPS for name in ("accuracy", "f1", "coverage")
        ]
        lines.append("\t".join([f"{threshold:.1f}:", *cells]))
    return "\n".join(lines) + "\n"


def read_table(path: Path) -> list[Row]:
    """The rows of a published table as it stands in metric.log or metric_conf.log.

    Raises:
        OSError: when the file cannot be read.
        ValueError: when it holds no such table.
    """
    fields = {"Acc": "accuracy", "F1": "f1", "ECE": "ece", "Brier": "brier", "ROC AUC": "roc_auc"}
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
            numbers = {
                fields[column]: None if cell == NOT_AVAILABLE else float(cell) / 100
                for column, cell in zip(header[1:-1], cells[1:-1], strict=True)
            }
            rows.append(Row(name, kind, int(cells[-1]), **numbers))
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: expected numbers in percent, {error}") from None
    if not rows or rows[-1].kind != "overall":
        raise ValueError(f"{path}: expected the published table, ending with its {OVERALL} row")
    return rows
