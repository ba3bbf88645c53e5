"""The fields of a row beside its turns and images: id, task, candidates and label, with their limits.

The checks call ``fail(field, expected)``, which must raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from inference.common.json_lines import describe
from inference.data.response import UNKNOWN, normal_label
from inference.data.vecbench import canonical_task
from inference.data.votes import vote_shares

# What a record may hold: far above any real one, and low enough for tables, plots and logs.
MAX_NAME = 200  # characters of a task or a label
MAX_ID = 1000  # characters
MAX_CANDIDATES = 1000
MAX_TEXT = 1_000_000  # characters of one text of a prompt: more than any model's context holds
RESERVED = f"another name for the label {UNKNOWN!r}, as which a response without an answer counts"


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


def check_label(field_name: str, label: str, fail: Callable[[str, str], NoReturn]) -> None:
    """Calls ``fail`` for a label that is too long, no Unicode text, or taken."""
    check_text(field_name, label, fail, MAX_NAME)
    if normal_label(label) == UNKNOWN:
        fail(field_name, RESERVED)


def check_candidates(candidates: Any, fail: Callable[[str, str], NoReturn]) -> list[str]:
    """The candidates of a decoded line; ``fail(field, expected)`` must raise."""
    if not isinstance(candidates, list) or not candidates:
        fail("candidates", f"a non-empty list of labels, got {describe(candidates)}")
    if not all(isinstance(label, str) and label for label in candidates):
        fail("candidates", f"labels that are non-empty strings, got {describe(candidates)}")
    if len(candidates) > MAX_CANDIDATES:
        fail("candidates", f"at most {MAX_CANDIDATES} labels, got {len(candidates)}")
    for label in candidates:
        check_label("candidates", label, fail)
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
    check_label("ground_truth", truth, fail)
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
