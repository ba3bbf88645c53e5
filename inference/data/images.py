"""Images: find, open and check them, and bring them into the pixel budget, ahead of the engine.

    from inference.data.images import ImageSource, PixelBudget
    source = ImageSource(roots=[Path("input_data")], budget=PixelBudget(200704, 451584))
    image = source.load("photos/0001.jpg")

Every engine gets the very same pixels: the size that the processor of a Qwen-VL model would choose is
applied here, once. So a large photo is neither kept nor resized twice, and the number of
image tokens is width × height / unit², where the unit is 28 pixels in Qwen2-VL and Qwen2.5-VL, 32 in Qwen3-VL.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import io
import logging
import math
import os
import stat
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from inference.common.json_lines import one_line
from inference.data.download import DownloadError, download
from inference.data.layouts import EMBEDDED

log = logging.getLogger("inference")

FACTOR = 28  # pixels per side of one image token of Qwen2.5-VL: patches of 14, merged 2 × 2
MAX_ASPECT_RATIO = 200  # what Qwen2-VL's processor refuses
MAX_SOURCE_PIXELS = 120_000_000  # width × height as stored: a photograph of 108 megapixels is taken, a bomb is not
MAX_FILE_BYTES = 512 * 2**20  # some decoders read the whole file first
MAX_DOWNLOAD_BYTES = 64 * 2**20
DOWNLOAD_SECONDS = 30  # for all of an image

# What a file is tried as, whatever its name says. Pillow knows many more; some start other programs
# (EPS starts Ghostscript) or are hardly ever tested against hostile files. AVIF comes with Pillow 11.3.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")

BASE64_HEADS = ("iVBORw0KGgo", "/9j/", "R0lGODlh", "R0lGODdh", "UklGR")  # of PNG, JPEG, GIF, WebP

PLAIN_MODES = ("1", "L", "P", "RGB", "CMYK", "YCbCr")  # of eight bits, without alpha

ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# MAX_SOURCE_PIXELS decides; Pillow's warning from 89 megapixels on would say otherwise.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(ValueError):
    """An image that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class PixelBudget:
    """Smallest and largest area of an image in pixels; the published budget is 256 to 576 tokens.

    Attributes:
        unit: sides are multiples of it, the pixels per side of one image token. 1: the model's processor sizes
            images itself, in tiles or to a square; then they are only made smaller, to ``max_pixels``.

    Raises:
        ValueError: when the bounds are not 0 < min_pixels <= max_pixels.
    """

    min_pixels: int = 256 * FACTOR**2
    max_pixels: int = 576 * FACTOR**2
    unit: int = FACTOR

    def __post_init__(self):
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ValueError(f"expected 0 < min_pixels <= max_pixels, got {self.min_pixels} and {self.max_pixels}")

    def image_tokens(self, width: int, height: int) -> int:
        """How many image tokens an image of this size has within the budget.

        Raises:
            ImageError: as ``fit``.
        """
        width, height = self.fit(width, height)
        return width * height // self.unit**2

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in multiples of the unit within the budget, aspect ratio kept as far as that goes.

        The rule of Qwen2-VL's image processor (``smart_resize`` in transformers).

        Raises:
            ImageError: for an aspect ratio over 200.
        """
        if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
            raise ImageError(f"aspect ratio of {width} × {height} is over {MAX_ASPECT_RATIO}")
        unit = self.unit
        new_width, new_height = round(width / unit) * unit, round(height / unit) * unit
        if new_width * new_height > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            new_width = max(unit, math.floor(width / shrink / unit) * unit)
            new_height = max(unit, math.floor(height / shrink / unit) * unit)
        elif unit > 1 and new_width * new_height < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            new_width = math.ceil(width * grow / unit) * unit
            new_height = math.ceil(height * grow / unit) * unit
        return new_width, new_height


def add_image_root_argument(parser: argparse.ArgumentParser) -> None:
    """``--image_root DIR``, repeatable: ``args.image_root`` is a list of paths."""
    text = "another folder that images may lie in, besides the data file's and the working directory; repeatable"
    parser.add_argument("--image_root", type=Path, action="append", default=[], metavar="DIR", help=text)


@dataclass
class ImageSource:
    """Where the images of a data file are found, and where they may not be looked for.

    A data file may come from anybody, and what it names is decoded, shown in a report, sent to an
    endpoint: no path leads out of the roots, be it absolute, by ``..``, as ``file://`` or through a link.

    Attributes:
        roots: folders that a relative path is looked for in, in this order, and that images may lie in.
        others: further folders that images may lie in: by an absolute path, or where a link leads.
        allow_url: whether http(s) addresses may be fetched; off unless asked for.
        allow_private_url: whether they may be of this machine or a private network.
        confined: False for paths that a person has given, who may read what they may read.
    """

    roots: list[Path]
    budget: PixelBudget = field(default_factory=PixelBudget)
    allow_url: bool = False
    allow_private_url: bool = False
    confined: bool = True
    others: list[Path] = field(default_factory=list)

    def load(self, reference: str) -> Image.Image:
        """The image as RGB pixels within the budget, upright (EXIF), transparency on white.

        ``reference`` is a path, a ``file://`` path, a ``data:`` URL or, when allowed, an
        http(s) URL.

        Raises:
            ImageError: whatever is wrong with it.
        """
        with self._opened(reference) as image:
            self.budget.fit(*image.size)  # a shape that no budget takes costs no decoding
            upright = _upright(image)
            return _to_rgb(upright).resize(self.budget.fit(*upright.size), Image.Resampling.BICUBIC)

    def original_size(self, reference: str, decode: bool = False) -> tuple[int, int]:
        """Width and height as stored, upright; from the header alone unless every pixel is to be decoded.

        Raises:
            ImageError: when the header, or with ``decode`` any part of the image, cannot be read.
        """
        with self._opened(reference) as image:
            # Of a TIFF, newer Pillows give the upright size already.
            size = (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size
            size = size if _orientation(image) < 5 else size[::-1]
            if decode:
                _decode(image)
            return size

    def converted(self, reference: str) -> Image.Image | None:
        """The image as ``load`` shows it, in its own size, where other readers would show other pixels; else None.

        Pillow's ``convert("RGB")``, with which the trainers read images, neither turns an image as EXIF says nor puts
        what is transparent on white, and clips grey of 16 bits. Every pixel is decoded in any case.

        Raises:
            ImageError: whatever is wrong with it.
        """
        with self._opened(reference) as image:
            if _orientation(image) == 1 and image.mode in PLAIN_MODES and "transparency" not in image.info:
                _decode(image)
                return None
            return _to_rgb(_upright(image))

    def thumbnail(self, reference: str, size: int) -> Image.Image:
        """The image as RGB within ``size`` × ``size`` pixels, upright, never enlarged.

        Raises:
            ImageError: whatever is wrong with it.
        """
        with self._opened(reference) as image:
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded at a fraction of its size
            small = _to_rgb(_upright(image))
            small.thumbnail((size, size))
            return small

    @contextmanager
    def _opened(self, reference: str) -> Iterator[Image.Image]:
        """The image, opened; whatever goes wrong inside becomes an ImageError that names it."""
        shown = one_line(reference)
        try:
            opened = self.open(reference)
            with (
                _open_file(opened) if isinstance(opened, Path) else opened as content,
                Image.open(content, formats=_known_formats()) as image,
            ):
                if image.width * image.height > MAX_SOURCE_PIXELS:
                    raise Image.DecompressionBombError
                yield image
        except ImageError as error:
            raise ImageError(f"image {shown}: {error}") from None
        except UnidentifiedImageError:
            raise ImageError(f"image {shown}: cannot identify: expected {', '.join(_known_formats())}") from None
        except Image.DecompressionBombError:
            raise ImageError(f"image {shown}: has more than {MAX_SOURCE_PIXELS:,} pixels") from None
        except Exception as error:  # a broken file leads Pillow's decoders to struct.error, KeyError, and many more
            reason = getattr(error, "strerror", None) or one_line(str(error))
            raise ImageError(f"image {shown}: cannot be read: {type(error).__name__}: {reason}") from None

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
        if reference.startswith(BASE64_HEADS):
            raise ImageError("is base64 without its prefix: expected a data URL, data:image/png;base64,…")
        return self.find(_path_of(reference))

    def find(self, path: Path) -> Path:
        """Where the file is, links followed: a relative path is looked for in each root in turn.

        Where there is no file of that name, backslashes are taken for slashes, and letters with accents
        for the same letters in Unicode's other form: names that Windows and macOS write.

        Raises:
            ImageError: when there is no such file, a folder on the way is closed, or the path leads out of the
                roots. Whether there is a file out there is not even looked at.
        """
        outside = irregular = False
        slashes = str(path).replace("\\", "/")
        names = dict.fromkeys([str(path), *(unicodedata.normalize(form, slashes) for form in ("NFC", "NFD"))])
        paths = [path] if path.is_absolute() else [root / name for name in names for root in self.roots]
        for place in paths:
            try:
                real = Path(os.path.realpath(place))
                if not self.allows(real):
                    outside = True
                elif real.is_file():
                    return real
                else:
                    irregular = irregular or real.exists()
            except PermissionError as error:
                raise ImageError(f"cannot be read: PermissionError: {error.strerror}") from None
            except (ValueError, OSError):  # a zero byte or too long a name, which no file has
                continue
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
        return [os.path.realpath(root) for root in (*self.roots, *self.others)]


def _path_of(reference: str) -> Path:
    """The path that a reference which is no URL names; of ``hf://datasets/OWNER/NAME/path``, the path in its folder."""
    if reference.startswith("hf://"):
        parts = reference.removeprefix("hf://").split("/")
        return Path(*parts[3 if parts[0] in ("datasets", "spaces") else 2 :])
    return Path(reference.removeprefix("file://"))


def data_images(
    data_path: str | Path, references: Iterable[str], image_roots: Iterable[str | Path] = (), **options: Any
) -> ImageSource:
    """Where a data file's images lie: in the file's folder or ``image_roots``, else in the working directory.

    One folder answers for the whole file: that of the path as it was given; that of the file which this path, a
    link, leads to, when none of the images is in the first; the working directory, when none is in either. The last
    is logged, because images of the same names may be those of another data set. So an image that is missing
    among others is missing, and none is taken from elsewhere in its place.

    Args:
        references: what the file's records name as images, in order; read until one is in the first folder.
        options: of ``ImageSource``.
    """
    path, here, more = Path(data_path), Path.cwd(), [Path(root) for root in image_roots]
    folders = [path.absolute().parent, path.resolve().parent, here]
    sources = [ImageSource([folder], others=[*folders, *more]) for folder in folders]
    sources[0].roots += more
    place, n_found, n_relative = _place_of(references, sources)
    if place == 2:
        log.warning(
            "%s: none of its images is in its folder, %s; %d of %d are taken from the working directory, %s",
            *(data_path, folders[0], n_found, n_relative, here),
        )
    return ImageSource([folders[place], *more], others=folders, **options)


def _place_of(references: Iterable[str], sources: list[ImageSource]) -> tuple[int, int, int]:
    """(index of the first source that has any of the images, else 0; how many it has; how many were looked for)."""
    hits, n_relative = Counter[int](), 0
    for reference in references:
        if reference.startswith(EMBEDDED):  # a table that holds its images: looking through all of it takes long
            return 0, 0, 0
        if reference.startswith(("data:", "http://", "https://")) or _path_of(reference).is_absolute():
            continue
        n_relative += 1
        for i, source in enumerate(sources):
            with suppress(ImageError):
                source.find(_path_of(reference))
                hits[i] += 1
                break
        if hits[0]:
            break
    place = min(hits, default=0)
    return place, hits[place], n_relative


def _open_file(path: Path) -> BinaryIO:
    """The file, opened without waiting: since it was found it may have become a pipe without a writer.

    Raises:
        ImageError: when it is no regular file, or larger than ``MAX_FILE_BYTES``.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(number)
    regular = stat.S_ISREG(status.st_mode)
    if regular and status.st_size <= MAX_FILE_BYTES:
        return os.fdopen(number, "rb")
    os.close(number)
    raise ImageError(f"is larger than {MAX_FILE_BYTES:,} bytes" if regular else "is not a regular file")


@lru_cache
def _known_formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that this Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _decode(image: Image.Image) -> None:
    """Read the image to its end, to see that it is whole."""
    image.draft("L", (1, 1))  # a JPEG's data is still read to its end, in half the time
    image.load()


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is broken, as viewers do."""
    if image.format == "PNG":  # getexif would decode it, for a block behind the pixels; their error is not to be lost
        image.load()
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # as with the decoders
        return 1
    return orientation if orientation in TURNS else 1


def _upright(image: Image.Image) -> Image.Image:
    """The decoded image, turned as EXIF says; itself when there is nothing to turn.

    Not by ``ImageOps.exif_transpose``: it writes the other tags anew, and fails where one of them is broken.
    """
    image.load()  # first: Pillow's TIFF decoder turns the image itself, and takes the tag away
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as 8 bits: scaled, where Pillow would clip at 255; a level that is transparent is white."""
    levels = np.asarray(image)
    grey = (levels.clip(0, 65535) >> 8).astype(np.uint8)
    if isinstance(image.info.get("transparency"), int):
        grey[levels == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode in ("RGBa", "La"):  # colours multiplied by their alpha
        image = image.convert(image.mode.upper())
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
