"""Result files of other harnesses as lines of results: what lmms-eval logs, what VLMEvalKit writes.

    lines = harness_lines(Path("vecbench_samples.jsonl"), data_path=None)

Both keep the model's text, which is read by the rules that any response is read by. lmms-eval does not log the document
of a sample: ``scripts/lmms_eval`` logs its record among the metrics; for another task folder the records come from
the data file. A VLMEvalKit file of multiple choice has labels and candidates in its options. What cannot be
matched becomes an error record.

Layouts: lmms-eval 0.7.3, ``loggers/evaluation_tracker.py`` (``save_results_samples``); VLMEvalKit of August 2026,
``vlmeval/inference.py`` (``infer_data_job``) and ``vlmeval/smp/file.py`` (``dump``).
"""

from __future__ import annotations

import json
import re
import string
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from inference.common.json_lines import BYTE_ORDER_MARK, describe, one_line, read_lines, to_line
from inference.data.records import BrokenRecord, Record, RecordError, read_records
from inference.data.response import normal_label
from inference.data.vecbench import TASKS, canonical_task
from inference.metrics.result_lines import NotResults
from inference.runs.shards import result_line

SUPPORTED = (
    "JSON lines with task, candidates, ground_truth and response; lmms-eval's *_samples_*.jsonl (of --log_samples); "
    "VLMEvalKit's predictions (.xlsx, .tsv, .csv, .json)"
)
LMMS_EVAL = {"doc_id", "filtered_resps"}  # keys that each of its rows has
VLMEVALKIT = {"index", "prediction"}
OWN = {"response", "candidates", "ground_truth", "error"}  # any of these makes a line one of ours
TABLES = {".xlsx", ".tsv", ".csv"}
RECORD = {"task", "candidates", "ground_truth"}

# How the text begins that these harnesses put in the place of a response that they could not get.
NO_RESPONSE = ("[LMMS_EVAL_REQUEST_FAILED", "Failed to obtain answer")

# An option's letter as the whole answer: B, (B), B. and B:
LETTER = re.compile(r"(<answer>\s*)\(?([A-Z])\)?[.:]?(?=\s*</answer>)", re.IGNORECASE)

Row = dict[str, Any]
Fail = Callable[[str, str], NoReturn]


class Records:
    """The records of a data file, and which one a row of a harness answers.

    lmms-eval's ``doc_id`` is the position in the file. VLMEvalKit's ``index`` is an id; where no row has a record's id
    and there are as many rows as records, it is the position, from 0 or 1, if the indices are all of these, and each
    row answers the record at its own place otherwise.
    """

    def __init__(self, data_path: Path, rows: list[Any]):
        self.path = data_path
        self.items = list(read_records(data_path, max_images=sys.maxsize))  # as many as the harness has shown
        self.by_id = {item.sample_id: item for item in self.items}
        ids = [str(row.get("index")) for row in rows if isinstance(row, dict)]
        self.in_order = len(rows) == len(self.items) and not self.by_id.keys() & set(ids)
        for first in (0, 1) if self.in_order else ():
            positions = {str(place): item for place, item in enumerate(self.items, first)}
            if sorted(ids) == sorted(positions):
                self.by_id, self.in_order = positions, False

    def of(self, row: Row, place: int, fail: Fail) -> Record | BrokenRecord:
        if row.keys() >= LMMS_EVAL:
            number = row["doc_id"]
            if type(number) is not int or not 0 <= number < len(self.items):
                fail("doc_id", f"the number of a record, from 0, of {self.path}, got {describe(number)}")
            return self.items[number]
        item = self.items[place] if self.in_order else self.by_id.get(str(row["index"]))
        if item is None:
            fail("index", f"the id of a record of {self.path}, got {describe(row['index'])}")
        return item


def _checked(item: Record | BrokenRecord, field: str, label: Any, fail: Fail) -> Row:
    """What a result holds of the record, once its label is the one that the harness has."""
    if isinstance(item, BrokenRecord):
        fail("(record)", f"a usable one: {item.error}")
    if isinstance(label, str) and label.strip() and normal_label(label) != normal_label(item.ground_truth):
        fail(field, f"{item.ground_truth!r}, the label of the record in line {item.line_number}, got {describe(label)}")
    return result_line(item)


def _table_rows(path: Path) -> list[Row]:
    """The rows of an .xlsx, .tsv or .csv file, every cell as text."""
    as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    try:
        if path.suffix.lower() == ".xlsx":
            table = pd.read_excel(path, **as_text)
        else:
            table = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",", **as_text)
    except OSError:
        raise
    except Exception as error:  # pandas' own, and openpyxl's of a zip archive that is no workbook
        what = one_line(" ".join(str(error).split()))
        raise NotResults(f"{path}: expected a {path.suffix} table: {what}") from None
    return table.to_dict("records")


def _array_rows(path: Path) -> list[Any]:
    """The objects of a JSON array."""
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise NotResults(f"{path}: expected a JSON array: {one_line(str(error))}") from None
    return rows if isinstance(rows, list) else [rows]


def _is_table(path: Path) -> bool:
    """Whether it is read as a whole: a table by its name, or a JSON array that is named .json."""
    suffix = path.suffix.lower()
    if suffix != ".json":
        return suffix in TABLES
    with open(path, "rb") as handle:
        return handle.read(256).removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"["


def _keys(rows: Iterable[Any]) -> set[str]:
    """The keys of the first row that is ours or a harness's; of the first object where there is none."""
    objects = (row.keys() for row in rows if isinstance(row, dict))
    first = next(objects, set())
    known = (keys for keys in chain([first], objects) if keys & OWN or keys >= LMMS_EVAL or keys >= VLMEVALKIT)
    return set(next(known, first))


def _found(keys: set[str]) -> str:
    return f"supported are {SUPPORTED}; found {one_line(', '.join(sorted(keys)) or 'no object', 80)}"


def unknown_harness(path: Path) -> str | None:
    """What is supported, and what was found, of a JSON-lines file without any known line; None for any other file."""
    if _is_table(path):
        return None
    keys = _keys(value for _, value, _ in read_lines(path))
    return None if keys & OWN or keys >= LMMS_EVAL or keys >= VLMEVALKIT else _found(keys)


def _rows(path: Path) -> list[tuple[int, Any, str | None]] | None:
    """(line or row number, value, what is wrong with it) of a file of another harness; None for any other file.

    A table's rows are numbered as spreadsheets do: the header is row 1.

    Raises:
        OSError: when the file cannot be read, or is no JSON lines.
        NotResults: for a table or an array of another kind.
    """
    if _is_table(path):
        array = path.suffix.lower() == ".json"
        rows = _array_rows(path) if array else _table_rows(path)
        keys = _keys(rows)
        if not keys >= VLMEVALKIT:
            raise NotResults(f"{path}: {_found(keys)}")
        return [(number, row, None) for number, row in enumerate(rows, 1 if array else 2)]
    keys = _keys(value for _, value, _ in read_lines(path))
    is_other = keys >= LMMS_EVAL or (keys >= VLMEVALKIT and not keys & OWN)
    return list(read_lines(path)) if is_other else None


def _responses(row: Row, fail: Fail) -> list[str]:
    """The model's texts of a sample of lmms-eval, as it gave them: before filters and without stripping of reasoning.

    ``resps`` is left out where it equals ``filtered_resps``; lists of one are unwrapped in 0.7.3, not before.
    """
    name = "resps" if "resps" in row else "filtered_resps"
    texts = row[name]
    while isinstance(texts, list) and len(texts) == 1 and isinstance(texts[0], list):
        texts = texts[0]
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        fail(name, f"the model's text, or a list of texts, got {describe(row[name])}")
    return texts


def _answered(known: Row, texts: list[str]) -> Row:
    """The line of a result; of an error where the harness got no response."""
    if texts[0].startswith(NO_RESPONSE):
        return {**known, "error": one_line(texts[0])}
    others = [text for text in texts[1:] if not text.startswith(NO_RESPONSE)]
    return {**known, "response": texts[0], **({"other_responses": others} if others else {})}


def _logged_record(row: Row) -> Row | None:
    """The record that ``scripts/lmms_eval`` logs among the metrics."""
    inside = next((value for value in row.values() if isinstance(value, dict) and value.keys() >= RECORD), None)
    return None if inside is None else {key: value for key, value in inside.items() if key != "error"}


def _lmms_eval_result(row: Row, item: Record | BrokenRecord | None, fail: Fail) -> Row:
    known = _logged_record(row) if item is None else _checked(item, "target", row.get("target"), fail)
    if known is None:
        fail("doc_id", "its record in the line, as scripts/lmms_eval logs it, or --data_path with the records")
    return _answered(known, _responses(row, fail))


def _task(row: Row, path: Path) -> str | None:
    """The task of a VLMEvalKit row: its column task, a VECBench task in category, or at the end of the file's name."""
    if isinstance(row.get("task"), str):
        return row["task"]
    if canonical_task(str(row.get("category"))) in TASKS:
        return row["category"]
    return next((name for name in TASKS if path.stem.lower().endswith(f"_{name}".lower())), None)


def _vlmevalkit_result(row: Row, item: Record | BrokenRecord | None, path: Path, fail: Fail) -> Row:
    row = {key: value for key, value in row.items() if value not in (None, "") and value == value}  # NaN is empty, too
    options = {letter: str(row[letter]) for letter in string.ascii_uppercase if letter in row}
    answer = row.get("answer")
    label = options.get(str(answer).strip(), answer)
    prediction = row.get("prediction")
    if not isinstance(prediction, str):
        fail("prediction", f"the model's text, got {'nothing' if prediction is None else describe(prediction)}")
    if item is not None:
        known = _checked(item, "answer", label, fail)
    else:
        if not options:
            fail("A", "the labels in the columns A, B, C …, or --data_path with the records")
        task = _task(row, path)
        if task is None:
            fail("task", "a task in this column, in category or at the end of the file's name, or --data_path")
        known = {"sample_id": str(row["index"])} if "index" in row else {}
        known |= {"task": task, "ground_truth": label}
        known |= {"candidates": list(options.values())}
        known |= {"image": row["image_path"]} if isinstance(row.get("image_path"), str) else {}
    if isinstance(row.get("thinking"), str):  # SPLIT_THINK takes it out of the prediction
        prediction = f"<think>{row['thinking']}</think>{prediction}"
    # A record has labels; a model that was shown options may answer with the letter of one.
    written = {candidate.lower() for candidate in known["candidates"]}

    def text_of(match: re.Match[str]) -> str:
        letter = match[2].upper()
        return match[1] + options[letter] if letter in options and letter.lower() not in written else match[0]

    return _answered(known, [LETTER.sub(text_of, prediction)])


def harness_lines(path: Path, data_path: Path | None) -> list[bytes] | None:
    """The rows of another harness's file, each as a line of results or an error record; None for any other file.

    Args:
        data_path: VECBench records that the rows are matched with (``Records``). Without it they must bring labels and
            candidates along.

    Raises:
        OSError: when a file cannot be read, or is no JSON lines.
        NotResults: for a table, or a JSON array, of another kind.
    """
    rows = _rows(path)
    if rows is None:
        return None
    records = None if data_path is None else Records(data_path, [row for _, row, _ in rows])
    lines: list[bytes] = []
    for place, (number, row, problem) in enumerate(rows):
        item, known = None, {"line": number}  # known: of an error record

        def fail(field: str, expected: str, number: int = number) -> NoReturn:
            raise RecordError(str(path), number, field, expected)

        try:
            if problem is not None or not isinstance(row, dict):
                fail("(line)", (problem or f"a JSON object, got {describe(row)}").removeprefix("expected "))
            if not (row.keys() >= LMMS_EVAL or row.keys() >= VLMEVALKIT):
                fail("(line)", f"the keys {' and '.join(sorted(LMMS_EVAL))}, or {' and '.join(sorted(VLMEVALKIT))}")
            if (logged := _logged_record(row)) is not None:
                known = logged
            elif records is not None:
                item = records.of(row, place, fail)
                known = result_line(item)
            if row.keys() >= LMMS_EVAL:
                result = _lmms_eval_result(row, item, fail)
            else:
                result = _vlmevalkit_result(row, item, path, fail)
        except RecordError as error:
            result = {**known, "error": str(error)}
        lines += [b""] * (number - 1 - len(lines))  # a table's header, empty lines: each line keeps its number
        lines.append(to_line(result).encode())
    return lines
