"""Training data for the frameworks: VEC-CoT and VECBench rows to ms-swift's JSON lines or verl's parquet.

    python -m scripts.data.convert swift input_data/VEC-CoT/stage1_86k.jsonl stage1.jsonl      # stages 1, 2
    python -m scripts.data.convert verl input_data/VEC-CoT/stage3_14k.jsonl stage3.parquet     # stage 3
    python -m scripts.data.convert verl stage3_14k.jsonl stage3_val.parquet --subset 512 --rest stage3_train.parquet

Reads every layout of ``scripts.data.samples``. Images stay files, named by absolute paths (verl: file://
addresses, because it drops a row with a bare path without a word); ``--embed`` puts verl's images
into the parquet file instead. The pixel budget goes along with each of verl's images, because its
loader resizes by it. ms-swift gets messages and images alone: it takes other columns for its own (objects,
label, channel, …) or stumbles on their types, and loses rows. They go to <target>.columns.jsonl, each with
the number of its line. Rows that cannot be used go to <target>.errors.jsonl with the reason: read =
written + failed. Exit status 1 when there are any.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from inference.common.storage import explain
from inference.common.terminal import plain_output
from inference.data.images import ImageError, ImageSource, PixelBudget, add_image_root_argument, data_images
from inference.data.prompts import SYSTEM_PROMPT
from inference.runs.shards import atomic_path, atomic_write, to_line
from scripts.data.samples import BrokenSample, Sample, images_in, plain, read_samples, reward_problem

if TYPE_CHECKING:
    import datasets

DATA_SOURCE = "emocaliber"  # the name that train/cus_reward.py is registered under in verl
ROWS_A_GROUP = 256  # held in memory at once; embedded images are large


def verl_features(embed: bool) -> datasets.Features:
    """verl's columns. An image has bytes or an address, never both: verl refuses that."""
    import datasets

    string, integer = datasets.Value("string"), datasets.Value("int64")
    image = {"bytes": datasets.Value("binary")} if embed else {"image": string}
    return datasets.Features(
        {
            "data_source": string,
            "prompt": [{"role": string, "content": string}],
            "images": [{**image, "min_pixels": integer, "max_pixels": integer}],
            "ability": string,
            "reward_model": {"style": string, "ground_truth": string},
            "extra_info": {"split": string, "index": integer, "task": string},
        }
    )


class Images:
    """Where a row's image is: checked, and as a file or as bytes."""

    def __init__(self, source: ImageSource, extract_dir: Path):
        self.source = source
        self.extract_dir = extract_dir

    def path(self, reference: str) -> Path:
        """The image's file; an embedded image is written to ``extract_dir`` under its content's hash.

        Raises:
            ImageError: when it is not there or its header cannot be read.
        """
        self.source.original_size(reference)
        found = self.source.open(reference)
        if isinstance(found, Path):
            return found.resolve()
        content = found.getvalue()
        target = self.extract_dir.resolve() / hashlib.sha256(content).hexdigest()[:32]
        if not target.is_file():
            self.extract_dir.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary:
                temporary.write_bytes(content)
        return target

    def content(self, reference: str) -> bytes:
        """The image file's bytes as they are. Raises: as ``path``."""
        self.source.original_size(reference)
        found = self.source.open(reference)
        return found.read_bytes() if isinstance(found, Path) else found.getvalue()


def swift_row(sample: Sample, images: Images) -> dict[str, Any]:
    """ms-swift's form: turns and image alone (``other_columns`` are kept elsewhere).

    Raises:
        ImageError, ValueError: when the row cannot be trained on.
    """
    if sample.answer is None:
        raise ValueError("messages: expected the assistant's answer as the last turn")
    turns = [*sample.messages, {"role": "assistant", "content": sample.answer}]
    return {"messages": turns, "images": [str(images.path(sample.images[0]))]}


def other_columns(raw: dict[str, Any]) -> dict[str, Any]:
    """What ``swift_row`` leaves out."""
    return {key: raw[key] for key in raw if key not in ("messages", "conversations", "images", "image")}


def verl_row(sample: Sample, images: Images, split: str, budget: PixelBudget, embed: bool) -> dict[str, Any]:
    """One row of ``verl_features``; an answer in the row is not given away in the prompt.

    Raises:
        ImageError, ValueError: when the row cannot be trained on.
    """
    if not sample.ground_truth:
        raise ValueError("ground_truth: expected a label")
    if problem := reward_problem(sample.ground_truth, sample.candidates):
        raise ValueError(problem)
    prompt = sample.messages
    if prompt[0]["role"] != "system":
        prompt = [{"role": "system", "content": SYSTEM_PROMPT}, *prompt]
    reference = sample.images[0]
    image = {"bytes": images.content(reference)} if embed else {"image": f"file://{images.path(reference)}"}
    return {
        "data_source": DATA_SOURCE,
        "prompt": prompt,
        "images": [{**image, "min_pixels": budget.min_pixels, "max_pixels": budget.max_pixels}],
        "ability": "emotion",
        "reward_model": {"style": "rule", "ground_truth": sample.ground_truth},
        "extra_info": {"split": split, "index": sample.line_number - 1, "task": sample.task},
    }


def stratified(tasks: Counter[str], size: int) -> dict[str, int]:
    """How many of ``size`` rows each task gets: in proportion, remainders to the largest fractions."""
    total = tasks.total()
    size = min(size, total)
    exact = {task: count * size / total for task, count in tasks.items()}
    shares = {task: int(share) for task, share in exact.items()}
    by_fraction = sorted(exact, key=lambda task: (shares[task] - exact[task], task))
    for task in by_fraction[: size - sum(shares.values())]:
        shares[task] += 1
    return shares


def choose_subset(source: Path, size: int, seed: int) -> set[int]:
    """Line numbers of a subset stratified by task; the same for the same file, size and seed."""
    ranked: dict[str, list[tuple[bytes, int]]] = {}
    for sample in read_samples(source):
        if isinstance(sample, Sample):
            rank = hashlib.sha256(f"{seed}/{sample.line_number}".encode()).digest()
            ranked.setdefault(sample.task or "", []).append((rank, sample.line_number))
    shares = stratified(Counter({task: len(lines) for task, lines in ranked.items()}), size)
    return {number for task, lines in ranked.items() for _, number in sorted(lines)[: shares[task]]}


class Writer:
    """A target file, JSON lines or parquet in row groups; complete or absent."""

    def __init__(self, stack: ExitStack, target: Path, features: datasets.Features | None):
        target.parent.mkdir(parents=True, exist_ok=True)
        self.count = 0
        self.group: list[dict] = []
        self.schema = features.arrow_schema if features else None
        if features:
            self.parquet = stack.enter_context(pq.ParquetWriter(stack.enter_context(atomic_path(target)), self.schema))
            stack.callback(self._flush)
        else:
            self.lines = stack.enter_context(atomic_write(target))
            self.columns_path = target.with_name(target.name + ".columns.jsonl")
            self.columns = stack.enter_context(atomic_write(self.columns_path))
            self.columns_count = 0

    def _flush(self) -> None:
        if self.group:
            self.parquet.write_table(pa.Table.from_pylist(self.group, schema=self.schema))
            self.group = []

    def write(self, row: dict[str, Any], others: dict[str, Any]) -> None:
        """``others``: the columns that stand beside the target; parquet's has its own."""
        self.count += 1
        if self.schema is None:
            self.lines.write(to_line(row, plain) + "\n")
            if others:
                self.columns.write(to_line({"line": self.count, **others}, plain) + "\n")
                self.columns_count += 1
            return
        self.group.append(row)
        if len(self.group) >= ROWS_A_GROUP:
            self._flush()


def convert(args: argparse.Namespace) -> tuple[Counter[str], str]:
    """Write the target, the rest and the errors; returns how many rows were read, written, failed, and the first error.

    Raises:
        OSError, pyarrow.ArrowException: when the source cannot be read.
    """
    extract_dir = args.target.with_name(args.target.stem + "_images")
    images = Images(data_images(args.source, images_in(args.source), args.image_root), extract_dir)
    budget = PixelBudget(args.min_pixels, args.max_pixels)
    features = verl_features(args.embed) if args.form == "verl" else None
    chosen = choose_subset(args.source, args.subset, args.seed) if args.subset else None
    counts: Counter[str] = Counter()
    first_error = ""

    def rows(samples: Iterator[Sample | BrokenSample]) -> Iterator[tuple[int, dict | None, str, Any]]:
        for sample in samples:
            if isinstance(sample, BrokenSample):
                yield sample.line_number, None, sample.error, sample.raw
                continue
            try:
                if args.form == "swift":
                    row = swift_row(sample, images)
                else:
                    row = verl_row(sample, images, args.split, budget, args.embed)
                yield sample.line_number, row, "", sample.raw
            except (ImageError, ValueError) as error:
                yield sample.line_number, None, f"{args.source}, line {sample.line_number}: {error}", sample.raw

    errors_path = args.target.with_name(args.target.name + ".errors.jsonl")
    with ExitStack() as stack:
        # First in, last out: nothing is said about errors until the other files are whole.
        errors_path.parent.mkdir(parents=True, exist_ok=True)
        errors = stack.enter_context(atomic_write(errors_path))
        target = Writer(stack, args.target, features)
        rest = Writer(stack, args.rest, features) if args.rest else None
        progress = tqdm(rows(read_samples(args.source)), desc=args.source.name, unit="row", mininterval=1.0)
        for line_number, row, error, raw in progress:
            counts["read"] += 1
            if row is None:
                counts["failed"] += 1
                first_error = first_error or error
                row = {"error": error, "row": raw}
                errors.write(to_line(row, plain) + "\n")
            elif chosen is None or line_number in chosen:
                target.write(row, other_columns(raw))
                counts["written"] += 1
            elif rest:
                rest.write(row, other_columns(raw))
                counts["rest"] += 1
            else:
                counts["left out"] += 1
    if not counts["failed"]:
        errors_path.unlink()
    if args.form == "swift":
        for writer in filter(None, (target, rest)):
            if writer.columns_count:
                counts["other columns"] += writer.columns_count
            else:
                writer.columns_path.unlink()
    return counts, first_error


def main(arguments: list[str] | None = None) -> int:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=("swift", "verl"))
    parser.add_argument("source", type=Path, help="JSON lines, a JSON array, or parquet")
    parser.add_argument("target", type=Path, help="swift: JSON lines; verl: parquet")
    add_image_root_argument(parser)
    parser.add_argument("--subset", type=int, help="only so many rows, stratified by task, for validation")
    parser.add_argument("--seed", type=int, default=0, help="of the subset")
    parser.add_argument("--rest", type=Path, help="with --subset: the other rows go here")
    parser.add_argument("--embed", action="store_true", help="verl: image bytes in the parquet file")
    parser.add_argument("--split", default="train", help="verl: written into extra_info")
    parser.add_argument("--min_pixels", type=int, default=PixelBudget.min_pixels, help="verl")
    parser.add_argument("--max_pixels", type=int, default=PixelBudget.max_pixels, help="verl")
    args = parser.parse_args(arguments)
    if args.rest and not args.subset:
        parser.error("--rest needs --subset")
    try:
        counts, first_error = convert(args)
    except (OSError, ValueError, pa.ArrowException) as error:
        parser.exit(2, f"{args.source}: cannot be converted: {explain(error)}\n")
    others = "".join(f" + {name} {counts[name]}" for name in ("rest", "left out") if counts[name])
    print(f"{args.target}: read {counts['read']} = written {counts['written']}{others} + failed {counts['failed']}")
    if counts["other columns"]:
        count = counts["other columns"]
        print(f"other columns of {count} rows, which ms-swift does not read: {args.target}.columns.jsonl")
    if counts["failed"]:
        print(f"the failed rows and why: {args.target}.errors.jsonl; the first: {first_error}", file=sys.stderr)
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
