"""Dot-and-interval plots: the differences of two runs, and several confidences side by side.

    from inference.plots.intervals import run_comparison
    rows = [("EmoSet-8", "accuracy", 1.2, -0.4, 2.9), ("Overall", "accuracy", 0.8, 0.1, 1.5)]
    run_comparison(rows, "infer_results/my_run/comparison", "change from A to B (points)")

A row is (name, metric, value, low, high): the interval's ends, or None (or NaN) where a number is
not defined. Names and metrics appear in the order in which they come up first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from inference.data.vecbench import GROUPS
from inference.metrics.prediction_table import OVERALL
from inference.plots.style import FAINT, Axes, MaxNLocator, new_figure, save_figure, say_in_panel, styled

Row = tuple[str, str, float | None, float | None, float | None]

MAX_COLUMNS = 4
# Tasks, groups, overall: distinguished by marker and by a gap between them, also without colour.
KINDS = (("o", "#0072B2"), ("s", "#D55E00"), ("D", "#333333"))


def kind_of(name: str) -> int:
    """0 for a task or anything else, 1 for one of VECBench's groups, 2 for the overall row."""
    return 2 if name == OVERALL else 1 if name in GROUPS else 0


def heights(names: Sequence[str]) -> dict[str, float]:
    """name → its place from the top in rows, with half a row between tasks, groups and overall."""
    places, place = {}, 0.0
    for i, name in enumerate(names):
        if i:
            place += 1.5 if kind_of(name) != kind_of(names[i - 1]) else 1.0
        places[name] = place
    return places


def leaves_out(reference: float, low: float | None, high: float | None) -> bool:
    """Whether a defined interval lies wholly on one side of the reference."""
    return _is_number(low) and _is_number(high) and (low > reference or high < reference)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _draw_row(panel: Axes, row: Row, y: float, reference: float | None) -> None:
    name, _, value, low, high = row
    marker, colour = KINDS[kind_of(name)]
    if not _is_number(value):
        look = {"ha": "center", "va": "center", "fontsize": 8, "color": FAINT, "backgroundcolor": "white"}
        panel.text(0.5, y, "N/A", transform=panel.get_yaxis_transform(), **look)
        return
    if _is_number(low) and _is_number(high):
        panel.plot([low, high], [y, y], color=colour, linewidth=1.4, marker="|", markersize=5, zorder=2)
    # Hollow: the interval holds the reference, so the sign is not certain.
    hollow = reference is not None and not leaves_out(reference, low, high)
    panel.plot(
        value, y, marker=marker, markersize=5, color=colour, markerfacecolor="white" if hollow else colour, zorder=3
    )


@styled
def run_comparison(
    rows: Sequence[Row],
    path: str | Path,
    axis_label: str = "difference, B − A",
    formats: Sequence[str] = ("png",),
    note: str = "",
    better: Mapping[str, str] | None = None,
    reference: float | None = 0.0,
) -> list[Path]:
    """Differences of run B from run A with their intervals, a panel per metric, around a line at zero.

    A filled mark has an interval that leaves out zero. Circles are tasks, squares groups, the
    diamond all samples.

    Args:
        rows: (name, metric, difference, low, high).
        axis_label: what the numbers are, with their unit.
        better: metric → "higher" or "lower", written under the metric's name.
        reference: where the line is; None for numbers that are no differences.

    Raises:
        ValueError: on a row of another length, or an unknown format.
    """
    better = better or {}
    for i, row in enumerate(rows):
        if len(row) != 5:
            raise ValueError(f"row {i}: expected (name, metric, value, low, high), got {row!r}")
    if any(_is_number(low) and _is_number(high) for *_, low, high in rows):
        filled = "" if reference is None else "; filled marks: it leaves out zero"
        note = f"lines: 95 % interval{filled}\n{note}"
    metrics = list(dict.fromkeys(metric for _, metric, *_ in rows))
    names = list(dict.fromkeys(name for name, *_ in rows))
    if not rows:
        figure = new_figure(height=1.2)
        panel = figure.subplots()
        panel.axis("off")
        say_in_panel(panel, "nothing to compare")
        return save_figure(figure, path, formats, note)
    places = heights(names)
    lowest = max(places.values())
    columns = min(MAX_COLUMNS, len(metrics))
    lines = math.ceil(len(metrics) / columns)
    figure = new_figure(height=lines * (0.85 + 0.24 * (lowest + 1)) + 0.25)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for panel, metric in zip(panels, metrics, strict=False):
        if reference is not None:
            panel.axvline(reference, color="black", linewidth=0.8, zorder=1)
        for row in rows:
            if row[1] == metric:
                _draw_row(panel, row, places[row[0]], reference)
        panel.set_title(metric, fontweight="bold", pad=15 if better else 6)
        words = f"{better[metric]} is better" if metric in better else ""
        panel.annotate(
            words, (0.5, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", ha="center", fontsize=8
        )
        panel.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
        panel.grid(axis="x")
        panel.tick_params(axis="y", length=0)
        panel.margins(x=0.08)
        panel.spines["left"].set_visible(False)
        for above, below in pairwise(names):
            if kind_of(above) != kind_of(below):
                panel.axhline((places[above] + places[below]) / 2, color="#bbbbbb", linewidth=0.6)
    for panel in panels[len(metrics) :]:
        panel.axis("off")
    panels[0].set_ylim(lowest + 0.6, -0.6)
    panels[0].set_yticks(list(places.values()), list(places))
    for panel in panels[max(0, len(metrics) - columns) : len(metrics)]:
        panel.set_xlabel(axis_label)
    return save_figure(figure, path, formats, note)


# Several confidences of the same answers (stated, answer probability, agreement …), a panel per metric.
confidence_sources = partial(run_comparison, reference=None)
