"""JSON lines from anywhere: each line is decoded, or said in one short line what is wrong with it.

Standard library only. Reading survives every line; a file that is something else altogether (gzip,
parquet, a JSON array) is refused as a whole, because a million broken lines would say less.

    from inference.common.json_lines import read_lines
    for line_number, value, problem in read_lines("input_data/test_8k.jsonl"): ...
"""

from __future__ import annotations

import json
import re
import reprlib
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, NoReturn

MAX_DEPTH = 100  # levels of lists and objects; far deeper ones end json's own recursion, somewhere later
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# How files begin that are met in place of JSON lines, what they are, and what helps.
OTHER_FORMATS = {
    b"\x1f\x8b": ("a gzip file", "gunzip it"),
    b"BZh": ("a bzip2 file", "bunzip2 it"),
    b"\xfd7zXZ\x00": ("an xz file", "unxz it"),
    b"\x28\xb5\x2f\xfd": ("a Zstandard file", "unzstd it"),
    b"PK\x03\x04": ("a zip archive", "unzip it"),
    b"PAR1": ("a parquet file", "give it a name that ends in .parquet where parquet is read, or convert it"),
    b"\xff\xfe": ("UTF-16 text", "iconv -f UTF-16 -t UTF-8 converts it"),
    b"\xfe\xff": ("UTF-16 text", "iconv -f UTF-16 -t UTF-8 converts it"),
    b"version https://git-lfs": ("a Git LFS pointer", "git lfs pull fetches the file"),
}


def refuse(field: str, expected: str) -> NoReturn:
    """What a check calls that has no file and line to name.

    Raises:
        ValueError: naming the field and what was expected there.
    """
    raise ValueError(f"field '{field}': expected {expected}")


class NotJsonLines(OSError):
    """A file that holds something else; the message names the file, what it holds, and what helps."""


def one_line(text: str, limit: int = 200) -> str:
    """``text`` cut to ``limit`` characters, and what is not printable escaped: fit for a message or a log."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 3
_BRIEF.maxstring = _BRIEF.maxlong = _BRIEF.maxother = 60


def describe(value: Any, limit: int = 60) -> str:
    """A short, one-line rendering of a bad value for an error message, whatever its size and depth."""
    return f"{len(value)} bytes" if isinstance(value, (bytes, bytearray)) else one_line(_BRIEF.repr(value), limit)


def too_deep(value: Any, line: bytes | str) -> bool:
    """Whether the value that ``line`` holds has more than ``MAX_DEPTH`` levels."""
    brackets = (b"[", b"{") if isinstance(line, bytes) else ("[", "{")
    if sum(map(line.count, brackets)) <= MAX_DEPTH:  # nearly always, and quick
        return False
    layer = [value]
    for _ in range(MAX_DEPTH + 1):
        outer = [item for item in layer if isinstance(item, (dict, list))]
        layer = [inner for item in outer for inner in (item.values() if isinstance(item, dict) else item)]
    return bool(outer)


def decode_line(line: bytes) -> tuple[Any, str | None]:
    """(value, None) of one JSON line, or (None, what is wrong with it)."""
    deep = f"expected one JSON object, got more than {MAX_DEPTH} levels of lists and objects"
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return None, f"expected UTF-8 text, {error.reason} at byte {error.start}"
    except json.JSONDecodeError as error:
        return None, f"expected one JSON object, {one_line(error.msg)} at column {error.colno}"
    except RecursionError:
        return None, deep
    except ValueError:  # int() refuses what would take it quadratic time
        return None, f"expected numbers of at most {sys.get_int_max_str_digits()} digits, got a longer one"
    return (None, deep) if too_deep(value, line) else (value, None)


def invalid_byte(text: str) -> str | None:
    """What is wrong with text that was read with ``errors="surrogateescape"``; None when it was UTF-8."""
    invalid = None if text.isascii() else re.search("[\udc80-\udcff]", text)
    if invalid is None:
        return None
    return f"expected UTF-8 text, got the byte 0x{ord(invalid[0]) - 0xDC00:02x}: iconv -f CP1252 -t UTF-8 converts it"


def refuse_binary(path: str | Path, expected: str = "JSON lines") -> None:
    """Raises NotJsonLines when the file begins like one of ``OTHER_FORMATS``."""
    with open(path, "rb") as handle:
        head = handle.read(32)
    for magic, (kind, help_text) in OTHER_FORMATS.items():
        if head.startswith(magic):
            raise NotJsonLines(f"{path}: expected {expected}, found {kind}: {help_text}")


def _other_lines(lines: IO[bytes]) -> str | None:
    """What the lines are when they are not one JSON object each, and what helps."""
    filled = (line.removeprefix(BYTE_ORDER_MARK).strip() for line in lines)
    first, second = [*islice(filter(None, filled), 2), b"", b""][:2]
    # A single broken line is for its reader to report: the file is refused when the next one fits, too.
    if re.match(rb"\[\s*(\{|$)", first) and not isinstance(decode_line(second)[0], dict):
        return "a JSON array: jq -c '.[]' makes lines of it"
    if not second and re.search(rb"\}\s*\r\s*\{", first):
        return "lines that end with a lone CR: tr '\\r' '\\n' converts them"
    return None


def refuse_other_formats(path: str | Path) -> None:
    """Raises NotJsonLines when the file is no JSON lines at all."""
    refuse_binary(path)
    with open(path, "rb") as lines:
        problem = _other_lines(lines)
    if problem:
        raise NotJsonLines(f"{path}: expected JSON lines, found {problem}")


def read_lines(path: str | Path) -> Iterator[tuple[int, Any, str | None]]:
    """Decode a JSON-lines file: (line number, value, None), or (line number, None, what is wrong).

    Empty lines are passed over; a byte-order mark, CRLF and invalid UTF-8 are survived.

    Raises:
        OSError: when the file cannot be read.
        NotJsonLines: when it is another kind of file.
    """
    refuse_other_formats(path)
    with open(path, "rb") as lines:
        for line_number, line in enumerate(lines, 1):
            if line_number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if not line.strip():
                continue
            value, problem = decode_line(line)
            yield line_number, value, problem


def to_line(result: Any, default: Callable[[Any], Any] | None = None) -> str:
    """One JSON line without its line break. Text that UTF-8 cannot hold is escaped; ``default`` as json has it."""
    text = json.dumps(result, ensure_ascii=False, default=default)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(result, default=default)
    return text
