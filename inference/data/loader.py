"""Decode images in threads, a bounded number ahead of the engine.

    with ImageLoader(source, workers=4, ahead=64) as loader:
        for loaded in loader.load(records): ...   # (record, its PIL images or ImageError), or None: none is ready

The images of at most ``ahead`` records wait at any time, each within the pixel budget; the engine
generates while the next ones are being decoded (Pillow decodes outside Python's lock).
Records in a row with the same images share one decoded copy: several samples of one image cost one decoding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice

from PIL import Image

from inference.data.images import ImageError, ImageSource
from inference.data.records import Record
from inference.data.replacement import ReplacedImages

Loaded = tuple[Record, list[Image.Image] | ImageError]

# How long None is held back while an image may be about to come: an engine that starts with a handful
# of requests, a millisecond before the others are there, makes many small steps instead of few large ones.
GRACE_SECONDS = 0.005


class ImageLoader:
    """A pool of decoding threads in front of an ``ImageSource``.

    Args:
        ahead: records whose images are decoded or being decoded and not yet taken.
        in_order: deliver in the records' order and wait for each. Otherwise what is ready comes
            first, so that one slow image (a photo of 100 megapixels, a slow server) delays no other.
        replaced: what is delivered in place of the records' own images.
    """

    def __init__(
        self,
        source: ImageSource,
        workers: int = 4,
        ahead: int = 64,
        in_order: bool = False,
        replaced: ReplacedImages | None = None,
    ):
        self.source = source
        self.replaced = replaced
        self.ahead = max(1, ahead)
        self.in_order = in_order
        self.pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="image")

    def __enter__(self) -> ImageLoader:
        return self

    def __exit__(self, *_) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def load(self, records: Iterable[Record]) -> Iterator[Loaded | None]:
        """Each record once, with its images or with what is wrong with one; None when none is ready.

        Decoding starts with this call, before the first one is asked for. With ``in_order`` None never comes.
        """
        submitted = self._submit(records)
        return self._deliver(deque(islice(submitted, self.ahead)), submitted)

    def _images(self, record: Record) -> list[Image.Image]:
        if self.replaced is not None:
            return [self.replaced.load(record)]
        images = []
        for number, reference in enumerate(record.images, 1):
            try:
                images.append(self.source.load(reference))
            except ImageError as error:
                if len(record.images) == 1:
                    raise
                raise ImageError(f"{error} (image {number} of {len(record.images)})") from None
        return images

    def _submit(self, records: Iterable[Record]) -> Iterator[tuple[Record, Future[list[Image.Image]]]]:
        last: tuple[Record, Future[list[Image.Image]]] | None = None
        for record in records:
            if last is None or self.replaced is not None or last[0].images != record.images:
                last = (record, self.pool.submit(self._images, record))
            yield record, last[1]

    def _deliver(
        self,
        queue: deque[tuple[Record, Future[list[Image.Image]]]],
        submitted: Iterator[tuple[Record, Future[list[Image.Image]]]],
    ) -> Iterator[Loaded | None]:
        waited = False
        while queue:
            place = 0 if self.in_order else next((i for i, (_, future) in enumerate(queue) if future.done()), None)
            if place is None:
                if waited:
                    yield None
                else:  # once after each image, so that long waits cost nothing
                    wait([future for _, future in queue], GRACE_SECONDS, FIRST_COMPLETED)
                    waited = True
                continue
            waited = False
            record, future = queue[place]
            del queue[place]
            try:
                images: list[Image.Image] | ImageError = future.result()
            except ImageError as error:
                images = error
            yield record, images
            queue.extend(islice(submitted, 1))
