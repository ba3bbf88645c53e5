"""What each training stage changes on the toy world: one table, beside the best possible.

    python -m scripts.toy_world.stages --work output/toy_world

Reads the evaluated results that ``train_all.sh`` leaves in results/<model>/, prints the table and
writes it to stages.csv. Corrected protocol. Two columns exist in the toy world only, where the
probability p that an answer is right is known exactly for each image: ``P(right)``, the mean of p,
is the accuracy without the luck of the drawn labels; ``|c - p|`` is the mean distance of the
confidence c from the right one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from inference.common.storage import atomic_path
from inference.common.terminal import plain_output
from inference.data.vecbench import GROUPS
from inference.metrics.calibration import Tally, brier_score, expected_calibration_error
from inference.metrics.prediction_table import group_slices
from inference.metrics.ranking import roc_auc
from inference.metrics.votes import confidence_distance
from scripts.toy_world.report import cell, toy_predictions
from scripts.toy_world.world import NOTICE

MODELS = {"scaffold": "stage 1, scaffold", "cold_start": "stage 2, cold start", "emocaliber": "stage 3, EmoCaliber"}
BEST = "best possible"
# column of ``stage_row``, name, shown times, digits
SHOWN = (
    ("accuracy", "Acc", 100, 1),
    ("p_right", "P(right)", 100, 1),
    ("ece", "ECE", 100, 1),
    ("brier", "Brier", 100, 1),
    ("roc_auc", "ROC AUC", 100, 1),
    ("confidence_error", "|c - p|", 1, 3),
)


def stage_row(table: pd.DataFrame) -> dict[str, float]:
    """One model's line; what is about confidence is over the answers that have one, NaN without any."""
    stated = table[table["confidence"].notna()]
    tally = Tally.of(stated["confidence"], stated["right"])
    return {
        "n": len(table),
        "accuracy": table["right"].mean(),
        "p_right": table["p"].mean(),
        "ece": float(expected_calibration_error(tally)),
        "brier": float(brier_score(tally)),
        "roc_auc": float(roc_auc(tally)),
        "confidence_error": confidence_distance(stated["confidence"], stated["p"]).mean(),
        "confidence_mean": stated["confidence"].mean(),
        "distinct": stated["confidence"].round(2).nunique() or np.nan,
        "format_rate": table["well_formed"].mean(),
    }


def best_row(table: pd.DataFrame) -> dict[str, float]:
    """The most probable label with its probability as confidence, on the same images, in expectation."""
    p = np.array([max(posterior.values()) for posterior in table["posterior"]])
    value, count = np.unique(p, return_counts=True)
    expected = Tally(value, count, count * value)  # of the answers with probability p, the share p is right
    return {
        "n": len(p),
        "accuracy": p.mean(),
        "p_right": p.mean(),
        "ece": 0.0,
        "brier": np.mean(p * (1 - p)),
        "roc_auc": float(roc_auc(expected)),
        "confidence_error": 0.0,
        "confidence_mean": p.mean(),
        "distinct": len(np.unique(p.round(2))),
    }


def stages_table(work: Path) -> pd.DataFrame:
    """Rows (part, model) for all samples and the three groups; columns as in ``stage_row``."""
    rows = {}
    for model, title in MODELS.items():
        merged = work / "results" / model / "merged.jsonl"
        if merged.is_file():
            table = toy_predictions(merged)
            for part, chosen in (("all", table), *group_slices(table)):
                rows[part, title], rows[part, BEST] = stage_row(chosen), best_row(chosen)
    if not rows:
        raise ValueError(f"{work}: expected results/<model>/merged.jsonl of {', '.join(MODELS)}")
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["part", "model"])
    order = [(part, title) for part in ("all", *GROUPS) for title in (*MODELS.values(), BEST) if (part, title) in rows]
    return table.loc[order]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown, bars in its cells escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def format_table(table: pd.DataFrame) -> str:
    """Text: accuracy, ECE, Brier and ROC AUC in percent, |c - p| as it is."""
    lines = [f"{'':<20}     n    Acc P(right)    ECE  Brier ROC AUC |c - p| mean c values of c"]
    widths = {"accuracy": 6, "p_right": 8, "ece": 6, "brier": 6, "roc_auc": 7}
    for part, rows in table.groupby(level="part", sort=False):
        lines.append(f"-- {part}")
        for (_, title), row in rows.iterrows():
            percents = [cell(100 * row[column], width) for column, width in widths.items()]
            confidence = cell(row["confidence_error"], 7, 3), cell(row["confidence_mean"], 6, 2)
            cells = (cell(row["n"], 5, 0), *percents, *confidence, cell(row["distinct"], 11, 0))
            lines.append(" ".join([f"{title:<20}", *cells]))
    return "\n".join(lines)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="the folder of train_all.sh")
    args = parser.parse_args()
    try:
        table = stages_table(args.work)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    with atomic_path(args.work / "stages.csv") as temporary:
        table.to_csv(temporary, float_format="%.6g")
    print(NOTICE)
    print(format_table(table))


if __name__ == "__main__":
    main()
