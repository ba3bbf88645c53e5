"""Which folder a data file's images are taken from: one for the whole file, the working directory never unsaid."""

import logging
import os
from functools import partial

import pyarrow.parquet as pq
import pytest
from PIL import Image

from inference.data.images import ImageError, data_images
from tests.helpers.commands import REPO, read_jsonl, run, write_jsonl
from tests.helpers.endpoint_server import serve

NAMES = [f"images/{i:06}.png" for i in range(3)]
COLOURS = {"right": (0, 128, 0), "other": (255, 0, 0)}


def colour_of(source, name):
    colour = source.load(name).getpixel((5, 5))
    return next(key for key, value in COLOURS.items() if value == colour)


def draw(folder, colour, names=NAMES):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), COLOURS[colour]).save(folder / name)


def records():
    labels = {"ground_truth": "awe", "candidates": ["awe", "fear"], "task": "FI-8"}
    return [{"id": f"r{i}", "image": name, **labels} for i, name in enumerate(NAMES)]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The working directory, with other pictures under the same names."""
    folder = tmp_path / "elsewhere"
    draw(folder, "other")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def snapshot(tmp_path):
    """A data file as the hub's cache keeps it: it and its images are links to files named by their hash."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    draw(snapshot, "right")
    write_jsonl(snapshot / "test.jsonl", records())
    blobs.mkdir()
    for number, path in enumerate([snapshot / "test.jsonl", *(snapshot / name for name in NAMES)]):
        path.rename(blobs / f"hash{number}")
        path.symlink_to(os.path.relpath(blobs / f"hash{number}", path.parent))
    return snapshot / "test.jsonl"


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_linked_data_file_has_its_images_beside_the_link(snapshot, elsewhere, caplog):
    source = data_images(snapshot, NAMES)
    assert [colour_of(source, name) for name in NAMES] == ["right"] * 3 and warnings(caplog) == []


def test_a_link_alone_has_its_images_beside_the_file_that_it_leads_to(tmp_path, elsewhere, caplog):
    draw(tmp_path / "store", "right")
    write_jsonl(tmp_path / "store" / "test.jsonl", records())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "test.jsonl").symlink_to(tmp_path / "store" / "test.jsonl")
    source = data_images(tmp_path / "mine" / "test.jsonl", NAMES)
    assert [colour_of(source, name) for name in NAMES] == ["right"] * 3 and warnings(caplog) == []


def test_an_image_missing_among_others_is_not_taken_from_the_working_directory(tmp_path, elsewhere, caplog):
    draw(tmp_path / "data", "right", NAMES[:1])
    for named in (NAMES, NAMES[::-1]):
        source = data_images(tmp_path / "data" / "test.jsonl", named)
        assert colour_of(source, NAMES[0]) == "right"
        with pytest.raises(ImageError, match=f"no such file in {tmp_path / 'data'}"):
            source.load(NAMES[1])
    assert warnings(caplog) == []


def test_the_working_directory_answers_for_a_whole_file_and_that_is_said_once(tmp_path, elsewhere, caplog):
    source = data_images(tmp_path / "data" / "test.jsonl", [*NAMES, "images/none.png"])
    assert [colour_of(source, name) for name in NAMES] == ["other"] * 3
    (said,) = warnings(caplog)
    assert f"3 of 4 are taken from the working directory, {elsewhere}" in said
    assert f"none of its images is in its folder, {tmp_path / 'data'}" in said


def test_a_folder_that_was_given_comes_before_the_working_directory(tmp_path, elsewhere, caplog):
    draw(tmp_path / "given", "right", NAMES[:2])
    source = data_images(tmp_path / "data" / "test.jsonl", NAMES, [tmp_path / "given"])
    assert [colour_of(source, name) for name in NAMES[:2]] == ["right"] * 2
    with pytest.raises(ImageError, match="no such file"):
        source.load(NAMES[2])
    assert warnings(caplog) == []


def test_a_table_that_holds_its_images_is_not_read_to_its_end_for_a_folder(tmp_path, elsewhere):
    named = iter(["data:image;base64,AAAA", *NAMES])
    with pytest.raises(ImageError, match="no such file"):
        data_images(tmp_path / "data" / "test.jsonl", named).load(NAMES[0])
    assert list(named) == NAMES


def test_an_absolute_path_into_the_working_directory_is_read(tmp_path, elsewhere):
    source = data_images(tmp_path / "data" / "test.jsonl", ["images/none.png"])
    assert colour_of(source, str(elsewhere / NAMES[0])) == "other"


@pytest.mark.parametrize(
    ("on_disk", "named"),
    [("a/é.png", "a\\é.png"), ("cafe\u0301.png", "café.png"), ("café.png", "cafe\u0301.png"), ("a\\b.png", "a\\b.png")],
)
def test_names_as_windows_and_macos_write_them_are_found(tmp_path, on_disk, named):
    draw(tmp_path, "right", [on_disk])
    assert colour_of(data_images(tmp_path / "test.jsonl", [named]), named) == "right"


# The commands, started in a folder that has other pictures under the same names


@pytest.fixture
def in_elsewhere(elsewhere):
    """``run``, from there."""
    return partial(run, cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(REPO)})


def test_inference_and_report_read_the_images_beside_the_link(snapshot, in_elsewhere, elsewhere, tmp_path):
    output = tmp_path / "run"
    with serve() as endpoint:
        done = in_elsewhere(
            "-m", "inference.inference_vllm", "--engine", "openai", "--base_url", endpoint.url, "--model_name", "m",
            "--data_path", snapshot, "--output_path", output,
        )  # fmt: skip
    assert "predicted 3" in done.stderr and "working directory" not in done.stderr
    in_elsewhere("-m", "inference.evaluate", "--output_path", output, "--quiet", "--no_plots", "--n_resamples", "0")
    for more in (("--data_path", snapshot), ()):  # without, the run says which file it was
        (output / "thumbnails.json").unlink(missing_ok=True)
        in_elsewhere("-m", "inference.report", "--output_path", output, "--processes", "1", *more)
        cached = (output / "thumbnails.json").read_text(encoding="utf-8")
        assert str(tmp_path / "blobs") in cached and str(elsewhere) not in cached


def test_the_job_says_before_its_workers_start_that_images_come_from_the_working_directory(in_elsewhere, tmp_path):
    data = write_jsonl(tmp_path / "alone.jsonl", records())
    done = in_elsewhere(
        "-m", "inference.inference_vllm", "--engine", "openai", "--base_url", "http://127.0.0.1:9/v1", "--model_name",
        "m", "--data_path", data, "--output_path", tmp_path / "run", "--prepare_only",
    )  # fmt: skip
    assert done.stderr.count("3 of 3 are taken from the working directory") == 1


@pytest.mark.parametrize("linked", [True, False])
def test_check_data_convert_and_build_vec_cot_follow_the_same_rule(snapshot, in_elsewhere, elsewhere, tmp_path, linked):
    data = snapshot if linked else write_jsonl(tmp_path / "alone.jsonl", records())
    folder = tmp_path / "blobs" if linked else elsewhere

    def says_it(*command):
        said = in_elsewhere(*command).stderr.count("3 of 3 are taken from the working directory")
        return said == (0 if linked else 1)

    assert says_it("-m", "scripts.data.check", data, "--processes", "1")
    assert says_it("-m", "scripts.data.convert", "verl", data, tmp_path / "out.parquet")
    images = [row["images"][0]["image"] for row in pq.read_table(tmp_path / "out.parquet").to_pylist()]
    assert len(images) == 3 and all(image.startswith(f"file://{folder}/") for image in images)
    split = tmp_path / "split"
    assert says_it("-m", "scripts.build_vec_cot.split", "--data_path", data, "--test_path", "--output_dir", split)
    rows = [row for path in split.glob("*.jsonl") for row in read_jsonl(path)]
    assert rows and all(row["image"].startswith(str(folder)) for row in rows if "reason" not in row)
    assert "broken_row" not in str(rows)
