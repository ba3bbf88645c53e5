"""What a response says: the reasoning, the answer, the confidence. The only parser of responses.

Two readings stand side by side. The *published* one reproduces the published tool to the
letter, quirks included; the *corrected* one is what the tags mean. Each runs in time linear
in the response's length, whatever a model writes.

    from inference.response import read_response
    read_response("<answer>awe</answer><confidence>0.8</confidence>", ["awe", "fear"])
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

UNKNOWN = "unknown"

# The five steps of a structured chain of thought, in the order in which they are written.
REASONING_STEPS = ("element", "human", "context", "interaction", "analysis")


@dataclass(frozen=True)
class Reading:
    """Everything that evaluation knows of one response; the text is never parsed again.

    Attributes:
        published_label: prediction of the published task and group rows.
        published_overall_label: prediction of the published Overall row.
        published_confidence: the number in the first confidence tag, not clipped; None without a tag.
        published_confidence_unreadable: a tag is there but holds no number; the published
            tool drops such a row from the confidence tables.
        label: corrected prediction.
        confidence: corrected confidence in [0, 1]; None when missing, unreadable or out of range.
        well_formed: all five reasoning steps, one answer among the candidates, and a
            confidence when ``confidence`` is asked for are there in their tags.
    """

    published_label: str
    published_overall_label: str
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


def _published_label(lowered: str, candidates: tuple[str, ...]) -> str:
    answer = tag_text(lowered, "answer", newlines=False)
    return _first_candidate(answer or lowered, _lowered(candidates))


def _published_confidence(response: str) -> tuple[float | None, bool]:
    text = tag_text(response, "confidence", newlines=False)
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


def _corrected_label(lowered: str, candidates: tuple[str, ...]) -> str:
    answer = tag_text(lowered, "answer")
    if answer is None:
        return UNKNOWN
    found = set(_whole_label(candidates).findall(answer))
    return found.pop() if len(found) == 1 else UNKNOWN


_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def _corrected_confidence(response: str) -> float | None:
    text = tag_text(response, "confidence")
    if text is None:
        return None
    text = text.strip().strip("{}").strip()
    if len(text) > 40 or not _NUMBER.fullmatch(text):
        return None
    value = float(text) + 0.0  # −0 is 0
    return value if 0 <= value <= 1 else None


def read_response(response: str, candidates: list[str] | tuple[str, ...], with_confidence: bool = True) -> Reading:
    """Read one response against the record's own candidates.

    Args:
        response: the model's text.
        candidates: labels in the record's order; the order decides the published prediction.
        with_confidence: whether ``well_formed`` asks for a confidence.
    """
    candidates = tuple(candidates)
    lowered = response.lower()
    published_confidence, unreadable = _published_confidence(response)
    label = _corrected_label(lowered, candidates)
    confidence = _corrected_confidence(response)
    complete = len(reasoning_steps(response)) == len(REASONING_STEPS)
    return Reading(
        published_label=_published_label(lowered, candidates),
        published_overall_label=_first_candidate(lowered, candidates),
        published_confidence=published_confidence,
        published_confidence_unreadable=unreadable,
        label=label,
        confidence=confidence,
        well_formed=complete and label != UNKNOWN and (confidence is not None or not with_confidence),
    )
