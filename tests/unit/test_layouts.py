"""Layouts of records: whichever a file has, the same question is asked about the same image."""

import re

import pytest

from inference.data.layouts import image_of
from inference.data.prompts import chat_messages, recognition_prompt
from inference.data.records import RecordError, parse_record
from inference.runs.shards import result_line
from tests.corpora.bad_records import IMAGE, a_record


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


@pytest.mark.parametrize("role", ["chatgpt", "Assistant", "model"])
def test_an_answer_under_another_role_s_name_is_not_shown_to_the_model(role):
    turns = [{"from": "human", "value": "<image>Which?"}, {"from": role, "value": "<answer>awe</answer>"}]
    expected = f"field 'conversations[1].role': expected one of system, user, assistant, human, gpt, got '{role}'"
    with pytest.raises(RecordError, match=re.escape(expected)):
        parse_record(a_record(conversations=turns, image="a.jpg"), "f", 1)


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
