"""Archives of images become files beside them: all of an archive's files, or none.

    from scripts.data.hub.unpack import unpack
    unpack(Path("input_data/images.zip"), checksum)    # input_data/images/…, as the archive names them

``tarfile`` with the filter of PEP 706 and ``zipfile`` keep every file inside the folder. Links and devices are
refused beyond that, for images need none and the filter's checks of links had faults of their own (CVE-2025-4517);
so is an archive that grows as none of images does. A marker with the archive's checksum is written last: an
interrupted start counts for nothing, and a changed archive is unpacked again.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from inference.common.storage import atomic_write

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
# Images hardly compress: what grows more than this is no archive of images but an attack on the disk.
MAX_GROWTH = 20
ALWAYS_ALLOWED = 100 * 2**20  # bytes
ENTRY_BYTES = 512  # what a file counts besides its content: empty ones fill a disk, too


class UnpackError(ValueError):
    """An archive that is broken or not safe; the message names it and says why."""


def is_archive(path: str | Path) -> bool:
    return str(path).lower().endswith(ARCHIVES)


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
        UnpackError: for a broken archive, a link or device, or far too much content.
        OSError: when a file cannot be written; nothing of the archive is left half-written then.
    """
    staging = archive.with_name(f".{archive.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    allowed = max(ALWAYS_ALLOWED, MAX_GROWTH * archive.stat().st_size)
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(staging, members=_bounded(zipped.infolist(), allowed))  # noqa: S202
        else:
            with tarfile.open(archive) as tarred:
                tarred.extractall(staging, members=_bounded(tarred, allowed), filter="data")
        files = [path for path in staging.rglob("*") if path.is_file()]
        for source in files:
            target = archive.parent / source.relative_to(staging)
            if target not in keep:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, target)
    except Exception as error:  # whatever a broken archive makes its reader raise
        if getattr(error, "errno", None) is not None:  # the disk
            raise
        raise UnpackError(f"{archive} cannot be unpacked: {error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    with atomic_write(_marker(archive)) as marker:
        marker.write(f"{checksum}\n")
    return len(files)


def _marker(archive: Path) -> Path:
    return archive.with_name(f".{archive.name}.unpacked")


def _bounded(entries: Iterable[zipfile.ZipInfo | tarfile.TarInfo], allowed: int) -> Iterator:
    """The entries, as long as they are files and folders of ``allowed`` bytes in all.

    Raises:
        UnpackError: at the entry that is not, before it is written. (A zip file's link is written as a plain file.)
    """
    room = allowed
    for entry in entries:
        if isinstance(entry, tarfile.TarInfo) and not (entry.isreg() or entry.isdir()):
            raise UnpackError(f"it holds a link or device, {entry.name!r}")
        room -= ENTRY_BYTES + (entry.size if isinstance(entry, tarfile.TarInfo) else entry.file_size)
        if room < 0:
            raise UnpackError(f"it holds more than {allowed} bytes, which is too much for its size")
        yield entry
