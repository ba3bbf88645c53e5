"""The plots of an evaluation: accuracy and coverage by threshold, calibration curves, and all others in one call.

    python -m inference.plots --output_path infer_results/my_run --formats png pdf svg

draws a run's plots again, for print or after a change, into its folder: ``confidence_thresholds``,
``calibration_curves``, ``reliability``, ``risk_coverage``, ``confidence_histograms``, one
``confusion_<task>`` per task, for a run with several confidences ``confidence_sources``, and where people voted
``vote_agreement``. The two first follow the tables; the others are in ``confidence``, ``confusion``, ``intervals`` and
``votes``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from inference.common.storage import explain
from inference.common.terminal import plain_output
from inference.metrics.bootstrap import N_RESAMPLES
from inference.metrics.corrected import calibration_curves, rows_by_source
from inference.metrics.corrected_tables import DRAWN_SOURCE_METRICS, source_points
from inference.metrics.prediction_table import available_sources
from inference.metrics.published import threshold_analysis
from inference.metrics.results import read_run
from inference.metrics.rows import METRICS, short_name
from inference.plots import FORMATS
from inference.plots.confidence import confidence_histograms, reliability_diagram, risk_coverage
from inference.plots.confusion import confusion_matrices
from inference.plots.intervals import confidence_sources
from inference.plots.style import (
    HATCHES,
    MIN_BIN_COUNT,
    SETTINGS,
    STYLES,
    Figure,
    check_formats,
    drawable,
    matplotlib,
    save_figure,
)
from inference.plots.votes import vote_agreement

# Only what concerns the file: these two plots keep matplotlib's own type sizes.
FILE_SETTINGS = ("pdf.fonttype", "svg.fonttype", "svg.hashsalt")


def _save(figure: Figure, path: Path, formats: Sequence[str], note: str) -> list[Path]:
    look = {"ha": "center", "va": "bottom", "fontsize": 5.5, "color": "#444444", "linespacing": 1.3}
    figure.text(0.5, 0.01, drawable(note), parse_math=False, **look)
    with matplotlib.rc_context({**{key: SETTINGS[key] for key in FILE_SETTINGS}, "savefig.dpi": 120}):
        return save_figure(figure, path, formats)


def plot_thresholds(
    analysis: dict[str, list[dict[str, float]]], path: Path, formats: Sequence[str], note: str
) -> list[Path]:
    """Accuracy and coverage (percent) of each group when answers below a confidence are withheld."""
    figure = Figure(figsize=(9, 3.8))
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.91, bottom=0.2, wspace=0.2)
    for panel, measure in zip(panels, ("accuracy", "coverage"), strict=True):
        for group, rows in analysis.items():
            colour, line, marker = STYLES[group]
            shown = [row for row in rows if row["coverage"] or (measure == "coverage" and row["coverage"] == 0)]
            x, y = [row["threshold"] for row in shown], [100 * row[measure] for row in shown]
            panel.plot(x, y, color=colour, linestyle=line, marker=marker, markersize=4, label=group)
        panel.set(
            xlabel="confidence threshold", ylabel=f"{measure} (%)", xticks=np.arange(0.1, 1.0, 0.1), ylim=(0, 103)
        )
        panel.grid(alpha=0.3)
    panels[0].set_title("accuracy of the answers kept")
    panels[1].set_title("share of answers kept")
    panels[1].legend(loc="lower left")
    return _save(figure, path, formats, note)


def plot_calibration_curves(
    curves: dict[str, dict[str, np.ndarray]], path: Path, formats: Sequence[str], note: str
) -> list[Path]:
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
        look = {"color": colour, "edgecolor": "black", "linewidth": 0.3, "hatch": HATCHES[group]}
        counts.bar(left, bins["count"], width=0.028, align="edge", label=group, **look)
    panel.plot([], [], "ko", markersize=4, fillstyle="none", label=f"bin of fewer than {MIN_BIN_COUNT} samples")
    panel.set(ylabel="accuracy", xlim=(0, 1), ylim=(-0.02, 1.02))
    panel.grid(alpha=0.3)
    panel.legend(loc="upper left", fontsize=8)
    counts.set(xlabel="confidence", ylabel="samples")
    if curves:
        counts.legend(loc="upper left", fontsize=7)
    return _save(figure, path, formats, note)


def draw_confidence(
    table: pd.DataFrame, output_dir: Path, note: str = "", formats: Sequence[str] = ("png",)
) -> list[Path]:
    """The plots about confidence, from the table of ``prediction_table``; returns the files written."""
    plots = (
        (plot_thresholds, threshold_analysis(table), "confidence_thresholds"),
        (plot_calibration_curves, calibration_curves(table), "calibration_curves"),
        (reliability_diagram, table, "reliability"),
        (risk_coverage, table, "risk_coverage"),
        (confidence_histograms, table, "confidence_histograms"),
    )
    if table["votes"].notna().any():
        plots += ((vote_agreement, table, "vote_agreement"),)
    return [path for draw, data, stem in plots for path in draw(data, output_dir / stem, formats, note)]


def draw_all(
    table: pd.DataFrame,
    output_dir: Path,
    note: str = "",
    formats: Sequence[str] = ("png",),
    candidates: Mapping[str, Sequence[str]] | None = None,
) -> list[Path]:
    """Every plot of a run: those about confidence and the confusion matrices; returns the files written.

    Args:
        note: what must be on every plot, as that the data are synthetic.
        candidates: task → labels in the record's order, for tasks outside VECBench.

    Raises:
        ValueError: on a format that is none of png, pdf, svg.
    """
    check_formats(formats)
    written = draw_confidence(table, output_dir, note, formats)
    return written + confusion_matrices(table, output_dir / "confusion", formats, note, candidates)


def draw_sources(
    points: Sequence[tuple], output_dir: Path, note: str = "", formats: Sequence[str] = ("png",)
) -> list[Path]:
    """``confidence_sources``: the confidences of one run side by side (``corrected_tables.source_points``)."""
    names = {short_name(metric): METRICS[metric] for metric in DRAWN_SOURCE_METRICS}
    better = {name: "higher" if metric.higher_is_better else "lower" for name, metric in names.items()}
    path = output_dir / "confidence_sources"
    return confidence_sources(points, path, "all samples (%)", formats, note, better)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_path", type=Path, required=True, help="a run's folder, evaluated or with its shards")
    parser.add_argument("--output_dir", type=Path, help="where to write (default: --output_path)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["png"], help="one or more")
    args = parser.parse_args()
    output_dir = args.output_dir or args.output_path
    try:
        results = read_run(args.output_path)
        output_dir.mkdir(parents=True, exist_ok=True)
        note = "\n".join(results.notices)
        written = draw_all(results.table, output_dir, note, args.formats, results.candidates)
        sources = rows_by_source(results.table, N_RESAMPLES) if len(available_sources(results.table)) > 1 else {}
        if sources:
            written += draw_sources(source_points(sources), output_dir, note, args.formats)
    except OSError as error:
        sys.exit(f"cannot draw: {explain(error)}")
    for path in written:
        print(path)
