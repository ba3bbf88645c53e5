"""What is doubtful in records and results, though it can be read: each kind said once, with its count and first place.

doubts = Doubts()
doubts.add(label_doubt("A", ("awe", "fear")), "line 3")
doubts.lines()      # ["1 row: the label is none of the candidates, so no answer counts as right; first: line 3"]
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from inference.common.json_lines import one_line
from inference.data.records import BrokenRecord, Record
from inference.data.response import normal_label, read_response
from inference.data.vecbench import TASK_ALIASES, TASKS

UNMATCHABLE = "the label is none of the candidates, so no answer counts as right"
MISREAD = (
    "an answer that is the label counts as wrong under {}: "
    "its candidate is written otherwise (capitals, blanks, Unicode), or an earlier one is a part of it"
)


class Doubts:
    """Sentences about rows; each with the number of its rows and the place of the first."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, doubt: str | None, first: str, rows: int = 1) -> None:
        """Count ``rows`` under ``doubt``; None is no doubt."""
        if doubt is not None and rows:
            self._rows[doubt] = self._rows.get(doubt, 0) + rows
            self._first.setdefault(doubt, first)

    def rows(self, doubt: str) -> int:
        return self._rows.get(doubt, 0)

    def lines(self) -> list[str]:
        return [
            f"{rows} row{'s' if rows > 1 else ''}: {doubt}; first: {self._first[doubt]}"
            for doubt, rows in self._rows.items()
        ]


@lru_cache(maxsize=4096)
def label_doubt(truth: str, candidates: tuple[str, ...]) -> str | None:
    """What is doubtful about a row's label and candidates: under which protocols not even the label itself is right."""
    if normal_label(truth) not in map(normal_label, candidates):
        return UNMATCHABLE
    usual = unicodedata.normalize("NFC", " ".join(truth.split()))
    reading = read_response(f"<answer>{usual}</answer>", candidates)
    wrong = {
        "the published protocol": reading.published_label != truth.lower(),
        "the published Overall row": reading.published_overall_label != truth.lower(),
        "EmObserver's protocol": reading.emobserver_label != truth,
    }
    return MISREAD.format(", ".join(name for name in wrong if wrong[name])) if any(wrong.values()) else None


def _letters(task: str) -> str:
    return re.sub(r"[\W_]", "", task).lower()


_TASKS_BY_LETTERS = {_letters(name): TASK_ALIASES.get(name, name) for name in (*TASKS, *TASK_ALIASES)}


def task_doubt(task: str) -> str | None:
    """What is doubtful about a task that VECBench does not have, but has under nearly the same name."""
    meant = _TASKS_BY_LETTERS.get(_letters(task))
    if meant is None or task in TASKS or task in TASK_ALIASES:
        return None
    return f"task {one_line(repr(task))} counts in no group: VECBench's task is {meant}"


def record_doubts(items: Iterable[Record | BrokenRecord]) -> tuple[Doubts, int]:
    """(doubts about a data file's records, number of its usable records)."""
    doubts, known, n_records = Doubts(), set(), 0
    for item in items:
        if isinstance(item, BrokenRecord):
            continue
        n_records += 1
        place = f"line {item.line_number}"
        doubts.add(label_doubt(item.ground_truth, tuple(item.candidates)), place)
        doubts.add(task_doubt(item.task), place)
        task = TASKS.get(item.task)
        if task and set(item.candidates) != set(task.labels):
            doubts.add(f"candidates of {task.name} differ from VECBench's", place)
        own_id = item.sample_id.rpartition("#")[0]  # where read_records has numbered an id that came before
        if own_id in known:
            doubts.add("an earlier row has the same id or content; each is inferred and counted", place)
        known.add(item.sample_id)
    return doubts, n_records


# What differs between errors of one kind: a value that was found, a file, a number.
VARYING = re.compile(r"(?<!field )'[^']*'|\"[^\"]*\"|\S*/\S*|\d+")


def most_frequent_error(errors: Iterable[str]) -> str:
    """The error that most rows have, whatever their place, file and values, and how many have it."""
    kinds: Counter[str] = Counter()
    first: dict[str, str] = {}
    for error in errors:
        kind = VARYING.sub("", re.sub(r"^(.*?, )?line \d+(, |: )", "", error))
        kinds[kind] += 1
        first.setdefault(kind, error)
    ((kind, rows),) = kinds.most_common(1)
    return f"{first[kind]} ({rows} of {kinds.total()} alike)"
