"""VECBench: its tasks, groups and label sets, and the record that everything reads.

Standard library only: imported by inference, evaluation, data preparation and the toy
world alike. A task is one row of ``TASKS``; adding a row is all it takes to add a task.

    from inference.vecbench import read_records
    for item in read_records("input_data/test_8k.jsonl"):
        ...  # a Record, or a BrokenRecord that says what is wrong with its line
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from inference.json_lines import describe, read_lines

MIKELS_8 = ("amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness")
SENTIMENT_2 = ("positive", "negative")
UNBIASEDEMO_6 = ("anger", "fear", "joy", "love", "sadness", "surprise")

# WebEmo's own hierarchy, with its own spelling of the labels.
WEBEMO_7_CHILDREN = {
    "anger": ("disgust", "envy", "exasperation", "irritabilty", "rage"),
    "confusion": ("confusion",),
    "fear": ("horror", "nervousness"),
    "joy": ("cheerfullness", "contentment", "enthrallment", "optimism", "pride", "relief", "zest"),
    "love": ("affection", "gratitude", "lust"),
    "sadness": ("disappointment", "neglect", "sadness", "shame", "suffering", "sympathy"),
    "surprise": ("surprise",),
}
WEBEMO_7 = tuple(WEBEMO_7_CHILDREN)
WEBEMO_25 = tuple(sorted(label for children in WEBEMO_7_CHILDREN.values() for label in children))

GROUPS = ("ID VSA", "ID VER", "OOD VER")

# What a record may hold: far above any real one, and low enough for tables, figures and logs.
MAX_NAME = 200  # characters of a task or a label
MAX_ID = 1000  # characters
MAX_CANDIDATES = 1000
MAX_TEXT = 1_000_000  # characters of one text of a prompt: more than any model's context holds


@dataclass(frozen=True)
class Task:
    """One VECBench task: its name in records, its group, its labels and its sample counts."""

    name: str
    group: str
    labels: tuple[str, ...]
    n_test: int
    n_train: int


# The order of the published table.
TASKS = {
    task.name: task
    for task in (
        Task("Abstract-8", "OOD VER", MIKELS_8, 229, 0),
        Task("Artphoto-8", "OOD VER", MIKELS_8, 806, 0),
        Task("EmoSet-8", "ID VER", MIKELS_8, 1000, 94_448),
        Task("FI-2", "ID VSA", SENTIMENT_2, 1000, 10_382),
        Task("FI-8", "ID VER", MIKELS_8, 1000, 10_378),
        Task("UnbiasedEmo-6", "OOD VER", UNBIASEDEMO_6, 1000, 0),
        Task("WebEmo-2", "ID VSA", SENTIMENT_2, 1000, 87_601),
        Task("WebEmo-7", "ID VER", WEBEMO_7, 1000, 82_878),
        Task("WebEmo-25", "ID VER", WEBEMO_25, 997, 74_717),
    )
}
TASK_ALIASES = {"UnbaisedEmo-6": "UnbiasedEmo-6"}


def canonical_task(name: str) -> str:
    """The table's spelling of a task name; names it does not know are returned as they are."""
    return TASK_ALIASES.get(name, name)


def group_of(task_name: str) -> str | None:
    """The group of a task, or None for a task that is not part of VECBench."""
    task = TASKS.get(canonical_task(task_name))
    return task.group if task else None


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
        messages: chat turns, or None when the record brings no prompt of its own.
        image: path, URL or None; images embedded in ``messages`` are found there.
        raw: the line's whole JSON object, untouched.
    """

    sample_id: str
    position: int
    line_number: int
    task: str
    candidates: list[str]
    ground_truth: str
    messages: list[dict[str, Any]] | None
    image: str | None
    raw: dict[str, Any]


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


def _image_in(item: dict[str, Any]) -> Any:
    """What an item of a turn names as its image, an ``image_url`` of the OpenAI form included; None for text."""
    image = item.get("image")
    if image is None and "image" not in item:
        image = item.get("image_url")
    return image.get("url") if isinstance(image, dict) else image


def images_in(messages: list[dict[str, Any]]) -> list[str]:
    """Every image of a conversation, in order."""
    contents = (message["content"] for message in messages)
    items = (item for content in contents if isinstance(content, list) for item in content)
    return [image for image in map(_image_in, items) if image is not None]


def image_of(raw: dict[str, Any]) -> str | None:
    """The image that a record or result names, whatever else is wrong with it; None without one."""
    messages = raw.get("conversations", raw.get("messages"))
    for turn in messages if isinstance(messages, list) else ():
        content = turn.get("content") if isinstance(turn, dict) else None
        for item in content if isinstance(content, list) else ():
            image = _image_in(item) if isinstance(item, dict) else None
            if image is not None:
                return image if isinstance(image, str) else None
    image = raw.get("image")
    return image if isinstance(image, str) else None


def check_text(field_name: str, text: str, fail: Callable[[str, str], NoReturn], limit: int | None = None) -> None:
    """Calls ``fail`` for text that is longer than ``limit`` characters, or no Unicode text."""
    if limit is not None and len(text) > limit:
        fail(field_name, f"at most {limit} characters, got {len(text)}")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON can spell half of a character: no tokenizer, no figure takes it
            half = describe(text[error.start : error.start + 1])
            fail(field_name, f"Unicode text, got the lone surrogate {half} at character {error.start}")


def _check_messages(messages: Any, fail: Callable[[str, str], NoReturn]) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        fail("conversations", f"a non-empty list of turns, got {describe(messages)}")
    for i, message in enumerate(messages):
        where = f"conversations[{i}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            fail(where, f'an object with a string "role", got {describe(message)}')
        check_text(f"{where}.role", message["role"], fail, MAX_NAME)
        content = message.get("content")
        if isinstance(content, str):
            check_text(f"{where}.content", content, fail, MAX_TEXT)
            continue
        if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
            fail(f"{where}.content", f"a string or a list of objects, got {describe(content)}")
        for j, item in enumerate(content):
            if not ({"image", "image_url"} & item.keys() or isinstance(item.get("text"), str)):
                fail(f"{where}.content[{j}]", f'"text" or "image", got {describe(item)}')
            if isinstance(item.get("text"), str):
                check_text(f"{where}.content[{j}]", item["text"], fail, MAX_TEXT)
    if not any(message["role"] == "user" for message in messages):
        fail("conversations", 'at least one turn with the role "user"')
    return messages


def check_candidates(candidates: Any, fail: Callable[[str, str], NoReturn]) -> list[str]:
    """The candidates of a decoded line; ``fail(field, expected)`` must raise."""
    if not isinstance(candidates, list) or not candidates:
        fail("candidates", f"a non-empty list of labels, got {describe(candidates)}")
    if not all(isinstance(label, str) and label for label in candidates):
        fail("candidates", f"labels that are non-empty strings, got {describe(candidates)}")
    if len(candidates) > MAX_CANDIDATES:
        fail("candidates", f"at most {MAX_CANDIDATES} labels, got {len(candidates)}")
    if max(map(len, candidates)) > MAX_NAME or not "".join(candidates).isascii():
        for label in candidates:
            check_text("candidates", label, fail, MAX_NAME)
    return candidates


def check_labels(raw: Any, fail: Callable[[str, str], NoReturn]) -> tuple[str, list[str], str]:
    """(task, candidates, ground_truth) of a decoded line; ``fail(field, expected)`` must raise."""
    if not isinstance(raw, dict):
        fail("(line)", f"a JSON object, got {describe(raw)}")
    task, truth = raw.get("task"), raw.get("ground_truth")
    if not isinstance(task, str) or not task:
        fail("task", f"a task name, got {describe(task)}")
    candidates = check_candidates(raw.get("candidates"), fail)
    if not isinstance(truth, str) or not truth:
        fail("ground_truth", f"a label, got {describe(truth)}")
    check_text("task", task, fail, MAX_NAME)
    check_text("ground_truth", truth, fail, MAX_NAME)
    return canonical_task(task), candidates, truth


def parse_record(raw: Any, source: str, line_number: int, position: int = 0) -> Record:
    """Check one decoded line and make it a Record.

    Raises:
        RecordError: naming file, line, field and what was expected there.
    """

    def fail(field_name: str, expected: str) -> NoReturn:
        raise RecordError(source, line_number, field_name, expected)

    task, candidates, truth = check_labels(raw, fail)
    sample_id = raw.get("id")
    if sample_id is not None and (isinstance(sample_id, bool) or not isinstance(sample_id, (str, int))):
        fail("id", f"a string or an integer, got {describe(sample_id)}")
    sample_id = content_id(raw) if sample_id is None else str(sample_id)
    check_text("id", sample_id, fail, MAX_ID)

    messages = raw.get("conversations", raw.get("messages"))
    image = raw.get("image")
    if messages is not None:
        messages = _check_messages(messages, fail)
        images = images_in(messages)
        if len(images) + (image is not None and not images) != 1:
            fail("conversations", f"exactly one image, got {len(images)}")
        image = images[0] if images else image
    if not isinstance(image, str) or not image:
        fail("image", f"a path or URL, here or inside conversations, got {describe(image)}")
    return Record(
        sample_id=sample_id,
        position=position,
        line_number=line_number,
        task=task,
        candidates=candidates,
        ground_truth=truth,
        messages=messages,
        image=image,
        raw=raw,
    )


def read_records(path: str | Path, limit: int | None = None) -> Iterator[Record | BrokenRecord]:
    """Every line of a VECBench file, in order, as a Record or a BrokenRecord.

    A sample id that comes again gets ``#2``, ``#3`` … so that ids are unique and no row is
    lost. ``limit`` stops after that many lines.

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
                item = parse_record(raw, str(path), line_number, position)
            except RecordError as error:
                kept = raw if isinstance(raw, dict) else {"line": raw}
                item = BrokenRecord(f"line-{line_number}", position, line_number, str(error), kept)
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
