"""What a stage trains on, checked before it starts: rows for ms-swift, the parquet files of verl.

Both trainers go on without what they cannot read: ms-swift deletes rows over columns that it does not
expect and puts another row in the place of one whose image is broken or whose tokens are too many; verl asks
about an image that it was never shown when its column has another name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from inference.common.json_lines import describe, to_line
from inference.common.storage import atomic_write, explain
from inference.data.images import ImageError, PixelBudget, data_images
from inference.data.layouts import IMAGE
from inference.data.response import tag_text
from scripts.data.checks import Checker
from scripts.data.convert import Images, swift_row
from scripts.data.samples import BrokenSample, Sample, images_in, read_samples, reward_problem

PARQUET_BATCH = 64  # rows held at once; embedded images are large
TURN_TOKENS = 32  # more than a chat template adds to a turn, or to the whole for its system prompt


class BadData(ValueError):
    """Training data that cannot be used as it is; the message names file, row, field and what was expected."""


class Rows(NamedTuple):
    """How many rows there were, how many of them are over the length and left out, and how many state a confidence."""

    read: int
    too_long: int
    with_confidence: int

    @property
    def trained(self) -> int:
        return self.read - self.too_long


def _too_long(sample: Sample, size: tuple[int, int], checker: Checker) -> bool:
    """Whether the row has more tokens than it may: most rows are short enough by their bytes alone."""
    image_tokens = checker.source.budget.image_tokens(*size)
    contents = [turn["content"] for turn in sample.messages] + [sample.answer or ""]
    text_bytes = sum(len(content.encode("utf-8", "replace")) + TURN_TOKENS for content in contents)
    most = image_tokens + TURN_TOKENS + text_bytes
    return most > checker.max_length and checker.length(sample, image_tokens) > checker.max_length


def write_swift_rows(source: Path, target: Path, tokenizer: str, max_length: int, budget: PixelBudget) -> Rows:
    """Write what ms-swift trains on: turns and image of every row of ``source`` that is not over ``max_length`` tokens.

    Args:
        tokenizer: the model's folder or hub name; loaded only if a row may be too long.

    Raises:
        BadData: when a row cannot be trained on: the first one, and how many there are. ``target`` is not written.
        OSError: when a file cannot be read or written.
    """
    # The file is the user's own: its images may lie where they do.
    found = data_images(source, images_in(source), budget=budget, confined=False)
    images = Images(found, target.with_name(f"{target.stem}_images"))
    checker = Checker(found, tokenizer=tokenizer, max_length=max_length)
    read = too_long = with_confidence = bad = 0
    first = ""
    with atomic_write(target) as lines:
        for sample in tqdm(read_samples(source), desc=source.name, unit="row", mininterval=1.0, delay=2.0):
            read += 1
            try:
                if isinstance(sample, BrokenSample):
                    raise BadData(sample.error)
                row = swift_row(sample, images)
                if _too_long(sample, found.original_size(sample.images[0]), checker):
                    too_long += 1
                else:
                    lines.write(to_line(row) + "\n")
                with_confidence += tag_text(sample.answer, "confidence") is not None
            except ValueError as error:
                bad += 1
                field = "'images[0]': " if isinstance(error, ImageError) else ""
                where = "" if isinstance(error, BadData) else f"{source}, line {sample.line_number}, field {field}"
                first = first or f"{where}{error}"
        if bad:
            others = f" ({bad} of {read} rows cannot be trained on)" if bad > 1 else ""
            raise BadData(f"{first}{others}; python -m scripts.data.check {source} --fix sorts such rows out")
        if read == too_long:
            raise BadData(
                f"{source}: expected rows of at most {max_length} tokens, got {read} rows, {too_long} of them longer"
            )
    return Rows(read, too_long, with_confidence)


class Prompts(NamedTuple):
    """The rows of one of verl's files: the images of each, by hashes of their addresses or bytes."""

    images: list[frozenset[int]]

    def sharing(self, other: Prompts) -> int:
        """How many of these show an image that the other file has, too."""
        known = frozenset().union(*other.images)
        return sum(not known.isdisjoint(images) for images in self.images)


def check_parquet(path: Path, image_key: str = "images", prompt_key: str = "prompt") -> Prompts:
    """The rows of one of verl's files, each of them checked: columns, marks, images, label.

    Raises:
        BadData: naming the first bad row.
    """
    images = []
    try:
        parquet = pq.ParquetFile(path)
        _check_columns(path, parquet.schema_arrow, image_key, prompt_key)
        columns = [prompt_key, image_key, "reward_model", "data_source"]
        batches = parquet.iter_batches(batch_size=PARQUET_BATCH, columns=columns)
        for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
            _check_row(path, number, row, image_key, prompt_key)
            images.append(frozenset(hash(_content(image)) for image in row[image_key]))
    except pa.ArrowInvalid:
        raise BadData(f"{path} is not a parquet file. Make it with python -m scripts.data.convert verl.") from None
    except (OSError, pa.ArrowException) as error:
        raise BadData(f"{path}: cannot be read: {explain(error)}") from None
    return Prompts(images)


def _check_columns(path: Path, schema: pa.Schema, image_key: str, prompt_key: str) -> None:
    expected = {
        prompt_key: "a list of turns",
        image_key: 'a list of images, {"bytes": …} or {"image": "file://…"}',
        "reward_model": 'an object with "ground_truth"',
        "data_source": "a text",
    }
    for name, what in expected.items():
        found = schema.field(name).type if name in schema.names else f"the columns {', '.join(schema.names)}"
        is_list = name in schema.names and (pa.types.is_list(found) or pa.types.is_large_list(found))
        if name not in schema.names or (name in (prompt_key, image_key) and not is_list):
            raise BadData(f"{path}, row 1, field {name!r}: expected {what}, got {found}")


def _check_row(path: Path, number: int, row: dict[str, Any], image_key: str, prompt_key: str) -> None:
    def fail(field: str, expected: str, found: Any) -> None:
        raise BadData(f"{path}, row {number}, field {field!r}: expected {expected}, got {found}")

    turns = row[prompt_key] or []
    if not turns:
        fail(prompt_key, "a list of turns", describe(row[prompt_key]))
    marks = 0
    for i, turn in enumerate(turns):
        content = turn.get("content") if isinstance(turn, dict) else None
        if not isinstance(content, str) or not isinstance(turn.get("role"), str):
            fail(f"{prompt_key}[{i}]", 'an object with "role" and "content", both text', describe(turn))
        marks += content.count(IMAGE)
    images = row[image_key] or []
    if marks == 0 or marks != len(images):
        fail(image_key, f"an image for each {IMAGE} of the prompt, and one at least", f"{len(images)} for {marks}")
    for i, image in enumerate(images):
        _check_image(image, lambda expected, found, i=i: fail(f"{image_key}[{i}]", expected, found))
    label = row["reward_model"].get("ground_truth") if isinstance(row["reward_model"], dict) else None
    if not isinstance(label, str) or not label.strip():
        fail("reward_model.ground_truth", "a label", describe(label))
    if problem := reward_problem(label, None):
        raise BadData(f"{path}, row {number}, {problem}")
    if not isinstance(row["data_source"], str) or not row["data_source"]:
        fail("data_source", "a text", describe(row["data_source"]))


def _content(image: dict[str, Any]) -> Any:
    """What a checked image holds, its bytes or its address."""
    return image.get("bytes") or image.get("image") or image.get("path")


def _check_image(image: Any, fail: Any) -> None:
    """verl drops a row with a bare path without a word; a relative path would be looked for in Ray's own folder."""
    reference = _content(image) if isinstance(image, dict) else None
    if isinstance(reference, bytes):
        return
    if not isinstance(reference, str):
        fail('{"bytes": …} or {"image": "file://…"}', describe(image))
    if reference.startswith(("http://", "https://", "data:")):
        return
    place = Path(reference.removeprefix("file://"))
    if not place.is_absolute():
        fail("an absolute path", describe(reference))
    if not place.is_file():
        fail("an image file", f"no such file: {describe(reference, 200)}")
