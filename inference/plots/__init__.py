"""The plots of an evaluation. What draws them imports matplotlib; this file does not.

remove_plots(Path("infer_results/my_run"))
"""

from pathlib import Path

FORMATS = ("png", "pdf", "svg")

# Patterns of the names of what ``inference.plots.curves`` draws into a run's folder, without their formats.
STEMS = (
    "confidence_thresholds", "calibration_curves", "reliability", "risk_coverage", "confidence_histograms",
    "confidence_sources", "vote_agreement", "confusion_*",
)  # fmt: skip


def remove_plots(folder: Path) -> None:
    """Delete the plots of an earlier evaluation: one of other data need not draw all of them anew.

    Raises:
        OSError: naming the file that cannot be deleted.
    """
    for stem in STEMS:
        for path in folder.glob(f"{stem}.png"):  # other formats are drawn by request: inference.plots --formats
            path.unlink(missing_ok=True)  # two evaluations of one folder may do so at once
