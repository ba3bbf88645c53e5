"""Files of lmms-eval and VLMEvalKit: the rows of a file of ours with these responses, or what is wrong with them."""

import json
from zipfile import ZipFile

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.evaluate import checked_against_data
from inference.metrics.other_harnesses import unknown_harness
from inference.metrics.result_lines import NotResults
from inference.metrics.results import NO_ANSWER, read_file
from tests.corpora.bad_records import a_record
from tests.helpers.commands import write_jsonl
from tests.helpers.results import THREE_TASKS, results_of

READ = ["task", "truth", "label", "confidence", "published_label", "published_confidence", "well_formed"]
LETTERS = "ABCDEFGH"
FAILED = "[LMMS_EVAL_REQUEST_FAILED after 5 retries] Connection error."


def own_results(tasks=THREE_TASKS, n=8):
    return [{**row, "sample_id": f"s{number}"} for number, row in enumerate(results_of(tasks, n))]


def record_of(result, **more):
    """The record that a result answers."""
    return {**a_record(), **{k: v for k, v in result.items() if k not in ("response", "sample_id")}, **more}


def logged(result, doc_id, **more):
    """A line as lmms-eval 0.7.3 writes it: no document; resps only where it differs from filtered_resps."""
    sample = {"doc_id": doc_id, "target": result["ground_truth"], "filtered_resps": result["response"]}
    return {**sample, "token_counts": [None], "doc_hash": "0" * 64, "input": "Which …?", **more}


def same_rows(read, results, tmp_path):
    expected = read_file(write_jsonl(tmp_path / "own.jsonl", results)).table
    pd.testing.assert_frame_equal(read.table[READ], expected[READ])
    return expected


# --- lmms-eval -------------------------------------------------------------------------------


def test_samples_with_their_records_are_the_results_of_the_same_responses(tmp_path):
    results = own_results()
    rows = [logged(r, n, failed={k: v for k, v in r.items() if k != "response"}) for n, r in enumerate(results)]
    read = read_file(write_jsonl(tmp_path / "samples.jsonl", rows))
    expected = same_rows(read, results, tmp_path)
    assert read.failed == [] and read.doubts == []
    assert read.table["sample_id"].tolist() == expected["sample_id"].tolist()
    written = [json.loads(line) for line in read.lines()]
    assert written == results  # merged.jsonl is a file of ours
    other = write_jsonl(tmp_path / "other.jsonl", [a_record()])  # what was logged is what was asked
    assert [json.loads(line) for line in read_file(tmp_path / "samples.jsonl", other).lines()] == results


@pytest.mark.parametrize(
    ("logged_as", "others"),
    [
        ({"filtered_resps": "R"}, []),
        ({"resps": "R", "filtered_resps": "without its reasoning"}, []),  # reasoning_tags
        ({"resps": ["R", "S", "R"], "filtered_resps": "R"}, ["S", "R"]),  # repeats: 3
        ({"resps": [["R"]], "filtered_resps": ["R"]}, []),  # versions before 0.7
        ({"resps": ["R", FAILED], "filtered_resps": "R"}, []),
    ],
)
def test_the_response_is_what_the_model_said_first_before_any_filter(tmp_path, logged_as, others):
    texts = {"R": "<answer>awe</answer><confidence>0.7</confidence>", "S": "<answer>fear</answer>"}
    spelled = json.dumps(logged_as)
    for name, text in texts.items():
        spelled = spelled.replace(f'"{name}"', json.dumps(text))
    record = {"task": "EmoSet-8", "candidates": ["awe", "fear"], "ground_truth": "awe", "sample_id": "a"}
    read = read_file(write_jsonl(tmp_path / "s.jsonl", [{"doc_id": 0, **json.loads(spelled), "failed": record}]))
    (line,) = map(json.loads, read.lines())
    assert line["response"] == texts["R"]
    assert line.get("other_responses", []) == [texts[name] for name in others]


def test_samples_of_another_task_folder_are_matched_by_position(tmp_path):
    results = own_results()
    data = write_jsonl(tmp_path / "data.jsonl", [record_of(r, id=f"r{n}") for n, r in enumerate(results)])
    rows = [logged(result, n) for n, result in enumerate(results)]
    rows[3]["target"] = "surprise"
    rows[5]["doc_id"] = 100
    rows[6]["filtered_resps"] = FAILED
    rows[7]["filtered_resps"] = 0.5
    read = read_file(write_jsonl(tmp_path / "samples.jsonl", rows), data)
    good = [n for n in range(len(rows)) if n not in (3, 5, 6, 7)]
    same_rows(read, [results[n] for n in good], tmp_path)
    assert read.table["sample_id"].tolist() == [f"r{n}" for n in good]
    errors = [result["error"] for result in read.failed]
    source, truth = tmp_path / "samples.jsonl", results[3]["ground_truth"]
    assert errors == [
        f"{source}, line 4, field 'target': expected {truth!r}, the label of the record in line 4, got 'surprise'",
        f"{source}, line 6, field 'doc_id': expected the number of a record, from 0, of {data}, got 100",
        FAILED,
        f"{source}, line 8, field 'filtered_resps': expected the model's text, or a list of texts, got 0.5",
    ]
    named = {result.get("sample_id") for result in read.failed}
    assert named == {"r3", None, "r6", "r7"}  # which are not counted as never inferred, too


def test_samples_without_records_are_errors_that_say_what_helps(tmp_path):
    read = read_file(write_jsonl(tmp_path / "samples.jsonl", [logged(own_results()[0], 0)]))
    assert not len(read.table) and "--data_path" in read.failed[0]["error"]


# --- VLMEvalKit ------------------------------------------------------------------------------


def predicted(result, index, **more):
    """A row as VLMEvalKit writes it for a data set of multiple choice."""
    options = dict(zip(LETTERS, result["candidates"], strict=False))
    letter = next(key for key, text in options.items() if text == result["ground_truth"])
    row = {"index": index, "question": "Which emotion?", **options, "answer": letter, "category": result["task"]}
    return {**row, "prediction": result["response"], **more}


def write_predictions(path, rows):
    """As VLMEvalKit's ``dump`` does: every cell quoted; empty ones where a row has fewer options."""
    table = pd.DataFrame(rows)
    if path.suffix == ".json":
        path.write_text(json.dumps(table.to_dict("records"), indent=4))  # NaN in the empty cells
    else:
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False, quoting=1)
    return path


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".json"])
def test_predictions_of_multiple_choice_are_the_results_of_the_same_responses(tmp_path, suffix):
    results = own_results()
    results[0]["response"] = '<think>a, "b"\tc\n\nd</think>\n' + results[0]["response"]
    rows = [predicted(result, n) for n, result in enumerate(results)]
    read = read_file(write_predictions(tmp_path / f"Qwen_VECBench{suffix}", rows))
    same_rows(read, results, tmp_path)
    assert read.failed == [] and read.table["sample_id"].tolist() == [str(n) for n in range(len(rows))]


def test_an_excel_file_is_read(tmp_path):
    results = own_results()
    path = tmp_path / "Qwen_VECBench.xlsx"
    pd.DataFrame([predicted(result, n) for n, result in enumerate(results)]).to_excel(path, index=False)
    same_rows(read_file(path), results, tmp_path)


def test_a_zip_archive_that_is_no_workbook_is_one_line(tmp_path):
    path = tmp_path / "Qwen_VECBench.xlsx"
    with ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    with pytest.raises(NotResults, match=r"Qwen_VECBench\.xlsx: expected a \.xlsx table: [^\n]+$"):
        read_file(path)


def test_the_task_may_be_at_the_end_of_the_files_name(tmp_path):
    rows = [predicted(result, n, category="emotion") for n, result in enumerate(own_results(["EmoSet-8"]))]
    assert set(read_file(write_predictions(tmp_path / "Qwen2.5-VL-7B_EmoSet-8.tsv", rows)).table["task"]) == {
        "EmoSet-8"
    }
    read = read_file(write_predictions(tmp_path / "Qwen2.5-VL-7B_mine.tsv", rows))
    assert not len(read.table)
    assert "line 2, field 'task': expected a task in this column, in category or at" in read.failed[0]["error"]


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        ("<answer>B</answer>", "anger"),
        ("<answer> (b). </answer><confidence>0.5</confidence>", "anger"),
        ("<answer>B. anger</answer>", "anger"),
        ("<answer>Z</answer>", "unknown"),
    ],
)
def test_the_letter_of_an_option_is_its_label(tmp_path, prediction, label):
    (result,) = own_results(["EmoSet-8"], 1)
    read = read_file(write_predictions(tmp_path / "m_EmoSet-8.tsv", [predicted(result, 0, prediction=prediction)]))
    assert read.table["label"].tolist() == [label]


def test_what_is_no_answer_by_our_rules_is_said(tmp_path):
    rows = [predicted(result, n, prediction="B") for n, result in enumerate(own_results(["EmoSet-8"], 3))]
    read = read_file(write_predictions(tmp_path / "m_EmoSet-8.tsv", rows))
    assert read.table["label"].tolist() == ["unknown"] * 3
    assert f"3 rows: {NO_ANSWER}; first: m_EmoSet-8.tsv, line 2" in read.all_doubts()


def test_reasoning_that_was_split_off_is_put_back(tmp_path):
    (result,) = own_results(["EmoSet-8"], 1)
    row = predicted(result, 0, prediction="<answer>awe</answer>", thinking="fear, <answer>fear</answer>")
    (line,) = map(json.loads, read_file(write_predictions(tmp_path / "m_EmoSet-8.tsv", [row])).lines())
    assert line["response"] == "<think>fear, <answer>fear</answer></think><answer>awe</answer>"


def test_predictions_are_matched_with_records_by_id_or_in_order(tmp_path):
    results = own_results()
    ids = [f"r{n}" for n in range(len(results))]
    data = write_jsonl(tmp_path / "data.jsonl", [record_of(r, id=i) for r, i in zip(results, ids, strict=True)])

    def rows(index):
        asked = zip(index, results, strict=True)
        return [
            {"index": i, "question": "?", "answer": r["ground_truth"], "prediction": r["response"]} for i, r in asked
        ]

    by_id = read_file(write_predictions(tmp_path / "a.tsv", rows(ids)[::-1]), data)
    same_rows(by_id, results[::-1], tmp_path)
    assert by_id.table["sample_id"].tolist() == ids[::-1]
    in_order = read_file(write_predictions(tmp_path / "b.tsv", rows(range(1, len(results) + 1))), data)
    same_rows(in_order, results, tmp_path)
    shuffled = rows(range(1, len(results) + 1))
    shuffled.reverse()
    by_position = read_file(write_predictions(tmp_path / "shuffled.tsv", shuffled), data)
    same_rows(by_position, results[::-1], tmp_path)
    fewer = rows(range(1, len(results) + 1))[:-1]  # by number no record is meant for certain
    failed = read_file(write_predictions(tmp_path / "c.tsv", fewer), data).failed
    assert len(failed) == len(fewer)
    assert failed[0]["error"].endswith(f"line 2, field 'index': expected the id of a record of {data}, got '1'")


def test_predictions_for_records_of_several_images_are_matched_and_counted_once(tmp_path):
    results = own_results()
    two = {"conversations": ..., "image": ..., "images": ["a.png", "b.png"]}
    records = [record_of(result, id=f"r{n}", **two) for n, result in enumerate(results)]
    data = write_jsonl(tmp_path / "data.jsonl", [{k: v for k, v in row.items() if v is not ...} for row in records])
    rows = [predicted(result, f"r{n}") for n, result in enumerate(results)]
    read = read_file(write_predictions(tmp_path / "a.tsv", rows), data)
    assert read.table["sample_id"].tolist() == [f"r{n}" for n in range(len(results))] and read.failed == []
    assert checked_against_data(read, data) == ([], [])


def test_rows_are_numbered_as_a_spreadsheet_does(tmp_path):
    rows = [predicted(result, n) for n, result in enumerate(own_results(["EmoSet-8"], 3))]
    rows[1]["answer"] = ""
    read = read_file(write_predictions(tmp_path / "m_EmoSet-8.tsv", rows))
    assert read.table["line_number"].tolist() == [2, 4]
    assert (
        read.failed[0]["error"]
        == f"{tmp_path / 'm_EmoSet-8.tsv'}, line 3, field 'ground_truth': expected a label, got None"
    )


def test_a_prediction_that_failed_or_is_empty_is_an_error(tmp_path):
    results = own_results(["EmoSet-8"], 3)
    rows = [predicted(result, n) for n, result in enumerate(results)]
    rows[0]["prediction"], rows[1]["prediction"] = "Failed to obtain answer via API.", ""
    read = read_file(write_predictions(tmp_path / "m_EmoSet-8.tsv", rows))
    assert len(read.table) == 1
    errors = [result["error"] for result in read.failed]
    assert errors[0] == "Failed to obtain answer via API."
    assert errors[1].endswith("line 3, field 'prediction': expected the model's text, got nothing")


# --- any values ------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "awe", "A", "EmoSet-8", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["task", "a"]), inner, max_size=2),
    max_leaves=5,
)
NAMES = ("target", "resps", "failed", "answer", "A", "B", "category", "task", "thinking", "image_path")
GOOD_RECORD = {"task": "EmoSet-8", "candidates": ["awe"], "ground_truth": "awe"}


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES | st.just(GOOD_RECORD)), min_size=1, max_size=4), VALUES)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_row_of_any_values_is_a_row_or_an_error(tmp_path, rows, value):
    data = write_jsonl(tmp_path / "data.jsonl", [{**a_record(), "id": "0"}, {"task": 7}])
    for keys in (("doc_id", "filtered_resps"), ("index", "prediction")):
        path = write_jsonl(tmp_path / "in.jsonl", [{keys[0]: n, keys[1]: value, **row} for n, row in enumerate(rows)])
        for records in (None, data):
            read = read_file(path, records)
            assert len(read.table) + len(read.failed) == len(rows)
            assert all(isinstance(result["error"], str) for result in read.failed)


# --- neither ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tsv", "id\tanswer\n1\tawe\n"),
        ("x.json", '[{"id": 1, "answer": "awe"}]'),
        ("x.json", "[]"),
        ("x.csv", ""),
        ("x.xlsx", "no workbook"),
    ],
)
def test_a_table_of_an_unknown_harness_is_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(NotResults) as refused:
        read_file(tmp_path / name)
    text = str(refused.value)
    assert text.startswith(f"{tmp_path / name}: ") and "\n" not in text


def test_lines_of_an_unknown_harness_are_told_from_broken_ones_of_ours(tmp_path):
    unknown = write_jsonl(tmp_path / "x.jsonl", [{"sample": 1, "model_output": "awe"}] * 2)
    assert "lmms-eval's *_samples_*.jsonl" in unknown_harness(unknown)
    assert unknown_harness(unknown).endswith("found model_output, sample")
    assert unknown_harness(write_jsonl(tmp_path / "y.jsonl", [{}, own_results()[0]])) is None
