"""Which worker gets which record, and in which order."""

from collections import Counter
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.data.images import ImageSource
from inference.data.loader import ImageLoader
from inference.data.records import BrokenRecord, Record
from inference.runs.worker import MOST_NEIGHBOURS, share


def record(position, *images):
    return Record(f"s{position}", position, position + 1, "FI-8", ["awe", "fear"], "awe", None, list(images), {})


def broken(position):
    return BrokenRecord(f"s{position}", position, position + 1, "expected an image")


def names(items):
    return [item.sample_id for item in items]


def test_records_with_an_image_each_go_to_the_workers_in_turn():
    items = [record(position, f"{position}.png") for position in range(10)]
    items[4] = broken(4)
    assert [names(share(items, index, 3)) for index in range(3)] == [
        ["s0", "s3", "s6", "s9"], ["s1", "s4", "s7"], ["s2", "s5", "s8"],
    ]  # fmt: skip


def test_questions_about_an_image_are_neighbours_in_one_share_wherever_they_are_in_the_file():
    tasks = [record(3 * task + image, f"{image}.png") for task in range(3) for image in range(3)]
    assert names(share(tasks, 0, 1)) == ["s0", "s3", "s6", "s1", "s4", "s7", "s2", "s5", "s8"]
    assert names(share(tasks, 1, 2)) == ["s1", "s4", "s7"]


def test_the_same_images_in_another_order_are_another_question():
    items = [record(0, "a.png", "b.png"), record(1, "b.png", "a.png"), record(2, "a.png", "b.png")]
    assert names(share(items, 0, 1)) == ["s0", "s2", "s1"]


def test_a_file_about_a_single_image_still_gives_every_worker_its_part():
    items = [record(position, "a.png") for position in range(20 * MOST_NEIGHBOURS)]
    assert [len(share(items, index, 4)) for index in range(4)] == [5 * MOST_NEIGHBOURS] * 4


def test_workers_have_as_much_to_do_where_every_other_image_is_asked_about_twice():
    images = [*range(400), *range(0, 400, 2)]
    items = [record(position, f"{image}.png") for position, image in enumerate(images)]
    assert {len(share(items, index, 8)) for index in range(8)} <= {74, 75, 76}


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 5))
def test_every_record_is_in_one_share_and_questions_about_an_image_follow_each_other(images, n_shards):
    items = [record(i, f"{image}.png") if image else broken(i) for i, image in enumerate(images)]
    shares = [share(items, index, n_shards) for index in range(n_shards)]
    assert Counter(item.sample_id for mine in shares for item in mine) == Counter(names(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= MOST_NEIGHBOURS
    runs = Counter()
    for mine in shares:
        runs.update(images for images, _ in groupby(mine, key=lambda item: getattr(item, "images", [""])[0]))
    for image in range(1, 7):
        assert runs[f"{image}.png"] <= -(-images.count(image) // MOST_NEIGHBOURS)


def test_an_image_that_three_tasks_ask_about_is_decoded_once(tmp_path, monkeypatch):
    for name in "abc":
        Image.new("RGB", (84, 84)).save(tmp_path / f"{name}.png")
    decoded = Counter()
    load = ImageSource.load

    def counted(self, reference):
        decoded[reference] += 1
        return load(self, reference)

    monkeypatch.setattr(ImageSource, "load", counted)
    items = [record(3 * task + i, f"{name}.png") for task in range(3) for i, name in enumerate("abc")]
    with ImageLoader(ImageSource([tmp_path])) as loader:
        loaded = [one for one in loader.load(share(items, 0, 1)) if one is not None]
    assert len(loaded) == 9 and decoded == {"a.png": 1, "b.png": 1, "c.png": 1}
