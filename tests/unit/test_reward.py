"""Stage 3's reward: the paper's numbers, any input survived, a proper scoring rule."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.published_reward import published_procedure
from tests.helpers.responses import response
from train.cus_reward import (
    MALFORMED,
    STEPS,
    WEIGHTS,
    compute_score,
    deliberate_error_threshold,
    expected_score,
)

probabilities = st.floats(0.001, 0.999)


def test_a_right_answer_by_hand():
    result = compute_score(response(), "awe")
    assert result["score"] == pytest.approx(1 + 2 * math.log(0.8) + 1)
    assert result == {
        "score": result["score"],
        "format_score": 1.0,
        "confidence_score": pytest.approx(2 * math.log(0.8)),
        "correctness": 1.0,
        "brier_score": pytest.approx(-0.04),
        "confidence": 0.8,
    }


def test_a_wrong_answer_by_hand():
    result = compute_score(response(answer="fear"), "awe")
    assert result["score"] == pytest.approx(1 + 2 * math.log(0.2))
    assert (result["correctness"], result["brier_score"]) == (0.0, pytest.approx(-0.64))


@pytest.mark.parametrize("answer", ["Awe", " awe. ", "«awe»".replace("«", "[").replace("»", "]"), "\nAWE!\n", "a'we"])
def test_case_and_punctuation_do_not_matter(answer):
    assert compute_score(response(answer=answer), "Awe")["correctness"] == 1.0


@pytest.mark.parametrize("answer", ["awe fear", "", "awesome", "an awe"])
def test_an_answer_must_be_exactly_the_one_word(answer):
    result = compute_score(response(answer=answer), "awe")
    assert (result["correctness"], result["format_score"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    "confidence", ["0", "1", "1.0", "-0.5", "1.2", "85%", "high", "", "nan", "inf", "0.8 0.9", "1e-400"]
)
def test_a_confidence_outside_the_open_interval_is_malformed(confidence):
    assert compute_score(response(confidence=confidence), "awe") == MALFORMED


@pytest.mark.parametrize("step", STEPS)
def test_a_missing_step_is_malformed(step):
    assert compute_score(response(steps=[s for s in STEPS if s != step]), "awe") == MALFORMED
    outside = response(steps=[s for s in STEPS if s != step]) + f"<{step}>x</{step}>"
    assert compute_score(outside, "awe") == MALFORMED


@pytest.mark.parametrize("tag", ["think", "answer", "confidence"])
def test_a_missing_tag_is_malformed(tag):
    assert compute_score(response().replace(f"</{tag}>", ""), "awe") == MALFORMED


strange = st.none() | st.integers() | st.binary() | st.lists(st.text()) | st.floats()
pieces = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "<confidence>", "</confidence>", "awe", "0.5"]
)
texts = st.lists(pieces | st.text(max_size=4), max_size=20).map("".join)


@given(
    strange | texts | st.just("x" * 10**6) | st.floats(0, 1).map(lambda c: response(confidence=repr(c))),
    strange | st.text(),
)
def test_every_input_gives_the_same_keys_and_finite_floats(solution, truth):
    result = compute_score(solution, truth, "emocaliber", {"index": 1})
    assert result.keys() == MALFORMED.keys()
    assert all(type(value) is float and math.isfinite(value) for value in result.values())


@given(probabilities, probabilities, st.sampled_from(sorted(WEIGHTS)))
def test_for_a_given_answer_it_is_a_proper_scoring_rule(probability, stated, rule):
    """The expected score is highest when the stated confidence is the probability of being right."""

    def expected(confidence):
        right = compute_score(response(confidence=repr(confidence)), "awe", rule=rule)["score"]
        wrong = compute_score(response(confidence=repr(confidence), answer="fear"), "awe", rule=rule)["score"]
        return probability * right + (1 - probability) * wrong

    assert expected(probability) >= expected(stated) - 1e-12


PIECES = st.sampled_from(
    [f"<{slash}{tag}>" for tag in ("think", "answer", "confidence", *STEPS) for slash in ("", "/")]
    + ["awe", " AWE.", "fear", "0.85", "1", "0.", "\n", "x"]
)


@given(st.lists(PIECES, max_size=30).map("".join) | st.builds(response, answer=st.text(), confidence=st.text()))
def test_it_gives_what_the_published_procedure_gives(solution):
    """Tags in any order, nested, repeated, unclosed; any answer and confidence."""
    ours, published = compute_score(solution, "awe"), published_procedure(solution, "awe")
    assert ours.keys() == published.keys()
    for key, value in published.items():
        assert ours[key] == pytest.approx(value), key


@given(st.permutations(STEPS), st.sampled_from(["awe", "Awe.", "fear"]), probabilities)
def test_well_formed_responses_score_as_published(steps, answer, confidence):
    solution = response(answer=answer, confidence=str(confidence), steps=steps)
    published = published_procedure(solution, "awe")
    assert published["format_score"] == 1
    assert compute_score(solution, "awe") == pytest.approx(published)


def test_the_known_edge_a_sure_mistake_costs_more_than_breaking_the_format():
    edge = 1 - math.exp(-3)
    for confidence, below in ((edge - 1e-6, False), (edge + 1e-6, True)):
        result = compute_score(response(answer="fear", confidence=repr(confidence)), "awe")
        assert (result["score"] < MALFORMED["score"]) == below


def test_clipping_bounds_the_penalty_but_reports_the_stated_confidence():
    sure = response(answer="fear", confidence="0.9999")
    clipped = compute_score(sure, "awe", clip=0.05)
    assert clipped["score"] == pytest.approx(1 + 2 * math.log(0.05))
    assert clipped["confidence"] == 0.9999
    assert compute_score(sure, "awe")["score"] < clipped["score"]


@pytest.mark.parametrize(
    "setting",
    [
        {"rule": "spherical"},
        {"clip": 0.5},
        {"clip": -0.1},
        {"weight": -1},
        {"weight": "2"},
        {"correctness_weight": True},
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_refused(setting):
    with pytest.raises(ValueError, match="expected"):
        compute_score(response(), "awe", **setting)


def test_rlcr_by_hand():
    """The form's 1, the right answer's 1, minus (c − i)²; malformed: the worst that the formula gives."""
    right, wrong = response(confidence="0.7"), response(answer="fear", confidence="0.7")
    assert compute_score(right, "awe", rule="rlcr")["score"] == pytest.approx(1 + 1 - 0.09)
    assert compute_score(wrong, "awe", rule="rlcr")["score"] == pytest.approx(1 - 0.49)
    malformed = compute_score("no tags", "awe", rule="rlcr")
    assert malformed == {**MALFORMED, "score": -1.0, "confidence_score": -1.0}
    assert compute_score("no tags", "awe", rule="brier")["score"] == -5


@given(st.floats(1e-6, 1 - 1e-6), st.booleans())
def test_under_rlcr_every_well_formed_response_scores_above_a_malformed_one(confidence, right):
    solution = response(answer="awe" if right else "fear", confidence=repr(confidence))
    assert -1 < compute_score(solution, "awe", rule="rlcr")["score"] < 2


SETTINGS = st.fixed_dictionaries(
    {
        "rule": st.sampled_from(sorted(WEIGHTS)),
        "clip": st.sampled_from([0.0, 0.01, 0.2]),
        "weight": st.none() | st.just(0.0) | st.floats(1e-3, 4),
        "correctness_weight": st.floats(0, 3),
    }
)


@given(probabilities, SETTINGS)
def test_the_expected_score_is_the_mean_of_right_and_wrong(probability, settings):
    stated = response(confidence=repr(probability))
    right, wrong = (compute_score(stated, truth, **settings)["score"] for truth in ("awe", "fear"))
    mean = probability * right + (1 - probability) * wrong
    assert expected_score(probability, **settings) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("settings", "threshold"),
    [
        ({}, 0.849),
        ({"clip": 0.05}, 0.825),
        ({"clip": 0.2}, 0.727),
        ({"rule": "brier", "weight": 2}, 0.5),
        ({"rule": "brier"}, 0.0),
        ({"rule": "rlcr"}, 0.0),
        ({"rule": "rlcr", "clip": 0.1}, 0.0),
        ({"correctness_weight": 0}, 1.0),
    ],
    ids=str,
)
def test_below_which_probability_an_error_on_purpose_pays(settings, threshold):
    """Checked by arithmetic: p = 2 H(p) at 0.849; for Brier's weight w beside a correctness of 1, p = 1 − 1/w."""
    assert deliberate_error_threshold(**settings) == pytest.approx(threshold, abs=5e-4)


@given(probabilities, SETTINGS)
def test_an_error_on_purpose_pays_below_the_threshold_and_not_above(probability, settings):
    threshold = deliberate_error_threshold(**settings)
    error = compute_score(response(answer="nonsense", confidence="1e-12"), "awe", **settings)["score"]
    gain = error - expected_score(probability, **settings)
    if probability < threshold - 1e-5:
        assert gain > -1e-9
    elif probability > threshold + 1e-5:
        assert gain < 1e-9


def test_long_responses_take_linear_time():
    start = time.process_time()
    for text in ("<think>" * 10**6, response() * 10**4, "<think><element>" * 10**5):
        compute_score(text, "awe")
    assert time.process_time() - start < 5
