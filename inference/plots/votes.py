"""A run beside the votes of people: the answer's share of them and their entropy, by the stated confidence.

from inference.plots.votes import vote_agreement
vote_agreement(table, "infer_results/my_run/vote_agreement", formats=("png", "pdf"))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from inference.metrics.calibration import N_BINS, bin_of
from inference.metrics.votes import confidence_distance, entropy_correlation, vote_columns
from inference.plots.style import (
    FAINT,
    MIN_BIN_COUNT,
    PANEL_STYLES,
    Axes,
    Line2D,
    group_panels,
    head_panel,
    new_figure,
    save_figure,
    say_in_panel,
    styled,
)


def vote_bins(confidence: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """Of each filled bin of confidence (``bin_of``): ``count``, the means ``confidence`` and ``mean`` (of the values),
    and the values' quartiles ``low`` and ``high``.
    """
    index = bin_of(confidence)
    parts = [index == place for place in range(N_BINS) if (index == place).any()]
    low, high = np.array([np.percentile(values[part], [25, 75]) for part in parts]).reshape(-1, 2).T
    return {
        "count": np.array([part.sum() for part in parts]),
        "confidence": np.array([confidence[part].mean() for part in parts]),
        "mean": np.array([values[part].mean() for part in parts]),
        "low": low,
        "high": high,
    }


def _draw_bins(panel: Axes, name: str, confidence: np.ndarray, values: np.ndarray) -> None:
    colour, line, marker = PANEL_STYLES[name]
    bins = vote_bins(confidence, values)
    x, firm = bins["confidence"], bins["count"] >= MIN_BIN_COUNT
    look = {"color": colour, "marker": marker, "markersize": 4.5, "clip_on": False, "in_layout": False, "zorder": 3}
    panel.vlines(x, bins["low"], bins["high"], color=colour, alpha=0.35, linewidth=4)
    panel.plot(x[firm], bins["mean"][firm], linestyle=line, linewidth=1.3, **look)
    panel.plot(x[~firm], bins["mean"][~firm], linestyle="", fillstyle="none", **look)


@styled
def vote_agreement(
    table: pd.DataFrame, path: str | Path, formats: Sequence[str] = ("png",), note: str = ""
) -> list[Path]:
    """A row for each group with votes and one for all samples: the answer's vote share and the votes' entropy.

    Points are the means in ten bins of the stated confidence, bars the middle half of the samples; points of fewer than
    5 samples are hollow and off the line. On the dashed diagonal the confidence is the vote share.
    """
    rows = [(name, vote_columns(part)) for name, part in group_panels(table)]
    rows = [(name, part) for name, part in rows if len(part)]
    figure = new_figure(height=0.5 + 2.3 * len(rows))
    panels = figure.subplots(len(rows), 2, sharex=True, squeeze=False)
    for (shares, entropies), (name, part) in zip(panels, rows, strict=True):
        stated = part[part["confidence"].notna()]
        confidence, share, entropy = (stated[column].to_numpy() for column in ("confidence", "share", "entropy"))
        shares.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
        shares.set(xlim=(0, 1), ylim=(0, 1), xticks=np.arange(0, 1.1, 0.2), ylabel="vote share of the answer")
        entropies.set(ylabel="entropy of the votes (nats)", ylim=(0, max(0.1, 1.05 * part["entropy"].max())))
        for panel in (shares, entropies):
            panel.grid()
        if not len(stated):
            head_panel(shares, name, "|c − p| N/A")
            say_in_panel(shares, "no confidence stated")
            say_in_panel(entropies, "no confidence stated")
            continue
        distance = 100 * confidence_distance(confidence, share).mean()
        correlation = entropy_correlation(confidence, entropy, np.ones((1, len(stated))))[0]
        known = f"{round(correlation, 2) + 0.0:.2f}" if np.isfinite(correlation) else "N/A"  # −0 is 0
        head_panel(shares, name, f"|c − p| {distance:.1f} %, n = {len(stated):,}")
        head_panel(entropies, "", f"rank correlation with 1 − c: {known}")
        _draw_bins(shares, name, confidence, share)
        _draw_bins(entropies, name, confidence, entropy)
    for panel in panels[-1]:
        panel.set_xlabel("confidence")
    marks = [Line2D([], [], color=FAINT, linewidth=4, alpha=0.6)]
    figure.legend(marks, ["the middle half of the samples"], loc="outside upper right")
    return save_figure(figure, path, formats, note)
