"""What is read out of a response, under the published and the corrected protocol."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.data.response import (
    REASONING_STEPS,
    answer_span,
    normal_form,
    normal_label,
    read_response,
    reasoning_steps,
    tag_text,
    tag_texts,
)

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
    assert list(tag_texts(text, tag)) == re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)


@given(responses)
def test_any_text_is_read_without_an_exception(text):
    reading = read_response(text, MIKELS)
    assert reading.label in [*MIKELS, "unknown"]
    assert reading.confidence is None or 0 <= reading.confidence <= 1
    assert not (reading.published_confidence_unreadable and reading.published_confidence is not None)


@pytest.mark.parametrize(
    "text",
    [
        "<answer>" * 200_000,
        "<answer>\n</answer" * 100_000,
        "<confidence>1\n" * 150_000 + "</confidence>",
        FULL[:-1] + " " * 1_000_000,
        FULL.replace("><", ">" + " " * 200_000 + "<")[:-1],
        FULL.replace("awe", "awe" * 300_000),
        FULL.replace("awe", "a" + "\u0315\u0300\u0327" * 100_000),
        FULL.replace("awe", "\u6124\u6012" * 200_000),
        FULL.replace("0.85", "9" * 1_000_000 + "x"),
        FULL.replace("0.85", "1" + "." + "9" * 1_000_000 + "e"),
        "<think>" * 200_000 + "</think>" * 100_000,
        "<answer>awe</answer>" * 50_000,
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


@pytest.mark.parametrize(
    "text", ["1.01", "-0.1", "85%", "0,85", "high", "", "nan", "inf", "0.8/1", "٠٫٥", "1_0", "9" * 5000]
)
def test_corrected_confidence_out_of_range_or_unreadable_is_none(text):
    reading = read_response(FULL.replace("0.85", text), MIKELS)
    assert reading.confidence is None
    assert reading.unreadable_confidence == (text if len(text) < 60 else text[:59] + "…")
    assert not reading.well_formed


def test_a_confidence_may_have_any_number_of_digits():
    assert read_response(FULL.replace("0.85", "0." + "8" * 5000), MIKELS).confidence == float("0." + "8" * 17)


@pytest.mark.parametrize("missing", ["element", "human", "context", "interaction", "analysis"])
def test_a_missing_step_is_not_well_formed(missing):
    assert not read_response(FULL.replace(f"<{missing}>", ""), MIKELS).well_formed


def test_without_confidence_asked_for_none_is_needed():
    response = FULL.replace("<confidence>0.85</confidence>", "")
    assert not read_response(response, MIKELS).well_formed
    assert read_response(response, MIKELS, with_confidence=False).well_formed


# --- the reasoning is not searched for the answer ---------------------------------------


THINK = "<think>I reply <answer>emotion</answer> or <answer>fear</answer><confidence>0.3</confidence></think>"


@pytest.mark.parametrize(
    ("response", "label", "confidence"),
    [
        (THINK + "<answer>awe</answer><confidence>0.8</confidence>", "awe", 0.8),
        (THINK.removeprefix("<think>") + "<answer>awe</answer><confidence>0.8</confidence>", "awe", 0.8),
        ("<answer>awe</answer><confidence>0.8</confidence>" + THINK, "awe", 0.8),
        (THINK, "unknown", None),
        (THINK.upper() + "<ANSWER>AWE</ANSWER><CONFIDENCE>0.8</CONFIDENCE>", "awe", 0.8),
        ("<think>a</think><think>b<answer>fear</answer></think><answer>awe</answer>", "awe", None),
    ],
)
def test_what_the_reasoning_quotes_is_no_answer(response, label, confidence):
    reading = read_response(response, MIKELS)
    assert (reading.label, reading.confidence) == (label, confidence)


def test_without_an_end_of_the_reasoning_all_answers_count_and_must_agree():
    assert corrected("<think>as <answer>emotion</answer><answer>awe</answer>") == "awe"
    assert corrected("<think>at first <answer>fear</answer>, no <answer>awe</answer>") == "unknown"


def test_several_confidences_must_agree_and_are_shown_when_they_do_not():
    twice = "<answer>awe</answer><confidence>0.8</confidence><answer>awe</answer><confidence>{}</confidence>"
    assert read_response(twice.format("0.80"), MIKELS).confidence == 0.8
    reading = read_response(twice.format("0.9"), MIKELS)
    assert (reading.label, reading.confidence, reading.unreadable_confidence) == ("awe", None, "0.8, 0.9")


def test_the_published_reading_still_takes_the_first_answer_wherever_it_stands():
    reading = read_response(THINK + "<answer>awe</answer><confidence>0.8</confidence>", MIKELS)
    assert (reading.published_label, reading.published_confidence) == ("unknown", 0.3)


def test_the_probability_of_the_answer_is_that_of_the_answer_outside_the_reasoning():
    text = THINK + "<answer>awe</answer>"
    assert text[slice(*answer_span(text))] == "awe"
    assert answer_span(THINK) is None
    assert answer_span("<answer>awe</answer>" + THINK) == (8, 11)


# --- labels in any script and any form ---------------------------------------------------


ANGER_ZH, JOY_ZH, SURPRISE_ZH = "\u6124\u6012", "\u5feb\u4e50", "\u60ca\u559c"  # Chinese
JOY_JA, ANGER_JA = "\u3088\u308d\u3053\u3073", "\u3044\u304b\u308a"  # Japanese
FEAR_TH, ANGER_TH = "\u0e01\u0e25\u0e31\u0e27", "\u0e42\u0e01\u0e23\u0e18"  # Thai
FEAR_HI, JOY_HI = "\u0921\u0930", "\u0916\u0941\u0936\u0940"  # Hindi


@pytest.mark.parametrize(
    ("answer", "candidates", "label"),
    [
        (ANGER_ZH, [ANGER_ZH, JOY_ZH], ANGER_ZH),
        (f"{JOY_ZH}\u60c5\u7eea", [ANGER_ZH, JOY_ZH], JOY_ZH),
        (f"\u8fd9\u662f{JOY_ZH}\u3002", [ANGER_ZH, JOY_ZH], JOY_ZH),
        (JOY_ZH + ANGER_ZH, [ANGER_ZH, JOY_ZH], "unknown"),
        (SURPRISE_ZH, [SURPRISE_ZH[1], SURPRISE_ZH], SURPRISE_ZH),
        (f"{JOY_JA}\u3067\u3059", [JOY_JA, ANGER_JA], JOY_JA),
        (f"\u0e23\u0e39\u0e49\u0e2a\u0e36\u0e01{FEAR_TH}\u0e21\u0e32\u0e01", [FEAR_TH, ANGER_TH], FEAR_TH),
        ("awe\u60c5\u7eea", MIKELS, "awe"),
        ("_awe_", MIKELS, "awe"),
        ("__Awe__", MIKELS, "awe"),
        ("\uff21\uff37\uff25", MIKELS, "awe"),
        ("awe", ["\uff41\uff57\uff45", "fear"], "awe"),
        ("joy\u00a0of\n life", ["joy of life", "fear"], "joy of life"),
        ("joy of life", ["joy  of\u3000life", "fear"], "joy of life"),
        ("anger", ["amusement", " anger"], "anger"),
        ("fierte\u0301", ["fierté", "peur"], "fierté"),
        ("fierté", ["fierte\u0301", "peur"], "fierté"),
        ("awé", MIKELS, "unknown"),
        ("awe\u0323\u0335", MIKELS, "unknown"),
        (FEAR_HI, [FEAR_HI, JOY_HI], FEAR_HI),
        (f"{FEAR_HI}\u0964", [FEAR_HI, JOY_HI], FEAR_HI),
        (f"{FEAR_HI}\u093e", [FEAR_HI, JOY_HI], "unknown"),
        (f"{JOY_HI} \u0939\u0948", [FEAR_HI, JOY_HI], JOY_HI),
        ("гневный", ["гнев", "страх"], "unknown"),
        ("10", ["1", "2"], "unknown"),
        ("\ufeffawe\u200b", MIKELS, "awe"),
        ("a\u00adwe", MIKELS, "awe"),
        ("awe", [" ", "\u200b", "awe"], "awe"),
        ("", [" "], "unknown"),
        ("don't know", ["don't know", "know"], "don't know"),
        ("(none)", ["(none)", "awe"], "(none)"),
    ],
)
def test_a_whole_label_is_found_in_any_script_and_form(answer, candidates, label):
    assert corrected(f"<answer>{answer}</answer>", candidates) == label


@given(st.text())
def test_the_normal_form_is_stable_and_without_outer_blanks(text):
    form = normal_form(text)
    assert normal_form(form) == form == form.strip()


LABEL_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="<>"), min_size=1, max_size=12)


@given(LABEL_TEXTS, st.sampled_from([" {} ", "_{}_", "**{}**", "“{}”.", "{}\n", f"{ANGER_ZH}\uff1a{{}}", "({})"]))
def test_any_label_is_found_between_what_are_no_letters_of_its_word(label, frame):
    """Whatever the label: in blanks, marks of emphasis, quotes; combining marks cling to what is before them."""
    expected = normal_label(label)
    if expected and frame.format(label).count(label) == 1 and not re.match(r"\W", expected):
        assert corrected(f"<answer>{frame.format(label)}</answer>", [label]) == expected


@given(st.sampled_from(MIKELS), st.characters(categories=["L", "Nd"]))
def test_a_letter_of_a_script_with_blanks_beside_a_label_makes_another_word(label, letter):
    spaced = re.match(
        r"[^\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]", letter
    )
    forms = normal_form(letter)
    if spaced and forms.isalnum() and len(forms) == 1 and forms == letter.lower():
        for text in (label + letter, letter + label):
            assert corrected(f"<answer>{text}</answer>", [label]) == "unknown"


def test_a_thinking_model_s_reasoning_whose_opening_tag_is_in_the_prompt_is_reasoning():
    steps = "".join(f"<{step}>x</{step}>" for step in REASONING_STEPS)
    text = f"{steps}<answer>fear</answer>?</think><answer>awe</answer><confidence>0.8</confidence>"
    reading = read_response(text, ["awe", "fear"])
    assert (reading.label, reading.confidence, reading.well_formed) == ("awe", 0.8, True)
    assert reading.published_label == "fear"  # to the letter: the first answer of the whole text
    assert reasoning_steps(text) == dict.fromkeys(REASONING_STEPS, "x")
    assert reasoning_steps(f"<think>{text}") == reasoning_steps(text)
    assert reasoning_steps(f"{steps}<answer>awe</answer>") == {}


def test_a_curly_apostrophe_is_a_straight_one():
    """Or "don't know", written with the other one, would be the label "know"."""
    for candidate, answer in (("don't know", "don\u2019t know"), ("don\u2019t know", "Don't know")):
        assert read_response(f"<answer>{answer}</answer>", [candidate, "know"]).label == "don't know"
