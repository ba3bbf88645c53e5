"""What a process died of, from its log: the one line that matters, not the forty around it.

``last_words`` gives what a process ended with, ``with_advice`` which setting helps where memory is short. vLLM's
engine runs in processes of its own; when one of them dies, its parent knows no more than "See root cause above". What
is above is the child's traceback, in the same log, each line under the child's name: ``OwnLog`` reads it there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from inference.common.terminal import printable

COLOUR = re.compile(r"\x1b\[[\d;]*m")
CHILD = re.compile(r"(?:\(\S+ pid=\d+\) )+")  # "(EngineCore_DP0 pid=123) ": how vLLM begins a child's lines
LOGGED = re.compile(r"[A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[\S+\] ")  # "ERROR 11-26 20:31:05 [core.py:708] "
TRACEBACK = "Traceback (most recent call last):"
ELSEWHERE = re.compile(r"root cause|stack trace", re.IGNORECASE)  # an error that only says that there is another one
LAST_WORDS = "inference failed: "
LONGEST = 1000
# How vLLM and torch say that memory is short, and which setting helps; of several that match, the first.
MEMORY = (
    ("less than desired GPU memory utilization", "lower --gpu_memory_utilization, or end what else uses the GPU"),
    ("No available memory for the cache blocks", "raise --gpu_memory_utilization or lower --max_num_seqs"),
    ("KV cache is needed, which is larger", "raise --gpu_memory_utilization or lower --max_model_len"),
    ("out of memory", ""),  # by the engine
)
VLLM_OUT_OF_MEMORY = "lower --gpu_memory_utilization, beside whose share it needs some more, or --max_num_seqs"
TRANSFORMERS_OUT_OF_MEMORY = "lower --max_num_seqs or --max_pixels, or end what else uses the GPU"


def exceptions(text: str) -> Iterator[tuple[str, str]]:
    """(child's name and pid, empty for the log's own process; the exception's line) of each traceback, in order."""
    inside: set[str] = set()
    for line in COLOUR.sub("", text).splitlines():
        found = CHILD.match(line)
        process = found[0] if found else ""
        line = LOGGED.sub("", line[len(process) :], count=1)
        if line.startswith(TRACEBACK):
            inside.add(process)
        elif process in inside and line and not line[0].isspace():
            inside.discard(process)
            yield process.strip(), line.strip()


def child_cause(text: str) -> str | None:
    """The exception that a child of the log's process died of; None when the log has none.

    The first child to die takes its parents along: what these say comes later.
    """
    found = [(process, line) for process, line in exceptions(text) if process and not ELSEWHERE.search(line)]
    if not found:
        return None
    process = found[0][0]
    line = [line for other, line in found if other == process][-1]
    return f"{line} {process}"


def engine_cause(error: BaseException, text: str) -> str:
    """What an engine died of: the exception of its own process in the log ``text``, otherwise ``error``.

    Where ``error`` refers to a cause that no traceback gives (a library ended the process), the last line follows.
    """
    if cause := child_cause(text):
        return printable(cause)[:LONGEST]
    known = f"{type(error).__name__}: {error}"
    last = last_line(text)
    return f"{known} The last line before that: {printable(last)}" if last and ELSEWHERE.search(known) else known


def with_advice(cause: str, out_of_memory: str) -> str:
    """The cause and, when it is too little memory, which setting to change; ``out_of_memory`` is the engine's own."""
    for said, advice in MEMORY:
        if said in cause:
            return f"{cause.rstrip('. ')}. Too little memory: {advice or out_of_memory}."
    return cause


def last_line(text: str) -> str:
    """The last line of a log that says anything."""
    lines = (line.strip() for line in reversed(COLOUR.sub("", text).splitlines()))
    return next(filter(None, lines), "")


def last_words(text: str) -> str:
    """What the log's own process says it ended with; libraries may chat on after that."""
    said = [line for line in text.splitlines() if line.startswith(LAST_WORDS)]
    raised = [line for process, line in exceptions(text) if not process]
    return printable([*raised, *said][-1] if raised or said else last_line(text))[:LONGEST]


class OwnLog:
    """What this process and its children write from now on, as far as it goes into a file (Linux)."""

    def __init__(self):
        self.begin = {}  # (device, inode) → (descriptor, size): both streams may go into one file
        for descriptor in (1, 2):
            try:
                status = os.fstat(descriptor)
            except OSError:  # closed
                continue
            if stat.S_ISREG(status.st_mode):
                self.begin.setdefault((status.st_dev, status.st_ino), (descriptor, status.st_size))

    def text(self) -> str:
        """All of it, empty where it goes to a terminal or a pipe."""
        written = []
        for descriptor, size in self.begin.values():
            try:
                with open(f"/proc/self/fd/{descriptor}", "rb") as handle:
                    handle.seek(size)
                    written.append(handle.read().decode("utf-8", "replace"))
            except OSError:
                continue
        return "\n".join(written)
