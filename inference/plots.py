"""The two figures of an evaluation: accuracy and coverage by threshold, calibration curves.

Colours are Okabe and Ito's (distinct for colour-blind eyes); line styles and markers keep the
groups apart in grey.

    from inference.plots import plot_calibration_curves
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from inference.vecbench import GROUPS

STYLES = dict(zip(GROUPS, (("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^")), strict=True))

MIN_BIN_COUNT = 5


def _save(figure: Figure, path: Path, note: str) -> None:
    figure.text(0.5, 0.01, note, ha="center", va="bottom", fontsize=5.5, color="#444444", linespacing=1.3)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=120, format=path.suffix[1:])
    temporary.replace(path)


def plot_thresholds(analysis: dict[str, list[dict[str, float]]], path: Path, note: str = "") -> None:
    """Accuracy and coverage (percent) of each group when answers below a confidence are withheld."""
    figure = Figure(figsize=(9, 3.8))
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.91, bottom=0.2, wspace=0.2)
    for panel, measure in zip(panels, ("accuracy", "coverage"), strict=True):
        for group, rows in analysis.items():
            colour, line, marker = STYLES[group]
            kept = [row for row in rows if measure == "coverage" or row["coverage"] > 0]
            x, y = [row["threshold"] for row in kept], [100 * row[measure] for row in kept]
            panel.plot(x, y, color=colour, linestyle=line, marker=marker, markersize=4, label=group)
        panel.set(
            xlabel="confidence threshold", ylabel=f"{measure} (%)", xticks=np.arange(0.1, 1.0, 0.1), ylim=(0, 103)
        )
        panel.grid(alpha=0.3)
    panels[0].set_title("accuracy of the answers kept")
    panels[1].set_title("share of answers kept")
    panels[1].legend(loc="lower left")
    _save(figure, path, note)


def plot_calibration_curves(curves: dict[str, dict[str, np.ndarray]], path: Path, note: str = "") -> None:
    """Mean correctness by mean confidence in ten bins for each group, with the bins' sample counts below."""
    figure = Figure(figsize=(5, 5.6))
    panel, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.subplots_adjust(left=0.13, right=0.96, top=0.97, bottom=0.13, hspace=0.08)
    panel.plot([0, 1], [0, 1], color="#999999", linewidth=1, label="perfect calibration")
    for i, (group, bins) in enumerate(curves.items()):
        colour, line, marker = STYLES[group]
        # A bin of a few samples says little: it is shown, but hollow and off the line.
        firm = bins["count"] >= MIN_BIN_COUNT
        thin = (bins["count"] > 0) & ~firm
        x, y = bins["confidence"], bins["correctness"]
        panel.plot(x[firm], y[firm], color=colour, linestyle=line, marker=marker, markersize=5, label=group)
        panel.plot(x[thin], y[thin], color=colour, linestyle="", marker=marker, markersize=4, fillstyle="none")
        left = bins["low"] + 0.005 + 0.03 * i
        counts.bar(left, bins["count"], width=0.028, align="edge", color=colour, edgecolor="black", linewidth=0.3)
    panel.plot([], [], "ko", markersize=4, fillstyle="none", label=f"bin of fewer than {MIN_BIN_COUNT} samples")
    panel.set(ylabel="accuracy", xlim=(0, 1), ylim=(-0.02, 1.02))
    panel.grid(alpha=0.3)
    panel.legend(loc="upper left", fontsize=8)
    counts.set(xlabel="confidence", ylabel="samples")
    _save(figure, path, note)


def draw_figures(
    thresholds: dict[str, list[dict[str, float]]],
    curves: dict[str, dict[str, np.ndarray]],
    output_dir: Path,
    note: str = "",
) -> None:
    """Both figures of an evaluation, under their names in the run's folder."""
    plot_thresholds(thresholds, output_dir / "confidence_thresholds.png", note)
    plot_calibration_curves(curves, output_dir / "calibration_curves.png", note)
