"""Splitting images into the stages: quotas, no picture twice, nothing lost, resumed."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.runs.shards import shard_path
from scripts.build_vec_cot import split, stages
from scripts.build_vec_cot.stages import PUBLISHED_ROWS, STAGES, assign_stages, quotas
from tests.helpers.commands import read_jsonl, write_jsonl
from tests.helpers.vec_cot import labelled, resized, scene


def test_the_published_rows_are_the_papers():
    assert [sum(rows) for rows in PUBLISHED_ROWS.values()] == [49_939, 20_518, 26_065, 5_821, 35_370, 5_643]
    by_stage = [sum(rows) for rows in zip(*PUBLISHED_ROWS.values(), strict=True)]
    assert by_stage == [86_067, 43_033 - 90, 14_346]  # the paper's own total of stage 2 is 90 higher
    assert stages.PUBLISHED_TOTAL == (86_067, 43_033, 14_346)
    for source, rows in PUBLISHED_ROWS.items():
        assert quotas(source, sum(rows)) == list(rows)
    assert quotas("a new source", 1000) == [600, 300, 100]


@given(st.dictionaries(st.sampled_from([*PUBLISHED_ROWS, "other"]), st.integers(1, 300), min_size=1))
def test_one_row_an_image_meets_every_quota_exactly(counts):
    groups = {f"{source}/{i}": Counter([source]) for source, count in counts.items() for i in range(count)}
    assigned = assign_stages(groups)
    assert assigned.keys() == groups.keys()
    for source, count in counts.items():
        got = Counter(stage for name, stage in assigned.items() if source in groups[name])
        assert [got[stage] for stage in STAGES] == quotas(source, count)


@given(st.lists(st.sets(st.sampled_from(["WebEmo-2", "WebEmo-7", "WebEmo-25"]), min_size=1), min_size=1, max_size=400))
def test_images_with_rows_in_several_sources_miss_a_quota_by_little(shared):
    groups = {str(i): Counter(sources) for i, sources in enumerate(shared)}
    assigned = assign_stages(groups)
    for source in {source for sources in shared for source in sources}:
        got = Counter(assigned[name] for name, rows in groups.items() if source in rows)
        for stage, quota in zip(STAGES, quotas(source, got.total()), strict=True):
            assert abs(got[stage] - quota) <= 3 + 0.01 * got.total()


def run_split(data, test, output, *more):
    split.main(["--data_path", *map(str, data), "--test_path", *map(str, test), "--output_dir", str(output), *more])
    return {stage: read_jsonl(output / f"stage{stage}_records.jsonl") for stage in STAGES}, read_jsonl(
        output / "rejected.jsonl"
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Forty scenes in two sources that share ten of them, copies among them, and a test set of five."""
    folder = tmp_path_factory.mktemp("source s")
    rows = [labelled(folder, f"{i}.png", scene(i), "FI-8", number=i) for i in range(30)]
    rows += [labelled(folder, f"two {i}.bmp", scene(i), "FI-2", number=i) for i in range(20, 40)]
    rows.append(labelled(folder, "copy.jpg", resized(scene(3), 1.7), "FI-8", number=3))  # the label of 3.png
    rows.append(labelled(folder, "conflict.jpg", scene(4), "FI-8", "fear", number=4))  # another label than 4.png
    test = [labelled(folder / "test", f"renamed-{i}.jpg", resized(scene(i), 0.8)) for i in (5, 6, 7, 25, 100)]
    return write_jsonl(folder / "labelled.jsonl", rows), write_jsonl(folder / "test" / "test.jsonl", test)


@pytest.fixture(scope="module")
def done(sources, tmp_path_factory):
    data, test = sources
    return run_split([data], [test], tmp_path_factory.mktemp("split"))


def test_no_picture_is_in_two_stages_nor_in_the_test_set(done):
    kept, rejected = done
    numbers = [{row["number"] for row in rows} for rows in kept.values()]
    assert sum(map(len, numbers)) == len(set.union(*numbers))
    assert sum(map(len, kept.values())) + len(rejected) == 52
    out = {row["number"] for row in rejected if row["reason"] == "test_image"}
    assert out == {5, 6, 7, 25}  # though renamed, scaled and saved as JPEG
    assert set.union(*numbers) == set(range(40)) - out - {4}
    assert all("renamed-" in row["explanation"] for row in rejected if row["number"] in out)


def test_two_labels_for_one_picture_are_rejected_with_both_files(done):
    rejected = [row for row in done[1] if row["reason"] == "label_conflict"]
    assert [(row["number"], row["line"]) for row in rejected] == [(4, 5), (4, 52)]
    assert all("awe and fear" in row["explanation"] and "conflict.jpg" in row["explanation"] for row in rejected)


def test_a_kept_row_has_what_the_next_steps_read(done):
    for stage, rows in done[0].items():
        for row in rows:
            assert row["stage"] == stage and os.path.isabs(row["image"]) and Path(row["image"]).is_file()
            assert row["ground_truth"] in row["candidates"] and row["id"] and row["task"] in PUBLISHED_ROWS


def test_the_split_depends_on_pictures_not_on_names_nor_order(sources, done, tmp_path):
    data, test = sources
    rows = read_jsonl(data)
    random.Random(1).shuffle(rows)
    moved = []
    for i, row in enumerate(rows):
        with Image.open(data.parent / row["image"]) as image:
            moved.append({**labelled(tmp_path, f"{i:03d}.tiff", image.convert("RGB")), **row, "image": f"{i:03d}.tiff"})
    kept, _ = run_split([write_jsonl(tmp_path / "moved.jsonl", moved)], [test], tmp_path / "split")
    for stage in STAGES:
        assert [(row["task"], row["number"]) for row in kept[stage]] == [
            (r["task"], r["number"]) for r in done[0][stage]
        ]
    other, _ = run_split([data], [test], tmp_path / "other", "--seed", "1")
    assert [row["number"] for row in other[1]] != [row["number"] for row in done[0][1]]


def test_bad_lines_are_rejected_by_file_line_and_field_and_nothing_is_lost(sources, tmp_path, capsys):
    rows = [labelled(tmp_path, f"{i}.png", scene(i)) for i in range(6)]
    (tmp_path / "torn.png").write_bytes((tmp_path / "0.png").read_bytes()[:100])
    bad = [
        {**rows[0], "image": "gone.png"},
        {**rows[0], "image": "torn.png"},
        {**rows[0], "image": "https://example.org/1.png"},
        {**rows[0], "ground_truth": "joy"},
        {key: value for key, value in rows[0].items() if key != "candidates"},
    ]
    data = write_jsonl(tmp_path / "data.jsonl", [*bad, *rows])
    with open(data, "a") as handle:
        handle.write("{torn\n")
    kept, rejected = run_split([data], [], tmp_path / "split")
    assert sum(map(len, kept.values())) == 6
    explanations = [row["explanation"] for row in rejected]
    fields = ("image", "image", "image", "ground_truth", "candidates", "(line)")
    for line, field, text in zip((1, 2, 3, 4, 5, 12), fields, explanations, strict=True):
        assert text.startswith(f"{data}, line {line}, field '{field}': ")
    assert "read 12 = kept 6 + rejected 6 (broken_row 6)" in capsys.readouterr().out
    with pytest.raises(SystemExit):  # what cannot be looked at cannot be kept out of training
        run_split([data], [data], tmp_path / "test")
    assert "rows of the test set cannot be used" in capsys.readouterr().err


def test_an_interrupted_split_goes_on_where_it_was(sources, done, tmp_path):
    data, test = sources
    run_split([data], [test], tmp_path)
    cache = shard_path(tmp_path / "fingerprints", 0, 1)
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2])  # killed in the middle of a line
    for stage in STAGES:
        (tmp_path / f"stage{stage}_records.jsonl").unlink()
    assert run_split([data], [test], tmp_path) == done
    assert cache.read_bytes() == whole


def test_the_published_size_is_a_limit_for_each_source_and_stage(sources, tmp_path, monkeypatch):
    monkeypatch.setitem(PUBLISHED_ROWS, "FI-8", (6, 3, 1))
    kept, rejected = run_split([sources[0]], [], tmp_path, "--published_size")
    got = Counter((row["task"], row["stage"]) for rows in kept.values() for row in rows)
    assert [got["FI-8", stage] for stage in STAGES] == [6, 3, 1]
    assert sum(got["FI-2", stage] for stage in STAGES) == 20
    assert Counter(row["reason"] for row in rejected)["beyond_size"] == 20
