"""Records of several images: which places they take, what is refused, and what stays as it was with one."""

import re

import pytest
from PIL import Image

from inference.data.images import ImageError, ImageSource, data_images
from inference.data.layouts import image_of, images_of
from inference.data.loader import ImageLoader
from inference.data.prompts import chat_messages
from inference.data.records import BrokenRecord, RecordError, images_in, parse_record, read_records
from inference.engines.base import EngineSettings
from inference.evaluate import checked_against_data
from inference.metrics.results import read_shards
from inference.report.run import answered_samples
from inference.runs.settings import decisive_settings
from inference.runs.shards import ShardWriter, result_line
from inference.runs.worker import share_of
from tests.corpora.bad_records import a_record
from tests.helpers.commands import write_jsonl

PLACE = {"type": "image"}


def asked(content, **images):
    return a_record(conversations=[{"role": "user", "content": content}], **images)


def text(words):
    return {"type": "text", "text": words}


LAYOUTS = {
    "ms-swift": asked("Before: <image> After: <image>Which?", images=["a.png", "b.png"]),
    "LLaVA": a_record(
        conversations=[{"from": "human", "value": "Before: <image> After: <image>Which?"}], image=["a.png", "b.png"]
    ),
    "items": asked(
        [text("Before: "), {"image": "a.png"}, text(" After: "), {"type": "image", "image": "b.png"}, text("Which?")]
    ),
    "objects": asked("Before: <image> After: <image>Which?", images=[{"path": "a.png"}, {"url": "b.png"}]),
    "both keys": asked("Before: <image> After: <image>Which?", images=["a.png", "b.png"], image="a.png"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_of_two_images_gives_them_in_the_order_of_their_places(name):
    record = parse_record(LAYOUTS[name], "f", 1, max_images=2)
    assert record.images == images_of(record.raw) == ["a.png", "b.png"]
    assert record.image == image_of(record.raw) == "a.png"
    (turn,) = chat_messages(record)
    assert turn["content"] == [text("Before: "), PLACE, text(" After: "), PLACE, text("Which?")]


@pytest.mark.parametrize("key", ["image", "images"])
def test_without_places_the_images_come_first(key):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}]
    record = parse_record(a_record(conversations=turns, **{key: ["a.png", "b.png", "c.png"]}), "f", 1, max_images=3)
    system, user = chat_messages(record)
    assert system["content"] == [text("Be brief.")]
    assert user["content"] == [PLACE, PLACE, PLACE, text("Which?")]
    record = parse_record(a_record(conversations=..., **{key: ["a.png", "b.png"]}), "f", 1, max_images=3)
    (turn,) = chat_messages(record)
    assert turn["content"][:2] == [PLACE, PLACE] and turn["content"][2]["text"].startswith("Which emotion might")


def test_the_same_image_may_come_twice():
    assert (
        parse_record(asked("<image><image>Same?", images=["a.png"] * 2), "f", 1, max_images=2).images == ["a.png"] * 2
    )


def test_a_list_of_one_image_is_one_image():
    one, listed = (parse_record(a_record(conversations=..., image=image), "f", 1) for image in ("a.png", ["a.png"]))
    assert listed.images == one.images and chat_messages(listed) == chat_messages(one)


@pytest.mark.parametrize("places", [1, 3])
def test_more_or_fewer_places_than_images_are_refused(places):
    expected = f"field 'conversations': expected a place for each of its 2 images, got {places} "
    with pytest.raises(RecordError, match=expected):
        parse_record(asked("<image>" * places + "Which?", images=["a.png", "b.png"]), "f", 1, max_images=4)


@pytest.mark.parametrize(
    ("max_images", "wanted"), [(1, "exactly one image, got 3"), (2, r"1 to 2 images \(max_images\), got 3")]
)
def test_more_images_than_allowed_are_a_broken_record_that_names_line_field_and_limit(tmp_path, max_images, wanted):
    three = ["a.png", "b.png", "c.png"]
    rows = [a_record(), asked("<image>" * 3, images=three), a_record(conversations=..., images=three, id="bare")]
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    _, turned, bare = read_records(path, max_images=max_images)
    assert isinstance(turned, BrokenRecord) and isinstance(bare, BrokenRecord)
    assert re.search(rf"d\.jsonl, line 2, field 'conversations': expected {wanted}$", turned.error)
    assert re.search(rf"d\.jsonl, line 3, field 'images': expected {wanted}$", bare.error)


def test_no_image_at_all_names_the_limit_too():
    with pytest.raises(RecordError, match=r"field 'conversations': expected 1 to 2 images \(max_images\), got 0"):
        parse_record(asked("Which?"), "f", 1, max_images=2)


def test_an_image_that_is_no_path_is_named_by_its_number():
    with pytest.raises(RecordError, match=r"field 'image': expected a path or URL.*, got 7 as image 2 of 2"):
        parse_record(asked("Which?", images=["a.png", 7]), "f", 1, max_images=2)


def test_the_loader_delivers_all_images_or_names_the_one_that_is_bad(tmp_path):
    for name, grey in (("a", 10), ("b", 200)):
        Image.new("RGB", (56, 56), (grey,) * 3).save(tmp_path / f"{name}.png")
    pairs = [("a", "b"), ("b", "a"), ("b", "a"), ("a", "missing")]
    rows = [a_record(id=str(i), conversations=..., images=[f"{n}.png" for n in pair]) for i, pair in enumerate(pairs)]
    records = list(read_records(write_jsonl(tmp_path / "d.jsonl", rows), max_images=2))
    with ImageLoader(ImageSource([tmp_path]), workers=2, ahead=2, in_order=True) as loader:
        first, second, third, bad = (images for _, images in loader.load(records))
    assert [image.getpixel((0, 0))[0] for image in first + second] == [10, 200, 200, 10]
    assert third is second  # decoded once
    assert isinstance(bad, ImageError)
    assert str(bad).startswith("image missing.png: no such file") and str(bad).endswith("(image 2 of 2)")


def test_a_run_names_the_setting_only_where_it_is_not_one():
    one, three = (decisive_settings(EngineSettings("unused", max_images=n)) for n in (1, 3))
    assert "max_images" not in one and three == one | {"max_images": 3}
    assert one == decisive_settings(EngineSettings("unused"))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_images": 0}, "expected max_images >= 1, got 0"),
        ({"max_images": 2, "replace_images": "grey"}, "replace_images=grey is for records of one image"),
    ],
)
def test_settings_that_cannot_work_are_one_line(settings, expected):
    with pytest.raises(ValueError, match=expected):
        EngineSettings("unused", **settings)


def test_evaluation_counts_them_once_and_the_report_names_the_further_images(tmp_path):
    rows = [a_record(id=f"p{i}", conversations=..., images=["a.png", "b.png"]) for i in range(3)]
    data = write_jsonl(tmp_path / "d.jsonl", rows)
    run = tmp_path / "run"
    with ShardWriter(run, 0, 1) as writer:
        for record in list(read_records(data, max_images=2))[:2]:
            writer.write(result_line(record, response="<answer>awe</answer><confidence>0.5</confidence>"))
    results = read_shards(run)
    assert [row["sample_id"] for row in checked_against_data(results, data)[0]] == ["p2"]
    assert [(sample["image"], sample["further"]) for sample in answered_samples(results)] == [("a.png", ["b.png"])] * 2


def test_a_record_has_the_same_id_whatever_the_limit_so_that_each_is_counted_once(tmp_path):
    two = {"conversations": ..., "images": ["a.png", "b.png"]}
    rows = [a_record(id="x", **two), a_record(id="x"), a_record(id=..., **two), a_record(task=7)]
    data, run = write_jsonl(tmp_path / "d.jsonl", rows), tmp_path / "run"
    ids = [item.sample_id for item in read_records(data, max_images=2)]
    assert ids[:2] == ["x", "x#2"] and ids[2].startswith("EmoSet-8-") and ids[3] == "line-4"
    assert [item.sample_id for item in read_records(data)] == ids
    # A worker with the default, then two workers that are shown both images.
    for n_shards, max_images, counts in ((1, 1, (1, 3)), (2, 2, (3, 1))):
        for index in range(n_shards):
            with ShardWriter(run, index, n_shards) as writer:
                for item in share_of(data, index, n_shards, None, max_images):
                    broken = isinstance(item, BrokenRecord)
                    answer = {"error": item.error} if broken else {"response": "<answer>awe</answer>"}
                    writer.write(result_line(item, **answer))
        results = read_shards(run)
        assert (len(results.table), len(results.failed)) == counts
        assert checked_against_data(results, data) == ([], [])


def test_a_list_beside_the_turns_is_not_passed_over_when_it_names_more_than_they_do():
    raw = asked([{"image": "a.png"}, text("Which?")], images=["a.png", "b.png"])
    assert images_of(raw) == ["a.png", "b.png"]
    for max_images, expected in ((1, "exactly one image, got 2"), (2, "a place for each of its 2 images, got 1 ")):
        with pytest.raises(RecordError, match=f"field 'conversations': expected {expected}"):
            parse_record(raw, "f", 1, max_images=max_images)


@pytest.mark.parametrize("content", ["Which?", "<image><image>Which?"])
def test_an_image_that_is_not_among_the_images_has_no_place_in_their_order(content):
    with pytest.raises(RecordError, match=r"field 'image': expected one of those under images.*, got 'b\.png'"):
        parse_record(asked(content, images=["a.png"], image="b.png"), "f", 1, max_images=2)


@pytest.mark.parametrize("empty", [None, {"bytes": None, "path": None}])
def test_an_image_that_a_list_leaves_empty_is_missed(empty):
    with pytest.raises(RecordError, match=r"field 'image': expected a path or URL.*, got None as image 2 of 2"):
        parse_record(asked("Which?", images=["a.png", empty]), "f", 1, max_images=2)


def test_images_of_the_last_answer_are_not_shown_before_it():
    raw = asked("Which?")
    raw["conversations"].append({"role": "assistant", "content": [{"image": "a.png"}, {"image": "b.png"}]})
    with pytest.raises(RecordError, match="expected a place for each of its 2 images, got 0"):
        parse_record(raw, "f", 1, max_images=2)


def test_one_folder_answers_for_all_images_of_a_file_not_for_the_first_ones_alone(tmp_path, monkeypatch):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for folder, name, grey in ((elsewhere, "a", 10), (elsewhere, "b", 99), (data, "b", 200)):
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (56, 56), (grey,) * 3).save(folder / f"{name}.png")
    monkeypatch.chdir(elsewhere)
    path = write_jsonl(data / "d.jsonl", [a_record(conversations=..., images=["a.png", "b.png"])])
    assert list(images_in(path)) == ["a.png", "b.png"]
    source = data_images(path, images_in(path))
    assert source.load("b.png").getpixel((0, 0))[0] == 200
    with pytest.raises(ImageError, match=r"image a\.png: no such file"):
        source.load("a.png")
    path = write_jsonl(data / "d.jsonl", [a_record(conversations=..., images=["https://example.org/1.png", "a.png"])])
    assert data_images(path, images_in(path)).load("a.png").getpixel((0, 0))[0] == 10


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("{outside}", "leads out of"),
        ("../secret.png", "leads out of"),
        ("link.png", "leads out of"),
        ("file://{outside}", "leads out of"),
        ("https://example.org/b.png", "is a URL: give --allow_url"),
    ],
)
def test_every_image_is_confined_as_the_first_is(tmp_path, second, expected):
    folder, outside = tmp_path / "data", tmp_path / "secret.png"
    folder.mkdir()
    for path in (folder / "a.png", outside):
        Image.new("RGB", (56, 56)).save(path)
    (folder / "link.png").symlink_to(outside)
    row = a_record(conversations=..., images=["a.png", second.format(outside=outside)])
    path = write_jsonl(folder / "d.jsonl", [row])
    with ImageLoader(data_images(path, images_in(path))) as loader:
        ((_, problem),) = filter(None, loader.load(read_records(path, max_images=2)))
    assert isinstance(problem, ImageError)
    assert expected in str(problem) and str(problem).endswith("(image 2 of 2)")
