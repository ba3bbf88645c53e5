"""Run B beside run A: paired differences with intervals and p-values, of the samples that both answered.

    found = differences(paired_table(table_a, table_b))
    print(comparison_text(found, "A", "B", N_PAIRED_RESAMPLES))

Both runs are judged in the same resamples of the images (``bootstrap``), so that what is hard for both cancels.
``pairwise_differences`` does so for every pair of several runs, over all samples.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from inference.common.json_lines import one_line
from inference.data.response import normal_label
from inference.metrics import calibration, emobserver, ranking
from inference.metrics.bootstrap import (
    ALPHA,
    LEVEL,
    N_PAIRED_RESAMPLES,
    Cells,
    drawn_together,
    holm,
    interval,
    resampled,
    two_sided_p,
)
from inference.metrics.calibration import GAP_METRICS, N_BINS
from inference.metrics.classification import share
from inference.metrics.corrected import estimate_rows, slices, tally_of
from inference.metrics.prediction_table import OVERALL, SOURCES, VERBALIZED, available_sources, correctness
from inference.metrics.results import Results, read_file
from inference.metrics.rows import METRICS, Metric

# Metrics that are compared, most asked for first.
COMPARED = (
    "accuracy", "macro_accuracy", "f1", "ece", "smooth_ece", "brier", "log_loss", "roc_auc", "aurc",
    "coverage_at_10_risk", "format_rate", "confidence_rate", "mean_confidence", "emobserver_accuracy",
)  # fmt: skip
# What they are.
NAMES = METRICS | {
    "emobserver_accuracy": Metric(
        "Acc, EmObserver's protocol: Overall and groups are means over tasks", higher_is_better=True
    )
}
# Those that are of the first response's text alone: another confidence, or the answer of a vote, has none of its own.
OF_STATED = ("format_rate", "confidence_rate", "emobserver_accuracy")
# What pairs of several runs are compared by, and what the plot of two shows.
PAIRWISE = ("accuracy", "ece", "brier", "roc_auc")
JUDGED = ("label", "confidence", "well_formed", "emobserver_right")  # what differs between two runs' rows


class ComparisonError(ValueError):
    """Two runs that cannot be compared, and why."""


@dataclass
class Difference:
    """One metric of one row in both runs; fractions.

    Attributes:
        difference: B − A; ``low`` and ``high`` bound it.
        p: of no difference, two-sided; ``p_holm`` corrected for the rows, or pairs of runs, of this metric.
    """

    row: str
    kind: str
    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float = float("nan")

    @property
    def verdict(self) -> str:
        if not self.p_holm < ALPHA:
            return ""
        better = NAMES[self.metric].higher_is_better
        if better is None:
            return "higher" if self.difference > 0 else "lower"
        return "better" if (self.difference > 0) == better else "worse"


def read_evaluated(folder: Path) -> Results:
    """The answered samples of an evaluated run.

    Raises:
        ComparisonError: when the folder holds no evaluated run.
    """
    path = folder / "merged.jsonl"
    if not path.is_file():
        raise ComparisonError(f"{path}: no such file. Run python -m inference.evaluate --output_path {folder}")
    results = read_file(path)
    if results.failed:
        raise ComparisonError(results.failed[0]["error"])
    return results


def judged_by(run: Results, source: str, name: str) -> Results:
    """The run with the answers and confidences of one of ``SOURCES`` in the place of the stated ones.

    Args:
        name: of the run in an error's message.

    Raises:
        ComparisonError: when the run has no such confidence.
    """
    if source == VERBALIZED:
        return run
    known = available_sources(run.table)
    if source not in known:
        raise ComparisonError(f"{name}: expected a run with the confidence {source!r}, has: {', '.join(known)}")
    label, confidence = SOURCES[source]
    return replace(run, table=run.table.assign(label=run.table[label], confidence=run.table[confidence]))


def paired_table(a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str] = ("A", "B")) -> pd.DataFrame:
    """From two runs' ``prediction_table``, one row per sample that both answered.

    Columns: sample_id, task, truth, image, and each run's reading (``label_a``, ``label_b``, …).

    Args:
        names: of the runs in an error's message.

    Raises:
        ComparisonError: when the runs share no sample, or disagree on the label of one.
    """
    for name, table in zip(names, (a, b), strict=True):
        ids = table["sample_id"]
        if (again := ids.isna() | ids.duplicated()).any():
            raise ComparisonError(f"run {name}: expected each sample once, got sample {ids[again].iloc[0]} again")
    own = ["sample_id", *JUDGED]
    both = a.merge(b[[*own, "truth", "task"]], on="sample_id", suffixes=("_a", "_b"))
    if both.empty:
        raise ComparisonError(
            f"runs {names[0]} and {names[1]} have no sample in common: were they made from the same data file?"
        )
    other = both[(both["truth_a"] != both["truth_b"]) | (both["task_a"] != both["task_b"])]
    if len(other):
        row = other.iloc[0]
        raise ComparisonError(
            f"sample {row['sample_id']}: {row['task_a']}, {row['truth_a']} in run {names[0]}, "
            f"{row['task_b']}, {row['truth_b']} in run {names[1]}: expected the same task and label"
        )
    return both.rename(columns={"truth_a": "truth", "task_a": "task"}).drop(columns=["truth_b", "task_b"])


def with_both_confidences(table: pd.DataFrame) -> pd.DataFrame:
    """A ``paired_table`` in which a sample has both runs' confidences or none.

    Metrics of confidence, those of the resamples, too, are then over the same samples in both runs.
    """
    both = table["confidence_a"].notna() & table["confidence_b"].notna()
    return table.assign(**{f"confidence_{run}": table[f"confidence_{run}"].where(both) for run in "ab"})


def confidence_note(table: pd.DataFrame, alike: bool) -> list[str]:
    """Over how many samples of a ``paired_table`` the metrics of confidence are; none when over all, or the same.

    Args:
        alike: whether they are over those ``with_both_confidences``.
    """
    of_a, of_b = table["confidence_a"].notna(), table["confidence_b"].notna()
    n_both = int((of_a & of_b).sum())
    if alike and n_both < len(table):
        return [f"{n_both} of {len(table)} samples have both confidences; metrics of confidence are over these"]
    if not alike and (of_a != of_b).any():
        return [
            f"metrics of confidence are over each run's valid confidences: {of_a.sum()} of A, {of_b.sum()} of B, "
            f"{n_both} samples have both"
        ]
    return []


def aligned_runs(runs: dict[str, Results]) -> dict[str, Results]:
    """The runs with the samples that all of them answered, in the first one's order.

    Raises:
        ComparisonError: as ``paired_table``, of the first run with each other one.
    """
    (first, own), *others = runs.items()
    common = set(own.table["sample_id"])
    for name, run in others:
        common &= set(paired_table(own.table, run.table, (first, name))["sample_id"])
    order = [sample_id for sample_id in own.table["sample_id"] if sample_id in common]
    if not order:
        raise ComparisonError("there is no sample that every run has answered")
    return {
        name: replace(run, table=run.table.set_index("sample_id", drop=False).loc[order].reset_index(drop=True))
        for name, run in runs.items()
    }


def candidate_doubts(runs: Mapping[str, Results]) -> list[str]:
    """Tasks for which a run has chosen among other labels than the first one: guessing is right at another rate."""
    (first, own), *others = runs.items()
    doubts = []
    for name, run in others:
        for task in sorted(own.candidates.keys() & run.candidates.keys()):
            a, b = (set(map(normal_label, of.candidates[task])) for of in (own, run))
            sides = ((first, sorted(a - b)), (name, sorted(b - a)))
            only = "; ".join(f"only {side} has {', '.join(labels)}" for side, labels in sides if labels)
            if only:
                doubts.append(one_line(f"the candidates of {task} differ between {first} and {name}: {only}"))
    return doubts


def apart_rows(table: pd.DataFrame) -> int:
    """How many rows a resample draws one by one although others name their image."""
    return drawn_together(table["task"], table["image"])[1]


def _view(cells: Cells, run: str) -> Cells:
    names = {f"{column}_{run}": column for column in JUDGED}
    return replace(cells, columns=cells.columns[["task", "truth", *names]].rename(columns=names))


def _metrics(cells: Cells, weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """(row, metric of ``COMPARED``) → (resamples,) of one run."""
    rows = estimate_rows(cells, weights)
    found = {(name, metric): metrics[metric] for name, _, metrics in rows for metric in COMPARED if metric in metrics}
    return found | {(row, "emobserver_accuracy"): of for row, of in emobserver.accuracies(cells, weights).items()}


def differences(
    table: pd.DataFrame,
    n_resamples: int = N_PAIRED_RESAMPLES,
    seed: int = 0,
    metrics: Collection[str] = COMPARED,
) -> list[Difference]:
    """B − A of ``metrics``, of every task, group and Overall, both runs in the same resamples.

    A metric of ``GAP_METRICS`` is raised by chance in both runs. The difference is that of the two
    estimates: its resamples are moved so that their mean is the difference seen.
    """
    columns = ["task", "truth", *(f"{name}_{run}" for run in "ab" for name in JUDGED)]
    cells = Cells.of(table[columns], table["image"])

    def metrics_of(part: Cells, weights: np.ndarray) -> dict[tuple[str, str, str], np.ndarray]:
        a, b = (_metrics(_view(part, run), weights) for run in "ab")
        return {
            (name, metric, run): values
            for name, metric in a
            for run, values in (
                ("a", a[name, metric]),
                ("b", b[name, metric]),
                ("b - a", b[name, metric] - a[name, metric]),
            )
        }

    point, drawn = resampled(cells, n_resamples, seed, metrics_of)
    kinds = {name: kind for name, kind, _ in slices(cells)}
    found = []
    for name, kind in kinds.items():
        for metric in metrics:
            difference = point.get((name, metric, "b - a"), np.nan)
            if not np.isfinite(difference):
                continue
            a, b = (point[name, metric, run] for run in "ab")
            found.append(_difference(name, kind, metric, a, b, drawn[name, metric, "b - a"], difference))
    _correct_p(found)
    return found


def _difference(
    row: str, kind: str, metric: str, a: float, b: float, values: np.ndarray, difference: float
) -> Difference:
    """The difference seen, with interval and p from what it is in each resample, (resamples,)."""
    if metric in GAP_METRICS:
        values = values - (np.nanmean(values) - difference)
    low, high = (float(bound) for bound in interval(values))
    return Difference(row, kind, metric, a, b, difference, low, high, float(two_sided_p(values)))


def _correct_p(found: Sequence[Difference]) -> None:
    """Give each difference its p after Holm's correction for all of its metric."""
    for metric in COMPARED:
        family = [item for item in found if item.metric == metric]
        for item, corrected in zip(family, holm(np.array([item.p for item in family])), strict=True):
            item.p_holm = float(corrected)


def pairwise_differences(
    tables: Mapping[str, pd.DataFrame], n_resamples: int = N_PAIRED_RESAMPLES, seed: int = 0
) -> dict[tuple[str, str], list[Difference]]:
    """(A, B) → B − A of each metric of ``PAIRWISE`` over all samples, for every two runs A before B.

    As ``differences``, all runs in the same resamples; p is corrected for the pairs of a metric. A metric that one of
    the two does not define is left out.

    Args:
        tables: run → ``prediction_table``, of the same samples in the same order (``aligned_runs``).
    """
    first = next(iter(tables.values()))
    columns: dict[str, np.ndarray | pd.Series] = {"task": first["task"].to_numpy()}
    for name, table in tables.items():
        columns[f"right {name}"] = correctness(table)
        columns[f"confidence {name}"] = table["confidence"].to_numpy(dtype=float)
    cells = Cells.of(pd.DataFrame(columns), first["image"])

    def metrics_of(part: Cells, weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        values = {}
        for name in tables:
            right = part.columns[f"right {name}"].to_numpy(dtype=float)
            tally = tally_of(part.columns[f"confidence {name}"].to_numpy(), right, weights)
            values[name, "accuracy"] = share(right, weights)
            values[name, "ece"] = calibration.expected_calibration_error(tally)
            values[name, "brier"] = calibration.brier_score(tally)
            values[name, "roc_auc"] = ranking.roc_auc(tally)
        return values

    point, drawn = resampled(cells, n_resamples, seed, metrics_of)
    found: dict[tuple[str, str], list[Difference]] = {}
    for a, b in combinations(tables, 2):
        found[a, b] = []
        for metric in PAIRWISE:
            values, difference = drawn[b, metric] - drawn[a, metric], point[b, metric] - point[a, metric]
            if np.isfinite(difference):
                own, other = point[a, metric], point[b, metric]
                found[a, b].append(_difference(OVERALL, "overall", metric, own, other, values, difference))
    _correct_p([item for items in found.values() for item in items])
    return found


def needed_resamples(n_tests: int) -> int:
    """From how many on the smallest p, 2 / (n_resamples + 1), is below ``ALPHA`` after Holm's correction."""
    return round(2 * n_tests / ALPHA)


def too_few_resamples(found: Sequence[Difference], n_resamples: int) -> str:
    """A line when no p can be below 0.05 after the correction, as p is at least 2 / (n_resamples + 1); else none."""
    rows = max((sum(item.metric == metric for item in found) for metric in COMPARED), default=0)
    needed = needed_resamples(rows)
    if n_resamples >= needed:
        return ""
    return (
        f"NOTE: {n_resamples} resamples are too few for a verdict: Holm's correction for {rows} rows needs a p below "
        f"{ALPHA / rows:.4f}, and p is at least 2 / {n_resamples + 1}; expected --n_resamples {needed} or more"
    )


def _number(value: float, metric: str, signed: bool = False) -> str:
    _, number_format, factor, _ = NAMES[metric]
    return format(factor * value, ("+" if signed else "") + number_format)


def comparison_text(found: list[Difference], name_a: str, name_b: str, n_resamples: int) -> str:
    """A block per metric, a line per row."""
    lines = [
        f"A: {name_a}",
        f"B: {name_b}",
        f"B - A with {LEVEL:.0%} intervals, {n_resamples} paired resamples of the images within their tasks;",
        "p two-sided; better, worse: p below 0.05 after Holm's correction for the rows of the metric",
        f"ECE of {N_BINS} bins, smooth ECE: chance raises both estimates; the interval is of their difference",
    ]
    note = too_few_resamples(found, n_resamples)
    lines += [note] if note else []
    for metric in COMPARED:
        items = [item for item in found if item.metric == metric]
        if items:
            direction = {True: "higher", False: "lower", None: "neither"}[NAMES[metric].higher_is_better]
            lines += ["", f"{NAMES[metric].label.strip()} ({direction} is better)"]
            lines.append(f"  {'':<15} {'A':>7} {'B':>7} {'B - A':>8}  {'interval':<18} {'p':>6}")
        for item in items:
            bounds = f"[{_number(item.low, metric, True)}, {_number(item.high, metric, True)}]"
            lines.append(
                f"  {item.row:<15} {_number(item.a, metric):>7} {_number(item.b, metric):>7} "
                f"{_number(item.difference, metric, True):>8}  {bounds:<18} {item.p:>6.3f} {item.verdict}".rstrip()
            )
    return "\n".join(lines) + "\n"
