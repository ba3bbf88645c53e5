"""Building VEC-CoT, all of it, on the toy world with vLLM."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from inference.data.prompts import recognition_prompt
from inference.data.response import read_response
from inference.runs.shards import read_results, shard_path
from scripts.build_vec_cot import assemble, report
from scripts.build_vec_cot.confidence import smoothed_confidence
from scripts.data.samples import Sample, read_samples
from tests.helpers.commands import read_jsonl, run, write_jsonl

pytestmark = pytest.mark.long  # each step of the build is a process with an engine of its own


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """(folder, printed) of a build from 36 toy scenes; the toy model is teacher and scaffold, on vLLM."""
    work = tmp_path_factory.mktemp("it's a build")
    command = ["-m", "scripts.build_vec_cot", "--toy", "6", "--work", work, "--scaffold", "--samples 4"]
    return work, run(*command).stdout, command


def test_the_counts_of_a_build_add_up_and_it_says_that_it_is_a_toy(build):
    work, printed, _ = build
    found = json.loads((work / "report.json").read_text())
    assert (
        f"read 36 = kept {sum(found['split']['kept'])} + rejected {found['split']['rejected'].get('test_image', 0)}"
        in printed
    )
    counts = found["reasoning"]
    assert counts["asked"] == counts["written"] + sum(counts["rejected"].values()) + counts["failed"] > 20
    assert counts["written"] >= 16 and counts["failed"] == 0
    assert found["confidence"]["asked"] == found["confidence"]["measured"] > 0
    assert "NOTE: toy world: generated scenes" in printed and "NOTE: toy model" in printed
    assert "not done" not in printed
    assert (work / "report.txt").read_text() in printed
    assert Image.open(work / "report.png").size[0] > 1000


def test_only_answers_that_equal_the_label_become_reasoning(build):
    work, _, _ = build
    shards = {row["sample_id"]: row for row in read_results(shard_path(work / "reasoning", 0, 1))}
    for row in read_jsonl(work / "reasoning" / "reasoning.jsonl"):
        answer = shards[f"{row['id']}#{row['attempt']}"]
        assert read_response(answer["response"], row["candidates"]).label == row["ground_truth"]
        assert answer["image_tokens"] == 9  # the pixel budget reached the engine
    for row in read_jsonl(work / "reasoning" / "rejected.jsonl"):
        assert len(row["attempts"]) == 3 and all(attempt["problems"] for attempt in row["attempts"])


def test_stage_2_confidence_is_the_share_of_the_samples_on_disk(build):
    work, _, _ = build
    rows = read_jsonl(work / "confidence" / "confidence.jsonl")
    shards = list(read_results(shard_path(work / "confidence", 0, 1)))
    assert len(shards) == 4 * len(rows)
    for row in rows:
        labels = [read_response(s["response"], row["candidates"]).label for s in shards if s["record_id"] == row["id"]]
        assert row["sample_count"] == 4 == len(labels)
        assert row["label_count"] == labels.count(row["ground_truth"])
        assert row["sampled_answers"] == Counter(labels)
        assert row["confidence"] == smoothed_confidence(row["label_count"], 4, 0.5)
    assert len({row["response"] for row in shards}) > len(rows)  # the samples of an image differ


def test_the_training_files_have_the_form_that_the_stages_read(build):
    work, _, _ = build
    images = {}
    for stage, name in ((1, "stage1"), (2, "stage2_w_conf"), (3, "stage3")):
        rows = read_jsonl(work / f"{name}.jsonl")
        images[stage] = {row["images"][0] for row in rows}
        for row in rows:
            user, *answer = row["messages"]
            assert user == {"role": "user", "content": "<image>" + recognition_prompt(row["candidates"], stage > 1)}
            assert len(row["images"]) == 1 and Path(row["images"][0]).is_file()
            assert row["notice"].startswith("toy world")
            if stage == 3:
                assert answer == []
                continue
            reading = read_response(answer[0]["content"], row["candidates"], with_confidence=stage == 2)
            assert answer[0]["role"] == "assistant" and reading.well_formed and reading.label == row["ground_truth"]
            assert reading.confidence == (row["confidence"] if stage == 2 else None)
    assert all(images.values()) and sum(map(len, images.values())) == len(set.union(*images.values()))
    samples = list(read_samples(work / "stage3.jsonl"))
    assert len(samples) == len(images[3])
    assert all(isinstance(sample, Sample) and sample.answer is None for sample in samples)


def test_a_second_start_asks_no_model_and_changes_nothing(build):
    work, _, command = build
    before = {path: path.read_bytes() for path in work.rglob("*.jsonl")}
    again = run(*command)
    assert "0 of them still to infer" in again.stderr and "inferred" not in again.stderr
    assert {path: path.read_bytes() for path in work.rglob("*.jsonl")} == before


def test_without_a_scaffold_stage_2_is_left_for_later(build, tmp_path, capsys):
    work, _, _ = build
    files = ["--split", work / "split", "--reasoning", work / "reasoning" / "reasoning.jsonl", "--output_dir", tmp_path]
    assemble.main([str(word) for word in files])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage1.jsonl", "stage3.jsonl"]
    for name in ("split", "reasoning"):
        (tmp_path / name).symlink_to(work / name)
    report.main(["--work", str(tmp_path)])
    printed = capsys.readouterr().out
    assert re.search(r"confidence: read (\d+) = measured 0 \+ failed 0; not done \1$", printed, re.MULTILINE)


def test_a_row_without_what_its_stage_needs_is_named(build, tmp_path, capsys):
    work, _, _ = build
    rows = read_jsonl(work / "confidence" / "confidence.jsonl")
    del rows[0]["confidence"]
    broken = write_jsonl(tmp_path / "confidence.jsonl", rows)
    files = ["--split", work / "split", "--reasoning", work / "reasoning" / "reasoning.jsonl", "--confidence", broken]
    with pytest.raises(SystemExit):
        assemble.main([str(word) for word in (*files, "--output_dir", tmp_path)])
    assert f"{broken}, line 1, field 'confidence': expected it in a row of stage 2" in capsys.readouterr().err
