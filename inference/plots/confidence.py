"""Plots of a confidence: reliability diagram, risk and coverage, histograms; a panel per group and one overall.

Each takes the table of ``prediction_table`` (columns task, group, truth, label,
confidence), a path without suffix, and the formats; it returns the files it wrote. An answer is
right when ``label`` equals ``truth`` (corrected protocol).

    from inference.plots.confidence import reliability_diagram
    reliability_diagram(table, "infer_results/my_run/reliability", formats=("png", "pdf"))

``python -m inference.plots`` draws them, and all others, for a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from inference.metrics.calibration import Tally, calibration_bins, expected_calibration_error, wilson_interval
from inference.metrics.prediction_table import correctness, with_confidence
from inference.metrics.ranking import area_under_risk_coverage, best_risk, risk_coverage_curve
from inference.plots.style import (
    FAINT,
    MIN_BIN_COUNT,
    PANEL_STYLES,
    RIGHT_COLOUR,
    WRONG_COLOUR,
    Axes,
    Line2D,
    MaxNLocator,
    Patch,
    group_panels,
    head_panel,
    new_figure,
    save_figure,
    say_in_panel,
    short_label,
    styled,
)

# Bars around the multiples of 0.05 that models state, so that none of these lies on an edge.
HISTOGRAM_EDGES = np.round(np.arange(-0.025, 1.0251, 0.05), 3)

MAX_RISK_POINTS = 40
RUNS_BESIDE = 3  # panels in a line of a plot of several runs

ALL_ANSWERS = {"color": FAINT, "linewidth": 1.1, "linestyle": (0, (1, 1.5))}
BEST_POSSIBLE = {"facecolor": "#e4e4e4", "edgecolor": "#aaaaaa", "linewidth": 0.6}


def reliability_bins(part: pd.DataFrame) -> dict[str, np.ndarray]:
    """``calibration_bins`` of the samples, and 95 % Wilson intervals: ``interval_low``, ``interval_high``."""
    bins = calibration_bins(*with_confidence(part))
    right = np.nan_to_num(bins["correctness"] * bins["count"])
    bins["interval_low"], bins["interval_high"] = wilson_interval(right, bins["count"])
    return bins


def histogram_counts(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Counts (21,) of right and of wrong answers, in bars of 0.05 around 0, 0.05 … 1."""
    confidence, right = with_confidence(part)
    by_outcome = (confidence[right == 1], confidence[right == 0])
    return tuple(np.histogram(values, HISTOGRAM_EDGES)[0] for values in by_outcome)


def _empty_words(part: pd.DataFrame) -> str | None:
    if part.empty:
        return "no sample"
    return "no confidence stated" if part["confidence"].isna().all() else None


def _draw_reliability(panel: Axes, counts: Axes, name: str, part: pd.DataFrame, style: str) -> None:
    colour, line, marker = PANEL_STYLES[style]
    panel.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
    panel.set(xlim=(0, 1), ylim=(0, 1), xticks=np.arange(0, 1.1, 0.2), yticks=np.arange(0, 1.1, 0.2))
    panel.tick_params(labelbottom=False)
    panel.grid()
    counts.set_yticks([])
    empty = _empty_words(part)
    if empty:
        head_panel(panel, name, "ECE N/A")
        say_in_panel(panel, empty)
        return
    bins = reliability_bins(part)
    filled, firm = bins["count"] > 0, bins["count"] >= MIN_BIN_COUNT
    low, high = bins["interval_low"][filled], bins["interval_high"][filled]
    edges, widths = bins["low"][filled], (bins["high"] - bins["low"])[filled]
    panel.bar(edges, high - low, widths, bottom=low, align="edge", color=colour, alpha=0.22, linewidth=0)
    # The ends of a band stay visible in grey print and where bands meet.
    panel.hlines([*low, *high], [*edges, *edges], [*(edges + widths)] * 2, color=colour, linewidth=0.7)
    x, y = bins["confidence"], bins["correctness"]
    look = {"color": colour, "marker": marker, "markersize": 4.5, "clip_on": False, "in_layout": False, "zorder": 3}
    panel.plot(x[firm], y[firm], linestyle=line, linewidth=1.3, **look)
    panel.plot(x[filled & ~firm], y[filled & ~firm], linestyle="", fillstyle="none", **look)
    confidence, right = with_confidence(part)
    missing = f", {len(part) - len(right):,} without confidence" if len(right) < len(part) else ""
    ece = float(expected_calibration_error(Tally.of(confidence, right)))
    head_panel(panel, name, f"ECE {100 * ece:.1f} %, n = {len(right):,}{missing}")
    bars = counts.bar(
        edges, bins["count"][filled], widths, align="edge", color=colour, edgecolor="white", linewidth=0.6
    )
    counts.bar_label(bars, fmt="{:.0f}", fontsize=7.5, padding=1)
    counts.margins(y=0.3)


@styled
def reliability_diagram(
    table: pd.DataFrame, path: str | Path, formats: Sequence[str] = ("png",), note: str = ""
) -> list[Path]:
    """Accuracy against mean confidence in ten bins of equal width, with how many samples are in each.

    Bands are 95 % Wilson intervals of a bin's accuracy (Wilson, 1927); on the dashed diagonal a
    confidence is calibrated; points of fewer than 5 samples are hollow and off the line. Bins are
    those of the ECE: a confidence on an edge is in the bin above it.
    """
    figure = new_figure(height=7.6)
    axes = figure.subplots(4, 2, sharex=True, height_ratios=(3.4, 1, 3.4, 1))
    panels = (*axes[0], *axes[2])
    for panel, counts, (name, part) in zip(panels, (*axes[1], *axes[3]), group_panels(table), strict=True):
        _draw_reliability(panel, counts, name, part, name)
    for row, words in enumerate(("accuracy", "samples", "accuracy", "samples")):
        axes[row, 0].set_ylabel(words)
    for counts in axes[3]:
        counts.set_xlabel("confidence")
    for counts in axes[1]:
        counts.tick_params(labelbottom=True)
    return save_figure(figure, path, formats, note)


@styled
def reliability_of_runs(
    parts: Mapping[str, pd.DataFrame],
    group: str,
    path: str | Path,
    formats: Sequence[str] = ("png",),
    note: str = "",
) -> list[Path]:
    """``reliability_diagram`` of one group, or of all samples, of several runs: a panel per run, three in a line.

    Args:
        parts: run → its samples of the group.
        group: in whose colour they are drawn, a group or ``OVERALL``.
    """
    n_columns = min(RUNS_BESIDE, len(parts))
    n_lines = math.ceil(len(parts) / n_columns)
    figure = new_figure(height=0.5 + 3.0 * n_lines, width=0.6 + 3.1 * n_columns)
    axes = figure.subplots(2 * n_lines, n_columns, sharex=True, squeeze=False, height_ratios=(3.4, 1) * n_lines)
    panels, counts = axes[0::2].ravel(), axes[1::2].ravel()
    for panel, below, (name, part) in zip(panels, counts, parts.items(), strict=False):
        _draw_reliability(panel, below, short_label(name), part, group)
        below.tick_params(labelbottom=True)
        below.set_xlabel("confidence")
    for unused in (*panels[len(parts) :], *counts[len(parts) :]):
        unused.axis("off")
    for line in range(n_lines):
        axes[2 * line, 0].set_ylabel("accuracy")
        axes[2 * line + 1, 0].set_ylabel("samples")
    return save_figure(figure, path, formats, note)


def _draw_risk(panel: Axes, name: str, part: pd.DataFrame) -> None:
    colour, line, marker = PANEL_STYLES[name]
    panel.set(xlim=(0, 100), xticks=range(0, 101, 20))
    panel.grid()
    if part.empty:
        head_panel(panel, name, "AURC N/A")
        say_in_panel(panel, "no sample")
        return
    right = correctness(part)
    accuracy = float(right.mean())
    panel.axhline(100 * (1 - accuracy), **ALL_ANSWERS)
    shares = np.linspace(0.005, 1, 200)
    panel.fill_between(100 * shares, 100 * best_risk(accuracy, shares), **BEST_POSSIBLE)
    if part["confidence"].isna().all():
        head_panel(panel, name, f"AURC N/A, all answers {100 * (1 - accuracy):.1f} %, n = {len(part):,}")
        say_in_panel(panel, "no confidence stated")
        return
    coverage, risk = risk_coverage_curve(part["confidence"], right)
    # Level up to the first point: part of a group of equal confidence has the risk of the group.
    panel.plot([0, *100 * coverage], [100 * risk[0], *100 * risk], color=colour, linestyle=line, linewidth=1.5)
    if len(coverage) <= MAX_RISK_POINTS:
        look = {"marker": marker, "markersize": 4.5, "clip_on": False, "in_layout": False, "zorder": 3}
        panel.plot(100 * coverage, 100 * risk, color=colour, linestyle="", **look)
    area = float(area_under_risk_coverage(Tally.of(*with_confidence(part))))
    head_panel(panel, name, f"AURC {100 * area:.1f} %, all answers {100 * (1 - accuracy):.1f} %, n = {len(part):,}")


@styled
def risk_coverage(
    table: pd.DataFrame, path: str | Path, formats: Sequence[str] = ("png",), note: str = ""
) -> list[Path]:
    """Error rate of the answers kept against the share kept, from the most confident down.

    One point for each distinct confidence, as equal ones have no order
    (``risk_coverage_curve``); answers without a confidence are kept last. Dotted: the error
    rate of all answers; grey: below the best possible order of the same answers. AURC is that of
    ``metrics.ranking``, over the answers with a confidence. Points are drawn for up to 40 distinct
    values, beyond that the line alone.
    """
    figure = new_figure(height=5.9)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for panel, (name, part) in zip(panels.ravel(), group_panels(table), strict=True):
        _draw_risk(panel, name, part)
    for panel in panels[1]:
        panel.set_xlabel("coverage: share of answers kept (%)")
    for panel in panels[:, 0]:
        panel.set_ylabel("risk: error rate (%)")
    panels[0, 0].set_ylim(0, min(100, max(5, 1.1 * panels[0, 0].get_ylim()[1])))
    marks = [Line2D([], [], **ALL_ANSWERS), Patch(**BEST_POSSIBLE)]
    words = ["error rate of all answers", "out of reach: below the best possible order"]
    figure.legend(marks, words, loc="outside upper center", ncols=2)
    return save_figure(figure, path, formats, note)


def _draw_histogram(panel: Axes, name: str, part: pd.DataFrame) -> None:
    head_panel(panel, name)
    panel.set(xlim=(-0.03, 1.03), xticks=np.arange(0, 1.1, 0.2))
    panel.grid(axis="y")
    panel.axhline(0, color="black", linewidth=0.8)
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    empty = _empty_words(part)
    if empty:
        panel.set_yticks([])
        say_in_panel(panel, empty)
        return
    centres = (HISTOGRAM_EDGES[:-1] + HISTOGRAM_EDGES[1:]) / 2
    right, wrong = histogram_counts(part)
    confidence, outcome = with_confidence(part)
    looks = ((right, 1, RIGHT_COLOUR, "", "right"), (-wrong, 0, WRONG_COLOUR, "////", "wrong"))
    for heights, value, colour, hatch, words in looks:
        some = heights != 0
        panel.bar(centres[some], heights[some], 0.042, color=colour, hatch=hatch, edgecolor="black", linewidth=0.5)
        chosen = confidence[outcome == value]
        mean = f", mean {chosen.mean():.2f}" if len(chosen) else ""
        y, va = (0.97, "top") if value else (0.03, "bottom")
        panel.text(0.03, y, f"{words}: {len(chosen):,}{mean}", transform=panel.transAxes, va=va)
    room = 0.16 * (right.max() + wrong.max())  # for the words above and below the bars
    panel.set_ylim(-wrong.max() - room, right.max() + room)


@styled
def confidence_histograms(
    table: pd.DataFrame, path: str | Path, formats: Sequence[str] = ("png",), note: str = ""
) -> list[Path]:
    """How often each confidence was stated: right answers upwards, wrong ones downwards."""
    figure = new_figure(height=5.6)
    panels = figure.subplots(2, 2, sharex=True)
    for panel, (name, part) in zip(panels.ravel(), group_panels(table), strict=True):
        _draw_histogram(panel, name, part)
    for panel in panels[1]:
        panel.set_xlabel("confidence")
    for panel in panels[:, 0]:
        panel.set_ylabel("answers (wrong ones below)")
    return save_figure(figure, path, formats, note)
