"""Training data for the frameworks: VEC-CoT and VECBench rows to ms-swift's JSON lines or verl's parquet.

    python -m scripts.data.convert swift input_data/VEC-CoT/stage1_86k.jsonl stage1.jsonl      # stages 1, 2
    python -m scripts.data.convert verl input_data/VEC-CoT/stage3_14k.jsonl stage3.parquet     # stage 3
    python -m scripts.data.convert verl stage3_14k.jsonl stage3_val.parquet --subset 512 --rest stage3_train.parquet

Reads every layout of ``scripts.data.samples``. Images stay files, named by absolute paths (verl: file://
addresses, because it silently drops a row with a bare path); ``--embed`` puts verl's images
into the parquet file instead. An image that the frameworks would show otherwise than inference does (turned by EXIF,
transparent, grey of 16 bits) becomes a PNG in <target>_images. The pixel budget goes along with each of verl's
images, because its loader resizes by it. ms-swift gets messages and images alone: it takes other columns for its own
(objects, label, channel, …) or stumbles on their types, and loses rows. They go to <target>.columns.jsonl, each with
the number of its line. ``--rest`` holds no row of an image that is in the ``--subset``, of another task perhaps: no
model is validated on images that it was trained on. Rows that cannot be used go to <target>.errors.jsonl with the
reason: read = written + failed. Exit status 1 when there are any.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from tqdm import tqdm

from inference.common.storage import atomic_path, explain
from inference.common.terminal import plain_output
from inference.data.images import ImageSource, PixelBudget, add_image_root_argument, data_images
from inference.data.prompts import SYSTEM_PROMPT
from scripts.build_vec_cot.stages import in_proportion
from scripts.data.row_writer import row_writer
from scripts.data.samples import BrokenSample, Sample, images_in, read_samples, reward_problem

if TYPE_CHECKING:
    import datasets

DATA_SOURCE = "emocaliber"  # the name that train/cus_reward.py is registered under in verl


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
    """Where a row's image is, as a file or as bytes: checked to its last pixel, and the same pixels for every reader.

    One that the frameworks would read otherwise than inference (``ImageSource.converted``) becomes a PNG.
    """

    def __init__(self, source: ImageSource, extract_dir: Path):
        self.source = source
        self.extract_dir = extract_dir

    def path(self, reference: str) -> Path:
        """The image's file; a converted or embedded one is written to ``extract_dir`` under its content's hash.

        Raises:
            ImageError: when it is not there or cannot be read.
        """
        image = self._image(reference)
        if isinstance(image, Path):
            return image.resolve()
        target = self.extract_dir.resolve() / hashlib.sha256(image).hexdigest()[:32]
        if not target.is_file():
            self.extract_dir.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary:
                temporary.write_bytes(image)
        return target

    def content(self, reference: str) -> bytes:
        """The image file's bytes. Raises: as ``path``."""
        image = self._image(reference)
        return image.read_bytes() if isinstance(image, Path) else image

    def _image(self, reference: str) -> Path | bytes:
        if converted := self.source.converted(reference):
            buffer = io.BytesIO()
            converted.save(buffer, "PNG", compress_level=1)
            return buffer.getvalue()
        image = self.source.open(reference)
        return image if isinstance(image, Path) else image.getvalue()


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
    """One row of ``verl_features``; an answer in the row does not enter the prompt.

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
    """How many of ``size`` rows each task gets, in proportion."""
    names = sorted(tasks)
    return dict(zip(names, in_proportion([tasks[name] for name in names], min(size, tasks.total())), strict=True))


def image_rank(sample: Sample, seed: int) -> bytes:
    """In this order images are drawn: by seed and name alone, so that tasks choose the same images where they can."""
    return hashlib.sha256(f"{seed}/{sample.images[0]}".encode("utf-8", "surrogatepass")).digest()


def choose_subset(source: Path, size: int, seed: int) -> tuple[set[int], set[bytes]]:
    """(line numbers of a subset stratified by task, ranks of its images); the same for the same file, size and seed."""
    ranked: dict[str, list[tuple[bytes, int]]] = {}
    for sample in read_samples(source):
        if isinstance(sample, Sample):
            ranked.setdefault(sample.task or "", []).append((image_rank(sample, seed), sample.line_number))
    shares = stratified(Counter({task: len(lines) for task, lines in ranked.items()}), size)
    chosen = [item for task, items in ranked.items() for item in sorted(items)[: shares[task]]]
    return {number for _, number in chosen}, {image for image, _ in chosen}


class Target:
    """A target file and, beside ms-swift's, the file of the columns that it does not read."""

    def __init__(self, stack: ExitStack, path: Path, schema: pa.Schema | None):
        self.write_row = row_writer(stack, path, schema)
        self.count = self.with_columns = 0
        self.columns_path = None if schema else path.with_name(path.name + ".columns.jsonl")
        if self.columns_path:
            self.write_columns = row_writer(stack, self.columns_path)

    def write(self, row: dict[str, Any], raw: dict[str, Any]) -> None:
        self.count += 1
        self.write_row(row)
        if self.columns_path and (others := other_columns(raw)):
            self.write_columns({"line": self.count, **others})
            self.with_columns += 1


def convert(args: argparse.Namespace) -> tuple[Counter[str], str]:
    """Write the target, the rest and the errors; returns how many rows were read, written, failed, and the first error.

    Raises:
        OSError, pyarrow.ArrowException: when the source cannot be read.
    """
    extract_dir = args.target.with_name(args.target.stem + "_images")
    images = Images(data_images(args.source, images_in(args.source), args.image_root), extract_dir)
    budget = PixelBudget(args.min_pixels, args.max_pixels)
    schema = verl_features(args.embed).arrow_schema if args.form == "verl" else None
    chosen, images_of_subset = choose_subset(args.source, args.subset, args.seed) if args.subset else (None, set())
    counts: Counter[str] = Counter()
    first_error = ""

    def row_or_error(sample: Sample | BrokenSample) -> tuple[dict[str, Any], str]:
        if isinstance(sample, BrokenSample):
            return {}, sample.error
        try:
            if args.form == "swift":
                return swift_row(sample, images), ""
            return verl_row(sample, images, args.split, budget, args.embed), ""
        except ValueError as error:
            return {}, f"{args.source}, line {sample.line_number}: {error}"

    errors_path = args.target.with_name(args.target.name + ".errors.jsonl")
    with ExitStack() as stack:
        # First in, last out: nothing is said about errors until the other files are whole.
        write_error = row_writer(stack, errors_path)
        targets = {"written": Target(stack, args.target, schema)}
        if args.rest:
            targets["rest"] = Target(stack, args.rest, schema)
        for sample in tqdm(read_samples(args.source), desc=args.source.name, unit="row", mininterval=1.0):
            counts["read"] += 1
            row, error = row_or_error(sample)
            if error:
                where = "failed"
                first_error = first_error or error
                write_error({"error": error, "row": sample.raw})
            elif chosen is None or sample.line_number in chosen:
                where = "written"
            else:
                where = "rest" if args.rest and image_rank(sample, args.seed) not in images_of_subset else "left out"
            counts[where] += 1
            if where in targets:
                targets[where].write(row, sample.raw)
    if not counts["failed"]:
        errors_path.unlink()
    for target in targets.values():
        counts["other columns"] += target.with_columns
        if target.columns_path and not target.with_columns:
            target.columns_path.unlink()
    return counts, first_error


def main(arguments: list[str] | None = None) -> int:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=("swift", "verl"))
    parser.add_argument("source", type=Path, help="JSON lines, a JSON array, or parquet")
    parser.add_argument("target", type=Path, help="swift: JSON lines; verl: parquet")
    add_image_root_argument(parser)
    parser.add_argument("--subset", type=int, help="number of rows, stratified by task, for validation")
    parser.add_argument("--seed", type=int, default=0, help="of the subset")
    parser.add_argument("--rest", type=Path, help="with --subset: the rows of all other images go here")
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
    if args.rest and counts["left out"]:
        print(f"left out: rows of images that are in {args.target}, too")
    if counts["other columns"]:
        count = counts["other columns"]
        print(f"other columns of {count} rows, which ms-swift does not read: {args.target}.columns.jsonl")
    if counts["failed"]:
        print(f"the failed rows and why: {args.target}.errors.jsonl; the first: {first_error}", file=sys.stderr)
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
