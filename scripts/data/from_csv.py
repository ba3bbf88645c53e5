"""Your own data: a folder of images and a CSV file become test records and training files.

    python -m scripts.data.from_csv my_images/labels.csv --output_dir input_data/mine
    python -m scripts.data.from_csv labels.csv --image_dir photos --labels joy fear neutral --test_share 0.2

The CSV file has a header with ``path`` and ``label``, optionally ``task`` and ``id``, separated by commas,
semicolons or tabs; a path is relative to ``--image_dir``, by default the CSV file's folder. The labels of a
task are all that occur in it, or ``--labels``.

What several people said about an image is in a column for each label: ``votes_<label>``, or columns that
``--vote_columns`` names and that are called like their labels. A number of votes, or a share of them, makes the
label a candidate of its row's task, 0 included; an empty cell does not. Without a label, a row's label is the one
with the most votes. Out come

* records.jsonl: every row as a VECBench record with the released model's question;
* test.jsonl and train.jsonl: the same, split at random within each label, repeatable; all rows of an image are in
  one of them;
* stage3.parquet: the training part as verl reads it, where every label is one that the reward of stage 3
  can count as right: one word without punctuation. Stages 1 and 2 need reasoning to learn from, which
  scripts.build_vec_cot has a teacher model write for train.jsonl.

Rows that cannot be used go to errors.jsonl with file, line, field and what was expected: read =
written + failed. Exit status 1 when there are any, or no stage3.parquet.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from inference.common.json_lines import describe, invalid_byte, one_line, refuse_binary, to_line
from inference.common.storage import atomic_write, ending_in_one_line
from inference.common.terminal import plain_output
from inference.data.fields import MAX_ID, MAX_NAME, check_text
from inference.data.images import FACTOR, ImageError, ImageSource, PixelBudget, add_image_root_argument, data_images
from inference.data.layouts import image_of
from inference.data.prompts import recognition_prompt
from inference.data.records import RecordError
from inference.data.votes import VOTES, amount
from scripts.data.convert import main as convert_main
from scripts.data.samples import NUMBER, reward_problem

MAX_FIELD = 1 << 24  # characters; csv's own limit would end the whole file
LABEL = re.compile(rf"[^,;|\r\n]{{1,{MAX_NAME}}}")  # the question lists the labels with commas
FIELDS = ("path", "label", "task", "id")
VOTE = "votes_"  # how the name of a column begins that holds the votes for one label


def _votes(row: dict, fail: Callable[[str, str], NoReturn], labels: list[str] | None) -> dict[str, float]:
    """label → votes of the row's vote columns that are filled; ``fail`` is called with the column's name."""
    votes: dict[str, float] = {}
    for column, text in row.items():
        if not column.startswith(VOTE) or not (text or "").strip():
            continue
        label = column.removeprefix(VOTE)
        try:
            number = amount(float(text))
        except ValueError:
            number = None
        if number is None:
            fail(column, f"a number of votes, 0 or more, got {describe(text)}")
        if labels and label.lower() not in {known.lower() for known in labels}:
            fail(column, f"votes for one of {', '.join(labels)}")
        votes[label] = int(number) if number.is_integer() else number
    if votes and not any(votes.values()):
        fail(VOTE + next(iter(votes)), "at least one vote in the row, got 0 in each column")
    return votes


def _most_voted(votes: dict[str, float], fail: Callable[[str, str], NoReturn]) -> str:
    """The label with the most votes; ``fail`` is called where there is none, or several."""
    if not votes:
        fail("label", "a label, got nothing")
    best = [label for label, count in votes.items() if count == max(votes.values())]
    if len(best) > 1:
        fail("label", f"a label, or one with the most votes, got nothing and as many for {' as for '.join(best[:2])}")
    return best[0]


def _good_row(row: dict, line: int, images: ImageSource, args: argparse.Namespace) -> dict:
    """The row, checked and its image decoded, with path, label, task, line and, if it has them, id and votes.

    Raises:
        RecordError: naming file, line, field and what was expected there.
    """

    def fail(field: str, expected: str) -> NoReturn:
        raise RecordError(str(args.source), line, field, expected)

    if None in row:
        fail("(line)", f"as many fields as the header has, got {len(row[None])} more: quote what holds a comma")
    fields = {name: (row.get(name) or "").strip() for name in FIELDS}
    for name, text in fields.items():
        if "\n" in text or "\r" in text:  # what follows an open quote would be lost in one field, row after row
            fail(name, f"one line, got {describe(text)}: is a quote left open?")
        if problem := invalid_byte(text):
            fail(name, problem.removeprefix("expected "))
        check_text(name, text, fail, MAX_NAME if name in ("label", "task") else MAX_ID if name == "id" else None)
    if not fields["path"]:
        fail("path", "an image's path, got nothing")
    votes = _votes(row, fail, args.labels)
    fields["label"] = fields["label"] or _most_voted(votes, fail)
    if not LABEL.fullmatch(fields["label"]):
        fail("label", f"one label, without comma, semicolon or bar, got {describe(fields['label'])}")
    try:
        if min(images.original_size(fields["path"], decode=True)) < FACTOR:
            raise ImageError(f"image {fields['path']}: expected sides of {FACTOR} pixels or more")
        path = images.open(fields["path"])
    except ImageError as error:
        fail("path", f"a readable image: {error}")
    if not isinstance(path, Path):
        fail("path", "the path of a file, got an image inside the row")
    if args.labels and fields["label"].lower() not in {label.lower() for label in args.labels}:
        fail("label", f"one of {', '.join(args.labels)}, got {describe(fields['label'])}")
    good = {**fields, "path": str(path.resolve()), "task": fields["task"] or args.task, "line": line, "votes": votes}
    return {name: value for name, value in good.items() if value}


def _column(name: str, vote_columns: Mapping[str, str]) -> str:
    """A column's name in lower case; one of votes as ``votes_<label>``, the label as it is written there."""
    name = name.strip()
    if name.lower().startswith(VOTE):
        return VOTE + name[len(VOTE) :].strip()
    known = vote_columns.get(name.lower())
    return name.lower() if known is None else VOTE + known


def read_table(source: Path, vote_columns: Sequence[str] = ()) -> list[tuple[int, dict]]:
    """(line number, column → text) of each row; columns as ``_column`` has them, what is too much in a row under None.

    Raises:
        ValueError: when the header lacks a column, or names one twice, or one of votes as what is no label.
        OSError, csv.Error: when the file cannot be read.
    """
    refuse_binary(source, "CSV")
    csv.field_size_limit(MAX_FIELD)
    # An invalid byte becomes a lone surrogate, which is refused in its own row.
    with open(source, encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
        header = handle.readline()
        stated = re.fullmatch(r"sep=(.)\s*", header, re.IGNORECASE)  # Excel's line about the file
        header = handle.readline() if stated else header
        likeliest = max(",;\t", key=header.count)
        reader = csv.DictReader(
            itertools.chain([header], handle), delimiter=stated[1] if stated else likeliest, skipinitialspace=True
        )
        by_name = {name.lower(): name for name in vote_columns}
        names = [_column(name, by_name) for name in reader.fieldnames or ()]
        votes = [name for name in names if name.startswith(VOTE)]
        missing = [name for name in vote_columns if VOTE + name not in votes]
        needed = {"path", "label"} if not votes else {"path"}
        where, columns = f"{source}, line {1 + bool(stated)}", one_line(header.strip()) or "nothing"
        if needed - set(names) or missing:
            wanted = " and ".join([*sorted(needed, reverse=True), *missing])
            raise ValueError(f"{where}: expected columns {wanted}, got {columns}")
        again = next((name for name in FIELDS if names.count(name) > 1), None)
        if again:
            raise ValueError(f"{where}: expected one column {again}, got {names.count(again)}: {columns}")
        lowered = [name.lower() for name in votes]
        for name in votes:
            if lowered.count(name.lower()) > 1 or not LABEL.fullmatch(name.removeprefix(VOTE)) or invalid_byte(name):
                raise ValueError(f"{where}: expected one column of votes per label, got {describe(name)}")
        reader.fieldnames = names
        return [(reader.line_num + bool(stated), row) for row in reader]


def read_rows(
    table: list[tuple[int, dict]], images: ImageSource, args: argparse.Namespace
) -> tuple[list[dict], list[dict]]:
    """(good rows with path, label, task, line; error rows with error and row)."""
    good, bad = [], []
    for line, row in table:
        try:
            good.append(_good_row(row, line, images, args))
        except RecordError as error:
            bad.append({"error": str(error), "row": {key: value for key, value in row.items() if key}})
    return good, bad


def check_totals(source: Path, rows: list[dict]) -> None:
    """
    Raises:
        ValueError: for a column of votes that is the sum of two or more others in every row: a total, no label.
    """
    voted = [row["votes"] for row in rows if row.get("votes")]
    labels = sorted({label for votes in voted for label in votes})
    for label in labels if len(labels) > 2 else ():
        if all(math.isclose(2 * votes.get(label, 0), sum(votes.values())) for votes in voted):
            raise ValueError(
                f"{source}: expected votes for a label in column {VOTE}{label}, got the sum of the other columns of "
                f"votes in each of {len(voted)} rows: take it out, or name it otherwise"
            )


def doubts(records: list[dict]) -> list[str]:
    """What is unusual about the labels and images of a task and makes no row bad."""
    unusual, by_task = [], defaultdict(lambda: defaultdict(list))
    for record in records:
        by_task[record["task"]][image_of(record)].append(record["ground_truth"])
    for task, images in by_task.items():
        several = [labels for labels in images.values() if len(labels) > 1]
        if several:
            differ = sum(len(set(labels)) > 1 for labels in several)
            unusual.append(
                f"task {task} has {len(several)} images in more than one row, {differ} of them with different labels; "
                "each row is a sample; what several people said about an image belongs in one row, in columns of votes"
            )
    for task, labels in {record["task"]: record["candidates"] for record in records}.items():
        if len(labels) == 1:
            unusual.append(f"task {task} has one label only, {labels[0]}: no answer can be wrong")
        elif all(map(NUMBER.fullmatch, labels)):
            unusual.append(f"task {task} has numbers for labels ({', '.join(labels)}): a model knows words")
    return unusual


def to_records(rows: list[dict], labels: list[str] | None) -> list[dict]:
    """VECBench records with their question. The label's spelling is the candidates'."""
    by_task: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        for label in (row["label"], *row.get("votes", ())):
            by_task[row["task"]].setdefault(label.lower(), label)
    records = []
    for row in rows:
        spelling = {label.lower(): label for label in labels} if labels else by_task[row["task"]]
        candidates = labels or [spelling[key] for key in sorted(spelling)]
        content = [{"type": "image", "image": row["path"]}, {"type": "text", "text": recognition_prompt(candidates)}]
        records.append(
            {
                **({"id": row["id"]} if "id" in row else {}),
                "conversations": [{"role": "user", "content": content}],
                "ground_truth": spelling[row["label"].lower()],
                "candidates": candidates,
                "task": row["task"],
                **(
                    {VOTES: {spelling[label.lower()]: n for label, n in row["votes"].items()}} if "votes" in row else {}
                ),
            }
        )
    return records


def split_records(records: list[dict], test_share: float, seed: int) -> set[int]:
    """Indices of the test part: the same share of each task's labels, the same for the same seed.

    An image is drawn by the task and label of its first row; its other rows go with it.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        rows_of[image_of(record)].append(i)
    strata: dict[tuple[str, str], list[tuple[bytes, list[int]]]] = defaultdict(list)
    for path, rows in rows_of.items():
        rank = hashlib.sha256(f"{seed}/{Path(path).name}/{rows[0]}".encode()).digest()
        strata[records[rows[0]]["task"], records[rows[0]]["ground_truth"]].append((rank, rows))
    drawn = (sorted(items)[: round(test_share * len(items))] for items in strata.values())
    return {i for items in drawn for _, rows in items for i in rows}


@ending_in_one_line("reading the table")
def main(arguments: list[str] | None = None) -> int:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the CSV file")
    parser.add_argument("--image_dir", type=Path, help="default: the CSV file's folder")
    add_image_root_argument(parser)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--task", default="custom", help="task name of rows without one")
    parser.add_argument("--labels", nargs="+", help="the candidates, for all tasks; default: those that occur")
    parser.add_argument(
        "--vote_columns", nargs="+", default=[], metavar="LABEL", help="columns that hold the votes for their label"
    )
    parser.add_argument("--test_share", type=float, default=0.1, help="of each label")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--min_pixels", type=int, default=PixelBudget.min_pixels)
    parser.add_argument("--max_pixels", type=int, default=PixelBudget.max_pixels)
    args = parser.parse_args(arguments)
    if not 0 <= args.test_share < 1:
        parser.error(f"--test_share: expected 0 or more and less than 1, got {args.test_share}")
    folders = [args.image_dir or args.source.parent, *args.image_root]
    try:
        table = read_table(args.source, args.vote_columns)
        named = ((row.get("path") or "").strip() for _, row in table)
        # Paths are relative to --image_dir as they are to a data file's folder.
        beside = args.image_dir / args.source.name if args.image_dir else args.source
        images = data_images(beside, named, args.image_root)
        rows, errors = read_rows(table, images, args)
        check_totals(args.source, rows)
    except (OSError, ValueError, csv.Error) as error:
        parser.exit(2, f"{error}\n")
    records = to_records(rows, args.labels)
    test = split_records(records, args.test_share, args.seed)

    args.output_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = {name: stack.enter_context(atomic_write(args.output_dir / f"{name}.jsonl"))
                 for name in ("records", "test", "train", "errors")}  # fmt: skip
        for i, record in enumerate(records):
            line = to_line(record) + "\n"
            files["records"].write(line)
            files["test" if i in test else "train"].write(line)
        for item in errors:
            files["errors"].write(to_line(item) + "\n")
    for (task, label), count in sorted(Counter((r["task"], r["ground_truth"]) for r in records).items()):
        print(f"{task:<16} {label:<16} {count:>7}")
    print(f"{args.output_dir}: read {len(records) + len(errors)} = written {len(records)} + failed {len(errors)}")
    print(f"  test.jsonl {len(test)}, train.jsonl {len(records) - len(test)}")
    allowed = data_images(args.output_dir / "test.jsonl", ())
    if not all(allowed.allows(row["path"]) for row in rows):
        print(f"  the images lie elsewhere: other commands need --image_root {folders[0]}")
    for doubt in doubts(records):
        print(f"NOTE: {doubt}")
    stage3 = args.output_dir / "stage3.parquet"
    train = [i for i in range(len(records)) if i not in test]
    problems = ((i, reward_problem(records[i]["ground_truth"], records[i]["candidates"])) for i in train)
    refused = [f"{args.source}, line {rows[i]['line']}, {problem}" for i, problem in problems if problem]
    status = int(bool(errors or refused))
    if refused:
        stage3.unlink(missing_ok=True)  # of an earlier start
        print(f"no {stage3}, because of {len(refused)} of {len(train)} rows: {refused[0]}", file=sys.stderr)
    elif train:
        roots = [word for folder in folders for word in ("--image_root", str(folder))]
        budget = ["--min_pixels", str(args.min_pixels), "--max_pixels", str(args.max_pixels)]
        status |= convert_main(["verl", str(args.output_dir / "train.jsonl"), str(stage3), *budget, *roots])
    return status


if __name__ == "__main__":
    sys.exit(main())
