"""Decode images in threads, a bounded number ahead of the engine.

    with ImageLoader(source, workers=4, ahead=64) as loader:
        for record, image in loader.load(records): ...   # image: PIL.Image or ImageError

At most ``ahead`` decoded images wait at any time, each within the pixel budget; the engine
generates while the next ones are being decoded (Pillow decodes outside Python's lock).
Records in a row with the same image share one decoded copy: several samples of one image cost one decoding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from inference.images import ImageError, ImageSource
from inference.vecbench import Record


class ImageLoader:
    """A pool of decoding threads in front of an ``ImageSource``."""

    def __init__(self, source: ImageSource, workers: int = 4, ahead: int = 64):
        self.source = source
        self.ahead = max(1, ahead)
        self.pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="image")

    def __enter__(self) -> ImageLoader:
        return self

    def __exit__(self, *_) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def load(self, records: Iterable[Record]) -> Iterator[tuple[Record, Image.Image | ImageError]]:
        """Each record with its image, or with what is wrong with it, in the records' order."""
        queue: deque[tuple[Record, Future[Image.Image]]] = deque()
        waiting = iter(records)
        last: tuple[Record, Future[Image.Image]] | None = None
        while True:
            while len(queue) < self.ahead and (record := next(waiting, None)) is not None:
                if last is None or last[0].image != record.image:
                    last = (record, self.pool.submit(self.source.load, record.image))
                queue.append((record, last[1]))
            if not queue:
                return
            record, future = queue.popleft()
            try:
                yield record, future.result()
            except ImageError as error:
                yield record, error
