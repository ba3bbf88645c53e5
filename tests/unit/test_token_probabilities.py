"""The two log-probabilities of a response, from its tokens' texts and log-probabilities."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from inference.data.response import ANSWER, FIRST_MENTION, PLACES, first_mention
from inference.engines.token_probabilities import (
    CandidateText,
    candidate_probabilities,
    candidate_score,
    candidate_tail,
    candidate_texts,
    response_log_probabilities,
    texts_of_bytes,
)

ANSWER_TEXTS = st.text(st.sampled_from("ab é😀 <>\n"), max_size=6).filter(lambda text: "<" not in text)


@st.composite
def responses_in_tokens(draw):
    """(bytes of each token, log-probability of each, the bytes before the answer, the answer's): cut anywhere."""
    before, answer, after = draw(ANSWER_TEXTS), draw(ANSWER_TEXTS), draw(ANSWER_TEXTS)
    head, inside = f"{before}<answer>".encode(), answer.encode()
    whole = head + inside + f"</answer>{after}".encode()
    cuts = sorted(draw(st.sets(st.integers(1, len(whole) - 1), max_size=30)))
    edges = list(zip([0, *cuts], [*cuts, len(whole)], strict=True))
    values = draw(st.lists(st.floats(-30, 0), min_size=len(edges), max_size=len(edges)))
    return [whole[a:b] for a, b in edges], values, len(head), len(inside)


def ends_with_a_character(text):
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(responses_in_tokens())
def test_the_answer_counts_each_token_that_has_a_part_in_it_wherever_tokens_are_cut(response):
    """Checked on bytes: tokens are taken together up to the end of a character, and count together."""
    tokens, values, start, length = response
    texts = texts_of_bytes(tokens)
    assert "".join(texts).encode() == b"".join(tokens)

    expected, at, together = [], 0, []
    for index, value in enumerate(values):
        together.append(value)
        end = sum(map(len, tokens[: index + 1]))
        if ends_with_a_character(b"".join(tokens)[:end]):
            if at < start + length and end > start:
                expected += together
            at, together = end, []
    mean, answer = response_log_probabilities(texts, values)
    assert mean == pytest.approx(math.fsum(values) / len(values), abs=1e-6)
    assert answer == (pytest.approx(math.fsum(expected), abs=1e-6) if length else None)


def test_tokens_that_straddle_a_tag_count_whole():
    texts = ["x<answ", "er>a", "w", "e</", "answer>", "<confidence>", None]
    mean, answer = response_log_probabilities(texts, [-1, -2, -4, -8, -16, -32, -64])
    assert answer == -14
    assert mean == pytest.approx(-127 / 7, abs=1e-6)


def test_tags_alone_do_not_count_and_the_first_answer_is_the_one():
    texts = ["<answer>", "awe", "</answer>", "<answer>", "fear", "</answer>"]
    assert response_log_probabilities(texts, [-1, -2, -4, -8, -16, -32])[1] == -2


def test_an_unfinished_character_before_the_answer_does_not_count_but_each_part_of_one_inside_does():
    texts = texts_of_bytes([b"<answer>", b"\xf0\x9f", b"\x98", b"\x80", b"</answer>"])
    assert texts == ["<answer>", "", "", "😀", "</answer>"]
    assert response_log_probabilities(texts, [-1, -2, -4, -8, -16])[1] == -14


def test_a_special_token_between_the_parts_of_an_answer_is_in_the_mean_only():
    assert response_log_probabilities(["<answer>", "a", None, "we", "</answer>"], [-1, -2, -4, -8, -16]) == (-6.2, -10)


@pytest.mark.parametrize("texts", [["awe"], ["<answer>", "awe"], ["</answer>", "<answer>"], ["<answer></answer>"]])
def test_without_an_answer_in_its_tags_there_is_only_the_mean(texts):
    assert response_log_probabilities(texts, [-1.0] * len(texts)) == (-1, None)


@pytest.mark.parametrize("values", [[-1, math.nan, 0], [-1, -math.inf, 0]])
def test_what_is_no_number_gives_no_figures(values):
    assert response_log_probabilities(["<answer>", "awe", "</answer>"], values) == (None, None)


def test_a_response_without_tokens_has_no_figures():
    assert response_log_probabilities([], []) == (None, None)


def test_one_log_probability_a_token_is_expected():
    with pytest.raises(ValueError, match="expected one log-probability per token, got 1 for 2"):
        response_log_probabilities(["a", "b"], [-1])


def test_each_candidate_takes_the_place_of_the_answer_and_ends_the_text():
    response = "<think><answer>no</answer></think><answer> awe </answer><confidence>0.9</confidence>"
    head = "<think><answer>no</answer></think><answer>"
    expected = {"awe": f"{head}awe</answer>", "joy of life": f"{head}joy of life</answer>"}
    assert {name: scored.text for name, scored in candidate_texts(response, ["awe", "joy of life"]).items()} == expected
    assert candidate_texts("<answer>awe", ["awe"]) == {} == candidate_texts("awe", ["awe"])


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("<think>It evokes awe: joyful.</think><answer>awe</answer>", "<think>It evokes {}:"),
        ("<think>AWESOME. Awe, not fear.</think><answer>awe</answer>", "<think>AWESOME. {Capital},"),
        ("<think>Who knows?</think><answer>Awe.</answer>", "<think>Who knows?</think><answer>{Capital}."),
        ("<answer>awe</answer> awe", "<answer>{}<"),
        ("<answer>awe or fear</answer>", None),
        ("<answer>bliss</answer>", None),
        ("awe", None),
    ],
)
def test_at_the_first_mention_each_candidate_is_written_as_the_answer_is_there(response, expected):
    scored = candidate_texts(response, ["awe", "fear", "joy of life"], FIRST_MENTION)
    names = {"awe": "Awe", "fear": "Fear", "joy of life": "Joy of life"}
    written = {
        name: expected.replace("{}", name).replace("{Capital}", capital) for name, capital in names.items() if expected
    }
    assert {name: text.text for name, text in scored.items()} == written


@pytest.mark.parametrize(
    ("candidates", "written", "expected"),
    [
        (["Awe", "Joy of life"], "awe", ["awe", "joy of life"]),
        (["AWE", "JOY OF LIFE"], "awe", ["awe", "joy of life"]),
        (["AWE", "JOY OF LIFE"], "Awe", ["Awe", "Joy of life"]),
        (["awe", "joy of life"], "AWE", ["AWE", "JOY OF LIFE"]),
        (["Awe", "joy of life"], "Awe", ["Awe", "joy of life"]),  # as the list has them
        ([" awe ", "joy of life"], "awe", ["awe", "joy of life"]),
        (["Awe", "Angst"], "aWe", ["Awe", "Angst"]),  # in no style of ours
        (["\u60b2", "Awe"], "awe", ["\u60b2", "awe"]),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_candidates_are_scored_as_the_response_writes_its_answer(candidates, written, expected, place):
    response = f"<think>It evokes {written}.</think><answer>{written}</answer>"
    scored = candidate_texts(response, candidates, place)
    assert [scored[name].name for name in candidates] == expected
    assert next(iter(scored.values())).head == response[: response.rindex(written) if place == ANSWER else 17]


@pytest.mark.parametrize(
    ("candidates", "answer", "place"),
    [
        (["joy", "joy of life"], "joy", "just joy"),
        (["pity", "self-pity"], "pity", "mere pity"),
        (["\u60b2", "\u60b2\u4f24"], "\u60b2", "\u53ea\u6709\u60b2"),
    ],
)
def test_a_label_inside_a_longer_candidate_is_no_mention_of_it(candidates, answer, place):
    response = f"<think>Not {candidates[1]}, {place}.</think><answer>{answer}</answer>"
    start, end = first_mention(response, tuple(candidates))
    assert response[:end].endswith(f"{place}") and response[start:end] == answer


def test_a_name_that_begins_another_one_has_to_end():
    """P("joy") is else at least P("joy of life"), which begins with it."""
    for candidates, ends in (
        (["Joy", "joy of life"], True),
        (["joy", "awe", "joyful"], True),
        (["joy", "fear"], False),
    ):
        scored = candidate_texts("<answer>joy</answer>", candidates)
        assert {text.ends for text in scored.values()} == {ends}
    texts, values = ["It evokes ", "joy", ":"], [-9, -1, -4]
    score = CandidateText("It evokes ", "joy", ":", FIRST_MENTION)
    assert candidate_score(texts, values, score) == -1
    assert candidate_score(texts, values, score._replace(ends=True)) == -5
    assert candidate_score(texts[:2], values[:2], score._replace(closing="", ends=True)) == -1


def test_the_score_at_the_first_mention_is_the_names_whole_probability():
    scored = CandidateText("It evokes ", "joy of life", ":", FIRST_MENTION)
    texts, values = ["It", " evokes", " joy", " of", " life", ":"], [-9, -9, -1, -2, -3, -9]
    assert candidate_score(texts, values, scored) == -6
    assert candidate_score(texts, values, scored._replace(place=ANSWER)) == -2
    assert candidate_score(texts, values, scored._replace(name="joy of love")) is None


@given(responses_in_tokens().filter(lambda drawn: drawn[3]), st.data())
def test_a_candidates_score_is_the_mean_over_the_tokens_that_hold_a_part_of_it(drawn, data):
    tokens, _, head, length = drawn
    whole = b"".join(tokens)[: head + length] + b"</answer>"  # nothing follows the closing tag
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=30)))
    # Tokens that share a character come out with it as one: before the candidate none is cut.
    cuts = [cut for cut in cuts if cut >= head or not 0x80 <= whole[cut] < 0xC0]
    edges = list(zip([0, *cuts], [*cuts, len(whole)], strict=True))
    values = data.draw(st.lists(st.floats(-30, 0), min_size=len(edges), max_size=len(edges)))
    inside = [value for (a, b), value in zip(edges, values, strict=True) if a < head + length and b > head]
    candidate = CandidateText("", whole[head : head + length].decode(), "</answer>", ANSWER)
    tail = candidate_tail(candidate)
    texts = texts_of_bytes([whole[a:b] for a, b in edges])
    assert candidate_score(texts, values, candidate) == pytest.approx(sum(inside) / len(inside))
    assert candidate_score(texts[-tail:], values[-tail:], candidate) == pytest.approx(sum(inside) / len(inside))


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["<answer>", "fear", "</answer>"], [-1, -1, -1]),  # another candidate
        (["<answer>", "awe", "</answer>", "."], [-1, -1, -1, -1]),  # more behind
        (["<answer>", "awe", "</answer>"], [-1, -math.inf, -1]),
        ([], []),
    ],
)
def test_tokens_that_do_not_spell_the_candidate_have_no_score(texts, values):
    assert candidate_score(texts, values, CandidateText("<answer>", "awe", "</answer>", ANSWER)) is None


@given(st.lists(st.floats(-800, 0), min_size=1, max_size=25))
def test_candidate_probabilities_are_the_softmax_of_the_scores(scores):
    found = candidate_probabilities(dict(enumerate(scores)))
    assert list(found.values()) == pytest.approx(softmax(scores), abs=1e-6)


def test_one_candidate_without_a_score_leaves_all_without():
    assert candidate_probabilities({"awe": -1.0, "fear": None}) is None is candidate_probabilities({})


@given(st.lists(st.binary(max_size=4), max_size=12))
def test_bytes_that_are_no_text_never_break_decoding(tokens):
    texts = texts_of_bytes(tokens)
    assert len(texts) == len(tokens)
    whole = b"".join(tokens).decode("utf-8", "replace")
    assert whole.startswith("".join(texts).rstrip("\ufffd"))
