"""Decode images in threads, a bounded number ahead of the engine.

    with ImageLoader(source, workers=4, ahead=64) as loader:
        for loaded in loader.load(records): ...   # (record, PIL.Image or ImageError), or None: none is ready

At most ``ahead`` decoded images wait at any time, each within the pixel budget; the engine
generates while the next ones are being decoded (Pillow decodes outside Python's lock).
Records in a row with the same image share one decoded copy: several samples of one image cost one decoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from inference.common.work_ahead import ready_first
from inference.data.images import ImageError, ImageSource
from inference.data.replacement import ReplacedImages
from inference.data.vecbench import Record

Loaded = tuple[Record, Image.Image | ImageError]


class ImageLoader:
    """A pool of decoding threads in front of an ``ImageSource``.

    Args:
        ahead: images that are decoded or being decoded and not yet taken.
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
        """Each record once, with its image or with what is wrong with it; None when none is ready.

        Decoding starts with this call, before the first one is asked for. With ``in_order`` None never comes.
        """
        return self._deliver(ready_first(self._submit(records), self.ahead, self.in_order))

    def _submit(self, records: Iterable[Record]) -> Iterator[tuple[Record, Future[Image.Image]]]:
        last: tuple[Record, Future[Image.Image]] | None = None
        for record in records:
            if self.replaced is not None:
                last = (record, self.pool.submit(self.replaced.load, record))
            elif last is None or last[0].image != record.image:
                last = (record, self.pool.submit(self.source.load, record.image))
            yield record, last[1]

    @staticmethod
    def _deliver(loaded: Iterator[tuple[Record, Future[Image.Image]] | None]) -> Iterator[Loaded | None]:
        for item in loaded:
            if item is None:
                yield None
                continue
            record, future = item
            try:
                image: Image.Image | ImageError = future.result()
            except ImageError as error:
                image = error
            yield record, image
