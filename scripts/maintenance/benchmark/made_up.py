"""Made-up results of any number, for timing only: random labels, random confidences; photographs of noise.

    python -m scripts.maintenance.benchmark.made_up --rows 8032 --output_path output/benchmark/8032.jsonl

Each line carries a notice that says so.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

from inference.common.terminal import plain_output
from inference.data.prompts import recognition_prompt
from inference.data.response import REASONING_STEPS
from inference.data.vecbench import TASKS
from inference.runs.shards import atomic_write

NOTICE = "made-up results for timing: labels and confidences are random numbers"
WORDS = [
    "the",
    "light",
    "falls",
    "softly",
    "on",
    "a",
    "quiet",
    "street",
    "where",
    "two",
    "people",
    "stand",
    "and",
    "talk",
]
PHOTOGRAPHS = 2000
STATED = ("0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95")


def made_up_result(position: int, names: list[str], draw: random.Random) -> dict:
    """One result line of about 1.5 kB, right six times out of ten."""
    task = TASKS[names[position % len(names)]]
    truth = draw.choice(task.labels)
    label = truth if draw.random() < 0.6 else draw.choice(task.labels)
    thought = "".join(f"<{step}>{' '.join(draw.choices(WORDS, k=25))}</{step}>" for step in REASONING_STEPS)
    question = recognition_prompt(list(task.labels))
    content = [{"type": "image", "image": f"images/{position}.jpg"}, {"type": "text", "text": question}]
    return {
        "conversations": [{"role": "user", "content": content}],
        "ground_truth": truth,
        "candidates": task.labels,
        "task": task.name,
        "notice": NOTICE,
        "sample_id": f"made-up-{position}",
        "position": position,
        "response": f"<think>{thought}</think><answer>{label}</answer><confidence>{draw.choice(STATED)}</confidence>",
    }


def draw_photographs(folder: Path) -> None:
    """``PHOTOGRAPHS`` JPEG files of 640 × 480 pixels, 0.jpg and so on, always the same."""
    noise = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(PHOTOGRAPHS):
        small = noise.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(small).resize((640, 480)).save(folder / f"{i}.jpg", quality=88)


def write_results(path: Path, rows: int) -> None:
    """``rows`` results, always the same; the tasks as often as in VECBench."""
    draw = random.Random(0)
    names = [name for name, task in TASKS.items() for _ in range(task.n_test // 100)]
    draw.shuffle(names)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as handle:
        for position in range(rows):
            handle.write(json.dumps(made_up_result(position, names, draw)) + "\n")


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--output_path", type=Path, required=True)
    args = parser.parse_args()
    write_results(args.output_path, args.rows)


if __name__ == "__main__":
    main()
