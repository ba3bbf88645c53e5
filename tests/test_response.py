"""What is read out of a response, under the published and the corrected protocol."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import response as reader
from inference.response import read_response, reasoning_steps, tag_text

MIKELS = ["amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness"]
STEPS = "".join(f"<{s}>x</{s}>" for s in ("element", "human", "context", "interaction", "analysis"))
FULL = f"<think>{STEPS}</think><answer>awe</answer><confidence>0.85</confidence>"

# Pieces that make tags nest, break, repeat and span lines far more often than random text would.
pieces = st.sampled_from(
    [
        "<answer>",
        "</answer>",
        "<confidence>",
        "</confidence>",
        "<think>",
        "</think>",
        "\n",
        "awe",
        "Fear",
        "0.5",
        "{",
        " ",
    ]
)
responses = st.lists(pieces | st.text(max_size=4), max_size=30).map("".join)


def published(response, candidates=MIKELS):
    return read_response(response, candidates).published_label


def corrected(response, candidates=MIKELS):
    return read_response(response, candidates).label


@given(responses, st.sampled_from(["answer", "confidence", "think"]))
def test_tag_text_equals_the_regular_expression(text, tag):
    for newlines, flags in ((True, re.DOTALL), (False, 0)):
        match = re.search(f"<{tag}>(.*?)</{tag}>", text, flags)
        assert tag_text(text, tag, newlines) == (match and match.group(1))


@given(responses)
def test_any_text_is_read_without_an_exception(text):
    reading = read_response(text, MIKELS)
    assert reading.label in [*MIKELS, "unknown"]
    assert reading.confidence is None or 0 <= reading.confidence <= 1
    assert not (reading.published_confidence_unreadable and reading.published_confidence is not None)


TAUGHT = re.split(r"(?<=>)|(?=<)", FULL.replace("><", "> <"))  # tags, texts and gaps
ODD = [
    *dict.fromkeys(TAUGHT),
    "",
    "\n",
    "x",
    "<",
    "<THINK>",
    "<Answer>",
    "a joy, not fear",
    "AWE.",
    "Fear",
    "{0.5}",
    "-0",
]
ODD += ["nan", ".9", "1.5", "0.8\n", "high", "a" * 101, "\u0130", "\u212a", "A\u03a3", "\u0660.\u0668", "awe</b>"]


@given(
    st.dictionaries(st.integers(0, len(TAUGHT) - 1), st.sampled_from(ODD), max_size=3),
    st.sampled_from([MIKELS, ["Fear", "awe", "joy"]]),
    st.booleans(),
)
def test_one_match_reads_what_the_searches_read(changed, candidates, with_confidence):
    text = "".join(changed.get(i, part) for i, part in enumerate(TAUGHT))
    lowered, labels = text.lower(), tuple(candidates)
    searched = reader._judge(reader._search_tags(text, lowered), lowered, labels, with_confidence)
    assert repr(tuple(read_response(text, candidates, with_confidence)[1:])) == repr(searched)


def test_what_a_trained_model_writes_takes_the_one_match():
    assert reader._AS_TAUGHT.fullmatch(FULL).groups() == ("awe", "0.85")
    spaced = FULL.replace("><", ">\n<")
    assert reader._AS_TAUGHT.fullmatch(spaced) and read_response(spaced, MIKELS) == read_response(FULL, MIKELS)


@pytest.mark.parametrize(
    "text",
    [
        "<answer>" * 200_000,
        "<answer>\n</answer" * 100_000,
        "<confidence>1\n" * 150_000 + "</confidence>",
        FULL[:-1] + " " * 1_000_000,
        FULL.replace("><", ">" + " " * 200_000 + "<")[:-1],
    ],
)
def test_reading_takes_linear_time_on_hostile_text(text):
    start = time.process_time()
    read_response(text, MIKELS)
    # Quadratic work on these would take minutes; the bound is loose because machines are shared.
    assert time.process_time() - start < 5


def test_a_well_formed_response_is_read_alike_by_both():
    reading = read_response(FULL, MIKELS)
    assert (reading.published_label, reading.label) == ("awe", "awe")
    assert (reading.published_confidence, reading.confidence) == (0.85, 0.85)
    assert reading.well_formed
    assert list(reasoning_steps(FULL)) == ["element", "human", "context", "interaction", "analysis"]


# --- the published reading -------------------------------------------------------------


def test_published_takes_the_first_candidate_in_the_records_order():
    assert published("<answer>fear or anger</answer>") == "anger"
    assert published("<answer>fear or anger</answer>", ["fear", "anger"]) == "fear"


def test_published_matches_substrings():
    assert published("<answer>awesome</answer>") == "awe"


def test_published_answer_without_a_candidate_is_unknown_even_if_the_reasoning_names_one():
    assert published("<think>anger</think><answer>nothing</answer>") == "unknown"


@pytest.mark.parametrize(
    "response", ["I feel fear", "<answer></answer> fear", "<answer>\nfear\n</answer>", "<answer>fear"]
)
def test_published_falls_back_to_the_whole_response_without_an_answer_on_one_line(response):
    assert published(response) == "fear"


def test_published_overall_reads_the_reasoning_and_ignores_the_answer():
    assert read_response("<think>anger?</think><answer>fear</answer>", MIKELS).published_overall_label == "anger"


def test_published_overall_does_not_lower_the_candidates():
    reading = read_response("<answer>Fear</answer>", ["Fear", "awe"])
    assert (reading.published_label, reading.published_overall_label) == ("fear", "unknown")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.85", 0.85), ("{0.85}", 0.85), (" 1e-3 ", 0.001), ("85", 85.0), ("-1", -1.0), ("inf", float("inf"))],
)
def test_published_confidence_is_what_float_makes_of_it(text, value):
    assert read_response(f"<confidence>{text}</confidence>", MIKELS).published_confidence == value


@pytest.mark.parametrize("text", ["85%", "high", "", "0.8/1", "nan"])
def test_published_confidence_that_is_no_number_is_marked_as_unreadable(text):
    reading = read_response(f"<confidence>{text}</confidence>", MIKELS)
    assert (reading.published_confidence, reading.published_confidence_unreadable) == (None, True)


def test_published_confidence_over_two_lines_counts_as_none():
    reading = read_response("<confidence>0.8\n</confidence>", MIKELS)
    assert (reading.published_confidence, reading.published_confidence_unreadable) == (None, False)


# --- the corrected reading -------------------------------------------------------------


def test_corrected_wants_the_whole_word():
    assert corrected("<answer>awesome</answer>") == "unknown"
    assert corrected("<answer>Awe.</answer>") == "awe"


def test_corrected_accepts_newlines_inside_the_answer():
    assert corrected("<answer>\nFear\n</answer>") == "fear"


def test_corrected_never_reads_the_reasoning():
    assert corrected("<think>fear</think>") == "unknown"


def test_corrected_takes_several_different_labels_for_no_answer():
    assert corrected("<answer>fear or anger</answer>") == "unknown"
    assert corrected("<answer>fear, yes, fear</answer>") == "fear"


def test_corrected_prefers_the_longer_of_two_labels_at_one_place():
    assert corrected("<answer>joy of life</answer>", ["joy", "joy of life"]) == "joy of life"


@pytest.mark.parametrize(
    ("text", "value"), [("0.85", 0.85), (".9", 0.9), ("1", 1.0), ("\n0.5\n", 0.5), ("0", 0.0), ("1e-3", 0.001)]
)
def test_corrected_confidence_in_range(text, value):
    assert read_response(f"<confidence>{text}</confidence>", MIKELS).confidence == value


@pytest.mark.parametrize("text", ["1.01", "-0.1", "85%", "high", "", "nan", "inf", "0.8/1", "٠٫٥", "1_0", "9" * 5000])
def test_corrected_confidence_out_of_range_or_unreadable_is_none(text):
    reading = read_response(FULL.replace("0.85", text), MIKELS)
    assert reading.confidence is None
    assert not reading.well_formed


@pytest.mark.parametrize("missing", ["element", "human", "context", "interaction", "analysis"])
def test_a_missing_step_is_not_well_formed(missing):
    assert not read_response(FULL.replace(f"<{missing}>", ""), MIKELS).well_formed


def test_without_confidence_asked_for_none_is_needed():
    response = FULL.replace("<confidence>0.85</confidence>", "")
    assert not read_response(response, MIKELS).well_formed
    assert read_response(response, MIKELS, with_confidence=False).well_formed
