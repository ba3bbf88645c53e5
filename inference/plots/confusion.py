"""Confusion matrices: which label is taken for which, a plot per task.

    from inference.plots.confusion import confusion_matrices
    confusion_matrices(table, "infer_results/my_run/confusion", formats=("png", "pdf"))

``python -m inference.plots`` draws them, and all others, for a run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from inference.common.json_lines import one_line
from inference.data.response import UNKNOWN
from inference.data.vecbench import TASKS
from inference.metrics.classification import label_order
from inference.plots.style import FAINT, Axes, check_formats, new_figure, save_figure, short_label, styled

# From white to dark blue: lightness alone tells the values apart, in grey as well.
COLOUR_MAP = "Blues"
# Up to so many labels a cell says how many samples it holds; beyond that, the larger percentages.
MAX_LABELS_WITH_COUNTS = 8
MIN_PERCENT_SHOWN = 10
# A data file may have a task of its own in every line, or thousands of labels: too many plots to look at.
MAX_OTHER_TASKS = 30
MAX_LABELS_DRAWN = 100
MAX_FILE_PART = 60  # characters, of up to 4 bytes each; a file name may have 255 bytes


def confusion_counts(part: pd.DataFrame, labels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """(counts, columns): counts[i, j] samples of the truth ``labels[i]`` that were read as ``columns[j]``.

    The columns are the labels, and ``unknown`` at the end when there is any.
    """
    columns = list(labels)
    if UNKNOWN not in columns and (part["label"] == UNKNOWN).any():
        columns.append(UNKNOWN)
    counts = pd.crosstab(part["truth"], part["label"]).reindex(index=labels, columns=columns, fill_value=0)
    return counts.to_numpy(dtype=int), columns


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; NaN in a row without a sample."""
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), np.nan)


def file_part(task: str) -> str:
    """A task's name as part of a file name: what no file name should hold becomes a hyphen, and it is cut short."""
    return re.sub(r"[^\w.+-]+", "-", task)[:MAX_FILE_PART].strip("-.") or "task"


def _write_cells(panel: Axes, counts: np.ndarray, shares: np.ndarray, top: float) -> None:
    few = len(counts) <= MAX_LABELS_WITH_COUNTS
    for (i, j), count in np.ndenumerate(counts):
        shown = count > 0 if few else np.nan_to_num(100 * shares[i, j]) >= MIN_PERCENT_SHOWN
        if shown:
            words = f"{count:,}" if few else f"{100 * shares[i, j]:.0f}"
            colour = "white" if shares[i, j] > 0.55 * top else "black"
            panel.text(j, i, words, ha="center", va="center", color=colour, fontsize=8 if few else 6, in_layout=False)


@styled
def confusion_matrix(
    task: str,
    part: pd.DataFrame,
    path: str | Path,
    formats: Sequence[str] = ("png",),
    note: str = "",
    candidates: Sequence[str] | None = None,
) -> list[Path]:
    """One task's matrix: a row a true label, the colour its share of the row; a hatched row has no sample.

    Up to 8 labels it is half a page wide, cells hold counts, and colours run from 0 to 100 %. Beyond
    that it is a page wide, cells hold percentages of the row from 10 % on, and colours end at the
    greatest share.
    """
    labels = label_order(task, part, candidates)
    counts, columns = confusion_counts(part, labels)
    shares = row_shares(counts)
    few = len(labels) <= MAX_LABELS_WITH_COUNTS
    # With many labels no share is near 1: there the scale ends at the greatest one, rounded up to ten percent.
    top = 1.0 if few else np.ceil(10 * np.nanmax(shares)) / 10
    figure = new_figure(height=1.55 + 0.24 * max(len(labels), 4), width=4.2) if few else new_figure(height=6.9)
    panel = figure.subplots()
    # A mesh rather than an image: its lines are the grid, and print files hold sharp squares.
    look = {"cmap": COLOUR_MAP, "vmin": 0, "vmax": 100 * top, "edgecolors": "#dddddd", "linewidth": 0.5}
    edges = np.arange(len(columns) + 1) - 0.5, np.arange(len(labels) + 1) - 0.5
    mesh = panel.pcolormesh(*edges, np.ma.masked_invalid(100 * shares), **look)
    for i in np.flatnonzero(counts.sum(axis=1) == 0):
        panel.barh(i, len(columns), 1, left=-0.5, facecolor="none", edgecolor="#bbbbbb", hatch="////", linewidth=0)
    _write_cells(panel, counts, shares, top)
    panel.tick_params(length=0)
    size = 8.5 if few else 7.5
    panel.set_xticks(range(len(columns)), map(short_label, columns), rotation=45, ha="right", rotation_mode="anchor")
    totals = counts.sum(axis=1)
    panel.set_yticks(range(len(labels)), [f"{short_label(a)} ({n:,})" for a, n in zip(labels, totals, strict=True)])
    panel.tick_params(labelsize=size)
    panel.set(xlabel="predicted label", ylabel="true label (samples)", xlim=(-0.5, len(columns) - 0.5))
    panel.set_ylim(len(labels) - 0.5, -0.5)
    right = int((part["truth"] == part["label"]).sum())
    panel.set_title(f"{short_label(task)}: {right:,} of {len(part):,} right", loc="left", fontweight="bold")
    panel.spines[["top", "right"]].set_visible(True)
    panel.spines[:].set_color(FAINT)
    bar = figure.colorbar(mesh, ax=panel, fraction=0.05, pad=0.02, aspect=20 if few else 45)
    bar.set_label("share of the row (%)", fontsize=8.5)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return save_figure(figure, path, formats, note)


def confusion_matrices(
    table: pd.DataFrame,
    path: str | Path,
    formats: Sequence[str] = ("png",),
    note: str = "",
    candidates: Mapping[str, Sequence[str]] | None = None,
) -> list[Path]:
    """``<path>_<task>`` for each task of the table, VECBench's first, in the published order; others follow.

    Args:
        table: as ``protocols.prediction_table`` makes it (columns task, truth, label).
        candidates: task → labels in the record's order; without it VECBench's order is used.

    Returns:
        the files written, none for a table without a row. Tasks beyond ``MAX_OTHER_TASKS`` that VECBench does
        not have, and those of more than ``MAX_LABELS_DRAWN`` labels, are left out, and stderr says so.
    """
    check_formats(formats)
    by_task = dict(tuple(table.groupby("task", sort=False)))
    order = [*(task for task in TASKS if task in by_task), *(task for task in by_task if task not in TASKS)]
    written, names, left_out = [], set(), []
    for rank, task in enumerate(order):
        name = file_part(task)
        while name.lower() in names:  # two tasks whose names differ only in what a file name cannot hold
            name += "_"
        names.add(name.lower())
        labels = (candidates or {}).get(task)
        if rank >= len(TASKS) + MAX_OTHER_TASKS or len(label_order(task, by_task[task], labels)) > MAX_LABELS_DRAWN:
            left_out.append(task)
            continue
        written += confusion_matrix(task, by_task[task], f"{path}_{name}", formats, note, labels)
    if left_out:
        left = f"no confusion matrix of {len(left_out)} tasks, for instance {one_line(left_out[0], 60)}"
        print(f"{left}: more than {MAX_LABELS_DRAWN} labels, or too many tasks", file=sys.stderr)
    return written
