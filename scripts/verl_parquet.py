"""Training prompts as verl's GRPO reads them: JSON lines in, parquet out.

    python -m scripts.verl_parquet stage3.jsonl stage3.parquet

A row has ``messages`` (what comes before the assistant's first turn is kept, the answer is what
the model has to find), ``images`` (one path; a relative one is the data file's folder's),
``ground_truth`` and ``task``. Out come verl's columns data_source, prompt, images, ability,
reward_model and extra_info. Images stay files, named by file:// addresses: verl drops a row with
a bare path string without a word. The pixel budget goes along with each image, because verl's
loader resizes by it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from inference.images import PixelBudget
from inference.prompts import SYSTEM_PROMPT
from inference.results import atomic_path

DATA_SOURCE = "emocaliber"  # the name that train/cus_reward.py is registered under in verl

FEATURES = datasets.Features(
    {
        "data_source": datasets.Value("string"),
        "prompt": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
        "images": [
            {
                "image": datasets.Value("string"),
                "min_pixels": datasets.Value("int64"),
                "max_pixels": datasets.Value("int64"),
            }
        ],
        "ability": datasets.Value("string"),
        "reward_model": {"style": datasets.Value("string"), "ground_truth": datasets.Value("string")},
        "extra_info": {
            "split": datasets.Value("string"),
            "index": datasets.Value("int64"),
            "task": datasets.Value("string"),
        },
    }
)
ROWS_A_GROUP = 1000  # held in memory at once


def verl_row(row: dict, root: Path, index: int, split: str, budget: PixelBudget) -> dict:
    """One row of ``FEATURES``.

    Raises:
        ValueError: naming the field and what was expected in it.
    """
    prompt = []
    for message in row.get("messages") or ():
        if message.get("role") == "assistant":
            break
        prompt.append({"role": message["role"], "content": message["content"]})
    if not prompt or prompt[-1]["role"] != "user":
        raise ValueError("messages: expected a user's turn before the first assistant's")
    if prompt[0]["role"] != "system":
        prompt.insert(0, {"role": "system", "content": SYSTEM_PROMPT})
    images = row.get("images") or []
    marks = sum(message["content"].count("<image>") for message in prompt)
    if len(images) != marks:
        raise ValueError(f"images: expected {marks}, one for each <image> in the messages, got {len(images)}")
    paths = [root / image for image in images]
    for path in paths:
        if not path.is_file():
            raise ValueError(f"images: expected an image file at {path}")
    if not isinstance(row.get("ground_truth"), str) or not row["ground_truth"]:
        raise ValueError(f"ground_truth: expected a label, got {row.get('ground_truth')!r}")
    return {
        "data_source": DATA_SOURCE,
        "prompt": prompt,
        "images": [
            {"image": f"file://{path.resolve()}", "min_pixels": budget.min_pixels, "max_pixels": budget.max_pixels}
            for path in paths
        ],
        "ability": "emotion",
        "reward_model": {"style": "rule", "ground_truth": row["ground_truth"]},
        "extra_info": {"split": split, "index": index, "task": row.get("task")},
    }


def verl_rows(source: Path, split: str, budget: PixelBudget) -> Iterator[dict]:
    """Every row of the file; a broken one ends it with file, line, field and what was expected.

    Raises:
        ValueError: for the first broken row.
    """
    with open(source, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield verl_row(json.loads(line), source.parent, number - 1, split, budget)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"{source}, line {number}: {error}") from error


def convert(source: Path, target: Path, split: str, budget: PixelBudget) -> int:
    """Write ``target`` in row groups, complete or not at all; returns the number of rows."""
    count = 0
    rows = verl_rows(source, split, budget)
    schema = FEATURES.arrow_schema
    with atomic_path(target) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while group := list(itertools.islice(rows, ROWS_A_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="JSON lines")
    parser.add_argument("target", type=Path, help="parquet")
    parser.add_argument("--split", default="train", help="written into extra_info")
    parser.add_argument("--min_pixels", type=int, default=PixelBudget.min_pixels)
    parser.add_argument("--max_pixels", type=int, default=PixelBudget.max_pixels)
    args = parser.parse_args()
    try:
        count = convert(args.source, args.target, args.split, PixelBudget(args.min_pixels, args.max_pixels))
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    print(f"{args.target}: {count} rows")


if __name__ == "__main__":
    main()
