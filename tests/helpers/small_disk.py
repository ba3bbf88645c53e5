"""A disk of a few megabytes that a test can fill, empty, make read-only and take away.

    @pytest.fixture
    def disk(tmp_path): ...
        with small_disk(tmp_path / "disk") as disk: yield disk

Linux and root only; elsewhere the tests are skipped.
"""

import os
import subprocess
from contextlib import contextmanager

import pytest

PAGE = 4096  # bytes that the smallest file takes


class Disk:
    def __init__(self, path):
        self.path = path
        self.ballast = path / "ballast"

    def leave(self, free):
        """Fill the disk but for ``free`` bytes, in whole pages."""
        self.make_room()
        status = os.statvfs(self.path)
        length = status.f_bavail * status.f_bsize - free // PAGE * PAGE
        with open(self.ballast, "wb") as handle:
            if length:
                os.posix_fallocate(handle.fileno(), 0, length)

    def make_room(self):
        self.ballast.unlink(missing_ok=True)

    def remount(self, option):
        subprocess.run(["mount", "-o", f"remount,{option}", self.path], check=True, capture_output=True)

    def take_away(self):
        subprocess.run(["umount", "--lazy", self.path], check=True, capture_output=True)


@contextmanager
def small_disk(path, megabytes=4):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    path.mkdir()
    options = f"size={megabytes}m"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        if os.path.ismount(path):
            Disk(path).take_away()
