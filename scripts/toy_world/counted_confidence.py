"""Stage 2's data with the scaffold's own success counts as confidence, in place of the taught one.

    python -m scripts.toy_world.counted_confidence data/stage2.jsonl --scaffold models/scaffold --output_dir counted

asks the scaffold K times about each image (``scripts.build_vec_cot.confidence``), and writes stage2.jsonl into
``--output_dir``: the same rows with the smoothed share of answers that were right as their confidence. Over many images
that share is, on average, the probability that the answer is right, which is what a confidence should be. Started again
after an interruption, it asks what is missing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from inference.common.paths import REPOSITORY
from inference.common.terminal import plain_output
from inference.data.vecbench import TASKS
from scripts.build_vec_cot.records import read_rows, write_rows
from scripts.toy_world.world import PIXEL_BUDGET

CONFIDENCE = re.compile(r"<confidence>[^<]*</confidence>$")


def record_of(row: dict, position: int) -> dict:
    """The row as the labelled image that ``build_vec_cot`` reads."""
    labelled = {name: row[name] for name in ("task", "ground_truth", "notice")}
    return {
        "id": f"stage2-{position:06d}",
        "image": row["images"][0],
        "candidates": list(TASKS[row["task"]].labels),
        **labelled,
    }


def with_confidence(row: dict, measured: dict) -> dict:
    """The row with the measured confidence in its response, and the counts that it was made from."""
    question, answer = row["messages"]
    stated = f"<confidence>{measured['confidence']:.2f}</confidence>"
    text, n = CONFIDENCE.subn(stated, answer["content"])
    if n != 1:
        raise ValueError(f"{measured['id']}: expected a response that ends in <confidence>…</confidence>")
    counts = {name: measured[name] for name in ("label_count", "sample_count")}
    return {**row, "messages": [question, {**answer, "content": text}], **counts}


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_path", type=Path, help="stage 2's rows, as scripts.toy_world.generate makes them")
    parser.add_argument("--scaffold", type=Path, required=True, help="the model after stage 1")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--images", type=int, help="only the first so many rows")
    parser.add_argument("--samples", type=int, default=10, help="K: how often each image is answered")
    parser.add_argument("--seed", type=int, default=0, help="of sampling")
    args = parser.parse_args()
    rows = read_rows(args.data_path)[: args.images]
    labelled = args.output_dir / "labelled.jsonl"
    write_rows(labelled, [record_of(row, position) for position, row in enumerate(rows)])
    words = ["--data_path", labelled, "--output_path", args.output_dir / "samples", "--checkpoint", args.scaffold,
             "--samples", args.samples, "--seed", args.seed, "--image_root", args.data_path.resolve().parent,
             "--min_pixels", PIXEL_BUDGET.min_pixels, "--max_pixels", PIXEL_BUDGET.max_pixels,
             "--max_new_tokens", 128]  # fmt: skip
    command = [sys.executable, "-m", "scripts.build_vec_cot.confidence", *map(str, words)]
    if status := subprocess.run(command, cwd=REPOSITORY, check=False).returncode:
        sys.exit(status)
    measured = {row["id"]: row for row in read_rows(args.output_dir / "samples" / "confidence.jsonl")}
    named = ((measured.get(record_of(row, position)["id"]), row) for position, row in enumerate(rows))
    counted = [with_confidence(row, found) for found, row in named if found is not None]
    write_rows(args.output_dir / "stage2.jsonl", counted)
    made = f"{len(counted)} of {len(rows)} rows, {args.samples} answers each"
    print(f"{args.output_dir / 'stage2.jsonl'}: {made} ({rows[0]['notice']})")


if __name__ == "__main__":
    main()
