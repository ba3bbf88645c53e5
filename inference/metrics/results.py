"""A run's results as one table.

    results = read_shards(Path("infer_results/my_run"))
    results.table        # one row per sample, see prediction_table
    results.failed       # a dict per sample that has no usable response, with its ``error``

Nothing is dropped: a line that cannot be evaluated is in ``failed``, with file, line, field and what was expected,
and what is doubtful is in ``doubts``. The table holds the lines themselves, about 3 kB per row in all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from inference.common.json_lines import decode_line, one_line, to_line
from inference.data.doubts import Doubts, task_doubt
from inference.data.records import unique_id
from inference.data.replacement import replacement_note
from inference.data.response import UNKNOWN, answer_span
from inference.metrics.other_harnesses import harness_lines
from inference.metrics.result_lines import PieceResult, check_result, pieces_of, read_lines, read_piece
from inference.runs.shards import SHARD_PATTERN, is_result, shard_paths

CUT_OFF = "the response was cut off at the limit of new tokens; raise max_new_tokens and infer anew (overwrite=true)"
NO_ANSWER = "no <answer> outside the reasoning: by the corrected protocol it is no answer, whatever else it says"
NO_CANDIDATE = "the answer names none of the candidates, or several, and counts as wrong by the corrected protocol"
NO_CONFIDENCE = "the stated confidence is not one plain number from 0 to 1"
REPEATED = "the sample_id of another line; of each sample the first response counts, as it does among shards"
SAME_CONTENT = "no sample_id, and the id or content of an earlier line; each counts"

SMALL_BYTES = 64 * 2**20  # below it, starting processes costs more than they save


@dataclass
class Results:
    """Everything that evaluation reads of a run.

    Attributes:
        table: ``prediction_table`` with each result's line and place (``result_lines.PieceResult``), and its ``file``,
            an index into ``files``.
        failed: the other results, each a dict with ``error``.
        notices, models, candidates: see ``result_lines.PieceResult``.
        known: sample ids of all results, evaluable or failed.
        doubts: what was found while reading; ``all_doubts`` has those about the table's rows, too.
    """

    table: pd.DataFrame
    failed: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    candidates: dict[str, list[str]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def all_doubts(self) -> list[str]:
        """What is doubtful though it can be evaluated, a sentence per kind."""
        table, doubts = self.table, Doubts()

        def add(doubt: str | None, rows: pd.DataFrame) -> None:
            if len(rows):
                first = rows.iloc[0]
                doubts.add(doubt, f"{self.files[first['file']].name}, line {first['line_number']}", len(rows))

        for doubt, rows in table.groupby("label_doubt", sort=False):
            add(doubt, rows)
        for task in table["task"].unique():
            if (doubt := task_doubt(task)) is not None:
                add(doubt, table[table["task"] == task])
        cut_off, answered = (table[name].to_numpy(dtype=bool) for name in ("cut_off", "answered"))
        add(CUT_OFF, table[cut_off])
        add(NO_ANSWER, table[~answered & ~cut_off])
        unnamed = table[answered & (table["label"] == UNKNOWN).to_numpy()]
        if len(unnamed):
            add(f"{NO_CANDIDATE}, such as {_stated_answer(unnamed['line'].iloc[0])!r}", unnamed)
        unreadable = table[table["unreadable_confidence"].notna()]
        if len(unreadable):
            add(f"{NO_CONFIDENCE}, such as {unreadable['unreadable_confidence'].iloc[0]!r}", unreadable)
        return self.doubts + self._several_models() + doubts.lines()

    def _several_models(self) -> list[str]:
        names = [one_line(name, 60) for name in self.models]
        return [f"answers of {len(names)} models in one table: {', '.join(names)}"] if len(names) > 1 else []

    def lines(self) -> Iterator[bytes]:
        """The JSON line of each row of the table, in order, without its line break."""
        for line, named, sample_id in zip(*(self.table[name] for name in ("line", "named", "sample_id")), strict=True):
            yield line if named else line[:-1].rstrip() + b', "sample_id": ' + to_line(sample_id).encode() + b"}"


def _stated_answer(line: bytes) -> str:
    """What is in the first ``<answer>`` of a result's line, in lower case, shortened."""
    response = decode_line(line)[0]["response"].lower()
    return one_line(response[slice(*(answer_span(response) or (0, 0)))].strip(), 60)


# File, line number and content of a line that cannot be evaluated.
Failure = tuple[Path, int, bytes]


def _joined(paths: list[Path], parts: Iterable[tuple[Path, PieceResult]]) -> tuple[Results, list[Failure]]:
    """The parts of whole files, in the files' order."""
    results, failures, tables = Results(read_lines([]).table, files=paths), [], []
    notices, models = set(), set()
    next_line = dict.fromkeys(paths, 1)
    for path, read in parts:
        first = next_line[path]
        next_line[path] += read.n_lines
        failures += [(path, first + number, line) for number, line in read.failed]
        if len(read.table):
            tables.append(read.table.assign(file=paths.index(path)))
            tables[-1]["line_number"] += first
        notices |= read.notices
        models |= read.models
        for task, labels in read.candidates.items():
            known = results.candidates.get(task, [])
            results.candidates[task] = list(dict.fromkeys([*known, *labels]))
    if tables:
        results.table = pd.concat(tables, ignore_index=True)
    replaced = replacement_note(set(results.table["replaced"]))
    results.notices, results.models = [*([replaced] if replaced else []), *sorted(notices)], sorted(models)
    return results, failures


def _read(paths: list[Path]) -> tuple[Results, list[Failure]]:
    """Whole files, piece by piece; in parallel when that pays."""
    pieces = [piece for path in paths for piece in pieces_of(path)]
    parallel = sum(piece.end - piece.start for piece in pieces) > SMALL_BYTES
    with ProcessPoolExecutor(os.cpu_count() if parallel else 1) as pool:  # starts no process before there is work
        found = pool.map(read_piece, pieces) if parallel else map(read_piece, pieces)
        bar = tqdm(found, total=len(pieces), desc="read", unit="piece", mininterval=1.0, disable=not parallel)
        return _joined(paths, ((piece.path, read) for piece, read in zip(pieces, bar, strict=True)))


def _failed_result(path: Path, line_number: int, line: bytes) -> dict[str, Any]:
    """The error record of a line that cannot be evaluated."""
    result, problem = decode_line(line)
    problem = problem or check_result(result, str(path), line_number)
    return {**(result if isinstance(result, dict) else {"line": line_number}), "error": problem}


def read_file(path: Path, data_path: Path | None = None) -> Results:
    """Every line of one JSON-lines file of results, in the file's order; or of what another harness wrote.

    Args:
        data_path: the records that the rows of another harness are matched with (``harness_lines``).

    Raises:
        OSError: when a file cannot be read, or is no JSON lines.
        NotResults: for a table, or a JSON array, that is none of a harness that is known.
    """
    lines_of_others = harness_lines(path, data_path)
    if lines_of_others is None:
        results, failures = _read([path])
    else:
        results, failures = _joined([path], [(path, read_lines(lines_of_others))])
    doubts = Doubts()
    results.table = _each_sample_once(results.table, doubts)
    answered = set(results.table["sample_id"])
    failed: dict[Any, dict[str, Any]] = {}
    for failure in failures:
        result, line_number = _failed_result(*failure), failure[1]
        name = result.get("sample_id")
        if not isinstance(name, str):
            failed[line_number] = result
        elif name in answered or name in failed:
            doubts.add(REPEATED, f"line {line_number}")
        else:
            failed[name] = result
    results.failed, results.doubts = list(failed.values()), doubts.lines()
    results.known = answered | {str(result.get("sample_id")) for result in results.failed}
    return results


def _each_sample_once(table: pd.DataFrame, doubts: Doubts) -> pd.DataFrame:
    """The first row of each sample id that lines state; ids derived for lines without one are made unique."""
    ids = table["sample_id"]
    if not ids.duplicated().any():
        return table
    named = table["named"].to_numpy(dtype=bool)
    repeated = named & ids.where(named).duplicated().to_numpy(dtype=bool)
    seen = dict.fromkeys(ids[named], 1)
    table["sample_id"] = [name if own else unique_id(name, seen) for name, own in zip(ids, named, strict=True)]
    for doubt, rows in ((REPEATED, repeated), (SAME_CONTENT, (table["sample_id"] != ids).to_numpy(dtype=bool))):
        if rows.any():
            doubts.add(doubt, f"line {table['line_number'][rows].iloc[0]}", int(rows.sum()))
    return table[~repeated].reset_index(drop=True)


def read_shards(output_path: Path) -> Results:
    """One result per sample from all shards of a run, in the data's order; a response outweighs an error.

    Torn and foreign lines are passed over, as resume does: their samples count as not inferred.

    Raises:
        FileNotFoundError: when the folder has no shard.
    """
    paths = shard_paths(output_path)
    if not paths:
        raise FileNotFoundError(f"{output_path}: expected result shards ({SHARD_PATTERN}), found none")
    results, failures = _read(paths)
    written = results.table["named"].to_numpy(dtype=bool) & (results.table["position"].to_numpy() >= 0)
    table = results.table[written].drop_duplicates("sample_id", keep="first")
    results.table = table.sort_values("position", kind="stable", ignore_index=True)
    results.known = set(results.table["sample_id"])
    failed: dict[str, dict[str, Any]] = {}
    for path, line_number, line in failures:
        result, _ = decode_line(line)
        if is_result(result) and result["sample_id"] not in results.known:
            failed.setdefault(result["sample_id"], _failed_result(path, line_number, line))
    results.failed = sorted(failed.values(), key=lambda result: result["position"])
    results.known |= set(failed)
    return results


def read_run(folder: Path) -> Results:
    """The results of a run that was evaluated (its merged.jsonl), or else of its shards.

    Raises:
        OSError: when the folder has neither.
    """
    merged = folder / "merged.jsonl"
    return read_file(merged) if merged.exists() else read_shards(folder)
