"""Split labelled images into the three stages: disjoint by what they show, apart from the test set.

    python -m scripts.build_vec_cot.split --data_path emoset.jsonl webemo.jsonl fi.jsonl \\
        --test_path input_data/test_8k.jsonl --output_dir output/VEC-CoT/split

Writes ``stage1_records.jsonl``, ``stage2_records.jsonl``, ``stage3_records.jsonl`` and
``rejected.jsonl``, whose rows have a ``reason`` and an ``explanation``:

    broken_row      the line or its image cannot be used
    test_image      the image, or one like it, is in the test set
    label_conflict  the same picture has two labels in one source
    beyond_size     with --published_size: the stage has the source's published rows without it

Which images are the same picture is decided by their pixels (``fingerprints.py``), never from its name. Where a
row goes depends on images, labels and --seed: neither on file names nor on the order of the lines.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from inference.common.options import finite_number
from inference.common.storage import ending_in_one_line
from inference.common.terminal import plain_output
from inference.data.images import ImageError, ImageSource, add_image_root_argument
from inference.data.loader import ImageLoader
from inference.data.records import BrokenRecord, Record
from inference.runs.shards import ADDED, ShardBusy, ShardWriter, read_results
from scripts.build_vec_cot.fingerprints import BUDGET, MAX_BITS, MAX_LEVELS, Fingerprint, fingerprint, like_images
from scripts.build_vec_cot.records import read_labelled, rejections, say_notices, write_rows
from scripts.build_vec_cot.stages import PUBLISHED_ROWS, STAGES, assign_stages, quotas

# Keys of a record that do not go on: what it was asked and answered elsewhere.
LEFT_OUT = {"conversations", "messages", "images", *ADDED}


@dataclass
class Row:
    """One line of a data file: where it is, what it says, what its image looks like."""

    path: Path
    item: Record | BrokenRecord
    mark: Fingerprint | None = None

    def rejected(self, reason: str, explanation: str) -> dict[str, Any]:
        where = {"file": str(self.path), "line": self.item.line_number}
        return {**self.item.raw, "id": self.item.sample_id, **where, "reason": reason, "explanation": explanation}

    def kept(self, stage: int) -> dict[str, Any]:
        item = self.item
        more = {key: value for key, value in item.raw.items() if key not in LEFT_OUT}
        named = {"id": item.sample_id, "image": item.image, "ground_truth": item.ground_truth}
        return {**more, **named, "candidates": item.candidates, "task": item.task, "stage": stage}


def fingerprint_files(images: Iterable[str], cache: Path, workers: int) -> dict[str, Fingerprint | str]:
    """image → its fingerprint, or what is wrong with it; ``cache`` keeps those of earlier starts."""
    keys = {}
    for image in images:
        stat = Path(image).stat()  # a file that was changed since is looked at again
        keys[f"{image}|{stat.st_size}|{stat.st_mtime_ns}"] = image
    with ShardWriter(cache, 0, 1) as writer:
        known = {row["sample_id"] for row in read_results(writer.path)}
        missing = [
            Record(key, position, 0, "", [], "", None, [image], {})
            for position, (key, image) in enumerate(keys.items())
            if key not in known
        ]
        source = ImageSource([], BUDGET, confined=False)  # read_labelled has confined their paths
        bar = tqdm(total=len(keys), initial=len(keys) - len(missing), desc="fingerprints", unit="image", mininterval=1)
        with bar, ImageLoader(source, workers, in_order=True) as loader:
            for record, images in loader.load(missing):
                row: dict[str, Any] = {"sample_id": record.sample_id, "position": record.position}
                if isinstance(images, ImageError):
                    writer.write({**row, "error": str(images)})
                else:  # a fingerprint is written where the shards of inference have a response
                    writer.write({**row, "response": [part.hex() for part in fingerprint(images[0])]})
                bar.update()
        fingerprints = {row["sample_id"]: row for row in read_results(writer.path)}
    return {
        image: fingerprints[key].get("error") or Fingerprint(*map(bytes.fromhex, fingerprints[key]["response"]))
        for key, image in keys.items()
    }


def read_files(args: argparse.Namespace) -> tuple[list[Row], list[Row], list[dict]]:
    """(usable rows, rows of the test set, rejected rows).

    Raises:
        ValueError: for a test set with a row or an image that cannot be used: what cannot be looked
            at cannot be kept out of training.
    """
    data = [Row(path, item) for path, item in read_labelled(args.data_path, image_roots=args.image_root)]
    test = [Row(path, item) for path, item in read_labelled(args.test_path, False, args.image_root)]
    images = [row.item.image for row in [*data, *test] if isinstance(row.item, Record)]
    marks = fingerprint_files(images, args.output_dir / "fingerprints", args.workers)
    usable: tuple[list[Row], list[Row]] = [], []
    broken: tuple[list[dict], list[dict]] = [], []
    for part, rows in enumerate((data, test)):
        for row in rows:
            problem = row.item.error if isinstance(row.item, BrokenRecord) else marks[row.item.image]
            if isinstance(problem, Fingerprint):
                row.mark = problem
                usable[part].append(row)
                continue
            if isinstance(row.item, Record):
                problem = f"{row.path}, line {row.item.line_number}, field 'image': {problem}"
            broken[part].append(row.rejected("broken_row", problem))
    if broken[1]:
        raise ValueError(f"{len(broken[1])} rows of the test set cannot be used: {broken[1][0]['explanation']}")
    return *usable, broken[0]


def sift(group: list[Row], test_image: str | None) -> tuple[list[Row], list[dict]]:
    """(rows that stay, rejected rows) of a group of like images, one of them perhaps in the test set."""
    if test_image is not None:
        return [], [row.rejected("test_image", f"looks like the test set's {test_image}") for row in group]
    by_task, stay, rejected = defaultdict(list), [], []
    for row in group:
        by_task[row.item.task].append(row)
    for rows in by_task.values():
        labels, images = (sorted({getattr(row.item, name) for row in rows}) for name in ("ground_truth", "image"))
        if len(labels) == 1:
            stay += rows
        else:
            explanation = f"one picture, labelled {' and '.join(labels)}: {', '.join(images)}"
            rejected += [row.rejected("label_conflict", explanation) for row in rows]
    return stay, rejected


def split(args: argparse.Namespace) -> tuple[dict[int, list[dict]], list[dict]]:
    """(stage → its rows, rejected rows); raises what ``read_files`` does."""
    data, test, rejected = read_files(args)
    numbers = like_images([row.mark for row in [*data, *test]], args.max_bits, args.max_levels).tolist()
    test_images = {number: row.item.image for number, row in zip(numbers[len(data) :], test, strict=True)}
    groups = defaultdict(list)
    for number, row in zip(numbers, data, strict=False):
        groups[number].append(row)
    staying = {}
    for number, group in groups.items():
        stay, out = sift(group, test_images.get(number))
        rejected += out
        if stay:
            mark = min(b"".join(row.mark) for row in group)
            name = hashlib.sha256(f"{args.seed}/".encode() + mark).hexdigest()  # a place by seed and content alone
            staying[name] = sorted(stay, key=lambda row: (row.item.task, row.item.sample_id))

    assigned = assign_stages({name: Counter(row.item.task for row in rows) for name, rows in staying.items()})
    stages: dict[int, list[dict]] = {stage: [] for stage in STAGES}
    counts: Counter[tuple[str, int]] = Counter()
    for name in sorted(staying):  # in drawn order, so that a file is shuffled, and always the same way
        stage = assigned[name]
        for row in staying[name]:
            task = row.item.task
            published = PUBLISHED_ROWS.get(task) if args.published_size else None
            if published and counts[task, stage] == published[stage - 1]:
                rejected.append(row.rejected("beyond_size", f"stage {stage} has {task}'s published rows without it"))
            else:
                counts[task, stage] += 1
                stages[stage].append(row.kept(stage))
    rejected.sort(key=lambda row: (row["file"], row["line"]))
    return stages, rejected


def split_table(stages: dict[int, list[dict]]) -> str:
    """Text: rows by source and stage, beside what the published proportions would give."""
    counts = Counter((row["task"], stage) for stage, rows in stages.items() for row in rows)
    lines = [f"{'source':<15} {'rows':>7}   {'stage 1, 2, 3':>21}   {'in proportion':>21}"]
    for source in sorted({source for source, _ in counts}):
        got = [counts[source, stage] for stage in STAGES]
        cells = ["".join(f"{n:>7}" for n in numbers) for numbers in (got, quotas(source, sum(got)))]
        lines.append(f"{source:<15} {sum(got):>7}   {cells[0]}   {cells[1]}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data_path", nargs="+", required=True, help="labelled images: VECBench records, one JSON object per line")
    add("--test_path", nargs="*", required=True, help="test records whose images are kept out; nothing: there are none")
    add_image_root_argument(parser)
    add("--output_dir", type=Path, required=True)
    add("--seed", type=int, default=0, help="which images go to which stage")
    add("--published_size", action="store_true", help="no more rows of a source in a stage than VEC-CoT has")
    add("--max_bits", type=int, default=MAX_BITS, help="of 64, that the hashes of one picture may differ in")
    add("--max_levels", type=finite_number, default=MAX_LEVELS, help="of 255, mean difference of their thumbnails")
    add("--workers", type=int, default=4, help="threads that decode images")
    args = parser.parse_args(arguments)
    with ending_in_one_line("split", ValueError, ShardBusy, status=2):
        stages, out = split(args)
        for stage, rows in stages.items():
            write_rows(args.output_dir / f"stage{stage}_records.jsonl", rows)
        write_rows(args.output_dir / "rejected.jsonl", out)
    say_notices([row for rows in stages.values() for row in rows])
    print(split_table(stages))
    n_kept = sum(map(len, stages.values()))
    reasons = dict(Counter(row["reason"] for row in out).most_common())
    print(f"read {n_kept + len(out)} = kept {n_kept} + {rejections(reasons)}")


if __name__ == "__main__":
    main()
