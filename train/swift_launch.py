"""Stages 1 and 2: ms-swift's SFT as ``train/launch.py`` checks, plans and starts it."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.attention import attention


def number(text: str) -> int | float | str:
    """An option's value, so that 1e-5 and 0.00001 are the same."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def option_words(options: dict[str, list[str]]) -> list[str]:
    """Options and their values as a command's words."""
    return [word for name, values in options.items() for word in (f"--{name}", *values)]


def process(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    """A field of ``Processes``, from which its option is made."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Processes:
    """Which processes stages 1 and 2 run in."""

    n_gpu: int = process(8, "processes per machine")
    nnodes: int = process(1, "machines")
    node_rank: int = process(0, "this machine's number, from 0")
    master_addr: str = process("127.0.0.1", "the first machine's address")
    master_port: int = process(29500, "a free port of the first machine")
    use_cpu: str = process(
        "false", "on this machine's processors, float32, without FSDP and gradient checkpointing", ("true", "false")
    )
    cpu_processes: int = process(1, "processes with use_cpu")
    fsdp: str = process("train/fsdp_offload.json", "accelerate's configuration for all parameters")

    def launcher(self, adapters: bool) -> list[str]:
        """The words before ms-swift's script; ``adapters``: LoRA, which one machine trains without FSDP."""
        if self.use_cpu == "true":
            # Not by accelerate, whose `launch --cpu` starts one process however many it is asked for.
            run = ["-m", "torch.distributed.run", "--standalone", "--local_addr", "127.0.0.1", "--nproc_per_node"]
            return [*run, str(self.cpu_processes)] if self.cpu_processes > 1 else []
        if adapters:
            options = {"num_processes": self.n_gpu, "num_machines": 1}
            options |= {"mixed_precision": "bf16", "dynamo_backend": "no"}
        else:
            options = {
                "config_file": self.fsdp, "num_processes": self.n_gpu * self.nnodes, "num_machines": self.nnodes,
                "machine_rank": self.node_rank, "main_process_ip": self.master_addr,
                "main_process_port": self.master_port,
            }  # fmt: skip
        return ["-m", "accelerate.commands.launch", *option_words({name: [str(options[name])] for name in options})]


class Swift:
    """Stages 1 and 2: the command of ms-swift's SFT.

    Attributes:
        options: option → its values.
        launcher: the words before the options.
        dataset: the file as it is named; ms-swift gets the rows of ``prepare_data``.
    """

    name, package, entry, COMMAND = "ms-swift", "swift", "cli/sft.py", ["swift", "sft"]
    # These do not decide what is learned: places, logging, how a batch is spread over devices.
    ASIDE = frozenset({
        "model", "dataset", "output_dir", "custom_register_path", "attn_impl", "logging_steps", "eval_steps",
        "save_steps", "save_total_limit", "dataloader_num_workers", "report_to", "check_model", "add_version",
        "gradient_checkpointing", "gradient_checkpointing_kwargs", "per_device_train_batch_size",
        "per_device_eval_batch_size", "gradient_accumulation_steps",
    })  # fmt: skip

    def __init__(self, words: list[str], folder: Path, processes: Processes):
        self.options: dict[str, list[str]] = {}
        for word in words:
            if word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                values = self.options[name.replace("-", "_")] = [value] if equals else []
            elif not self.options:
                raise ValueError(f"{word}: expected an option of swift sft, --name value")
            else:
                values.append(word)
        # From 4 on, ms-swift calls it tuner_type, and wants the template named where a folder's name does not say it.
        self.tuner = "tuner_type" if (folder / "template" / "templates").is_dir() else "train_type"
        adapters, self.on_cpu = self["train_type"] == "lora", processes.use_cpu == "true"
        self.launcher = [sys.executable, *processes.launcher(adapters), str(folder / self.entry)]
        self.machines, self.rank = (1, 0) if self.on_cpu or adapters else (processes.nnodes, processes.node_rank)
        self.devices = processes.cpu_processes if self.on_cpu else processes.n_gpu * self.machines
        self.model, self.dataset, self.output_dir = self["model"], Path(self["dataset"]), Path(self["output_dir"])
        self.read = {"data": self.dataset}  # the files that decide what is learned
        self.files = {"dataset": (self.dataset, "the JSON-lines training file")}
        self.batch = self.devices * int(self["per_device_train_batch_size"]) * int(self["gradient_accumulation_steps"])

    def __getitem__(self, option: str) -> str:
        return " ".join(self.options.get(option, ()))

    def _set(self, option: str, value: Any) -> None:
        self.options[option] = [str(value)]

    def choose(self) -> None:
        """Settings that depend on what is installed and on what is in the output folder."""
        if self.on_cpu:
            self._set("torch_dtype", "float32")
            self._set("gradient_checkpointing", "false")
            self.options.pop("gradient_checkpointing_kwargs", None)
        if self["attn_impl"] or not self.on_cpu:
            self._set("attn_impl", attention(self["attn_impl"], "flash_attn"))
        else:
            self.options.pop("attn_impl", None)

    def newest(self) -> Path | None:
        """The newest complete checkpoint's folder, None without one.

        The optimizer's state is one file (.pt, under FSDP .bin). The trainer's own state is written last: a
        checkpoint that was interrupted has none, or half of one.
        """
        folders = [path for path in self.output_dir.glob("checkpoint-*") if path.name.partition("-")[2].isdecimal()]
        for folder in sorted(folders, key=lambda path: -int(path.name.partition("-")[2])):
            try:
                json.loads((folder / "trainer_state.json").read_bytes())
                if not any((folder / f"optimizer.{kind}").is_file() for kind in ("pt", "bin")):
                    raise FileNotFoundError
            except (OSError, ValueError):
                print(f"passing over {folder}: it is not complete", file=sys.stderr)
                continue
            return folder
        return None

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        self._set("resume_from_checkpoint", folder)
        # The weights, too, by name: Qwen2.5-VL's parameters are saved under other names than the module
        # has, and the trainer's own loading then skips every one of them without a word.
        # An adapter's checkpoint is no model: its base stays.
        if self["train_type"] != "lora":
            self._set("model", folder)

    def settings(self) -> dict[str, Any]:
        """Everything that decides what is learned, beside model and data."""
        given = {name: number(self[name]) for name in self.options if name not in self.ASIDE}
        pixels = {name.lower(): number(os.environ.get(name, "")) for name in ("MIN_PIXELS", "MAX_PIXELS")}
        return {**given, **pixels, "batch": self.batch}

    def prepare_data(self) -> None:
        """Give ms-swift a file of every row, in its own form, that is not too long.

        Raises:
            BadData, OSError: see ``train.data``.
        """
        from inference.data.images import PixelBudget
        from train.data import write_swift_rows

        pixels = {name.lower(): int(os.environ[name]) for name in ("MIN_PIXELS", "MAX_PIXELS") if name in os.environ}
        target = self.output_dir / "dataset.jsonl"
        budget = PixelBudget(**pixels)
        self.rows = write_swift_rows(self.dataset, target, self.model, int(self["max_length"]), budget)
        self._set("dataset", target)

    def plan(self, resumed: Path | None) -> list[str]:
        """What is about to run, one line each."""
        rows, held_out = self.rows.trained, float(self["split_dataset_ratio"])
        if held_out:
            rows -= max(int(rows * held_out), 1)
        per_device, accumulation = int(self["per_device_train_batch_size"]), int(self["gradient_accumulation_steps"])
        steps = int(self["max_steps"])
        if steps < 1:
            forward = math.ceil(rows / (self.devices * per_device))
            steps = math.ceil(math.ceil(forward / accumulation) * float(self["num_train_epochs"]))
        save_steps = int(self["save_steps"])
        stated = f"{self.rows.with_confidence} of them with a confidence"
        lines = [f"{self.rows.read} rows of {self.dataset}, {stated}, {held_out:g} held out"]
        if self.rows.too_long:
            lines.append(f"{self.rows.too_long} rows left out: over {self['max_length']} tokens")
        return [
            *lines,
            f"{self.devices // self.machines} device(s) × {self.machines} machine(s) × {per_device} × {accumulation} "
            f"accumulated = batch {self.batch}, learning rate {self['learning_rate']}, "
            f"attention {self['attn_impl'] or 'as the model has it'}",
            f"{steps} steps",
            f"checkpoints in {self.output_dir}, {steps // save_steps} of them: every {save_steps} steps, "
            f"{self['save_total_limit']} kept; and the last step's" + (f"; resuming from {resumed}" if resumed else ""),
        ]

    def words(self) -> list[str]:
        """The options in the installed version's names."""
        named = {self.tuner if name == "train_type" else name: values for name, values in self.options.items()}
        if self.tuner == "tuner_type":
            named.setdefault("template", self.options["model_type"])
        return option_words(named)

    def command(self) -> list[str]:
        return [*self.launcher, *self.words()]

    def show(self) -> int:
        """Print launcher and options, one word per line."""
        print(*self.launcher, "--", *self.words(), sep="\n")
        return 0
