"""Stage 3's training curves, step by step: reward, format rate, confidence, accuracy, Brier score.

    python -m scripts.training_curves output/emocaliber

Reads the responses that verl wrote while it trained (rollouts/<step>.jsonl in the run's folder,
see train/step3_example.sh) and writes training_curves.csv and training_curves.png beside them. Can
be run at any time, also while the training goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from inference.common.storage import ending_in_one_line
from inference.common.terminal import plain_output
from inference.metrics.calibration import Tally
from inference.metrics.ranking import roc_auc
from inference.plots.style import Figure
from inference.runs.shards import atomic_path
from train.cus_reward import compute_score

FIELDS = ("score", "format_score", "correctness", "brier_score", "confidence")


def read_rollouts(path: Path) -> pd.DataFrame:
    """One step's responses with the reward's fields.

    Raises:
        ValueError: naming the file and the field that is missing.
    """
    rollouts = pd.read_json(path, lines=True)
    # From 0.9 on, verl keeps of the reward only the score: the rest is computed again from response and label.
    if {"output", "gts"} <= set(rollouts.columns) and "format_score" not in rollouts.columns:
        read = [compute_score(output, label) for output, label in zip(rollouts["output"], rollouts["gts"], strict=True)]
        rollouts = rollouts.join(pd.DataFrame(read, index=rollouts.index).drop(columns="score"))
    missing = [field for field in FIELDS if field not in rollouts.columns]
    if missing:
        raise ValueError(f"{path}: expected the fields of train/cus_reward.py, missing {', '.join(missing)}")
    return rollouts


def curve_point(rollouts: pd.DataFrame) -> dict[str, float]:
    """The curves' values at one step; all about the confidence is over well-formed responses.

    ``reward`` (mean), ``format_rate``, ``accuracy`` (malformed responses count as wrong),
    ``confidence_mean``, ``confidence_std`` and the 10 % and 90 % quantiles, ``brier`` (0 to 1),
    ``roc_auc`` (NaN with one class only), ``responses``.
    """
    formed = rollouts[rollouts["format_score"] == 1]
    return {
        "responses": len(rollouts),
        "reward": rollouts["score"].mean(),
        "format_rate": rollouts["format_score"].mean(),
        "accuracy": rollouts["correctness"].mean(),
        "confidence_mean": formed["confidence"].mean(),
        "confidence_std": formed["confidence"].std(ddof=0),
        "confidence_p10": formed["confidence"].quantile(0.1),
        "confidence_p90": formed["confidence"].quantile(0.9),
        "brier": -formed["brier_score"].mean(),
        "roc_auc": float(roc_auc(Tally.of(formed["confidence"], formed["correctness"]))),
    }


def training_curves(run: Path) -> pd.DataFrame:
    """One row per step, in order.

    Raises:
        ValueError: when there are no rollouts or a file of them is broken.
    """
    paths = sorted((run / "rollouts").glob("*.jsonl"), key=lambda path: int(path.stem))
    if not paths:
        raise ValueError(f"{run}: expected rollouts/<step>.jsonl, which train/step3_example.sh makes verl write")
    points = {int(path.stem): curve_point(read_rollouts(path)) for path in paths}
    return pd.DataFrame.from_dict(points, orient="index").rename_axis("step")


def draw(curves: pd.DataFrame, path: Path, title: str) -> None:
    """Four panels over the steps; thin lines are the steps, thick ones the mean of the last nine."""
    figure = Figure(figsize=(9, 5.4))
    panels = figure.subplots(2, 2, sharex=True).ravel()
    figure.subplots_adjust(left=0.075, right=0.985, top=0.9, bottom=0.09, hspace=0.22, wspace=0.2)
    figure.suptitle(f"Stage 3, responses sampled while training ({title})" if title else "Stage 3", fontsize=10)

    def line(panel, column: str, colour: str, label: str, style: str = "-") -> None:
        smooth = curves[column].rolling(9, min_periods=1, center=True).mean()
        panel.plot(curves.index, curves[column], color=colour, linewidth=0.6, alpha=0.5)
        panel.plot(curves.index, smooth, color=colour, linestyle=style, linewidth=2, label=label)

    line(panels[0], "reward", "#0072B2", "mean reward")
    line(panels[1], "format_rate", "#009E73", "share of well-formed responses", "-.")
    line(panels[1], "accuracy", "#D55E00", "accuracy")
    line(panels[2], "confidence_mean", "#0072B2", "mean confidence")
    panels[2].fill_between(
        curves.index,
        curves["confidence_p10"],
        curves["confidence_p90"],
        color="#0072B2",
        alpha=0.15,
        label="10 % to 90 % of the responses",
    )
    line(panels[2], "accuracy", "#D55E00", "accuracy", "--")
    line(panels[3], "brier", "#CC79A7", "Brier score")
    for panel, limits in zip(panels[1:3], ((0, 1.03), (0, 1.03)), strict=True):
        panel.set_ylim(*limits)
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.legend(loc="best", fontsize=8)
    for panel in panels[2:]:
        panel.set_xlabel("step")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


@ending_in_one_line("drawing the curves")
def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="stage 3's output_dir")
    parser.add_argument("--title", default="", help="added to the plot's title, for instance what was trained")
    args = parser.parse_args()
    try:
        curves = training_curves(args.run)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    with atomic_path(args.run / "training_curves.csv") as temporary:
        curves.to_csv(temporary, float_format="%.6g")
    draw(curves, args.run / "training_curves.png", args.title)
    first, last = curves.iloc[0], curves.iloc[-1]
    print(f"{args.run / 'training_curves.csv'} and .png: {len(curves)} steps")
    for name in ("reward", "format_rate", "accuracy", "confidence_mean", "confidence_std", "brier"):
        print(f"  {name:<16} {first[name]:8.3f} -> {last[name]:8.3f}")


if __name__ == "__main__":
    main()
