"""Files that one process at a time holds, with its pid in them.

with hold(folder / "job.lock"): ...
"""

from __future__ import annotations

import fcntl
import time
from os import getpid
from pathlib import Path
from typing import IO

from inference.common.storage import naming

PID_SECONDS = 1.0  # how long to wait for a pid that its process is about to write


class Held(RuntimeError):
    """Another process holds the file; the text is its pid, or "unknown"."""


def hold(path: str | Path) -> IO[str]:
    """Lock the file for this process until what is returned is closed, at the latest until the process ends.

    Raises:
        Held: when another process has it.
        OSError: naming the file, when it cannot be written.
    """
    with naming(path):
        lock = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the caller closes it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with lock:
                raise Held(_pid_in(lock)) from None
        lock.truncate(0)
        lock.write(f"{getpid()}\n")
        lock.flush()
    return lock


def check_free(path: str | Path) -> None:
    """Check that no process holds the file, without holding it afterwards.

    Raises:
        Held: when one does.
        OSError: when the file cannot be opened.
    """
    with open(path, "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(_pid_in(lock)) from None


def _pid_in(lock: IO[str]) -> str:
    """The holder's pid. Just after it was locked, the file may still be empty or name a process that has ended."""
    end = time.monotonic() + PID_SECONDS
    while True:
        lock.seek(0)
        pid = lock.read().strip()
        if (pid and Path("/proc", pid).exists()) or time.monotonic() > end:
            return pid or "unknown"
        time.sleep(0.01)
