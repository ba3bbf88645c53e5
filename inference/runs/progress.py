"""One progress view over all workers of a run, from their shards on disk.

On a terminal it is a bar; in a log, a line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from inference.runs.shards import shard_paths


def count_lines(path: Path) -> int:
    with open(path, "rb") as handle:
        return sum(block.count(b"\n") for block in iter(lambda: handle.read(1 << 20), b""))


def finished_lines(output_path: Path, counted: dict[Path, tuple[int, int]]) -> int:
    """Lines in all shards; ``counted`` (path → size, lines) spares reading what did not grow."""
    for path in shard_paths(output_path):
        size = path.stat().st_size
        if counted.get(path, (-1, 0))[0] != size:
            counted[path] = (size, count_lines(path))
    return sum(lines for _, lines in counted.values())


def watch(data_path: str | Path, output_path: Path, limit: int | None, running: Callable[[], bool]) -> None:
    """Show how many samples have a line in any shard, as long as ``running()``."""
    total = count_lines(Path(data_path))
    total = min(total, limit) if limit else total
    counted: dict[Path, tuple[int, int]] = {}
    done = finished_lines(output_path, counted)
    often = 0.5 if sys.stderr.isatty() else 15.0  # seconds
    with tqdm(total=total, initial=done, desc="all workers", unit="sample", mininterval=often) as bar:
        while running():
            time.sleep(0.5)
            bar.update(finished_lines(output_path, counted) - bar.n)
        bar.update(finished_lines(output_path, counted) - bar.n)
