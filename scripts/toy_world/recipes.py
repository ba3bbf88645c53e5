"""Two recipes for a confidence on the toy world: the paper's, and the one read at the first mention of the answer.

    bash scripts/toy_world/recipes.sh                          # trains and evaluates, then this
    python -m scripts.toy_world.recipes output/recipes/seed_* --claim output/claim

Per seed a line each for the cold start (after stage 2), the paper's recipe (after stage 3) and the second one, on the
same images. Then what the second recipe has to show in every seed. Exit status 1 when a part does not hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from inference.common.storage import atomic_path
from inference.common.terminal import plain_output
from inference.metrics.prediction_table import SOURCES
from inference.metrics.votes import confidence_distance
from inference.plots.style import Figure
from scripts.toy_world.claim import ACCURACY_TOLERANCE
from scripts.toy_world.report import toy_predictions
from scripts.toy_world.stages import SHOWN, markdown, stage_row
from scripts.toy_world.world import NOTICE

COLD_START, PAPER, SECOND = "cold start", "paper's recipe", "first mention"
CONFIDENCE = SOURCES["first-mention probability"][1]
COLUMNS = (*SHOWN, ("confidence_mean", "mean c", 100, 1))
MOST_ECE = 0.05


def recipe_tables(works: list[Path], claim: Path) -> dict[tuple[str, str], pd.DataFrame]:
    """(seed, recipe) → ``toy_predictions`` with the recipe's confidence.

    Raises:
        ValueError: naming the file that is missing, or the results that lack the second recipe's confidence.
    """
    tables = {}
    for work in works:
        paper = claim / work.name / "results"
        for name, folder in (
            (COLD_START, paper / "cold_start"),
            (PAPER, paper / "emocaliber"),
            (SECOND, work / "results" / "cold_start"),
        ):
            merged = folder / "merged.jsonl"
            if not merged.is_file():
                raise ValueError(f"{merged}: no such file, expected the evaluated results of the {name}")
            table = toy_predictions(merged)
            if name == SECOND:
                if table[CONFIDENCE].isna().all():
                    raise ValueError(f"{merged}: expected results with --candidate_place first_mention")
                table = table.assign(confidence=table[CONFIDENCE])
            tables[work.name, name] = table
    return tables


def recipes_table(tables: dict[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Rows (seed, recipe), columns of ``stage_row``."""
    rows = {key: stage_row(table) for key, table in tables.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["seed", "recipe"])


def draw(tables: dict[tuple[str, str], pd.DataFrame], path: Path) -> None:
    """Each answer's confidence over the probability that it is right, a panel per recipe, all seeds."""
    figure = Figure(figsize=(10, 3.9))
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.06, right=0.99, top=0.88, bottom=0.24, wspace=0.08)
    scatter = np.random.default_rng(0)  # stated confidences are few values: their points would hide each other
    for panel, name in zip(panels, (COLD_START, PAPER, SECOND), strict=True):
        table = pd.concat(table for (_, recipe), table in tables.items() if recipe == name)
        known = table[table["confidence"].notna()]
        moved = scatter.uniform(-0.012, 0.012, (2, len(known)))
        panel.scatter(
            known["p"] + moved[0], known["confidence"] + moved[1], s=5, alpha=0.25, color="#0072B2", linewidth=0
        )
        panel.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        error = confidence_distance(known["confidence"], known["p"]).mean()
        panel.set_title(f"{name}: mean |c - p| {error:.3f}", fontsize=9)
        panel.set(xlabel="p, probability that the answer is right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("confidence c")
    seeds = len({seed for seed, _ in tables})
    note = f"{NOTICE}. Toy model of 1.7 M parameters; {seeds} seed(s); points are moved by up to 0.012."
    figure.text(0.5, 0.03, note, ha="center", fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def format_recipes(table: pd.DataFrame) -> str:
    """Markdown, in percent but for |c - p|."""
    rows = [
        [
            str(seed).removeprefix("seed_"),
            recipe,
            *(f"{k * row[column]:.{digits}f}" for column, _, k, digits in COLUMNS),
        ]
        for (seed, recipe), row in table.iterrows()
    ]
    return markdown(["seed", "recipe", *(name for _, name, _, _ in COLUMNS)], rows)


def verdicts(table: pd.DataFrame) -> list[tuple[bool, str]]:
    """What the second recipe has to show in every seed: whether it does, and in words with its numbers."""
    cold, paper, second = (table.xs(name, level="recipe") for name in (COLD_START, PAPER, SECOND))
    halved = second["confidence_error"] / cold["confidence_error"]
    ranking, accuracy = second["roc_auc"] - paper["roc_auc"], second["p_right"] - paper["p_right"]
    return [
        (
            bool((halved <= 0.5).all()),
            f"|c - p| is at most half of the cold start's: {', '.join(f'{value:.2f}' for value in halved)} times",
        ),
        (
            bool((ranking > 0).all()),
            f"ROC AUC is above the paper's recipe's: {', '.join(f'{100 * value:+.1f}' for value in ranking)} points",
        ),
        (
            bool((second["ece"] <= MOST_ECE).all()),
            f"ECE is at most {100 * MOST_ECE:.0f}: {', '.join(f'{100 * value:.1f}' for value in second['ece'])}",
        ),
        (
            bool((accuracy >= -ACCURACY_TOLERANCE).all()),
            f"no accuracy is lost: P(right) differs by {', '.join(f'{100 * value:+.1f}' for value in accuracy)} points"
            f" (tolerance -{100 * ACCURACY_TOLERANCE:.0f})",
        ),
    ]


def main() -> int:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", type=Path, nargs="+", help="work folders of recipes.sh, one per seed")
    parser.add_argument("--claim", type=Path, required=True, help="the folder of claim.sh, with the same seeds")
    parser.add_argument("--plot", type=Path, help="write the plot here (png)")
    args = parser.parse_args()
    try:
        tables = recipe_tables(args.works, args.claim)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    table = recipes_table(tables)
    print(f"{NOTICE}\nAll test samples, percent (|c - p|: 0 to 1)\n")
    print(format_recipes(table))
    path = args.works[0].parent / "recipes.csv"
    with atomic_path(path) as temporary:
        table.to_csv(temporary, float_format="%.6f")
    print(f"file: {path}")
    if args.plot:
        draw(tables, args.plot)
        print(f"plot: {args.plot}")
    results = verdicts(table)
    for holds, text in results:
        print(f"{'holds' if holds else 'FAILS':<6} {text}")
    return 0 if all(holds for holds, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
