"""Photograph-sized JPEG files, each different, and the VECBench records that ask about them.

    make_photographs(folder, 3000, processes=16)       # folder/000000.jpg …
    write_records(folder / "three.jsonl", 3000, questions=3)

Several questions about one image, as FI and WebEmo may ask, are neighbours in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from inference.data.vecbench import TASKS

SIZES = ((1024, 768), (1600, 1200), (640, 480), (768, 1024), (400, 300), (2048, 1365))  # in turn
TASKS_ASKED = ("EmoSet-8", "WebEmo-25", "WebEmo-7", "WebEmo-2", "FI-8", "FI-2", "UnbiasedEmo-6")  # as many as asked
QUALITY = 90


@lru_cache
def _grain(size: tuple[int, int]) -> Image.Image:
    """Film grain, the same for all images of a size."""
    width, height = size
    noise = np.random.default_rng(0).integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)


def make_photograph(folder: Path, index: int) -> None:
    """Soft fields of random colours under grain; no two indices give the same."""
    size = SIZES[index % len(SIZES)]
    colours = np.random.default_rng(index).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    fields = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
    Image.blend(fields, _grain(size), 0.15).save(folder / image_name(index), quality=QUALITY)


def image_name(index: int) -> str:
    return f"{index:06d}.jpg"


def make_photographs(folder: Path, count: int, pool: Executor) -> Iterator[None]:
    """Make them in the pool's processes; the iterator ends when all are there."""
    return pool.map(make_photograph, [folder] * count, range(count), chunksize=16)


def write_records(path: Path, n_images: int, questions: int = 1) -> None:
    """Records without prompts of their own: each asks what the released model is asked, with its task's labels.

    Raises:
        ValueError: for more questions per image than there are tasks.
    """
    if questions > len(TASKS_ASKED):
        raise ValueError(f"expected at most {len(TASKS_ASKED)} questions per image, got {questions}")
    with open(path, "w", encoding="utf-8") as handle:
        for index in range(n_images):
            for task in (TASKS[name] for name in TASKS_ASKED[:questions]):
                record = {
                    "id": f"{index}-{task.name}",
                    "image": image_name(index),
                    "task": task.name,
                    "candidates": task.labels,
                    "ground_truth": task.labels[0],
                }
                handle.write(json.dumps(record) + "\n")
