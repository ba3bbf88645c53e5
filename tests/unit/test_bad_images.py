"""Image files of every kind: the right pixels within the budget, or one short error that names the file."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.data.images import MAX_FILE_BYTES, ImageError, ImageSource, PixelBudget
from inference.data.loader import ImageLoader
from inference.data.records import Record
from tests.corpora.bad_images import IMAGE_CASES, PICTURE, saved, write_images

BUDGET = PixelBudget(3136, 12544)
LONGEST = 700  # characters of a message: the image's name, the folders that it was looked for in, the reason


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def source(folder):
    return ImageSource([folder], BUDGET)


def assert_refused(error, case):
    message = str(error)
    assert message.startswith(f"image {case.name[:190]}") and case.reason.lower() in message.lower()
    assert message.isprintable() and len(message) <= LONGEST


def assert_pixels(image, case):
    """What load returns is what it would make of the right pixels."""
    height, width = case.pixels.shape[:2]
    size = BUDGET.fit(width, height)
    assert (image.mode, image.size) == ("RGB", size)
    expected = Image.fromarray(np.ascontiguousarray(case.pixels)).resize(size, Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(image, dtype=int) - np.asarray(expected, dtype=int)).max()
    assert difference <= 1.5 * case.tolerance


def test_case_names_are_unique_and_there_are_at_least_two_hundred():
    assert len({case.name for case in IMAGE_CASES}) == len(IMAGE_CASES) >= 200


@pytest.mark.parametrize("case", IMAGE_CASES, ids=lambda case: case.name[:60])
def test_each_file_gives_the_right_pixels_or_an_error_that_names_it(source, case):
    try:
        image = source.load(case.name)
    except ImageError as error:
        assert case.pixels is None or case.exact_or_error, error
        assert_refused(error, case)
    else:
        assert case.pixels is not None
        assert_pixels(image, case)


@pytest.mark.parametrize("case", IMAGE_CASES, ids=lambda case: case.name[:60])
def test_sizes_and_thumbnails_are_of_the_upright_image_or_an_error(source, case):
    for look in (source.original_size, lambda name: source.thumbnail(name, 32).size):
        try:
            width, height = look(case.name)
        except ImageError as error:
            assert str(error).startswith(f"image {case.name[:190]}")
        else:
            if case.pixels is not None:
                stored_height, stored_width = case.pixels.shape[:2]
                assert (width > height) == (stored_width > stored_height)


@pytest.mark.parametrize("case", IMAGE_CASES, ids=lambda case: case.name[:60])
def test_decoding_to_check_finds_what_decoding_to_infer_finds(source, case):
    def refused(look):
        try:
            look()
        except ImageError as error:
            return "aspect ratio" not in str(error)  # of a sound image that no budget takes
        return False

    assert refused(lambda: source.original_size(case.name, decode=True)) == refused(lambda: source.load(case.name))


def test_the_loader_brings_every_case_back_once(folder, source):
    records = [
        Record(f"s{i}", i, i + 1, "EmoSet-8", ["awe"], "awe", None, [case.name], {})
        for i, case in enumerate(IMAGE_CASES)
    ]
    with ImageLoader(source, workers=3) as loader:
        loaded = [item for item in loader.load(records) if item is not None]
    assert sorted(record.position for record, _ in loaded) == list(range(len(IMAGE_CASES)))


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "large.webp", "wb") as handle:  # Pillow would read all of a WebP file
        handle.write(saved(Image.fromarray(PICTURE), "WEBP"))
        handle.truncate(MAX_FILE_BYTES + 1)  # a hole: it takes no disk
    with pytest.raises(ImageError, match=r"image large\.webp: is larger than 536,870,912 bytes"):
        ImageSource([tmp_path], BUDGET).load("large.webp")


def test_an_unreadable_file_names_the_reason_and_not_a_memory_address(tmp_path):
    url = "data:image/png;base64,AAAA"
    messages = set()
    for _ in range(2):
        with pytest.raises(ImageError) as caught:
            ImageSource([], BUDGET).load(url)
        messages.add(str(caught.value))
    assert len(messages) == 1 and "0x" not in messages.pop()


class Vanishing(ImageSource):
    """The file goes, or becomes something else, after it was found and before it is opened."""

    def __init__(self, roots, change):
        super().__init__(roots, BUDGET)
        self.change = change

    def open(self, reference):
        found = super().open(reference)
        self.change(found)
        return found


def to_folder(path):
    path.unlink()
    path.mkdir()


def to_pipe(path):
    path.unlink()
    os.mkfifo(path)


def to_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Path.unlink, "No such file"),
        (to_folder, "not a regular file"),
        (to_pipe, "not a regular file"),
        (to_device, "not a regular file"),
        (lambda path: path.write_bytes(b""), "cannot identify"),
    ],
)
def test_a_file_that_changes_between_check_and_open_is_an_error(tmp_path, change, reason):
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(PICTURE), "PNG"))
    with pytest.raises(ImageError, match=f"image a.png: .*{reason}"):
        Vanishing([tmp_path], change).load("a.png")


def test_files_that_are_rewritten_while_they_are_read_never_give_anything_but_an_image_or_an_error(tmp_path):
    path = tmp_path / "a.png"
    whole = saved(Image.fromarray(np.tile(PICTURE, (20, 20, 1))), "PNG")
    path.write_bytes(whole)
    stop = threading.Event()

    def rewrite():
        while not stop.is_set():
            path.write_bytes(whole[: len(whole) // 2])
            path.write_bytes(whole)

    writer = threading.Thread(target=rewrite)
    writer.start()
    source, ends = ImageSource([tmp_path], BUDGET), set()
    start = time.monotonic()
    while time.monotonic() - start < 1:
        try:
            ends.add(source.load("a.png").mode)
        except ImageError:
            ends.add("error")
    stop.set()
    writer.join()
    assert ends <= {"RGB", "error"}
