"""Is the reasoning true? The five sections of toy-world runs as facts, and what goes with a false one.

    python -m scripts.toy_world.reasoning results/cold_start results/emocaliber     # before and after stage 3

Reads merged.jsonl of evaluated runs, earlier stages first. Which cues an image shows is known, so that each statement
about one is true or false (``inference.metrics.reasoning``). With several runs it also says how the difference that
a false statement makes changes from each to the next, over the samples that all of them answered.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from inference.common.storage import explain
from inference.common.terminal import plain_output
from inference.metrics.bootstrap import N_RESAMPLES
from inference.metrics.reasoning import changes, changes_text, evaluate
from scripts.toy_world.report import toy_predictions
from scripts.toy_world.world import NOTICE

SCENE = ["task", "truth", "posterior"]  # what the same sample has in common in all runs


def common_samples(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables with the samples that are scored in all of them, in the first one's order.

    Raises:
        ValueError: when there is none, or one id names different scenes.
    """
    scored = {name: table[table["statements"].notna()].set_index("sample_id") for name, table in tables.items()}
    first, *others = scored.values()
    common = first.index[[all(name in other.index for other in others) for name in first.index]]
    if common.empty:
        raise ValueError(f"{', '.join(tables)}: expected runs of the same data, they have no scored sample in common")
    for name, table in scored.items():
        other = [
            tuple(a) != tuple(b)
            for a, b in zip(first.loc[common, SCENE].values, table.loc[common, SCENE].values, strict=True)
        ]
        if any(other):
            raise ValueError(
                f"{name}: sample {common[other.index(True)]} is another scene than in {next(iter(tables))}"
            )
    return {name: table.loc[common].reset_index() for name, table in scored.items()}


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the folder of an evaluated toy-world run")
    parser.add_argument("--n_resamples", type=int, default=N_RESAMPLES, help="of the bootstrap intervals; 0: none")
    args = parser.parse_args()
    if args.n_resamples < 0:
        parser.error(f"--n_resamples: expected 0 or more, got {args.n_resamples}")
    print(NOTICE)
    try:
        tables = {str(run): toy_predictions(run / "merged.jsonl") for run in args.runs}
        for name, table in tables.items():
            found = evaluate(table, args.n_resamples)
            if found is None:
                raise ValueError(f"{name}: expected responses to the records' own images, all of them were replaced")
            print(f"\n{name}\n{found.text}", end="")
        if len(tables) > 1 and args.n_resamples:
            common = common_samples(tables)
            print("\n" + changes_text(changes(common, args.n_resamples), args.n_resamples), end="")
    except (OSError, ValueError) as error:
        sys.exit(f"no scores: {explain(error)}")


if __name__ == "__main__":
    main()
