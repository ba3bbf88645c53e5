"""What no real data set can show: the toy world's results beside the best possible ones.

    python -m scripts.toy_world.report --output_path infer_results/toy_world_test_checkpoint

Reads merged.jsonl of an evaluated toy-world run. For each task: chance, the accuracy of the
run, the best that any model can reach (the Bayes rate), the mean distance between the
stated confidence and the true probability that the answer is right, and the share of responses
whose reasoning says something false about the image (``scripts.toy_world.reasoning`` says more).
Where the images were replaced by grey or noise, the probability is that without an image, the
prior: labels alike, and the reasoning is not judged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from inference.common.json_lines import read_lines
from inference.common.terminal import plain_output
from inference.data.replacement import NO_INFORMATION, SHOWN
from inference.data.vecbench import TASKS, canonical_task
from inference.data.votes import DISTRIBUTION
from inference.metrics.prediction_table import correctness, prediction_table
from inference.metrics.reasoning import has_false_statement
from inference.metrics.votes import answer_shares, confidence_distance
from scripts.toy_world.text import reasoning_facts
from scripts.toy_world.world import NOTICE, best_possible_accuracy, posterior


def toy_predictions(merged: Path) -> pd.DataFrame:
    """``prediction_table`` with ``right`` (0 or 1), ``p`` = P(answer right | what the model saw), ``posterior``.

    Grey and noise say nothing, so that the posterior is the prior. Of another record's image it is not known here: NaN.

    Raises:
        ValueError: when the file has samples that are not from the toy world.
    """
    results = [result for _, result, _ in read_lines(merged)]
    for result in results:
        # Toy worlds that were drawn before evaluation knew distributions have it under its old name.
        result[DISTRIBUTION] = result.get(DISTRIBUTION, result.get("posterior"))
        if missing := {name for name in (DISTRIBUTION, "cues") if result.get(name) is None}:
            raise ValueError(f"{merged}: expected toy-world results, {result['sample_id']} has no {max(missing)}")
        # Older records have no facts; they are the same, made from the same cues.
        result["reasoning_facts"] = reasoning_facts(canonical_task(result["task"]), result["cues"])
    table = prediction_table(results)
    # The record's own posterior is that of its own image, which the model may not have seen.
    known = zip(table["votes"], table["replaced"], table["task"], strict=True)
    table["posterior"] = [votes if replaced is None else posterior(task, {}) for votes, replaced, task in known]
    table["right"] = correctness(table)
    table["p"] = answer_shares(table["posterior"], table["label"])
    foreign = ~table["replaced"].isin([None, *NO_INFORMATION])
    table.loc[foreign, "p"] = float("nan")
    return table


def toy_table(samples: pd.DataFrame) -> pd.DataFrame:
    """Of ``toy_predictions``, one row per task and one for all: fractions, n, and the confidence error (0 to 1).

    ``false_responses`` is over the responses whose reasoning can be judged, NaN without one.
    """
    chance = [1 / len(probabilities) for probabilities in samples["posterior"]]
    rows = pd.DataFrame(
        {
            "task": samples["task"],
            "chance": chance,
            "accuracy": samples["right"],
            # Without the image it is the largest prior: every label's.
            "best": samples["task"].map(best_possible_accuracy).where(samples["replaced"].isna(), chance),
            "confidence_error": confidence_distance(samples["confidence"], samples["p"]),
            "false_responses": has_false_statement(samples),
        }
    )
    by_task = rows.groupby("task").mean().reindex([task for task in TASKS if task in set(rows["task"])])
    by_task.loc["all"] = rows.mean(numeric_only=True)
    by_task["n"] = [*rows["task"].value_counts().reindex(by_task.index[:-1]), len(rows)]
    return by_task


def replacement_text(samples: pd.DataFrame) -> list[str]:
    """What the right confidence is where images were replaced, and what is stated; nothing where none was."""
    lines = []
    for how, part in samples[samples["replaced"].notna()].groupby("replaced"):
        stated = f"mean confidence {part['confidence'].mean():.3f}"
        if how in NO_INFORMATION:
            right = f"the right one is the prior of the answer, on average {part['p'].mean():.3f}"
        else:
            right = "no |c - p|: the image shown says nothing about this record"
        lines.append(f"The model saw {SHOWN[how]} in place of the images; {stated}, {right}")
    return lines


def cell(value: float, width: int, digits: int = 1) -> str:
    """A number of a table, right-aligned."""
    return f"{'N/A' if pd.isna(value) else format(value, f'.{digits}f'):>{width}}"


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_path", type=Path, required=True, help="the run's folder, evaluated")
    args = parser.parse_args()
    samples = toy_predictions(args.output_path / "merged.jsonl")
    print(f"\n{NOTICE}")
    print("Accuracy (corrected protocol) beside chance and the best possible, in percent;")
    print("|c - p|: mean distance of the confidence from the true probability of being right")
    print("some false: responses whose reasoning says something false about the image")
    print(f"{'task':<15} {'n':>5} {'chance':>7} {'accuracy':>9} {'best possible':>14} {'|c - p|':>8} some false")
    for task, row in toy_table(samples).iterrows():
        percents = [cell(100 * row[name], width) for name, width in (("chance", 7), ("accuracy", 9), ("best", 14))]
        confidence, false = cell(row["confidence_error"], 8, 3), cell(100 * row["false_responses"], 10)
        print(f"{task:<15}", cell(row["n"], 5, 0), *percents, confidence, false)
    for line in replacement_text(samples):
        print(line)


if __name__ == "__main__":
    main()
