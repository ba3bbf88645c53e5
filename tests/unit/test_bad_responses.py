"""Bad responses: read as the definitions say, whatever a model writes; the reward stays a finite number."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.data.response import read_response, reasoning_steps
from inference.metrics.prediction_table import prediction_table
from tests.corpora.bad_responses import (
    ANSWERS,
    CONFIDENCES,
    LABELS,
    NOT_READ,
    RESPONSE_CASES,
    STEPS,
    a_response,
    corrected_by_definition,
    published_by_definition,
)
from tests.helpers.published_reward import published_procedure
from tests.helpers.results import results_in_memory
from train.cus_reward import MALFORMED, compute_score


def published_of(reading):
    confidence = NOT_READ if reading.published_confidence_unreadable else reading.published_confidence
    return reading.published_label, reading.published_overall_label, confidence


def assert_as_defined(response, candidates=LABELS):
    reading = read_response(response, candidates)
    assert published_of(reading) == published_by_definition(response, candidates)
    assert (reading.label, reading.confidence) == corrected_by_definition(response, candidates)


def assert_rewarded_as_defined(response, truth):
    ours, defined = compute_score(response, truth), published_procedure(response, truth)
    assert ours.keys() == defined.keys() == MALFORMED.keys()
    assert all(type(value) is float and math.isfinite(value) for value in ours.values())
    for key, value in defined.items():
        assert ours[key] == pytest.approx(value), key


def test_there_are_at_least_a_hundred_responses():
    assert len(RESPONSE_CASES) >= 100


@pytest.mark.parametrize("name", RESPONSE_CASES)
def test_each_response_is_read_and_rewarded_as_the_definitions_say(name):
    assert_as_defined(RESPONSE_CASES[name])
    assert_rewarded_as_defined(RESPONSE_CASES[name], "awe")


@pytest.mark.parametrize("text", CONFIDENCES, ids=lambda text: repr(text[:20]))
def test_a_confidence_in_every_wild_form(text):
    published, corrected, rewarded = CONFIDENCES[text]
    reading = read_response(a_response(confidence=text), LABELS)
    assert published_of(reading)[2] == published
    assert reading.confidence == corrected
    assert reading.confidence is None or math.copysign(1, reading.confidence) == 1
    result = compute_score(a_response(confidence=text), "awe")
    assert result == MALFORMED if rewarded is None else result["confidence"] == rewarded


@pytest.mark.parametrize("text", ANSWERS, ids=lambda text: repr(text[:20]))
def test_an_answer_in_every_wild_form(text):
    published, corrected, right = ANSWERS[text]
    reading = read_response(a_response(answer=text), LABELS)
    assert reading.label == corrected
    # Over two lines the published tool finds no answer, and takes the first label of the whole response.
    assert reading.published_label == (published or "awe")
    result = compute_score(a_response(answer=text), "awe")
    assert (result["format_score"], result["correctness"]) == (1.0, float(right))


@pytest.mark.parametrize("others", [["", "x"], [None, 7, {"a": 1}], "awe", {}, [["deep"]], [RESPONSE_CASES["nested"]]])
@pytest.mark.parametrize("probability", [None, "-1", True, 1e400, -1e400, float("nan"), -(10**400), 10**400, [], {}])
def test_every_kind_of_further_response_and_log_probability_is_survived(others, probability):
    result = {
        "sample_id": "a", "task": "EmoSet-8", "candidates": LABELS, "ground_truth": "awe", "response": a_response(),
        "other_responses": others, "mean_log_probability": probability, "answer_log_probability": probability,
    }  # fmt: skip
    (row,) = results_in_memory([result]).table.to_dict("records")
    for name in ("answer_probability", "token_probability", "agreement", "agreement_of_majority"):
        assert row[name] != row[name] or 0 <= row[name] <= 1


def test_all_responses_together_make_one_table_without_a_row_lost():
    base = {"task": "EmoSet-8", "candidates": LABELS, "ground_truth": "awe"}
    table = prediction_table({**base, "sample_id": n, "response": text} for n, text in RESPONSE_CASES.items())
    assert len(table) == len(RESPONSE_CASES)
    assert table["published_confidence"].dropna().between(0, 1).all()


# Pieces that nest, break, repeat and span lines far more often than random text would.
TAGS = [f"<{slash}{tag}>" for tag in ("think", "answer", "confidence", *STEPS) for slash in ("", "/")]
ODD = [
    "<Answer>",
    "</ANSWER>",
    "<answer",
    "answer>",
    "<",
    "{",
    "}",
    "\n",
    "\r",
    "\u2028",
    "\0",
    "\ud800",
    "İ",
    "ß",
    "٠",
]
WORDS = ["awe", "AWE", "fear.", "Fear", "awesome", " ", "0.5", "1", "0.", "-0", "e5", "nan"]
pieces = st.sampled_from(TAGS + ODD + WORDS)
responses = st.lists(pieces | st.text(st.characters(codec=None), max_size=4), max_size=30).map("".join)
shaped = st.builds(
    a_response,
    answer=st.text(st.characters(codec=None), max_size=10) | st.sampled_from(LABELS),
    confidence=st.floats().map(repr) | st.text(max_size=6) | st.decimals(allow_nan=False).map(str),
    thought=responses,
)


@settings(max_examples=500)
@given(responses | shaped)
def test_any_text_is_read_as_the_definitions_say(response):
    assert_as_defined(response)
    assert_as_defined(response, ["Fear", "AWE", "e.5"])


@settings(max_examples=500)
@given(responses | shaped, st.sampled_from(["awe", "AWE", "İ", "", "Fear."]))
def test_any_text_is_rewarded_as_the_definition_says(response, truth):
    assert_rewarded_as_defined(response, truth)


@given(responses)
def test_the_five_steps_are_found_inside_the_reasoning_only(response):
    steps = reasoning_steps(response)
    assert set(steps) <= set(STEPS)
    assert all(text in response for text in steps.values())
