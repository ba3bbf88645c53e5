"""The confidence of stage 2: a share of samples, in steps of 0.05, never certain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.data.records import read_records
from inference.engines.base import EngineSettings
from inference.runs.folder import RunChanged, open_shard, prepare
from inference.runs.shards import ShardWriter, result_line
from scripts.build_vec_cot.confidence import main as measure
from scripts.build_vec_cot.confidence import smoothed_confidence
from scripts.build_vec_cot.sampling import check_answers, describe_sampling, question
from tests.helpers.commands import TOY_CHECKPOINT, read_jsonl, write_jsonl


@given(st.integers(1, 200), st.floats(0, 5), st.data())
def test_a_confidence_is_near_its_share_in_steps_of_005_and_never_certain(sample_count, smoothing, data):
    label_count = data.draw(st.integers(0, sample_count))
    value = smoothed_confidence(label_count, sample_count, smoothing)
    assert 0.05 <= value <= 0.95
    assert value == round(round(20 * value) / 20, 10)
    share = (label_count + smoothing) / (sample_count + 2 * smoothing)
    assert abs(value - min(0.95, max(0.05, share))) <= 0.025 + 1e-9
    if label_count:
        assert smoothed_confidence(label_count - 1, sample_count, smoothing) <= value


def test_ten_samples_give_these_confidences():
    values = [smoothed_confidence(k, 10, 0.5) for k in range(11)]
    assert values == [0.05, 0.15, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.85, 0.95]


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match="expected 0 <= k <= K"):
        smoothed_confidence(*counts, 0.5)


def test_answers_in_the_folder_about_another_image_under_the_same_id_are_refused(tmp_path):
    """Two data sets may both number their records; the answers are found again by these numbers."""

    def records(name, **more):
        rows = [
            {"id": i, "image": f"{name}/{i}.png", "task": "EmoSet-8", "ground_truth": "awe", **more} for i in range(2)
        ]
        return list(read_records(write_jsonl(tmp_path / "data.jsonl", rows)))

    labels = ["awe", "fear"]
    first = records("a", candidates=labels)
    with ShardWriter(tmp_path / "run", 0, 1) as writer:
        writer.write(result_line(question(first[1], "?", 0), response="<answer>awe</answer>"))
    check_answers(first, tmp_path / "run")
    check_answers(records("moved/a", candidates=labels), tmp_path / "run")
    more = records("a", candidates=[*labels, "joy"])
    for field, other in {
        "candidates": more,
        "task": records("a", candidates=labels, task="FI-8"),
        "image": first[::-1],
    }.items():
        other[1].sample_id = "1"  # reversed: the other record's
        with pytest.raises(
            ValueError, match=rf"record 1, field '{field}': expected .*, got .*: the answers there are to"
        ):
            check_answers(other[1:], tmp_path / "run")


def test_another_adapter_of_the_same_name_is_another_scaffold(tmp_path):
    """As when stage 1 was trained anew: what the earlier one answered is no share of this one's answers."""
    adapter = tmp_path / "checkpoint-666"
    adapter.mkdir()
    settings = EngineSettings(checkpoint=str(TOY_CHECKPOINT), adapter=str(adapter))
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    with open_shard(tmp_path / "run", 0, 1, describe_sampling(settings, tmp_path / "run")) as (writer, _):
        writer.write({"sample_id": "0#0", "position": 0, "response": "<answer>awe</answer>"})
    prepare(tmp_path / "run", describe_sampling(settings, tmp_path / "run"))
    (adapter / "adapter_model.safetensors").write_bytes(b"another")
    with pytest.raises(RunChanged, match=r"adapter\.sha256 was"):
        prepare(tmp_path / "run", describe_sampling(settings, tmp_path / "run"))


def test_samples_that_were_cut_off_or_answer_nothing_are_said_with_their_count(tmp_path, capsys):
    """They lower every confidence, and say nothing of how sure the scaffold is."""
    Image.new("RGB", (56, 56)).save(tmp_path / "a.png")
    row = {"id": "a", "image": "a.png", "task": "EmoSet-8", "ground_truth": "awe", "candidates": ["awe", "fear"]}
    data = write_jsonl(tmp_path / "data.jsonl", [row])
    (record,) = read_records(data)
    answers = ["<answer>awe</answer>", "<answer>fear</answer>", "<answer>joy</answer>", "<think>It is"]
    settings = EngineSettings(engine="openai", base_url="http://127.0.0.1:1/v1", model_name="m", temperature=1.0)
    with open_shard(tmp_path / "run", 0, 1, describe_sampling(settings, tmp_path / "run")) as (writer, _):
        for k, response in enumerate(answers):
            reason = "stop" if "answer" in response else "length"
            asked = question(record, "?", k)
            writer.write(result_line(asked, response=response, model="m", finish_reason=reason))
    options = ["--engine", "openai", "--base_url", settings.base_url, "--model_name", "m", "--samples", "4"]
    measure(["--data_path", str(data), "--output_path", str(tmp_path / "run"), "--collect_only", *options])
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("CHECK: ")] == [
        "CHECK: 1 of 4 samples were cut off at the limit of new tokens (--max_new_tokens); "
        "they count as another answer than the label",
        "CHECK: 2 of 4 samples answer with none of the candidates, or several; "
        "they count as another answer than the label",
    ]
    (measured,) = read_jsonl(tmp_path / "run" / "confidence.jsonl")
    assert (measured["confidence"], measured["cut_off_count"]) == (0.3, 1)
