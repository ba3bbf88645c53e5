"""Inference as this project does it, against the bare engine and against the published procedure.

    OMP_NUM_THREADS=1 python -m scripts.maintenance.benchmark.inference --samples 256

One vLLM engine on the toy checkpoint, the same images and seeds for all sides, in turns, medians:

ours        everything that a worker does: reading images, rendering prompts, the step loop, writing the shard
bare        ``LLM.generate`` with the whole list: images decoded and prompts rendered before the clock starts
published   one request a ``generate`` call, prepared like bare's, on the first samples only
in order    ours, but each image waits for the one before it
longest     ours, with the images of most tokens first

The toy world's own images (84 × 84) hardly need decoding; the photographs are made for this
benchmark (JPEG of 1600 × 1200, 1200 × 900 and 1600 × 600, scaled into the toy model's pixel budget). All
sides must give the same responses, which is checked. The first 64 images are decoded before ours is timed, as they are
while the engine starts; the others are decoded meanwhile. vLLM's caches of processed and of encoded images are emptied
before each turn.

Each ratio is given by the clock and by the CPU time of the engine's thread. Work of others on the machine
disturbs the first; the second leaves out waiting, hence images that come too late, but shows what a
sample costs beside the engine. It needs OMP_NUM_THREADS=1, so that the model's work is that thread's own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageFilter

from inference.common.terminal import plain_output
from inference.data.images import ImageSource, PixelBudget
from inference.data.loader import ImageLoader
from inference.data.prompts import chat_messages
from inference.data.vecbench import Record
from inference.engines.base import EngineSettings, Request
from inference.engines.vllm import VllmEngine
from inference.inference_vllm import Worker, share_of
from inference.runs.shards import ShardWriter, read_results
from scripts.maintenance.benchmark.measure import REPOSITORY, in_turns, record

COMMAND = "python -m scripts.maintenance.benchmark.inference"
CHECKPOINT = REPOSITORY / "scripts" / "toy_world" / "checkpoint"
BUDGET = PixelBudget(3136, 12544)
SIZES = ((1600, 1200), (1200, 900), (1600, 600))  # 12, 12 and 10 image tokens within the budget
IMAGE_WORKERS = 4  # inference_vllm's default
COMPARED = ("bare", "published", "in order", "longest")


def draw_toy_world(folder: Path, samples: int) -> list[Record]:
    """So many toy records, all nine tasks in turn."""
    command = [sys.executable, "-m", "scripts.toy_world.generate", "--output_dir", str(folder), "--processes", "1"]
    subprocess.run([*command, "--test", str(-(-samples // 9))], cwd=REPOSITORY, check=True, capture_output=True)
    return share_of(str(folder / "test.jsonl"), 0, 1, samples)


def make_photographs(records: list[Record], folder: Path) -> list[Record]:
    """The same records with photograph-sized JPEG files: each toy image enlarged under film grain."""
    made = []
    grain = Image.effect_noise((800, 600), 60).convert("RGB")
    for index, item in enumerate(records):
        size = SIZES[index % len(SIZES)]
        with Image.open(folder / item.image) as image:
            large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(3))
        path = folder / "photographs" / f"{index:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.blend(large, grain.resize(size), 0.2).save(path, quality=92)
        made.append(Record(**{**vars(item), "image": str(path)}))
    return made


def forget_images(engine: VllmEngine) -> None:
    """Empty the caches of an engine in this process: a turn must not find what the one before it left there."""
    engine.llm.llm_engine.reset_mm_cache()  # processed images
    # Encoded images. vLLM 0.11 has no call for it: the scheduler's list, and what the model runner keeps.
    encoded = engine.llm.llm_engine.engine_core.engine_core.scheduler.encoder_cache_manager
    encoded.__init__(encoded.cache_size)
    engine.llm.collective_rpc(lambda worker: worker.model_runner.encoder_cache.clear())


class Stopwatch:
    """Seconds by the clock and of this thread's CPU time."""

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter(), time.thread_time()
        return self

    def __exit__(self, *_) -> None:
        self.clock = time.perf_counter() - self._start[0]
        self.cpu = time.thread_time() - self._start[1]


class Sides:
    """The sides of the benchmark on one engine.

    Each returns samples a second by the clock, and keeps those by CPU time and its responses.
    """

    def __init__(self, engine: VllmEngine, records: list[Record], folder: Path, n_published: int):
        self.engine, self.records, self.folder = engine, records, folder
        self.n_published = min(n_published, len(records))
        self.source = ImageSource([folder], BUDGET)
        images = [self.source.load(item.image) for item in records]
        self.prepared = [
            engine.prepare(Request(item.sample_id, chat_messages(item), image))
            for item, image in zip(records, images, strict=True)
        ]
        tokens = {item.sample_id: image.width * image.height for item, image in zip(records, images, strict=True)}
        self.longest_first = sorted(records, key=lambda item: -tokens[item.sample_id])
        self.responses: dict[str, list[str]] = {}
        self.by_cpu: dict[str, list[float]] = defaultdict(list)

    def _speed(self, name: str, watch: Stopwatch, responses: list[str]) -> float:
        self.responses[name] = responses
        self.by_cpu[name].append(len(responses) / watch.cpu)
        return len(responses) / watch.clock

    def ours(self, name: str, records: list[Record], in_order: bool = False) -> float:
        forget_images(self.engine)
        output = Path(tempfile.mkdtemp(dir=self.folder))
        with ImageLoader(self.source, IMAGE_WORKERS, in_order=in_order) as loader:
            images = loader.load(records)
            loader.pool.submit(int).result()  # comes after the images that the loader takes ahead
            with Stopwatch() as watch, ShardWriter(output, 0, 1) as writer:
                Worker(writer, self.engine.settings).run(self.engine, images, len(records))
        return self._speed(name, watch, [result["response"] for result in read_results(writer.path)])

    def bare(self) -> float:
        forget_images(self.engine)
        prompts, sampling = map(list, zip(*self.prepared, strict=True))
        with Stopwatch() as watch:
            results = self.engine.llm.generate(prompts, sampling, use_tqdm=False)
        return self._speed("bare", watch, [result.outputs[0].text for result in results])

    def published(self) -> float:
        forget_images(self.engine)
        found = []
        with Stopwatch() as watch:
            for prompt, sampling in self.prepared[: self.n_published]:
                found += self.engine.llm.generate([prompt], sampling, use_tqdm=False)
        return self._speed("published", watch, [result.outputs[0].text for result in found])

    def check_same_responses(self) -> None:
        """Stop when one side's responses are not the others'."""
        for name, texts in self.responses.items():
            if texts != self.responses["ours"][: len(texts)]:
                different = sum(a != b for a, b in zip(texts, self.responses["ours"], strict=False))
                sys.exit(f"{different} responses of the side {name!r} differ from ours")


def measure(engine: VllmEngine, what: str, records: list[Record], folder: Path, args: argparse.Namespace) -> None:
    """All sides on these records, and one recorded line a comparison."""
    sides = Sides(engine, records, folder, args.published)
    turns: dict[str, Callable[[], float]] = {
        "ours": lambda: sides.ours("ours", records),
        "bare": sides.bare,
        "published": sides.published,
        "in order": lambda: sides.ours("in order", records, in_order=True),
    }
    if what != "toy images":  # those are all of one size
        turns["longest"] = lambda: sides.ours("longest", sides.longest_first)
    turns = {name: turn for name, turn in turns.items() if name in ("ours", *args.compare)}
    sides.ours("warm-up", records[: engine.max_num_seqs])
    sides.by_cpu.clear()
    speed = in_turns(turns, args.rounds)
    sides.check_same_responses()
    threads = f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, {IMAGE_WORKERS} image threads"
    for name, compared in (
        ("bare", "the bare engine, images and prompts ready"),
        ("published", f"one request a call ({sides.n_published} samples)"),
        ("in order", "ours with images in order"),
        ("longest", "ours with most image tokens first"),
    ):
        if name in speed:
            by_clock = speed["ours"] / speed[name]
            by_cpu = statistics.median(sides.by_cpu["ours"]) / statistics.median(sides.by_cpu[name])
            figures = f"by CPU time {by_cpu:.2f}; {speed['ours']:.1f} and {speed[name]:.1f} samples/s; {threads}"
            title = f"{len(records)} {what}, toy model, against {compared}"
            record("inference", title, f"{by_clock:.2f} × ({figures})", f"{COMMAND} --samples {args.samples}")


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--published", type=int, default=24, help="samples that are asked one by one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compare", nargs="+", choices=COMPARED, default=COMPARED, help="ours with which sides")
    args = parser.parse_args()
    settings = EngineSettings(str(CHECKPOINT), "toy", max_new_tokens=192, budget=BUDGET)
    folder = Path(tempfile.mkdtemp(prefix="inference_benchmark_"))
    try:
        records = draw_toy_world(folder, args.samples)
        photographs = make_photographs(records, folder)
        engine = VllmEngine(settings)
        measure(engine, "toy images", records, folder, args)
        measure(engine, "photographs of up to 1600 × 1200", photographs, folder, args)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
