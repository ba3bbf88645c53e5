"""Other confidences of a run: token probabilities and agreement, judged beside the stated one."""

import json
import math

import numpy as np
import pytest

from inference.evaluate import evaluate
from inference.metrics.corrected import rows_by_source
from inference.metrics.prediction_table import available_sources, prediction_table
from tests.helpers.results import results_in_memory

LABELS = ["awe", "fear", "joy"]


def a_result(response="<answer>awe</answer>", truth="awe", **more):
    return {"task": "EmoSet-8", "ground_truth": truth, "candidates": LABELS, "response": response, **more}


def answers(*labels):
    return [f"<answer>{label}</answer>" for label in labels]


def sources_of(*results):
    return prediction_table(results)


def test_probabilities_come_from_the_log_probabilities_of_the_result():
    row = sources_of(a_result(answer_log_probability=math.log(0.8), mean_log_probability=math.log(0.9))).iloc[0]
    assert (row["answer_probability"], row["token_probability"]) == (pytest.approx(0.8), pytest.approx(0.9))


def test_what_an_engine_did_not_tell_is_missing_and_no_source():
    table = sources_of(a_result("<answer>awe</answer><confidence>0.9</confidence>", answer_log_probability="?"))
    assert available_sources(table) == ["verbalized"]
    assert list(rows_by_source(table)) == ["verbalized"]


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
    assert (second.majority_label, second.agreement_of_majority) == ("unknown", 1.0)


def test_the_majority_vote_is_judged_by_its_own_answer():
    results = [a_result(truth="fear", other_responses=answers("fear", "fear")) for _ in range(20)]
    rows = rows_by_source(sources_of(*results))
    assert rows["self-consistency"][-1].metrics["accuracy"] == 0.0
    assert rows["majority vote"][-1].metrics["accuracy"] == 1.0


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
    expected = ["verbalized", "answer probability", "self-consistency", "majority vote"]
    assert list(summary["confidence"]) == expected
    text = (tmp_path / "metric_conf.log").read_text()
    for name in expected:
        assert f"ID VER: {name}" in text
    written = json.loads((tmp_path / "metrics.json").read_text())["confidence"]["self-consistency"][-1]
    assert written["intervals"]["ece"]["low"] <= written["ece"] <= written["intervals"]["ece"]["high"]
