"""Inference as this project does it, against the bare engine and against the published procedure.

    OMP_NUM_THREADS=1 python -m scripts.maintenance.benchmark --samples 256

One vLLM engine on the toy checkpoint, the same images and seeds for all sides, in turns, medians:

ours        everything that a worker does: reading images, rendering prompts, the step loop, writing the shard
bare        ``LLM.generate`` with the whole list: images decoded and prompts rendered before the clock starts
published   one request per ``generate`` call, prepared like bare's, on the first samples only

The toy world's own images (84 × 84) hardly need decoding; the photographs are made for this
benchmark (JPEG of 1600 × 1200, 1200 × 900 and 1600 × 600, scaled into the toy model's pixel budget). All
sides must give the same responses, which is checked. The first 64 images are decoded before ours is timed, as they are
while the engine starts; the others are decoded meanwhile. vLLM's caches of processed and of encoded images are emptied
before each turn.

Each ratio is given by the clock and by the CPU time of the engine's thread. Other work on the machine
disturbs the first; the second leaves out waiting, hence images that come too late, but shows what a
sample costs beside the engine. It needs OMP_NUM_THREADS=1, so that the model's work is that thread's own.

Prints the rows of the table in scripts/maintenance/README.md.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from PIL import Image, ImageFilter

from inference.common.paths import REPOSITORY, TOY_CHECKPOINT
from inference.common.terminal import plain_output
from inference.data.images import ImageSource
from inference.data.loader import ImageLoader
from inference.data.prompts import chat_messages
from inference.data.records import Record
from inference.engines.base import EngineSettings, Request
from inference.engines.vllm import VllmEngine
from inference.runs.shards import ShardWriter, read_results
from inference.runs.worker import Worker, share_of
from scripts.toy_world.world import PIXEL_BUDGET

SIZES = ((1600, 1200), (1200, 900), (1600, 600))  # 12, 12 and 10 image tokens within the budget
IMAGE_WORKERS = 4  # inference_vllm's default
COMPARED = {"bare": "the bare engine, images and prompts ready", "published": "one request per call"}


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
        made.append(Record(**{**vars(item), "images": [str(path)]}))
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
    """The sides of the benchmark on one engine; each turn adds its speeds and replaces its responses."""

    def __init__(self, engine: VllmEngine, records: list[Record], folder: Path, n_published: int):
        self.engine, self.records, self.folder, self.n_published = engine, records, folder, n_published
        self.source = ImageSource([folder], PIXEL_BUDGET)
        self.prepared = [
            engine.prepare(Request(item.sample_id, chat_messages(item), [self.source.load(item.image)]))
            for item in records
        ]
        for _, sampling in self.prepared:
            sampling.detokenize = True  # as it is unless one decodes oneself
        self.responses: dict[str, list[str]] = {}
        self.by_clock: dict[str, list[float]] = defaultdict(list)  # samples per second
        self.by_cpu: dict[str, list[float]] = defaultdict(list)

    def _note(self, name: str, watch: Stopwatch, responses: list[str]) -> None:
        self.responses[name] = responses
        self.by_clock[name].append(len(responses) / watch.clock)
        self.by_cpu[name].append(len(responses) / watch.cpu)

    def ours(self) -> None:
        forget_images(self.engine)
        output = Path(tempfile.mkdtemp(dir=self.folder))
        with ImageLoader(self.source, IMAGE_WORKERS) as loader:
            images = loader.load(self.records)
            loader.pool.submit(int).result()  # comes after the images that the loader takes ahead
            with Stopwatch() as watch, ShardWriter(output, 0, 1) as writer:
                Worker(writer, self.engine.settings).run(self.engine, images, len(self.records))
        self._note("ours", watch, [result["response"] for result in read_results(writer.path)])

    def bare(self) -> None:
        forget_images(self.engine)
        prompts, sampling = map(list, zip(*self.prepared, strict=True))
        with Stopwatch() as watch:
            results = self.engine.llm.generate(prompts, sampling, use_tqdm=False)
        self._note("bare", watch, [result.outputs[0].text for result in results])

    def published(self) -> None:
        forget_images(self.engine)
        results = []
        with Stopwatch() as watch:
            for prompt, sampling in self.prepared[: self.n_published]:
                results += self.engine.llm.generate([prompt], sampling, use_tqdm=False)
        self._note("published", watch, [result.outputs[0].text for result in results])

    def check_same_responses(self) -> None:
        """Stop when one side's responses are not the others'."""
        for name, texts in self.responses.items():
            if texts != self.responses["ours"][: len(texts)]:
                different = sum(a != b for a, b in zip(texts, self.responses["ours"], strict=False))
                sys.exit(f"{different} responses of the side {name!r} differ from ours")


def measure(engine: VllmEngine, what: str, records: list[Record], folder: Path, args: argparse.Namespace) -> None:
    """All sides on these records, and one printed row per comparison."""
    Sides(engine, records[: engine.max_num_seqs], folder, 0).ours()  # warms the engine up
    sides = Sides(engine, records, folder, args.published)
    for _ in range(args.rounds):
        sides.ours()
        sides.bare()
        sides.published()
    sides.check_same_responses()
    clock, cpu = (
        {name: statistics.median(speeds) for name, speeds in measured.items()}
        for measured in (sides.by_clock, sides.by_cpu)
    )
    for name, compared in COMPARED.items():
        ratios = f"{clock['ours'] / clock[name]:.2f} × (by CPU time {cpu['ours'] / cpu[name]:.2f})"
        speeds = f"{clock['ours']:.1f} and {clock[name]:.1f} samples/s"
        print(f"| {len(records)} {what}, against {compared} | {ratios} | {speeds} |", flush=True)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--published", type=int, default=24, help="samples that are asked one by one")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    settings = EngineSettings(
        str(TOY_CHECKPOINT), max_new_tokens=192, min_pixels=PIXEL_BUDGET.min_pixels, max_pixels=PIXEL_BUDGET.max_pixels
    )
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
