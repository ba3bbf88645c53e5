"""The tables and figures of a report as HTML, from what metrics.json holds.

print(tables_html(json.loads(Path("my_run/metrics.json").read_text())))

Tables are rendered from their rows: a figure that this module has never heard of is shown under
its own name. Every string is escaped. Plain HTML: they are there without JavaScript and in print.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from inference.metrics.bootstrap import LEVEL
from inference.metrics.rows import METRICS

# The columns of a table; all other figures of its rows stand in the table below it.
MAIN_COLUMNS = {
    "accuracy": "Acc",
    "macro_accuracy": "Macro Acc",
    "f1": "F1",
    "ece": "ECE",
    "brier": "Brier",
    "roc_auc": "ROC AUC",
    "confidence_rate": "With conf.",
    "format_rate": "Well-formed",
    "n_samples": "Samples",
}
TITLES = {
    "published metric_conf": "Published protocol, with confidence",
    "published metric": "Published protocol",
    "corrected metric": "Corrected protocol",
}
NOTES = {
    "published metric_conf": "As the published evaluation prints it, quirks included, to compare with the paper.",
    "published metric": "As the published evaluation prints it without confidence (metric.log).",
    "corrected metric": "What the metrics mean. The samples' answers, confidences and marks are read in this way.",
}
CAPTIONS = {
    "reliability": "Reliability: accuracy of the answers in each bin of confidence",
    "calibration_curves": "Calibration curves: accuracy by confidence, with the samples in each bin",
    "risk_coverage": "Risk and coverage: errors among the most confident answers",
    "confidence_thresholds": "Accuracy and share of the answers kept at or above a confidence",
    "confidence_histograms": "Confidences of right and of wrong answers",
}
KINDS = ("task", "group", "overall")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def escape(text: Any) -> str:
    """Text for HTML, in an element or an attribute; what UTF-8 cannot hold becomes a question mark."""
    return html.escape(str(text).encode("utf-8", "replace").decode("utf-8"))


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def name_of(figure: str) -> str:
    """A figure's name as metric_conf.log has it, or its field's; spaces at its start mark a part of the one above."""
    return METRICS.get(figure, (MAIN_COLUMNS.get(figure, figure.replace("_", " ")),))[0]


def number_text(figure: str, value: float) -> str:
    """Counts as they are, figures as ``confidence_tables`` prints them; what is unknown is taken for a fraction."""
    if isinstance(value, int):
        return f"{value:,}"
    _, number_format, factor = METRICS.get(figure, ("", ".2f", 100))
    return format(factor * value, number_format).replace("-", "−")


def cell(row: dict[str, Any], figure: str) -> str:
    """One number, its interval below it when there is one, or a dash."""
    value = row.get(figure)
    if not is_number(value):
        return '<td class="none">–</td>'
    intervals = row.get("intervals")
    bounds = intervals.get(figure) if isinstance(intervals, dict) else None
    bounds = bounds if isinstance(bounds, dict) else {}
    interval = ""
    if is_number(bounds.get("low")) and is_number(bounds.get("high")):
        low, high = (number_text(figure, float(bounds[end])) for end in ("low", "high"))
        interval = f"<small>{low} to {high}</small>"
    return f"<td>{number_text(figure, value)}{interval}</td>"


def samples_link(row: dict[str, Any]) -> str:
    """The row's name, leading to its samples in the report's browser."""
    name = str(row["name"])
    kind = row.get("kind")
    choice = {"task": f"{kind}:{name}"} if kind in ("task", "group") else {}
    address = urlencode({"view": "samples", **choice}, errors="replace")
    return f'<a href="#{escape(address)}">{escape(name)}</a>'


def _table(caption: str, head: Sequence[str], bodies: Sequence[Sequence[str]]) -> str:
    header = "".join(f'<th scope="col">{name}</th>' for name in head)
    blocks = "".join(f"<tbody>{''.join(f'<tr>{line}</tr>' for line in body)}</tbody>" for body in bodies if body)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">'
        f"<table><thead><tr>{header}</tr></thead>{blocks}</table></div>\n"
    )


def figures_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The numeric fields of the rows: those that metric_conf.log has, in its order, then all others."""
    present = dict.fromkeys(name for row in rows for name, value in row.items() if is_number(value))
    return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]


def full_html(title: str, figures: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """A line a figure, a column a row: folded, as it is long."""
    lines = []
    for figure in figures:
        name = name_of(figure)
        part = ' class="part"' if name.startswith(" ") else ""
        lines.append(f'<th scope="row"{part}>{escape(name.strip())}</th>' + "".join(cell(row, figure) for row in rows))
    table = _table(escape(f"{title}: all figures"), ["Figure", *(escape(row["name"]) for row in rows)], [lines])
    return f'<details class="full"><summary>All {len(figures)} figures</summary>\n{table}</details>\n'


def rows_html(title: str, rows: Sequence[dict[str, Any]], note: str = "") -> str:
    """A table of rows with the main figures; below it, folded, one with every figure, Overall first."""
    figures = figures_of(rows)
    main = [figure for figure in MAIN_COLUMNS if figure in figures]
    others = [row for row in rows if row.get("kind") not in KINDS]
    tasks, groups, overall = ([row for row in rows if row.get("kind") == kind] for kind in KINDS)
    bodies = [
        [f'<th scope="row">{samples_link(row)}</th>' + "".join(cell(row, figure) for figure in main) for row in block]
        for block in (tasks, groups, overall, others)
    ]
    text = f"<h3>{escape(title)}</h3>\n" + (f"<p>{escape(note)}</p>\n" if note else "")
    text += _table(escape(title), ["Task or group", *(MAIN_COLUMNS[figure] for figure in main)], bodies)
    if len(figures) > len(main):
        text += full_html(title, figures, [*overall, *groups, *tasks, *others])
    return text


def is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) and "name" in row for row in value)


def _tables(metrics: dict[str, Any]) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(title, note, rows) of every list of rows in metrics.json, each once."""
    shown: list[Any] = []
    for section in ("published", "corrected", "confidence"):
        parts = metrics.get(section)
        names = sorted(parts, key=lambda name: name != "metric_conf") if isinstance(parts, dict) else []
        for name in names:
            rows, key = parts[name], f"{section} {name}"
            if is_rows(rows) and rows not in shown:
                shown.append(rows)
                yield TITLES.get(key, f"{section.capitalize()}: {name.replace('_', ' ')}"), NOTES.get(key, ""), rows


def thresholds_html(analysis: Any) -> str:
    """Accuracy, F1 and coverage of each group when answers below a confidence are withheld."""
    if not isinstance(analysis, dict) or not all(isinstance(rows, list) for rows in analysis.values()):
        return ""
    lines: dict[float, dict[str, dict[str, Any]]] = {}
    for group, rows in analysis.items():
        for row in rows:
            lines.setdefault(row.get("threshold"), {})[group] = row
    figures = {"accuracy": "Acc", "f1": "F1", "coverage": "Coverage"}
    head = ["Confidence", *(escape(f"{group} {name}") for group in analysis for name in figures.values())]
    body = [
        f'<th scope="row">≥ {escape(threshold)}</th>'
        + "".join(cell(groups.get(group, {}), figure) for group in analysis for figure in figures)
        for threshold, groups in lines.items()
    ]
    title = "Published protocol, answers below a confidence withheld"
    table = _table(title, head, [body])
    return f"<details><summary>{title}</summary>\n{table}</details>\n" if body else ""


def tables_html(metrics: dict[str, Any]) -> str:
    """Every table of metrics.json."""
    parts = [rows_html(title, rows, note) for title, note, rows in _tables(metrics)]
    published = metrics.get("published")
    parts.append(thresholds_html(published.get("thresholds") if isinstance(published, dict) else None))
    legend = "In percent, but for counts and the log loss (nats)."
    corrected = metrics.get("corrected")
    notes = corrected.get("interval_notes") if isinstance(corrected, dict) else None
    if any("<small>" in part for part in parts):
        said = [str(note) for note in notes] if isinstance(notes, list) else []
        legend += f" Small figures: {escape('. '.join(said) or f'{LEVEL:.0%} bootstrap intervals')}."
    legend += " A name leads to its samples. For ECE, Brier and other errors lower is better."
    return f"<p>{legend}</p>\n" + "".join(parts)


def caption_of(path: Path) -> str:
    words = path.stem.replace("_", " ")
    if path.stem.startswith("confusion_"):
        return f"Confusion matrix: {path.stem.removeprefix('confusion_')}"
    return CAPTIONS.get(path.stem, words[:1].upper() + words[1:])


def pictures_html(folder: Path) -> str:
    """Every PNG of the run's folder, embedded: known ones first, then by name."""
    order = [*CAPTIONS]
    paths = sorted(folder.glob("*.png"), key=lambda p: (order.index(p.stem) if p.stem in order else len(order), p.name))
    parts = []
    for path in paths:
        content = path.read_bytes()
        if content.startswith(PNG_SIGNATURE):
            caption = escape(caption_of(path))
            address = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
            wide = "" if path.stem in CAPTIONS else ' class="half"'
            parts.append(
                f'<figure{wide}><figcaption>{caption}</figcaption><img src="{address}" alt="{caption}"></figure>\n'
            )
    return "".join(parts) or "<p>There are no figures (*.png) in the run's folder.</p>"
