"""Which images count as one picture: copies resized or encoded anew do, other scenes do not."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scripts.build_vec_cot.fingerprints import Fingerprint, fingerprint, like_images
from tests.helpers.vec_cot import resized, scene


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer).convert("RGB")


def copies(image):
    yield from (resized(image, factor) for factor in (0.5, 0.75, 1.5, 2.5))
    yield from (encoded(image, "JPEG", quality=quality) for quality in (90, 50))
    yield encoded(resized(image, 0.7), "JPEG", quality=60)
    yield encoded(image, "WEBP", quality=60)


def test_resized_and_re_encoded_copies_of_a_scene_are_one_picture_and_other_scenes_are_not():
    scenes = [scene(seed) for seed in range(40)]
    families = [[image, *copies(image)] for image in scenes]
    groups = like_images([fingerprint(image) for family in families for image in family]).reshape(len(scenes), -1)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0].tolist())) == len(scenes)


def test_scenes_that_differ_in_colour_alone_are_different_pictures():
    """A grey hash cannot see it; the thumbnail can."""
    image = scene(1)
    red, green, blue = image.split()
    groups = like_images([fingerprint(image), fingerprint(Image.merge("RGB", (green, red, blue)))])
    assert groups[0] != groups[1]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_like_images_are_those_that_a_comparison_of_all_pairs_finds(seed):
    rng = np.random.default_rng(seed)
    bits = np.repeat(rng.integers(0, 2, (6, 64)), 5, axis=0)
    for row in bits:
        row[rng.choice(64, rng.integers(0, 9), replace=False)] ^= 1
    tones = rng.integers(0, 3, (30, 1)) * np.ones((30, 192), dtype=int) * 2
    prints = [
        Fingerprint(np.packbits(b).tobytes(), t.astype(np.uint8).tobytes()) for b, t in zip(bits, tones, strict=True)
    ]
    alike = ((bits[:, None] != bits[None]).sum(-1) <= 8) & (np.abs(tones[:, None] - tones[None]).mean(-1) <= 3.0)
    expected = np.arange(30)
    for _ in range(30):  # the least number that can be reached
        expected = np.where(alike, expected[None], 30).min(axis=1)
    found = like_images(prints)
    assert ((found[:, None] == found[None]) == (expected[:, None] == expected[None])).all()
