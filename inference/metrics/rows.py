"""A row of metrics: of one task, one group or all samples, under either protocol; and how its numbers look as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

NOT_AVAILABLE = "N/A"

# metric → (what it is, number format, factor): percentages where it is a share or a probability.
METRICS = {
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
    "n_voted": ("Samples with votes", ".0f", 1),
    "vote_distance": ("Distance from vote share", ".2f", 100),
    "vote_brier": ("Brier, by votes", ".2f", 100),
    "vote_log_loss": ("Log loss by votes, nats", ".3f", 1),
    "vote_entropy_correlation": ("Rank correlation of 1 − c, votes' entropy", ".3f", 1),
    "vote_js_responses": ("JS distance, responses from votes", ".2f", 100),
    "vote_js_candidates": ("JS distance, candidates from votes", ".2f", 100),
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
    return METRICS[metric][0].strip().partition(",")[0]


def metric_text(row: Row, metric: str) -> str:
    """The number, with its interval in brackets when it has one."""
    value = row.metrics.get(metric)
    if value is None:
        return NOT_AVAILABLE
    _, number_format, factor = METRICS[metric]
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
