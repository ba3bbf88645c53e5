"""The records of a VECBench file, which everything reads.

Standard library only, as are ``vecbench`` (tasks), ``fields`` and ``layouts``.

    from inference.data.records import read_records
    for item in read_records("input_data/test_8k.jsonl"):
        ...  # a Record, or a BrokenRecord that says what is wrong with its line
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from inference.common.json_lines import read_lines
from inference.data.fields import check_labels, id_of, label_of
from inference.data.layouts import images_of, read_conversation
from inference.data.reasoning_facts import read_facts


class RecordError(ValueError):
    """A line that is not a usable record: names the file, the line, the field and what was expected."""

    def __init__(self, source: str, line_number: int, field_name: str, expected: str):
        self.source, self.line_number, self.field, self.expected = source, line_number, field_name, expected
        super().__init__(f"{source}, line {line_number}, field '{field_name}': expected {expected}")


@dataclass
class Record:
    """One sample, ready for inference.

    Attributes:
        sample_id: unique in its file; what resume and merge go by.
        position: 0-based rank among the file's non-empty lines; broken lines count too.
        messages: turns as ``read_conversation`` gives them, or None when the record brings no prompt of its own.
        images: path or URL of each, in the order of their places in the turns; mostly one.
        raw: the line's whole JSON object, untouched.
    """

    sample_id: str
    position: int
    line_number: int
    task: str
    candidates: list[str]
    ground_truth: str
    messages: list[dict[str, Any]] | None
    images: list[str]
    raw: dict[str, Any]

    @property
    def image(self) -> str:
        """Its first image: the only one, unless it was read with ``max_images`` above 1."""
        return self.images[0]


@dataclass
class BrokenRecord:
    """A line that could not be read. It becomes an ``error`` record: never dropped, never fatal."""

    sample_id: str
    position: int
    line_number: int
    error: str
    raw: dict[str, Any] = field(default_factory=dict)


def content_id(raw: dict[str, Any]) -> str:
    """A stable id for a record without one: task and a hash of its content, whatever the key order."""
    keys = {key: value for key, value in raw.items() if key not in ("response", "error")}
    text = json.dumps(keys, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{raw.get('task', 'record')}-{digest}"


def images_in(path: str | Path) -> Iterator[str]:
    """What the records of a VECBench file name as their images, in order, for ``images.data_images``."""
    rows = (raw for _, raw, _ in read_lines(path) if isinstance(raw, dict))
    return (image for raw in rows for image in images_of(raw) if isinstance(image, str) and image)


def parse_record(raw: Any, source: str, line_number: int, position: int = 0, max_images: int = 1) -> Record:
    """Check one decoded line, which may name ``max_images`` images, and make it a Record.

    Raises:
        RecordError: naming file, line, field and what was expected there.
    """

    def fail(field_name: str, expected: str) -> NoReturn:
        raise RecordError(source, line_number, field_name, expected)

    labelled = {**raw, "ground_truth": label_of(raw)} if isinstance(raw, dict) else raw
    task, candidates, truth = check_labels(labelled, fail)
    sample_id = id_of(raw, fail)
    messages, images = read_conversation(raw, fail, max_images)
    read_facts(raw, fail)
    return Record(
        sample_id=content_id(raw) if sample_id is None else sample_id,
        position=position,
        line_number=line_number,
        task=task,
        candidates=candidates,
        ground_truth=truth,
        messages=messages,
        images=images,
        raw=raw,
    )


def read_records(path: str | Path, limit: int | None = None, max_images: int = 1) -> Iterator[Record | BrokenRecord]:
    """Every line of a VECBench file, in order, as a Record or a BrokenRecord.

    A sample id that comes again gets ``#2``, ``#3`` … so that ids are unique and no row is
    lost. ``limit`` stops after that many lines. A record of more than ``max_images`` images is broken, under the id
    that it would have otherwise.

    Raises:
        OSError: when the file itself cannot be read, or is no JSON lines.
    """
    seen: dict[str, int] = {}
    for position, (line_number, raw, problem) in enumerate(read_lines(path)):
        if limit is not None and position >= limit:
            return
        item: Record | BrokenRecord
        if problem is None:
            try:
                item = parse_record(raw, str(path), line_number, position, max_images)
            except RecordError as error:
                known = raw if isinstance(raw, dict) else {"line": raw}
                name = f"line-{line_number}"
                with suppress(RecordError):  # of too many images alone: the limit decides about no id
                    name = parse_record(raw, str(path), line_number, position, sys.maxsize).sample_id
                item = BrokenRecord(name, position, line_number, str(error), known)
        else:
            error_text = f"{path}, line {line_number}, field '(line)': {problem}"
            item = BrokenRecord(f"line-{line_number}", position, line_number, error_text)
        item.sample_id = unique_id(item.sample_id, seen)
        yield item


def unique_id(sample_id: str, seen: dict[str, int]) -> str:
    """``sample_id``, or the first of ``sample_id#2``, ``#3`` … that was not seen; marks it as seen."""
    name = sample_id
    while name in seen:
        seen[sample_id] += 1
        name = f"{sample_id}#{seen[sample_id]}"
    seen[name] = 1
    return name
