"""Bad records: each becomes a record or one short line that names file, line and field; none is lost."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.common.json_lines import (
    MAX_DEPTH,
    NotJsonLines,
    decode_line,
    describe,
    one_line,
    read_lines,
    to_line,
    too_deep,
)
from inference.data.records import BrokenRecord, Record, RecordError, parse_record, read_records
from inference.metrics.results import read_file
from scripts.data.from_csv import main as from_csv
from scripts.data.samples import BrokenSample, Sample, read_samples
from tests.corpora.bad_records import IMAGE, RECORD_CASES, a_record, as_line, write_cases
from tests.helpers.commands import read_jsonl

LONGEST = 400  # characters of a message, the file's path included


def assert_readable(message):
    assert len(message) <= LONGEST
    assert message.isprintable()


def test_case_names_are_unique_and_there_are_at_least_two_hundred():
    assert len({case.name for case in RECORD_CASES}) == len(RECORD_CASES) >= 200


@pytest.mark.parametrize("case", RECORD_CASES, ids=lambda case: case.name)
def test_each_line_is_a_record_or_an_error_that_names_its_field(tmp_path, case):
    path = tmp_path / "d.jsonl"
    path.write_bytes(as_line(a_record(id="before")) + b"\n" + case.line + b"\n" + as_line(a_record(id="after")) + b"\n")
    before, item, after = read_records(path)
    assert (before.sample_id, after.sample_id, after.line_number) == ("before", "after", 3)
    if case.field is None:
        assert isinstance(item, Record), item.error
        assert item.raw == json.loads(case.line) or "NaN" in case.name
    else:
        assert isinstance(item, BrokenRecord)
        assert item.error.startswith(f"{path}, line 2, field '{case.field}': expected ")
        assert_readable(item.error)
    to_line(item.raw)


def test_all_cases_in_one_file_keep_their_places_and_have_ids_of_their_own(tmp_path):
    items = list(read_records(write_cases(tmp_path / "all.jsonl")))
    assert [item.position for item in items] == list(range(len(RECORD_CASES) + 1))
    assert len({item.sample_id for item in items}) == len(items)
    broken = [isinstance(item, BrokenRecord) for item in items[1:]]
    assert broken == [case.field is not None for case in RECORD_CASES]


def test_training_files_read_each_line_as_a_sample_or_a_broken_one(tmp_path):
    path = write_cases(tmp_path / "all.jsonl")
    first, *items = read_samples(path)
    assert isinstance(first, Sample)
    for number, (item, case) in enumerate(zip(items, RECORD_CASES, strict=True), 2):
        assert item.line_number == number
        if case.field is None:  # its layouts are many: some of what is no record is a sample
            assert isinstance(item, Sample), (case.name, item)
        if isinstance(item, BrokenSample):
            assert item.error.startswith(f"{path}, line {number}, field '"), case.name
            assert_readable(item.error)
        to_line(item.raw)
    assert sum(isinstance(item, BrokenSample) for item in items) >= 150


def test_each_result_line_is_evaluated_or_failed_and_json_agrees_with_the_fast_reader(tmp_path):
    path = tmp_path / "results.jsonl"
    write_cases(path, [case._replace(line=with_response(case)) for case in RECORD_CASES])
    results = read_file(path)
    assert len(results.table) + len(results.failed) == len(RECORD_CASES) + 1
    read = [decode_line(line) for line in results.lines()]
    assert [problem for _, problem in read if problem] == []  # what evaluation reads, the report reads
    # An id, an image or turns that nobody could infer do not keep a response from being evaluated.
    judged = {value["case"] for value, _ in read}
    assert judged >= {case.name for case in RECORD_CASES if case.field is None}
    assert not judged & {case.name for case in RECORD_CASES if case.field in ("(line)", "task", "candidates")}
    for failure in results.failed:
        assert failure["error"].startswith(("expected", f"{path}, line ")), failure["error"][:200]
        assert_readable(failure["error"])


def with_response(case):
    """The case's line as a result that knows which case it is, where it is an object."""
    line = case.line.strip()
    if not line.endswith(b"}") or case.field == "(line)":
        return line
    separator = b"" if line == b"{}" else b", "
    return line[:-1] + separator + b'"response": "<answer>awe</answer>", "case": ' + as_line(case.name) + b"}"


# --- whole files -----------------------------------------------------------------------


def other_files(folder):
    line = as_line(a_record())
    pq.write_table(pa.table({"task": ["EmoSet-8"]}), folder / "table")
    whole = {
        "gzip": gzip.compress(line), "parquet": (folder / "table").read_bytes(),
        "UTF-16": line.decode().encode("utf-16"),
        "zip": b"PK\x03\x04rest", "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
        "array on one line": b"[" + line + b", " + line + b"]",
        "array with indents": json.dumps([a_record(), a_record()], indent=1).encode(),
        "array, an element a line": b"[\n" + line + b",\n" + line + b"\n]\n",
        "lone CR": line + b"\r" + line + b"\r",
    }  # fmt: skip
    return {name: (folder / "d.jsonl", content) for name, content in whole.items()}


OTHER_FILES = (
    "gzip", "parquet", "UTF-16", "zip", "LFS pointer", "array on one line", "array with indents",
    "array, an element a line", "lone CR",
)  # fmt: skip


@pytest.mark.parametrize("name", OTHER_FILES)
@pytest.mark.parametrize("read", [read_lines, read_records, read_samples, read_file])
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, name, read):
    path, content = other_files(tmp_path)[name]
    path.write_bytes(content)
    with pytest.raises(NotJsonLines) as caught:
        list(read(path))
    assert str(caught.value).startswith(f"{path}: expected JSON lines, found ")
    assert_readable(str(caught.value))


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\r\n \n"])
def test_a_file_without_a_line_has_no_record(tmp_path, content):
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    assert list(read_records(path)) == list(read_samples(path)) == []
    assert len(read_file(path).table) == 0


def test_a_broken_element_of_an_array_ends_it_and_says_so(tmp_path):
    path = tmp_path / "d.json"
    path.write_bytes(b"[" + as_line(a_record()) + b", {torn, " + as_line(a_record()) + b"]")
    good, broken = read_samples(path)
    assert isinstance(good, Sample)
    assert "line 2" in broken.error and "nothing after it can be read" in broken.error


def test_any_line_as_an_element_of_an_array_is_read_or_named(tmp_path):
    path = tmp_path / "d.json"
    for case in RECORD_CASES:
        path.write_bytes(b"[" + as_line(a_record()) + b", " + case.line + b"]")
        first, *others = read_samples(path)
        assert isinstance(first, Sample)
        assert others, (case.name, "what is no element is named, too")
        for item in others:
            if isinstance(item, BrokenSample):
                assert_readable(item.error)
            to_line(item.raw)


def test_duplicate_ids_of_different_types_stay_two_samples(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\n".join(as_line(a_record(id=i)) for i in (1, "1", 1, "1#2")))
    ids = [record.sample_id for record in read_records(path)]
    assert ids == ["1", "1#2", "1#3", "1#2#2"]


# --- anywhere in its structure ---------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """The path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


@st.composite
def mutated(draw):
    """A good record with one to three values, anywhere in it, replaced, taken away or doubled."""
    record = json.loads(as_line(a_record()))
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(record))
        if not found:
            break
        *path, key = draw(st.sampled_from(found))
        inner = record
        for step in path:
            inner = inner[step]
        change = draw(st.sampled_from(["replace", "replace", "remove", "double"]))
        if change == "replace":
            inner[key] = draw(json_values)
        elif change == "remove":
            del inner[key]
        elif isinstance(inner, list):
            inner.insert(key, inner[key])
    return record


@given(mutated())
def test_a_mutated_record_is_a_record_or_an_error_with_file_line_and_field(record):
    try:
        parsed = parse_record(record, "f", 3)
    except RecordError as error:
        assert re.match(r"f, line 3, field '[^']+': expected .", str(error))
        assert_readable(str(error))
    else:
        assert parsed.candidates and parsed.image and parsed.sample_id is not None
        (parsed.sample_id + parsed.task + parsed.ground_truth + "".join(parsed.candidates)).encode("utf-8")


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_value_or_one_short_problem(line):
    value, problem = decode_line(line)
    if problem is not None:
        assert value is None
        assert_readable(problem)


@given(json_values)
def test_describe_and_one_line_are_short_and_printable(value):
    assert_readable(describe(value))
    shown = one_line(str(value), 50)
    assert shown.isprintable()


@pytest.mark.parametrize(("depth", "deep"), [(MAX_DEPTH - 1, False), (MAX_DEPTH, False), (MAX_DEPTH + 1, True)])
def test_the_limit_of_levels_is_exact(depth, deep):
    text = "[" * depth + "]" * depth
    padded = text + " " + "[" * MAX_DEPTH  # enough brackets that the levels are counted
    assert too_deep(json.loads(text), padded) is deep


# --- CSV -------------------------------------------------------------------------------

CSV_CASES = {
    "invalid UTF-8": (b"good.png,j\xffoy", "label"),
    "NUL": (b"good.png\0,joy", "path"),
    "no label": (b"good.png,", "label"),
    "no path": (b",joy", "path"),
    "one field": (b"good.png", "label"),
    "three fields": (b"good.png,joy,more", "(line)"),
    "an image that is missing": (b"none.png,joy", "path"),
    "an image that is torn": (b"torn.png,joy", "path"),
    "a long label": (b"good.png," + b"x" * 300_000, "label"),
    "a folder": (b".,joy", "path"),
    "a quote left open": (b'good.png,"joy', "label"),
}


def test_each_bad_row_of_a_csv_file_is_named_and_none_is_lost(tmp_path, capsys):
    Image.new("RGB", (40, 40)).save(tmp_path / IMAGE)
    (tmp_path / "torn.png").write_bytes((tmp_path / IMAGE).read_bytes()[:60])
    # The quote that is left open takes what follows it: it stands last, and says so.
    rows = [b"path,label", b"good.png,joy", *(row for row, _ in CSV_CASES.values()), b"good.png,fear"]
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(rows))
    assert from_csv([str(tmp_path / "rows.csv"), "--output_dir", str(tmp_path / "out")]) == 1
    assert f"read {1 + len(CSV_CASES)} = written 1 + failed {len(CSV_CASES)}" in capsys.readouterr().out
    for item, (name, (_, field)) in zip(read_jsonl(tmp_path / "out" / "errors.jsonl"), CSV_CASES.items(), strict=True):
        assert f", field '{field}': expected " in item["error"], name
        assert_readable(item["error"])
