"""Does stage 3 calibrate the confidence? The claim, checked over several seeds, with a plot.

    bash scripts/toy_world/claim.sh                        # train and evaluate every seed, then this
    python -m scripts.toy_world.claim output/claim/seed_* --plot images/stage3_calibration.png

Takes work folders of ``train_all.sh``, one per seed (another seed is another random model, other
training data and other test images). Compares stage 3 with stage 2 in each and prints what holds.
Exit status 1 when a part of the claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from inference.common.storage import atomic_path
from inference.common.terminal import plain_output
from inference.metrics.calibration import calibration_bins
from inference.plots.style import MIN_BIN_COUNT, Figure
from scripts.toy_world.stages import stage_row, toy_predictions
from scripts.toy_world.world import NOTICE
from scripts.training_curves import COLLAPSED_SHARE

BEFORE, AFTER = "cold_start", "emocaliber"
# column, name, shown times, whether lower is better
MEASURES = (
    ("accuracy", "accuracy", 100, False),
    ("p_right", "P(right)", 100, False),
    ("ece", "ECE", 100, True),
    ("brier", "Brier", 100, True),
    ("roc_auc", "ROC AUC", 100, False),
    ("confidence_error", "|c - p|", 1, True),
)
# What may be lost to chance: the standard error of a difference of 500 paired answers is about a point.
ACCURACY_TOLERANCE = 0.01


def measures(work: Path, model: str) -> dict[str, float]:
    """``stage_row`` of one model over all test samples of one seed, with ``top_two`` added.

    ``top_two`` is the share of answers that state one of the two most frequent confidences.

    Raises:
        ValueError: when the folder lacks the model's results.
    """
    merged = work / "results" / model / "merged.jsonl"
    if not merged.is_file():
        raise ValueError(f"{work}: expected results/{model}/merged.jsonl")
    table = toy_predictions(merged)
    frequencies = table["confidence"].dropna().round(2).value_counts(normalize=True)
    return {**stage_row(table), "top_two": frequencies.head(2).sum()}


def verdicts(before: pd.DataFrame, after: pd.DataFrame) -> list[tuple[bool, str]]:
    """Each part of the claim: whether it holds, and in words with its numbers. Tables have a row per seed."""
    change, n = after - before, len(after)
    fell = {column: int((change[column] < 0).sum()) for column in ("ece", "brier")}
    accuracy, auc, top_two = change["p_right"].mean(), change["roc_auc"].mean(), after["top_two"].max()
    return [
        (fell["ece"] == n, f"ECE is lower after stage 3: in {fell['ece']} of {n} seeds"),
        (fell["brier"] == n, f"Brier is lower after stage 3: in {fell['brier']} of {n} seeds"),
        (
            accuracy >= -ACCURACY_TOLERANCE,
            f"no accuracy is lost: P(right) changes by {100 * accuracy:+.1f} points (tolerance"
            f" -{100 * ACCURACY_TOLERANCE:.0f})",
        ),
        (auc >= 0, f"ROC AUC does not fall: it changes by {100 * auc:+.1f} points"),
        (
            top_two < COLLAPSED_SHARE,
            f"no collapse: the two most frequent confidences hold at most {100 * top_two:.0f} % of the answers"
            f" (limit {100 * COLLAPSED_SHARE:.0f})",
        ),
    ]


def format_seeds(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """One line per seed, a column per measure, then mean and standard deviation over the seeds."""
    change = after - before
    rows: dict[str, list[str]] = {"": [], **{seed: [] for seed in after.index}, "change": []}
    for column, name, scale, _ in MEASURES:
        digits = 1 if scale == 100 else 3
        rows[""].append(name)
        for seed in after.index:
            old, new = scale * before.loc[seed, column], scale * after.loc[seed, column]
            rows[seed].append(f"{old:.{digits}f} -> {new:.{digits}f}")
        mean, spread = scale * change[column].mean(), scale * change[column].std()
        rows["change"].append(f"{mean:+.{digits}f} ± {spread:.{digits}f}")
    return "\n".join(f"{name:<12}" + "".join(f"{cell:>18}" for cell in cells) for name, cells in rows.items())


def draw(works: list[Path], before: pd.DataFrame, after: pd.DataFrame, path: Path) -> None:
    """Left: calibration curves of both models. Right: each measure before and after, a line per seed."""
    figure = Figure(figsize=(10, 4.6))
    grid = figure.add_gridspec(2, 5, width_ratios=(2.9, 0.01, 1, 1, 1))
    figure.subplots_adjust(left=0.06, right=0.985, top=0.9, bottom=0.17, wspace=0.45, hspace=0.5)
    panel = figure.add_subplot(grid[:, 0])
    panel.plot([0, 1], [0, 1], color="#999999", linewidth=1, label="perfect calibration")
    looks = {BEFORE: ("#D55E00", "--", "s", "after stage 2"), AFTER: ("#0072B2", "-", "o", "after stage 3")}
    for model, (colour, style, marker, label) in looks.items():
        pooled = pd.concat(toy_predictions(work / "results" / model / "merged.jsonl") for work in works)
        stated = pooled[pooled["confidence"].notna()]
        bins = calibration_bins(stated["confidence"].to_numpy(), stated["right"].to_numpy())
        firm = bins["count"] >= MIN_BIN_COUNT
        panel.plot(bins["confidence"][firm], bins["correctness"][firm], color=colour, linestyle=style, zorder=2)
        area = 400 * bins["count"][firm] / len(stated)
        panel.scatter(bins["confidence"][firm], bins["correctness"][firm], s=area + 6, color=colour, marker=marker)
        panel.plot([], [], color=colour, linestyle=style, marker=marker, label=label)
    panel.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    panel.set_title(f"{len(works)} seed(s) pooled; area of a mark: its share of the answers", fontsize=8)
    panel.grid(alpha=0.3)
    panel.legend(loc="upper left", fontsize=8)
    for i, (column, name, scale, lower) in enumerate(MEASURES):
        panel = figure.add_subplot(grid[i // 3, 2 + i % 3])
        values = scale * pd.concat([before[column], after[column]], axis=1).T.to_numpy()  # a column per seed
        panel.plot([0, 1], values, color="#444444", marker="o", markersize=4, linewidth=1)
        # Accuracy and area start at a half, errors at zero: a small change has to look small.
        limits = (0, 1.25 * values.max()) if lower else (50, 100)
        panel.set(xlim=(-0.3, 1.3), ylim=limits, xticks=[0, 1], xticklabels=["stage 2", "stage 3"])
        panel.set_title(f"{name} ({'lower' if lower else 'higher'} is better)", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
    figure.text(0.5, 0.03, f"{NOTICE}. Toy model of 1.7 M parameters; a line per seed.", ha="center", fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def main() -> int:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", type=Path, nargs="+", help="work folders of train_all.sh, one per seed")
    parser.add_argument("--plot", type=Path, help="write the plot here (png)")
    args = parser.parse_args()
    try:
        before, after = (
            pd.DataFrame({work.name: measures(work, model) for work in args.works}).T for model in (BEFORE, AFTER)
        )
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print(NOTICE)
    print("Stage 2 -> stage 3, all test samples, percent (|c - p|: 0 to 1); change: mean ± standard deviation")
    print(format_seeds(before, after))
    if args.plot:
        draw(args.works, before, after, args.plot)
        print(f"plot: {args.plot}")
    results = verdicts(before, after)
    for holds, text in results:
        print(f"{'holds' if holds else 'FAILS':<6} {text}")
    return 0 if all(holds for holds, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
