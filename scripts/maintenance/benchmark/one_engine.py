"""The process of one engine: it starts vLLM as inference does, takes its turns, and reports each.

Nothing here or in what it imports asks CUDA anything before vLLM starts its own process.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.data.images import ImageSource
from inference.data.loader import ImageLoader
from inference.data.prompts import chat_messages
from inference.data.records import Record
from inference.engines.base import EngineSettings, Request
from inference.engines.vllm import VllmEngine
from inference.runs.shards import ShardWriter, read_results
from inference.runs.worker import Worker, share_of
from scripts.maintenance.benchmark.machine import memory_used
from scripts.maintenance.benchmark.shapes import Shape
from scripts.maintenance.benchmark.variants import OURS, SINGLE, Place, Turn, Variant

Result = dict[str, Any]


class MeasuredEngine(VllmEngine):
    """Inference's own engine with a variant's arguments; every response has exactly ``max_new_tokens``."""

    def __init__(self, settings: EngineSettings, variant: Variant):
        self.variant = variant
        self.arguments = variant.arguments
        self.adding = 0.0  # seconds spent on adding requests, image processing included
        super().__init__(settings)
        self.default_queue_ahead = self.queue_ahead
        add = self.llm.llm_engine.add_request

        def timed_add(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return add(*args, **kwargs)
            finally:
                self.adding += time.perf_counter() - start

        self.llm.llm_engine.add_request = timed_add

    def options(self, on_cpu: bool) -> dict[str, Any]:
        return {**super().options(on_cpu), **self.arguments}

    def sampling(self, sample_id: str):
        params = super().sampling(sample_id)
        params.ignore_eos = True  # random weights hardly ever stop; trained ones would
        if not self.variant.seeds:
            params.seed = None
        if not self.variant.log_probabilities:
            params.logprobs = None
        return params

    def take(self, variant: Variant) -> None:
        """Run as this variant says from now on."""
        self.variant = variant
        self.queue_ahead = self.default_queue_ahead if variant.queue_ahead is None else variant.queue_ahead
        self.adding = 0.0


def cache_tokens(engine: VllmEngine) -> int | None:
    """How many tokens the key-value cache holds."""
    cache = engine.llm.llm_engine.vllm_config.cache_config
    return cache.num_gpu_blocks * cache.block_size if cache.num_gpu_blocks else None


class Sides:
    """The sides of the benchmark on one engine."""

    def __init__(self, engine: MeasuredEngine, shape: Shape, place: Place):
        self.engine, self.shape, self.place = engine, shape, place
        self.source = ImageSource([place.folder], engine.settings.budget)
        self.records: dict[int, list[Record]] = {}  # questions per image → all records

    def records_of(self, turn: Turn) -> list[Record]:
        """This engine's part of the turn's records, image by image or, where the variant says so, task by task."""
        questions = turn.variant.questions
        if questions not in self.records:
            data = self.place.folder / f"questions_{questions}.jsonl"
            self.records[questions] = share_of(str(data), 0, 1, None)
        return [self.records[questions][row] for row in turn.rows(self.place)]

    def ours(self, records: list[Record], variant: Variant) -> Callable[[], list[tuple[int, int, int]]]:
        """All that a worker of inference does: images read and decoded, prompts, the step loop, the shard."""
        output = Path(tempfile.mkdtemp(dir=self.place.folder))

        def run() -> list[tuple[int, int, int]]:
            with ImageLoader(self.source, variant.image_workers, variant.images_ahead) as loader:
                images = loader.load(records)
                with ShardWriter(output, 0, 1) as writer:
                    worker = Worker(writer, self.engine.settings)
                    worker.run(self.engine, images, len(records))
            if worker.errors:
                raise RuntimeError(f"{len(worker.errors)} requests failed, the first with: {worker.errors[0]}")
            names = ("prompt_tokens", "image_tokens", "output_tokens")
            return [tuple(result[name] for name in names) for result in read_results(writer.path)]

        return run

    def bare(self, records: list[Record], each: bool = False) -> Callable[[], list[tuple[int, int, int]]]:
        """``LLM.generate``, images decoded and prompts rendered before; on the whole list or, ``each``, one by one."""
        with ImageLoader(self.source, 16, in_order=True) as loader:
            prepared = [
                self.engine.prepare(Request(record.sample_id, chat_messages(record), images))
                for record, images in loader.load(records)
            ]
        for _, sampling in prepared:
            sampling.detokenize = True  # as it is unless one decodes oneself
        calls = [[one] for one in prepared] if each else [prepared]

        def run() -> list[tuple[int, int, int]]:
            results = []
            for call in calls:
                prompts, sampling = map(list, zip(*call, strict=True))
                results += self.engine.llm.generate(prompts, sampling, use_tqdm=False)
            return [
                (
                    len(result.prompt_token_ids),
                    sum(token == self.engine.image_token_id for token in result.prompt_token_ids),
                    len(result.outputs[0].token_ids),
                )
                for result in results
            ]

        return run

    def take(self, turn: Turn, wait: Callable[[], Any]) -> Result:
        """Measure one turn; ``wait`` returns when all engines are ready for it."""
        self.engine.take(turn.variant)
        records = self.records_of(turn)
        ours = turn.side == OURS
        run = self.ours(records, turn.variant) if ours else self.bare(records, each=turn.side == SINGLE)
        wait()
        start = time.monotonic()
        counts = run()
        end = time.monotonic()
        wanted = self.engine.settings.max_new_tokens
        return {
            "start": start,
            "end": end,
            "requests": len(counts),
            "prompt_tokens": sum(prompt for prompt, _, _ in counts),
            "image_tokens": sum(image for _, image, _ in counts),
            "output_tokens": sum(output for _, _, output in counts),
            "of_other_length": sum(output != wanted for _, _, output in counts),
            "operations": sum(self.shape.operations(*one) for one in counts),
            "adding_seconds": self.engine.adding,
            "memory_mib": memory_used(self.place.device),
        }


def measure(
    settings: EngineSettings,
    shape: Shape,
    turns: list[Turn],
    place: Place,
    start_alone,
    wait: Callable[[], Any],
    report: Callable[[str, Result], None],
) -> None:
    """Start the engine and take all turns.

    Args:
        start_alone: a lock; engines on one card start one after another, each sees the memory that it finds.
        wait: returns when all engines of the card have come to it.
        report: gets ("engine", …) once, then ("turn", …) for each turn.
    """
    variant = turns[0].variant
    known = {**variant.settings}
    if variant.engines > 1:
        known.setdefault("gpu_memory_utilization", round(settings.gpu_memory_utilization / variant.engines, 3))
    with start_alone:
        start = time.monotonic()
        engine = MeasuredEngine(dataclasses.replace(settings, **known), variant)
        seconds = time.monotonic() - start
    started = {"start_seconds": seconds, "cache_tokens": cache_tokens(engine), "max_num_seqs": engine.max_num_seqs}
    report("engine", {**started, "memory_mib": memory_used(place.device)})
    sides = Sides(engine, shape, place)
    for turn in turns:
        report("turn", sides.take(turn, wait))
