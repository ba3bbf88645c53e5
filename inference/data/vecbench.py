"""VECBench: its tasks, groups and label sets, and the record that everything reads.

Standard library only: imported by inference, evaluation, data preparation and the toy
world alike. A task is one row of ``TASKS``; adding a row is all it takes to add a task.

    from inference.data.vecbench import read_records
    for item in read_records("input_data/test_8k.jsonl"):
        ...  # a Record, or a BrokenRecord that says what is wrong with its line
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from inference.common.json_lines import describe, read_lines
from inference.data.reasoning_facts import read_facts
from inference.data.votes import vote_shares

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

# What a record may hold: far above any real one, and low enough for tables, plots and logs.
MAX_NAME = 200  # characters of a task or a label
MAX_ID = 1000  # characters
MAX_CANDIDATES = 1000
MAX_TEXT = 1_000_000  # characters of one text of a prompt: more than any model's context holds

IMAGE = "<image>"  # where an image is in a turn's text: ms-swift's, verl's and LLaVA's mark
IMAGE_TOKENS = ("<|image_pad|>", "<|video_pad|>")  # in a text they promise Qwen2.5-VL pixels that do not come
EMBEDDED = "data:image;base64,"  # how the data URL of an image begins that a table holds as bytes
ROLES = {"human": "user", "gpt": "assistant"}  # LLaVA's names of the two


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


def _reference(image: Any) -> Any:
    """The path or URL of an image in any form, embedded bytes as a data URL; None where there is no image."""
    if isinstance(image, dict):
        image = next((image[key] for key in ("bytes", "path", "image", "url") if image.get(key)), None)
    if isinstance(image, bytes):
        return EMBEDDED + base64.b64encode(image).decode("ascii")
    return image


def _image_in(item: dict[str, Any]) -> Any:
    """What an item of a turn names as its image, an ``image_url`` of the OpenAI form included; None for text."""
    image = item.get("image")
    return _reference(item.get("image_url") if image is None else image)


def _turns_of(raw: dict[str, Any]) -> tuple[str, Any]:
    """(name of the key that holds a row's turns, the turns or None)."""
    name = "messages" if raw.get("conversations") is None else "conversations"
    return name, raw.get(name)


def _listed(value: Any) -> list[Any]:
    """What a key beside the turns names: each of a list, null included, or the one image if there is one."""
    if isinstance(value, list):
        return [_reference(image) for image in value]
    image = _reference(value)
    return [] if image is None else [image]


def _beside(raw: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What a row names beside its turns: (under ``images``, under ``image`` and not among those)."""
    listed = _listed(raw.get("images"))
    return listed, [image for image in _listed(raw.get("image")) if image not in listed]


def images_of(raw: dict[str, Any]) -> list[Any]:
    """What a row names as its images: in its turns, or in ``images`` and ``image`` if those are more; of any type."""
    turns = _turns_of(raw)[1]
    dicts = (turn for turn in turns if isinstance(turn, dict)) if isinstance(turns, list) else ()
    contents = (turn.get("content", turn.get("value")) for turn in dicts)
    items = (item for content in contents if isinstance(content, list) for item in content if isinstance(item, dict))
    inside = [image for image in map(_image_in, items) if image is not None]
    listed, more = _beside(raw)
    return [*listed, *more] if len(listed) + len(more) > len(inside) else inside


def images_in(path: str | Path) -> Iterator[str]:
    """What the records of a VECBench file name as their images, in order, for ``images.data_images``."""
    rows = (raw for _, raw, _ in read_lines(path) if isinstance(raw, dict))
    return (image for raw in rows for image in images_of(raw) if isinstance(image, str) and image)


def image_of(raw: dict[str, Any]) -> str | None:
    """The first image that a record or result names, whatever else is wrong with it; None without one."""
    return next((image for image in images_of(raw) if isinstance(image, str)), None)


def label_of(raw: dict[str, Any]) -> Any:
    """What a row states as its label, under ``ground_truth`` or ``label``; may be of any type."""
    truth = raw.get("ground_truth")
    return raw.get("label") if truth is None else truth


def check_text(field_name: str, text: str, fail: Callable[[str, str], NoReturn], limit: int | None = None) -> None:
    """Calls ``fail`` for text that is longer than ``limit`` characters, or no Unicode text."""
    if limit is not None and len(text) > limit:
        fail(field_name, f"at most {limit} characters, got {len(text)}")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON can spell half of a character: no tokenizer, no plot takes it
            half = describe(text[error.start : error.start + 1])
            fail(field_name, f"Unicode text, got the lone surrogate {half} at character {error.start}")


def _text_items(field_name: str, text: str, fail: Callable[[str, str], NoReturn]) -> list[dict[str, str]]:
    """A text, split at each ``<image>``: where an image is, in ms-swift's, verl's and LLaVA's files."""
    check_text(field_name, text, fail, MAX_TEXT)
    for token in IMAGE_TOKENS:
        if token in text:
            fail(field_name, f"text without {token}, which marks an image's pixels")
    items: list[dict[str, str]] = []
    for i, part in enumerate(text.split(IMAGE)):
        items += ([{"type": "image"}] if i else []) + ([{"type": "text", "text": part}] if part else [])
    return items


def _read_turn(turn: Any, where: str, fail: Callable[[str, str], NoReturn]) -> dict[str, Any]:
    role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
    if not isinstance(role, str):
        fail(where, f'an object with a string "role" (or "from"), got {describe(turn)}')
    check_text(f"{where}.role", role, fail, MAX_NAME)
    role, content = ROLES.get(role, role), turn.get("content", turn.get("value"))
    if isinstance(content, str):
        return {"role": role, "content": _text_items(f"{where}.content", content, fail)}
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        fail(f"{where}.content", f"a string or a list of objects, got {describe(content)}")
    items: list[dict[str, str]] = []
    for j, item in enumerate(content):
        is_image = _image_in(item) is not None or item.get("type") == "image"
        if not is_image and not isinstance(item.get("text"), str):
            fail(f"{where}.content[{j}]", f'"text" or "image", got {describe(item)}')
        items += [{"type": "image"}] if is_image else []
        items += _text_items(f"{where}.content[{j}]", item["text"], fail) if isinstance(item.get("text"), str) else []
    return {"role": role, "content": items}


def _n_places(turns: list[dict[str, Any]]) -> int:
    """How many images the turns, as ``_read_turn`` gives them, have a place for."""
    return sum(item["type"] == "image" for turn in turns for item in turn["content"])


def read_conversation(
    raw: dict[str, Any], fail: Callable[[str, str], NoReturn], max_images: int = 1
) -> tuple[list[dict[str, Any]] | None, list[str]]:
    """(turns, images) of a row in any layout met in practice; ``fail(field, expected)`` must raise.

    Turns are under ``conversations`` or ``messages``, with role and content or from and value; a content is a
    string or a list of items. An image is an item of a turn, or one of those (or the one) under ``images`` or
    ``image``: a path, a URL, or an object with path, url or bytes.

    Returns:
        turns: {"role": ..., "content": [{"type": "image"} or {"type": "text", "text": ...}, ...]} each, with exactly
            one place per image before the final answer; None for a row without turns.
        images: at least one and at most ``max_images`` paths or URLs, in the order of their places.
    """
    name, turns = _turns_of(raw)
    images = images_of(raw)
    wanted = "exactly one image" if max_images == 1 else f"1 to {max_images} images (max_images)"
    messages = None
    if turns is not None:
        if not isinstance(turns, list) or not turns:
            fail(name, f"a non-empty list of turns, got {describe(turns)}")
        messages = [_read_turn(turn, f"{name}[{i}]", fail) for i, turn in enumerate(turns)]
        user = next((turn for turn in messages if turn["role"] == "user"), None)
        if user is None:
            fail(name, 'at least one turn with the role "user"')
        if not 1 <= len(images) <= max_images:
            fail(name, f"{wanted}, got {len(images)}")
        asked = list(messages)
        while asked[-1]["role"] == "assistant":
            asked.pop()
        places = _n_places(asked)
        if not _n_places(messages):  # the images are beside the turns
            user["content"][:0] = [{"type": "image"} for _ in images]
        elif places != len(images):
            one_each = (
                "one place for the one image" if len(images) == 1 else f"a place for each of its {len(images)} images"
            )
            fail(name, f"{one_each}, got {places} ({IMAGE} in a text is one)")
    elif len(images) > max_images:
        fail("images", f"{wanted}, got {len(images)}")
    listed, more = _beside(raw)
    if listed and more and images == [*listed, *more]:
        fail("image", f"one of those under images, for it has no place among them, got {describe(more[0])}")
    images = images or [raw.get("image")]
    for number, image in enumerate(images, 1):
        if not isinstance(image, str) or not image:
            which = "" if len(images) == 1 else f" as image {number} of {len(images)}"
            fail("image", f"a path or URL, here or inside {name}, got {describe(image)}{which}")
    return messages, images


def check_candidates(candidates: Any, fail: Callable[[str, str], NoReturn]) -> list[str]:
    """The candidates of a decoded line; ``fail(field, expected)`` must raise."""
    if not isinstance(candidates, list) or not candidates:
        fail("candidates", f"a non-empty list of labels, got {describe(candidates)}")
    if not all(isinstance(label, str) and label for label in candidates):
        fail("candidates", f"labels that are non-empty strings, got {describe(candidates)}")
    if len(candidates) > MAX_CANDIDATES:
        fail("candidates", f"at most {MAX_CANDIDATES} labels, got {len(candidates)}")
    for label in candidates:
        check_text("candidates", label, fail, MAX_NAME)
    return candidates


def check_labels(raw: Any, fail: Callable[[str, str], NoReturn]) -> tuple[str, list[str], str]:
    """(task, candidates, ground_truth) of a decoded line, whose votes are looked at, too; ``fail`` must raise."""
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
    vote_shares(raw, candidates, fail)
    return canonical_task(task), candidates, truth


def id_of(raw: dict[str, Any], fail: Callable[[str, str], NoReturn]) -> str | None:
    """The row's own id as text; ``fail(field, expected)`` must raise."""
    sample_id = raw.get("id")
    if sample_id is None:
        return None
    if isinstance(sample_id, bool) or not isinstance(sample_id, (str, int)):
        fail("id", f"a string or an integer, got {describe(sample_id)}")
    check_text("id", str(sample_id), fail, MAX_ID)
    return str(sample_id)


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
