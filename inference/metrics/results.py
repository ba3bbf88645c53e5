"""A run's results as one table, whatever their number: read by pieces, in parallel, lines left on disk.

    results = read_shards(Path("infer_results/my_run"))
    results.table        # one row a sample, see protocols.prediction_table
    results.failed       # a dict a sample that has no usable response, with its ``error``

Memory: the table (about 0.5 kB a row) and one piece of lines a process. Nothing is dropped: a
line that cannot be evaluated is in ``failed``, with file, line, field and what was expected, and what is
doubtful is in ``doubts``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from inference.common.json_lines import decode_line, refuse_other_formats
from inference.data.doubts import Doubts, task_doubt
from inference.data.vecbench import unique_id
from inference.metrics.protocols import prediction_table
from inference.metrics.result_lines import (
    Piece,
    PieceResult,
    candidates_of,
    check_result,
    models_of,
    notices,
    pieces_of,
    read_piece,
)
from inference.metrics.sources import add_sources
from inference.runs.shards import SHARD_PATTERN, is_result, shard_paths, to_line

CUT_OFF = "the response was cut off at the limit of new tokens; raise max_new_tokens and infer anew (overwrite=true)"
NO_CONFIDENCE = "the stated confidence is not one plain number from 0 to 1"
REPEATED = "the sample_id of another line; of each sample the first response counts, as it does among shards"
SAME_CONTENT = "no sample_id, and the id or content of an earlier line; each counts"

SMALL_BYTES = 64 * 2**20  # below it, starting processes costs more than they save


@dataclass
class Results:
    """Everything that evaluation reads of a run.

    Attributes:
        table: ``prediction_table`` with the other confidences' columns; one row an evaluable result.
        failed: the other results, each a dict with ``error``.
        notices: what must stand beside any number of this run (data or model is synthetic).
        known: sample ids of all results, evaluable or failed.
        models: names of the models that answered.
        candidates: task → its labels, in the order of the first record that has them.
        doubts: what was found while reading; ``all_doubts`` has those about the table's rows, too.
    """

    table: pd.DataFrame
    failed: list[dict[str, Any]]
    notices: list[str]
    known: set[str]
    models: list[str] = field(default_factory=list)
    candidates: dict[str, list[str]] = field(default_factory=dict)
    _files: list[Path] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    _memory: list[str] | None = None

    @classmethod
    def of(cls, evaluable: list[dict[str, Any]], failed: list[dict[str, Any]] | None = None) -> Results:
        """From results in memory that were checked already."""
        failed = failed or []
        table = add_sources(prediction_table(evaluable), evaluable)
        known = {str(result.get("sample_id")) for result in evaluable + failed}
        lines = [to_line(result) for result in evaluable]
        noted = notices(evaluable), known, models_of(evaluable), candidates_of(evaluable)
        return cls(table, failed, *noted, _memory=lines)

    def all_doubts(self) -> list[str]:
        """What is doubtful though it can be evaluated, a sentence a kind."""
        table, doubts = self.table, Doubts()

        def add(doubt: str | None, rows: pd.DataFrame) -> None:
            if len(rows):
                doubts.add(doubt, self._place(rows.iloc[0]), len(rows))

        for doubt, rows in table.groupby("label_doubt", sort=False):
            add(doubt, rows)
        for task in table["task"].unique():
            if (doubt := task_doubt(task)) is not None:
                add(doubt, table[table["task"] == task])
        add(CUT_OFF, table[table["cut_off"].to_numpy(dtype=bool)])
        unreadable = table[table["unreadable_confidence"].notna()]
        if len(unreadable):
            add(f"{NO_CONFIDENCE}, such as {unreadable['unreadable_confidence'].iloc[0]!r}", unreadable)
        return self.doubts + doubts.lines()

    def _place(self, row: pd.Series) -> str:
        if self._files:
            return f"{self._files[row['_file']].name}, line {row['_line']}"
        return f"sample {row['sample_id']}"

    def lines(self) -> Iterator[bytes]:
        """The JSON line of each row of the table, in order, without its line break."""
        if self._memory is not None:
            yield from (line.encode("utf-8") for line in self._memory)
            return
        if self.table.empty:
            return
        with ExitStack() as stack:
            # Mapped, not read: in the data's order the lines of several shards take turns.
            maps = {}
            for number in self.table["_file"].unique():
                handle = stack.enter_context(open(self._files[number], "rb"))
                maps[number] = stack.enter_context(mmap(handle.fileno(), 0, access=ACCESS_READ))
            columns = (self.table[name].tolist() for name in ("_file", "_offset", "_length", "_named", "sample_id"))
            for file, offset, length, named, sample_id in zip(*columns, strict=True):
                line = maps[file][offset : offset + length]
                if not named:
                    line = line[:-1].rstrip() + b', "sample_id": ' + to_line(sample_id).encode("utf-8") + b"}"
                yield line


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table of the pieces' tables; equal text is one object."""
    columns = {}
    for name in tables[0].columns:
        parts = [table[name] for table in tables]
        if isinstance(parts[0].dtype, pd.CategoricalDtype):
            known: dict[Any, Any] = {}
            arrays = []
            for part in parts:
                # One more entry for code −1: no value
                texts = np.array([*(known.setdefault(text, text) for text in part.cat.categories), None], dtype=object)
                arrays.append(texts[part.cat.codes.to_numpy()])
            columns[name] = np.concatenate(arrays)
        else:
            columns[name] = np.concatenate([part.to_numpy() for part in parts])
    return pd.DataFrame(columns)


class _Gathered(NamedTuple):
    table: pd.DataFrame  # with ``_file``
    bad: list[tuple[Path, int, bytes]]  # file, line number, line
    notices: list[str]
    models: list[str]
    candidates: dict[str, list[str]]


def _read(paths: list[Path]) -> _Gathered:
    """Whole files, piece by piece; in parallel when that pays."""
    pieces = [piece for path in paths for piece in pieces_of(path)]
    if sum(piece.end - piece.start for piece in pieces) <= SMALL_BYTES:
        return _gather(paths, pieces, map(read_piece, pieces))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(read_piece, pieces)
        return _gather(paths, pieces, tqdm(found, total=len(pieces), desc="read", unit="piece", mininterval=1.0))


def _gather(paths: list[Path], pieces: list[Piece], found: Iterable[PieceResult]) -> _Gathered:
    tables, bad, notes, models, candidates = [], [], set(), set(), {}
    line = dict.fromkeys(paths, 1)
    for piece, read in zip(pieces, found, strict=True):
        read.table["_file"] = paths.index(piece.path)
        if len(read.table):
            read.table["_line"] += line[piece.path]
            tables.append(read.table)
        bad += [(piece.path, line[piece.path] + number, content) for number, content in read.failed]
        line[piece.path] += read.n_lines
        notes.update(read.notices)
        models.update(read.models)
        for task, labels in read.candidates.items():
            candidates.setdefault(task, {}).update(dict.fromkeys(labels))
    table = _joined(tables) if tables else add_sources(prediction_table([]), [])
    return _Gathered(
        table, bad, sorted(notes), sorted(models), {task: list(labels) for task, labels in candidates.items()}
    )


def _failure(path: Path, line_number: int, content: bytes) -> dict[str, Any]:
    """The error record of a line that cannot be evaluated."""
    result, problem = decode_line(content)
    problem = problem or check_result(result, str(path), line_number)
    kept = result if isinstance(result, dict) else {"line": line_number}
    return {**kept, "error": problem}


def read_file(path: Path) -> Results:
    """Every line of one JSON-lines file of results, in the file's order.

    Raises:
        OSError: when the file cannot be read, or is no JSON lines.
    """
    refuse_other_formats(path)
    table, bad, notes, *facts = _read([path])
    doubts = Doubts()
    if len(table):
        table = _each_sample_once(table, doubts)
    answered = set(table["sample_id"])
    failed: dict[Any, dict[str, Any]] = {}
    for bad_path, line_number, content in bad:
        failure = _failure(bad_path, line_number, content)
        name = failure.get("sample_id")
        if not isinstance(name, str):
            failed[line_number] = failure
        elif name in answered or name in failed:
            doubts.add(REPEATED, f"line {line_number}")
        else:
            failed[name] = failure
    known = answered | {str(result.get("sample_id")) for result in failed.values()}
    return Results(table, list(failed.values()), notes, known, *facts, [path], doubts.lines())


def _each_sample_once(table: pd.DataFrame, doubts: Doubts) -> pd.DataFrame:
    """The first row of each sample id that lines state; ids derived for lines without one are made unique."""
    named = table["_named"].to_numpy(dtype=bool)
    ids = table["sample_id"]
    if not ids.duplicated().any():
        return table
    repeated = named & ids.where(named).duplicated().to_numpy(dtype=bool)
    seen = dict.fromkeys(ids[named], 1)
    table["sample_id"] = [name if own else unique_id(name, seen) for name, own in zip(ids, named, strict=True)]
    for doubt, rows in ((REPEATED, repeated), (SAME_CONTENT, (table["sample_id"] != ids).to_numpy(dtype=bool))):
        if rows.any():
            doubts.add(doubt, f"line {table['_line'][rows].iloc[0]}", int(rows.sum()))
    return table[~repeated].reset_index(drop=True)


def read_shards(output_path: Path) -> Results:
    """One result a sample from all shards of a run, in the data's order; a response outweighs an error.

    Torn and foreign lines are passed over, as resume does: their samples count as not inferred.

    Raises:
        FileNotFoundError: when the folder has no shard.
    """
    paths = shard_paths(output_path)
    if not paths:
        raise FileNotFoundError(f"{output_path}: expected result shards ({SHARD_PATTERN}), found none")
    table, bad, notes, *facts = _read(paths)
    if len(table):
        written = table["_named"].to_numpy(dtype=bool) & (table["_position"].to_numpy() >= 0)
        table = table[written].drop_duplicates("sample_id", keep="first")
        table = table.sort_values("_position", kind="stable", ignore_index=True)
    known = set(table["sample_id"])
    failed: dict[str, dict[str, Any]] = {}
    for path, line_number, content in bad:
        result, _ = decode_line(content)
        if is_result(result) and result["sample_id"] not in known:
            failed.setdefault(result["sample_id"], _failure(path, line_number, content))
    ordered = sorted(failed.values(), key=lambda result: result["position"])
    return Results(table, ordered, notes, known | set(failed), *facts, paths)


def read_run(folder: Path) -> Results:
    """The results of a run that was evaluated (its merged.jsonl), or else of its shards.

    Raises:
        OSError: when the folder has neither.
    """
    merged = folder / "merged.jsonl"
    return read_file(merged) if merged.exists() else read_shards(folder)
