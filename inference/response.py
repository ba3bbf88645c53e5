"""What a response says: the reasoning, the answer, the confidence. The only parser of responses.

Two readings stand side by side. The *published* one reproduces the published tool to the
letter, quirks included; the *corrected* one is what the tags mean. Each runs in time linear
in the response's length, whatever a model writes.

    from inference.response import read_response
    read_response("<answer>awe</answer><confidence>0.8</confidence>", ["awe", "fear"])
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

UNKNOWN = "unknown"

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
        label: corrected prediction.
        confidence: corrected confidence in [0, 1]; None when missing, unreadable or out of range.
        well_formed: all five reasoning steps, one answer among the candidates, and a
            confidence when ``confidence`` is asked for are there in their tags.
    """

    published_overall_label: str
    published_label: str
    published_confidence: float | None
    published_confidence_unreadable: bool
    label: str
    confidence: float | None
    well_formed: bool


def tag_span(text: str, tag: str, newlines: bool = True) -> tuple[int, int] | None:
    """Where the text of the first ``<tag>…</tag>`` stands; with ``newlines=False``, of the first on one line.

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


def reasoning_steps(response: str) -> dict[str, str]:
    """step → text of the five named steps inside ``<think>``; steps that are missing are left out."""
    thought = tag_text(response, "think")
    if thought is None:
        return {}
    found = {step: tag_text(thought, step) for step in REASONING_STEPS}
    return {step: text.strip() for step, text in found.items() if text is not None}


def _first_candidate(text: str, candidates: tuple[str, ...]) -> str:
    for candidate in candidates:  # a loop: a generator costs more than the search itself
        if candidate in text:
            return candidate
    return UNKNOWN


@lru_cache(maxsize=1024)
def _lowered(candidates: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(candidate.lower() for candidate in candidates)


def _published_confidence(text: str | None) -> tuple[float | None, bool]:
    if text is None:
        return None, False
    try:
        value = float(text.replace("{", "").replace("}", ""))
    except ValueError:
        return None, True
    # float() takes "nan", which is no number and would turn every figure of its group into one.
    return (None, True) if value != value else (value, False)


@lru_cache(maxsize=1024)
def _whole_label(candidates: tuple[str, ...]) -> re.Pattern[str]:
    # Longest first: of "joy" and "joy of life" at one place, the longer label is meant.
    labels = sorted({candidate.lower() for candidate in candidates}, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, labels)) + r")(?!\w)")


def _corrected_label(answer: str | None, candidates: tuple[str, ...]) -> str:
    if answer is None:
        return UNKNOWN
    found = set(_whole_label(candidates).findall(answer))
    return found.pop() if len(found) == 1 else UNKNOWN


_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def _corrected_confidence(text: str | None) -> float | None:
    if text is None:
        return None
    text = text.strip().strip("{}").strip()
    if len(text) > 40 or not _NUMBER.fullmatch(text):
        return None
    value = float(text) + 0.0  # −0 is 0
    return value if 0 <= value <= 1 else None


class _Tags(NamedTuple):
    """Texts of a response's tags, None where there is none; ``*_line``: both tags of a pair on one line."""

    answer: str | None  # lower-cased, as both readings want it
    answer_line: str | None
    confidence: str | None
    confidence_line: str | None
    complete: bool  # all five steps of the reasoning are there


# What a trained model writes as good as always: each tag once and in order, no other "<". Nothing has to be
# searched for then: one match gives what ``_search_tags`` would find, in a fifth of the time.
_AS_TAUGHT = re.compile(
    r"\s*<think>"
    + "".join(rf"\s*<{step}>[^<]*+</{step}>" for step in REASONING_STEPS)
    + r"\s*</think>\s*<answer>([^<\n]{1,100}+)</answer>\s*<confidence>([^<\n]{1,100}+)</confidence>\s*",
    re.ASCII,
)


def _search_tags(response: str, lowered: str) -> _Tags:
    return _Tags(
        answer=tag_text(lowered, "answer"),
        answer_line=tag_text(lowered, "answer", newlines=False),
        confidence=tag_text(response, "confidence"),
        confidence_line=tag_text(response, "confidence", newlines=False),
        complete=len(reasoning_steps(response)) == len(REASONING_STEPS),
    )


def _judge(tags: _Tags, lowered: str, candidates: tuple[str, ...], with_confidence: bool) -> tuple:
    """The fields of ``Reading`` after the first."""
    label = _corrected_label(tags.answer, candidates)
    confidence = _corrected_confidence(tags.confidence)
    return (
        _first_candidate(tags.answer_line or lowered, _lowered(candidates)),
        *_published_confidence(tags.confidence_line),
        label,
        confidence,
        tags.complete and label != UNKNOWN and (confidence is not None or not with_confidence),
    )


@lru_cache(maxsize=4096)
def _judge_as_taught(answer: str, confidence: str, candidates: tuple[str, ...], with_confidence: bool) -> tuple:
    """``_judge`` for what ``_AS_TAUGHT`` matched, once for all responses that say the same."""
    return _judge(_Tags(answer, answer, confidence, confidence, True), answer, candidates, with_confidence)


def read_response(response: str, candidates: list[str] | tuple[str, ...], with_confidence: bool = True) -> Reading:
    """Read one response against the record's own candidates.

    Args:
        response: the model's text.
        candidates: labels in the record's order; the order decides the published prediction.
        with_confidence: whether ``well_formed`` asks for a confidence.
    """
    candidates = tuple(candidates)
    lowered = response.lower()
    # Outside ASCII lower-casing may depend on what stands beside a letter, and change a text's length.
    taught = _AS_TAUGHT.fullmatch(response) if response.isascii() else None
    if taught is None:
        judged = _judge(_search_tags(response, lowered), lowered, candidates, with_confidence)
    else:
        answer, confidence = taught.groups()
        judged = _judge_as_taught(answer.lower(), confidence, candidates, with_confidence)
    return Reading(_first_candidate(lowered, candidates), *judged)
