"""Result files: a shard per worker, a line per sample as soon as it exists, resume.

A run's folder holds ``shard_<index>_of_<n>.jsonl``. A line is the record's own keys plus
``sample_id``, ``position`` and either ``response`` (with token counts) or ``error``. A torn
last line (the process was killed while writing) is dropped and inferred again.

    with ShardWriter("infer_results/my_run", 0, 1) as writer:
        writer.write(result_line(record, response=text))
    finished_samples("infer_results/my_run")  # the ids that the next start passes over
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inference.common.json_lines import read_lines, to_line
from inference.common.locks import Held, hold
from inference.common.storage import atomic_write, naming
from inference.data.records import BrokenRecord, Record


class ShardBusy(RuntimeError):
    """Another process is writing the shard."""


SHARD_PATTERN = "shard_*_of_*.jsonl"

# What inference adds to a record; in a data file it is of another run. The fields of ``engines.base.Output``, and more.
ADDED = {
    "sample_id", "position", "model", "model_notice", "replace_images", "image_shown", "response", "error",
    "image_tokens", "prompt_tokens", "output_tokens", "finish_reason", "mean_log_probability", "answer_log_probability",
    "candidate_probabilities", "candidate_place", "other_responses",
}  # fmt: skip


def shard_path(output_path: str | Path, index: int, n_shards: int) -> Path:
    return Path(output_path) / f"shard_{index:03d}_of_{n_shards:03d}.jsonl"


def shard_paths(output_path: str | Path) -> list[Path]:
    return sorted(Path(output_path).glob(SHARD_PATTERN))


def result_line(item: Record | BrokenRecord, **added) -> dict[str, Any]:
    """The record's own keys, untouched, and what inference adds; stale results are replaced."""
    kept = {key: value for key, value in item.raw.items() if key not in ADDED}
    if isinstance(item, Record):  # evaluation reads the label under this name only
        kept["ground_truth"] = item.ground_truth
    known = {key: value for key, value in added.items() if value is not None}
    return {**kept, "sample_id": item.sample_id, "position": item.position, **known}


def error_of(result: dict[str, Any]) -> Any:
    """Why a sample has no response, or None; null, NaN and "" are what tables write where nothing failed."""
    error = result.get("error")
    return error if error and error == error else None


def is_answered(result: dict[str, Any]) -> bool:
    return error_of(result) is None and result.get("response") is not None


def is_result(value: Any) -> bool:
    """Whether a decoded line is one that a worker wrote: sample, position, and a response or an error."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("sample_id"), str)
        and type(value.get("position")) is int
        and (is_answered(value) or error_of(value) is not None)
    )


def read_results(path: str | Path) -> Iterator[dict[str, Any]]:
    """The complete result lines of a shard; anything torn or foreign is left out."""
    for _, result, problem in read_lines(path):
        if problem is None and is_result(result):
            yield result


def finished_samples(output_path: str | Path) -> set[str]:
    """Ids with a response in any shard of the folder, however many workers wrote them.

    Errors are not in the set: what failed is tried again by the next start.
    """
    return {
        result["sample_id"] for path in shard_paths(output_path) for result in read_results(path) if is_answered(result)
    }


class ShardWriter:
    """Append results to one shard, each on disk when ``write`` returns.

    On entering, the shard is cleaned: responses are kept; a torn line and the errors that
    will be tried again go. On a clean exit its lines are put into the data's order, so that
    the file does not depend on which request finished first. A line that the disk takes only in
    part is cut off again.

    Raises:
        ShardBusy: when another process is writing the same shard.
        OSError: naming the shard, when it cannot be written or is no longer at its place.
    """

    def __init__(self, output_path: str | Path, index: int, n_shards: int):
        self.path = shard_path(output_path, index, n_shards)

    def __enter__(self) -> ShardWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = hold(self.path.with_suffix(".lock"))
        except Held as pid:
            raise ShardBusy(f"{self.path} is being written by another process (pid {pid})") from None
        for left in self.path.parent.glob(f".{self.path.name}.*.tmp"):  # by a process that was killed
            left.unlink()
        if self.path.exists():
            self._rewrite([result for result in read_results(self.path) if is_answered(result)])
        self._handle = open(self.path, "ab", buffering=0)
        return self

    def write(self, result: dict[str, Any]) -> None:
        line = memoryview((to_line(result) + "\n").encode("utf-8"))
        with naming(self.path):
            if not os.path.samestat(os.fstat(self._handle.fileno()), os.stat(self.path)):
                raise FileNotFoundError(errno.ENOENT, "it was replaced while it was being written", str(self.path))
            size = os.fstat(self._handle.fileno()).st_size
            try:
                while line:
                    line = line[self._handle.write(line) :]
            except OSError:
                os.ftruncate(self._handle.fileno(), size)
                raise

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None:
                with naming(self.path):
                    os.fsync(self._handle.fileno())
                self._rewrite(sorted(read_results(self.path), key=lambda result: result["position"]))
        finally:
            self._handle.close()
            self._lock.close()

    def _rewrite(self, results: list[dict[str, Any]]) -> None:
        with atomic_write(self.path) as handle:
            handle.writelines(to_line(result) + "\n" for result in results)
