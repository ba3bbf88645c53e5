"""The tables and plots of a report, from what metrics.json and the run's folder hold; page/ has their HTML.

print(tables_html(json.loads(Path("my_run/metrics.json").read_text())))

Tables are made from their rows: a metric that this module has never heard of is shown under its own
name. Every string is escaped. Plain HTML: they are there without JavaScript and in print.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader

from inference.metrics.bootstrap import LEVEL
from inference.metrics.rows import METRICS, Metric

PAGE = Path(__file__).with_name("page")
TEMPLATES = Environment(loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True)

# The columns of a table; the table below it has all metrics of its rows.
MAIN_COLUMNS = {
    "accuracy": "Acc",
    "macro_accuracy": "Macro Acc",
    "f1": "F1",
    "ece": "ECE",
    "brier": "Brier",
    "roc_auc": "ROC AUC",
    "vote_distance": "|c − vote share|",
    "vote_entropy_correlation": "ρ of 1 − c, entropy",
    "confidence_rate": "With conf.",
    "format_rate": "Well-formed",
    "true_statements": "True",
    "false_statements": "False",
    "missing_statements": "Missing",
    "false_responses": "With a false one",
    "accuracy_difference": "Acc with − without",
    "mean_confidence_difference": "Conf. with − without",
    "n_samples": "Samples",
}
THRESHOLD_COLUMNS = {"accuracy": "Acc", "f1": "F1", "coverage": "Coverage"}
TITLES = {
    "published metric_conf": "Published protocol, with confidence",
    "published metric": "Published protocol",
    "corrected metric": "Corrected protocol",
    "emobserver metric": "EmObserver's protocol",
    "reasoning metric": "Reasoning held against the facts of the records",
}
NOTES = {
    "published metric_conf": "As the published evaluation prints it, quirks included, to compare with the paper.",
    "published metric": "As the published evaluation prints it without confidence (metric.log).",
    "corrected metric": "What the metrics mean. The samples' answers, confidences and marks are read in this way.",
    "emobserver metric": "As the authors' later evaluator scores VECBench: a group is the mean of its tasks, Overall "
    "the mean of the groups, and an answer that names no candidate counts as the record's first one.",
    "reasoning metric": "Shares of true, false and missing statements, and by how many points accuracy and mean "
    "confidence of the responses with a false one differ from those of the others.",
}
CAPTIONS = {
    "reliability": "Reliability: accuracy of the answers in each bin of confidence",
    "calibration_curves": "Calibration curves: accuracy by confidence, with the samples in each bin",
    "risk_coverage": "Risk and coverage: errors among the most confident answers",
    "confidence_thresholds": "Accuracy and share of the answers kept at or above a confidence",
    "confidence_histograms": "Confidences of right and of wrong answers",
    "vote_agreement": "Votes: their share of the answer, and their entropy, by confidence",
}
KINDS = ("task", "group", "overall")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def metric_name(metric: str) -> str:
    """A metric's name as metric_conf.log has it, or its field's; spaces at its start mark a part of the one above."""
    return METRICS.get(metric, Metric(MAIN_COLUMNS.get(metric, metric.replace("_", " ")))).label


def number_text(row: dict[str, Any], metric: str) -> str | None:
    """Counts as they are, metrics as in metric_conf.log; what is unknown is taken for a fraction. None: no number."""
    value = row.get(metric)
    if not is_number(value):
        return None
    if isinstance(value, int):
        return f"{value:,}"
    _, number_format, factor, _ = METRICS.get(metric, Metric(""))
    return format(factor * value, number_format).replace("-", "−")


def interval_text(row: dict[str, Any], metric: str) -> str:
    """The bounds of the number's interval, or nothing."""
    bounds = row.get("intervals", {}).get(metric)
    return " to ".join(number_text({metric: float(bounds[end])}, metric) for end in ("low", "high")) if bounds else ""


def samples_address(row: dict[str, Any]) -> str:
    """Where the report's browser shows the row's samples: those of its task or group, which ``slice`` may name."""
    own = f"{row['kind']}:{row['name']}" if row.get("kind") in ("task", "group") else ""
    choice = {"task": of} if (of := row.get("slice", own)) else {}
    return "#" + urlencode({"view": "samples", **choice}, errors="replace")


TEMPLATES.globals.update(
    THRESHOLD_COLUMNS=THRESHOLD_COLUMNS,
    metric_name=metric_name,
    number_text=number_text,
    interval_text=interval_text,
    samples_address=samples_address,
)


@dataclass
class Table:
    """Rows of metrics.json under a title."""

    title: str
    note: str
    rows: list[dict[str, Any]]
    first: str = "Task or group"  # heading of the rows' names

    @property
    def metrics(self) -> list[str]:
        """The numeric fields of the rows: those that metric_conf.log has, in its order, then all others."""
        present = dict.fromkeys(name for row in self.rows for name, value in row.items() if is_number(value))
        return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]

    @property
    def main(self) -> dict[str, str]:
        """metric → heading of the metrics that are shown at once; all are in a folded table below."""
        return {metric: heading for metric, heading in MAIN_COLUMNS.items() if metric in self.metrics}

    def of_kind(self, *kinds: str) -> list[dict[str, Any]]:
        return [row for kind in kinds for row in self.rows if row.get("kind") == kind]

    @property
    def others(self) -> list[dict[str, Any]]:
        """Rows that are neither of a task nor of a group nor of all samples."""
        return [row for row in self.rows if row.get("kind") not in KINDS]


def is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) and "name" in row for row in value)


def tables_of(metrics: dict[str, Any]) -> Iterator[Table]:
    """Every list of rows in metrics.json, each once."""
    shown: list[Any] = []
    for section in ("published", "corrected", "emobserver", "reasoning", "confidence"):
        parts = metrics.get(section, {})
        for name in sorted(parts, key=lambda name: name != "metric_conf"):
            rows, key = parts[name], f"{section} {name}"
            if is_rows(rows) and rows not in shown:
                shown.append(rows)
                title = TITLES.get(key, f"{section.capitalize()}: {name.replace('_', ' ')}")
                yield Table(title, NOTES.get(key, ""), rows)


def tables_html(metrics: dict[str, Any]) -> str:
    """Every table of metrics.json."""
    thresholds = metrics.get("published", {}).get("thresholds", {})
    notes = metrics.get("corrected", {}).get("interval_notes") or [f"{LEVEL:.0%} bootstrap intervals"]
    tables = list(tables_of(metrics))
    return TEMPLATES.get_template("tables.html").render(
        tables=tables,
        interval_notes=". ".join(notes) if any(row.get("intervals") for table in tables for row in table.rows) else "",
        threshold_head=[f"{group} {name}" for group in thresholds for name in THRESHOLD_COLUMNS.values()],
        threshold_lines=list(zip(*thresholds.values(), strict=True)),  # a tuple per threshold, a row per group
    )


def caption_of(path: Path) -> str:
    words = path.stem.replace("_", " ")
    if path.stem.startswith("confusion_"):
        return f"Confusion matrix: {path.stem.removeprefix('confusion_')}"
    return CAPTIONS.get(path.stem, words[:1].upper() + words[1:])


def plots_in(folder: Path) -> Iterator[dict[str, Any]]:
    """Caption, data URL and size of every PNG of the run's folder: known ones first, then by name."""
    order = [*CAPTIONS]
    paths = sorted(folder.glob("*.png"), key=lambda p: (order.index(p.stem) if p.stem in order else len(order), p.name))
    for path in paths:
        if path.read_bytes().startswith(PNG_SIGNATURE):
            yield plot_of(path, caption_of(path), "wide" if path.stem in CAPTIONS else "half")


def plot_of(path: Path, caption: str, size: str) -> dict[str, Any]:
    """A PNG as the page takes it: "half" as wide as the page, "wide", or "tall", perhaps higher than the screen."""
    address = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    return {"caption": caption, "address": address, "size": size}
