"""What a teacher's response must be, to become training data; each failed check has a reason.

    from scripts.build_vec_cot.verify import Limits, problems
    problems(response, "awe", Limits(40, 600))    # [] or [Problem("leak", "…"), …]

The codes of the checks:

    truncated         the response did not end at the token limit
    missing_section   <think>, each of the five sections and <answer> are there
    repeated_section  each is there once
    empty_section     each has text
    markup            no other tag, <image> or special token inside a section: training would misread it
    layout            sections in order inside <think>, then the answer; nothing outside them. A confidence
                      may follow the answer and is dropped: stage 2's is measured
    wrong_answer      the answer is the label, whatever its case
    leak              no phrase that gives away that the answer was given (LEAKS)
    too_short         at least so many words in the five sections together
    too_long          at most so many
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from inference.data.response import REASONING_STEPS, reasoning_steps, tag_text

SECTIONS = ("think", *REASONING_STEPS, "answer")

# Phrases of a writer who was given the answer; case-insensitive, whole words. An innocent hit ("the
# label on the bottle") costs one more attempt, a miss teaches the model to cite a label it never sees.
LEAKS = (
    r"(?:the|this|given|provided|correct|true|actual|target|assigned) labels?",
    r"labels? (?:says?|is|are|was|were|given|provided|states?|indicates?|suggests?)",
    r"labell?ed as",
    r"ground[- ]?truths?",
    r"annotat(?:ed|ion|ions|or|ors)",
    r"(?:given|provided|specified|assigned|target|predetermined|correct|true) (?:emotion|answer|sentiment|category)s?",
    r"(?:emotion|answer|sentiment|category) (?:that )?(?:was|is|has been) (?:given|provided|specified|assigned)",
    r"(?:correct|right|expected) answer",
    r"as (?:was |were )?(?:specified|instructed|requested|provided|told|required)",
    r"(?:i|we) (?:was|were|am|are|have been) (?:told|given|asked|instructed|informed)",
    r"(?:according to|based on|given) the (?:prompt|instructions?|question|task|options?|candidates?)",
    r"the (?:prompt|instructions?|question|task|options|candidates) (?:says?|states?|asks?|lists?|gives?|requires?)",
    r"people say that this image",
)
LEAK = re.compile(r"\b(?:" + "|".join(LEAKS) + r")\b", re.IGNORECASE)
MARKUP = re.compile(r"<[^<>\s][^<>]*>")


@dataclass(frozen=True)
class Limits:
    """Fewest and most words of the five sections together.

    Raises:
        ValueError: when the bounds are not 0 < min_words <= max_words.
    """

    min_words: int = 40
    max_words: int = 600

    def __post_init__(self):
        if not 0 < self.min_words <= self.max_words:
            raise ValueError(f"expected 0 < min_words <= max_words, got {self.min_words} and {self.max_words}")


@dataclass(frozen=True)
class Problem:
    """A failed check: its code for counting, its text for people."""

    code: str
    text: str


def compose(sections: dict[str, str], label: str) -> str:
    """The response that training shows: the five sections and the answer, no confidence."""
    thought = "".join(f"<{step}>{sections[step]}</{step}>" for step in REASONING_STEPS)
    return f"<think>{thought}</think><answer>{label}</answer>"


def _form_problems(response: str) -> list[Problem]:
    failed = []
    for name in SECTIONS:
        count = max(response.count(f"<{name}>"), response.count(f"</{name}>"))
        if tag_text(response, name) is None:
            failed.append(Problem("missing_section", f"expected <{name}>…</{name}>"))
        elif count > 1:
            failed.append(Problem("repeated_section", f"expected <{name}> once, got it {count} times"))
    if failed:
        return failed
    sections = reasoning_steps(response)
    for step in REASONING_STEPS:
        if step not in sections:
            failed.append(Problem("layout", f"expected <{step}> inside <think>"))
        elif not sections[step]:
            failed.append(Problem("empty_section", f"expected text in <{step}>"))
        elif markup := MARKUP.search(sections[step]):
            failed.append(Problem("markup", f"expected plain text in <{step}>, got {markup[0]}"))
    if not failed:
        answer, confidence = tag_text(response, "answer"), tag_text(response, "confidence")
        expected = compose(sections, answer)
        if confidence is not None:
            expected += f"<confidence>{confidence}</confidence>"
        if "".join(expected.split()) != "".join(response.split()):
            order = ", ".join(SECTIONS[1:])
            failed.append(Problem("layout", f"expected {order} in this order, and nothing outside them"))
    return failed


def problems(response: str, label: str, limits: Limits, truncated: bool = False) -> list[Problem]:
    """Every check that the response fails; none means that it may be used. Form comes first, alone.

    Args:
        truncated: whether the engine ended the response at its token limit.
    """
    if truncated:
        return [Problem("truncated", "the response reached the token limit")]
    failed = _form_problems(response)
    if failed:
        return failed
    answer = tag_text(response, "answer").strip()
    if answer.lower() != label.lower():
        failed.append(Problem("wrong_answer", f"expected {label}, got {answer[:60]}"))
    text = "\n".join(reasoning_steps(response).values())
    if leak := LEAK.search(text):
        failed.append(Problem("leak", f"gives away that the answer was known: {leak[0]!r}"))
    words = len(text.split())
    if words < limits.min_words:
        failed.append(Problem("too_short", f"expected {limits.min_words} words or more, got {words}"))
    if words > limits.max_words:
        failed.append(Problem("too_long", f"expected {limits.max_words} words or fewer, got {words}"))
    return failed
