"""The protocol of the authors' later evaluator: EmObserver's of VECBench. Accuracy alone.

    emobserver.evaluate(table, n_resamples=1000).table     # as metric_emobserver.log has it

Takes the table of ``prediction_table``. A group is the mean of its tasks' accuracies, and Overall, there called
total, the mean of the groups. A task without a sample has an accuracy of 0 in that evaluator; here the means are over
the tasks that are there, and the others are named.

Source: EmObserver (arXiv 2607.21061), evaluate/metrics_calculators/vecbench.py of github.com/wdqqdw/EmObserver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from inference.data.vecbench import GROUPS, TASKS
from inference.metrics.bootstrap import LEVEL, Cells, interval_around, resampled
from inference.metrics.classification import share
from inference.metrics.corrected import slices
from inference.metrics.rows import Row, aligned_table, metric_text

TASKS_OF = {group: [name for name, task in TASKS.items() if task.group == group] for group in GROUPS}

NOTES = """\
What differs from the published protocol:
  Prediction: the first candidate that occurs in <answer>, newlines allowed; without a whole one, in what follows the
    last <answer> or </think>, else in the response. Where none occurs, the record's first one: there is no unknown.
  Right: the candidate is the label as both are written; case counts.
  Groups: the mean over their tasks, Overall the mean of the groups (published: samples are pooled)."""


def _of_vecbench(cells: Cells) -> np.ndarray:
    """(n,) whether each cell's task is one of the benchmark's: others do not count."""
    return cells.columns["task"].isin(list(TASKS)).to_numpy()


def accuracies(cells: Cells, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy of each task, group and Overall that has a sample: (resamples,).

    Args:
        cells: with the columns task and emobserver_right; samples of tasks outside VECBench count nowhere.
        weights: (resamples, cells), ``cells.weights`` or a chunk of ``cells.resamples``.
    """
    task = cells.columns["task"].to_numpy()
    right = cells.columns["emobserver_right"].to_numpy(dtype=float)
    counts = _of_vecbench(cells)
    found = {}
    for name, kind, index in slices(cells):
        index = index[counts[index]]
        w = weights if kind == "task" else cells.thinned(weights, index)
        of_task = {one: share(right[own], w[:, own]) for one in TASKS if len(own := index[task[index] == one])}
        of_group = [
            np.mean([of_task[one] for one in names if one in of_task], axis=0)
            for names in TASKS_OF.values()
            if not of_task.keys().isdisjoint(names)
        ]
        if of_group:
            found[name] = np.mean(of_group, axis=0)
    return found


def _turned(columns: pd.DataFrame) -> pd.DataFrame:
    return columns.assign(emobserver_right=~columns["emobserver_right"].to_numpy(dtype=bool))


def rows_of(table: pd.DataFrame, n_resamples: int = 0, seed: int = 0) -> list[Row]:
    """Tasks, groups, Overall; with ``n_resamples`` of the bootstrap their 95 % intervals. A group may be empty."""
    cells = Cells.of(table[["task", "emobserver_right"]], table["image"])
    point, drawn = resampled(cells, n_resamples if len(table) else 0, seed, accuracies, _turned)
    rows, counted = [], np.where(_of_vecbench(cells), cells.weights[0], 0.0)
    for name, kind, index in slices(cells):
        row = Row(name, kind, round(counted[index].sum()))
        if name in point:
            row.metrics["accuracy"] = value = point[name]
        if name in drawn:
            row.intervals["accuracy"] = interval_around(value, drawn[name])
        rows.append(row)
    return rows


def counting_absent_as_zero(rows: Sequence[Row]) -> dict[str, float]:
    """group and Overall → what the evaluator itself gives, for which a task without a sample has an accuracy of 0."""
    of_task = {row.name: row.metrics["accuracy"] for row in rows if row.kind == "task"}
    means = {group: sum(of_task.get(name, 0.0) for name in names) / len(names) for group, names in TASKS_OF.items()}
    return {**means, rows[-1].name: sum(means.values()) / len(means)}


def absent_tasks(table: pd.DataFrame) -> list[str]:
    """VECBench's tasks without a sample."""
    there = set(table["task"])
    return [name for name in TASKS if name not in there]


def notes_of(table: pd.DataFrame, rows: Sequence[Row]) -> list[str]:
    """What must be said beside the numbers: absent tasks, samples of other tasks, answers that name no candidate."""
    notes = []
    absent = absent_tasks(table)
    if len(absent) == len(TASKS):
        notes.append("no sample of any task of VECBench")
    elif absent:
        zero = ", ".join(f"{name} {100 * value:.2f}" for name, value in counting_absent_as_zero(rows).items())
        notes.append(
            f"no sample of {', '.join(absent)}: the means are over the tasks that are there; EmObserver's evaluator "
            f"counts 0 for each, and gives {zero}"
        )
    inside = table["group"].notna().to_numpy()
    if n := int((~inside).sum()):
        others = ", ".join(sorted(set(table["task"][~inside])))
        notes.append(f"{n} samples of other tasks are left out: {others if len(others) <= 100 else others[:99] + '…'}")
    first = table[inside & ~table["emobserver_named"].to_numpy(dtype=bool)]
    if len(first):
        notes.append(
            f"{len(first)} answers name no candidate and count as the record's first one, "
            f"{int(first['emobserver_right'].sum())} of them as right"
        )
    return notes


def accuracy_table(rows: Sequence[Row], notes: Sequence[str] = (), n_resamples: int = 0) -> str:
    """Tasks, groups and Overall with their intervals, under the notes."""
    head = "Accuracy, EmObserver's protocol, in percent\n"
    if n_resamples:
        head += f"[low, high]: {LEVEL:.0%} bootstrap interval, {n_resamples} resamples of images within their tasks\n"
    head += "".join(f"NOTE: {note}\n" for note in notes)
    lines = [[row.name, metric_text(row, "accuracy"), str(row.n_samples)] for row in rows]
    return head + aligned_table(["Task/Group", "Acc", "#Samples"], lines)


@dataclass
class EmObserver:
    """What EmObserver's protocol says of a table, as text and as metrics.json has it."""

    table: str
    json: dict[str, Any]


def evaluate(table: pd.DataFrame, n_resamples: int = 0) -> EmObserver:
    """Every row and text of the protocol; ``n_resamples`` as ``rows_of`` has it."""
    rows = rows_of(table, n_resamples)
    notes = notes_of(table, rows)
    return EmObserver(
        accuracy_table(rows, notes, n_resamples),
        {
            "n_resamples": n_resamples,
            "notes": notes,
            "counting_absent_as_zero": counting_absent_as_zero(rows),
            "metric": [row.to_json() for row in rows],
        },
    )
