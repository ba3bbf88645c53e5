"""Check, describe and run a training. The templates of the three stages call it with the trainer's own command:

    python train/launch.py --stage 1 --n_gpu 8 --fsdp train/fsdp_offload.json -- swift sft --model … --dataset …
    python train/launch.py --stage 3 -- verl.trainer.main_ppo data.train_files=… …

It starts that command by what the machine asks for: accelerate, torch's own launcher on CPU, or the Python that
Ray can start. Settings are read from the command; of an option that is given twice, the last one counts.

Before anything heavy starts, what is missing or wrong is said in one line (exit status 2), and the plan is printed.
``run.json`` in the output folder says what is trained there, as it does for inference: another model, data or
setting is refused, the same one goes on from its last complete checkpoint, and a finished one says so. Ends with
the trainer's exit status.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
sys.path[:] = [str(REPO), *(place for place in sys.path if place != str(REPO / "train"))]


# What a training leaves in its folder, and what starting anew deletes.
CHECKPOINTS = ("checkpoint-*", "global_step_*")
OUTPUTS = (*CHECKPOINTS, "latest_checkpointed_iteration.txt", "logging.jsonl", "rollouts")


class Refused(ValueError):
    """What keeps a training from starting, in one line."""


def attention(asked: str, flash: str) -> str:
    """``asked``, or when it is empty ``flash`` (a framework's name for it) where flash-attn is installed, else sdpa."""
    installed = importlib.util.find_spec("flash_attn") is not None
    if asked.startswith("flash_att"):
        if not installed and asked in ("flash_attn", "flash_attention_2"):
            raise Refused(
                f"attn_impl={asked}, but {sys.executable} has no flash-attn: install it, or set attn_impl=sdpa."
            )
        return flash if asked in ("flash_attn", "flash_attention_2") else asked
    return asked or (flash if installed else "sdpa")


def number(text: str) -> int | float | str:
    """An option's value, so that 1e-5 and 0.00001 are the same."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def launcher(args: argparse.Namespace, adapters: bool) -> list[str]:
    """The words before ms-swift's script; ``adapters``: LoRA, which one machine trains without FSDP."""
    if args.use_cpu == "true":
        # Not by accelerate, whose `launch --cpu` starts one process however many it is asked for.
        run = ["-m", "torch.distributed.run", "--standalone", "--local_addr", "127.0.0.1", "--nproc_per_node"]
        return [*run, str(args.cpu_processes)] if args.cpu_processes > 1 else []
    if adapters:
        options = {"num_processes": args.n_gpu, "num_machines": 1, "mixed_precision": "bf16", "dynamo_backend": "no"}
    else:
        options = {
            "config_file": args.fsdp, "num_processes": args.n_gpu * args.nnodes, "num_machines": args.nnodes,
            "machine_rank": args.node_rank, "main_process_ip": args.master_addr, "main_process_port": args.master_port,
        }  # fmt: skip
    return ["-m", "accelerate.commands.launch", *option_words({name: [str(options[name])] for name in options})]


def option_words(options: dict[str, list[str]]) -> list[str]:
    """Options and their values as a command's words."""
    return [word for name, values in options.items() for word in (f"--{name}", *values)]


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

    def __init__(self, words: list[str], folder: Path, args: argparse.Namespace):
        self.options: dict[str, list[str]] = {}
        for word in words:
            if word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                values = self.options[name.replace("-", "_")] = [value] if equals else []
            elif not self.options:
                raise Refused(f"{word}: expected an option of swift sft, --name value")
            else:
                values.append(word)
        adapters, self.on_cpu = self["train_type"] == "lora", args.use_cpu == "true"
        self.launcher = [sys.executable, *launcher(args, adapters), str(folder / self.entry)]
        self.machines, self.rank = (1, 0) if self.on_cpu or adapters else (args.nnodes, args.node_rank)
        self.devices = args.cpu_processes if self.on_cpu else args.n_gpu * self.machines
        self.model, self.dataset, self.output_dir = self["model"], Path(self["dataset"]), Path(self["output_dir"])
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
        """What is about to run, a line each."""
        rows, held_out = self.rows.trained, float(self["split_dataset_ratio"])
        if held_out:
            rows -= max(int(rows * held_out), 1)
        a_device, accumulation = int(self["per_device_train_batch_size"]), int(self["gradient_accumulation_steps"])
        steps = int(self["max_steps"])
        if steps < 1:
            forward = math.ceil(rows / (self.devices * a_device))
            steps = math.ceil(math.ceil(forward / accumulation) * float(self["num_train_epochs"]))
        save_steps = int(self["save_steps"])
        lines = [f"{self.rows.read} rows of {self.dataset}, {held_out:g} of them held out"]
        if self.rows.too_long:
            lines.append(f"{self.rows.too_long} rows left out: over {self['max_length']} tokens")
        return [
            *lines,
            f"{self.devices // self.machines} device(s) × {self.machines} machine(s) × {a_device} × {accumulation} "
            f"accumulated = batch {self.batch}, learning rate {self['learning_rate']}, "
            f"attention {self['attn_impl'] or 'as the model has it'}",
            f"{steps} steps",
            f"checkpoints in {self.output_dir}, {steps // save_steps} of them: every {save_steps} steps, "
            f"{self['save_total_limit']} kept; and the last step's" + (f"; resuming from {resumed}" if resumed else ""),
        ]

    def command(self) -> list[str]:
        return [*self.launcher, *option_words(self.options)]

    def show(self) -> int:
        """Print launcher and options, one word per line."""
        print(*self.launcher, "--", *option_words(self.options), sep="\n")
        return 0


def hydra_string(text: str) -> str:
    """``text`` quoted, so that Hydra reads it as it is: a path may hold spaces, commas and equals signs.

    A backslash represents itself there, except before a quote, and so before the closing one, where it is doubled.
    """
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)\Z", r"\1\1", text) + "'"


class Verl:
    """Stage 3: the command of verl's PPO trainer.

    Attributes:
        overrides: Hydra's words, ``key=value``.
    """

    name, package, entry, COMMAND = "verl", "verl", "trainer/main_ppo.py", ["verl.trainer.main_ppo"]
    # Any text, which Hydra would take apart; paths are made absolute, as Ray's workers have another working directory.
    PATHS = re.compile(
        r"data\.(train|val)_files|actor_rollout_ref\.model\.path|(reward\.)?custom_reward_function\.path"
        r"|trainer\.(default_local_dir|rollout_data_dir)|hydra\.run\.dir"
    )
    NAMES = re.compile(r"trainer\.(project|experiment)_name")
    ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"
    # These do not decide what is learned: places, logging, how a batch is spread over devices and memory.
    ASIDE = re.compile(
        r"data\.(train_files|val_files|dataloader_num_workers)|actor_rollout_ref\.model\.path|hydra\..*|ray_kwargs\..*"
        r"|(reward\.)?custom_reward_function\.path|trainer\.(logger|project_name|experiment_name|default_local_dir"
        r"|n_gpus_per_node|nnodes|save_freq|test_freq|resume_mode|rollout_data_dir)"
        r"|.*\.(\w*micro_batch_size_per_gpu|gpu_memory_utilization|tensor_model_parallel_size|\w*_offload|attn_implementation"
        r"|enable_gradient_checkpointing|use_torch_compile|enforce_eager|free_cache_engine)"
    )
    machines, rank = 1, 0  # verl is started on one machine, and finds the others

    def __init__(self, words: list[str], folder: Path, args: argparse.Namespace | None = None):
        self.overrides, self.folder = [self._as_text(word) for word in words], folder
        if self._reads_nested_reward():
            key = re.compile(r"^(\+{0,2})custom_reward_function\.")
            self.overrides = [key.sub(r"\1reward.custom_reward_function.", word) for word in self.overrides]
        values = self.values()
        for name in ("data.train_files", "data.val_files"):
            if not isinstance(values[name], str):
                raise Refused(f"{name}={values[name]}: expected one file")
        self.model = values["actor_rollout_ref.model.path"]
        self.output_dir = Path(values["trainer.default_local_dir"])
        self.dataset, self.validation = Path(values["data.train_files"]), Path(values["data.val_files"])
        self.reward = Path(next(values[name] for name in values if name.endswith("custom_reward_function.path")))
        self.files = {
            "dataset": (self.dataset, "the parquet file of training prompts"),
            "validation": (self.validation, "a parquet file of prompts"),
        }

    def _as_text(self, word: str) -> str:
        """The override with its value quoted where that is any text and not quoted yet."""
        key, equals, value = word.partition("=")
        path, name = (kind.fullmatch(key.lstrip("+")) for kind in (self.PATHS, self.NAMES))
        if not (path or name) or re.fullmatch(r"""'.*'|".*"|null""", value):
            return word
        return key + equals + hydra_string(os.path.abspath(value) if path else value)

    def _reads_nested_reward(self) -> bool:
        """Whether verl reads ``reward.custom_reward_function``, as 0.8 and later do.

        The other key is composed there all the same, and 0.9 ignores it: another reward would be trained on.
        """
        path = self.folder / "trainer" / "ppo" / "reward.py"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            text = ""
        read = re.findall(r"""config(\.reward)?\.get\(["']custom_reward_function["']\)""", text)
        if len(set(read)) != 1:
            raise Refused(f"{path}: expected verl 0.4 to 0.9, found no place that reads custom_reward_function")
        return bool(read[0])

    def values(self) -> dict[str, Any]:
        """key → value as Hydra reads it; the last one counts."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        parsed = OverridesParser.create().parse_overrides(self.overrides)
        return {override.key_or_group: override.value() for override in parsed}

    def choose(self) -> None:
        """Settings that depend on what is installed."""
        for i, word in enumerate(self.overrides):
            key, equals, value = word.partition("=")
            if key.lstrip("+") == self.ATTENTION:
                self.overrides[i] = key + equals + attention(value, "flash_attention_2")

    def newest(self) -> Path | None:
        """The checkpoint's folder that verl will go on from, None without one.

        verl resumes from the step that a file names. It is written when that step's checkpoint is complete; a
        kill or a full disk in just that moment leaves it empty, and verl would not start.
        """
        latest = self.output_dir / "latest_checkpointed_iteration.txt"
        if not latest.exists():
            return None
        step = latest.read_text(encoding="utf-8", errors="replace").strip()
        if not step.isdecimal():
            whole = [int(path.parent.name.rpartition("_")[2]) for path in self.output_dir.glob("global_step_*/data.pt")]
            if not whole:
                latest.unlink()
                return None
            step = str(max(whole))
            latest.write_text(step, encoding="utf-8")
        return self.output_dir / f"global_step_{step}"

    def resume(self, folder: Path) -> None:
        """Nothing: verl goes on by itself."""

    def settings(self) -> dict[str, Any]:
        """Everything that decides what is learned, beside model, data and reward."""
        return {name: value for name, value in self.values().items() if not self.ASIDE.fullmatch(name)}

    def check_logger(self) -> None:
        """wandb without a key would end the training after everything has been loaded.

        Raises:
            Refused: when a run cannot be logged.
        """
        from inference.runs.wandb_run import why_not

        if "wandb" in (self.values().get("trainer.logger") or ()) and (problem := why_not()):
            raise Refused(f"{problem}; without wandb: logger='[\"console\"]'")

    def prepare_data(self) -> None:
        """Raises BadData: see ``train.data``."""
        from train.data import check_parquet

        values = self.values()
        keys = (values.get("data.image_key", "images"), values.get("data.prompt_key", "prompt"))
        self.rows = check_parquet(self.dataset, *keys)
        check_parquet(self.validation, *keys)
        # verl drops the last, smaller batch of an epoch.
        batch = values["data.train_batch_size"]
        self.steps = values["trainer.total_training_steps"] or self.rows // batch * values["trainer.total_epochs"]
        if self.steps < 1:
            raise Refused(f"{self.rows} prompts in {self.dataset} are less than one batch of batch_size={batch}.")

    def plan(self, resumed: Path | None) -> list[str]:
        """What is about to run, a line each."""
        value, save_freq = self.values(), self.values()["trainer.save_freq"]
        saved = self.steps // save_freq if save_freq > 0 else 0
        lines = [
            f"{self.rows} prompts of {self.dataset}",
            f"{value['trainer.n_gpus_per_node']} device(s) × {value['trainer.nnodes']} machine(s); "
            f"{value['data.train_batch_size']} prompts × {value['actor_rollout_ref.rollout.n']} responses per step, "
            f"learning rate {value['actor_rollout_ref.actor.optim.lr']:g}, attention {value[self.ATTENTION]}",
            f"{self.steps} steps (fewer if prompts are over {value['data.max_prompt_length']} tokens), "
            f"validation every {value['trainer.test_freq']}",
            f"checkpoints in {self.output_dir}, {saved} of them: every {save_freq} steps; and the last step's",
        ]
        return [*lines, f"resuming from step {step_of(resumed)}"] if resumed else lines

    def command(self) -> list[str]:
        script = ["bash", str(REPO / "scripts" / "python_for_ray.sh"), sys.executable]
        python = subprocess.run(script, check=True, capture_output=True, text=True).stdout.removesuffix("\n")
        return [python, "-m", *self.COMMAND, *self.overrides]

    def show(self) -> int:
        """Print what verl would run with, composed by verl."""
        return subprocess.run([*self.command(), "--cfg", "job"], check=False).returncode


def framework(kind: type[Swift | Verl], checkout: str) -> Path:
    """The folder of the framework's package, from the checkout if one is named.

    Raises:
        Refused: when it is not there.
    """
    if checkout:
        if not (Path(checkout) / kind.package / kind.entry).is_file():
            raise Refused(f"no {kind.package}/{kind.entry} in {kind.package}_path={checkout}")
        absolute = os.path.abspath(checkout)
        sys.path.insert(1, absolute)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (absolute, os.environ.get("PYTHONPATH"))))
    found = importlib.util.find_spec(kind.package)
    if found is None or not found.submodule_search_locations:
        raise Refused(
            f"{sys.executable} has no {kind.name}. "
            f"Run bash scripts/setup.sh and set python=.venv/bin/python, or set {kind.package}_path."
        )
    return Path(found.submodule_search_locations[0])


def check_inputs(training: Swift | Verl, args: argparse.Namespace) -> None:
    """Model and files are there, and the model can be run as it was saved.

    Raises:
        Refused, CheckpointRefused: naming what is missing or wrong.
    """
    from inference.engines.checkpoint_config import without_torch
    from inference.engines.checkpoints import check_checkpoint

    if not Path(training.model).is_dir() and (isinstance(training, Verl) or training.model.startswith(("/", "."))):
        kind = "the cold-start model's folder" if isinstance(training, Verl) else "a model folder or a hub name"
        raise Refused(f"no folder at model={training.model}. Set model to {kind}.")
    for name, (path, what) in training.files.items():
        if not path.is_file() or not path.stat().st_size:
            raise Refused(f"no file at {name}={path}. Set {name} to {what}.")
    local = Path(training.model).is_dir()
    if local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if local or (args.print != "true" and os.environ.get("USE_HF") == "1"):  # its files are fetched, of another hub not
        environment = dict(os.environ)
        without_torch()
        try:
            check_checkpoint(training.model, args.allow_pickle == "true", args.trust_remote_code == "true")
        finally:  # the trainer needs it
            os.environ.clear()
            os.environ.update(environment)


def outputs(folder: Path) -> list[Path]:
    return [path for pattern in OUTPUTS for path in folder.glob(pattern)]


def describe_run(training: Swift | Verl) -> Any:
    """The training's identity, as ``inference.runs.folder`` keeps it."""
    from inference.runs.folder import Description, known_checkpoint_files
    from inference.runs.identity import checkpoint_identity, data_identity

    identity, files = checkpoint_identity(training.model, known_checkpoint_files(training.output_dir))
    parts = {"checkpoint": identity, "settings": training.settings(), "data": data_identity(training.dataset)}
    if isinstance(training, Verl):
        parts |= {"validation": data_identity(training.validation), "reward": data_identity(training.reward)}
    place = os.path.abspath(training.model) if Path(training.model).is_dir() else training.model
    where = {"data_path": os.path.abspath(training.dataset), "checkpoint": place, "checkpoint_files": files}
    return Description(parts, where)


def start(training: Swift | Verl, args: argparse.Namespace) -> int:
    """Claim the output folder, check the data, print the plan, train; the exit status.

    Raises:
        Refused, BadData, RunChanged, OSError: what keeps it from starting.
    """
    from inference.runs.folder import OVERWRITE, REFUSE, RESUME_ANYWAY, Run, compare, prepare, read_run

    folder = training.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    description = describe_run(training)
    on_change = OVERWRITE if args.overwrite == "true" else RESUME_ANYWAY if args.resume_anyway == "true" else REFUSE
    trained = any(path for pattern in CHECKPOINTS for path in folder.glob(pattern))
    first = training.rank == 0  # further machines share folder and run
    if first and trained and on_change == REFUSE:
        prepare(folder, description, outputs=outputs)
    resumed = training.newest() if on_change != OVERWRITE else None
    run = read_run(folder) if resumed else None
    last = run["starts"][-1] if run and run["starts"] else {}
    same = run is not None and not compare(run["identity"], description.identity)
    if same and last.get("counts") == {"exit_status": 0, "step": step_of(resumed)}:
        print(f"Stage {args.stage} is finished: {resumed}. Nothing is left to train (overwrite=true starts anew).")
        return 0
    training.prepare_data()
    if first and not (trained and on_change == REFUSE):
        # A start that left no checkpoint binds the folder to nothing.
        prepare(folder, description, on_change if trained else OVERWRITE, outputs=outputs)
    if resumed:
        training.resume(resumed)
    heading, *lines = training.plan(resumed)
    print(f"Stage {args.stage}: {heading}", *lines, sep="\n  ", flush=True)
    if not first:
        return run_trainer(training.command(), folder)
    with open(folder / "training.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"another training writes {folder} now") from None
        record = Run(folder, f"stage {args.stage}")
        record.begin()
        # Ray puts the working directory before everything else in the paths of its workers.
        status = run_trainer(training.command(), folder, folder if isinstance(training, Verl) else None)
        record.end({"exit_status": status, "step": step_of(training.newest())})
    return status


def step_of(checkpoint: Path | None) -> int:
    """The step in the name of a checkpoint's folder, 0 without one."""
    return int(re.split("[-_]", checkpoint.name)[-1]) if checkpoint else 0


def largest_checkpoint(output_dir: Path) -> int:
    """Bytes of the largest checkpoint there; 0 without one."""
    folders = [path for pattern in CHECKPOINTS for path in output_dir.glob(pattern)]
    return max((sum(path.stat().st_size for path in folder.rglob("*")) for folder in folders), default=0)


def run_trainer(command: list[str], output_dir: Path, cwd: Path | None = None) -> int:
    """Its exit status; says so when it ended because no further checkpoint fits on the disk.

    A trainer that cannot write its checkpoint ends in a page of traceback that does not always say why.
    """
    trainer = subprocess.Popen(command, cwd=cwd)
    # The terminal sends Ctrl-C to the trainer as well; what is sent to this process alone is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: trainer.terminate())
    status = trainer.wait()
    if status:
        free = shutil.disk_usage(output_dir).free
        if free <= largest_checkpoint(output_dir):
            print(
                f"The training ended with status {status}, and the disk of {output_dir} is full "
                f"({free / 2**20:.1f} MiB are left). "
                "Complete checkpoints are kept: make room and start the same command again.",
                file=sys.stderr,
            )
    return status if status >= 0 else 128 - status


def main() -> int:
    from inference.common.terminal import plain_output

    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True, choices=("1", "2", "3"))
    parser.add_argument("--checkout", default="", help="a checkout of the framework; empty: the installed package")
    parser.add_argument("--more", default="", help="further options of the trainer, separated by blanks")
    switches = {
        "print": "show what would run; start nothing",
        "overwrite": "start anew in a folder that has been trained in",
        "resume_anyway": "go on there although model, data or settings are others",
        "allow_pickle": "load weights that are pickled",
        "trust_remote_code": "run Python code that comes with the model",
        "use_cpu": "stages 1 and 2: on this machine's processors, float32, without FSDP and gradient checkpointing",
    }
    for name, text in switches.items():
        parser.add_argument(f"--{name}", default="false", choices=("true", "false"), help=text)
    processes = {
        "n_gpu": (8, "processes per machine"),
        "nnodes": (1, "machines"),
        "node_rank": (0, "this machine's number, from 0"),
        "master_addr": ("127.0.0.1", "the first machine's address"),
        "master_port": (29500, "a free port of the first machine"),
        "cpu_processes": (1, "processes with use_cpu"),
        "fsdp": (str(REPO / "train" / "fsdp_offload.json"), "accelerate's configuration for all parameters"),
    }
    for name, (default, text) in processes.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"stages 1 and 2: {text}")
    parser.add_argument(
        "command", nargs="+", help="after --: swift sft --name value …, or verl.trainer.main_ppo key=value …"
    )
    args = parser.parse_args()
    try:
        kind = Verl if args.stage == "3" else Swift
        length = len(kind.COMMAND)
        if args.command[:length] != kind.COMMAND:
            raise Refused(f"{' '.join(args.command[:length])}: expected {' '.join(kind.COMMAND)}")
        folder = framework(kind, args.checkout)
        training = kind([*args.command[length:], *args.more.split()], folder, args)
        os.environ.setdefault("USE_HF", "1")  # the Hugging Face hub; ms-swift's own default is ModelScope
        os.environ["TRUST_REMOTE_CODE"] = args.trust_remote_code  # swift_plugins.py reads it
        if args.use_cpu == "true":
            os.environ["ACCELERATE_USE_CPU"] = "true"
        if args.print != "true" or kind is Swift:
            check_inputs(training, args)
        training.choose()
        if kind is Verl and not training.reward.is_file():
            raise Refused(f"no file at reward_path={training.reward}.")
        if args.print == "true":
            if kind is Swift:
                resumed = training.newest()
                if resumed and args.overwrite != "true":
                    training.resume(resumed)
            return training.show()
        if kind is Verl:
            training.check_logger()
        return start(training, args)
    except (ValueError, OSError) as error:
        print(f"stage {args.stage}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
