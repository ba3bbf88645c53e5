"""Other confidences of a run: token probabilities and agreement, judged beside the stated one."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.evaluate import evaluate
from inference.metrics.corrected import rows_by_source
from inference.metrics.corrected_tables import sources_table
from inference.metrics.prediction_table import available_sources, prediction_table
from tests.helpers.results import results_in_memory

LABELS = ["awe", "fear", "joy"]


def a_result(response="<answer>awe</answer>", truth="awe", **more):
    return {"task": "EmoSet-8", "ground_truth": truth, "candidates": LABELS, "response": response, **more}


def answers(*labels):
    return [f"<answer>{label}</answer>" for label in labels]


def sure(label, confidence):
    return f"<answer>{label}</answer><confidence>{confidence}</confidence>"


def sources_of(*results):
    return prediction_table(results)


def test_probabilities_come_from_the_log_probabilities_of_the_result():
    row = sources_of(a_result(answer_log_probability=math.log(0.8), mean_log_probability=math.log(0.9))).iloc[0]
    assert (row["answer_probability"], row["token_probability"]) == (pytest.approx(0.8), pytest.approx(0.9))


def test_what_an_engine_did_not_tell_is_missing_and_no_source():
    table = sources_of(a_result("<answer>awe</answer><confidence>0.9</confidence>", answer_log_probability="?"))
    assert available_sources(table) == ["verbalized"]
    assert list(rows_by_source(table)) == ["verbalized"]


def test_a_log_probability_above_zero_is_none():
    """Another tool's probability, perhaps; what rounding adds to 0 is 0."""
    for stated, expected in ((0.9, None), (1e-6, 1.0), (0, 1.0)):
        row = sources_of(a_result(answer_log_probability=stated)).iloc[0]
        assert row["answer_probability"] == expected or (expected is None and math.isnan(row["answer_probability"]))


def test_agreement_is_the_share_of_answers_equal_to_the_first():
    row = sources_of(a_result(other_responses=answers("fear", "fear", "awe"))).iloc[0]
    assert (row["label"], row["agreement"]) == ("awe", 0.5)


def test_the_majority_wins_with_its_share_and_the_first_of_two_equals():
    rows = sources_of(
        a_result(other_responses=answers("fear", "fear", "awe", "fear")),
        a_result(other_responses=answers("fear")),
    )
    assert rows["majority_label"].tolist() == ["fear", "awe"]
    assert rows["agreement_of_majority"].tolist() == [0.6, 0.5]


def test_an_answer_that_is_none_counts_in_the_denominator_but_does_not_win():
    first, second = sources_of(
        a_result("no tags", other_responses=["none either", *answers("joy")]), a_result("no", other_responses=["none"])
    ).itertuples()
    assert (first.majority_label, first.agreement_of_majority) == ("joy", pytest.approx(1 / 3))
    assert second.majority_label == "unknown" and math.isnan(second.agreement_of_majority)


def test_the_majority_vote_is_judged_by_its_own_answer():
    results = [a_result(truth="fear", other_responses=answers("fear", "fear")) for _ in range(20)]
    rows = rows_by_source(sources_of(*results))
    assert rows["self-consistency"][-1].metrics["accuracy"] == 0.0
    assert rows["majority vote"][-1].metrics["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("responses", "label", "share"),
    [
        ([sure("awe", 0.9), sure("fear", 0.3), sure("fear", 0.4)], "awe", 0.9 / 1.6),  # the majority says fear
        ([sure("awe", 0.3), sure("fear", 0.1), sure("fear", 0.2)], "awe", 0.5),  # equal: the first one
        ([sure("awe", 0.3), sure("fear", 0.9), sure("awe", 0.3)], "fear", 0.6),
        ([sure("awe", 0.4), sure("none", 0.6)], "awe", 0.4),  # no answer wins, but takes part in the sum
        ([sure("awe", 0.2), *answers("fear", "fear")], "awe", 1.0),  # without a confidence, without weight
        ([*answers("awe", "fear", "fear")], "fear", math.nan),  # nothing to weigh by: the majority, unjudged
        ([sure("awe", 0), sure("fear", 0), sure("fear", 0)], "fear", math.nan),
    ],
)
def test_the_weighted_vote_is_for_the_label_with_the_largest_sum_of_confidences(responses, label, share):
    row = sources_of(a_result(responses[0], other_responses=responses[1:])).iloc[0]
    assert row["weighted_label"] == label
    assert row["agreement_of_weighted"] == pytest.approx(share, nan_ok=True)


@given(st.lists(st.tuples(st.sampled_from([*LABELS, "hm"]), st.none() | st.integers(0, 100)), min_size=2, max_size=8))
def test_the_weighted_vote_is_that_of_exact_numbers(said):
    responses = [sure(label, c / 100) if c is not None else answers(label)[0] for label, c in said]
    row = sources_of(a_result(responses[0], other_responses=responses[1:])).iloc[0]
    sums = {label: sum(c or 0 for other, c in said if other == label) for label, _ in said if label in LABELS}
    if not any(sums.values()):
        assert math.isnan(row["agreement_of_weighted"]) and row["weighted_label"] == row["majority_label"]
    else:
        assert row["weighted_label"] == max(sums, key=sums.get)
        assert row["agreement_of_weighted"] == pytest.approx(max(sums.values()) / sum(c or 0 for _, c in said))


def test_the_weighted_vote_is_judged_by_its_own_answer():
    others = [sure("fear", 0.2), sure("fear", 0.2)]
    rows = rows_by_source(sources_of(*[a_result(sure("awe", 0.9), other_responses=others) for _ in range(20)]))
    assert rows["majority vote"][-1].metrics["accuracy"] == 0.0
    assert rows["confidence-weighted vote"][-1].metrics["accuracy"] == 1.0


def test_the_candidate_probability_is_that_of_the_answer():
    stated = {"awe": 0.2, "fear": 0.7, "joy": 0.1}
    table = sources_of(a_result(candidate_probabilities=stated), a_result("none", candidate_probabilities=stated))
    assert table["candidate_probability"].tolist() == pytest.approx([0.2, math.nan], nan_ok=True)
    assert available_sources(table) == ["verbalized", "candidate probability"]


def test_probabilities_at_the_first_mention_are_a_confidence_of_their_own():
    stated = {"awe": 0.2, "fear": 0.7, "joy": 0.1}
    table = sources_of(a_result(candidate_probabilities=stated, candidate_place="first_mention"))
    assert table["first_mention_probability"].tolist() == pytest.approx([0.2])
    assert table["candidate_probability"].isna().all()
    assert available_sources(table) == ["verbalized", "first-mention probability"]


def test_labels_of_other_tasks_that_a_table_has_filled_with_nulls_leave_the_probabilities_as_they_are():
    """As after datasets or pyarrow, which give every row the keys of all."""
    stated = {"awe": 0.2, "fear": 0.7, "joy": 0.1}
    table = sources_of(a_result(candidate_probabilities={"negative": None, **stated, "positive": None}))
    assert table["candidate_probability"].tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("stated", ["?", [0.5], {"awe": 2.0}, {"awe": 0.5, "hm": 0.5}, {"awe": -0.5, "fear": 1.5}, {}])
def test_candidate_probabilities_that_are_none_are_missing(stated):
    assert available_sources(sources_of(a_result(candidate_probabilities=stated))) == ["verbalized"]


def test_the_confidences_compared_say_how_many_samples_have_each():
    """Of 21 samples in one group every third states no confidence and every seventh has no log-probability."""
    results = [
        a_result(
            answers("awe")[0] if i % 3 == 0 else sure("awe", 0.7),
            truth=LABELS[i % 2],
            answer_log_probability=None if i % 7 == 0 else -0.1,
        )
        for i in range(21)
    ]
    text = sources_table(rows_by_source(sources_of(*results)))
    counts = dict(re.findall(r"^(.*: .*?) +(\d+)  ", text, re.MULTILINE))
    assert text.splitlines()[1].split()[:3] == ["With", "it", "Acc"]
    assert counts == {
        "ID VSA: verbalized": "0", "ID VSA: answer probability": "0",
        "ID VER: verbalized": "14", "ID VER: answer probability": "18",
        "OOD VER: verbalized": "0", "OOD VER: answer probability": "0",
        "Overall: verbalized": "14", "Overall: answer probability": "18",
    }  # fmt: skip


def test_evaluation_prints_every_confidence_beside_the_stated_one(tmp_path):
    random = np.random.default_rng(0)
    results = [
        a_result(
            f"<answer>awe</answer><confidence>{random.choice([0.6, 0.8])}</confidence>",
            truth=random.choice(LABELS),
            answer_log_probability=float(-random.random()),
            other_responses=answers(*random.choice(LABELS, 3)),
        )
        for _ in range(60)
    ]
    summary = evaluate(results_in_memory(results), tmp_path, n_resamples=50)
    expected = [
        "verbalized", "answer probability", "self-consistency", "majority vote", "confidence-weighted vote",
    ]  # fmt: skip
    assert list(summary["confidence"]) == expected
    text = (tmp_path / "metric_conf.log").read_text()
    for name in expected:
        assert f"ID VER: {name}" in text
    written = json.loads((tmp_path / "metrics.json").read_text())["confidence"]["self-consistency"][-1]
    assert written["intervals"]["ece"]["low"] <= written["ece"] <= written["intervals"]["ece"]["high"]
