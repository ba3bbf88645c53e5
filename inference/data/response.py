"""What a response says: the reasoning, the answer, the confidence. The only parser of responses.

There are three readings. The *published* one reproduces the published tool to the letter, quirks
included, and the one of *EmObserver* its authors' later evaluator; the *corrected* one is what the
tags mean. Each runs in time linear in the response's length, whatever a model writes.

    from inference.data.response import read_response
    read_response("<answer>awe</answer><confidence>0.8</confidence>", ["awe", "fear"])
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from inference.common.json_lines import one_line

UNKNOWN = "unknown"

# Places of a response at which its candidates can be scored: in its answer, or where it first names it.
ANSWER, FIRST_MENTION = PLACES = ("answer", "first_mention")

# The five steps of a structured chain of thought, in the order in which they are written.
REASONING_STEPS = ("element", "human", "context", "interaction", "analysis")


class Reading(NamedTuple):
    """Everything that evaluation knows of one response; the text is never parsed again.

    Attributes:
        published_overall_label: prediction of the published Overall row.
        published_label: prediction of the published task and group rows.
        published_confidence: the number in the first confidence tag, not clipped; None without a tag.
        published_confidence_unreadable: a tag is there but holds no number; the published
            tool drops such a row from the confidence tables.
        answered: whether the response has an ``<answer>`` outside the reasoning, whatever is in it.
        label: corrected prediction, in the form of ``normal_label``.
        confidence: corrected confidence in [0, 1]; None when missing, unreadable or out of range.
        unreadable_confidence: what is stated instead of one number from 0 to 1, shortened; None
            when there is one, and when nothing is stated.
        well_formed: all five reasoning steps, one answer among the candidates, and a
            confidence when ``with_confidence`` asks for one are there in their tags.
        emobserver_label: prediction of EmObserver's protocol, the candidate as it is written.
        emobserver_named: whether its answer names that candidate; otherwise it is the record's first one.
    """

    published_overall_label: str
    published_label: str
    published_confidence: float | None
    published_confidence_unreadable: bool
    answered: bool
    label: str
    confidence: float | None
    unreadable_confidence: str | None
    well_formed: bool
    emobserver_label: str
    emobserver_named: bool


def tag_span(text: str, tag: str, newlines: bool = True) -> tuple[int, int] | None:
    """Where the text of the first ``<tag>…</tag>`` is; with ``newlines=False``, of the first on one line.

    Equals ``re.search(f"<{tag}>(.*?)</{tag}>", text).span(1)`` with or without DOTALL, but never
    backtracks: the regular expression is quadratic in the number of unclosed tags.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    start = text.find(opening)
    while start >= 0:
        inside = start + len(opening)
        end = text.find(closing, inside)
        if end < 0:
            return None
        line_end = -1 if newlines else text.find("\n", inside, end)
        if line_end < 0:
            return inside, end
        # No opening tag before the last line break ahead of this closing tag can match.
        start = text.find(opening, text.rfind("\n", inside, end))
    return None


def tag_text(text: str, tag: str, newlines: bool = True) -> str | None:
    """The text at ``tag_span``, or None."""
    span = tag_span(text, tag, newlines)
    return None if span is None else text[span[0] : span[1]]


def tag_texts(text: str, tag: str) -> list[str]:
    """The text of every ``<tag>…</tag>``, newlines allowed, each pair closed before the next is looked for."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    texts, end = [], 0
    while (start := text.find(opening, end)) >= 0 and (end := text.find(closing, start + len(opening))) >= 0:
        texts.append(text[start + len(opening) : end])
    return texts


def reasoning_span(text: str) -> tuple[int, int]:
    """Where the reasoning is: from the first ``<think>`` to the last ``</think>``; (0, 0) without the latter.

    Without an opening tag it begins with the text: chat templates may put the tag into the prompt.
    """
    end = text.rfind("</think>")
    return (max(text.find("<think>", 0, end), 0), end) if end >= 0 else (0, 0)


def answer_span(text: str) -> tuple[int, int] | None:
    """Where the text of the first ``<answer>`` outside the reasoning is."""
    start, end = reasoning_span(text)
    if before := tag_span(text[:start], "answer"):
        return before
    after = tag_span(text[end:], "answer")
    return after and (end + after[0], end + after[1])


def _thought(response: str) -> str:
    """What the first ``<think>…</think>`` holds; of a closing tag alone, what is before it."""
    text = tag_text(response, "think")
    if text is None:  # chat templates of thinking models put the opening tag into the prompt
        before, closing, _ = response.partition("</think>")
        return before if closing else ""
    return text


def has_all_steps(response: str) -> bool:
    """Whether all five named steps are inside ``<think>``, whatever is in them."""
    thought = _thought(response)
    return all(tag_span(thought, step) for step in REASONING_STEPS)


def reasoning_steps(response: str) -> dict[str, str]:
    """step → text of the five named steps inside ``<think>``; steps that are missing are left out."""
    thought = _thought(response)
    texts = {step: tag_text(thought, step) for step in REASONING_STEPS}
    return {step: text.strip() for step, text in texts.items() if text is not None}


def _first_candidate(text: str, candidates: tuple[str, ...]) -> str:
    return next((candidate for candidate in candidates if candidate in text), UNKNOWN)


def _published_confidence(text: str | None) -> tuple[float | None, bool]:
    if text is None:
        return None, False
    try:
        value = float(text.replace("{", "").replace("}", ""))
    except ValueError:
        return None, True
    # float() takes "nan", which is no number and would turn every metric of its group into one.
    return (None, True) if value != value else (value, False)


def normal_form(text: str) -> str:
    """``text`` as the corrected protocol compares labels: lower case, NFKC, no format characters, straight
    apostrophes, single blanks.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    # Normalization takes time quadratic in a run of marks; Unicode's stream-safe text has at most 30 in a row.
    text = unicodedata.normalize("NFKC", re.sub(r"(\W{30})\W+", r"\1", text)).lower()
    text = "".join(character for character in text if unicodedata.category(character) != "Cf").replace("’", "'")
    return " ".join(unicodedata.normalize("NFKC", text).split())


normal_label = lru_cache(maxsize=4096)(normal_form)  # of labels, which come again and again

# Scripts written without blanks between words: a label ends where it ends. Thai to Tibetan, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Vowel signs and accents belong to their word; they are not among re's word characters.
_MARKS = "".join(
    mark
    for mark in map(chr, [*range(0x300, 0x2100), *range(0xA600, 0xAC00)])
    if unicodedata.category(mark).startswith("M") and not re.match(f"[{_UNSPACED}]", mark)
)
_LETTER = rf"[^\W_{_UNSPACED}]|[{_MARKS}]"
_EDGE = re.compile(rf"(?<![^\W_{_UNSPACED}])(?<![{_MARKS}])|(?!{_LETTER})")  # any place but between two letters


def _with_edges(text: str) -> str:
    """``text`` with a NUL wherever a label may begin or end."""
    return _EDGE.sub("\0", text)


@lru_cache(maxsize=1024)
def _labels_by_pattern(candidates: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """(pattern that finds whole labels in a text ``_with_edges``, what it finds → the label)."""
    labels = {_with_edges(label)[:-1]: label for label in map(normal_label, candidates) if label}
    # Longest first: of "joy" and "joy of life" at one place, the longer label is meant.
    pattern = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
    return re.compile(f"(?:{pattern})(?=\0)" if pattern else "(?!)"), labels


@lru_cache(maxsize=4096)
def _labels_in(text: str, candidates: tuple[str, ...]) -> frozenset[str]:
    pattern, labels = _labels_by_pattern(candidates)
    return frozenset(labels[whole] for whole in pattern.findall(_with_edges(normal_form(text))))


def named_labels(text: str, candidates: tuple[str, ...]) -> frozenset[str]:
    """The candidates that are whole words of a text, in the form of ``normal_label``."""
    # Short texts come again and again; long ones are not worth their place in the cache.
    return (_labels_in if len(text) <= 100 else _labels_in.__wrapped__)(text, candidates)


@lru_cache(maxsize=1024)
def _written_labels(candidates: tuple[str, ...]) -> re.Pattern[str]:
    names = sorted((name for candidate in candidates if (name := candidate.strip())), key=len, reverse=True)
    letter = rf"[^\W_{_UNSPACED}]"
    pattern = "|".join(map(re.escape, names)) or "(?!)"
    return re.compile(rf"(?<!{letter})(?:{pattern})(?!{letter})", re.IGNORECASE)


def label_places(text: str, candidates: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
    """(start, end, label) of each candidate that is a whole word of a text in any case; at each place the longest.

    In the text as it is written, for its places; ``named_labels`` compares normal forms and so finds more.
    """
    for match in _written_labels(candidates).finditer(text):
        yield *match.span(), normal_label(match[0])


def first_mention(response: str, candidates: tuple[str, ...]) -> tuple[int, int] | None:
    """(start, end) of the characters in which a response first names its answer, as a whole word in any case.

    In its reasoning, as a rule, and in the answer at the latest. None where the answer names no candidate, or several.
    """
    answer = answer_span(response)
    named = named_labels(response[slice(*answer)], candidates) if answer else ()
    if len(named) != 1:
        return None
    return next(((start, end) for start, end, label in label_places(response, candidates) if label in named), answer)


def _corrected_label(answers: list[str], candidates: tuple[str, ...]) -> str:
    named = frozenset().union(*(named_labels(answer, candidates) for answer in answers))
    return next(iter(named)) if len(named) == 1 else UNKNOWN


_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def _number(text: str) -> float | None:
    text = text.strip().strip("{}").strip()
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text) + 0.0  # −0 is 0
    return value if 0 <= value <= 1 else None


def _corrected_confidence(stated: list[str]) -> tuple[float | None, str | None]:
    """(the one number from 0 to 1, None), or (None, what is stated instead)."""
    numbers = set(map(_number, stated)) - {None}
    if len(numbers) == 1:
        return numbers.pop(), None
    return None, one_line(", ".join(dict.fromkeys(map(str.strip, stated))), 60) if stated else None


_ANSWER, _ANSWER_END = (re.compile(tag, re.IGNORECASE) for tag in ("<answer>", "</answer>"))


def _emobserver_answer(response: str) -> str:
    """The first ``<answer>…</answer>``, else what follows the last ``<answer>`` or ``</think>``, else the response.

    That evaluator looks for the last tag in the lower-cased text and cuts the response there: where lower case is
    longer (İ), it cuts later.
    """
    opening = _ANSWER.search(response)
    closing = opening and _ANSWER_END.search(response, opening.end())
    if closing:
        return response[opening.end() : closing.start()]
    lowered = response.lower()
    last = max((lowered.rfind(tag), len(tag)) for tag in ("<answer>", "</think>"))
    return response if last[0] < 0 else response[sum(last) :]


def _emobserver_choice(response: str, candidates: tuple[str, ...]) -> tuple[str, bool]:
    """(the first candidate that the answer names, True), or (the first of all or "", False)."""
    answer = _emobserver_answer(response).lower()
    named = next((candidate for candidate in candidates if candidate.lower() in answer), None)
    return ("".join(candidates[:1]), False) if named is None else (named, True)


def read_response(response: str, candidates: list[str] | tuple[str, ...], with_confidence: bool = True) -> Reading:
    """Read one response against the record's own candidates.

    Args:
        response: the model's text.
        candidates: labels in the record's order; the order decides the published prediction.
        with_confidence: whether ``well_formed`` asks for a confidence.
    """
    candidates = tuple(candidates)
    lowered = response.lower()
    start, end = reasoning_span(lowered)
    outside = lowered[:start] + lowered[end:]
    answers = tag_texts(outside, "answer")
    label = _corrected_label(answers, candidates)
    confidence, unreadable = _corrected_confidence(tag_texts(outside, "confidence"))
    return Reading(
        _first_candidate(lowered, candidates),
        _first_candidate(tag_text(lowered, "answer", newlines=False) or lowered, tuple(map(str.lower, candidates))),
        *_published_confidence(tag_text(response, "confidence", newlines=False)),
        bool(answers),
        label,
        confidence,
        unreadable,
        label != UNKNOWN and (confidence is not None or not with_confidence) and has_all_steps(response),
        *_emobserver_choice(response, candidates),
    )
