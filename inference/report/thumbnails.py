"""Small copies of a run's images for its report: made in parallel, kept for the next report.

    from inference.report.thumbnails import make_thumbnails
    found = make_thumbnails(ImageSource([Path("input_data")]), ["a.jpg"], 128, Path("my_run/thumbnails.json"), 4)
    found["a.jpg"]      # a data URL, or an ImageError that says why there is none

The cache is one JSON file, from a file's path, size and time of change to its data URL: an image
that changed is made again, a cache that cannot be read is made anew.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from PIL import Image, features
from tqdm import tqdm

from inference.common.storage import atomic_write
from inference.data.images import ImageError, ImageSource

QUALITY = 60  # about 3 kB for a photograph of 128 pixels


def to_data_url(image: Image.Image) -> str:
    """The image as a WebP data URL; JPEG where Pillow was built without WebP."""
    kind = "webp" if features.check("webp") else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def cache_key(source: ImageSource, reference: str, size: int) -> str:
    """What a thumbnail depends on: the image's content or its file's path, size and time, and the side in pixels.

    Raises:
        ImageError: when there is no such file.
    """
    if reference.startswith("data:"):
        return f"{hashlib.sha256(reference.encode('utf-8', 'replace')).hexdigest()} {size}"
    if reference.startswith(("http://", "https://")) and source.allow_url:
        return f"{reference} {size}"
    try:
        path = source.open(reference)
        state = path.stat()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from None
    return f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {size}"


def read_cache(path: Path) -> dict[str, str]:
    """Key → data URL; empty when there is no usable cache."""
    try:
        cached = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = cached.items() if isinstance(cached, dict) else ()
    return {key: url for key, url in entries if isinstance(url, str) and url.startswith("data:image/")}


def _make(job: tuple[ImageSource, str, int]) -> str | ImageError:
    source, reference, size = job
    try:
        return to_data_url(source.thumbnail(reference, size))
    except ImageError as error:
        return error
    except OSError as error:  # an address that does not answer
        return ImageError(f"cannot be read: {error}")


def _made(jobs: list[tuple[ImageSource, str, int]], processes: int) -> Iterator[str | ImageError]:
    if processes <= 1 or len(jobs) < 2:
        yield from map(_make, jobs)
        return
    with ProcessPoolExecutor(min(processes, len(jobs))) as pool:
        yield from pool.map(_make, jobs, chunksize=8)


def make_thumbnails(
    source: ImageSource, references: Iterable[str], size: int, cache_path: Path, processes: int
) -> dict[str, str | ImageError]:
    """reference → data URL of at most ``size`` × ``size`` pixels, or why there is none.

    What is made is written to ``cache_path``, also when it is interrupted.
    """
    cached = read_cache(cache_path)
    keys: dict[str, str] = {}
    found: dict[str, str | ImageError] = {}
    for reference in dict.fromkeys(references):
        try:
            keys[reference] = cache_key(source, reference, size)
        except ImageError as error:
            found[reference] = error
    # Two references may name one file: it is decoded once.
    missing = {key: reference for reference, key in keys.items() if key not in cached}
    problems: dict[str, ImageError] = {}
    made = _made([(source, reference, size) for reference in missing.values()], processes)
    bar = tqdm(total=len(missing), desc="thumbnails", unit="image", mininterval=1.0, disable=not missing)
    try:
        with bar, suppress(BrokenProcessPool):  # a process was killed: what it did not make is said below
            for key, result in zip(missing, made, strict=True):
                (cached if isinstance(result, str) else problems)[key] = result
                bar.update()
    finally:
        if len(missing) > len(problems):
            used = set(keys.values())
            with atomic_write(cache_path) as handle:
                json.dump({key: url for key, url in cached.items() if key in used}, handle)
    lost = ImageError("no thumbnail: the process that made it was ended, perhaps for want of memory")
    for reference, key in keys.items():
        found[reference] = cached.get(key) or problems.get(key, lost)
    if failed := sum(isinstance(result, ImageError) for result in found.values()):
        print(f"{failed} of {len(found)} images have no thumbnail; the report says why at each", file=sys.stderr)
    return found
