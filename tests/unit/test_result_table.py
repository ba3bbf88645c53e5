"""Reading results: the same table whatever the pieces, nothing dropped, lines as they were written."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.json_lines import to_line
from inference.data.vecbench import TASKS
from inference.metrics.prediction_table import prediction_table
from inference.metrics.result_lines import pieces_of
from inference.metrics.results import REPEATED, read_file, read_run, read_shards
from tests.helpers.commands import REPO
from tests.helpers.results import results_of, write_run

GOLDEN = REPO / "tests" / "golden" / "records.jsonl"


@given(st.integers(1, 200_000))
def test_pieces_are_whole_lines_and_together_the_file(size):
    content = GOLDEN.read_bytes()
    pieces = list(pieces_of(GOLDEN, size))
    assert b"".join(content[piece.start : piece.end] for piece in pieces) == content
    assert all(content[piece.end - 1 : piece.end] == b"\n" for piece in pieces[:-1])


# What may stand in a line, well-formed or not.
PARTS = [
    b'"task": "FI-2"',
    b'"task": ""',
    b'"task": 3',
    b'"task": "caf\xc3\xa9"',
    b'"task": "\xff"',
    b'"t\\u0061sk": "mine"',
    b'"candidates": ["positive", "negative"]',
    b'"candidates": ["A", "b"]',
    b'"candidates": []',
    b'"candidates": ["a", 1]',
    b'"candidates": ["\\ud800"]',
    b'"ground_truth": "positive"',
    b'"ground_truth": null',
    b'"ground_truth": "\\ud800"',
    b'"response": "<answer>positive</answer><confidence>0.7</confidence>"',
    b'"response": null',
    b'"response": "\xff"',
    b'"sample_id": "s"',
    b'"sample_id": 7',
    b'"id": "own"',
    b'"position": 1.0',
    b'"position": true',
    b'"position": 12',
    b'"error": null',
    b'"error": "no image"',
    b'"notice": ["x"]',
    b'"notice": "toy"',
    b'"model": "m"',
    b'"model": {}',
    b'"conversations": [{"role": "user", "content": [{"type": "image", "image": "a.jpg"}]}]',
    b'"conversations": [{"content": [{"image_url": {"url": "b.jpg"}}, {"image": "c.jpg"}]}]',
    b'"conversations": [3]',
    b'"conversations": null',
    b'"messages": [{"content": "text"}]',
    b'"image": "d.jpg"',
    b'"image": 3',
    b'"more": NaN',
    b'"more": 1' + b"0" * 5000,
    b'"more": ' + b"[" * 120 + b"]" * 120,
    b'"more": "\xff"',
    b'"more": 1e999',
    b'"more": "\\ud800"',
    b'"more": 01',
    b'"answer_log_probability": -0.5',
    b'"answer_log_probability": "x"',
    b'"other_responses": ["<answer>negative</answer>"]',
    b'"other_responses": 3',
    b'"reasoning_facts": [{"section": "human", "true": ["smile"], "false": []}]',
    b'"reasoning_facts": [{"section": "human", "true": ["\\ud800"], "false": [" "]}]',
]
GOOD = [part for part in PARTS if part.startswith((b'"task": "FI', b'"candidates": ["p', b'"ground_truth": "p'))] + [
    b'"response": "<answer>positive</answer>"',
]


@given(st.lists(st.lists(st.sampled_from(PARTS), max_size=4), min_size=1, max_size=8), st.data())
def test_any_line_becomes_a_row_or_a_failure(tmp_path_factory, additions, data):
    path = tmp_path_factory.mktemp("lines") / "r.jsonl"
    lines = [b"{" + b", ".join(data.draw(st.permutations([*GOOD, *added]))) + b"}" for added in additions]
    path.write_bytes(b"\n".join(lines))
    results = read_file(path)
    repeated = sum(int(doubt.split()[0]) for doubt in results.doubts if REPEATED in doubt)
    assert len(results.table) + len(results.failed) + repeated == len(lines)
    assert len(list(results.lines())) == len(results.table)


def test_the_table_is_prediction_table_and_the_lines_are_the_shards(tmp_path):
    rows = results_of(list(TASKS), 5)
    write_run(tmp_path, rows)
    results = read_shards(tmp_path)
    expected = prediction_table(rows)
    pd.testing.assert_frame_equal(results.table[expected.columns], expected, check_dtype=False)
    assert list(results.lines()) == [to_line({**row, "position": i}).encode() for i, row in enumerate(rows)]


def test_a_response_outweighs_an_error_and_torn_lines_are_passed_over(tmp_path):
    rows = results_of(["FI-2"], 3)
    write_run(tmp_path, rows[:2], n_shards=2)
    shard = tmp_path / "shard_002_of_003.jsonl"
    failed = [{**rows[0], "error": "no such file"}, {**rows[2], "error": "broken image", "position": 2}]
    for row in failed:
        row.pop("response")
    shard.write_text("".join(to_line(row) + "\n" for row in failed) + '{"sample_id": "torn', encoding="utf-8")
    results = read_shards(tmp_path)
    assert results.table["sample_id"].tolist() == ["FI-2-0", "FI-2-1"]
    assert [row["error"] for row in results.failed] == ["broken image"]
    assert results.known == {"FI-2-0", "FI-2-1", "FI-2-2"}


@pytest.mark.parametrize("size", [1, 300, 10_000_000])
def test_a_bad_line_is_named_by_its_number_in_the_file_whatever_the_pieces(monkeypatch, tmp_path, size):
    good = [to_line(result) for result in results_of(["FI-2"], 3)]
    path = tmp_path / "r.jsonl"
    text = f'{good[0]}\r\n\n{good[1]}\nnot json\n{{"task": "FI-2"}}\n{good[2]}'
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    monkeypatch.setattr(pieces_of, "__defaults__", (size,))
    results = read_file(path)
    assert len(results.table) == 3
    assert results.failed[0] == {"line": 4, "error": "expected one JSON object, Expecting value at column 1"}
    assert f"{path}, line 5, field 'candidates'" in results.failed[1]["error"]
    assert [bytes(line).decode() for line in results.lines()] == good


def test_a_line_without_sample_id_gets_the_records_id_or_one_of_its_content(tmp_path):
    rows = results_of(["FI-2"], 2)
    for row in rows:
        del row["sample_id"]
    rows[0]["id"] = 17
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(map(to_line, rows)))
    results = read_file(path)
    ids = results.table["sample_id"].tolist()
    assert ids[0] == "17" and ids[1].startswith("FI-2-")
    assert [json.loads(line)["sample_id"] for line in results.lines()] == ids


def test_numbers_and_text_that_a_strict_parser_refuses_are_read_all_the_same(tmp_path):
    row = results_of(["FI-2"], 1)[0]
    path = tmp_path / "r.jsonl"
    path.write_text(to_line(row)[:-1] + ', "big": 1' + "0" * 30 + ', "none": NaN, "half": "\\ud800"}\n')
    assert len(read_file(path).table) == 1


def test_an_evaluated_run_is_read_from_its_merged_file_and_another_from_its_shards(tmp_path):
    write_run(tmp_path, results_of(["FI-2"], 3))
    assert len(read_run(tmp_path).table) == 3
    (tmp_path / "merged.jsonl").write_text(to_line(results_of(["FI-2"], 1)[0]) + "\n")
    assert len(read_run(tmp_path).table) == 1


def test_a_run_s_notices_models_and_candidates_are_those_of_its_lines(tmp_path):
    rows = [{**row, "notice": "made up", "model": "tiny"} for row in results_of(["FI-2", "WebEmo-25"], 4)]
    write_run(tmp_path, rows)
    run = read_shards(tmp_path)
    assert (run.notices, run.models) == (["made up"], ["tiny"])
    assert run.candidates == {task: list(TASKS[task].labels) for task in ("FI-2", "WebEmo-25")}
    assert run.all_doubts() == []


def test_answers_of_two_models_in_one_table_are_said(tmp_path):
    """As when files of two runs were put together."""
    rows = [{**row, "model": f"model {i % 2}"} for i, row in enumerate(results_of(["FI-2"], 4))]
    write_run(tmp_path, rows)
    assert read_shards(tmp_path).all_doubts() == ["answers of 2 models in one table: model 0, model 1"]
