"""What each rule of the reward makes of a cold start on the toy world: one table, means over the seeds.

    bash scripts/toy_world/reward_rules.sh                    # trains and evaluates, then this
    python -m scripts.toy_world.reward_rules output/reward_rules --rules log brier rlcr --seeds 0 1 2

A policy that is paid for deliberate errors shows it in the last columns: answers with a low confidence that are right
less often than chance, answers that are not the label it should hold likeliest, answers that are no candidate at all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from inference.common.storage import atomic_path
from inference.common.terminal import plain_output
from inference.data.response import UNKNOWN
from scripts.toy_world.report import toy_predictions
from scripts.toy_world.stages import SHOWN, markdown, stage_row
from scripts.toy_world.world import NOTICE
from scripts.training_curves import LOW

COLD_START = "cold start"
# column, name, shown times, digits
COLUMNS = (
    *SHOWN,
    ("low_share", f"c < {LOW}", 100, 1),
    ("low_accuracy", "their Acc", 100, 1),
    ("not_likeliest", "not likeliest", 100, 1),
    ("no_candidate", "no candidate", 100, 1),
)


def rule_row(table: pd.DataFrame) -> dict[str, float]:
    """``stage_row`` of ``toy_predictions``, and what tells gaming from calibration; fractions, NaN where undefined."""
    low = table["confidence"] < LOW
    largest = np.array([max(posterior.values()) for posterior in table["posterior"]])
    return {
        **stage_row(table),
        "low_share": low.mean(),
        "low_accuracy": table["right"][low].mean(),
        "not_likeliest": (table["p"] < largest - 1e-9).mean(),
        "no_candidate": (table["label"] == UNKNOWN).mean(),
    }


def rules_table(work: Path, rules: list[str], seeds: list[int]) -> pd.DataFrame:
    """Rows (rule, seed), the cold start's first; columns of ``rule_row``.

    Raises:
        ValueError: naming the file that is missing.
    """
    rows = {}
    for rule in rules:
        for seed in seeds:
            results = work / rule / f"seed_{seed}" / "results"
            for name, model in ((COLD_START, "cold_start"), (rule, "emocaliber")):
                merged = results / model / "merged.jsonl"
                if not merged.is_file():
                    raise ValueError(f"{merged}: no such file, expected the evaluated results of {name}, seed {seed}")
                rows.setdefault((name, seed), rule_row(toy_predictions(merged)))
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["rule", "seed"])
    return table.loc[[COLD_START, *rules]]


def format_rules(table: pd.DataFrame) -> str:
    """Markdown: mean ± standard deviation over the seeds, in percent but for |c - p|."""
    rows = []
    for rule, part in table.groupby(level="rule", sort=False):
        cells = []
        for column, _, scale, digits in COLUMNS:
            mean, spread = scale * part[column].mean(), scale * part[column].std()
            cells.append(
                "N/A"
                if np.isnan(mean)
                else f"{mean:.{digits}f}" + ("" if np.isnan(spread) else f" ± {spread:.{digits}f}")
            )
        rows.append([str(rule), *cells])
    return markdown(["reward", *(name for _, name, _, _ in COLUMNS)], rows)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="the folder of reward_rules.sh")
    parser.add_argument("--rules", nargs="+", default=["log", "brier", "rlcr"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    try:
        table = rules_table(args.work, args.rules, args.seeds)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print(f"{NOTICE}\nMean ± standard deviation over {len(args.seeds)} seeds, percent (|c - p|: 0 to 1)\n")
    print(format_rules(table))
    with atomic_path(args.work / "reward_rules.csv") as temporary:
        table.to_csv(temporary, float_format="%.6f")
    print(f"file: {args.work / 'reward_rules.csv'}")


if __name__ == "__main__":
    main()
