"""merged.jsonl and merged_conf.jsonl: a run's results in one file each, line by line as the shards have them.

    write_merged(read_shards(Path("infer_results/my_run")), Path("infer_results/my_run"))

Each is written under a temporary name and moved into place.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO

import pandas as pd

from inference.metrics.results import Results
from inference.runs.shards import atomic_path, to_line

LINES_AT_ONCE = 1024  # written together


def write_merged(results: Results, output_dir: Path) -> None:
    """merged.jsonl: each result's line as it is.

    Raises:
        OSError: naming the file, when the disk does not take it; an old one is still there then.
    """
    with atomic_path(output_dir / "merged.jsonl") as path, open(path, "wb") as handle:
        _write(handle, (line + b"\n" for line in results.lines()))


def write_merged_with_confidence(results: Results, output_dir: Path) -> None:
    """merged_conf.jsonl: the lines of merged.jsonl with three keys more; raises as ``write_merged`` does.

    The published prediction, confidence and correctness stand at the end of the line, where they
    outweigh a record's own keys of the same name. As published, samples whose confidence is not a
    number are left out.
    """
    with atomic_path(output_dir / "merged_conf.jsonl") as path, open(path, "wb") as handle:
        rows = zip(results.lines(), _judgements(results.table), strict=True)
        _write(handle, (line[:-1] + end for line, end in rows if end is not None))


def _write(handle: IO[bytes], lines: Iterator[bytes]) -> None:
    while batch := list(islice(lines, LINES_AT_ONCE)):
        handle.write(b"".join(batch))


def _judgements(table: pd.DataFrame) -> Iterator[bytes | None]:
    """How each row's line of merged_conf.jsonl ends; None for a row that has no line there."""

    @lru_cache(maxsize=4096)
    def end(label: str, confidence: float | None, right: bool) -> bytes:
        known = "null" if confidence is None else repr(confidence)
        return f', "prediction": {to_line(label)}, "confidence": {known}, "correctness": {int(right)}}}\n'.encode()

    # − 0 is 0: the two are one key of the cache.
    confidences = [None if value != value else value + 0.0 for value in table["published_confidence"].tolist()]
    columns = (
        table[name].tolist() for name in ("published_confidence_unreadable", "published_label", "published_truth")
    )
    for confidence, unreadable, label, truth in zip(confidences, *columns, strict=True):
        yield None if unreadable else end(label, confidence, label == truth)
