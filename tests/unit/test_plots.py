"""Figures: the numbers behind them equal the data, every format is written, odd data draw something sensible."""

import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.data.vecbench import TASKS
from inference.metrics import scores
from inference.metrics.protocols import label_reports, prediction_table
from inference.metrics.result_lines import candidates_of
from inference.plots.confidence import (
    confidence_histograms,
    histogram_counts,
    reliability_bins,
    reliability_diagram,
    risk_coverage,
)
from inference.plots.confusion import confusion_counts, confusion_matrices, file_part, label_order, row_shares
from inference.plots.curves import draw_all
from inference.plots.intervals import confidence_sources, heights, leaves_out, run_comparison
from tests.helpers.plots import NOTICE, ONE_A_GROUP, STEMS, is_drawn, some_results
from tests.helpers.results import a_result, answer

BY_GROUP = pytest.mark.parametrize("draw", [reliability_diagram, risk_coverage, confidence_histograms])


@pytest.fixture(autouse=True)
def no_warning():
    """matplotlib warns where a figure has gone wrong: axes without room, a label it cannot draw."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def table():
    return prediction_table(some_results())


def a_table(*rows):
    """(task, truth, label, confidence) rows."""
    return prediction_table([a_result(task, truth, answer(label, c)) for task, truth, label, c in rows])


def words_in(svg):
    return [node.text for node in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text") if node.text]  # noqa: S314  our own file


def test_every_figure_of_a_run_is_written_with_its_notice(table, tmp_path):
    written = draw_all(table, tmp_path, NOTICE, ("svg",))
    names = {f"{stem}.svg" for stem in (*STEMS, *(f"confusion_{task}" for task in ONE_A_GROUP))}
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()} == names
    for path in written:
        assert NOTICE in words_in(path), path.name


def test_every_format_is_written_and_the_same_data_give_the_same_files(table, tmp_path):
    for name in ("first", "again"):
        confusion_matrices(table[table["task"] == "FI-2"], tmp_path / name, ("png", "pdf", "svg"), NOTICE)
    for form in ("png", "pdf", "svg"):
        first, again = (tmp_path / f"{name}_FI-2.{form}" for name in ("first", "again"))
        assert first.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF-", "svg": b"<?xml"}[form])
        assert first.read_bytes() == again.read_bytes()


def test_an_unknown_format_is_named_before_anything_is_drawn(table, tmp_path):
    with pytest.raises(ValueError, match="formats: expected some of png, pdf, svg, got 'gif'"):
        draw_all(table, tmp_path, formats=("png", "gif"))
    assert list(tmp_path.iterdir()) == []


@BY_GROUP
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], ["no sample"] * 4),
        ([("EmoSet-8", "awe", "awe", 1.0)], ["no sample"] * 2),
        ([("EmoSet-8", "awe", "awe", None), ("FI-2", "positive", "negative", None)], ["no confidence stated"] * 3),
        ([("EmoSet-8", "awe", "fear", 0.0), ("EmoSet-8", "awe", "fear", 1.0)], ["no sample"] * 2),
    ],
    ids=["nothing", "one sample", "no confidence", "all wrong"],
)
def test_little_data_draw_panels_that_say_so(draw, rows, said, tmp_path):
    (path,) = draw(a_table(*rows), tmp_path / "figure", ("svg",))
    words = words_in(path)
    assert {"ID VSA", "ID VER", "OOD VER", "Overall"} <= set(words)
    for text in said:
        assert words.count(text) == said.count(text)


def test_samples_outside_vecbench_are_in_the_overall_panel_only(tmp_path):
    results = [{**a_result(response=answer("awe", 0.9)), "task": "my own"}]
    (path,) = reliability_diagram(prediction_table(results), tmp_path / "figure", ("svg",))
    words = words_in(path)
    assert words.count("no sample") == 3
    assert words.count("ECE 10.0 %, n = 1") == 1


def test_the_reliability_diagram_shows_the_ece_and_the_counts_of_the_tables(table, tmp_path):
    (path,) = reliability_diagram(table, tmp_path / "figure", ("svg",))
    words = words_in(path)
    stated = table[table["confidence"].notna()]
    ece = scores.expected_calibration_error(stated["confidence"], (stated["label"] == stated["truth"]).astype(int))
    missing = len(table) - len(stated)
    assert f"ECE {100 * ece:.1f} %, n = {len(stated)}, {missing} without confidence" in words
    counts = reliability_bins(table)["count"]
    assert counts.sum() == len(stated)
    assert {str(count) for count in counts if count} <= set(words)


def test_reliability_intervals_hold_the_accuracy_of_their_bin(table):
    bins = reliability_bins(table)
    filled = bins["count"] > 0
    assert filled.sum() == 4  # 0.6 and 0.7 lie just below the edges of linspace, 0.85 and 0.9 to 1.0 in theirs
    assert np.all(bins["interval_low"][filled] <= bins["correctness"][filled])
    assert np.all(bins["interval_high"][filled] >= bins["correctness"][filled])
    assert np.isnan(bins["interval_low"][~filled]).all()


def test_the_risk_coverage_figure_shows_area_and_error_rate(tmp_path):
    table = a_table(*[("EmoSet-8", "awe", "awe", 0.9)] * 3, ("EmoSet-8", "awe", "fear", 0.6))
    (path,) = risk_coverage(table, tmp_path / "figure", ("svg",))
    # The mean error rate of the first one, two, three and four answers: 0, 0, 0, 1/4.
    assert words_in(path).count(f"AURC {100 * 0.25 / 4:.1f} %, all answers 25.0 %, n = 4") == 2


@pytest.mark.parametrize("step", range(21))
def test_each_multiple_of_a_twentieth_has_a_bar_of_its_own(step):
    table = a_table(("FI-2", "positive", "positive", round(0.05 * step, 2)), ("FI-2", "positive", "negative", 0.5))
    right, wrong = histogram_counts(table)
    assert right.tolist() == [int(i == step) for i in range(21)]
    assert wrong.tolist() == [int(i == 10) for i in range(21)]


@given(st.lists(st.tuples(st.booleans(), st.none() | st.floats(0, 1)), max_size=30))
def test_histograms_hold_every_answer_with_a_confidence_once(rows):
    table = pd.DataFrame({
        "truth": ["awe"] * len(rows),
        "label": ["awe" if right else "fear" for right, _ in rows],
        "confidence": np.array([c for _, c in rows], dtype=float),
    })  # fmt: skip
    right, wrong = histogram_counts(table)
    assert right.sum() == sum(1 for y, c in rows if y and c is not None)
    assert wrong.sum() == sum(1 for y, c in rows if not y and c is not None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "b", "c", "d", "unknown"])), max_size=40))
def test_confusion_counts_equal_a_cross_table(rows):
    part = pd.DataFrame(rows, columns=["truth", "label"])
    labels = label_order("my own", part, ["a", "b", "c"])
    counts, columns = confusion_counts(part, labels)
    for i, truth in enumerate(labels):
        for j, label in enumerate(columns):
            assert counts[i, j] == rows.count((truth, label))
    assert counts.sum() == len(rows)
    assert ("unknown" in columns) == any(label == "unknown" for _, label in rows)
    shares = row_shares(counts)
    for sums, total in zip(shares.sum(axis=1), counts.sum(axis=1), strict=True):
        assert sums == pytest.approx(1.0) if total else np.isnan(sums)


def test_labels_stand_in_the_order_of_the_candidates_then_of_vecbench_then_of_the_alphabet():
    part = a_table(("EmoSet-8", "awe", "fear", None))
    assert label_order("EmoSet-8", part) == list(TASKS["EmoSet-8"].labels)
    assert label_order("EmoSet-8", part, ["Sadness", "fear"]) == ["sadness", "fear", "awe"]
    assert label_order("my own", part) == ["awe", "fear"]


def test_candidates_of_a_task_are_those_of_its_records():
    results = [a_result(), {**a_result(), "task": "mine", "candidates": ["b", "a"]}]
    results.append({**a_result(), "task": "mine", "candidates": ["a", "c"]})
    assert candidates_of(results) == {"EmoSet-8": list(TASKS["EmoSet-8"].labels), "mine": ["b", "a", "c"]}


def test_a_confusion_matrix_says_counts_totals_and_how_many_are_right(tmp_path):
    rows = [("FI-2", "positive", "positive", 0.9)] * 7 + [("FI-2", "positive", "negative", 0.9)] * 4
    (path,) = confusion_matrices(a_table(*rows, ("FI-2", "negative", "hm", 1)), tmp_path / "c", ("svg",), NOTICE)
    assert path.name == "c_FI-2.svg"
    words = words_in(path)
    for text in ("FI-2: 7 of 12 right", "positive (11)", "negative (1)", "unknown", "7", "4", NOTICE):
        assert text in words


def test_webemo_25_has_all_its_labels_on_both_sides(tmp_path):
    table = prediction_table(some_results(60, ["WebEmo-25"]))
    (path,) = confusion_matrices(table, tmp_path / "c", ("svg",))
    words = words_in(path)
    for label in TASKS["WebEmo-25"].labels:
        assert label in words
        assert any(word.startswith(f"{label} (") for word in words)


@pytest.mark.parametrize("task", ["my own", "../../escape", "$x^$ & <b>", "…", "t" * 120])
def test_any_task_name_makes_a_figure_in_the_folder(task, tmp_path):
    results = [{**a_result(response=answer("awe", 0.9)), "task": task}]
    (path,) = confusion_matrices(prediction_table(results), tmp_path / "confusion", ("svg",))
    assert path.parent == tmp_path
    assert path.exists()
    assert any(word.startswith(task[:20]) for word in words_in(path))


HOSTILE = ["$\\frac", "$x^{", "a\x1b[2J", "n\x00ul", "s\ud800r", "<script>alert(1)</script>", "&amp;", "=1+1", "_x"]


@pytest.mark.filterwarnings("ignore:Glyph")  # the font has no sign for a replaced character
@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_no_label_task_or_notice_breaks_a_figure(form, tmp_path):
    results = [
        {**a_result(response=answer(text, 0.9)), "task": text, "ground_truth": text, "candidates": [text, "b"]}
        for text in HOSTILE
    ]
    table = prediction_table(results)
    warnings.simplefilter("ignore", UserWarning)
    written = draw_all(table, tmp_path, "\n".join(HOSTILE), (form,), candidates_of(results))
    assert len(written) == 5 + len(HOSTILE)
    if form == "svg":
        words = {word for path in written for word in words_in(path)}
        assert {"$\\frac", "$x^{", "a\ufffd[2J", "s\ufffdr", "<script>alert(1)</script>", "&amp;"} <= words


def test_two_tasks_that_a_file_name_cannot_tell_apart_make_two_files(tmp_path):
    assert file_part("a/b") == file_part("a:b") == "a-b"
    results = [{**a_result(response=answer("awe", 0.9)), "task": task} for task in ("a/b", "a:b")]
    written = confusion_matrices(prediction_table(results), tmp_path / "c", ("svg",))
    assert [path.name for path in written] == ["c_a-b.svg", "c_a-b_.svg"]


def test_a_table_without_a_row_has_no_confusion_matrix(tmp_path):
    assert confusion_matrices(prediction_table([]), tmp_path / "c") == []


def test_far_too_many_tasks_and_labels_are_left_out_and_said(tmp_path, monkeypatch, capsys):
    """A data file may have a task of its own in every line; and as many labels as lines."""
    monkeypatch.setattr("inference.plots.confusion.MAX_OTHER_TASKS", 2 - len(TASKS))

    def result(task, label):
        return {"task": task, "ground_truth": label, "candidates": [label], "response": answer(label)}

    many = [result("all of them", f"label {i}") for i in range(1200)]
    own = [result(f"task {i}", label) for i in range(40) for label in ("joy", "fear")]
    table = prediction_table([*own[:2], *many, *own[2:]])
    written = confusion_matrices(table, tmp_path / "c", ("svg",))
    assert len(written) == 1
    assert "no confusion matrix of 40 tasks, for instance all of them" in capsys.readouterr().err
    assert label_reports(table)["all of them"]["confusion_matrix"] is None
    assert label_reports(table)["task 3"]["confusion_matrix"] == [[1, 0], [0, 1]]


def test_a_long_notice_is_broken_into_lines_and_none_of_it_is_lost(table, tmp_path):
    notice = " ".join(f"word{i}" for i in range(80)) + "\nsecond notice"
    (path,) = confidence_histograms(table, tmp_path / "figure", ("svg",), notice)
    assert " ".join(notice.split()) in " ".join(words_in(path))


COMPARISON = [
    ("EmoSet-8", "accuracy", 1.0, -0.5, 2.5),
    ("Overall", "accuracy", 0.8, 0.1, 1.5),
    ("EmoSet-8", "ROC AUC", None, None, None),
    ("Overall", "ROC AUC", 0.4, float("nan"), float("nan")),
]


@pytest.mark.parametrize("draw", [run_comparison, confidence_sources])
def test_a_comparison_names_rows_metrics_and_what_is_not_defined(draw, tmp_path):
    written = draw(COMPARISON, tmp_path / "f", "points", ("svg", "png"), NOTICE, better={"accuracy": "higher"})
    words = words_in(written[0])
    for text in ("EmoSet-8", "Overall", "accuracy", "ROC AUC", "higher is better", "N/A", "points", NOTICE):
        assert text in words
    assert any(word.startswith("lines: 95 % interval") for word in words)
    assert is_drawn(written[1])


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("one", "ECE", 1.0, 0.5, 2.0)],
        [("one", "ECE", None, None, None)],
        [("one", f"metric {i}", float(i), None, None) for i in range(6)],
        [(f"row {i}", "ECE", 0.0, 0.0, 0.0) for i in range(30)],
    ],
    ids=["nothing", "one row", "nothing defined", "six metrics", "all the same"],
)
def test_any_number_of_rows_and_metrics_can_be_compared(rows, tmp_path):
    (path,) = run_comparison(rows, tmp_path / "f", formats=("svg",))
    words = words_in(path)
    assert {name for name, *_ in rows} | {metric for _, metric, *_ in rows} <= set(words)
    assert ("nothing to compare" in words) == (not rows)


def test_a_row_of_another_length_is_named():
    with pytest.raises(ValueError, match=r"row 1: expected \(name, metric, value, low, high\), got \('a', 'ECE', 1\)"):
        run_comparison([COMPARISON[0], ("a", "ECE", 1)], "unused")


def test_only_an_interval_on_one_side_of_zero_leaves_it_out():
    assert leaves_out(0.0, 0.1, 0.5) and leaves_out(0.0, -0.5, -0.1)
    assert not leaves_out(0.0, -0.1, 0.5) and not leaves_out(0.0, 0.0, 0.5)
    assert not leaves_out(0.0, None, None) and not leaves_out(0.0, float("nan"), 1.0)


def test_tasks_groups_and_overall_stand_apart():
    assert heights(["FI-2", "FI-8", "ID VSA", "Overall"]) == {"FI-2": 0, "FI-8": 1, "ID VSA": 2.5, "Overall": 4.0}


def test_a_task_name_longer_than_a_file_name_may_be_still_gets_its_figure(tmp_path):
    names = ["ä" * 300, "ä" * 299 + "ö"]
    table = a_table(("EmoSet-8", "awe", "awe", 0.9), ("EmoSet-8", "awe", "awe", 0.9)).assign(task=names)
    written = confusion_matrices(table, tmp_path / "confusion", ("svg",))
    assert len({path.name for path in written}) == 2
    assert all(path.is_file() for path in written)
