"""Tasks and records: what is read, what is refused, and with which message."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.data.layouts import image_of
from inference.data.prompts import chat_messages, recognition_prompt
from inference.data.records import BrokenRecord, Record, RecordError, content_id, parse_record, read_records
from inference.data.vecbench import GROUPS, TASKS, WEBEMO_7, WEBEMO_25, group_of
from inference.runs.shards import result_line
from tests.corpora.bad_records import IMAGE, a_record


def write(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def test_vecbench_has_nine_tasks_three_groups_and_8032_samples():
    assert len(TASKS) == 9
    assert sum(task.n_test for task in TASKS.values()) == 8032
    assert {task.group for task in TASKS.values()} == set(GROUPS)
    by_group = {group: sum(t.n_test for t in TASKS.values() if t.group == group) for group in GROUPS}
    assert by_group == {"ID VSA": 2000, "ID VER": 3997, "OOD VER": 2035}


def test_label_sets_have_the_sizes_that_the_task_names_say():
    assert all(len(set(task.labels)) == int(name.rsplit("-", 1)[1]) for name, task in TASKS.items())
    assert len(WEBEMO_25) == 25 and len(WEBEMO_7) == 7


def test_the_misspelt_task_is_an_alias():
    assert group_of("UnbaisedEmo-6") == "OOD VER"
    assert parse_record(a_record(task="UnbaisedEmo-6"), "f", 1).task == "UnbiasedEmo-6"
    assert group_of("Something-3") is None


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


def from_value(text, **changes):
    """A record in LLaVA's layout."""
    return a_record(conversations=[{"from": "human", "value": text}], image=IMAGE, **changes)


LAYOUTS = {
    "from and value": from_value("<image>Which emotion?"),
    "messages, images": a_record(
        conversations=..., messages=[{"role": "user", "content": "<image>Which emotion?"}], images=[IMAGE]
    ),
    "null beside what counts": a_record(
        conversations=None, messages=[{"role": "user", "content": "Which emotion?"}], images=None, image=IMAGE
    ),
    "image object": a_record(
        conversations=[{"role": "user", "content": "<image>Which emotion?"}], images=[{"path": IMAGE, "bytes": None}]
    ),
    "image address": a_record(
        conversations=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": IMAGE}},
                    {"type": "text", "text": "Which emotion?"},
                ],
            }
        ]
    ),
    "nulls of a table": a_record(
        conversations=[
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": IMAGE, "text": None},
                    {"type": "text", "image": None, "text": "Which emotion?"},
                ],
            }
        ]
    ),
    "label": a_record(ground_truth=..., label="awe"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_asked_the_same_and_has_the_same_image_and_label(name):
    record = parse_record(LAYOUTS[name], "f", 1)
    assert chat_messages(record) == chat_messages(parse_record(a_record(), "f", 1))
    assert (record.image, record.ground_truth, image_of(record.raw)) == (IMAGE, "awe", IMAGE)


def test_a_result_states_the_label_under_the_name_that_evaluation_reads():
    line = result_line(parse_record(LAYOUTS["label"], "f", 1), response="<answer>awe</answer>")
    assert (line["ground_truth"], line["label"]) == ("awe", "awe")


@pytest.mark.parametrize(
    "content",
    [
        "<image>Compare <image>. Which?",
        [{"type": "image"}, {"type": "text", "text": "<image>Which?"}],
        [{"type": "text", "text": "<image>Which <image>?"}],
    ],
)
def test_two_places_for_one_image_are_refused_when_the_record_is_read(content):
    with pytest.raises(RecordError, match="field 'conversations': expected one place for the one image, got 2"):
        parse_record(a_record(conversations=[{"role": "user", "content": content}], image=IMAGE), "f", 1)


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|video_pad|>"])
def test_a_token_that_stands_for_pixels_is_refused_when_the_record_is_read(token):
    content = [{"type": "image", "image": IMAGE}, {"type": "text", "text": f"Which {token}?"}]
    with pytest.raises(RecordError, match=r"conversations\[0\].content\[1\]': expected text without"):
        parse_record(a_record(conversations=[{"role": "user", "content": content}]), "f", 1)


def test_ids_are_those_of_the_content_as_it_stands_in_the_file():
    """The two ids are fixed: resuming a run that was begun with an earlier version goes by them."""
    ids = [parse_record(record, "f", 1).sample_id for record in (a_record(id=...), a_record(id=7))]
    assert ids == ["EmoSet-8-a0463a158e4a70f6", "7"]


# --- prompts ---------------------------------------------------------------------------


def test_a_record_with_its_own_prompt_is_asked_just_that():
    record = parse_record(a_record(), "f", 1)
    assert chat_messages(record) == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which emotion?"}]}
    ]


def test_a_record_without_a_prompt_gets_the_released_wording():
    record = parse_record(a_record(conversations=..., image="a.jpg"), "f", 1)
    (turn,) = chat_messages(record)
    assert turn["content"][0] == {"type": "image"}
    text = turn["content"][1]["text"]
    assert text.startswith("Which emotion might this image evoke? Choose the most likely one from [awe, fear].")
    assert "<confidence>" in text
    assert "<confidence>" not in recognition_prompt(["awe"], with_confidence=False)


def test_an_image_placeholder_in_a_string_becomes_the_image():
    turns = [{"role": "user", "content": "<image>Which?"}, {"role": "assistant", "content": "awe"}]
    record = parse_record(a_record(conversations=turns, image="a.jpg"), "f", 1)
    assert chat_messages(record) == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}
    ]


def test_an_image_beside_the_conversation_comes_before_the_text():
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}]
    record = parse_record(a_record(conversations=turns, image="a.jpg"), "f", 1)
    system, user = chat_messages(record)
    assert system["content"] == [{"type": "text", "text": "Be brief."}]
    assert user["content"][0] == {"type": "image"}
