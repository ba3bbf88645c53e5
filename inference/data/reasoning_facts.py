"""Is the reasoning true? What a response states, held against what the record says its image shows.

A record may have ``reasoning_facts``, an object for each fact that a section of the reasoning is to state:

    {"section": "human", "true": ["wide smile"], "false": ["open mouth", "tight mouth", "deep frown"]}
    {"section": "analysis", "true": ["balloons"], "false": ["rain", "litter"], "answers": ["amusement"]}

``true`` are the ways to name what is there, ``false`` the names of what might be there and is not; each is
looked for as whole words. ``answers`` are those that the fact is evidence for: beside another answer it is
not to be stated. Only generated worlds know all this; records of photographs have no such field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

from inference.common.json_lines import describe, refuse
from inference.data.response import REASONING_STEPS, UNKNOWN, named_labels, normal_label, reasoning_steps

FIELD = "reasoning_facts"
VERDICTS = ("true", "false", "missing")


class Fact(NamedTuple):
    """One object of ``reasoning_facts``; ``answers`` is None where the fact is to be stated beside any answer."""

    section: str
    true: tuple[str, ...]
    false: tuple[str, ...]
    answers: tuple[str, ...] | None


class Statement(NamedTuple):
    """What a response makes of one fact.

    Attributes:
        section: of ``REASONING_STEPS``.
        verdict: of ``VERDICTS``. A fact that the response names rightly and wrongly at once is false.
        said: the names that decided it, in ``normal_label``'s form; empty when missing.
        true: what would have been true; empty for a fact that is no evidence for the answer.
    """

    section: str
    verdict: str
    said: tuple[str, ...]
    true: tuple[str, ...]


def _names(fact: dict[str, Any], name: str, where: str, fail: Callable[[str, str], NoReturn]) -> tuple[str, ...]:
    names = fact.get(name)
    if not isinstance(names, list) or not all(isinstance(text, str) and normal_label(text) for text in names):
        fail(f"{where}.{name}", f"a list of words, got {describe(names)}")
    return tuple(names)


def read_facts(raw: dict[str, Any], fail: Callable[[str, str], NoReturn] = refuse) -> tuple[Fact, ...] | None:
    """The facts of a record or result; None without the field. ``fail(field, expected)`` must raise."""
    rows = raw.get(FIELD)
    if rows is None:
        return None
    if not isinstance(rows, list):
        fail(FIELD, f"a list of objects, got {describe(rows)}")
    facts = []
    for i, row in enumerate(rows):
        where = f"{FIELD}[{i}]"
        if not isinstance(row, dict) or row.get("section") not in REASONING_STEPS:
            fail(where, f'an object with "section" one of {", ".join(REASONING_STEPS)}, got {describe(row)}')
        true, false = _names(row, "true", where, fail), _names(row, "false", where, fail)
        if not true or set(map(normal_label, true)) & set(map(normal_label, false)):
            fail(f"{where}.true", f'at least one name, and none that is in "false", got {describe(list(true))}')
        answers = None if row.get("answers") is None else _names(row, "answers", where, fail)
        facts.append(Fact(row["section"], true, false, answers))
    return tuple(facts)


def statements(response: str, answer: str, facts: Iterable[Fact]) -> Iterator[Statement]:
    """What a response says about each fact.

    Evidence is judged by the answer that it is given for: a true observation that does not speak for that answer is
    a false statement there, and none that is missing. Without an answer nothing is said of evidence.

    Args:
        answer: ``Reading.label``.
    """
    sections = reasoning_steps(response)
    for fact in facts:
        if fact.answers is not None and answer == UNKNOWN:
            continue
        asked_for = fact.answers is None or answer in map(normal_label, fact.answers)
        true = fact.true if asked_for else ()
        said = named_labels(sections.get(fact.section, ""), fact.true + fact.false)
        wrong = said - set(map(normal_label, true))
        if wrong:
            yield Statement(fact.section, "false", tuple(sorted(wrong)), true)
        elif said:
            yield Statement(fact.section, "true", tuple(sorted(said)), true)
        elif asked_for:
            yield Statement(fact.section, "missing", (), true)
