"""Paired comparison of runs, and of a run with published tables: what it says and what it refuses."""

import csv
import math
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from inference.compare import main
from inference.data.vecbench import TASKS
from inference.metrics.paired_comparison import (
    COMPARED,
    OF_STATED,
    candidate_doubts,
    comparison_text,
    confidence_note,
    differences,
    judged_by,
    with_both_confidences,
)
from inference.metrics.paired_comparison import paired_table as paired_tables
from inference.metrics.prediction_table import prediction_table
from inference.metrics.published import confidence_rows, confidence_table, metric_rows, metric_table, read_table
from inference.metrics.published_comparison import (
    PUBLISHED_FOLDER,
    published_comparison,
    published_intervals,
    read_published,
)
from tests.helpers.commands import write_jsonl
from tests.helpers.results import THREE_TASKS, answer, improved, results_in_memory, results_of


def overconfident(rows):
    """The same answers, each stated with confidence 0.99."""
    return [
        {**row, "response": row["response"].split("<confidence>")[0] + "<confidence>0.99</confidence>"} for row in rows
    ]


def paired_table(rows_a, rows_b):
    return paired_tables(prediction_table(rows_a), prediction_table(rows_b))


def by_key(found):
    return {(item.row, item.metric): item for item in found}


def test_a_run_compared_with_itself_differs_in_nothing():
    rows = results_of(THREE_TASKS, 60)
    found = differences(paired_table(rows, rows[::-1]), 200)
    assert found
    for item in found:
        assert (item.difference, item.low, item.high, item.p, item.verdict) == (0, 0, 0, 1, ""), item


def test_other_candidates_for_the_same_samples_are_said(tmp_path, capsys, monkeypatch):
    """As when a label was added to the data in between: which run is better says less then."""
    rows = results_of(THREE_TASKS, 6)
    more = [{**row, "candidates": [*row["candidates"], "neutral"]} if row["task"] == "FI-2" else row for row in rows]
    runs = {"A": results_in_memory(rows), "B": results_in_memory(more)}
    doubt = "the candidates of FI-2 differ between A and B: only B has neutral"
    assert candidate_doubts(runs) == [doubt]
    assert candidate_doubts({"A": runs["A"], "again": runs["A"]}) == []
    for name, of in (("a", rows), ("b", more)):
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "merged.jsonl", of)
    monkeypatch.setattr("sys.argv", ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--n_resamples", "100"])
    main()
    assert f"CHECK: {doubt}\n" in capsys.readouterr().out


def test_differences_are_those_of_the_two_evaluations():
    a, b = results_of(THREE_TASKS, 60, seed=1), results_of(THREE_TASKS, 60, seed=2)
    for row, other in zip(a, b, strict=True):  # the same questions, other answers
        other["ground_truth"] = row["ground_truth"]
    found = by_key(differences(paired_table(a, b), 200))
    for name in ("FI-2", "ID VER", "Overall"):
        means = []
        for rows in (a, b):
            table = prediction_table(rows)
            part = table if name == "Overall" else table[(table["task"] == name) | (table["group"] == name)]
            means.append((part["truth"] == part["label"]).mean())
        item = found[name, "accuracy"]
        assert (item.a, item.b) == pytest.approx(tuple(means))
        assert item.low <= item.difference <= item.high


def test_a_better_run_is_called_better_and_one_with_worse_confidence_worse():
    rows = results_of(THREE_TASKS, 150)
    found = by_key(differences(paired_table(rows, improved(rows)), 500))
    assert found["Overall", "accuracy"].verdict == "better"
    found = by_key(differences(paired_table(rows, overconfident(rows)), 500))
    assert found["Overall", "accuracy"].difference == 0
    assert found["Overall", "brier"].verdict == "worse"
    assert found["Overall", "ece"].verdict == "worse"


def test_confidences_closer_than_a_thousandth_are_told_apart():
    rows = results_of(["FI-2"], 60)
    sure = [
        {**row, "response": f"<answer>{label}</answer><confidence>{c}</confidence>"}
        for row in rows
        for label, c in [(row["ground_truth"], 0.9999) if row["sample_id"][-1] in "02468" else ("none", 0.9996)]
    ]
    assert by_key(differences(paired_table(rows, sure), 100))["FI-2", "roc_auc"].b == 1.0


@pytest.mark.parametrize(("n_resamples", "said"), [(199, True), (200, False)])
def test_fewer_resamples_than_the_correction_needs_are_said(n_resamples, said):
    """Five rows: p is at least 2 / (n + 1), and five times that has to be below 0.05."""
    rows = results_of(["FI-2", "EmoSet-8"], 150)
    found = differences(paired_table(rows, improved(rows)), n_resamples)
    text = comparison_text(found, "a", "b", n_resamples)
    assert sum(item.metric == "accuracy" for item in found) == 5
    assert ("too few for a verdict" in text) == said
    assert ("expected --n_resamples 200 or more" in text) == said
    assert bool(by_key(found)["Overall", "accuracy"].verdict) != said


def in_part(rows, seed=0):
    """The same answers: every fifth states no confidence, every seventh has no log-probability of its answer."""
    random = np.random.default_rng(seed)
    return [
        {
            **row,
            "response": row["response"].split("<confidence>")[0] if i % 5 == 0 else row["response"],
            "answer_log_probability": None if i % 7 == 0 else math.log(random.uniform(0.05, 1)),
        }
        for i, row in enumerate(rows)
    ]


def table_by(rows, *sources):
    """A run beside itself, by two of its confidences."""
    run = results_in_memory(rows)
    return paired_tables(*(judged_by(run, source, "run").table for source in sources))


def test_two_confidences_are_compared_over_the_samples_that_have_both():
    rows = in_part(results_of(THREE_TASKS, 70))
    table = table_by(rows, "verbalized", "answer probability")
    found = by_key(differences(with_both_confidences(table), 200, metrics=("accuracy", "brier", "roc_auc", "log_loss")))
    both = [i for i in range(len(rows)) if i % 5 and i % 7]
    said = [row["response"].split("<answer>")[1].split("</answer>")[0] for row in rows]
    right = np.array([label == row["ground_truth"] for label, row in zip(said, rows, strict=True)], dtype=float)
    stated = np.array([float(rows[i]["response"].split("<confidence>")[1].split("</")[0]) for i in both])
    probability = np.exp([rows[i]["answer_log_probability"] for i in both])
    for task in (*THREE_TASKS, "Overall"):
        inside = np.array([task in ("Overall", rows[i]["task"]) for i in both])
        y = right[both][inside]
        for side, confidence in (("a", stated[inside]), ("b", probability[inside])):
            assert getattr(found[task, "brier"], side) == pytest.approx(np.mean((confidence - y) ** 2))
            assert getattr(found[task, "roc_auc"], side) == pytest.approx(roc_auc_score(y, confidence))
            c = np.clip(confidence, 0.005, 0.995)
            expected = -np.mean(y * np.log(c) + (1 - y) * np.log(1 - c))
            assert getattr(found[task, "log_loss"], side) == pytest.approx(expected)
    # An answer is judged whatever confidence it lacks.
    assert found["Overall", "accuracy"].a == found["Overall", "accuracy"].b == pytest.approx(right.mean())


def test_the_interval_of_two_confidences_is_that_of_the_paired_differences_of_the_samples_that_have_both():
    rows = in_part(results_of(["EmoSet-8"], 700))
    table = with_both_confidences(table_by(rows, "verbalized", "answer probability"))
    item = by_key(differences(table, 1000, metrics=["brier"]))["Overall", "brier"]
    y = (table["label_a"] == table["truth"]).to_numpy(dtype=float)
    change = (table["confidence_b"] - y) ** 2 - (table["confidence_a"] - y) ** 2
    change = change.dropna()
    assert len(change) == sum(bool(i % 5 and i % 7) for i in range(700))
    assert item.high - item.low == pytest.approx(2 * 1.96 * change.std() / np.sqrt(len(change)), rel=0.1)


def test_a_confidence_without_its_counterpart_is_in_no_resample():
    rows = in_part(results_of(THREE_TASKS, 70))
    other = [
        {
            **row,
            "answer_log_probability": -3.0 if i % 5 == 0 else row["answer_log_probability"],
            "response": row["response"].split("<conf")[0] + "<confidence>0.01</confidence>"
            if i % 7 == 0 and i % 5
            else row["response"],
        }
        for i, row in enumerate(rows)
    ]
    found, expected = (
        differences(with_both_confidences(table_by(each, "verbalized", "answer probability")), 200)
        for each in (other, rows)
    )
    assert [item for item in found if item.metric not in OF_STATED] == [
        item for item in expected if item.metric not in OF_STATED
    ]


def test_how_many_samples_have_a_confidence_is_said_when_not_all_do():
    rows = results_of(THREE_TASKS, 35)  # 105, of which 21 state no confidence, 15 have no log-probability, 3 neither
    table = table_by(in_part(rows), "verbalized", "answer probability")
    assert confidence_note(table, alike=True) == [
        "72 of 105 samples have both confidences; metrics of confidence are over these"
    ]
    assert confidence_note(table, alike=False) == [
        "metrics of confidence are over each run's valid confidences: 84 of A, 90 of B, 72 samples have both"
    ]
    same = table_by(in_part(rows), "verbalized", "verbalized")  # the same samples in both runs
    assert confidence_note(same, alike=False) == [] and len(confidence_note(same, alike=True)) == 1
    assert confidence_note(paired_table(rows, rows), alike=True) == []


def test_metrics_of_confidence_are_left_out_where_no_sample_has_both():
    rows = [
        {**row, "answer_log_probability": -1.0, "response": answer("awe")} if i % 2 else row
        for i, row in enumerate(results_of(THREE_TASKS, 20))
    ]
    table = table_by(rows, "verbalized", "answer probability")
    assert confidence_note(table, alike=True)[0].startswith("0 of 60 samples")
    metrics = {item.metric for item in differences(with_both_confidences(table), 100)}
    assert metrics == {"accuracy", "macro_accuracy", "f1", *OF_STATED}


def read_tsv(path):
    with open(path, encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def test_a_vote_is_compared_in_its_own_metrics_alone_and_beside_other_comparisons(tmp_path, monkeypatch, capsys):
    rows, votes = results_of(THREE_TASKS, 30), results_of(THREE_TASKS, 30, seed=1)
    more = results_of(THREE_TASKS, 30, seed=2)
    for row, *others in zip(rows, votes, more, strict=True):
        row["other_responses"] = [other["response"] for other in others]
    write_jsonl(tmp_path / "merged.jsonl", rows)

    def compare(*words):
        monkeypatch.setattr("sys.argv", ["compare", *map(str, (tmp_path, tmp_path, "--n_resamples", 100, *words))])
        main()
        return capsys.readouterr().out

    printed = compare("--confidence", "verbalized", "majority vote")
    assert "adherence" not in printed and "EmObserver" not in printed
    assert f"A: {tmp_path}, verbalized\nB: {tmp_path}, majority vote\n" in printed
    folder = tmp_path / f"compared_with_{tmp_path.name}_verbalized_and_majority_vote"
    lines = read_tsv(folder / "comparison.tsv")
    assert {line["figure"] for line in lines} == set(COMPARED) - {
        "format_rate",
        "confidence_rate",
        "emobserver_accuracy",
    }
    assert {(line["confidence_a"], line["confidence_b"]) for line in lines} == {("verbalized", "majority vote")}
    right, share = [], []
    for row in rows:
        texts = [row["response"], *row["other_responses"]]
        (label, n), *_ = Counter(text.split("<answer>")[1].split("</answer>")[0] for text in texts).most_common()
        right.append(label == row["ground_truth"])
        share.append(n / 3)
    overall = {line["figure"]: float(line["b"]) for line in lines if line["row"] == "Overall"}
    assert overall["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    assert overall["mean_confidence"] == pytest.approx(np.mean(share), abs=1e-6)
    assert overall["brier"] == pytest.approx(np.mean((np.array(share) - right) ** 2), abs=1e-6)

    first = (folder / "comparison.tsv").read_bytes()
    compare("--confidence", "majority vote", "verbalized")
    printed = compare()
    assert "Format adherence" in printed and "EmObserver" in printed
    assert {path.name.removeprefix(f"compared_with_{tmp_path.name}") for path in tmp_path.glob("compared_with_*")} == {
        "", "_verbalized_and_majority_vote", "_majority_vote_and_verbalized",
    }  # fmt: skip
    assert (folder / "comparison.tsv").read_bytes() == first
    lines = read_tsv(tmp_path / f"compared_with_{tmp_path.name}" / "comparison.tsv")
    assert {(line["confidence_a"], line["confidence_b"]) for line in lines} == {("verbalized", "verbalized")}
    assert {line["figure"] for line in lines} == set(COMPARED)


def test_pairing_makes_the_interval_of_a_small_change_narrow():
    """One answer in twenty changed: the runs' own intervals are wide, that of the difference is not."""
    rows = results_of(["EmoSet-8"], 400)
    changed = [improved([row])[0] if i % 20 == 0 else row for i, row in enumerate(rows)]
    item = by_key(differences(paired_table(rows, changed), 500))["EmoSet-8", "accuracy"]
    single = 2 * 1.96 * np.sqrt(item.a * (1 - item.a) / 400)
    assert item.high - item.low < 0.5 * single


def test_runs_of_other_data_are_refused_with_the_reason(tmp_path, monkeypatch):
    rows = results_of(["FI-2"], 5)
    other = [{**row, "sample_id": f"x{i}"} for i, row in enumerate(rows)]
    relabelled = [
        {**row, "ground_truth": "negative" if row["ground_truth"] == "positive" else "positive"} for row in rows
    ]
    for name, kept in (("a", rows), ("other", other), ("relabelled", relabelled), ("empty", None)):
        (tmp_path / name).mkdir()
        if kept is not None:
            write_jsonl(tmp_path / name / "merged.jsonl", kept)
    for name, reason in (
        ("other", "no sample in common"),
        ("relabelled", "sample FI-2-0: FI-2,"),
        ("empty", "no such file. Run python -m inference.evaluate"),
    ):
        monkeypatch.setattr("sys.argv", ["compare", str(tmp_path / "a"), str(tmp_path / name)])
        with pytest.raises(SystemExit, match=f"^cannot compare: .*{reason}"):
            main()


def test_published_intervals_are_around_the_published_protocols_numbers():
    table = prediction_table(results_of(list(TASKS), 50))
    found = published_intervals(table, 200)
    metric, confidence = metric_rows(table), confidence_rows(table)
    for row in [*metric, *(row for row in confidence if row.kind == "group")]:
        for figure in ("accuracy", "f1", "ece", "brier", "roc_auc"):
            expected = row.metrics.get(figure)
            if expected is not None:
                value, low, high = found[row.name, figure]
                assert value == pytest.approx(expected), (row.name, figure)
                assert low <= value <= high


def test_the_released_models_tables_are_read_as_they_stand():
    rows = {row.name: row for row in read_published(PUBLISHED_FOLDER)}
    assert list(rows)[:9] == list(TASKS)
    assert (rows["OOD VER"].metrics["ece"], rows["OOD VER"].n_samples) == (pytest.approx(0.1217), 2035)
    assert (rows["Overall"].metrics["accuracy"], "ece" in rows["Abstract-8"].metrics) == (pytest.approx(0.6135), False)


def test_each_published_number_is_within_above_or_below(tmp_path):
    """A reference made of the run's own tables is within; one that is 30 points lower is below."""
    rows = results_of(list(TASKS), 50)
    table = prediction_table(rows)
    metric, confidence = metric_rows(table), confidence_rows(table)
    (tmp_path / "metric.log").write_text(metric_table(metric))
    (tmp_path / "metric_conf.log").write_text(confidence_table(confidence))
    text = published_comparison(table, tmp_path, 200)
    assert "35 within, 0 above, 0 below" in text
    for row in metric:
        row.metrics["accuracy"] -= 0.3
    (tmp_path / "metric.log").write_text(metric_table(metric))
    assert "25 within, 0 above, 10 below" in published_comparison(table, tmp_path, 200)


def test_a_reference_that_is_no_table_names_file_and_line(tmp_path):
    (tmp_path / "metric.log").write_text("| Task | Acc | F1 | #Samples |\n| FI-2 | high | 1.0 | 5 |\n")
    with pytest.raises(ValueError, match=r"metric\.log, line 2: expected numbers"):
        read_table(tmp_path / "metric.log")
