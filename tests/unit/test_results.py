"""Shards on disk: complete lines only, one result per sample, nothing lost."""

import json
from dataclasses import fields

import pytest

from inference.common.json_lines import to_line
from inference.common.storage import atomic_write
from inference.data.records import parse_record
from inference.engines.base import Output
from inference.metrics.results import read_shards
from inference.runs.shards import ADDED, ShardWriter, finished_samples, read_results, result_line, shard_path
from tests.corpora.bad_records import a_record
from tests.helpers.results import a_result


def result(i, **more):
    return {"sample_id": f"s{i}", "position": i, **(more or {"response": f"r{i}"})}


def test_each_line_is_on_disk_when_write_returns(tmp_path):
    with ShardWriter(tmp_path, 0, 1) as writer:
        writer.write(result(0))
        assert json.loads(writer.path.read_text()) == result(0)


def test_a_shard_ends_in_the_datas_order_whatever_finished_first(tmp_path):
    with ShardWriter(tmp_path, 0, 1) as writer:
        for i in (2, 0, 1):
            writer.write(result(i))
    assert [r["position"] for r in read_results(writer.path)] == [0, 1, 2]


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_torn_last_line_is_dropped_and_the_rest_is_kept(tmp_path, cut):
    path = shard_path(tmp_path, 0, 1)
    whole = to_line(result(0)) + "\n"
    path.write_text(whole + to_line(result(1, response="x" * 60))[:cut], encoding="utf-8")
    assert finished_samples(tmp_path) == {"s0"}
    with ShardWriter(tmp_path, 0, 1) as writer:
        writer.write(result(1))
    assert [r["sample_id"] for r in read_results(path)] == ["s0", "s1"]


def test_failed_samples_are_not_finished_and_leave_the_shard_before_the_next_try(tmp_path):
    with ShardWriter(tmp_path, 0, 1) as writer:
        writer.write(result(0))
        writer.write(result(1, error="bad image"))
    assert finished_samples(tmp_path) == {"s0"}
    with ShardWriter(tmp_path, 0, 1) as writer:
        assert [r["sample_id"] for r in read_results(writer.path)] == ["s0"]


def test_merging_takes_one_result_per_sample_in_the_datas_order_and_prefers_a_response(tmp_path):
    with ShardWriter(tmp_path, 0, 2) as writer:
        writer.write(result(0, error="lost connection"))
        writer.write({**a_result(), **result(2)})
    with ShardWriter(tmp_path, 1, 2) as writer:
        writer.write({**a_result(), **result(0)})
        writer.write(result(1, error="bad image"))
    merged = read_shards(tmp_path)
    assert list(merged.table["sample_id"]) == ["s0", "s2"]
    assert [(failed["sample_id"], failed["error"]) for failed in merged.failed] == [("s1", "bad image")]


def test_a_folder_without_shards_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        read_shards(tmp_path)


def test_an_exception_while_writing_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyError), atomic_write(target) as handle:
        handle.write("new")
        raise KeyError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_text_that_utf8_cannot_hold_survives_a_round_trip(tmp_path):
    odd = result(0, response="half a pair \ud83d and 😀 and é")
    with ShardWriter(tmp_path, 0, 1) as writer:
        writer.write(odd)
    assert list(read_results(writer.path)) == [odd]


def test_what_an_earlier_run_added_to_a_record_does_not_become_this_runs():
    """Its model's log-probabilities, its limit of tokens, its notice: as where a merged.jsonl is inferred again."""
    assert {one.name for one in fields(Output)} <= ADDED
    record = parse_record({**a_record(), **dict.fromkeys(ADDED, -1.0), "weight": 3}, "data.jsonl", 1, 0)
    line = result_line(record, response="r")
    assert line.keys() & ADDED == {"sample_id", "position", "response"} and line["weight"] == 3
