"""Speed and memory of scripts.data.check over a training file, every image opened.

    python -m scripts.maintenance.benchmark.checking --rows 2000 86067

Made-up rows with reasoning over 2,000 photographs of 640 × 480; rows a second of the whole process,
start-up included. Every row must be found good.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from inference.common.terminal import plain_output
from inference.data.vecbench import TASKS
from inference.runs.shards import atomic_write
from scripts.maintenance.benchmark.made_up import PHOTOGRAPHS, draw_photographs, made_up_result
from scripts.maintenance.benchmark.measure import record, run


def write_rows(path: Path, rows: int) -> None:
    """A training file of so many rows, always the same: made-up results whose answers are the label."""
    draw, names = random.Random(0), list(TASKS)
    with atomic_write(path) as handle:
        for i in range(rows):
            result = made_up_result(i, names, draw)
            answer = f"<answer>{result['ground_truth']}</answer>"
            thought = result["response"].partition("<answer>")[0]
            question = result["conversations"][0]["content"][1]["text"]
            row = {
                "id": result["sample_id"],
                "messages": [
                    {"role": "user", "content": f"<image>{question}"},
                    {"role": "assistant", "content": thought + answer},
                ],
                "images": [f"images/{i % PHOTOGRAPHS}.jpg"],
                **{key: result[key] for key in ("ground_truth", "candidates", "task", "notice")},
            }
            handle.write(json.dumps(row) + "\n")


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 86_067])
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="checking_benchmark_"))
    try:
        draw_photographs(folder / "images")
        for rows in args.rows:
            write_rows(folder / "stage1.jsonl", rows)
            seconds, peak = run([sys.executable, "-m", "scripts.data.check", str(folder / "stage1.jsonl")])
            record(
                "checking",
                f"{rows:,} rows with photographs of 640 × 480",
                f"{rows / seconds:,.0f} rows/s ({seconds:.1f} s, {peak / 2**20:,.0f} MiB)",
                f"python -m scripts.maintenance.benchmark.checking --rows {rows}",
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
