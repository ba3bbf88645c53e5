"""What can be read and is doubtful all the same: said once, with its count; what is hopeless stops."""

import json
import math

import pytest

from inference.data.doubts import MISREAD, UNMATCHABLE, label_doubt, most_frequent_error, record_doubts, task_doubt
from inference.data.records import read_records
from inference.data.vecbench import TASKS
from inference.metrics.results import (
    CUT_OFF,
    NO_ANSWER,
    NO_CANDIDATE,
    NO_CONFIDENCE,
    REPEATED,
    SAME_CONTENT,
    read_file,
    read_shards,
)
from inference.runs.shards import ShardWriter, finished_samples, read_results
from tests.helpers.commands import read_jsonl, write_jsonl
from tests.helpers.forked import run_forked

MIKELS = list(TASKS["EmoSet-8"].labels)
STEPS = "".join(f"<{s}>x</{s}>" for s in ("element", "human", "context", "interaction", "analysis"))


def a_result(number=0, truth="awe", answer=None, confidence="0.8", **more):
    answer = truth if answer is None else answer
    response = f"<think>{STEPS}</think><answer>{answer}</answer><confidence>{confidence}</confidence>"
    return {
        "sample_id": f"s{number}", "position": number, "task": "EmoSet-8", "candidates": MIKELS,
        "ground_truth": truth, "image": f"{number}.jpg", "response": response, **more,
    }  # fmt: skip


def evaluate(tmp_path, rows, *options, check=True):
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out"
    command = (
        "-m",
        "inference.evaluate",
        "--input_file",
        source,
        "--output_dir",
        out,
        "--no_plots",
        "--n_resamples",
        "0",
        *options,
    )
    return run_forked(*command, check=check), out


def accuracy_of(out):
    metrics = json.loads((out / "metrics.json").read_text())
    return [metrics[protocol]["metric"][-1]["accuracy"] for protocol in ("published", "corrected")]


def read_doubts(tmp_path, rows):
    return read_file(write_jsonl(tmp_path / "in.jsonl", rows)).all_doubts()


# --- labels and tasks that can never match ------------------------------------------------

PUBLISHED, OVERALL_ROW, EMOBSERVER = "the published protocol", "the published Overall row", "EmObserver's protocol"
ALL_THREE = f"{PUBLISHED}, {OVERALL_ROW}, {EMOBSERVER}"


@pytest.mark.parametrize(
    ("truth", "candidates", "doubt"),
    [
        ("awe", ("awe", "fear"), None),
        ("\u6124\u6012", ("\u6124\u6012", "\u5feb\u4e50"), None),
        ("very happy", ("very happy", "happy"), None),
        ("A", ("awe", "fear"), UNMATCHABLE),
        ("Awe", ("Awe", "Fear"), MISREAD.format(OVERALL_ROW)),
        ("Awe", ("awe", "fear"), MISREAD.format(EMOBSERVER)),
        ("Awe", ("AWE", "fear"), MISREAD.format(f"{OVERALL_ROW}, {EMOBSERVER}")),
        ("very happy", ("happy", "very happy"), MISREAD.format(ALL_THREE)),
        ("don\u2019t know", ("don't know", "joy"), MISREAD.format(ALL_THREE)),
        ("anger", ("awe", " anger"), MISREAD.format(ALL_THREE)),
        (" anger", ("awe", " anger"), MISREAD.format(ALL_THREE)),
        ("fierte\u0301", ("fierté", "peur"), MISREAD.format(ALL_THREE)),
        ("joy of  life", ("joy of life", "fear"), MISREAD.format(ALL_THREE)),
    ],
)
def test_a_label_is_doubtful_where_a_protocol_would_count_it_as_a_wrong_answer(truth, candidates, doubt):
    assert label_doubt(truth, candidates) == doubt


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_label_of_vecbench_is_right_as_an_answer_under_every_protocol(task):
    assert [label_doubt(label, task.labels) for label in task.labels] == [None] * len(task.labels)


def test_candidates_in_capitals_are_said_beside_the_published_overall_row_that_cannot_find_them(tmp_path):
    labels = [label.capitalize() for label in MIKELS]
    done, out = evaluate(tmp_path, [a_result(i, label, candidates=labels) for i, label in enumerate(labels)])
    assert accuracy_of(out) == [0.0, 1.0]
    assert f"CHECK: 8 rows: {MISREAD.format(OVERALL_ROW)}; first: in.jsonl, line 1" in done.stdout


@pytest.mark.parametrize("name", ["emoset-8", "EmoSet8", "EmoSet-8 ", "EmoSet_8", "EMOSET-8", "emo set 8"])
def test_a_task_that_looks_like_one_of_vecbench_is_named(name):
    assert task_doubt(name) == f"task {name!r} counts in no group: VECBench's task is EmoSet-8"


@pytest.mark.parametrize("name", [*TASKS, "UnbaisedEmo-6", "Elsewhere-8", "EmoSet-80", "-", "8"])
def test_a_task_of_vecbench_and_a_wholly_other_one_are_not_doubtful(name):
    assert task_doubt(name) is None


def test_labels_that_are_no_candidate_are_said_once_in_evaluate(tmp_path):
    done, out = evaluate(tmp_path, [a_result(i, *(("A", "awe") if i > 1 else ("awe",))) for i in range(5)])
    line = f"CHECK: 3 rows: {UNMATCHABLE}; first: in.jsonl, line 3"
    assert done.stdout.splitlines()[-2] == line
    for name in ("metric.log", "metric_conf.log"):
        assert (out / name).read_text().count(line) == 1
    assert json.loads((out / "metrics.json").read_text())["doubts"] == [line.removeprefix("CHECK: ")]


def test_blanks_around_candidates_are_nothing_to_the_corrected_protocol_and_named(tmp_path):
    candidates = [MIKELS[0], *(f" {label}" for label in MIKELS[1:])]
    rows = [a_result(i, label, candidates=candidates) for i, label in enumerate(MIKELS)]
    done, out = evaluate(tmp_path, rows)
    assert accuracy_of(out) == [0.125, 1.0]
    assert f"CHECK: 7 rows: {MISREAD.format(ALL_THREE)}" in done.stdout


def test_decomposed_unicode_is_nothing_to_the_corrected_protocol(tmp_path):
    rows = [a_result(0, "fierte\u0301", "fierté", candidates=["fierté", "peur"], task="custom")]
    _, out = evaluate(tmp_path, rows)
    assert accuracy_of(out) == [0.0, 1.0]


def test_compare_says_what_is_doubtful_about_each_run(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        rows = [a_result(i, task="EmoSet_8" if name == "b" and i == 1 else "EmoSet-8") for i in range(4)]
        write_jsonl(tmp_path / name / "merged.jsonl", rows if name == "a" else rows[1:])
    done = run_forked("-m", "inference.compare", tmp_path / "a", tmp_path / "b", check=False)
    line = "CHECK: run B: 1 row: task 'EmoSet_8' counts in no group: VECBench's task is EmoSet-8; first: merged.jsonl"
    assert line in done.stdout


def prepare(data, *options):
    words = ("--engine", "openai", "--base_url", "http://127.0.0.1:9/v1", "--model_name", "m", "--prepare_only")
    command = ("-m", "inference.inference_vllm", "--data_path", data, "--output_path", data.with_suffix(".run"))
    return run_forked(*command, *words, *options, check=False)


def records(truths, **more):
    return [
        {"task": "EmoSet-8", "ground_truth": truth, "candidates": MIKELS, "image": f"{i}.jpg", **more}
        for i, truth in enumerate(truths)
    ]


def test_the_main_job_says_at_its_start_which_labels_cannot_match(tmp_path):
    data = write_jsonl(tmp_path / "d.jsonl", records(["awe", "A", "B"]))
    done = prepare(data)
    assert done.returncode == 0
    assert f"{data}: 2 rows: {UNMATCHABLE}; first: line 2" in done.stderr


def test_the_main_job_does_not_start_when_no_label_can_match(tmp_path):
    data = write_jsonl(tmp_path / "d.jsonl", records(["A", "B"]))
    done = prepare(data)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"inference failed: {data}: the label of each of its 2 records is none of its candidates"
    )
    assert not data.with_suffix(".run").exists()
    assert prepare(write_jsonl(tmp_path / "e.jsonl", records(["A", "awe"])), "--limit", "1").returncode == 2


def test_records_that_come_twice_and_candidates_of_another_taxonomy_are_doubtful(tmp_path):
    rows = records(["awe", "fear"]) + records(["awe"]) + records(["joy"], candidates=["joy", "awe"])
    doubts, n_records = record_doubts(read_records(write_jsonl(tmp_path / "d.jsonl", rows)))
    assert n_records == 4
    assert doubts.lines() == [
        "1 row: an earlier row has the same id or content; each is inferred and counted; first: line 3",
        "1 row: candidates of EmoSet-8 differ from VECBench's; first: line 4",
    ]


# --- responses ----------------------------------------------------------------------------


def test_answers_that_were_cut_off_are_counted(tmp_path):
    rows = [a_result(i, finish_reason="length" if i else "stop") for i in range(4)]
    assert read_doubts(tmp_path, rows) == [f"3 rows: {CUT_OFF}; first: in.jsonl, line 2"]


def test_responses_without_an_answer_outside_the_reasoning_are_counted_where_they_were_not_cut_off(tmp_path):
    texts = ["", '{"answer": "awe"}', "<think><answer>awe</answer></think>", "<Answer>awe</Answer>"]
    rows = [a_result(i, response=text) for i, text in enumerate(texts)]
    rows.append(a_result(4, response="<think>cut", finish_reason="length"))
    assert read_doubts(tmp_path, rows) == [
        f"1 row: {CUT_OFF}; first: in.jsonl, line 5",
        f"3 rows: {NO_ANSWER}; first: in.jsonl, line 1",
    ]


def test_an_example_of_an_answer_that_is_no_candidate_is_shown(tmp_path):
    """Another form of the word, a letter, two labels."""
    rows = [a_result(i, answer=said) for i, said in enumerate(["awe", "Amused\n", "C", "awe or fear", "awe."])]
    rows[1]["response"] = rows[1]["response"].replace("answer>", "Answer>")
    assert read_doubts(tmp_path, rows) == [f"3 rows: {NO_CANDIDATE}, such as 'amused'; first: in.jsonl, line 2"]


@pytest.mark.parametrize("stated", ["85", "85%", "0,85"])
def test_an_example_of_a_confidence_that_could_not_be_read_is_shown(tmp_path, stated):
    rows = [a_result(0), *(a_result(i, confidence=stated) for i in (1, 2))]
    assert read_doubts(tmp_path, rows) == [f"2 rows: {NO_CONFIDENCE}, such as {stated!r}; first: in.jsonl, line 2"]


# --- results that went through a table ----------------------------------------------------


@pytest.mark.parametrize("nothing", [None, math.nan, ""])
def test_an_error_that_is_empty_is_no_failure(tmp_path, nothing):
    rows = [a_result(0, error=nothing, other_responses=nothing, notice=nothing, finish_reason=nothing),
            a_result(1, response=None, error="image 1.jpg: no such file")]  # fmt: skip
    results = read_file(write_jsonl(tmp_path / "in.jsonl", rows))
    assert results.table["label"].tolist() == ["awe"]
    assert [row["error"] for row in results.failed] == ["image 1.jpg: no such file"]


def test_a_shard_that_went_through_a_table_is_resumed_and_merged_alike(tmp_path):
    rows = [
        a_result(0, error=None),
        a_result(1, response=None, error="no image"),
        a_result(2, response=None, error=None),
    ]
    with ShardWriter(tmp_path, 0, 1) as writer:
        for row in rows:
            writer.write(row)
    assert finished_samples(tmp_path) == {"s0"}
    assert [row["sample_id"] for row in read_results(writer.path)] == ["s0", "s1"]
    with ShardWriter(tmp_path, 1, 2) as other:
        other.write(a_result(1, error=math.nan))
    results = read_shards(tmp_path)
    assert (list(results.table["sample_id"]), results.failed) == (["s0", "s1"], [])
    with ShardWriter(tmp_path, 0, 1):
        assert [row["sample_id"] for row in read_results(writer.path)] == ["s0"]


def test_ids_that_a_table_made_numbers_or_null_still_tell_samples_apart(tmp_path):
    rows = [a_result(i, sample_id=name, id=None) for i, name in enumerate([7, "8", None, None])]
    names = read_file(write_jsonl(tmp_path / "in.jsonl", rows)).table["sample_id"].tolist()
    assert names[:2] == ["7", "8"] and len(set(names)) == 4 and "None" not in names


# --- samples that come twice --------------------------------------------------------------


def test_a_sample_that_comes_twice_counts_once_and_is_said_and_runs_compare(tmp_path):
    rows = [a_result(i) for i in range(6)]
    wrong, failed = a_result(2, answer="fear"), {**a_result(3, error="no image"), "response": None}
    done, out = evaluate(tmp_path, [failed, *rows, wrong])
    assert "read 6 = predicted 6 + failed 0" in done.stdout
    assert f"CHECK: 2 rows: {REPEATED}; first: line 8" in done.stdout
    assert [row["sample_id"] for row in read_jsonl(out / "merged.jsonl")] == [f"s{i}" for i in range(6)]
    assert accuracy_of(out) == [1.0, 1.0]
    run_forked("-m", "inference.compare", out, out, "--n_resamples", "100", "--output_dir", tmp_path / "compared")


def test_lines_without_sample_id_all_count_and_get_ids_of_their_own(tmp_path):
    row = {key: value for key, value in a_result().items() if key != "sample_id"}
    other = {**row, "id": "own"}
    results = read_file(write_jsonl(tmp_path / "in.jsonl", [other, row, other, row, other]))
    names = results.table["sample_id"].tolist()
    assert (names[0], names[2], names[4]) == ("own", "own#2", "own#3")
    assert names[3] == names[1] + "#2"
    assert results.all_doubts() == [f"3 rows: {SAME_CONTENT}; first: line 3"]
    assert [json.loads(line)["sample_id"] for line in results.lines()] == names


# --- files that are no results ------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"sample": 0, "model_output": "awe"},
            "supported are JSON lines with task, candidates, ground_truth and",
        ),
        ({"doc_id": 0, "target": "awe", "filtered_resps": "awe"}, "or --data_path with the records (3 of 3 alike)"),
        (
            {"index": 0, "question": "?", "A": "awe", "answer": "A", "prediction": "A"},
            "field 'task': expected a task in",
        ),
    ],
)
def test_a_file_of_another_harness_that_cannot_be_evaluated_ends_with_one_line(tmp_path, row, said):
    done, out = evaluate(tmp_path, [row] * 3, check=False)
    assert done.returncode == 2 and not out.exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"cannot evaluate: {tmp_path / 'in.jsonl'}: ") and said in line


def test_a_file_without_one_good_line_ends_with_its_most_frequent_error(tmp_path):
    rows = [a_result(i, candidates=3) for i in range(3)] + [a_result(3, ground_truth=None)]
    done, out = evaluate(tmp_path, rows, check=False)
    assert done.returncode == 2 and not out.exists()
    (line,) = done.stderr.splitlines()
    assert line.endswith("line 1, field 'candidates': expected a non-empty list of labels, got 3 (3 of 4 alike)")
    done, _ = evaluate(tmp_path, [], check=False)
    assert done.returncode == 2 and "it is empty" in done.stderr


def test_errors_that_differ_by_their_place_alone_are_one_kind():
    assert most_frequent_error(["a, line 1, field 'x': y", "line 7: z", "b, line 2, field 'x': y"]) == (
        "a, line 1, field 'x': y (2 of 3 alike)"
    )


@pytest.mark.parametrize("rows", [[a_result(i) for i in range(3)], [a_result(0, answer="fear")]])
def test_a_task_with_one_label_only_prints_no_warning_of_a_library(tmp_path, rows):
    source = write_jsonl(tmp_path / "in.jsonl", [row | {"task": task} for row in rows for task in ("EmoSet-8", "mine")])
    done = run_forked("-m", "inference.evaluate", "--input_file", source, "--output_dir", tmp_path / "out", "--quiet")
    assert done.stderr == ""
