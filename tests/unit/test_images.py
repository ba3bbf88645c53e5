"""Images of every kind: read upright within the pixel budget, or refused with a reason."""

import base64
import io
import os
import threading
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from inference.common.json_lines import one_line
from inference.data.images import ImageError, ImageSource, PixelBudget
from inference.data.loader import ImageLoader
from inference.data.records import Record

PUBLISHED = PixelBudget()


def a_picture(width=100, height=60, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def source(tmp_path):
    return ImageSource([tmp_path], PUBLISHED)


def test_the_published_budget_is_256_to_576_image_tokens():
    assert (PUBLISHED.min_pixels, PUBLISHED.max_pixels) == (200704, 451584)


@pytest.mark.parametrize("bounds", [(0, 10), (10, 5), (-1, 5)])
def test_an_impossible_budget_is_refused(bounds):
    with pytest.raises(ValueError, match="min_pixels <= max_pixels"):
        PixelBudget(*bounds)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_every_colour_mode_becomes_rgb(tmp_path, source, mode):
    suffix = "tiff" if mode in ("CMYK", "F", "I") else "png"
    picture = a_picture(mode="L").convert("I").point(lambda v: v * 256) if mode == "I;16" else a_picture(mode=mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16))
    picture.save(tmp_path / f"a.{suffix}")
    loaded = source.load(f"a.{suffix}")
    assert loaded.mode == "RGB"
    assert 200704 <= loaded.width * loaded.height <= 451584


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path, source):
    Image.fromarray(np.full((40, 40), 32768, dtype=np.uint16)).save(tmp_path / "grey.png")
    assert abs(source.load("grey.png").getpixel((5, 5))[0] - 128) <= 1


def test_transparency_lies_on_white(tmp_path, source):
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert source.load("clear.png").getpixel((5, 5)) == (255, 255, 255)


def test_exif_orientation_is_applied_before_the_size_is_chosen(tmp_path, source):
    picture = a_picture(400, 100)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    picture.save(tmp_path / "turned.jpg", exif=exif)
    loaded = source.load("turned.jpg")
    assert loaded.height > loaded.width


def test_the_first_frame_of_an_animation_is_taken(tmp_path, source):
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert source.load("a.gif").getpixel((3, 3))[0] > 200


def test_relative_paths_are_looked_for_in_each_root_in_turn(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    a_picture().save(tmp_path / "two" / "a.png")
    source = ImageSource([tmp_path / "one", tmp_path / "two"], PUBLISHED)
    assert source.load("a.png").mode == "RGB"
    assert source.load(f"file://{tmp_path}/two/a.png").mode == "RGB"


def test_a_data_url_is_read():
    buffer = io.BytesIO()
    a_picture().save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    assert ImageSource([], PUBLISHED).load(url).mode == "RGB"


def bad_files(folder):
    picture = io.BytesIO()
    a_picture().save(picture, "JPEG")
    (folder / "truncated.jpg").write_bytes(picture.getvalue()[:400])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image")
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "fifo.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    a_picture(3000, 10).save(folder / "thin.png")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "truncated"),
        ("empty.jpg", "cannot identify"),
        ("text.jpg", "cannot identify"),
        ("drawing.svg", "cannot identify"),
        ("folder.jpg", "not a regular file"),
        ("fifo.jpg", "not a regular file"),
        ("loop.jpg", "no such file"),
        ("missing.jpg", "no such file"),
        ("thin.png", "aspect ratio"),
        ("data:image/png,abc", "base64"),
        ("data:image/png;base64,???", "base64"),
        ("https://127.0.0.1/a.jpg", "--allow_url"),
        ("nul\0byte.jpg", "no such file"),
    ],
)
def test_a_bad_image_is_refused_with_its_name_and_a_reason(tmp_path, source, name, reason):
    bad_files(tmp_path)
    with pytest.raises(ImageError) as caught:
        source.load(name)
    assert one_line(name) in str(caught.value)
    assert reason in str(caught.value)


def test_a_decompression_bomb_is_refused(tmp_path, source, monkeypatch):
    a_picture(200, 200).save(tmp_path / "bomb.png")
    monkeypatch.setattr("inference.data.images.MAX_SOURCE_PIXELS", 1000)
    with pytest.raises(ImageError, match="has more than 1,000 pixels"):
        source.load("bomb.png")


def record(i, image):
    return Record(f"s{i}", i, i + 1, "EmoSet-8", ["awe"], "awe", None, [image], {})


def ready(loaded):
    """What a loader delivers, without the times when nothing was ready."""
    return (item for item in loaded if item is not None)


@dataclass
class SlowSource(ImageSource):
    """An image source that holds the images named in ``gates`` back until their gate opens."""

    gates: dict[str, threading.Event] = field(default_factory=dict)

    def load(self, reference):
        if reference in self.gates:
            assert self.gates[reference].wait(60)
        return super().load(reference)


@pytest.mark.parametrize("in_order", [False, True])
def test_the_loader_delivers_each_record_once_and_passes_errors_on(tmp_path, source, in_order):
    for i in range(12):
        a_picture(20 + i, 20).save(tmp_path / f"{i}.png")
    records = [record(i, f"{i}.png" if i % 3 else "missing.png") for i in range(12)]
    with ImageLoader(source, workers=3, ahead=4, in_order=in_order) as loader:
        loaded = list(ready(loader.load(records)))
    found = {item.sample_id: isinstance(images, ImageError) for item, images in loaded}
    assert found == {f"s{i}": i % 3 == 0 for i in range(12)}
    assert len(loaded) == 12


def test_an_image_that_takes_long_is_overtaken_by_the_others(tmp_path):
    for i in range(6):
        a_picture().save(tmp_path / f"{i}.png")
    slow = SlowSource([tmp_path], PUBLISHED, gates={"1.png": threading.Event()})
    with ImageLoader(slow, workers=2, ahead=3) as loader:
        loaded = loader.load([record(i, f"{i}.png") for i in range(6)])
        before = [item.sample_id for item, _ in islice(ready(loaded), 5)]
        assert next(loaded) is None  # only the slow one is left, and nobody has to wait for it
        slow.gates["1.png"].set()
        after = [item.sample_id for item, _ in ready(loaded)]
    assert sorted(before) == ["s0", "s2", "s3", "s4", "s5"]
    assert after == ["s1"]


def test_a_loader_in_order_waits_for_the_image_that_takes_long(tmp_path):
    for i in range(6):
        a_picture().save(tmp_path / f"{i}.png")
    slow = SlowSource([tmp_path], PUBLISHED, gates={"1.png": threading.Event()})
    with ImageLoader(slow, workers=2, ahead=3, in_order=True) as loader:
        loaded = loader.load([record(i, f"{i}.png") for i in range(6)])
        threading.Timer(0.2, slow.gates["1.png"].set).start()
        assert [item.sample_id for item, _ in loaded] == [f"s{i}" for i in range(6)]


def test_decoding_starts_before_the_first_image_is_asked_for(tmp_path):
    a_picture().save(tmp_path / "a.png")
    slow = SlowSource([tmp_path], PUBLISHED, gates={"a.png": threading.Event()})
    with ImageLoader(slow, workers=1) as loader:
        loaded = loader.load([record(0, "a.png")])
        assert next(loaded) is None
        slow.gates["a.png"].set()
        loader.pool.submit(int).result()  # one thread: it comes to this when the image is decoded
        item, (image,) = next(loaded)
    assert item.sample_id == "s0" and image.mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_base64_without_its_prefix_is_named_as_what_it_is(source, kind):
    buffer = io.BytesIO()
    a_picture().save(buffer, kind)
    with pytest.raises(ImageError, match="is base64 without its prefix: expected a data URL"):
        source.load(base64.b64encode(buffer.getvalue()).decode())


def test_a_name_that_no_file_can_have_is_no_such_file(source):
    with pytest.raises(ImageError, match="no such file"):
        source.load("x" * 5000)


def test_the_loader_never_holds_more_images_than_it_may(tmp_path, source):
    a_picture().save(tmp_path / "a.png")
    asked = []

    def records():
        for i in range(40):
            asked.append(i)
            yield record(i, "a.png")

    with ImageLoader(source, workers=2, ahead=5) as loader:
        for taken, _ in enumerate(ready(loader.load(records()))):
            assert len(asked) - taken <= 5
    assert len(asked) == 40


def test_records_in_a_row_with_one_image_share_its_decoding(tmp_path, source):
    for name in ("a.png", "b.png"):
        a_picture().save(tmp_path / name)
    records = [record(i, name) for i, name in enumerate(["a.png"] * 5 + ["b.png"] * 3 + ["a.png"])]
    with ImageLoader(source, workers=2, ahead=4, in_order=True) as loader:
        images = [image for _, (image,) in loader.load(records)]
    assert len({id(image) for image in images}) == 3
    assert [image is images[0] for image in images] == [i < 5 for i in range(9)]
