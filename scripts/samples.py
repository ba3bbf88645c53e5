"""Rows of training and test files in every layout met in practice, read as one thing.

    from scripts.samples import read_samples
    for sample in read_samples("input_data/VEC-CoT/stage1_86k.jsonl"): ...

Files: JSON lines, a JSON array, parquet. Turns: ``conversations`` or ``messages``, with role and
content or from and value; a content is a string or a list of items. Images: inside the content, in
``images`` (paths, or objects with path or bytes) or in ``image``. Reading streams: a file of any
length needs the memory of a few rows. What cannot be read becomes a ``BrokenSample``; nothing is
dropped.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq

from inference.json_lines import describe, one_line, read_lines, refuse_binary, too_deep
from inference.prompts import recognition_prompt
from inference.response import tag_text
from inference.vecbench import MAX_ID, MAX_NAME, MAX_TEXT, TASKS, RecordError, canonical_task, check_text

IMAGE = "<image>"  # where an image stands in a turn's text, ms-swift's and verl's mark
ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
PARQUET_BATCH = 64  # rows held at once; embedded images are large
CHUNK = 1 << 20  # characters of a JSON array read at once
SEPARATORS = re.compile(r"[\s,]*")
MAX_ELEMENT = 64 << 20  # characters of one element of a JSON array


@dataclass
class Sample:
    """One row.

    Attributes:
        line_number: of the file, from 1; in an array or parquet file, the rank of the row.
        messages: turns as {"role", "content"} with ``<image>`` marks, without the last answer.
        answer: the last turn when it is the assistant's: reasoning, answer, confidence.
        images: paths, URLs or data URLs, one for each mark.
        ground_truth: the label; taken from the answer when the row does not state it.
        candidates: the row's own, or those in square brackets in its question, or its task's.
        raw: the row as it was read, untouched.
    """

    line_number: int
    messages: list[dict[str, str]]
    answer: str | None
    images: list[str]
    ground_truth: str | None
    candidates: list[str] | None
    task: str | None
    sample_id: str | None
    raw: dict[str, Any] = field(repr=False)

    @property
    def question(self) -> str:
        """The text of the turns before the answer."""
        return "\n".join(message["content"] for message in self.messages)


@dataclass
class BrokenSample:
    """A row that could not be read: what was expected, and what there is of it."""

    line_number: int
    error: str
    raw: Any = field(default=None, repr=False)


def _json_array(path: Path) -> Iterator[tuple[int, Any, str | None]]:
    """(rank, object, None) for each element of a top-level array, a chunk of the file at a time.

    Where an element is broken nobody can say where the next one begins: that ends it, with a problem.
    """
    decoder = json.JSONDecoder()
    # An invalid byte becomes a lone surrogate, which parse_sample refuses: in its own row, not in the file.
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as handle:
        text = handle.read(CHUNK)
        opening = re.match(r"\s*\[", text)  # without it, objects that follow one another are read as well
        position, rank, ended = opening.end() if opening else 0, 0, False
        while True:
            start = SEPARATORS.match(text, position).end()
            if (opening and text[start : start + 1] == "]") or (ended and not opening and start == len(text)):
                return
            try:
                value, position = decoder.raw_decode(text, start)
                problem = None
            except json.JSONDecodeError as error:
                if not ended and len(text) - start < MAX_ELEMENT:
                    more = handle.read(max(CHUNK, len(text) - start))  # twice as much: a long element is read again
                    ended = not more
                    text, position = text[start:] + more, 0
                    continue
                problem = one_line(error.msg)
            except (RecursionError, ValueError) as error:
                problem = one_line(str(error))
            rank += 1
            if problem is not None:
                yield rank, None, f"expected one JSON object, {problem}; nothing after it can be read"
                return
            deep = too_deep(value, text[start:position])
            yield rank, None if deep else value, "expected one JSON object, got one nested too deeply" if deep else None


def _decoded_rows(path: Path) -> Iterator[tuple[int, Any, str | None]]:
    if path.suffix == ".parquet":
        rank = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=PARQUET_BATCH):
            for i in range(batch.num_rows):
                rank += 1
                try:
                    yield rank, batch.slice(i, 1).to_pylist()[0], None
                except UnicodeDecodeError as error:
                    yield rank, None, f"expected UTF-8 text, {error.reason}"
    elif path.suffix == ".json":
        refuse_binary(path, "JSON")
        yield from _json_array(path)
    else:
        yield from read_lines(path)


def plain(value: Any) -> str:
    """What json cannot write (parquet holds bytes and dates), for its ``default``."""
    return describe(value)


def _reference(image: Any, fail: Any, where: str) -> str:
    """A path or URL for an image in any form; embedded bytes become a data URL."""
    if isinstance(image, dict):
        content = image.get("bytes")
        if isinstance(content, (bytes, bytearray)) and content:
            return "data:image;base64," + base64.b64encode(content).decode("ascii")
        image = next((image[key] for key in ("path", "image", "url") if image.get(key)), image)
    if isinstance(image, (bytes, bytearray)) and image:
        return "data:image;base64," + base64.b64encode(image).decode("ascii")
    if not isinstance(image, str) or not image:
        fail(where, f"a path, a URL or embedded bytes, got {describe(image)}")
    return image


def _turn(turn: Any, where: str, images: list[str], fail: Any) -> dict[str, str]:
    if not isinstance(turn, dict):
        fail(where, f"an object with role and content, got {describe(turn)}")
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(role, str) or role not in ROLES:
        fail(f"{where}.role", f"one of {', '.join(sorted(ROLES))}, got {describe(role)}")
    if isinstance(content, list):
        parts = []
        for i, item in enumerate(content):
            item = item if isinstance(item, dict) else {}
            if isinstance(item.get("text"), str):
                parts.append(item["text"])
            elif item.get("image") is not None or item.get("image_url") is not None:
                images.append(_reference(item.get("image", item.get("image_url")), fail, f"{where}.content[{i}]"))
                parts.append(IMAGE)
            elif item.get("type") == "image":  # the image itself stands outside the turns
                parts.append(IMAGE)
            else:
                fail(f"{where}.content[{i}]", f'"text" or "image", got {describe(content[i])}')
        content = "".join(parts)
    if not isinstance(content, str):
        fail(f"{where}.content", f"a string or a list of items, got {describe(content)}")
    check_text(f"{where}.content", content, fail, MAX_TEXT)
    return {"role": ROLES[role], "content": content}


def _candidates(raw: dict[str, Any], question: str, task: str | None, fail: Any) -> list[str] | None:
    stated = raw.get("candidates")
    if stated is not None:
        if not isinstance(stated, list) or not stated or not all(isinstance(x, str) and x for x in stated):
            fail("candidates", f"a list of labels, got {describe(stated)}")
        for label in stated:
            check_text("candidates", label, fail, MAX_NAME)
        return stated
    for match in re.finditer(r"\[([^\[\]]*)\]", question):
        if "," in match[1]:
            return [label.strip().strip("'\"") for label in match[1].split(",")]
    known = TASKS.get(task or "")
    return list(known.labels) if known else None


def parse_sample(raw: Any, source: str, line_number: int) -> Sample:
    """One decoded row as a Sample.

    Raises:
        RecordError: naming file, line, field and what was expected there.
    """

    def fail(field_name: str, expected: str) -> NoReturn:
        raise RecordError(source, line_number, field_name, expected)

    if not isinstance(raw, dict):
        fail("(line)", f"a JSON object, got {describe(raw)}")
    name = "conversations" if raw.get("conversations") else "messages"
    turns = raw.get(name)
    if turns is None and raw.get("image") is not None and isinstance(raw.get("candidates"), list):
        # A test record without a prompt of its own is asked the released model's question.
        turns = [{"role": "user", "content": recognition_prompt([str(label) for label in raw["candidates"]])}]
    if not isinstance(turns, list) or not turns:
        fail("messages", f"a list of turns, here or in conversations, got {describe(turns)}")
    inside: list[str] = []
    messages = [_turn(turn, f"{name}[{i}]", inside, fail) for i, turn in enumerate(turns)]
    answer = messages.pop()["content"] if messages[-1]["role"] == "assistant" else None
    if not any(message["role"] == "user" for message in messages):
        fail(name, "a user's turn before the assistant's answer")

    outside = raw.get("images")
    if outside is None:
        outside = [] if raw.get("image") is None or inside else [raw["image"]]
    if not isinstance(outside, list):
        fail("images", f"a list, got {describe(outside)}")
    images = inside or [_reference(image, fail, f"images[{i}]") for i, image in enumerate(outside)]
    marks = sum(message["content"].count(IMAGE) for message in messages)
    if marks == 0 and len(images) == 1:
        first = next(message for message in messages if message["role"] == "user")
        first["content"] = IMAGE + first["content"]
        marks = 1
    if marks != 1 or len(images) != 1:
        fail("images", f"one image and one {IMAGE} mark for it, got {len(images)} and {marks}")

    truth = raw.get("ground_truth", raw.get("label"))
    if truth is None and answer is not None:
        truth = (tag_text(answer, "answer") or "").strip() or None
    if truth is not None and (not isinstance(truth, str) or not truth):
        fail("ground_truth", f"a label, got {describe(truth)}")
    check_text("ground_truth", truth or "", fail, MAX_NAME)
    task = raw.get("task")
    if task is not None and not isinstance(task, str):
        fail("task", f"a task name, got {describe(task)}")
    check_text("task", task or "", fail, MAX_NAME)
    sample_id = raw.get("id")
    if sample_id is not None and (isinstance(sample_id, bool) or not isinstance(sample_id, (str, int))):
        fail("id", f"a string or an integer, got {describe(sample_id)}")
    sample_id = None if sample_id is None else str(sample_id)
    check_text("id", sample_id or "", fail, MAX_ID)
    task = canonical_task(task) if task else None
    question = "\n".join(message["content"] for message in messages)
    return Sample(
        line_number=line_number,
        messages=messages,
        answer=answer,
        images=images,
        ground_truth=truth,
        candidates=_candidates(raw, question, task, fail),
        task=task,
        sample_id=sample_id,
        raw=raw,
    )


def read_samples(path: str | Path) -> Iterator[Sample | BrokenSample]:
    """Every row of a file, in order.

    Raises:
        OSError, pyarrow.ArrowException: when the file itself cannot be read.
    """
    path = Path(path)
    for line_number, raw, problem in _decoded_rows(path):
        if problem is not None:
            yield BrokenSample(line_number, f"{path}, line {line_number}, field '(line)': {problem}")
            continue
        try:
            yield parse_sample(raw, str(path), line_number)
        except RecordError as error:
            yield BrokenSample(line_number, str(error), raw)
