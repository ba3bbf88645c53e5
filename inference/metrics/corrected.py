"""The corrected protocol: every metric of tasks, groups and Overall with its interval.

    corrected.evaluate(table).full_table
    estimate(table, n_resamples=1000)          # the rows alone

Takes the table of ``prediction_table``. The rows of the data and those of the resamples come from the same formulas,
on cells of equal rows with weights (``bootstrap.Cells``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from inference.data.vecbench import GROUPS, TASKS, group_of
from inference.metrics import calibration, ranking
from inference.metrics.bootstrap import Cells, interval, interval_around, resampled
from inference.metrics.calibration import GAP_METRICS, N_BINS, Tally, calibration_bins
from inference.metrics.classification import label_reports, share, weighted_f1
from inference.metrics.corrected_tables import (
    corrected_table,
    full_table,
    interval_notes,
    metrics_tsv,
    sources_table,
)
from inference.metrics.prediction_table import (
    OVERALL,
    SOURCES,
    VERBALIZED,
    available_sources,
    group_slices,
    with_confidence,
)
from inference.metrics.rows import Row
from inference.metrics.votes import vote_columns, vote_metrics

RESAMPLED_VALUES = 1000  # at most so many different confidences in the resamples
NOISE = "noise of "  # before the name of an error: its size in the gaps' deviations of a resample


def slices(cells: Cells) -> Iterator[tuple[str, str, np.ndarray]]:
    """(name, kind, indices of cells): tasks with a sample in the table's order, the groups, Overall."""
    task, names = pd.factorize(cells.columns["task"])
    of_task = {name: np.flatnonzero(task == code) for code, name in enumerate(names) if group_of(name)}
    yield from ((name, "task", of_task[name]) for name in TASKS if name in of_task)
    for group in GROUPS:
        members = [index for name, index in of_task.items() if group_of(name) == group]
        yield group, "group", np.sort(np.concatenate([np.zeros(0, dtype=int), *members]))
    yield OVERALL, "overall", np.arange(len(task))


def tally_of(confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> Tally:
    """The tally of each resample over the cells that have a confidence; equal confidences are one value."""
    scored = np.flatnonzero(np.isfinite(confidence))
    if not len(scored):
        none = np.zeros((len(weights), 1))
        return Tally(np.array([0.5]), none, none)
    order = scored[np.argsort(confidence[scored], kind="stable")]
    value, start, size = np.unique(confidence[order], return_index=True, return_counts=True)
    if size.max() > 8:
        weights = weights[:, order]
        count = np.add.reduceat(weights, start, axis=1)
        return Tally(value, count, np.add.reduceat(weights * correct[order], start, axis=1))
    # Many short runs of equal values, where reduceat is slow: the first cell of each value, then the second …
    count, right = np.zeros((2, len(weights), len(value)))
    for place in range(size.max()):
        some = slice(None) if place < size.min() else size > place
        cells = order[start[some] + place]
        taken = weights[:, cells]
        count[:, some] += taken
        right[:, some] += taken * correct[cells]
    return Tally(value, count, right)


def confidence_metrics(tally: Tally, n_bins: int = N_BINS) -> dict[str, np.ndarray]:
    """Every metric of a confidence under the name that metrics.json has it by."""
    return {
        **{name: GAP_METRICS[name].of(tally, n_bins) for name in GAP_METRICS if not name.startswith("brier")},
        "confidence_gap": calibration.confidence_gap(tally),
        "brier": calibration.brier_score(tally),
        **{f"brier_{part}": value for part, value in calibration.brier_decomposition(tally, n_bins).items()},
        "log_loss": calibration.log_loss(tally),
        "roc_auc": ranking.roc_auc(tally),
        "auprc": ranking.average_precision(tally),
        "auprc_errors": ranking.average_precision_of_errors(tally),
        "aurc": ranking.area_under_risk_coverage(tally),
        "e_aurc": ranking.excess_area_under_risk_coverage(tally),
        "accuracy_at_80_coverage": ranking.accuracy_at_coverage(tally, 0.8),
        "accuracy_at_90_coverage": ranking.accuracy_at_coverage(tally, 0.9),
        "coverage_at_5_risk": ranking.coverage_at_risk(tally, 0.05),
        "coverage_at_10_risk": ranking.coverage_at_risk(tally, 0.10),
        "mean_confidence": calibration.mean_confidence(tally),
        "confidence_spread": calibration.confidence_spread(tally),
        "distinct_confidences": calibration.distinct_confidences(tally),
        "top_two_share": calibration.top_two_share(tally),
    }


def estimate_rows(
    cells: Cells,
    weights: np.ndarray,
    label: str = "label",
    confidence: str = "confidence",
    n_bins: int = N_BINS,
    noise: bool = False,
) -> list[tuple[str, str, dict[str, np.ndarray]]]:
    """(name, kind, metric → (resamples,)) of each task, group and Overall.

    Every sample is in the denominators of accuracy, F1 and the two rates; the metrics of the confidence
    are over the samples with a confidence. ``macro_`` metrics are means over the tasks of a row,
    the others pool its samples.

    Args:
        weights: (resamples, cells), ``cells.weights`` or a chunk of ``cells.resamples``.
        label, confidence: the columns to judge, for other confidences than the stated one.
        noise: add the ``NOISE`` of each error, the size of the deviations from the cells' own gaps.
    """
    columns, own_weights = cells.columns, cells.weights
    codes, _ = pd.factorize(np.concatenate([columns["truth"], columns[label]]), sort=True)
    truth, predicted = codes[: len(columns)], codes[len(columns) :]
    stated, task = columns[confidence].to_numpy(dtype=float), columns["task"].to_numpy()
    correct, formed = (truth == predicted).astype(float), columns["well_formed"].to_numpy(dtype=float)
    has_confidence = columns.get("has_confidence", columns[confidence].notna()).to_numpy(dtype=float)
    rows = []
    for name, kind, index in slices(cells):
        row_weights = weights if kind == "task" else cells.thinned(weights, index)
        w = row_weights[:, index]
        metrics = {
            "accuracy": share(correct[index], w),
            "f1": weighted_f1(truth[index], predicted[index], w),
            "confidence_rate": share(has_confidence[index], w),
            "format_rate": share(formed[index], w),
        }
        if kind != "task" and len(index):
            tasks = [index[task[index] == other] for other in pd.unique(task[index])]
            parts = [(one, row_weights[:, one]) for one in tasks]
            metrics["macro_accuracy"] = np.mean([share(correct[one], w) for one, w in parts], axis=0)
            metrics["macro_f1"] = np.mean([weighted_f1(truth[one], predicted[one], w) for one, w in parts], axis=0)
        tally = tally_of(stated[index], correct[index], w)
        metrics |= confidence_metrics(tally, n_bins)
        if noise:
            own = own_weights[:, index]
            seen = tally if np.array_equal(w, own) else tally_of(stated[index], correct[index], own)
            deviations = {
                of: error.parts(tally, n_bins) - error.parts(seen, n_bins) for of, error in GAP_METRICS.items()
            }
            metrics |= {NOISE + of: GAP_METRICS[of].size(values) for of, values in deviations.items()}
        rows.append((name, kind, metrics))
    return rows


def opposites(columns: pd.DataFrame, labels: Sequence[str] = ("label",), truth_column: str = "truth") -> pd.DataFrame:
    """Cells with every yes-or-no outcome turned around: right and wrong, well-formed, with a confidence or without.

    The confidence itself stays, as that of the answer that turned out otherwise.
    """
    truth = columns[truth_column].to_numpy(dtype=object)
    turned = {name: np.where(columns[name].to_numpy(dtype=object) == truth, "", truth) for name in labels}
    for flag in ("well_formed", "has_confidence"):
        if flag in columns:
            turned[flag] = ~columns[flag].to_numpy(dtype=bool)
    return columns.assign(**turned)


def metric_interval(
    metric: str, point: float, resampled: np.ndarray, noise: np.ndarray | None = None
) -> tuple[float, float] | None:
    """The 95 % interval of a metric from its resamples; None when it is not defined.

    The percentiles of the resamples (Efron, 1979), and always with the estimate. An error that is a
    norm of signed gaps is raised by chance, so that zero, which no resample shows, may be the truth.
    By the triangle inequality |gaps seen| ≤ |true gaps| + |chance|: its interval starts at the
    estimate less the 97.5th percentile of |chance|, but not below 0, where chance are the deviations
    of the resamples' gaps from those seen. As a norm is convex, the upper percentile of the resamples,
    in which chance counts twice, is not too low. So this interval is conservative: it holds the true
    value in 95 % of the samples or more, whatever the gaps.

    Args:
        noise: for a metric of ``GAP_METRICS``, the size of the deviations in each resample.
    """
    low, high = interval_around(point, resampled)
    if not (np.isfinite(low) and np.isfinite(point)):
        return None
    if noise is not None:
        root = 1 / GAP_METRICS[metric].power
        low = max(0.0, point**root - float(interval(noise)[1]) ** root) ** GAP_METRICS[metric].power
    return min(low, point), high


def fewer_values(confidence: pd.Series) -> pd.Series:
    """At most ``RESAMPLED_VALUES`` different ones: neighbours in rank share their mean.

    Thousands of different confidences, as log-probabilities give, would take most of the time of the resamples; the
    metrics of these vary alike.
    """
    if confidence.nunique() <= RESAMPLED_VALUES:
        return confidence
    return confidence.groupby((confidence.rank(pct=True) * RESAMPLED_VALUES).round()).transform("mean")


def estimate(
    table: pd.DataFrame,
    n_resamples: int = 0,
    seed: int = 0,
    label: str = "label",
    confidence: str = "confidence",
    n_bins: int = N_BINS,
) -> list[Row]:
    """Metrics, and with ``n_resamples`` of the bootstrap their intervals, of a ``prediction_table``; those about votes
    where it has any.

    Rows in the order of ``slices``: tasks, groups, Overall. ``label`` and ``confidence`` name the
    columns to judge, ``n_bins`` the bins of the metrics that need bins.
    """
    columns = table[["task", "truth", label, confidence, "well_formed"]]
    cells = Cells.of(columns.assign(has_confidence=columns[confidence].notna()), table["image"])

    def metrics_of(part: Cells, weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        rows = estimate_rows(part, weights, label, confidence, n_bins, noise=True)
        return {(name, metric): values for name, _, metrics in rows for metric, values in metrics.items()}

    drawn_from = replace(cells, columns=cells.columns.assign(**{confidence: fewer_values(cells.columns[confidence])}))
    point, drawn = resampled(
        cells, n_resamples if len(table) else 0, seed, metrics_of, lambda c: opposites(c, [label]), drawn_from
    )
    drawn = {key: values for key, values in drawn.items() if key[1] != "distinct_confidences"}  # a resample loses some
    rows, stated = {}, cells.columns[confidence].to_numpy(dtype=float)
    for name, kind, index in slices(cells):
        weights = cells.weights[:, index]
        rows[name] = Row(name, kind, round(weights.sum()))
        tally = tally_of(stated[index], np.zeros(len(index)), weights)
        if tally.n.sum():
            single = Tally(tally.value, tally.count[0], tally.correct[0])
            rows[name].metrics["ece_if_calibrated"] = calibration.ece_if_calibrated(single, n_bins)
    for (name, metric), value in point.items():
        if metric.startswith(NOISE) or not np.isfinite(value):
            continue
        rows[name].metrics[metric] = value
        if (name, metric) in drawn:
            bounds = metric_interval(metric, value, drawn[name, metric], drawn.get((name, NOISE + metric)))
            if bounds is not None:
                rows[name].intervals[metric] = bounds
    _add_vote_metrics(rows, table, n_resamples, seed, label, confidence)
    return list(rows.values())


def _add_vote_metrics(
    rows: Mapping[str, Row], table: pd.DataFrame, n_resamples: int, seed: int, label: str, confidence: str
) -> None:
    """Give the rows what is known of their samples with votes, resampled for themselves; nothing without votes."""
    columns = vote_columns(table, label, confidence)
    if columns.empty:
        return
    cells = Cells.of(columns, table["image"][columns.index])

    def metrics_of(part: Cells, weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        values = {}
        for name, _, index in slices(part):
            mine, w = part.columns.iloc[index], weights[:, index]
            tally = tally_of(mine["confidence"].to_numpy(), mine["share"].to_numpy(), w)
            values |= {(name, metric): value for metric, value in vote_metrics(mine, w, tally).items()}
        return values

    point, drawn = resampled(cells, n_resamples, seed, metrics_of)
    for name, _, index in slices(cells):
        rows[name].metrics["n_voted"] = round(cells.weights[0, index].sum())
    for (name, metric), value in point.items():
        if np.isfinite(value):
            rows[name].metrics[metric] = value
            bounds = metric_interval(metric, value, drawn[name, metric]) if (name, metric) in drawn else None
            rows[name].intervals |= {} if bounds is None else {metric: bounds}


def rows_by_source(table: pd.DataFrame, n_resamples: int = 0, n_bins: int = N_BINS) -> dict[str, list[Row]]:
    """source of a confidence → its rows, the verbalized one first."""
    return {name: estimate(table, n_resamples, 0, *SOURCES[name], n_bins=n_bins) for name in available_sources(table)}


def calibration_curves(table: pd.DataFrame, n_bins: int = N_BINS) -> dict[str, dict[str, np.ndarray]]:
    """group → ``calibration.calibration_bins``."""
    slices_of = group_slices(table[["group", "label", "truth", "confidence"]])
    return {group: calibration_bins(*with_confidence(part), n_bins) for group, part in slices_of}


@dataclass
class Corrected:
    """What the corrected protocol says of a table, as texts and as metrics.json has it."""

    table: str
    full_table: str
    sources_table: str
    metrics_tsv: str
    sources: dict[str, list[Row]]
    json: dict[str, Any]


def evaluate(table: pd.DataFrame, n_resamples: int = 0, n_bins: int = N_BINS) -> Corrected:
    """Every row and text of the corrected protocol; ``n_resamples`` as ``estimate`` has it."""
    sources, notes = rows_by_source(table, n_resamples, n_bins), interval_notes(table, n_resamples)
    rows = sources[VERBALIZED]
    curves = {
        group: pd.DataFrame(bins).astype(object).where(pd.DataFrame(bins).notna(), None).to_dict("records")
        for group, bins in calibration_curves(table, n_bins).items()
    }
    return Corrected(
        corrected_table(rows),
        full_table(rows, notes, n_bins),
        sources_table(sources),
        metrics_tsv(sources),
        sources,
        {
            "n_resamples": n_resamples,
            "n_bins": n_bins,
            "interval_notes": notes,
            "metric": [row.to_json() for row in rows],
            "labels": label_reports(table),
            "calibration_bins": curves,
        },
    )
