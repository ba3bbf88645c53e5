"""Image files that only a process of its own can try: bombs, whose memory is measured, and another user's files."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from inference.data.images import ImageError, ImageSource, PixelBudget
from tests.corpora.bad_images import IMAGE_CASES, PICTURE, saved, write_images
from tests.helpers.commands import REPO

BUDGET = PixelBudget(3136, 12544)

# Each in a process of its own, so that the memory is its own; the limit is far below what the bombs would take.
BOUNDED = """
import resource, sys, time
from pathlib import Path
from inference.data.images import ImageError, ImageSource
source = ImageSource([Path(sys.argv[1])])
before, start, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), 0
for name in sys.argv[2:]:
    try:
        source.load(name)
    except ImageError:
        refused += 1
print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def test_bombs_cost_little_memory_and_time(folder):
    names = [case.name for case in IMAGE_CASES if "bomb" in case.name or " MB" in case.name]
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, folder, *names], cwd=REPO, capture_output=True, text=True, check=True
    )
    refused, kibibytes, seconds = map(float, done.stdout.split())
    assert len(names) >= 13 and refused >= len(names) - 3
    assert kibibytes < 200 * 1024  # the bombs would take 360 MB to 12 EB
    assert seconds < 5


def test_a_file_without_permission_is_an_error(tmp_path):
    """As a user who is not root; root may read everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "closed").mkdir()
        for path in (folder / "secret.png", folder / "closed" / "a.png"):
            path.write_bytes(saved(Image.fromarray(PICTURE), "PNG"))
        (folder / "secret.png").chmod(0)
        (folder / "closed").chmod(0)
        Image.init()  # the other user may not be able to read Pillow
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:  # only here may the user change
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            told = []
            for image in ("secret.png", "closed/a.png"):
                try:
                    told.append(f"loaded {ImageSource([folder], BUDGET).load(image).size}")
                except ImageError as error:
                    told.append(str(error))
                except BaseException as error:
                    told.append(f"no ImageError: {error!r}")
            os.write(writer, "\n".join(told).encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        secret, closed = os.read(reader, 10_000).decode().split("\n")
        os.close(reader)
        (folder / "closed").chmod(0o755)
    assert secret == "image secret.png: cannot be read: PermissionError: Permission denied"
    assert closed == "image closed/a.png: cannot be read: PermissionError: Permission denied"
