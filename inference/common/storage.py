"""Files that are whole or absent, and what to say when one cannot be written: the file, the reason and what to do.

    with atomic_write("metrics.json") as handle: ...
    with naming(path):
        handle.write(text)              # an OSError that names no file gets this one's name
    sys.exit(f"inference failed: {explain(error)}")

A write to a full disk fails without saying which file it was for, and half of it may be there.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

FULL = "What was finished is kept: make room and start the same command again."
REASONS = {
    errno.ENOSPC: f"cannot be written, the disk is full. {FULL}",
    errno.EDQUOT: f"cannot be written, the disk quota is used up. {FULL}",
    errno.EROFS: "cannot be written, the disk is read-only",
    errno.EIO: "the disk reports an input/output error",
    errno.ENOTDIR: "a file is where a folder is expected",
    errno.EEXIST: "a file is where a folder is expected",
}


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An OSError of the disk that names no file gets ``path`` as its file's name."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in REASONS:
            error.filename = str(path)
        raise


@contextmanager
def ending_in_one_line(what: str, *others: type[Exception], status: int = 1) -> Iterator[None]:
    """End the process with ``what`` and ``explain`` in one line when a file cannot be read or written.

    As a decorator, ``@ending_in_one_line("drawing")``, it does so for a whole command.

    Args:
        others: further errors that end it so.
        status: the exit status.

    Raises:
        SystemExit: in place of an OSError or one of the others.
    """
    try:
        yield
    except (OSError, *others) as error:
        print(f"{what} failed: {explain(error)}", file=sys.stderr)
        sys.exit(status)


def explain(error: BaseException, path: str | Path | None = None) -> str:
    """One line: which file, and what is wrong with it or its disk; for a full disk, what to do, too.

    Args:
        path: the file or folder that was being written, where the error may not name it.
    """
    # Libraries in Rust (safetensors) raise errors of their own, which end like this.
    stated = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(stated[1]) if stated else None
    if number not in REASONS:
        return " ".join(str(error).split()) or type(error).__name__
    return f"{getattr(error, 'filename', None) or path or 'a file'}: {REASONS[number]}"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write a file under; it gets its own name when all went well.

    Raises:
        OSError: naming ``path``, when the disk does not take the file; the old one is still there then.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path):
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)
        with suppress(OSError):  # a disk that has become read-only, a folder that is gone: the old file is untouched
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[str]]:
    """Write a UTF-8 file that appears under its name only when it is complete and on disk."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as handle:
        yield handle


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary name beside the folder ``path`` to fill; it takes the folder's place when all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path):
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
