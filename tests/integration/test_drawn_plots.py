"""Plots: every format is written, odd data draw something sensible, and what is drawn is said."""

import warnings
import xml.etree.ElementTree as ElementTree

import pytest

from inference.data.vecbench import TASKS
from inference.metrics.calibration import expected_calibration_error
from inference.metrics.classification import label_reports
from inference.metrics.corrected import estimate
from inference.metrics.prediction_table import prediction_table
from inference.plots.confidence import (
    confidence_histograms,
    reliability_bins,
    reliability_diagram,
    risk_coverage,
)
from inference.plots.confusion import confusion_matrices
from inference.plots.curves import draw_all
from inference.plots.intervals import confidence_sources, run_comparison
from inference.plots.votes import vote_agreement
from tests.helpers.commands import run, write_jsonl
from tests.helpers.plots import NOTICE, ONE_A_GROUP, STEMS, a_table, is_drawn, some_results
from tests.helpers.results import a_result, answer, results_in_memory, score

BY_GROUP = pytest.mark.parametrize("draw", [reliability_diagram, risk_coverage, confidence_histograms])
COMPARISON = [
    ("EmoSet-8", "accuracy", 1.0, -0.5, 2.5),
    ("Overall", "accuracy", 0.8, 0.1, 1.5),
    ("EmoSet-8", "ROC AUC", None, None, None),
    ("Overall", "ROC AUC", 0.4, float("nan"), float("nan")),
]


# matplotlib warns where a plot has gone wrong: axes without room, a label it cannot draw.
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def table():
    return prediction_table(some_results())


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
    ece = score(expected_calibration_error, stated["confidence"], (stated["label"] == stated["truth"]).astype(int))
    missing = len(table) - len(stated)
    assert f"ECE {100 * ece:.1f} %, n = {len(stated)}, {missing} without confidence" in words
    counts = reliability_bins(table)["count"]
    assert counts.sum() == len(stated)
    assert {str(count) for count in counts if count} <= set(words)


def test_the_risk_coverage_figure_shows_area_and_error_rate(tmp_path):
    table = a_table(*[("EmoSet-8", "awe", "awe", 0.9)] * 3, ("EmoSet-8", "awe", "fear", 0.6))
    (path,) = risk_coverage(table, tmp_path / "figure", ("svg",))
    # The mean error rate of the first one, two, three and four answers: 0, 0, 0, 1/4.
    assert words_in(path).count(f"AURC {100 * 0.25 / 4:.1f} %, all answers 25.0 %, n = 4") == 2


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
@pytest.mark.parametrize("form", ["svg", *(pytest.param(form, marks=pytest.mark.long) for form in ("png", "pdf"))])
def test_no_label_task_or_notice_breaks_a_figure(form, tmp_path):
    results = [
        {**a_result(response=answer(text, 0.9)), "task": text, "ground_truth": text, "candidates": [text, "b"]}
        for text in HOSTILE
    ]
    table = prediction_table(results)
    warnings.simplefilter("ignore", UserWarning)
    written = draw_all(table, tmp_path, "\n".join(HOSTILE), (form,), results_in_memory(results).candidates)
    assert len(written) == 5 + len(HOSTILE)
    if form == "svg":
        words = {word for path in written for word in words_in(path)}
        assert {"$\\frac", "$x^{", "a\ufffd[2J", "s\ufffdr", "<script>alert(1)</script>", "&amp;"} <= words


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


def test_a_task_name_longer_than_a_file_name_may_be_still_gets_its_figure(tmp_path):
    names = ["ä" * 300, "ä" * 299 + "ö"]
    table = a_table(("EmoSet-8", "awe", "awe", 0.9), ("EmoSet-8", "awe", "awe", 0.9)).assign(task=names)
    written = confusion_matrices(table, tmp_path / "confusion", ("svg",))
    assert len({path.name for path in written}) == 2
    assert all(path.is_file() for path in written)


def test_the_command_draws_a_run_again(tmp_path):
    results = [{**result, "answer_log_probability": -0.2} for result in some_results(3, ["FI-2"])]
    write_jsonl(tmp_path / "merged.jsonl", results)
    done = run("-m", "inference.plots", "--output_path", tmp_path, "--output_dir", tmp_path / "out", "--formats", "png")
    written = sorted((tmp_path / "out").iterdir())
    assert sorted(done.stdout.splitlines()) == [str(path) for path in written]
    assert {path.name for path in written} == {
        f"{stem}.png" for stem in (*STEMS, "confusion_FI-2", "confidence_sources")
    }
    for path in written:
        assert is_drawn(path), path.name


def voted(results, votes):
    return prediction_table([{**result, "label_votes": {result["candidates"][0]: 3, **votes}} for result in results])


def test_votes_are_drawn_for_the_groups_that_have_them(tmp_path):
    table = voted(some_results(30, ["FI-2"]), {"negative": 1})
    draw_all(table, tmp_path, NOTICE, ("png", "svg"))
    assert is_drawn(tmp_path / "vote_agreement.png")
    words = words_in(tmp_path / "vote_agreement.svg")
    assert {"ID VSA", "Overall", NOTICE} <= set(words) and "ID VER" not in words
    distance = 100 * estimate(table)[-1].metrics["vote_distance"]
    n = table["confidence"].notna().sum()
    assert words.count(f"|c − p| {distance:.1f} %, n = {n}") == 2
    assert words.count("rank correlation with 1 − c: N/A") == 2  # all votes have one entropy


def test_votes_without_a_confidence_say_so(tmp_path):
    vote_agreement(voted([a_result(response=answer("awe"))], {"awe": 1}), tmp_path / "v", ("svg",))
    assert words_in(tmp_path / "v.svg").count("no confidence stated") == 4


def test_a_folder_without_results_is_one_clear_line(tmp_path):
    done = run("-m", "inference.plots", "--output_path", tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot draw: {tmp_path}: expected result shards")
