"""Recalibration: known truths are found again, no sample judges itself, files come back as they went."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from inference.metrics.calibration import brier_score, expected_calibration_error, log_loss
from inference.metrics.prediction_table import prediction_table
from inference.metrics.ranking import roc_auc
from inference.metrics.recalibration import METHODS, folds
from inference.recalibration import (
    BY_GROUP,
    RecalibrationFileError,
    compare_methods,
    confidence_samples,
    cross_fitted,
    fit_recalibration,
    load_recalibration,
    parts_of,
    save_recalibration,
)
from tests.helpers.results import a_result, answer, overconfident, score

ALL_METHODS = pytest.mark.parametrize("method", METHODS)
STATED = [0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
values = st.sampled_from([0.0, 0.5, 0.9, 0.95, 1.0]) | st.floats(0, 1)
scored = st.lists(st.tuples(values, st.integers(0, 1)), max_size=60)
grid = np.linspace(0, 1, 101)


def columns(rows):
    return np.array([c for c, _ in rows], dtype=float), np.array([y for _, y in rows], dtype=int)


def test_temperature_scaling_recovers_the_temperature():
    assert 1 / fit_recalibration("temperature", *overconfident()).slope == pytest.approx(2.5, rel=0.05)


def test_temperature_scaling_is_the_most_likely_temperature():
    """The likelihood of the answers as they are, minimised by another program."""
    confidence, right = overconfident(40, seed=4)
    score, sign = logit(confidence), np.where(right == 1, 1, -1)
    best = minimize_scalar(lambda slope: np.logaddexp(0, -slope * sign * score).sum(), bounds=(0, 20), method="bounded")
    assert fit_recalibration("temperature", confidence, right).slope == pytest.approx(best.x, abs=1e-4)


def test_answers_that_a_threshold_of_one_half_separates_have_a_finite_temperature_and_a_remark():
    fitted = fit_recalibration("temperature", np.repeat([0.7, 0.2], 10), np.repeat([1, 0], 10))
    assert 1 < fitted.slope < 20
    assert "apart at 0.5" in fitted.remark
    assert fit_recalibration("temperature", np.repeat([0.7, 0.2], 10), np.repeat([0, 1], 10)).slope == 0


def test_platt_scaling_recovers_slope_and_intercept():
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.05, 0.95, 40_000)
    right = generator.random(40_000) < expit(0.6 * logit(confidence) - 0.8)
    fitted = fit_recalibration("platt", confidence, right)
    assert (fitted.slope, fitted.intercept) == (pytest.approx(0.6, abs=0.04), pytest.approx(-0.8, abs=0.04))


@ALL_METHODS
def test_every_method_calibrates_new_overconfident_answers(method):
    fitted = fit_recalibration(method, *overconfident(seed=2))
    confidence, right = overconfident(seed=3)
    assert score(expected_calibration_error, confidence, right) > 0.1
    assert score(expected_calibration_error, fitted.apply(confidence), right) < 0.02
    assert score(log_loss, fitted.apply(confidence), right) < score(log_loss, confidence, right)


def test_isotonic_regression_gives_each_value_its_accuracy_where_these_ascend():
    confidence, right = np.repeat([0.2, 0.6, 0.9], 10), np.repeat([0, 1, 0, 1], [8, 7, 5, 10])
    assert fit_recalibration("isotonic", confidence, right).apply([0.2, 0.6, 0.9]) == pytest.approx([0.2, 0.5, 1.0])


def test_histogram_binning_gives_each_bin_its_accuracy():
    confidence = np.linspace(0, 1, 200)
    right = (np.arange(200) % 2 == 0) | (confidence > 0.5)
    fitted = fit_recalibration("histogram", confidence, right)
    assert len(fitted.x) == 10
    assert fitted.apply([0.0, 0.3, 0.6, 1.0]) == pytest.approx([0.5, 0.5, 1.0, 1.0])


@given(scored)
def test_equal_confidences_share_a_bin_and_no_bin_is_empty(rows):
    confidence, right = columns(rows)
    fitted = fit_recalibration("histogram", confidence, right)
    if fitted.method == "histogram" and not fitted.remark:
        bins = np.searchsorted(fitted.x, confidence)
        assert sorted(set(bins)) == list(range(len(fitted.x)))
        by_bin = [right[bins == i].mean() for i in range(len(fitted.x))]
        assert list(fitted.y) == pytest.approx(by_bin)


@ALL_METHODS
@given(rows=scored)
def test_any_data_give_a_map_into_0_to_1(method, rows):
    confidence, right = columns(rows)
    for recalibrated in (
        fit_recalibration(method, confidence, right).apply(grid),
        cross_fitted(method, confidence, right),
        cross_fitted(method, confidence, right, groups=[i // 3 for i in range(len(right))]),
    ):
        assert np.all((recalibrated >= 0) & (recalibrated <= 1))


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
@given(rows=scored)
def test_a_surer_answer_never_becomes_the_less_sure_one(method, rows):
    recalibrated = fit_recalibration(method, *columns(rows)).apply(grid)
    assert np.all(np.diff(recalibrated) >= 0)


@given(scored)
def test_isotonic_regression_never_has_the_greater_squared_error_where_it_was_fitted(rows):
    confidence, right = columns([*rows, (0.3, 0), (0.7, 1)] * 5)
    fitted = fit_recalibration("isotonic", confidence, right)
    assert score(brier_score, fitted.apply(confidence), right) <= score(brier_score, confidence, right) + 1e-12


@ALL_METHODS
def test_fewer_than_ten_samples_leave_the_confidence_as_it_is(method):
    fitted = fit_recalibration(method, [0.9] * 9, [1, 0, 0] * 3)
    assert fitted.apply(grid).tolist() == grid.tolist()
    assert "9 samples" in fitted.remark


@pytest.mark.parametrize("method", ["platt", "isotonic", "histogram"])
@pytest.mark.parametrize(("right", "rate"), [([1] * 18, 19 / 20), ([0] * 18, 1 / 20)])
def test_one_class_gives_the_smoothed_base_rate(method, right, rate):
    assert fit_recalibration(method, np.linspace(0, 1, 18), right).apply(grid) == pytest.approx(np.full(101, rate))


@pytest.mark.parametrize("method", ["platt", "isotonic", "histogram"])
def test_one_distinct_confidence_gives_the_smoothed_base_rate(method):
    assert fit_recalibration(method, [0.9] * 18, [1, 0] * 9).apply([0.1, 0.9]) == pytest.approx([0.5, 0.5])


def test_a_temperature_maps_one_distinct_confidence_to_its_accuracy_and_one_half_to_itself():
    right = [1] * 700 + [0] * 300
    assert fit_recalibration("temperature", [0.9] * 1000, right).apply([0.9]) == pytest.approx([0.7], abs=0.002)
    assert fit_recalibration("temperature", [0.5] * 1000, right).apply([0.5, 0.8]).tolist() == [0.5, 0.8]


def test_confidence_that_is_surer_of_wrong_answers_is_flattened_not_turned_around():
    confidence, right = np.repeat([0.6, 0.9], 50), np.repeat([1, 0], 50)
    assert fit_recalibration("temperature", confidence, right).apply([0.6, 0.9]).tolist() == [0.5, 0.5]
    assert fit_recalibration("platt", confidence, right).apply([0.6, 0.9]) == pytest.approx([0.5, 0.5])


def test_an_answer_without_a_confidence_stays_without():
    confidence, right = overconfident(200)
    for method in METHODS:
        recalibrated = fit_recalibration(method, confidence, right).apply([np.nan, 0.9])
        assert np.isnan(recalibrated).tolist() == [True, False]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("isotonik", [0.5], [1]), "method: expected one of temperature, platt, isotonic, histogram, got 'isotonik'"),
        (("platt", [0.5], [1, 0]), "two arrays of one length"),
        (("platt", [1.5], [1]), r"confidence: expected numbers in \[0, 1\]"),
        (("platt", [float("nan")], [1]), r"confidence: expected numbers in \[0, 1\]"),
        (("platt", [0.5], [2]), "correctness: expected 0 or 1"),
    ],
)
def test_what_cannot_be_fitted_is_named(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        fit_recalibration(*arguments)


@pytest.mark.parametrize("method", ["isotonic", "histogram"])
def test_cross_fitted_confidences_have_not_seen_the_answer_they_are_judged_by(method):
    """On coin tosses any skill is a leak. Fitted and judged on the same samples, both methods show some."""
    seen, unseen = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        confidence, toss = generator.random(200), generator.integers(0, 2, 200)
        seen.append(score(roc_auc, fit_recalibration(method, confidence, toss).apply(confidence), toss))
        unseen.append(score(roc_auc, cross_fitted(method, confidence, toss, seed=seed), toss))
    assert np.mean(seen) > 0.54
    assert np.mean(unseen) < 0.52


def test_each_sample_is_recalibrated_by_the_map_of_the_other_folds():
    confidence, right = overconfident(100)
    expected = np.full(100, np.nan)
    for fit, held_out in folds(right, n_splits=4, seed=7):
        assert not set(fit) & set(held_out)
        assert np.isnan(expected[held_out]).all()
        expected[held_out] = fit_recalibration("platt", confidence[fit], right[fit]).apply(confidence[held_out])
    assert cross_fitted("platt", confidence, right, n_splits=4, seed=7) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=1, max_size=60), st.integers(0, 3))
def test_an_image_is_never_on_both_sides_of_a_fold(rows, seed):
    images, right = np.array([f"{i}.jpg" for i, _ in rows]), np.array([y for _, y in rows])
    splits = folds(right, images, seed=seed)
    for fit, held_out in splits:
        assert not set(images[fit]) & set(images[held_out])
    held = sorted(int(i) for _, held_out in splits for i in held_out)
    assert held == (list(range(len(rows))) if splits else [])


def test_folds_have_equal_shares_of_right_answers():
    right = np.array([1] * 80 + [0] * 20)
    assert [right[held_out].sum() for _, held_out in folds(right)] == [16] * 5


def test_the_same_seed_gives_the_same_folds_and_another_seed_others():
    confidence, right = overconfident(60)
    first, again, other = (cross_fitted("isotonic", confidence, right, seed=seed) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_saved_maps_come_back_equal(tmp_path):
    confidence, right = overconfident(3_000)
    maps = {method: fit_recalibration(method, confidence, right) for method in METHODS}
    maps["few"] = fit_recalibration("isotonic", [0.5], [1])
    maps["one class"] = fit_recalibration("platt", confidence, np.ones(3_000))
    save_recalibration(maps, tmp_path / "recalibration.json", {"n": 3_000, "notices": ["made up"]})
    loaded = load_recalibration(tmp_path / "recalibration.json")
    assert loaded.maps == maps
    assert loaded.facts == {"n": 3_000, "notices": ["made up"]}
    for name, fitted in maps.items():
        assert loaded.apply(grid, name).tolist() == fitted.apply(grid).tolist()


@pytest.mark.parametrize(
    ("facts", "others"),
    [
        ({"models": ["a", "b"]}, []),
        ({"models": ["b", "c"]}, ["b", "c"]),
        ({"models": []}, []),
        ({"models": 3}, []),
        ({}, []),
    ],
)
def test_maps_know_whose_answers_they_were_fitted_to(tmp_path, facts, others):
    save_recalibration({"Overall": fit_recalibration("platt", *overconfident(40))}, tmp_path / "maps.json", facts)
    assert load_recalibration(tmp_path / "maps.json").other_models("a") == others


def test_a_group_without_a_map_is_named_with_those_that_have_one(tmp_path):
    save_recalibration({"OOD VER": fit_recalibration("platt", *overconfident(50))}, tmp_path / "r.json", {})
    with pytest.raises(KeyError, match="no recalibration for 'Overall', there is one for: OOD VER"):
        load_recalibration(tmp_path / "r.json").apply([0.9])


@pytest.mark.parametrize(
    ("change", "place", "problem"),
    [
        (
            {"method": "a"},
            "",
            "method: expected one of temperature, platt, isotonic, histogram, identity, got 'a'",
        ),
        ({"n": "many"}, ".n", "Expected `int`, got `str`"),
        ({"n": -1}, ".n", "Expected `int` >= 0"),
        ({"x": [0.9, 0.1]}, "", "x: expected ascending numbers"),
        ({"x": [0.1]}, "", "y: expected as many numbers as in x, 1"),
        ({"y": [0.5, 7]}, ".y[1]", "Expected `float` <= 1.0"),
        ({"x": [], "y": []}, "", "x: expected at least one number"),
        ({"slope": "steep", "method": "platt"}, ".slope", "Expected `float`, got `str`"),
        ({"slope": -1, "method": "platt"}, ".slope", "Expected `float` >= 0.0"),
        ({"colour": 1}, "", "Object contains unknown field `colour`"),
    ],
)
def test_a_broken_map_is_named_by_file_and_field(tmp_path, change, place, problem):
    path = tmp_path / "r.json"
    whole = {"method": "isotonic", "n": 20, "x": [0.2, 0.9], "y": [0.1, 0.7]}
    document = {"format": "confidence recalibration, version 1", "facts": {}, "maps": {"A": whole}}
    path.write_text(json.dumps(document))
    assert load_recalibration(path).maps["A"].n == 20
    path.write_text(json.dumps({**document, "maps": {"A": {**whole, **change}}}))
    with pytest.raises(RecalibrationFileError) as caught:
        load_recalibration(path)
    assert str(caught.value) == f"{path}, field 'maps.A{place}': {problem}"


@pytest.mark.parametrize(
    ("text", "field"),
    [("", "(file)"), ('{"format": ', "(file)"), ("[1]", "format"), ('{"counts": {"read": 3}}', "format"),
     ('{"format": "confidence recalibration, version 1", "facts": {}}', "maps"),
     ('{"format": "confidence recalibration, version 1", "facts": {}, "maps": {"A": 3}}', "maps.A")],
)  # fmt: skip
def test_a_torn_or_foreign_file_is_named_by_file_and_field(tmp_path, text, field):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(RecalibrationFileError) as caught:
        load_recalibration(path)
    assert str(caught.value).lower().startswith(f"{path}, field '{field}': expected ".lower())


def test_results_of_one_image_belong_together_whatever_the_form_of_the_record():
    conversation = [{"role": "user", "content": [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "?"}]}]
    results = [
        a_result(response=answer("awe", 0.9), conversations=conversation),
        a_result(response=answer("awe", 0.9), image="a.jpg"),
        a_result(response=answer("awe")),
        a_result(response=answer("awe", 0.9)),
        a_result(response=answer("fear", 0.9), conversations="no conversation"),
    ]
    samples = confidence_samples(prediction_table(results))
    first, second, *others = samples["unit"]
    assert first == second
    assert len({first, *others}) == 3
    assert samples["correctness"].tolist() == [1, 1, 1, 0]


def test_samples_outside_the_groups_are_judged_by_the_map_of_all_where_groups_have_maps_of_their_own():
    """As a prediction without a group is; a group without a sample has no map, so that theirs is that of all, too."""
    stated, right = overconfident(80)
    results = [
        {**a_result(response=answer("awe" if y else "fear", c), image=f"{i}.jpg"), "task": ("mine", "EmoSet-8")[i % 2]}
        for i, (c, y) in enumerate(zip(stated, right, strict=True))
    ]
    samples = confidence_samples(prediction_table(results))
    assert list(parts_of(samples)) == ["ID VER", "Overall"]
    mine, ver = (samples["task"] == task for task in ("mine", "EmoSet-8"))
    expected = cross_fitted("platt", samples["confidence"], samples["correctness"], samples["unit"])
    own = samples[ver]
    expected[ver] = cross_fitted("platt", own["confidence"], own["correctness"], own["unit"])
    found = compare_methods(samples)
    assert found[BY_GROUP]["platt"]["brier"] == pytest.approx(np.mean((expected - samples["correctness"]) ** 2))
    only_mine = compare_methods(samples[mine])
    assert only_mine[BY_GROUP] == only_mine["Overall"]
    assert only_mine["Overall"]["platt"]["ece"] < only_mine["Overall"]["as stated"]["ece"] / 2
