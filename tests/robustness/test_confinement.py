"""Whatever a data file names, no image is read from outside of the folders that it may lie in."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.data.images import ImageError, ImageSource, data_images
from tests.helpers.commands import read_jsonl, run, write_jsonl
from tests.helpers.endpoint_server import serve

OPENED: list[str] | None = None  # the paths that this process opens, while a test looks


def _note(event, arguments):
    if OPENED is not None and event == "open" and isinstance(arguments[0], (str, bytes)):
        OPENED.append(os.fsdecode(arguments[0]))


sys.addaudithook(_note)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data folder with one good image, a folder beside it with a private one, and links to that."""
    base = tmp_path_factory.mktemp("world").resolve()
    data, private = base / "data", base / "private photos"
    for folder in (data / "images", private):
        folder.mkdir(parents=True)
    Image.new("RGB", (60, 40), "green").save(data / "images" / "good.png")
    Image.new("RGB", (60, 40), "red").save(private / "secret.png")
    (data / "link.png").symlink_to(private / "secret.png")
    (data / "relative_link.png").symlink_to("../private photos/secret.png")
    (data / "linked").symlink_to(private)
    (data / "inner_link.png").symlink_to(data / "images" / "good.png")
    return base


def escapes(world):
    secret = world / "private photos" / "secret.png"
    return [
        str(secret),
        f"file://{secret}",
        "../private photos/secret.png",
        "file://../private photos/secret.png",
        "images/../../private photos/secret.png",
        f"{world}/data/../private photos/secret.png",
        "link.png",
        "relative_link.png",
        "linked/secret.png",
        "hf://datasets/owner/name/../private photos/secret.png",
        "hf://owner/name/linked/secret.png",
    ]


def insiders(world):
    good = world / "data" / "images" / "good.png"
    return ["images/good.png", str(good), f"file://{good}", "images/../images/good.png", "inner_link.png"]


@pytest.mark.parametrize("number", range(11))
def test_a_path_that_leads_out_is_refused_by_name_and_never_opened(world, number):
    global OPENED
    reference = escapes(world)[number]
    OPENED = []
    try:
        for use in ("load", "original_size", "open"):
            with pytest.raises(ImageError) as caught:
                getattr(ImageSource([world / "data"]), use)(reference)
            assert "give --image_root FOLDER" in str(caught.value)
            assert use == "open" or reference in str(caught.value)
    finally:
        opened, OPENED = OPENED, None
    assert [path for path in opened if "secret" in path or "link" in path] == []


@pytest.mark.parametrize("number", range(11))
def test_the_same_path_is_read_when_its_folder_is_allowed(world, number):
    source = ImageSource([world / "data", world / "private photos"])
    assert source.load(escapes(world)[number]).getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("number", range(5))
def test_paths_and_links_within_the_folders_are_read(world, number):
    assert ImageSource([world / "data"]).load(insiders(world)[number]).mode == "RGB"


def test_what_is_missing_out_there_is_told_no_different_from_what_is_there(world):
    def told(name):
        with pytest.raises(ImageError) as caught:
            ImageSource([world / "data"]).load(name)
        return str(caught.value).replace(name, "")

    for folder in (world / "private photos", Path("../private photos")):
        assert told(f"{folder}/secret.png") == told(f"{folder}/no such file.png")


def test_a_folder_whose_name_only_begins_alike_is_another_one(world):
    (world / "data2").mkdir(exist_ok=True)
    Image.new("RGB", (60, 40)).save(world / "data2" / "a.png")
    with pytest.raises(ImageError, match="--image_root"):
        ImageSource([world / "data"]).load("../data2/a.png")


def test_a_root_may_itself_be_a_link(world):
    assert ImageSource([world / "data" / "linked"]).load("secret.png").getpixel((5, 5)) == (255, 0, 0)


parts = st.sampled_from(
    ["..", ".", "", "images", "linked", "link.png", "good.png", "secret.png", "private photos", "data", "etc", "passwd"]
)


@given(
    st.sampled_from(["", "/", "file://", "file:///", "hf://a/b/", "hf://datasets/a/b/"]), st.lists(parts, max_size=8)
)
def test_no_path_however_made_leads_out(world, start, names):
    source = ImageSource([world / "data"])
    for reference in (start + "/".join(names), f"{world}/{'/'.join(names)}", f"file://{world}/{'/'.join(names)}"):
        try:
            found = source.open(reference)
        except ImageError:
            continue
        assert found.is_file() and Path(os.path.realpath(found)).is_relative_to(world / "data")


@given(st.text(max_size=60))
def test_any_text_is_an_image_error_or_a_file_within(world, text):
    try:
        found = ImageSource([world / "data"]).open(text)
    except ImageError:
        return
    assert not isinstance(found, Path) or found.is_relative_to(world / "data")


def test_the_working_directory_is_allowed_and_comes_after_the_data_file_s_folder(world, monkeypatch):
    monkeypatch.chdir(world / "private photos")
    source = data_images(world / "data" / "test.jsonl", ["secret.png"])
    assert source.load("secret.png").getpixel((5, 5)) == (255, 0, 0)


# The commands that read data files


@pytest.fixture
def endpoint():
    """A server that answers every question and counts them."""
    with serve() as server:
        yield server


def records(images):
    return [{"id": f"r{i}", "image": image, "ground_truth": "awe", "candidates": ["awe", "fear"], "task": "FI-8"}
            for i, image in enumerate(images)]  # fmt: skip


@pytest.fixture
def hostile_file(world):
    """(data file, number of good rows, number of rows that lead out)."""
    good, bad = insiders(world), escapes(world)
    return write_jsonl(world / "data" / "hostile.jsonl", records([*good, *bad])), len(good), len(bad)


def test_inference_and_report_show_nothing_from_outside_and_say_which_option_opens_it(
    world, hostile_file, endpoint, tmp_path
):
    data, n_good, n_bad = hostile_file
    infer = ("-m", "inference.inference_vllm", "--engine", "openai", "--base_url", endpoint.url, "--model_name", "m",
             "--data_path", data, "--output_path", tmp_path)  # fmt: skip
    done = run(*infer)
    assert f"read {n_good + n_bad} = predicted {n_good} (0 of them before) + failed {n_bad}" in done.stderr
    assert sum(endpoint.tries.values()) == n_good
    errors = [row for row in read_jsonl(tmp_path / "shard_000_of_001.jsonl") if "error" in row]
    assert [row["image"] for row in errors] == escapes(world)
    for row in errors:
        assert f"field 'image': image {row['image']}: leads out of {data.parent}" in row["error"]
        assert "give --image_root FOLDER" in row["error"]

    run("-m", "inference.evaluate", "--output_path", tmp_path, "--quiet", "--no_plots", "--n_resamples", "0")
    report = ("-m", "inference.report", "--output_path", tmp_path, "--data_path", data, "--processes", "1")
    assert f"{n_bad} of {n_good + n_bad} images have no thumbnail" in run(*report).stderr
    assert "leads out of" in (tmp_path / "report.html").read_text(encoding="utf-8")

    more = ("--image_root", world / "private photos")
    assert f"predicted {n_good + n_bad} ({n_good} of them before) + failed 0" in run(*infer, *more).stderr
    assert "no thumbnail" not in run(*report, *more).stderr


def test_check_data_and_convert_treat_such_rows_as_bad_until_the_folder_is_allowed(world, hostile_file, tmp_path):
    data, n_good, n_bad = hostile_file
    more = ("--image_root", world / "private photos")
    check = ("-m", "scripts.data.check", data, "--processes", "1")
    done = run(*check, check=False)
    assert done.returncode == 1 and f"{n_bad} × image not allowed (FI-8 {n_bad})" in done.stdout
    assert run(*check, *more, check=False).returncode == 0
    for form in (("verl",), ("verl", "--embed")):
        target = tmp_path / f"{len(form)}.parquet"
        convert = ("-m", "scripts.data.convert", form[0], data, target, *form[1:])
        done = run(*convert, check=False)
        assert f"written {n_good} + failed {n_bad}" in done.stdout
        assert "give --image_root FOLDER" in Path(f"{target}.errors.jsonl").read_text()
    assert "failed 0" in run(*convert, *more).stdout


def test_building_vec_cot_rejects_such_rows(world, hostile_file, tmp_path):
    data, _, n_bad = hostile_file
    split = ("-m", "scripts.build_vec_cot.split", "--data_path", data, "--test_path", "--output_dir")
    assert f"broken_row {n_bad}" in run(*split, tmp_path / "1").stdout
    assert "give --image_root FOLDER" in (tmp_path / "1" / "rejected.jsonl").read_text()
    assert "broken_row" not in run(*split, tmp_path / "2", "--image_root", world / "private photos").stdout


def test_a_csv_file_names_images_of_its_folder_only_and_the_records_made_of_it_tell_what_else_is_needed(
    world, tmp_path
):
    table = world / "data" / "labels.csv"
    table.write_text(f"path,label\nimages/good.png,awe\n{world}/private photos/secret.png,fear\n", encoding="utf-8")
    command = ("-m", "scripts.data.from_csv", table, "--output_dir", tmp_path / "mine", "--test_share", "0.5")
    done = run(*command, check=False)
    assert "read 2 = written 1 + failed 1" in done.stdout
    assert "give --image_root FOLDER" in (tmp_path / "mine" / "errors.jsonl").read_text()
    assert f"other commands need --image_root {world / 'data'}" in done.stdout
    assert "read 2 = written 2 + failed 0" in run(*command, "--image_root", world / "private photos").stdout
