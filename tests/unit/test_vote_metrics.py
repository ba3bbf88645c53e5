"""Metrics of votes against scipy, scikit-learn and the toy world, where the right values are known in closed form."""

import json
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import brier_score_loss, log_loss

from inference.evaluate import evaluate
from inference.metrics.calibration import LEAST_DOUBT
from inference.metrics.corrected import estimate, rows_by_source
from inference.metrics.prediction_table import prediction_table
from inference.metrics.rows import VOTE_METRICS
from inference.metrics.votes import entropy, jensen_shannon_distance, rank_correlation
from inference.plots.votes import vote_bins
from inference.report.tables import tables_html
from scripts.toy_world import world
from scripts.toy_world.report import toy_predictions, toy_table
from tests.helpers.commands import write_jsonl
from tests.helpers.results import a_result, answer, results_in_memory, results_of

LABELS = ["awe", "fear", "joy"]
distributions = st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any).map(lambda n: np.array(n) / sum(n))


def voted(response, votes, **more):
    known = {"task": "EmoSet-8", "ground_truth": "awe", "candidates": LABELS, "response": response}
    return {**known, "label_votes": votes, **more}


def overall(results, n_resamples=0):
    return estimate(prediction_table(results), n_resamples)[-1]


# --- formulas ----------------------------------------------------------------------------


@given(distributions, distributions)
def test_the_distance_of_two_distributions_is_scipys(p, q):
    first, second = (dict(zip("abcd", values, strict=True)) for values in (p, q))
    assert jensen_shannon_distance(first, second) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)


def test_a_label_of_one_distribution_only_is_as_far_as_can_be():
    assert jensen_shannon_distance({"a": 1.0}, {"b": 1.0}) == 1.0
    assert jensen_shannon_distance({"a": 1.0, "b": 0.0}, {"a": 1.0}) == 0.0


@given(distributions)
def test_entropy_is_scipys(p):
    assert entropy(dict(enumerate(p))) == pytest.approx(stats.entropy(p), abs=1e-12)


pairs = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1), st.integers(0, 3)), min_size=2, max_size=40)


@given(pairs)
def test_the_rank_correlation_of_weighted_samples_is_scipys_of_as_many_equal_ones(rows):
    x, y, w = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = rank_correlation(x, y, np.array([np.ones(len(x)), w]))
    for value, count in zip(found, (np.ones(len(x), dtype=int), w.astype(int)), strict=True):
        some_x, some_y = np.repeat(x, count), np.repeat(y, count)
        if len(set(some_x)) < 2 or len(set(some_y)) < 2:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(stats.spearmanr(some_x, some_y).statistic, abs=1e-9)


# --- rows ----------------------------------------------------------------------------------


voters = st.lists(
    st.tuples(st.sampled_from([*LABELS, "hm"]), st.floats(0, 1), st.tuples(*[st.integers(0, 9)] * 3).filter(any)),
    min_size=1, max_size=15,
)  # fmt: skip


@given(voters)
def test_proper_scores_by_votes_are_scikit_learns_with_a_row_for_each_voter(rows):
    """Each sample counts as one, its voters as their shares of it; a voter judges whether the answer is his own."""
    results = [voted(answer(said, repr(c)), dict(zip(LABELS, votes, strict=True))) for said, c, votes in rows]
    outcome, confidence, weight, distance = [], [], [], []
    for said, c, votes in rows:
        for label, count in zip(LABELS, votes, strict=True):
            outcome.append(int(label == said))
            confidence.append(c)
            weight.append(count / sum(votes))
        distance.append(abs(c - dict(zip(LABELS, votes, strict=True)).get(said, 0) / sum(votes)))
    metrics = overall(results).metrics
    assert metrics["n_voted"] == len(rows)
    assert metrics["vote_distance"] == pytest.approx(np.mean(distance))
    scores = {"y_true": outcome, "sample_weight": weight}
    assert metrics["vote_brier"] == pytest.approx(brier_score_loss(y_proba=confidence, pos_label=1, **scores))
    clipped = np.clip(confidence, LEAST_DOUBT, 1 - LEAST_DOUBT)
    assert metrics["vote_log_loss"] == pytest.approx(log_loss(y_pred=clipped, labels=[0, 1], **scores))


def test_only_samples_with_votes_count_and_those_of_the_confidence_with_one():
    results = [
        voted(answer("awe", 0.5), {"awe": 3, "fear": 1}),
        voted(answer("fear"), {"fear": 2}),
        a_result(response=answer("awe", 0.9)),
    ]
    row = overall(results)
    assert (row.n_samples, row.metrics["n_voted"], row.metrics["vote_distance"]) == (3, 2, 0.25)


def test_one_more_confident_where_people_agree_has_a_rank_correlation_of_one():
    results = [
        voted(answer("awe", c), {"awe": n, "fear": 20 - n}) for c, n in ((0.9, 20), (0.8, 18), (0.6, 15), (0.5, 10))
    ]
    assert overall(results).metrics["vote_entropy_correlation"] == pytest.approx(1.0)
    agreed = [voted(answer("awe", c), {"awe": 5}) for c in (0.5, 0.9)]
    assert "vote_entropy_correlation" not in overall(agreed).metrics  # of what does not vary


def test_the_responses_are_compared_with_the_votes_an_answer_that_is_none_included():
    results = [voted(answer("awe"), {"awe": 1, "fear": 1}, other_responses=[answer("fear"), "none", answer("awe")])]
    assert overall(results).metrics["vote_js_responses"] == pytest.approx(
        jensenshannon([0.5, 0.5, 0], [0.5, 0.25, 0.25], base=2)
    )


def test_candidate_probabilities_are_compared_with_the_votes():
    stated = {"awe": 0.6, "fear": 0.3, "joy": 0.1}
    results = [voted(answer("awe"), {"awe": 1, "fear": 1}, candidate_probabilities=stated)]
    expected = jensenshannon([0.5, 0.5, 0], list(stated.values()), base=2)
    assert overall(results).metrics["vote_js_candidates"] == pytest.approx(expected)


def test_null_is_no_vote_of_a_candidate_or_of_another_task():
    results = [voted(answer("awe"), {"awe": 3, "fear": 1, "joy": None, "positive": None})]
    assert prediction_table(results)["votes"].tolist() == [{"awe": 0.75, "fear": 0.25, "joy": 0.0}]


def test_votes_of_a_row_that_cannot_be_right_are_refused():
    with pytest.raises(ValueError, match="field 'label_votes': expected numbers of 0 or more, got -1 for 'awe'"):
        prediction_table([voted(answer("awe"), {"awe": -1})])


def test_bins_of_a_plot_hold_the_means_and_the_middle_half():
    generator = np.random.default_rng(0)
    confidence, values = generator.choice([0.3, 0.55, 1.0], 200), generator.random(200)
    bins = vote_bins(confidence, values)
    by_value = pd.Series(values).groupby(confidence)
    assert bins["count"].tolist() == by_value.size().tolist()
    for name, expected in (
        ("mean", by_value.mean()),
        ("low", by_value.quantile(0.25)),
        ("high", by_value.quantile(0.75)),
    ):
        assert bins[name] == pytest.approx(expected.to_numpy())


# --- the toy world -------------------------------------------------------------------------


def toy_results(n=300, confidence_of=lambda p: p, responses=0, seed=0):
    """Answers of a model that knows the posterior: the likeliest label, its confidence a function of its p."""
    rng = random.Random(seed)
    results = []
    for i in range(n):
        task = rng.choice(["EmoSet-8", "FI-2", "WebEmo-7", "UnbiasedEmo-6"])
        label, cues = world.sample(task, rng)
        posterior = world.posterior(task, cues)
        said = max(posterior, key=posterior.get)
        drawn = rng.choices(list(posterior), list(posterior.values()), k=responses)
        more = {"other_responses": [answer(other) for other in drawn]} if drawn else {}
        distribution = {name: round(p, 6) for name, p in posterior.items()}
        stated = answer(said, f"{confidence_of(posterior[said]):.6f}")
        results.append(
            a_result(task, label, stated, sample_id=f"s{i}", label_distribution=distribution, cues=cues, **more)
        )
    return results


def posteriors_of(results):
    return [world.posterior(result["task"], result["cues"]) for result in results]


def test_a_model_that_states_the_posterior_has_no_distance_and_the_least_possible_scores():
    results = toy_results()
    p = np.array([max(posterior.values()) for posterior in posteriors_of(results)])
    metrics = overall(results).metrics
    assert metrics["vote_distance"] == pytest.approx(0, abs=1e-5)
    assert metrics["vote_brier"] == pytest.approx(np.mean(p * (1 - p)), abs=1e-5)
    own = np.clip(p, LEAST_DOUBT, 1 - LEAST_DOUBT)
    assert metrics["vote_log_loss"] == pytest.approx(np.mean(-p * np.log(own) - (1 - p) * np.log(1 - own)), abs=1e-5)
    shifted = overall(toy_results(confidence_of=lambda p: max(0, p - 0.1))).metrics
    assert shifted["vote_distance"] == pytest.approx(np.mean(np.minimum(p, 0.1)), abs=1e-5)
    assert shifted["vote_brier"] == pytest.approx(metrics["vote_brier"] + np.mean(np.minimum(p, 0.1) ** 2), abs=1e-5)


def test_correlation_and_distance_of_a_toy_run_are_those_of_the_closed_form():
    results = toy_results(responses=7)
    exact = posteriors_of(results)
    metrics = overall(results).metrics
    entropies = [stats.entropy(list(posterior.values())) for posterior in exact]
    doubts = [1 - round(max(posterior.values()), 6) for posterior in exact]
    expected = stats.spearmanr(doubts, entropies).statistic
    assert metrics["vote_entropy_correlation"] == pytest.approx(expected, abs=1e-3)  # six decimals make ties
    distances = []
    for result, posterior in zip(results, exact, strict=True):
        texts = [result["response"], *result["other_responses"]]
        counts = [sum(f"<answer>{label}</answer>" in text for text in texts) for label in posterior]
        distances.append(jensenshannon(counts, list(posterior.values()), base=2))
    assert metrics["vote_js_responses"] == pytest.approx(np.mean(distances), abs=1e-5)


def test_what_evaluation_says_of_a_toy_run_is_the_distance_of_its_own_report(tmp_path):
    results = toy_results(confidence_of=lambda p: p**2)
    rows = {row.name: row for row in estimate(prediction_table(results))}
    merged = write_jsonl(tmp_path / "merged.jsonl", results)
    report = toy_table(toy_predictions(merged))["confidence_error"]
    assert rows["Overall"].metrics["vote_distance"] == pytest.approx(report["all"], abs=1e-5)
    assert rows["FI-2"].metrics["vote_distance"] == pytest.approx(report["FI-2"], abs=1e-5)
    older = [{("posterior" if key == "label_distribution" else key): v for key, v in r.items()} for r in results]
    assert toy_table(toy_predictions(write_jsonl(merged, older)))["confidence_error"]["all"] == report["all"]


def test_intervals_hold_the_value_that_many_more_samples_have():
    truth = overall(toy_results(n=6000, confidence_of=lambda p: p**2, responses=3, seed=1)).metrics
    row = overall(toy_results(n=400, confidence_of=lambda p: p**2, responses=3, seed=2), n_resamples=400)
    for metric in ("vote_distance", "vote_brier", "vote_log_loss", "vote_entropy_correlation", "vote_js_responses"):
        low, high = row.intervals[metric]
        assert low < row.metrics[metric] < high
        assert low - (high - low) / 2 < truth[metric] < high + (high - low) / 2
        assert high - low < 0.2


# --- files -----------------------------------------------------------------------------------


def test_a_run_without_votes_says_nothing_about_them(tmp_path):
    summary = evaluate(results_in_memory(results_of(["FI-2", "EmoSet-8"], 30)), tmp_path, n_resamples=20)
    for path in tmp_path.iterdir():
        text = path.read_text()
        assert "vote" not in text and "JS distance" not in text, path.name
    assert "vote" not in tables_html(summary)


def test_a_run_with_votes_has_them_in_every_file_and_the_same_numbers_else(tmp_path):
    results = toy_results(n=60, responses=3)
    bare = [{key: value for key, value in result.items() if key != "label_distribution"} for result in results]
    with_votes, without = (
        evaluate(results_in_memory(rows), tmp_path / name, n_resamples=50)
        for name, rows in (("votes", results), ("bare", bare))
    )
    text, known = ((tmp_path / name / "metric_conf.log").read_text() for name in ("votes", "bare"))
    assert "Distance from vote share" in text and "JS distance, responses from votes" in text
    assert text.partition("Confidence in full")[0] == known.partition("Confidence in full")[0]
    row = with_votes["corrected"]["metric"][-1]
    assert row["n_voted"] == 60 and row["intervals"]["vote_brier"]["low"] < row["vote_brier"]
    others = {key: value for key, value in row.items() if key not in VOTE_METRICS and key != "intervals"}
    assert others == {k: v for k, v in without["corrected"]["metric"][-1].items() if k != "intervals"}
    assert "\tvote_distance\t" in (tmp_path / "votes" / "metrics.tsv").read_text()
    assert "|c − vote share|" in tables_html(with_votes)
    assert json.loads((tmp_path / "votes" / "metrics.json").read_text())["confidence"]["majority vote"][-1][
        "vote_brier"
    ]


def test_each_confidence_is_compared_with_the_votes_for_its_own_answer():
    """The majority's answer has other votes than the first one."""
    results = [voted(answer("awe", 0.9), {"fear": 4, "awe": 1}, other_responses=[answer("fear"), answer("fear")])]
    rows = rows_by_source(prediction_table(results))
    assert rows["verbalized"][-1].metrics["vote_distance"] == pytest.approx(0.7)
    assert rows["majority vote"][-1].metrics["vote_distance"] == pytest.approx(abs(2 / 3 - 0.8))
