"""Rows of training and test files: every layout is read as the same sample."""

import base64
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.data.vecbench import TASKS
from scripts.data.samples import BrokenSample, read_samples, reward_problem
from tests.helpers.commands import write_jsonl
from tests.helpers.training_rows import ANSWER, QUESTION, THOUGHT, layouts, row, with_an_image
from train.cus_reward import compute_score


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return with_an_image(tmp_path_factory.mktemp("vec cot"))


def test_every_layout_reads_as_the_same_sample(folder):
    path = write_jsonl(folder / "layouts.jsonl", layouts(folder).values())
    for name, sample in zip(layouts(folder), read_samples(path), strict=True):
        assert not isinstance(sample, BrokenSample), (name, sample)
        assert sample.messages == [{"role": "user", "content": "<image>" + QUESTION}], name
        assert (sample.answer, sample.ground_truth, sample.candidates) == (ANSWER, "joy", ["joy", "fear"]), name
        assert len(sample.images) == 1, name


def test_a_json_array_and_a_parquet_file_with_bytes_read_alike(folder):
    (folder / "array.json").write_text(json.dumps([row(id=i) for i in range(20)], indent=1))
    content = (folder / "good.png").read_bytes()
    table = pa.Table.from_pylist([row(images=[{"bytes": content, "path": None}], id=i) for i in range(150)])
    pq.write_table(table, folder / "rows.parquet")
    assert [sample.sample_id for sample in read_samples(folder / "array.json")] == [str(i) for i in range(20)]
    embedded = list(read_samples(folder / "rows.parquet"))
    assert [sample.sample_id for sample in embedded] == [str(i) for i in range(150)]
    assert base64.b64decode(embedded[-1].images[0].partition(",")[2]) == content


def test_a_test_record_without_a_prompt_is_asked_the_released_models_question(folder):
    record = {"image": "good.png", "candidates": ["joy", "fear"], "ground_truth": "joy", "task": "WebEmo-7"}
    (sample,) = read_samples(write_jsonl(folder / "record.jsonl", [record]))
    assert sample.messages[0]["content"].startswith("<image>Which emotion might this image evoke?")
    assert sample.answer is None


def test_a_json_array_in_another_encoding_names_the_byte(folder):
    text = json.dumps([row(id="é"), row(id="e")], ensure_ascii=False)
    (folder / "latin.json").write_bytes(text.encode("latin-1"))
    broken, good = read_samples(folder / "latin.json")
    assert "line 1, field '(line)': expected UTF-8 text, got the byte 0xe9: iconv" in broken.error
    assert good.sample_id == "e"


def listed_candidates(folder, question, **more):
    turns = [{"role": "user", "content": f"<image>{question}"}]
    (sample,) = read_samples(write_jsonl(folder / "asked.jsonl", [row(messages=turns, **more)]))
    return sample.candidates


@pytest.mark.parametrize(
    ("question", "candidates"),
    [
        ("One of [joy, fear]?", ["joy", "fear"]),
        ("One of ['Joy', \"fear\"]? State a confidence in [0, 1].", ["Joy", "fear"]),
        ("State a confidence in [0, 1]. One of [joy, fear]?", ["joy", "fear"]),
        ("One of [awe, fear]? In [0, 1].", ["awe", "fear"]),  # the label is in none
        ("One of [joy, fear,]? Give [,].", ["joy", "fear"]),
        ("Which emotion? Give [,].", list(TASKS["WebEmo-7"].labels)),
        ("Which emotion?", list(TASKS["WebEmo-7"].labels)),
        ("Which emotion? State a confidence in [0, 1].", list(TASKS["WebEmo-7"].labels)),
        ("Which emotion? State the valence in [-1, 1], a confidence in [0%, 100%].", list(TASKS["WebEmo-7"].labels)),
    ],
)
def test_candidates_are_the_list_in_brackets_that_holds_the_label(folder, question, candidates):
    assert listed_candidates(folder, question) == candidates


def counted_as_right(label):
    """Whether the reward of stage 3 counts an answer as right that is the label itself."""
    response = f"<think>{THOUGHT}</think><answer>{label}</answer><confidence>0.5</confidence>"
    return compute_score(response, label)["correctness"] == 1.0


@given(st.text(alphabet="aZ é_-.'\u00a0\u0130ß\u611f", min_size=1, max_size=6))
def test_labels_are_refused_exactly_when_the_reward_never_counts_them(label):
    assert (reward_problem(label, None) is None) == counted_as_right(label)


def test_a_label_that_the_question_does_not_list_is_refused():
    assert "expected one of the candidates joy, fear, got 'A'" in reward_problem("A", ["joy", "fear"])
    assert reward_problem("Joy", ["joy", "fear"]) is None


def test_candidates_that_the_reward_cannot_tell_apart_are_refused():
    assert "candidates" in reward_problem("calm", ["calm", "Calm!", "sad"])
    assert reward_problem("calm", ["calm", "calm", "calmness", "very calm"]) is None
