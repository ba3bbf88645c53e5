"""Labelled images for VEC-CoT: VECBench records of one or more files, checked.

    from scripts.build_vec_cot.records import read_labelled
    for path, item in read_labelled(["emoset.jsonl", "webemo.jsonl"]): ...

A line needs ``image``, ``ground_truth``, ``candidates`` and ``task``; a conversation may be there and
is not used, because VEC-CoT asks the released model's question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inference.common.json_lines import describe, read_lines, to_line
from inference.common.storage import atomic_write
from inference.common.terminal import printable
from inference.data.images import ImageError, ImageSource, data_images
from inference.data.records import BrokenRecord, Record, RecordError, images_in, read_records, unique_id

NOTICES = ("notice", "model_notice")


def find_image(path: Path, record: Record, source: ImageSource) -> str:
    """The absolute path of the record's image; a relative one is looked for as inference does.

    Raises:
        RecordError: when it is a URL, there is no such file, or it leads out of the folders that images may lie in.
    """
    if record.image.startswith(("data:", "http://", "https://")):
        raise RecordError(str(path), record.line_number, "image", f"a file, got {describe(record.image)}")
    try:
        return str(source.open(record.image))
    except ImageError as error:
        raise RecordError(str(path), record.line_number, "image", f"a file, {record.image} {error}") from None


def read_labelled(
    paths: list[str] | list[Path], check_label: bool = True, image_roots: Iterable[Path] = ()
) -> Iterator[tuple[Path, Record | BrokenRecord]]:
    """Every line of all files with the file it is from; ids and positions are unique over all files.

    A record's image becomes an absolute path. A line that cannot be used comes as a
    BrokenRecord; with ``check_label``, so does one whose label is not among its candidates.

    Raises:
        OSError: when a file itself cannot be read.
    """
    seen: dict[str, int] = {}
    position = 0
    for path in map(Path, paths):
        source = data_images(path, images_in(path), image_roots)
        for item in read_records(path):
            if isinstance(item, Record):
                try:
                    item.images = [find_image(path, item, source)]
                    if check_label and item.ground_truth not in item.candidates:
                        expected = f"one of the candidates, got {describe(item.ground_truth)}"
                        raise RecordError(str(path), item.line_number, "ground_truth", expected)
                except RecordError as error:
                    item = BrokenRecord(item.sample_id, item.position, item.line_number, str(error), item.raw)
            item.sample_id, item.position = unique_id(item.sample_id, seen), position
            position += 1
            yield path, item


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A JSON-lines file, complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as lines:
        lines.writelines(to_line(row) + "\n" for row in rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that an earlier step wrote.

    Raises:
        ValueError: naming the file and the line that is not a JSON object.
        OSError: when the file cannot be read.
    """
    rows = []
    for line_number, row, problem in read_lines(path):
        if problem or not isinstance(row, dict):
            raise ValueError(f"{path}, line {line_number}, field '(line)': {problem or 'expected a JSON object'}")
        rows.append(row)
    return rows


def rejections(reasons: dict[str, int]) -> str:
    """How many rows were rejected, and for what."""
    named = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
    return f"rejected {sum(reasons.values())}" + (f" ({named})" if named else "")


def notices_in(rows: list[dict[str, Any]]) -> list[str]:
    """What must be said beside these rows: that data or a model is a toy."""
    return sorted({row[key] for row in rows for key in NOTICES if row.get(key)})


def say_notices(rows: list[dict[str, Any]]) -> None:
    for notice in notices_in(rows):
        print(f"NOTE: {printable(notice)}")
