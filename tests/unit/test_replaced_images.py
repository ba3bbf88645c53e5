"""Images replaced by grey, noise or another record's: the pixels that are shown, and what results of them say."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from inference.data.images import ImageError, ImageSource, PixelBudget
from inference.data.layouts import image_of
from inference.data.loader import ImageLoader
from inference.data.records import images_in, read_records
from inference.data.replacement import ReplacedImages, replacement_note
from inference.engines.base import EngineSettings
from inference.metrics.result_lines import read_lines
from inference.metrics.results import read_file
from inference.runs.settings import decisive_settings
from inference.runs.shards import result_line
from inference.runs.worker import HopelessData, replaced_images
from scripts.toy_world.report import replacement_text, toy_predictions, toy_table
from scripts.toy_world.world import posterior
from tests.helpers.commands import write_jsonl
from tests.helpers.results import a_result, answer

SIZES = [(84, 84), (112, 56), (56, 140)]
BUDGET = PixelBudget(3136, 12544)


@pytest.fixture
def records(tmp_path):
    """Two questions about each of six images of three shapes."""
    rows = []
    for i in range(6):
        Image.new("RGB", SIZES[i % 3], (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
        rows += [
            {"id": f"{task} {i}", "task": task, "image": f"{i}.png", "ground_truth": labels[0], "candidates": labels}
            for task, labels in (("FI-2", ["positive", "negative"]), ("FI-8", ["awe", "fear"]))
        ]
    return list(read_records(write_jsonl(tmp_path / "data.jsonl", rows)))


def replaced(records, tmp_path, how, seed=0, references=None):
    source = ImageSource([tmp_path], BUDGET)
    return ReplacedImages(how, seed, source, [record.image for record in records] if references is None else references)


def pixels(images, records):
    return {record.sample_id: np.asarray(images.load(record)) for record in records}


@pytest.mark.parametrize("how", ["grey", "noise"])
def test_grey_and_noise_have_the_size_that_the_model_would_have_seen(records, tmp_path, how):
    source = ImageSource([tmp_path], BUDGET)
    for record in records:
        image = replaced(records, tmp_path, how).load(record)
        assert (image.size, image.mode) == (source.load(record.image).size, "RGB")
    shown = pixels(replaced(records, tmp_path, how), records)
    if how == "grey":
        assert {value for image in shown.values() for value in np.unique(image)} == {128}
    else:
        values = np.concatenate([image.ravel() for image in shown.values()])
        assert np.bincount(values, minlength=256).min() > 0.7 * len(values) / 256
        assert len({image.tobytes() for image in shown.values()}) == 12  # one image's two questions, too


@pytest.mark.parametrize("how", ["noise", "other"])
def test_what_is_shown_depends_on_seed_and_sample_alone(records, tmp_path, how):
    first = pixels(replaced(records, tmp_path, how), records)
    again = pixels(replaced(records, tmp_path, how), records[::-1][:5])
    assert all((image == first[name]).all() for name, image in again.items())
    other = pixels(replaced(records, tmp_path, how, seed=1), records)
    assert any(image.shape != first[name].shape or (image != first[name]).any() for name, image in other.items())


@pytest.mark.parametrize("seed", range(10))
def test_every_image_is_shown_for_another_one_and_never_for_itself(records, tmp_path, seed):
    images = replaced(records, tmp_path, "other", seed)
    for record in records:
        shown = images.load(record)
        assert shown.tobytes() == images.source.load(images.shown[record.sample_id]).tobytes()
    assert all(images.shown[record.sample_id] != record.image for record in records)
    assert Counter(images.shown.values()) == {f"{i}.png": 2 for i in range(6)}
    by_image = {(record.image, images.shown[record.sample_id]) for record in records}
    assert len(by_image) == 6  # the two questions about one image are shown the same other one


def test_a_copy_of_the_picture_and_what_cannot_be_read_are_passed_over(records, tmp_path):
    for name in ("1.png", "2.png", "3.png"):
        Image.open(tmp_path / "0.png").save(tmp_path / name, pnginfo=None, dpi=(300, 300))
    (tmp_path / "4.png").write_bytes(b"no image")
    images = replaced(records, tmp_path, "other")
    assert {record.image for record in records if "4" not in record.image} == {f"{i}.png" for i in (0, 1, 2, 3, 5)}
    for record in records:
        if record.image == "4.png":  # as without any replacement
            with pytest.raises(ImageError, match=r"4\.png: cannot identify"):
                images.load(record)
            continue
        images.load(record)
        expected = {"5.png"} if record.image != "5.png" else {f"{i}.png" for i in range(4)}
        assert images.shown[record.sample_id] in expected


def test_where_there_is_no_other_picture_it_is_said(records, tmp_path):
    with pytest.raises(ValueError, match="expected records of at least two images, got 1"):
        replaced(records, tmp_path, "other", references=["0.png", "0.png"])
    for i in range(6):
        Image.new("RGB", (84, 84)).save(tmp_path / f"{i}.png")
    with pytest.raises(ImageError, match="no other image of the data file can be shown"):
        replaced(records, tmp_path, "other").load(records[0])
    data = write_jsonl(tmp_path / "one.jsonl", [records[0].raw])
    settings = EngineSettings("unused", replace_images="other")
    with pytest.raises(HopelessData, match=r"one\.jsonl: replace_images=other: expected records of at least two"):
        replaced_images(settings, str(data), ImageSource([tmp_path], BUDGET))


def test_the_loader_delivers_them_and_the_errors_of_the_own_images(records, tmp_path):
    (tmp_path / "3.png").unlink()
    images = replaced(records, tmp_path, "grey")
    with ImageLoader(images.source, workers=2, ahead=3, in_order=True, replaced=images) as loader:
        loaded = {record.sample_id: images for record, images in loader.load(records)}
    assert len(loaded) == 12
    for record in records:
        images = loaded[record.sample_id]
        assert isinstance(images, ImageError) if record.image == "3.png" else images[0].getpixel((3, 3)) == (128,) * 3


def test_the_circle_is_that_of_the_whole_file_whatever_the_share(records, tmp_path):
    settings = EngineSettings("unused", replace_images="other")
    whole = replaced_images(settings, str(tmp_path / "data.jsonl"), ImageSource([tmp_path], BUDGET))
    assert list(images_in(tmp_path / "data.jsonl")) == [record.image for record in records]
    for record in records[::3]:
        whole.load(record)
    known = replaced(records, tmp_path, "other")
    for record in records:
        known.load(record)
    assert whole.shown.items() <= known.shown.items()


def test_a_run_with_its_own_images_is_described_as_before():
    own, grey = (decisive_settings(EngineSettings("unused", replace_images=how)) for how in ("", "grey"))
    assert "replace_images" not in own
    assert grey == own | {"replace_images": "grey"}


def test_a_result_of_another_run_as_data_brings_no_replacement_along(records):
    records[0].raw |= {"replace_images": "grey", "image_shown": "x.png", "response": "old"}
    line = result_line(records[0], response="new")
    assert "replace_images" not in line and "image_shown" not in line and line["response"] == "new"


# --- what results say -------------------------------------------------------------------------


def results(folder, kinds, name="merged.jsonl"):
    lines = [a_result(sample_id=f"s{i}", notice="toy", **({"replace_images": how} if how else {}))
             for i, how in enumerate(kinds)]  # fmt: skip
    return read_file(write_jsonl(folder / name, lines))


def test_results_say_that_images_were_replaced_before_anything_else(tmp_path):
    grey = results(tmp_path, ["grey", "grey"])
    assert grey.notices[0].startswith("in place of each image the model saw mid-grey of the same size")
    assert grey.notices[1:] == ["toy"]
    assert list(grey.table["replaced"]) == ["grey", "grey"]
    assert results(tmp_path, [None, None]).notices == ["toy"]
    assert results(tmp_path, [None, "noise"]).notices[0].startswith("in place of some of the images the model saw uni")
    assert "each image the model saw mid-grey" not in replacement_note({"grey", "noise"})


@pytest.mark.parametrize("stated", ["own", 3, None, ["grey"]])
def test_a_key_that_is_no_kind_of_replacement_is_none(stated):
    line = json.dumps(a_result(sample_id="s", replace_images=stated)).encode()
    assert list(read_lines([line]).table["replaced"]) == [None]


def toy_results(folder, how):
    cues = {"colour": "violet", "scene": "mountains", "mouth": "open", "brows": "raised", "figure": "alone"}
    rows = []
    for i, (task, said, confidence) in enumerate(
        [("EmoSet-8", "awe", 0.9), ("EmoSet-8", "fear", 0.7), ("FI-2", "positive", 0.8)]
    ):
        row = a_result(task, "positive" if task == "FI-2" else "awe", answer(said, confidence), sample_id=f"s{i}")
        rows.append(row | {"cues": cues, "posterior": posterior(task, cues)} | ({"replace_images": how} if how else {}))
    return toy_predictions(write_jsonl(folder / "merged.jsonl", rows))


@pytest.mark.parametrize("how", ["grey", "noise"])
def test_without_the_image_the_right_confidence_of_the_toy_world_is_the_prior(tmp_path, how):
    samples = toy_results(tmp_path, how)
    assert list(samples["p"]) == pytest.approx([1 / 8, 1 / 8, 1 / 2])
    rows = toy_table(samples)
    assert rows.loc["EmoSet-8", "confidence_error"] == pytest.approx((0.775 + 0.575) / 2)
    assert rows.loc["EmoSet-8", "best"] == rows.loc["EmoSet-8", "chance"] == pytest.approx(1 / 8)
    assert rows.loc["all", "best"] == pytest.approx((1 / 8 + 1 / 8 + 1 / 2) / 3)
    (line,) = replacement_text(samples)
    assert "mean confidence 0.800, the right one is the prior of the answer, on average 0.250" in line


def test_with_its_own_image_it_is_the_posterior_and_of_another_records_image_it_is_not_known(tmp_path):
    own = toy_results(tmp_path, None)
    assert own["p"][0] > 0.9 and own["p"][1] < 0.1
    assert toy_table(own).loc["EmoSet-8", "best"] > 0.8 and replacement_text(own) == []
    other = toy_results(tmp_path, "other")
    assert other["p"].isna().all() and toy_table(other)["confidence_error"].isna().all()
    assert toy_table(other).loc["EmoSet-8", "best"] == pytest.approx(1 / 8)


def test_the_image_of_a_replaced_result_is_still_the_records_own():
    assert image_of(a_result(image="a.png", replace_images="other", image_shown="b.png")) == "a.png"
