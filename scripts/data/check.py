"""Check test and training files before anything expensive reads them.

    python -m scripts.data.check input_data/test_8k.jsonl
    python -m scripts.data.check input_data/VEC-CoT/stage2_43k_w_conf.jsonl --expect stage2 \\
        --tokenizer Qwen/Qwen2.5-VL-7B-Instruct
    python -m scripts.data.check stage1.jsonl --fix --output_dir checked

Reads every layout of ``scripts.data.samples``, a window of rows at a time, and opens every image, in
parallel. Prints what is wrong by task, with the first rows of each kind, and the counts beside the
published ones; rows that name the data set they come from (``source``, ``dataset``) are counted by it,
too. What is unusual but makes no row bad follows as remarks. ``--fix`` writes good rows as they
are to <name>.good.jsonl (parquet stays parquet) and bad ones with their reasons to <name>.bad.jsonl.
Exit status 0: no row is bad; 1: some are, or the counts are not those of ``--expect``; 2: a file could not be read.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from inference.common.json_lines import describe, one_line, refuse_other_formats
from inference.common.storage import explain
from inference.common.terminal import plain_output
from inference.data.images import PixelBudget, add_image_root_argument, data_images
from inference.data.vecbench import TASKS
from scripts.data.checks import EXPECTATIONS, Checker
from scripts.data.row_writer import row_writer
from scripts.data.samples import BrokenSample, Sample, images_in, read_samples

WINDOW = 512  # rows read ahead and checked together: what is held in memory
SHOWN = 3  # rows named for each kind of problem
SOURCE_KEYS = ("source", "dataset", "data_source")  # where a row may say what data set it comes from

Found = list[tuple[str, str]]  # (kind, text)

_checker: Checker | None = None


def _start_worker(checker: Checker) -> None:
    global _checker
    _checker = checker


def _check(item: Sample | BrokenSample) -> tuple[Found, Found]:
    if isinstance(item, BrokenSample):
        return [("unreadable", item.error)], []
    return _checker.problems(item), _checker.remarks(item)


def checked_rows(path: Path, checker: Checker, processes: int) -> Iterator[tuple[Any, tuple[Found, Found]]]:
    """(sample or broken sample, (its problems, remarks on it)) for every row, in order."""
    rows = read_samples(path)
    # Not forked: the tokenizer's threads do not survive a fork.
    with get_context("spawn").Pool(processes, _start_worker, (checker,)) as pool:
        while window := list(itertools.islice(rows, WINDOW)):
            yield from zip(window, pool.map(_check, window, chunksize=16), strict=True)


def source_of(sample: Sample | BrokenSample) -> str | None:
    """The data set that a row says it comes from."""
    raw = sample.raw if isinstance(sample.raw, dict) else {}
    return next((raw[key] for key in SOURCE_KEYS if isinstance(raw.get(key), str) and raw[key]), None)


class Kinds:
    """How often each kind of finding was met by task, and its first rows."""

    def __init__(self):
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.examples: dict[str, list[str]] = defaultdict(list)

    def add(self, line_number: int, task: str, found: Found) -> None:
        for kind, text in found:
            self.counts[kind][task] += 1
            if len(self.examples[kind]) < SHOWN:
                self.examples[kind].append(f"line {line_number}: {text}")

    def lines(self) -> Iterator[str]:
        for kind, counts in sorted(self.counts.items()):
            where = ", ".join(f"{one_line(task, 40)} {count}" for task, count in counts.most_common())
            yield f"{counts.total()} × {kind} ({where})"
            yield from (f"    {example}" for example in self.examples[kind])


class Report:
    """Counts by task and source, the problems met, and the ids seen before."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: Counter[str] = Counter()
        self.bad_rows: Counter[str] = Counter()
        self.by_source: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.problems, self.remarks = Kinds(), Kinds()
        self.first_line: dict[int, int] = {}

    def duplicate(self, sample: Sample | BrokenSample) -> Found:
        """A problem when the row's id was there before. Ids are kept as hashes: 60 bytes per row."""
        sample_id = getattr(sample, "sample_id", None)
        if sample_id is None:
            return []
        first = self.first_line.setdefault(hash(sample_id), sample.line_number)
        if first == sample.line_number:
            return []
        return [("duplicate id", f"id {describe(sample_id)} is also in line {first}")]

    def add(self, sample: Sample | BrokenSample, problems: Found, remarks: Found) -> None:
        task = getattr(sample, "task", None) or "(no task)"
        self.rows[task] += 1
        self.bad_rows[task] += bool(problems)
        if source := source_of(sample):
            self.by_source[task, source].update(rows=1, bad=int(bool(problems)))
        self.problems.add(sample.line_number, task, problems)
        self.remarks.add(sample.line_number, task, remarks)

    def counts_differ(self, expect: str | None) -> bool:
        """Whether the tasks have other numbers of rows than the published ones; False without ``expect``."""
        return expect is not None and dict(self.rows) != {task: n for task, n in EXPECTATIONS[expect].items() if n}

    def text(self, expect: str | None) -> str:
        """The report as text: a line per task, a line per source, then each kind of problem with its first rows."""
        expected = EXPECTATIONS.get(expect or "", {})
        order = [task for task in TASKS if task in self.rows or task in expected]
        order += sorted(set(self.rows) - set(order))

        def line(name: str, rows: int, bad: int, wanted: int | None = None) -> str:
            text = f"{one_line(name, 40):<16} {rows:>7} {rows - bad:>7} {bad:>7}"
            return text if wanted is None else f"{text} {wanted:>8}" + ("" if rows == wanted else "  differs")

        lines = [f"{self.path}", f"{'task':<16} {'rows':>7} {'good':>7} {'bad':>7}" + (" expected" if expected else "")]
        for task in order:
            lines.append(line(task, self.rows[task], self.bad_rows[task], expected.get(task, 0) if expected else None))
            of_task = sorted((source, n) for (name, source), n in self.by_source.items() if name == task)
            lines += [line(f"  {source}", counts["rows"], counts["bad"]) for source, counts in of_task]
        total = sum(expected.values()) if expected else None
        lines.append(line("all", self.rows.total(), self.bad_rows.total(), total))
        lines += self.problems.lines()
        if self.remarks.counts:
            lines += ["Remarks; they make no row bad", *self.remarks.lines()]
        return "\n".join(lines)


def check_file(path: Path, checker: Checker, processes: int, fix_dir: Path | None) -> Report:
    """Check one file; writes the two files of ``--fix`` when ``fix_dir`` is given."""
    report = Report(path)
    with ExitStack() as stack:
        if fix_dir:
            write_bad = row_writer(stack, fix_dir / f"{path.stem}.bad.jsonl")
            form, schema = (".parquet", pq.read_schema(path)) if path.suffix == ".parquet" else (".jsonl", None)
            write_good = row_writer(stack, fix_dir / f"{path.stem}.good{form}", schema)
        rows: Iterable = checked_rows(path, checker, processes)
        for sample, (problems, remarks) in tqdm(rows, desc=path.name, unit="row", mininterval=1.0):
            problems = problems + report.duplicate(sample)
            report.add(sample, problems, remarks)
            if fix_dir and problems:
                reasons = [f"{kind}: {text}" for kind, text in problems]
                write_bad({"line": sample.line_number, "reasons": reasons, "row": sample.raw})
            elif fix_dir:
                write_good(sample.raw)
    return report


def main() -> int:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="JSON lines, a JSON array, or parquet")
    parser.add_argument("--expect", choices=sorted(EXPECTATIONS), help="what the file is meant to be")
    add_image_root_argument(parser)
    parser.add_argument("--tokenizer", help="model folder or hub name: count the tokens of text and image")
    parser.add_argument("--max_length", type=int, default=2048, help="tokens of question and answer, image included")
    parser.add_argument("--min_pixels", type=int, default=PixelBudget.min_pixels)
    parser.add_argument("--max_pixels", type=int, default=PixelBudget.max_pixels)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--fix", action="store_true", help="write good rows and bad rows to files of their own")
    parser.add_argument("--output_dir", type=Path, help="of --fix; default: the file's folder")
    args = parser.parse_args()
    budget = PixelBudget(args.min_pixels, args.max_pixels)
    differing = bad = unreadable = 0
    for path in args.files:
        fix_dir = (args.output_dir or path.parent) if args.fix else None
        try:
            if args.expect == "test":  # inference reads no other
                refuse_other_formats(path)
            source = data_images(path, images_in(path), args.image_root, budget=budget)
            checker = Checker(source, args.tokenizer, args.max_length, args.expect)
            report = check_file(path, checker, args.processes, fix_dir)
        except (OSError, pa.ArrowException) as error:
            print(f"{path}: cannot be checked: {explain(error)}", file=sys.stderr)
            unreadable += 1
            continue
        print(report.text(args.expect))
        bad += report.bad_rows.total()
        differing += report.counts_differ(args.expect)
    return 2 if unreadable else int(bad > 0 or differing > 0)


if __name__ == "__main__":
    sys.exit(main())
