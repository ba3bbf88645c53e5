"""Speed and memory of writing stage 3's parquet file.

    python -m scripts.maintenance.benchmark.conversion --rows 14346 86067

Made-up rows over 2,000 images of 84 px, by file name and embedded (``--embed``); rows a second of
the whole process, start-up included.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from inference.common.terminal import plain_output
from inference.data.prompts import recognition_prompt
from inference.data.vecbench import TASKS
from scripts.maintenance.benchmark.measure import record, run

IMAGES = 2000


def write_rows(folder: Path, rows: int) -> Path:
    """A stage 3 file of so many rows, always the same."""
    noise, draw = np.random.default_rng(0), random.Random(0)
    (folder / "images").mkdir()
    for i in range(IMAGES):
        small = noise.integers(0, 255, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(small).resize((84, 84)).save(folder / "images" / f"{i}.png")
    path = folder / "stage3.jsonl"
    names = list(TASKS)
    with open(path, "w", encoding="utf-8") as handle:
        for i in range(rows):
            task = TASKS[names[i % len(names)]]
            row = {
                "id": f"made-up-{i}",
                "task": task.name,
                "messages": [{"role": "user", "content": "<image>" + recognition_prompt(list(task.labels))}],
                "images": [f"images/{i % IMAGES}.png"],
                "ground_truth": draw.choice(task.labels),
                "candidates": task.labels,
            }
            handle.write(json.dumps(row) + "\n")
    return path


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[14_346, 86_067])
    args = parser.parse_args()
    for rows in args.rows:
        folder = Path(tempfile.mkdtemp(prefix="conversion_benchmark_"))
        try:
            source = write_rows(folder, rows)
            for name, options in (("paths", []), ("embedded", ["--embed"])):
                command = [
                    sys.executable,
                    "-m",
                    "scripts.data.convert",
                    "verl",
                    str(source),
                    str(folder / f"{name}.parquet"),
                ]
                seconds, peak = run([*command, *options])
                record(
                    "conversion",
                    f"{rows:,} rows to verl's parquet, {name}",
                    f"{rows / seconds:,.0f} rows/s ({seconds:.1f} s, {peak / 2**20:,.0f} MiB)",
                    f"python -m scripts.maintenance.benchmark.conversion --rows {rows}",
                )
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
