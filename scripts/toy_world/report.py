"""What no real data set can tell: the toy world's results beside the best possible ones.

    python -m scripts.toy_world.report --output_path infer_results/toy_world_test_checkpoint

Reads merged.jsonl of an evaluated toy-world run. For each task: chance, the accuracy of the
run, the best that any model can reach (the Bayes rate), and the mean distance between the
stated confidence and the true probability that the answer is right.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from inference.response import UNKNOWN, read_response
from inference.vecbench import TASKS
from scripts.toy_world.world import NOTICE, best_possible_accuracy


def toy_table(merged: Path) -> pd.DataFrame:
    """One row a task and one for all: percentages, n, and the confidence error (0 to 1).

    Raises:
        ValueError: when the file has samples that are not from the toy world.
    """
    rows = []
    with open(merged, encoding="utf-8") as lines:
        for line in lines:
            result = json.loads(line)
            if "posterior" not in result:
                raise ValueError(f"{merged}: expected toy-world results, {result['sample_id']} has no posterior")
            reading = read_response(result["response"], result["candidates"])
            right = result["posterior"].get(reading.label, 0.0)
            rows.append(
                {
                    "task": result["task"],
                    "chance": 1 / len(result["candidates"]),
                    "accuracy": float(reading.label == result["ground_truth"]),
                    "answered": float(reading.label != UNKNOWN),
                    "best": best_possible_accuracy(result["task"]),
                    "confidence_error": None if reading.confidence is None else abs(reading.confidence - right),
                }
            )
    samples = pd.DataFrame(rows)
    by_task = samples.groupby("task").mean(numeric_only=True).reindex([t for t in TASKS if t in set(samples["task"])])
    by_task.loc["all"] = samples.mean(numeric_only=True)
    by_task["n"] = [*samples["task"].value_counts().reindex(by_task.index[:-1]), len(samples)]
    return by_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_path", type=Path, required=True, help="the run's folder, evaluated")
    args = parser.parse_args()
    table = toy_table(args.output_path / "merged.jsonl")
    print(f"\n{NOTICE}")
    print("Accuracy (corrected protocol) beside chance and the best possible, in percent;")
    print("|c - p|: mean distance of the confidence from the true probability of being right")
    print(f"{'task':<15} {'n':>5} {'chance':>7} {'accuracy':>9} {'best possible':>14} {'|c - p|':>8}")
    for task, row in table.iterrows():
        error = "N/A" if pd.isna(row["confidence_error"]) else f"{row['confidence_error']:.3f}"
        print(
            f"{task:<15} {row['n']:>5.0f} {100 * row['chance']:>7.1f} {100 * row['accuracy']:>9.1f}"
            f" {100 * row['best']:>14.1f} {error:>8}"
        )


if __name__ == "__main__":
    main()
