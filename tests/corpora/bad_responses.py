"""What models write, well and badly: responses that the parser and the reward are tried on.

Beside them stands what the tags mean by the definitions alone: regular expressions as they are written
in the protocol, slow on hostile text, for comparison only.
"""

import re
import unicodedata

from inference.data.response import normal_form

STEPS = ("element", "human", "context", "interaction", "analysis")
THOUGHT = "".join(f"<{step}>x</{step}>" for step in STEPS)
LABELS = ["amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness"]


def a_response(answer="awe", confidence="0.8", thought=THOUGHT):
    return f"<think>{thought}</think><answer>{answer}</answer><confidence>{confidence}</confidence>"


NOT_READ = "unreadable"  # by the published tool, which drops the row

# The text of the confidence tag → what the published reading, the corrected reading and the reward make of it.
CONFIDENCES = {
    **{text: (float(text),) * 3 for text in ("0.85", ".9", "1e-3", "+0.5", "5E-1", "0.5e0", "00.5")},
    **{text: (0.8, 0.8, 0.8) for text in (" 0.8 ", "\u00a00.8\u2003", "\t0.8\r")},
    # The ends of the interval are a confidence, but none that the reward takes.
    **{text: (abs(float(text)), abs(float(text)), None) for text in ("0", "1", "1.", "-0", "-0.0", "1e-400")},
    **{text: (float(text), None, None) for text in ("1.0000001", "-0.1", "100", "85", "1e400", "inf", "-Infinity")},
    **dict.fromkeys(
        ["nan", "85%", "high", "0.8/1", "8/10", "0,8", "0.8.", "0.8 0.9", "0.8 (sure)", "0x1p-1", "", " ", "e", "."],
        (NOT_READ, None, None),
    ),
    **dict.fromkeys(
        ["--1", "0.8\0", "½", "0. 8", "“0.8”", "<b>0.8</b>", "\ud835", "{}", "\u066b\u0668", "−0.5"],
        (NOT_READ, None, None),
    ),
    # float() takes digits of every script, and underscores; the corrected reading wants plain ones.
    **{text: (0.8, None, 0.8) for text in ("\u0660.\u0668", "\uff10.\uff18", "\u0966.\u096e", "0_0.8")},
    "1_0": (10.0, None, None),
    "0." + "8" * 5000: (float("0." + "8" * 20),) * 3,
    "9" * 5000: (float("inf"), None, None),
    # The published tool takes braces out, wherever they stand; the reward does not.
    **{text: (0.8, 0.8, None) for text in ("{0.8}", "{{0.8}}", "{ 0.8 }")},
    "0.{8}": (0.8, None, None),
    # Over two lines there is no match for the published tool.
    **{text: (None, 0.8, 0.8) for text in ("0.8\n", "\n0.8\n")},
    **{text: (None, None, None) for text in ("\n", "0.8\nhigh")},
}

# The text of the answer tag → the published and the corrected label, and whether the reward takes it for "awe".
ANSWERS = {
    "awe": ("awe", "awe", True),
    "Awe.": ("awe", "awe", True),
    " AWE ": ("awe", "awe", True),
    "**awe**": ("awe", "awe", True),
    '"awe"': ("awe", "awe", True),
    "\nawe\n": (None, "awe", True),
    "awe\u2028": ("awe", "awe", True),
    "a.w.e": ("unknown", "unknown", True),
    "awe!?": ("awe", "awe", True),
    "awesome": ("awe", "unknown", False),
    "an awe": ("awe", "awe", False),
    "the emotion is awe": ("awe", "awe", False),
    "awe awe": ("awe", "awe", False),
    "awe or fear": ("awe", "unknown", False),
    "fear or awe": ("awe", "unknown", False),
    "fear": ("fear", "fear", False),
    "not fear": ("fear", "fear", False),
    "unknown": ("unknown", "unknown", False),
    "a w e": ("unknown", "unknown", False),
    "\uff41\uff57\uff45": ("unknown", "awe", False),
    "awe_": ("awe", "awe", True),
    "awé": ("unknown", "unknown", False),
    "\u656c\u754f": ("unknown", "unknown", False),
    "awe\0": ("awe", "awe", False),
    "\ud83d": ("unknown", "unknown", False),
    "<answer>awe": ("awe", "awe", False),
    "<b>awe</b>": ("awe", "awe", False),
    "awe" * 1000: ("awe", "unknown", False),
    ".": ("unknown", "unknown", False),
    " ": ("unknown", "unknown", False),
    "1": ("unknown", "unknown", False),
}

SHAPES = {
    "empty": "",
    "one bracket": "<",
    "no tag": "awe 0.8",
    "only openings": "<think><answer><confidence>",
    "only closings": "</think></answer></confidence>",
    "closings first": "</answer>awe<answer></confidence>0.8<confidence>",
    "nested": "<answer><answer>awe</answer></answer><confidence><confidence>0.8</confidence></confidence>",
    "crossed": "<answer>awe<confidence>0.8</answer></confidence>",
    "two answers": a_response() + a_response("fear", "0.1"),
    "answer inside the reasoning": a_response(thought=THOUGHT + "<answer>fear</answer>"),
    "steps outside the reasoning": "<think>x</think>" + THOUGHT + "<answer>awe</answer><confidence>0.8</confidence>",
    "reasoning last": f"<answer>awe</answer><confidence>0.8</confidence><think>{THOUGHT}</think>",
    "closed before it opens": "<answer>fear</answer></think><think>x</think><answer>awe</answer>",
    "upper case tags": a_response().upper(),
    "spaces in tags": a_response().replace("<", "< "),
    "attributes": a_response().replace("<answer>", '<answer id="1">'),
    "escaped": a_response().replace("<", "&lt;"),
    "unclosed answer": "<answer>awe<confidence>0.8</confidence>",
    "unclosed confidence": "<answer>awe</answer><confidence>0.8",
    "empty answer, label elsewhere": "I feel awe <answer></answer>",
    "an empty answer before another": "<answer></answer><answer>awe</answer>",
    "an answer over two lines before another": "<answer>fear\n</answer><answer>awe</answer>",
    "a line break before the closing": "<answer>fear\n<answer>awe</answer>",
    "carriage returns": a_response("\rawe\r", "\r0.8\r"),
    "steps nested": a_response(
        thought="<element><human><context><interaction><analysis></analysis></interaction></context></human></element>"
    ),
    "steps crossed": a_response(thought="".join(f"<{s}>" for s in STEPS) + "".join(f"</{s}>" for s in STEPS)),
    "a step twice": a_response(thought=THOUGHT * 2),
    "reasoning of 100,000 characters": a_response(thought=THOUGHT + "x" * 100_000),
    "10,000 characters of openings": "<think>" * 1_429,
    "100,000 characters of brackets": "<" * 100_000,
    "dotted capital I": "İ<answer>awe</answer>İ<confidence>0.8</confidence>",
    "code fence": f"```xml\n{a_response()}\n```",
    "JSON": '{"answer": "awe", "confidence": 0.8}',
    "NUL between": a_response().replace("><", ">\0<"),
    "byte-order mark": "\ufeff" + a_response(),
    "right to left": "\u202e" + a_response(),
    "repeated for ever": a_response() * 200,
}

RESPONSE_CASES = {
    **{f"confidence {text[:20]!r}": a_response(confidence=text) for text in CONFIDENCES},
    **{f"answer {text[:20]!r}": a_response(answer=text) for text in ANSWERS},
    **SHAPES,
}


def published_by_definition(response, candidates):
    """(label, label of Overall, confidence): the confidence a number, None or NOT_READ."""
    lowered = response.lower()
    answer = re.search(r"<answer>(.*?)</answer>", lowered)
    searched = answer.group(1) if answer and answer.group(1) else lowered
    label = next((candidate.lower() for candidate in candidates if candidate.lower() in searched), "unknown")
    overall = next((candidate for candidate in candidates if candidate in lowered), "unknown")
    stated = re.search(r"<confidence>(.*?)</confidence>", response)
    if stated is None:
        return label, overall, None
    try:
        confidence = float(re.sub(r"[{}]", "", stated.group(1)))
    except ValueError:
        return label, overall, NOT_READ
    return label, overall, NOT_READ if confidence != confidence else confidence


def is_letter(character):
    """Of a script with blanks between words: for the scripts that the cases here are written in."""
    return unicodedata.category(character)[0] in "LMN" and not "\u2e80" <= character <= "\u9fff"


def whole(label, text):
    """Whether a label stands somewhere in a text where it is no part of a longer word."""
    places = (match.start() for match in re.finditer(f"(?={re.escape(label)})", text))
    for start in places:
        before, after = text[:start][-1:], text[start + len(label) :][:1]
        if not (before and is_letter(before) and is_letter(label[0])) and not (
            after and is_letter(after) and is_letter(label[-1])
        ):
            return True
    return False


def corrected_by_definition(response, candidates):
    """(label, confidence or None), for candidates none of which is part of another."""
    opened, closed = (re.search(rf"{start}.*</think>", response.lower(), re.DOTALL) for start in ("<think>", "^"))
    reasoning = opened or closed  # a closing tag alone ends what the prompt opened
    outside = (
        response.lower()
        if reasoning is None
        else (response.lower()[: reasoning.start()] + "</think>" + response.lower()[reasoning.end() :])
    )
    answers = [normal_form(text) for text in re.findall(r"<answer>(.*?)</answer>", outside, re.DOTALL)]
    found = {normal_form(c) for c in candidates for text in answers if whole(normal_form(c), text)}
    numbers = set()
    for stated in re.findall(r"<confidence>(.*?)</confidence>", outside, re.DOTALL):
        number = stated.strip().strip("{}").strip()
        plain = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", number)
        if plain and 0 <= float(number) <= 1:
            numbers.add(float(number))
    return found.pop() if len(found) == 1 else "unknown", numbers.pop() if len(numbers) == 1 else None
