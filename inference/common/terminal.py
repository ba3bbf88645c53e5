"""What is shown on a terminal: text of data, models and servers without what would steer it, and without secrets.

    from inference.common.terminal import plain_output, printable
    plain_output()                      # first line of a command's main(): all that it prints from here on
    print(printable(label))             # one line, where the text of a label must not look like several

An escape sequence in a label could otherwise rewrite what is on the screen, a line break could feign
a log line, and a server's error message could repeat the key that it was sent.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import Any, TextIO

from inference.common.redaction import redact

REPLACEMENT = "\ufffd"
LINES = frozenset("\n\t")
PROGRESS = frozenset("\n\t\r")  # a progress bar returns to the line's beginning


def plain(text: str, allowed: frozenset[str] = LINES) -> str:
    """``text`` with every character that is not printable replaced, but for those in ``allowed``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in allowed else REPLACEMENT for char in text)


def printable(text: str) -> str:
    """``text`` in one line."""
    return plain(" ".join(text.split()))


def can_show(text: str) -> bool:
    """Whether the encoding of stdout has all characters of ``text``."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


class PlainStream:
    """A text stream that everything is written to as ``plain`` text without secrets."""

    def __init__(self, stream: TextIO, allowed: frozenset[str]):
        self._stream, self._allowed = stream, allowed

    def write(self, text: str) -> int:
        self._stream.write(plain(redact(text), self._allowed))
        return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def plain_output(*, errors_only: bool = False) -> None:
    """Pass what this process prints through a ``PlainStream``; errors_only: stdout, which vLLM colours, stays.

    Both keep the terminal's encoding: a character that it does not have is written as its escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, PlainStream):
        sys.stderr = PlainStream(sys.stderr, PROGRESS)
    if not errors_only and not isinstance(sys.stdout, PlainStream):
        sys.stdout = PlainStream(sys.stdout, LINES)


class PlainFormatter(logging.Formatter):
    """Log records without secrets and control characters; further lines of a message are indented, tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(redact(super().format(record))).replace("\n", "\n    ")


def start_logging() -> None:
    """Log to stderr, as plain text without secrets; so is what this process ends with."""
    plain_output(errors_only=True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for library in ("httpx", "httpx2"):  # one line per request
        logging.getLogger(library).setLevel(logging.WARNING)
