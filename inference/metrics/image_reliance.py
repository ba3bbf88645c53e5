"""How much of accuracy and confidence comes from the image: runs whose images were replaced beside one with its own.

    found = image_reliance({"own": table, "grey": table_of_grey})
    print(reliance_text(found, N_PAIRED_RESAMPLES))

The tables are of the same samples in the same order. A gap is the run with its own images minus the other one, in the
same resamples of the images. A model that answers and states its confidence by what it sees loses both without it;
one that states the same confidence all the same does not look.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from inference.metrics.bootstrap import LEVEL, N_PAIRED_RESAMPLES, Cells, interval_around, resampled
from inference.metrics.classification import share
from inference.metrics.corrected import slices
from inference.metrics.rows import METRICS, NOT_AVAILABLE, aligned_table

RELIANCE_METRICS = ("accuracy", "mean_confidence")
GAP = "gap of "


@dataclass
class Reliance:
    """One metric, or its gap, of one run in one row.

    Attributes:
        images: whose images the run saw, a key of the tables.
        metric: of ``RELIANCE_METRICS``; with ``GAP`` before it, the first run's minus this one's.
        value, low, high: fractions; the bounds are of the 95 % bootstrap interval.
        n: samples that it is over; for the confidence those that every run states one for.
    """

    row: str
    kind: str
    images: str
    metric: str
    value: float
    low: float
    high: float
    n: int


def _columns(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Task, and for each run ``right <run>`` (0 or 1) and ``confidence <run>``, NaN where any run states none."""
    first = next(iter(tables.values()))
    columns = {"task": first["task"].to_numpy()}
    confidence = {name: table["confidence"].to_numpy(dtype=float) for name, table in tables.items()}
    stated = np.isfinite(np.array(list(confidence.values()))).all(axis=0)
    for name, table in tables.items():
        columns[f"right {name}"] = (table["label"].to_numpy() == table["truth"].to_numpy()).astype(float)
        columns[f"confidence {name}"] = np.where(stated, confidence[name], np.nan)
    return pd.DataFrame(columns)


def image_reliance(
    tables: Mapping[str, pd.DataFrame], n_resamples: int = N_PAIRED_RESAMPLES, seed: int = 0
) -> list[Reliance]:
    """Accuracy and mean confidence of every run, and their gaps to the first one's, of tasks, groups and Overall."""
    names = list(tables)
    cells = Cells.of(_columns(tables), next(iter(tables.values()))["image"])

    def metrics_of(part: Cells, weights: np.ndarray) -> dict[tuple[str, str, str], np.ndarray]:
        values = {}
        for row, kind, index in slices(part):
            w = (weights if kind == "task" else part.thinned(weights, index))[:, index]
            columns = part.columns.iloc[index]
            stated = columns[f"confidence {names[0]}"].notna().to_numpy()
            for name in names:
                confidence = columns[f"confidence {name}"].to_numpy()[stated]
                values[row, name, "accuracy"] = share(columns[f"right {name}"].to_numpy(), w)
                values[row, name, "mean_confidence"] = share(confidence, w[:, stated])
            for name in names[1:]:
                for metric in RELIANCE_METRICS:
                    values[row, name, GAP + metric] = values[row, names[0], metric] - values[row, name, metric]
        return values

    def turned(columns: pd.DataFrame) -> pd.DataFrame:
        return columns.assign(**{f"right {name}": 1 - columns[f"right {name}"] for name in names})

    point, drawn = resampled(cells, n_resamples, seed, metrics_of)
    _, drawn_with_opposites = resampled(cells, n_resamples, seed, metrics_of, turned)
    sizes = {}
    for row, kind, index in slices(cells):
        weights = cells.weights[0, index]
        stated = cells.columns[f"confidence {names[0]}"].notna().to_numpy()[index]
        sizes[row] = kind, {"accuracy": round(weights.sum()), "mean_confidence": round(weights[stated].sum())}
    found = []
    for (row, name, metric), value in point.items():
        if np.isfinite(value):
            # A difference of equal runs is none; an accuracy of 0 out of 30 is not 0 for sure.
            values = (drawn if metric.startswith(GAP) else drawn_with_opposites)[row, name, metric]
            kind, n = sizes[row]
            bounds = interval_around(value, values)
            found.append(Reliance(row, kind, name, metric, value, *bounds, n[metric.removeprefix(GAP)]))
    return found


def reliance_text(found: list[Reliance], n_resamples: int) -> str:
    """A table for each group and Overall, a line per run; the tasks are in ``reliance_tsv``."""
    known = {(item.row, item.images, item.metric): item for item in found}
    rows = dict.fromkeys(item.row for item in found if item.kind != "task")
    runs = list(dict.fromkeys(item.images for item in found))
    columns = [name for metric in RELIANCE_METRICS for name in (metric, GAP + metric)]

    def cell(row: str, images: str, column: str) -> str:
        item = known.get((row, images, column))
        if item is None:
            return "–" if column.startswith(GAP) and images == runs[0] else NOT_AVAILABLE
        _, number_format, factor, _ = METRICS[column.removeprefix(GAP)]
        sign = "+" if column.startswith(GAP) else ""
        value, low, high = (format(factor * x, sign + number_format) for x in (item.value, item.low, item.high))
        return f"{value} [{low}, {high}]"

    texts = [
        f"Accuracy and mean confidence by what the model saw, in percent; gap: {runs[0]} minus this one, in points\n"
        f"[low, high]: {LEVEL:.0%} bootstrap interval, {n_resamples} paired resamples of images within their tasks\n"
    ]
    for row in rows:
        n = {metric: known[row, runs[0], metric].n for metric in RELIANCE_METRICS if (row, runs[0], metric) in known}
        head = f"{row}: {n.get('accuracy', 0)} samples, {n.get('mean_confidence', 0)} with a confidence in every run\n"
        lines = [[images, *(cell(row, images, column) for column in columns)] for images in runs]
        texts.append(head + aligned_table(["images", "accuracy", "gap", "mean confidence", "gap"], lines))
    return "\n".join(texts)


def reliance_tsv(found: list[Reliance]) -> str:
    """Every number, one per line, in fractions."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(["row", "kind", "images", "n_samples", "figure", "value", "low", "high"])
    for item in found:
        numbers = [f"{x:.6f}" for x in (item.value, item.low, item.high)]
        writer.writerow([item.row, item.kind, item.images, item.n, item.metric.replace(" ", "_"), *numbers])
    return buffer.getvalue()
