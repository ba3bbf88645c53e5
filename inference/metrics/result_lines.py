"""Pieces of a file of results, each read by itself: what evaluation needs of each line, as a table.

    for piece in pieces_of(Path("merged.jsonl")):
        read = read_piece(piece)
        read.table     # one row a result that can be evaluated
        read.failed    # the other lines

What is evaluable and what is wrong with a line is decided by the rules that data files are read by.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from inference.common.json_lines import BYTE_ORDER_MARK, decode_line, describe
from inference.data.vecbench import RecordError, canonical_task, check_labels, content_id
from inference.metrics.protocols import prediction_table
from inference.metrics.sources import add_sources
from inference.runs.shards import error_of

PIECE_BYTES = 8 * 2**20


class Piece(NamedTuple):
    """Whole lines of a file, from byte ``start`` to byte ``end``."""

    path: Path
    start: int
    end: int


class PieceResult(NamedTuple):
    """What a piece holds.

    Attributes:
        table: ``prediction_table`` with the other confidences' columns and each line's place.
        failed: (line in the piece from 0, the line) of what cannot be evaluated.
        notices, models, candidates: see the functions of these names.
        n_lines: all lines, empty ones included.
    """

    table: pd.DataFrame
    failed: list[tuple[int, bytes]]
    notices: list[str]
    models: list[str]
    candidates: dict[str, list[str]]
    n_lines: int


def pieces_of(path: Path, size: int = PIECE_BYTES) -> Iterator[Piece]:
    """The file in pieces of whole lines, each of about ``size`` bytes."""
    total = path.stat().st_size
    with open(path, "rb") as handle:
        start = 0
        while start < total:
            handle.seek(min(start + size, total))
            handle.readline()
            end = min(handle.tell(), total)
            yield Piece(path, start, end)
            start = end


def notices(results: Iterable[dict[str, Any]]) -> list[str]:
    """What must stand beside any number of these results: that data or model is synthetic, for instance."""
    keys = ("notice", "model_notice")
    return sorted({result[key] for result in results for key in keys if isinstance(result.get(key), str)})


def models_of(results: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the models that gave these results."""
    return sorted({result["model"] for result in results if isinstance(result.get("model"), str)})


def candidates_of(results: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """task → its candidates, in the order of the first record that has them, then of the others."""
    found: dict[str, dict[str, None]] = {}
    for task, labels in dict.fromkeys((result["task"], tuple(result["candidates"])) for result in results):
        found.setdefault(canonical_task(task), {}).update(dict.fromkeys(labels))
    return {task: list(labels) for task, labels in found.items()}


# Keys of other evaluators' files of answers → what such a file is, and what a line of it lacks.
OTHER_EVALUATORS = {
    ("doc_id", "resps"): "samples that lmms-eval logged: target is ground_truth, filtered_resps[0] is response",
    (
        "index",
        "prediction",
    ): "predictions of VLMEvalKit: prediction is response, the text of the right option ground_truth",
}


def foreign_results(result: dict[str, Any]) -> str | None:
    """What another evaluator's line is, and how to make it one that can be evaluated; None for any other line."""
    for keys, kind in OTHER_EVALUATORS.items():
        if result.keys() >= set(keys):
            return (
                "expected one JSON object a line with task, candidates, ground_truth and response, "
                f"found {kind}; rename these and add task and candidates"
            )
    return None


def check_result(result: Any, source: str, line_number: int) -> str | None:
    """What keeps a result line from being evaluated, or None when it can be."""

    def fail(field: str, expected: str):
        raise RecordError(source, line_number, field, expected)

    if isinstance(result, dict) and (error := error_of(result)) is not None:
        return str(error)
    try:
        check_labels(result, fail)
        if not isinstance(result.get("response"), str):
            fail("response", f"the model's text, got {describe(result.get('response'))}")
    except RecordError as error:
        return str(error)
    return None


@contextmanager
def _collection_paused() -> Iterator[None]:
    """No search for cycles meanwhile: decoded lines have none, and looking costs as much as all else together."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collection_paused()
def read_piece(piece: Piece) -> PieceResult:
    """Everything that evaluation needs of a piece's lines.

    Raises:
        OSError: when the file cannot be read.
    """
    evaluable, places, failed = [], [], []
    with open(piece.path, "rb") as handle:
        handle.seek(piece.start)
        lines = handle.read(piece.end - piece.start).split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    offset = piece.start
    for number, line in enumerate(lines):
        start, offset = offset, offset + len(line) + 1
        mark = len(BYTE_ORDER_MARK) if start == 0 and line.startswith(BYTE_ORDER_MARK) else 0
        content = line[mark:].rstrip()
        if not content.strip():
            continue
        result, problem = decode_line(content)
        if problem is not None or check_result(result, "", 0) is not None:
            failed.append((number, content))
            continue
        named = isinstance(result.get("sample_id"), str)
        if not named:
            stated = (result.get("sample_id"), result.get("id"))
            own = next((str(name) for name in stated if isinstance(name, (str, int)) and name != ""), None)
            result["sample_id"] = content_id(result) if own is None else own
        position = result.get("position")
        known_position = position if isinstance(position, int) and not isinstance(position, bool) else -1
        places.append((start + mark, len(content), named, known_position, number))
        evaluable.append(result)
    table = add_sources(prediction_table(evaluable), evaluable)
    for name, values in zip(
        ("_offset", "_length", "_named", "_position", "_line"), zip(*places, strict=True), strict=False
    ):
        table[name] = np.array(values)
    # As categories the text of a column crosses the process boundary once.
    for name in table.select_dtypes(object).columns.drop(["sample_id", "image"]):
        table[name] = table[name].astype("category")
    noted = notices(evaluable), models_of(evaluable), candidates_of(evaluable)
    return PieceResult(table, failed, *noted, len(lines))
