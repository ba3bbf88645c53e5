"""The checks on a teacher's text: what passes, and the reason of each that does not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.data.response import REASONING_STEPS
from inference.data.vecbench import MIKELS_8
from scripts.build_vec_cot.verify import Limits, compose, problems
from tests.helpers.vec_cot import SECTIONS

LIMITS = Limits(5, 60)
GOOD = compose(SECTIONS, "contentment")


def codes(response, label="contentment", limits=LIMITS, truncated=False):
    return [problem.code for problem in problems(response, label, limits, truncated)]


@pytest.mark.parametrize(
    "response",
    [
        GOOD,
        GOOD.replace("><", ">\n  <") + "\n",
        GOOD + "<confidence>0.8</confidence>",
        GOOD.replace("<answer>contentment", "<answer> Contentment "),
    ],
)
def test_five_sections_and_the_label_pass(response):
    assert problems(response, "contentment", LIMITS) == []


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("", "missing_section"),
        (GOOD.replace("<think>", "").replace("</think>", ""), "missing_section"),
        (GOOD.replace("</human>", ""), "missing_section"),
        (GOOD.replace("<human>Two people smile.</human>", ""), "missing_section"),
        (GOOD.replace("Two people smile.", "  "), "empty_section"),
        (GOOD.replace("</context>", "</context><context>Again.</context>"), "repeated_section"),
        (GOOD.replace("Two people", "<element>Two</element> people"), "repeated_section"),
        (GOOD + "<answer>contentment</answer>", "repeated_section"),
        (GOOD.replace("Two people", "Two <b>people</b>"), "markup"),
        (GOOD.replace("Two people", "<image> Two people"), "markup"),
        (GOOD.replace("smile.", "smile.<|im_end|>"), "markup"),
        ("Here it is: " + GOOD, "layout"),
        (f"```\n{GOOD}\n```", "layout"),
        (GOOD.replace("</think>", " So it is.</think>"), "layout"),
        (GOOD.replace("<think>", "<think></think>").replace("</analysis></think>", "</analysis>"), "layout"),
        (GOOD.replace("element>", "#").replace("human>", "element>").replace("#", "human>"), "layout"),
        (GOOD.replace("<answer>contentment", "<answer>awe"), "wrong_answer"),
        (GOOD.replace("<answer>contentment", "<answer>It is contentment."), "wrong_answer"),
        (GOOD.replace("Warmth and", "The label says contentment: warmth and"), "leak"),
        (GOOD.replace("Two people smile.", "Two people smile." + " They do." * 30), "too_long"),
    ],
)
def test_each_failed_check_has_its_reason(response, code):
    assert codes(response)[0] == code
    assert len(set(codes(response))) == 1


def test_too_few_words_and_a_response_cut_off_have_their_reasons():
    assert codes(compose(dict.fromkeys(SECTIONS, "x"), "awe"), "awe", Limits(6, 60)) == ["too_short"]
    assert codes(GOOD[:-20], truncated=True) == ["truncated"]
    assert codes(GOOD.replace("<answer>contentment", "<answer>awe"), limits=Limits(1, 2)) == [
        "wrong_answer",
        "too_long",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "The label says contentment.",
        "This matches the given emotion.",
        "Ground truth: contentment.",
        "The provided answer is contentment.",
        "As specified, it is contentment.",
        "THE CORRECT ANSWER IS contentment.",
        "It is labeled as contentment.",
        "I was told that it evokes contentment.",
        "According to the prompt, contentment.",
        "The annotators saw contentment.",
        "Of the emotion that was given, much can be seen.",
    ],
)
def test_a_text_that_tells_it_was_told_is_a_leak(sentence):
    assert codes(GOOD.replace("Two people smile.", f"Two people smile. {sentence}")) == ["leak"]


@pytest.mark.parametrize(
    "sentence",
    [
        "A bottle with a torn label stands near.",
        "They have given each other flowers.",
        "The true colours are muted.",
        "Strong emotion is visible.",
        "The ground is true to nature.",
        "He answers her smile.",
        "Nothing is asked of them.",
    ],
)
def test_a_text_about_the_image_is_no_leak(sentence):
    assert codes(GOOD.replace("Two people smile.", f"Two people smile. {sentence}")) == []


PLAIN = st.text(st.characters(exclude_characters="<>", exclude_categories=("Cs",)), min_size=1).filter(str.strip)


@given(st.fixed_dictionaries({step: PLAIN for step in REASONING_STEPS}), st.sampled_from(MIKELS_8))
def test_whatever_plain_text_the_sections_have_their_form_passes(sections, label):
    assert set(codes(compose(sections, label), label, Limits(1, 10**6))) <= {"leak", "too_short"}


@given(st.data(), st.text(st.characters(exclude_characters="<>"), min_size=1).filter(str.strip))
def test_text_between_any_two_sections_is_found(data, text):
    places = [match.start() for match in re.finditer(r"<(?!/)", GOOD)] + [len(GOOD), GOOD.index("</think>")]
    place = data.draw(st.sampled_from(sorted(set(places) - {GOOD.index("<element>")})))
    assert "layout" in codes(GOOD[:place] + text + GOOD[place:])
