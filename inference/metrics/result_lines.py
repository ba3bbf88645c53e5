"""Lines of results → rows of the prediction table: what can be evaluated, what cannot, and why.

    read = read_piece(Piece(Path("merged.jsonl"), 0, size))
    read.table     # one row per result that can be evaluated
    read.failed    # the other lines

What is wrong with a line is decided by the rules that data files are read by.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from inference.common.json_lines import BYTE_ORDER_MARK, decode_line, describe
from inference.data.fields import check_labels
from inference.data.reasoning_facts import read_facts
from inference.data.records import RecordError, content_id
from inference.data.vecbench import canonical_task
from inference.metrics.prediction_table import prediction_table
from inference.runs.shards import error_of

PIECE_BYTES = 8 * 2**20


class NotResults(ValueError):
    """A file that holds no result that can be evaluated."""


class Piece(NamedTuple):
    """Whole lines of a file, from byte ``start`` to byte ``end``."""

    path: Path
    start: int
    end: int


class PieceResult(NamedTuple):
    """What some lines hold.

    Attributes:
        table: ``prediction_table`` with ``line`` (its bytes), ``line_number`` (from 0), ``named`` (it has a
            sample_id of its own) and ``position`` (-1 without one).
        failed: (number, line) of each line that cannot be evaluated.
        notices: what must accompany any number of these results, such as that data or model is synthetic.
        models: names of the models that gave these results.
        candidates: task → its candidates, in the order of the first record that has them, then of the others.
        n_lines: all lines, empty ones included.
    """

    table: pd.DataFrame
    failed: list[tuple[int, bytes]]
    notices: set[str]
    models: set[str]
    candidates: dict[str, list[str]]
    n_lines: int


def pieces_of(path: Path, size: int = PIECE_BYTES) -> Iterator[Piece]:
    """The file in pieces of whole lines, each of about ``size`` bytes: processes share the reading of a large one."""
    total = path.stat().st_size
    with open(path, "rb") as handle:
        start = 0
        while start < total:
            handle.seek(min(start + size, total))
            handle.readline()
            end = min(handle.tell(), total)
            yield Piece(path, start, end)
            start = end


def check_result(result: Any, source: str, line_number: int) -> str | None:
    """What keeps a result line from being evaluated, or None when it can be."""

    def fail(field: str, expected: str):
        raise RecordError(source, line_number, field, expected)

    if isinstance(result, dict) and (error := error_of(result)) is not None:
        return str(error)
    try:
        check_labels(result, fail)
        read_facts(result, fail)
        if not isinstance(result.get("response"), str):
            fail("response", f"the model's text, got {describe(result.get('response'))}")
    except RecordError as error:
        return str(error)
    return None


def _name(result: dict[str, Any]) -> str:
    """The sample id of a line without one: its ``id``, or one of its content."""
    stated = (result.get("sample_id"), result.get("id"))
    return next((str(name) for name in stated if isinstance(name, (str, int)) and name != ""), None) or content_id(
        result
    )


def read_lines(lines: list[bytes]) -> PieceResult:
    """Everything that evaluation needs of some lines."""
    places, failed = [], []
    notices, models, candidates = set(), set(), {}

    def evaluable() -> Iterator[dict[str, Any]]:  # one at a time: decoded lines take ten times the space of their rows
        for number, line in enumerate(map(bytes.rstrip, lines)):
            if not line:
                continue
            result, problem = decode_line(line)
            if problem is not None or check_result(result, "", 0) is not None:
                failed.append((number, line))
                continue
            named = isinstance(result.get("sample_id"), str)
            if not named:
                result["sample_id"] = _name(result)
            position = result.get("position")
            places.append((line, number, named, position if type(position) is int else -1))
            notices.update(result[key] for key in ("notice", "model_notice") if isinstance(result.get(key), str))
            if isinstance(result.get("model"), str):
                models.add(result["model"])
            candidates.setdefault(canonical_task(result["task"]), {}).update(dict.fromkeys(result["candidates"]))
            yield result

    table = prediction_table(evaluable())
    columns = ["line", "line_number", "named", "position"]
    table[columns] = pd.DataFrame(places, columns=columns)
    labels = {task: list(named) for task, named in candidates.items()}
    return PieceResult(table, failed, notices, models, labels, len(lines))


def read_piece(piece: Piece) -> PieceResult:
    """``read_lines`` of a piece.

    Raises:
        OSError: when the file cannot be read.
    """
    with open(piece.path, "rb") as handle:
        handle.seek(piece.start)
        content = handle.read(piece.end - piece.start)
    if piece.start == 0:
        content = content.removeprefix(BYTE_ORDER_MARK)
    return read_lines(content.removesuffix(b"\n").split(b"\n"))
