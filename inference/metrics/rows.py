"""A row of metrics: of one task, one group or all samples, under either protocol; and how its numbers look as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NOT_AVAILABLE = "N/A"


class Metric(NamedTuple):
    """How a metric is called and printed.

    Attributes:
        label: what it is; after a comma, by what.
        number_format, factor: its text is ``format(factor * value, number_format)``: percentages by default.
        higher_is_better: None where neither is.
    """

    label: str
    number_format: str = ".2f"
    factor: int = 100
    higher_is_better: bool | None = None


METRICS = {
    "accuracy": Metric("Acc", higher_is_better=True),
    "macro_accuracy": Metric("Acc, mean over tasks", higher_is_better=True),
    "f1": Metric("F1 (weighted)", higher_is_better=True),
    "macro_f1": Metric("F1, mean over tasks", higher_is_better=True),
    "format_rate": Metric("Format adherence", higher_is_better=True),
    "confidence_rate": Metric("Confidence adherence", higher_is_better=True),
    "ece": Metric("ECE, equal-width bins", higher_is_better=False),
    "ece_if_calibrated": Metric("  ECE by chance alone"),
    "ece_equal_mass": Metric("ECE, equal-mass bins", higher_is_better=False),
    "smooth_ece": Metric("Smooth ECE, no bins", higher_is_better=False),
    "mce": Metric("MCE", higher_is_better=False),
    "overconfidence": Metric("Overconfident part of ECE", higher_is_better=False),
    "underconfidence": Metric("Underconfident part of ECE", higher_is_better=False),
    "confidence_gap": Metric("Confidence − accuracy"),
    "brier": Metric("Brier", higher_is_better=False),
    "brier_reliability": Metric("  reliability (lower is better)", higher_is_better=False),
    "brier_resolution": Metric("  resolution (higher is better)", higher_is_better=True),
    "brier_uncertainty": Metric("  uncertainty"),
    "brier_within_bins": Metric("  within bins"),
    "log_loss": Metric("Log loss, nats", ".3f", 1, higher_is_better=False),
    "roc_auc": Metric("ROC AUC", higher_is_better=True),
    "auprc": Metric("AUPRC", higher_is_better=True),
    "auprc_errors": Metric("AUPRC of errors", higher_is_better=True),
    "aurc": Metric("AURC", higher_is_better=False),
    "e_aurc": Metric("E-AURC", higher_is_better=False),
    "accuracy_at_80_coverage": Metric("Acc at 80 % coverage", higher_is_better=True),
    "accuracy_at_90_coverage": Metric("Acc at 90 % coverage", higher_is_better=True),
    "coverage_at_5_risk": Metric("Coverage at 5 % risk", higher_is_better=True),
    "coverage_at_10_risk": Metric("Coverage at 10 % risk", higher_is_better=True),
    "mean_confidence": Metric("Mean confidence"),
    "confidence_spread": Metric("Spread of confidence (std)"),
    "distinct_confidences": Metric("Distinct confidences", ".0f", 1),
    "top_two_share": Metric("Share of the top two"),
    "n_voted": Metric("Samples with votes", ".0f", 1),
    "vote_distance": Metric("Distance from vote share", higher_is_better=False),
    "vote_brier": Metric("Brier, by votes", higher_is_better=False),
    "vote_log_loss": Metric("Log loss by votes, nats", ".3f", 1, higher_is_better=False),
    "vote_entropy_correlation": Metric("Rank correlation of 1 − c, votes' entropy", ".3f", 1, higher_is_better=True),
    "vote_js_responses": Metric("JS distance, responses from votes", higher_is_better=False),
    "vote_js_candidates": Metric("JS distance, candidates from votes", higher_is_better=False),
}
# Only of samples that people voted on: a run without votes says nothing about them.
VOTE_METRICS = tuple(metric for metric in METRICS if "vote" in metric)


@dataclass
class Row:
    """The metrics of one task, group or Overall.

    Attributes:
        kind: "task", "group" or "overall".
        metrics: metric → value, a fraction (log loss: nats); what is not defined is left out.
        intervals: metric → (low, high), the 95 % bootstrap interval.
    """

    name: str
    kind: str
    n_samples: int
    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        bounds = {metric: {"low": low, "high": high} for metric, (low, high) in self.intervals.items()}
        known = {"name": self.name, "kind": self.kind, "n_samples": self.n_samples, **self.metrics}
        return known | ({"intervals": bounds} if bounds else {})


def short_name(metric: str) -> str:
    """The metric's name without its explanation."""
    return METRICS[metric].label.strip().partition(",")[0]


def metric_text(row: Row, metric: str) -> str:
    """The number, with its interval in brackets when it has one."""
    value = row.metrics.get(metric)
    if value is None:
        return NOT_AVAILABLE
    _, number_format, factor, _ = METRICS[metric]
    text = format(factor * value, number_format)
    if metric in row.intervals and number_format != ".0f":
        text += " [{}, {}]".format(*(format(factor * bound, number_format) for bound in row.intervals[metric]))
    return text


def percent(value: float | None, number_format: str = ".2f") -> str:
    return NOT_AVAILABLE if value is None else format(100 * value, number_format)


# (header, its width, metric, number format) of each column between the rows' names and the numbers of samples.
Columns = Sequence[tuple[str, int, str, str]]


def ruled_table(first: str, columns: Columns, rows: Sequence[Row], padded: bool = True) -> str:
    """A table in the published layout: tasks, groups and Overall between rules, numbers in percent.

    Args:
        first: the header of the rows' names.
        padded: whether cells are as wide as their headers.
    """

    def line(name: str, cells: Sequence[str], n_samples: str) -> str:
        return f"| {' | '.join([f'{name:<15}', *cells, f'{n_samples:<9}'])} |"

    def cells(row: Row) -> list[str]:
        texts = [(percent(row.metrics.get(metric), form), width) for _, width, metric, form in columns]
        return [f"{text:<{width}}" if padded else text for text, width in texts]

    header = line(first, [f"{name:<{width}}" for name, width, _, _ in columns], "#Samples")
    rule = "-" * len(header)
    lines = [rule, header, rule]
    for kind in ("task", "group", "overall"):
        block = [line(row.name, cells(row), str(row.n_samples)) for row in rows if row.kind == kind]
        lines += [*block, rule] if block else []
    return "\n".join(lines) + "\n"


def aligned_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest text, the first one flush left, the others flush right."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]

    def text(line: Sequence[str]) -> str:
        return "  ".join([line[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(line[1:], widths[1:], strict=True))])

    return "\n".join([text(header), "-" * (sum(widths) + 2 * len(widths) - 2), *map(text, lines)]) + "\n"
