"""What a command must do on a full disk."""

import re
import shutil

from tests.helpers.commands import run

FULL = "cannot be written, the disk is full. What was finished is kept: make room and start the same command again."


def files_of(folder):
    """name → content; the minute of an evaluation, which a report shows, and the times of run.json are left out."""
    contents = {}
    for path in sorted(folder.rglob("*")) if folder.exists() else ():
        if path.is_file() and path.suffix != ".lock" and path.name != "run.json":
            content = path.read_bytes()
            if path.suffix == ".html":
                content = re.sub(rb"evaluated [\d: -]+", b"", content)
            contents[str(path.relative_to(folder))] = content
    return contents


def said(done):
    """The last line that a command wrote to stderr."""
    return done.stderr.strip().splitlines()[-1]


def check_failure(done, name=""):
    assert done.returncode > 0
    assert FULL in said(done) and name in said(done), done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def check_fill(disk, words, out, levels, status=0):
    """Start a command with little and then with more room; returns how often the disk was too full for it.

    Every file under a final name is whole, and with room enough the result is that of an undisturbed run.
    """
    kept = out.with_name("kept")
    shutil.copytree(out, kept)
    before = files_of(out)
    run(*words, check=status == 0)
    whole = files_of(out)
    assert whole != before
    shutil.rmtree(out)
    kept.rename(out)
    failures = 0
    for free in levels:
        disk.leave(free)
        done = run(*words, check=False)
        if done.returncode == status:
            continue
        check_failure(done)
        failures += 1
        for name, content in files_of(out).items():
            assert content in (whole.get(name), before.get(name)), f"{name} is half written with {free} bytes of room"
    disk.make_room()
    assert run(*words, check=False).returncode == status
    assert files_of(out) == whole
    return failures
