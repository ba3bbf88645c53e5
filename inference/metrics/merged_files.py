"""merged.jsonl and merged_conf.jsonl: a run's results in one file each, line by line as the shards have them.

    write_merged(read_shards(Path("infer_results/my_run")), Path("infer_results/my_run"))

Each is written under a temporary name and moved into place.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from inference.common.json_lines import to_line
from inference.common.storage import atomic_path
from inference.metrics.results import Results

BUFFER_BYTES = 2**20  # Python's own 8 kB hold four lines


def write_merged(results: Results, output_dir: Path) -> None:
    """merged.jsonl: each result's line as it is.

    Raises:
        OSError: naming the file, when the disk does not take it; an old one is still there then.
    """
    with atomic_path(output_dir / "merged.jsonl") as path, open(path, "wb", BUFFER_BYTES) as handle:
        handle.writelines(line + b"\n" for line in results.lines())


def write_merged_with_confidence(results: Results, output_dir: Path) -> None:
    """merged_conf.jsonl: the lines of merged.jsonl with three keys more; raises as ``write_merged`` does.

    The published prediction, confidence and correctness are at the end of the line, where they
    outweigh a record's own keys of the same name. As published, samples whose confidence is not a
    number are left out.
    """
    as_json = lru_cache(4096)(to_line)  # of labels, which come again and again
    names = ("published_confidence_unreadable", "published_label", "published_truth", "published_confidence")
    rows = zip(results.lines(), *(results.table[name] for name in names), strict=True)
    with atomic_path(output_dir / "merged_conf.jsonl") as path, open(path, "wb", BUFFER_BYTES) as handle:
        for line, unreadable, label, truth, confidence in rows:
            if not unreadable:
                stated = "null" if confidence != confidence else repr(confidence + 0.0)  # −0 is 0
                more = f', "prediction": {as_json(label)}, "confidence": {stated}, "correctness": {int(label == truth)}'
                handle.write(line[:-1] + more.encode() + b"}\n")
