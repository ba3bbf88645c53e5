"""The training files of the three stages, as train/step1_example.sh and its siblings read them.

    python -m scripts.build_vec_cot.assemble --split split --reasoning reasoning/reasoning.jsonl \\
        --confidence confidence/confidence.jsonl --output_dir output/VEC-CoT

Writes ``stage1.jsonl``, ``stage2_w_conf.jsonl`` (when --confidence is given) and ``stage3.jsonl``. A row,
in ms-swift's form:

    {"messages": [
       {"role": "user", "content": "<image>Which emotion might this image evoke? …"},
       {"role": "assistant", "content": "<think>…</think><answer>awe</answer><confidence>0.85</confidence>"}],
     "images": ["/absolute/path.jpg"], "ground_truth": "awe", "candidates": […], "task": "EmoSet-8", "id": "…"}

Stage 1 has no confidence. Stage 3 has no assistant's turn: the model finds its own answers;
``python -m scripts.data.convert verl`` makes verl's parquet of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from inference.common.storage import ending_in_one_line
from inference.common.terminal import plain_output
from inference.data.prompts import recognition_prompt
from scripts.build_vec_cot.records import NOTICES, read_rows, say_notices, write_rows
from scripts.build_vec_cot.verify import compose

# Kept in every row where known: what it is, and that it is a toy; the counts behind a confidence.
KEPT = ("ground_truth", "candidates", "task", "id", *NOTICES)
COUNTS = ("confidence", "label_count", "sample_count")


def training_row(row: dict[str, Any], stage: int) -> dict[str, Any]:
    """One row of a stage's file.

    Raises:
        KeyError: naming the field that the row lacks for this stage.
    """
    prompt = recognition_prompt(row["candidates"], with_confidence=stage > 1)
    messages = [{"role": "user", "content": f"<image>{prompt}"}]
    if stage < 3:
        response = compose(row["reasoning"], row["ground_truth"])
        if stage == 2:
            response += f"<confidence>{row['confidence']:.2f}</confidence>"
        messages.append({"role": "assistant", "content": response})
    keys = KEPT + (COUNTS if stage == 2 else ())
    return {"messages": messages, "images": [row["image"]], **{key: row[key] for key in keys if key in row}}


def training_rows(path: Path, stage: int) -> list[dict[str, Any]]:
    """The stage's rows of a file that may hold other stages' as well.

    Raises:
        ValueError: naming file, line and field, when one is missing.
    """
    rows = []
    for number, row in enumerate(read_rows(path), 1):
        if row.get("stage", stage) == stage:
            try:
                rows.append(training_row(row, stage))
            except KeyError as error:
                raise ValueError(
                    f"{path}, line {number}, field {error}: expected it in a row of stage {stage}"
                ) from error
    return rows


def main(arguments: list[str] | None = None) -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", type=Path, required=True, help="the folder of split")
    parser.add_argument("--reasoning", type=Path, required=True, help="reasoning.jsonl of write_reasoning")
    parser.add_argument("--confidence", type=Path, help="confidence.jsonl; without it stage 2 is left for later")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args(arguments)
    parts = {
        "stage1.jsonl": (args.reasoning, 1),
        "stage2_w_conf.jsonl": (args.confidence, 2),
        "stage3.jsonl": (args.split / "stage3_records.jsonl", 3),
    }
    said: list[dict[str, Any]] = []
    with ending_in_one_line("assembling", ValueError, status=2):
        for name, (source, stage) in parts.items():
            if source is not None:
                rows = training_rows(source, stage)
                write_rows(args.output_dir / name, rows)
                print(f"{args.output_dir / name}: {len(rows)} rows")
                said += rows
        say_notices(said)


if __name__ == "__main__":
    main()
