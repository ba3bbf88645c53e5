"""Rows of training and test files, in every layout met in practice, in one form.

    from scripts.data.samples import read_samples
    for sample in read_samples("input_data/VEC-CoT/stage1_86k.jsonl"): ...

Files: JSON lines, a JSON array, parquet. Turns and image are read as inference reads them
(``inference.data.layouts.read_conversation``). Lines and parquet of any length need the memory of a few
rows, an array that of its text. What cannot be read becomes a ``BrokenSample``; nothing is dropped.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq

from inference.common.json_lines import describe, invalid_byte, one_line, read_lines, refuse_binary, too_deep
from inference.data.fields import MAX_NAME, check_candidates, check_text, id_of, label_of
from inference.data.layouts import IMAGE, read_conversation
from inference.data.prompts import recognition_messages
from inference.data.records import RecordError
from inference.data.response import tag_text
from inference.data.vecbench import TASKS, canonical_task
from train.cus_reward import answer_word

PARQUET_BATCH = 64  # rows held at once; embedded images are large
SEPARATORS = re.compile(r"[\s,]*")
NUMBER = re.compile(r"[-+−]?[\d.]+ ?%?")


@dataclass
class Sample:
    """One row.

    Attributes:
        line_number: of the file, from 1; in an array or parquet file, the rank of the row.
        messages: turns as {"role", "content"} with one ``<image>`` mark, without the last answer.
        answer: the last turn when it is the assistant's: reasoning, answer, confidence.
        images: its one image: a path, URL or data URL.
        ground_truth: the label; taken from the answer when the row does not state it.
        candidates: the row's own, or those in square brackets in its question (of several lists the last that holds
            the label), or its task's.
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


@dataclass
class BrokenSample:
    """A row that could not be read: what was expected, and what there is of it."""

    line_number: int
    error: str
    raw: Any = field(default=None, repr=False)


def _json_array(path: Path) -> Iterator[tuple[int, Any, str | None]]:
    """(rank, object, None) for each element of a top-level array.

    Where an element is broken, the start of the next one is unknown: that ends it, with a problem.
    """
    # An invalid byte becomes a lone surrogate, which is refused in its own row, not in the file.
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    opening = re.match(r"\s*\[", text)  # without it, objects that follow one another are read as well
    position = opening.end() if opening else 0
    for rank in itertools.count(1):
        start = SEPARATORS.match(text, position).end()
        if text[start : start + 1] == ("]" if opening else ""):
            return
        try:
            value, position = json.JSONDecoder().raw_decode(text, start)
        except (RecursionError, ValueError) as error:
            reason = one_line(getattr(error, "msg", str(error)))
            yield rank, None, f"expected one JSON object, {reason}; nothing after it can be read"
            return
        if too_deep(value, text[start:position]):
            problem = "expected one JSON object, got one nested too deeply"
        else:
            problem = invalid_byte(text[start:position])
        yield rank, None if problem else value, problem


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


def bracketed_lists(text: str) -> list[list[str]]:
    """Every list in square brackets, split at its commas, without quotes: the form in which prompts name candidates."""
    found = re.findall(r"\[([^\[\]]*)\]", text)
    return [[name for item in listed.split(",") if (name := item.strip(" \t\n'\""))] for listed in found]


def list_with(label: str, lists: list[list[str]]) -> list[str] | None:
    """The last of the lists that holds the label, whatever its case; None without one."""
    known = label.strip().casefold()
    return next((listed for listed in reversed(lists) if known in map(str.casefold, listed)), None)


def _candidates(raw: dict[str, Any], question: str, label: str | None, task: str | None, fail: Any) -> list[str] | None:
    if raw.get("candidates") is not None:
        return check_candidates(raw["candidates"], fail)
    lists = [listed for listed in bracketed_lists(question) if len(listed) > 1]
    if listed := list_with(label or "", lists):
        return listed
    known = [TASKS[task].labels] if task in TASKS else []
    of_words = [listed for listed in lists if not all(map(NUMBER.fullmatch, listed))]  # [0, 1] is a range
    return next((list(labels) for labels in (*of_words, *known)), None)


def parse_sample(raw: Any, source: str, line_number: int) -> Sample:
    """One decoded row as a Sample.

    Raises:
        RecordError: naming file, line, field and what was expected there.
    """

    def fail(field_name: str, expected: str) -> NoReturn:
        raise RecordError(source, line_number, field_name, expected)

    if not isinstance(raw, dict):
        fail("(line)", f"a JSON object, got {describe(raw)}")
    turns, images = read_conversation(raw, fail)
    if turns is None:  # a test record without a prompt of its own is asked the released model's question
        if not isinstance(raw.get("candidates"), list):
            fail("messages", "a list of turns, here or in conversations, or candidates to ask for")
        turns = recognition_messages([str(label) for label in raw["candidates"]])
    texts = ["".join(IMAGE if item["type"] == "image" else item["text"] for item in turn["content"]) for turn in turns]
    messages = [{"role": turn["role"], "content": text} for turn, text in zip(turns, texts, strict=True)]
    answer = messages.pop()["content"] if messages[-1]["role"] == "assistant" else None

    truth = label_of(raw)
    if truth is None and answer is not None:
        truth = (tag_text(answer, "answer") or "").strip() or None
    if truth is not None and (not isinstance(truth, str) or not truth):
        fail("ground_truth", f"a label, got {describe(truth)}")
    check_text("ground_truth", truth or "", fail, MAX_NAME)
    task = raw.get("task")
    if task is not None and not isinstance(task, str):
        fail("task", f"a task name, got {describe(task)}")
    check_text("task", task or "", fail, MAX_NAME)
    task = canonical_task(task) if task else None
    question = "\n".join(message["content"] for message in messages)
    return Sample(
        line_number=line_number,
        messages=messages,
        answer=answer,
        images=images,
        ground_truth=truth,
        candidates=_candidates(raw, question, truth, task, fail),
        task=task,
        sample_id=id_of(raw, fail),
        raw=raw,
    )


def images_in(path: str | Path) -> Iterator[str]:
    """What each readable row of a file names as its image, in order, for ``inference.data.images.data_images``."""
    return (item.images[0] for item in read_samples(path) if isinstance(item, Sample))


def reward_problem(label: str, candidates: list[str] | None) -> str | None:
    """Why the reward of stage 3 cannot count a label as right, or not tell it from others; None if it can."""
    if answer_word(label) != label.lower():
        expected = "one word without punctuation, which is all that the reward of stage 3 counts as right"
        return f"field 'ground_truth': expected {expected}, got {describe(label)}"
    alike = [other for other in dict.fromkeys(candidates or ()) if answer_word(other) == label.lower()]
    if candidates and not alike:
        listed = one_line(", ".join(candidates), 100)
        return f"field 'ground_truth': expected one of the candidates {listed}, got {describe(label)}"
    if len(alike) > 1:
        return f"field 'candidates': expected labels that differ without case and punctuation, got {describe(alike)}"
    return None


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
