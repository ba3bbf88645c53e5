"""Archives of images become files beside them: all of an archive's files, or none.

    from scripts.hub.unpack import unpack
    unpack(Path("input_data/images.zip"), checksum)    # input_data/images/…, as the archive names them

Files are written to a hidden folder beside the archive first and moved when all are there. A marker
with the archive's checksum is written last, so that an interrupted start counts for nothing and a
changed archive is unpacked again. Links, devices and paths that lead out are refused, and so is an
archive that grows as none of images does. Standard library only, and no ``extractall``: the filter that
makes it safe is missing from Python before 3.10.12 and 3.11.4.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from inference.results import atomic_write

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
# Images hardly compress: what grows more than this is no archive of images but an attack on the disk.
MAX_GROWTH = 20
ALWAYS_ALLOWED = 100 * 2**20  # bytes
ENTRY_BYTES = 512  # what a file counts besides its content: empty ones fill a disk, too
CHUNK = 1 << 20
MAX_HEADER_BYTES = 4 * CHUNK  # tarfile would take as much memory for a header as the archive says


class UnpackError(ValueError):
    """An archive that is broken or not safe; the message names it and says why."""


BROKEN = (
    UnpackError, tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError,
    KeyError, RuntimeError,
)  # fmt: skip


class _SmallReads:
    """An uncompressed view of a tar file that refuses to read much at once."""

    def __init__(self, handle: IO[bytes]):
        self.handle = handle
        self.seek, self.tell = handle.seek, handle.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise UnpackError(f"it has a header of {size} bytes")
        return self.handle.read(size)


def is_archive(path: str | Path) -> bool:
    return str(path).lower().endswith(ARCHIVES)


def leaves_its_folder(name: str) -> bool:
    """Whether a path from elsewhere would lead out of the folder that it is joined to."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or not path.parts


def is_unpacked(archive: Path, checksum: str) -> bool:
    """Whether this very archive was unpacked to its end."""
    try:
        return _marker(archive).read_text(encoding="utf-8").strip() == checksum
    except OSError:
        return False


def unpack(archive: Path, checksum: str, keep: Collection[Path] = ()) -> int:
    """Unpack into the archive's own folder; returns the number of files in it.

    Files of earlier starts are replaced, those in ``keep`` are not.

    Raises:
        UnpackError: for a broken archive, a path that leads out of the folder, a link or device, or far too much.
        OSError: when a file cannot be written; nothing of the archive is left half-written then.
    """
    staging = archive.with_name(f".{archive.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        allowed = max(ALWAYS_ALLOWED, MAX_GROWTH * archive.stat().st_size)
        room = allowed
        for name, content in _files(archive):
            if leaves_its_folder(name):
                raise UnpackError(f"it names a path outside its folder, {name!r}")
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            room -= ENTRY_BYTES
            with content, open(staging / name, "wb") as target:
                while chunk := content.read(CHUNK):
                    room -= len(chunk)
                    if room < 0:
                        raise UnpackError(f"it holds more than {allowed} bytes, which is too much for its size")
                    target.write(chunk)
            if room < 0:
                raise UnpackError(f"it holds more than {allowed // ENTRY_BYTES} files, which is too many for its size")
        count = 0
        for source in [path for path in staging.rglob("*") if path.is_file()]:
            target = archive.parent / source.relative_to(staging)
            count += 1
            if target not in keep:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, target)
    except BROKEN as error:
        raise UnpackError(f"{archive} cannot be unpacked: {error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    with atomic_write(_marker(archive)) as marker:
        marker.write(f"{checksum}\n")
    return count


def _marker(archive: Path) -> Path:
    return archive.with_name(f".{archive.name}.unpacked")


def _files(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file in the archive. Images need no links, which could lead anywhere: refused."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise UnpackError(f"it holds a link or device, {entry.filename!r}")
                if not entry.is_dir():
                    yield entry.filename, zipped.open(entry)
        return
    with open(archive, "rb") as handle:
        compressed = handle.read(2) == b"\x1f\x8b"
    with (
        gzip.open(archive) if compressed else open(archive, "rb") as handle,
        tarfile.open(fileobj=_SmallReads(handle), mode="r:") as tarred,
    ):
        for member in tarred:
            if member.isdir():
                continue
            content = tarred.extractfile(member) if member.isreg() else None
            if content is None:
                raise UnpackError(f"it holds a link or device, {member.name!r}")
            yield member.name, content
