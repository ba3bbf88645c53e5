"""Other pixels in place of a record's image, to see what of accuracy and confidence comes from the image.

replaced = ReplacedImages("other", 0, source, images_in("data.jsonl"))
replaced.load(record)     # never the record's own picture
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
from PIL import Image

from inference.data.images import ImageError, ImageSource
from inference.data.records import Record

GREY, NOISE, OTHER = "grey", "noise", "other"
# how → what the model sees in place of an image
SHOWN = {
    GREY: "mid-grey of the same size",
    NOISE: "uniform noise of the same size",
    OTHER: "the image of another record",
}
NO_INFORMATION = (GREY, NOISE)  # an image of these says nothing about any label
MID_GREY = (128, 128, 128)


class ReplacedImages:
    """What is shown in place of each record's image, the same for the same seed whoever asks and in whatever order.

    ``other`` takes the data file's images in one shuffled circle, each record the image after its own: records of
    one image all get the same one. An image that cannot be read, or that has the same pixels, is passed over.

    Attributes:
        shown: sample id → the other image's path or URL, of ``other`` alone; whoever reads it takes it out.

    Args:
        how: a key of ``SHOWN``.
        source: of the records' own images, which are loaded all the same: what cannot be read is an error in any case.
        references: what the whole data file names as images.

    Raises:
        ValueError: for ``other``, when the data file names fewer than two images.
    """

    def __init__(self, how: str, seed: int, source: ImageSource, references: Iterable[str] = ()):
        self.how, self.seed, self.source = how, seed, source
        self.shown: dict[str, str] = {}
        self._next: dict[str, str] = {}
        if how == OTHER:
            circle = list(dict.fromkeys(references))
            if len(circle) < 2:
                raise ValueError(f"replace_images={OTHER}: expected records of at least two images, got {len(circle)}")
            random.Random(f"{seed}/{OTHER}").shuffle(circle)
            self._next = dict(zip(circle, circle[1:] + circle[:1], strict=True))

    def load(self, record: Record) -> Image.Image:
        """The pixels that the model sees of this record, within the budget.

        Raises:
            ImageError: when the record's own image cannot be used, or there is no other one.
        """
        own = self.source.load(record.image)
        if self.how == GREY:
            return Image.new("RGB", own.size, MID_GREY)
        if self.how == NOISE:
            drawn = np.random.default_rng(random.Random(f"{self.seed}/{NOISE}/{record.sample_id}").getrandbits(64))
            return Image.fromarray(drawn.integers(0, 256, (own.height, own.width, 3), dtype=np.uint8))
        reference = record.image
        while (reference := self._next[reference]) != record.image:
            try:
                other = self.source.load(reference)
            except ImageError:
                continue
            if (other.size, other.tobytes()) != (own.size, own.tobytes()):
                self.shown[record.sample_id] = reference
                return other
        raise ImageError("no other image of the data file can be shown in its place")


def replacement_note(kinds: set[str | None]) -> str | None:
    """What must be said beside numbers of results whose ``replace_images`` are these; None when all saw their own."""
    replaced = [SHOWN[how] for how in sorted(kind for kind in kinds if kind is not None)]
    if not replaced:
        return None
    which = "each image" if len(kinds) == 1 else "some of the images"
    return f"in place of {which} the model saw {' or '.join(replaced)}: a test of what the image adds, no result"
