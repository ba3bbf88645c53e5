"""A run beside published tables: does each published number lie within the run's interval?

    python -m inference.compare infer_results/my_run --published

The published protocol on both sides, quirks included (``published``): task rows from metric.log,
group rows from metric_conf.log.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from inference.common.paths import REPOSITORY
from inference.metrics import calibration, ranking
from inference.metrics.bootstrap import LEVEL, Cells, resampled
from inference.metrics.calibration import GAP_METRICS
from inference.metrics.classification import share, weighted_f1
from inference.metrics.corrected import NOISE, metric_interval, opposites, slices, tally_of
from inference.metrics.prediction_table import OVERALL
from inference.metrics.published import CONFIDENCE_COLUMNS, read_table
from inference.metrics.rows import Row

PUBLISHED_FOLDER = REPOSITORY / "infer_results" / "emocaliber_published"


def _published_metrics(cells: Cells, weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """(row, metric) → (resamples,) under the published protocol."""
    columns = cells.columns
    truth = columns["published_truth"].to_numpy(dtype=object)
    stated = columns["published_confidence"].to_numpy(dtype=float)
    readable = ~columns["published_confidence_unreadable"].to_numpy(dtype=bool)
    found = {}
    for name, kind, index in slices(cells):
        if kind == "group":
            index = index[readable[index]]
        label = "published_overall_label" if name == OVERALL else "published_label"
        predicted = columns[label].to_numpy(dtype=object)
        correct = (truth == predicted).astype(float)[index]
        w = (weights if kind == "task" else cells.thinned(weights, index))[:, index]
        if not w.sum():
            continue
        metrics = {"accuracy": share(correct, w), "f1": weighted_f1(truth[index], predicted[index], w)}
        tally, seen = (tally_of(stated[index], correct, of) for of in (w, cells.weights[:, index]))
        if kind == "group" and tally.n.all():
            metrics["accuracy"] = calibration.accuracy(tally)
            gaps, gaps_seen = (calibration.gap_shares(part, published=True) for part in (tally, seen))
            metrics["ece"] = GAP_METRICS["ece"].size(gaps)
            metrics[f"{NOISE}ece"] = GAP_METRICS["ece"].size(gaps - gaps_seen)
            metrics["brier"] = calibration.brier_score(tally)
            metrics["roc_auc"] = ranking.roc_auc(tally)
        found |= {(name, metric): values for metric, values in metrics.items()}
    return found


def published_intervals(
    table: pd.DataFrame, n_resamples: int, seed: int = 0
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """(row, metric) → (value, low, high), fractions with a 95 % interval, of a run under the published protocol."""
    labels = ["published_label", "published_overall_label"]
    names = [*labels, "published_confidence", "published_confidence_unreadable"]
    cells = Cells.of(table[["task", "published_truth", *names]], table["image"])
    point, drawn = resampled(
        cells, n_resamples, seed, _published_metrics, lambda columns: opposites(columns, labels, "published_truth")
    )
    found = {}
    for (name, metric), value in point.items():
        if not metric.startswith(NOISE):
            bounds = metric_interval(metric, value, drawn[name, metric], drawn.get((name, NOISE + metric)))
            if bounds is not None:
                found[name, metric] = (value, *bounds)
    return found


def read_published(folder: Path) -> list[Row]:
    """Task rows and Overall of metric.log, group rows of metric_conf.log.

    Raises:
        OSError: when a file is missing.
        ValueError: when one is no such table.
    """
    rows = read_table(folder / "metric.log")
    groups = [row for row in read_table(folder / "metric_conf.log") if row.kind == "group"]
    return [*rows[:-1], *groups, rows[-1]]


def published_comparison(table: pd.DataFrame, folder: Path, n_resamples: int, seed: int = 0) -> str:
    """A line per published number: ours, its interval, and whether the published one is within, above or below."""
    ours = published_intervals(table, n_resamples, seed)
    lines = [
        f"This run beside {folder}, published protocol; {LEVEL:.0%} intervals of this run, {n_resamples} resamples",
        f"{'':<15} {'':<8} {'this run':>8}  {'interval':<16} {'published':>9}  published is",
    ]
    counts = {"within": 0, "above": 0, "below": 0}
    for row in read_published(folder):
        for title, _, metric, _ in CONFIDENCE_COLUMNS:
            published = row.metrics.get(metric)
            if published is None:
                continue
            if (row.name, metric) not in ours:
                lines.append(f"{row.name:<15} {title:<8} {'N/A':>8}  {'':<16} {100 * published:>9.2f}  not comparable")
                continue
            value, low, high = ours[row.name, metric]
            # The table has two decimals: what rounds to a bound is not outside it.
            slack = 0.00005
            verdict = "above" if published > high + slack else "below" if published < low - slack else "within"
            counts[verdict] += 1
            bounds = f"[{100 * low:.2f}, {100 * high:.2f}]"
            lines.append(
                f"{row.name:<15} {title:<8} {100 * value:>8.2f}  {bounds:<16} {100 * published:>9.2f}  {verdict}"
            )
    lines.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return "\n".join(lines) + "\n"
