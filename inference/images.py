"""Images: find, open and check them, and bring them into the pixel budget, ahead of the engine.

    from inference.images import ImageSource, PixelBudget
    source = ImageSource(roots=[Path("input_data")], budget=PixelBudget(200704, 451584))
    image = source.load("photos/0001.jpg")

Every engine gets the very same pixels: the size that Qwen2-VL's processor would choose is
applied here, once. So a large photo is neither kept nor resized twice, and the number of
image tokens is width × height / 28².
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image, ImageOps

from inference.download import DownloadError, download

FACTOR = 28  # pixels a side of one image token: patches of 14, merged 2 × 2
MAX_ASPECT_RATIO = 200  # what Qwen2-VL's processor refuses
MAX_DOWNLOAD_BYTES = 64 * 2**20
IMAGE_ROOT_HELP = "another folder that images may lie in, besides the data file's and the working directory; repeatable"
DOWNLOAD_SECONDS = 30  # for all of an image


class ImageError(ValueError):
    """An image that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class PixelBudget:
    """Smallest and largest area of an image in pixels; the published budget is 256 to 576 tokens.

    Raises:
        ValueError: when the bounds are not 0 < min_pixels <= max_pixels.
    """

    min_pixels: int = 256 * FACTOR**2
    max_pixels: int = 576 * FACTOR**2

    def __post_init__(self):
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ValueError(f"expected 0 < min_pixels <= max_pixels, got {self.min_pixels} and {self.max_pixels}")

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in multiples of 28 within the budget, aspect ratio kept as far as that goes.

        The rule of Qwen2-VL's image processor (``smart_resize`` in transformers).

        Raises:
            ImageError: for an aspect ratio over 200.
        """
        if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
            raise ImageError(f"aspect ratio of {width} × {height} is over {MAX_ASPECT_RATIO}")
        new_width, new_height = round(width / FACTOR) * FACTOR, round(height / FACTOR) * FACTOR
        if new_width * new_height > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            new_width = max(FACTOR, math.floor(width / shrink / FACTOR) * FACTOR)
            new_height = max(FACTOR, math.floor(height / shrink / FACTOR) * FACTOR)
        elif new_width * new_height < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            new_width = math.ceil(width * grow / FACTOR) * FACTOR
            new_height = math.ceil(height * grow / FACTOR) * FACTOR
        return new_width, new_height


def data_roots(data_path: str | Path, more: Iterable[str | Path] = ()) -> list[Path]:
    """Where the images of a data file may lie: its own folder, the working directory, then ``more``."""
    return [Path(data_path).resolve().parent, Path.cwd(), *map(Path, more)]


@dataclass
class ImageSource:
    """Where the images of a data file are found, and where they may not be looked for.

    A data file may come from anybody, and what it names is decoded, shown in a report, sent to an
    endpoint: no path leads out of the roots, be it absolute, by ``..``, as ``file://`` or through a link.

    Attributes:
        roots: folders that a relative path is looked for in, in this order, and that images lie in.
        allow_url: whether http(s) addresses may be fetched; off unless asked for.
        allow_private_url: whether they may be of this machine or a private network.
        confined: False for paths that a person has given, who may read what they may read.
    """

    roots: list[Path]
    budget: PixelBudget = field(default_factory=PixelBudget)
    allow_url: bool = False
    allow_private_url: bool = False
    confined: bool = True

    def load(self, reference: str) -> Image.Image:
        """The image as RGB pixels within the budget, upright (EXIF), transparency on white.

        ``reference`` is a path, a ``file://`` path, a ``data:`` URL or, when allowed, an
        http(s) URL.

        Raises:
            ImageError: whatever is wrong with it.
        """
        with self._opened(reference) as image:
            size = self.budget.fit(*_upright_size(image))
            ImageOps.exif_transpose(image, in_place=True)  # copies of a large photo cost as much as decoding it
            return _to_rgb(image).resize(size, Image.Resampling.BICUBIC)

    def original_size(self, reference: str, decode: bool = False) -> tuple[int, int]:
        """Width and height as stored, upright; from the header alone unless every pixel is to be decoded.

        Raises:
            ImageError: when the header, or with ``decode`` any part of the image, cannot be read.
        """
        with self._opened(reference) as image:
            size = _upright_size(image)
            if decode:
                image.draft("L", (1, 1))  # a JPEG's data is still read to its end, in half the time
                image.load()
            return size

    def thumbnail(self, reference: str, size: int) -> Image.Image:
        """The image as RGB within ``size`` × ``size`` pixels, upright, never enlarged.

        Raises:
            ImageError: whatever is wrong with it.
        """
        with self._opened(reference) as image:
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded at a fraction of its size
            small = _to_rgb(ImageOps.exif_transpose(image))
            small.thumbnail((size, size))
            return small

    @contextmanager
    def _opened(self, reference: str) -> Iterator[Image.Image]:
        """The image, opened; whatever goes wrong inside becomes an ImageError that names it."""
        shown = reference if len(reference) <= 200 else reference[:199] + "…"
        try:
            with Image.open(self.open(reference)) as image:
                yield image
        except ImageError as error:
            raise ImageError(f"image {shown}: {error}") from None
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
            raise ImageError(f"image {shown}: cannot be read: {type(error).__name__}: {error}") from None

    def open(self, reference: str) -> Path | io.BytesIO:
        """The image's file, or its bytes when it is embedded or fetched; nothing is decoded.

        Raises:
            ImageError: when there is no such file.
        """
        if reference.startswith("data:"):
            header, _, payload = reference.partition(",")
            if not header.endswith(";base64"):
                raise ImageError("expected a base64 data URL")
            try:
                return io.BytesIO(base64.b64decode(payload, validate=True))
            except binascii.Error as error:
                raise ImageError(f"broken base64: {error}") from None
        if reference.startswith(("http://", "https://")):
            if not self.allow_url:
                raise ImageError("is a URL: give --allow_url to fetch images from the network")
            try:
                content = download(reference, MAX_DOWNLOAD_BYTES, DOWNLOAD_SECONDS, self.allow_private_url)
            except DownloadError as error:
                raise ImageError(str(error)) from None
            return io.BytesIO(content)
        if reference.startswith("hf://"):
            # hf://datasets/OWNER/NAME/path: what scripts.fetch brought is looked for by its path.
            parts = reference.removeprefix("hf://").split("/")
            skipped = 3 if parts[0] in ("datasets", "spaces") else 2
            return self.find(Path(*parts[skipped:]))
        return self.find(Path(reference.removeprefix("file://")))

    def find(self, path: Path) -> Path:
        """Where the file is, links followed: a relative path is looked for in each root in turn.

        Raises:
            ImageError: when there is no such file, or the path leads out of the roots. Whether there is
                a file out there is not even looked at.
        """
        outside = irregular = False
        for place in [path] if path.is_absolute() else [root / path for root in self.roots]:
            try:
                real = Path(os.path.realpath(place))
            except ValueError:  # a zero byte, which no file's name has
                continue
            if not self.allows(real):
                outside = True
            elif real.is_file():
                return real
            else:
                irregular = irregular or real.exists()
        folders = ", ".join(map(str, self.roots))
        if irregular:
            raise ImageError("is not a regular file")
        if outside:
            raise ImageError(f"leads out of {folders or 'every folder'}: give --image_root FOLDER to allow its folder")
        raise ImageError("no such file" + ("" if path.is_absolute() else f" in {folders}"))

    def allows(self, path: str | Path) -> bool:
        """Whether an absolute path without links leads to where images may lie."""
        return not self.confined or any(Path(path).is_relative_to(root) for root in self._real_roots)

    @cached_property
    def _real_roots(self) -> list[str]:
        return [os.path.realpath(root) for root in self.roots]


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height after the EXIF orientation, from the header alone: no pixel is decoded."""
    orientation = image.getexif().get(0x0112, 1)
    return image.size if orientation < 5 else image.size[::-1]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode.startswith("I"):  # 16-bit greyscale: PIL would clip at 255 instead of scaling
        image = image.point(lambda value: value / 256).convert("L")
    return image if image.mode == "RGB" else image.convert("RGB")
