"""Records: what is read, what is refused, and with which message."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.data.records import BrokenRecord, Record, content_id, parse_record, read_records
from tests.corpora.bad_records import IMAGE, a_record


def write(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def test_a_record_keeps_every_key_of_its_line(tmp_path):
    raw = a_record(note={"deep": [1]}, weight=0.5)
    (record,) = read_records(write(tmp_path / "d.jsonl", raw))
    assert record.raw == raw
    assert (record.sample_id, record.image, record.line_number) == ("x1", IMAGE, 1)


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"task": ...}, "task", "a task name"),
        ({"task": 7}, "task", "a task name"),
        ({"candidates": "awe"}, "candidates", "a non-empty list of labels"),
        ({"candidates": []}, "candidates", "a non-empty list of labels"),
        ({"candidates": ["awe", None]}, "candidates", "non-empty strings"),
        ({"ground_truth": None}, "ground_truth", "a label"),
        ({"ground_truth": float("nan")}, "ground_truth", "a label"),
        ({"id": [1]}, "id", "a string or an integer"),
        ({"id": True}, "id", "a string or an integer"),
        ({"conversations": "hi"}, "conversations", "list of turns"),
        ({"conversations": []}, "conversations", "list of turns"),
        ({"conversations": [{"role": "user"}]}, "conversations[0].content", "a string or a list"),
        (
            {"conversations": [{"role": "user", "content": [{"type": "video"}]}]},
            "conversations[0].content[0]",
            '"text" or "image"',
        ),
        ({"conversations": [{"role": "assistant", "content": "x"}]}, "conversations", 'role "user"'),
        ({"conversations": [{"role": "user", "content": "no image"}]}, "conversations", "exactly one image"),
        (
            {"conversations": [{"role": "user", "content": [{"image": "a"}, {"image": "b"}]}]},
            "conversations",
            "exactly one image",
        ),
        ({"conversations": [{"role": "user", "content": [{"image": 5}]}]}, "image", "a path or URL"),
        ({"conversations": ...}, "image", "a path or URL"),
    ],
)
def test_a_bad_field_is_named_with_file_line_and_what_was_expected(tmp_path, change, field, expected):
    path = write(tmp_path / "d.jsonl", a_record(), a_record(**change))
    good, bad = read_records(path)
    assert isinstance(good, Record) and isinstance(bad, BrokenRecord)
    assert f"{path}, line 2, field '{field}'" in bad.error
    assert expected in bad.error


@pytest.mark.parametrize("line", ["{", "[1]", "nonsense", "1", '"text"', "[" * 100_000])
def test_a_line_that_is_no_object_is_broken_and_the_next_is_read(tmp_path, line):
    broken, good = read_records(write(tmp_path / "d.jsonl", line, a_record()))
    assert isinstance(broken, BrokenRecord) and isinstance(good, Record)
    assert broken.sample_id == "line-1"


def test_invalid_utf8_is_one_broken_line(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"task": "\xff"}\n' + json.dumps(a_record()).encode() + b"\n")
    broken, good = read_records(path)
    assert "UTF-8" in broken.error and isinstance(good, Record)


def test_byte_order_mark_crlf_and_empty_lines_are_survived(tmp_path):
    path = tmp_path / "d.jsonl"
    line = json.dumps(a_record()).encode()
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n\n" + line.replace(b"x1", b"x2"))
    first, second = read_records(path)
    assert (first.sample_id, second.sample_id) == ("x1", "x2")
    assert (second.position, second.line_number) == (1, 4)


def test_duplicate_ids_are_kept_apart(tmp_path):
    path = write(tmp_path / "d.jsonl", *(a_record(id=i) for i in (1, "1", "1#2", 1)))
    ids = [record.sample_id for record in read_records(path)]
    assert len(set(ids)) == 4
    assert ids[:2] == ["1", "1#2"]


def test_without_an_id_the_content_gives_a_stable_one(tmp_path):
    raw = a_record(id=...)
    reordered = dict(reversed(raw.items()))
    first, second, third = read_records(
        write(tmp_path / "d.jsonl", raw, reordered, a_record(id=..., ground_truth="fear"))
    )
    assert first.sample_id == content_id(raw)
    assert second.sample_id == first.sample_id + "#2"
    assert third.sample_id not in (first.sample_id, second.sample_id)


def test_limit_counts_lines(tmp_path):
    path = write(tmp_path / "d.jsonl", *(a_record(id=i) for i in range(5)))
    assert len(list(read_records(path, limit=3))) == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["id", "conversations", "ground_truth", "candidates", "task", "image"]), json_values)
def test_any_value_in_any_field_is_a_record_or_a_broken_record(field, value):
    try:
        record = parse_record(a_record(**{field: value}), "f", 1)
    except ValueError as error:
        assert "f, line 1, field" in str(error)
    else:
        assert record.candidates and record.image


def test_ids_are_those_of_the_content_as_it_stands_in_the_file():
    """The two ids are fixed: resuming a run that was begun with an earlier version goes by them."""
    ids = [parse_record(record, "f", 1).sample_id for record in (a_record(id=...), a_record(id=7))]
    assert ids == ["EmoSet-8-a0463a158e4a70f6", "7"]
