"""The work of one worker: the missing records of its share through one engine into one shard.

    samples, predicted, failed = infer(settings, "data.jsonl", "infer_results/my_run", index=0, n_shards=8)

Images are dealt to the workers evenly, each with up to ``MOST_NEIGHBOURS`` questions about it, so every sample is
inferred whatever n_shards is (one queue for all would end no earlier on equal GPUs: scripts/maintenance/LOG.md).
What any worker of this run has answered before is not asked again (resume by sample id); what failed is tried again.
A record or image that cannot be used becomes an ``error`` line.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from hashlib import sha256
from operator import itemgetter
from pathlib import Path

from tqdm import tqdm

from inference.common.json_lines import one_line
from inference.common.redaction import redact
from inference.data.doubts import UNMATCHABLE, most_frequent_error, record_doubts
from inference.data.images import ImageError, ImageSource, data_images
from inference.data.loader import ImageLoader, Loaded
from inference.data.prompts import chat_messages
from inference.data.records import BrokenRecord, Record, images_in, read_records
from inference.data.replacement import ReplacedImages
from inference.engines.base import Engine, EngineSettings, Output, Request, checkpoint_notice
from inference.engines.load import load_engine
from inference.runs.folder import REFUSE, open_shard
from inference.runs.settings import describe_run
from inference.runs.shards import ShardWriter, finished_samples, result_line

log = logging.getLogger("inference")

MOST_NEIGHBOURS = 8  # questions about one image that stay with one worker: a file may ask about a few images only


class HopelessData(ValueError):
    """A data file that no answer could be right for, or that cannot be inferred as it is asked for."""


def check_labels_of(data_path: str, limit: int | None, max_images: int = 1) -> None:
    """Says what is doubtful about the data file's labels and tasks, a warning per kind.

    Raises:
        HopelessData: when no answer to any record could be right.
    """
    doubts, n_records = record_doubts(read_records(data_path, limit, max_images))
    for line in doubts.lines():
        log.warning("%s: %s", data_path, line)
    if n_records and doubts.rows(UNMATCHABLE) == n_records:
        raise HopelessData(f"{data_path}: the label of each of its {n_records} records is none of its candidates")


def dealt(items: Iterable[Record | BrokenRecord], n_shards: int) -> list[tuple[int, int]]:
    """(worker, rank of the group) of each record: a group is up to ``MOST_NEIGHBOURS`` records about the same image.

    Each group goes to the worker that has the fewest records so far: with one record per image, to the workers in turn.
    """
    asked: Counter[bytes] = Counter()
    groups: dict[tuple[bytes, int], int] = {}  # (images, full groups of questions about them before) → rank
    ranks = []
    for item in items:
        named = item.images if isinstance(item, Record) else [f"line {item.position}"]
        # Hashed, because an embedded image is its own name.
        images = sha256("\n".join(named).encode("utf-8", "surrogatepass")).digest()
        ranks.append(groups.setdefault((images, asked[images] // MOST_NEIGHBOURS), len(groups)))
        asked[images] += 1
    sizes = Counter(ranks)
    loads, workers = [0] * n_shards, []
    for rank in range(len(groups)):
        workers.append(worker := loads.index(min(loads)))
        loads[worker] += sizes[rank]
    return [(workers[rank], rank) for rank in ranks]


def _of_worker(
    index: int, items: Iterable[Record | BrokenRecord], places: list[tuple[int, int]]
) -> list[Record | BrokenRecord]:
    """The worker's records in the order of their groups, by what ``dealt`` gives for the same records."""
    mine = [(rank, item) for item, (worker, rank) in zip(items, places, strict=True) if worker == index]
    return [item for _, item in sorted(mine, key=itemgetter(0))]


def share(items: Sequence[Record | BrokenRecord], index: int, n_shards: int) -> list[Record | BrokenRecord]:
    """One worker's part of all records; those about the same image next to each other, wherever they are in the file.

    That way an image is decoded, encoded and read by the model once: the questions after the first find it in the
    engine's caches, which hold only a part of a large file.
    """
    return _of_worker(index, items, dealt(items, n_shards))


def share_of(
    data_path: str, index: int, n_shards: int, limit: int | None, max_images: int = 1
) -> list[Record | BrokenRecord]:
    """``share`` of a data file, which is read twice: the other workers' records are not held in memory."""
    places = dealt(read_records(data_path, limit, max_images), n_shards)
    return _of_worker(index, read_records(data_path, limit, max_images), places)


class Worker:
    """Takes missing samples through one engine into one shard, and counts what comes of them."""

    def __init__(self, writer: ShardWriter, settings: EngineSettings, replaced: ReplacedImages | None = None):
        self.writer = writer
        self.added = {"model": settings.model_name, "model_notice": checkpoint_notice(settings.checkpoint)}
        self.replaced = replaced
        self.under_way: dict[str, Record] = {}
        self.predicted = 0
        self.errors: list[str] = []

    def fail(self, item: Record | BrokenRecord, error: str) -> None:
        error = redact(error)
        log.error("%s: %s", one_line(item.sample_id), one_line(error, 1000))
        self.writer.write(result_line(item, error=error))
        self.errors.append(error)

    def requests(self, ready: Iterator[Loaded | None]) -> Iterator[Request | None]:
        """Requests for the engine, as their images are ready; None while none is."""
        for loaded in ready:
            if loaded is None:
                yield None
                continue
            record, images = loaded
            if isinstance(images, ImageError):
                self.fail(record, f"line {record.line_number}, field 'image': {images}")
                continue
            self.under_way[record.sample_id] = record
            yield Request(record.sample_id, chat_messages(record), images, record.candidates)

    def finish(self, output: Output) -> None:
        record = self.under_way.pop(output.sample_id)
        if output.error is not None:
            self.fail(record, f"line {record.line_number}: {output.error}")
            return
        answer = {field.name: getattr(output, field.name) for field in fields(output) if field.name != "sample_id"}
        shown = {}
        if self.replaced is not None:
            other = self.replaced.shown.pop(record.sample_id, None)
            shown = {"replace_images": self.replaced.how, "image_shown": other}
        self.writer.write(result_line(record, **self.added, **shown, **answer))
        self.predicted += 1

    def run(self, engine: Engine, images: Iterator[Loaded | None], total: int) -> None:
        """Each of ``total`` records ends as one line of the shard; progress and time left go to stderr."""
        outputs = engine.run(self.requests(images))
        with tqdm(total=total, desc="inferred", unit="sample", mininterval=2.0, file=sys.stderr) as bar:
            for output in outputs:
                self.finish(output)
                bar.update()


def infer_share(
    mine: list[Record | BrokenRecord],
    writer: ShardWriter,
    settings: EngineSettings,
    start_engine: Callable[[], Engine],
    source: ImageSource,
    image_workers: int = 4,
    replaced: ReplacedImages | None = None,
) -> tuple[int, int, int]:
    """Infer what is missing of one share; returns (samples of the share, responses, failures).

    Args:
        mine: the share; its ids are what resume goes by.
        start_engine: called at most once, and only when something is missing.
        source: of the images.
        image_workers: threads that decode them.
        replaced: what the model sees in place of the records' own images.
    """
    finished = finished_samples(writer.path.parent)
    missing = [item for item in mine if item.sample_id not in finished]
    log.info("%d samples in this share, %d of them still to infer", len(mine), len(missing))
    worker = Worker(writer, settings, replaced)
    for item in missing:
        if isinstance(item, BrokenRecord):
            worker.fail(item, item.error)
    records = [item for item in missing if isinstance(item, Record)]
    if records:  # a finished share costs no engine start
        # transformers computes a batch in one piece: it shall not depend on which image was decoded first.
        in_order = settings.engine == "transformers"
        with ImageLoader(source, image_workers, in_order=in_order, replaced=replaced) as loader:
            images = loader.load(records)  # the first ones are decoded while the engine starts
            worker.run(start_engine(), images, len(records))
    done_before = len(mine) - len(missing)
    predicted, failed = done_before + worker.predicted, len(worker.errors)
    log.info("read %d = predicted %d (%d of them before) + failed %d", len(mine), predicted, done_before, failed)
    if worker.errors:
        log.error("the most frequent error: %s", most_frequent_error(worker.errors))
    if predicted + failed != len(mine):
        raise RuntimeError(f"{len(worker.under_way)} samples were given to the engine and never came back")
    return len(mine), predicted, failed


def images_of_run(settings: EngineSettings, data_path: str, image_roots: Sequence[Path] = ()) -> ImageSource:
    """Where the data file's images are looked for, and how they may be read."""
    permissions = {"allow_url": settings.allow_url, "allow_private_url": settings.allow_private_url}
    return data_images(data_path, images_in(data_path), image_roots, budget=settings.budget, **permissions)


def replaced_images(settings: EngineSettings, data_path: str, source: ImageSource) -> ReplacedImages | None:
    """What ``replace_images`` asks for; None for the records' own images.

    Raises:
        HopelessData: when the data file has too few images for it.
    """
    if not settings.replace_images:
        return None
    try:
        return ReplacedImages(settings.replace_images, settings.seed, source, images_in(data_path))
    except ValueError as error:
        raise HopelessData(f"{data_path}: {error}") from None


def infer(
    settings: EngineSettings,
    data_path: str,
    output_path: str,
    index: int = 0,
    n_shards: int = 1,
    limit: int | None = None,
    image_roots: Sequence[Path] = (),
    image_workers: int = 4,
    on_change: str = REFUSE,
) -> tuple[int, int, int]:
    """Infer what is missing of the data file's share; returns what ``infer_share`` does."""
    description = describe_run(settings, data_path, output_path)
    mine = share_of(data_path, index, n_shards, limit, settings.max_images)
    source = images_of_run(settings, data_path, image_roots)
    replaced = replaced_images(settings, data_path, source)
    with open_shard(output_path, index, n_shards, description, on_change) as (writer, run):

        def start_engine() -> Engine:
            run.begin()
            return load_engine(settings)

        samples, predicted, failed = infer_share(mine, writer, settings, start_engine, source, image_workers, replaced)
        run.end({"samples": samples, "predicted": predicted, "failed": failed})
        return samples, predicted, failed


def end_with(parent_pid: int) -> None:
    """Get SIGTERM when the parent ends, so that no worker outlives the job that started it (Linux).

    Raises:
        SystemExit: when it has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent_pid:
        sys.exit(f"the job that started this worker (pid {parent_pid}) has ended")
