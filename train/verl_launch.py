"""Stage 3: verl's PPO trainer as ``train/launch.py`` checks, plans and starts it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inference.common.paths import REPOSITORY
from inference.engines.checkpoint_config import read_json
from inference.runs.wandb_run import why_not
from train.attention import attention
from train.cus_reward import deliberate_error_threshold

REWARD = REPOSITORY / "train" / "cus_reward.py"
REWARD_SETTINGS = ("rule", "clip", "weight", "correctness_weight")  # of its compute_score


def step_of(checkpoint: Path | None) -> int:
    """The step in the name of a checkpoint's folder, of either framework; 0 without one."""
    return int(re.split("[-_]", checkpoint.name)[-1]) if checkpoint else 0


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
    MODEL_TYPE = "actor_rollout_ref.model.override_config.model_type"
    CONTEXT = "actor_rollout_ref.rollout.max_model_len"
    LENGTHS = ("data.max_prompt_length", "data.max_response_length")
    # vLLM's cache of image inputs is switched off by its size from 0.11 on; 0.24 knows no other way.
    CACHE_OFF, CACHE_SIZE = "disable_mm_preprocessor_cache=True", "mm_processor_cache_gb=0"
    # These do not decide what is learned: places, logging, how a batch is spread over devices and memory.
    ASIDE = re.compile(
        r"data\.(train_files|val_files|dataloader_num_workers)|actor_rollout_ref\.model\.path|hydra\..*|ray_kwargs\..*"
        r"|(reward\.)?custom_reward_function\.path|trainer\.(logger|project_name|experiment_name|default_local_dir"
        r"|n_gpus_per_node|nnodes|save_freq|test_freq|resume_mode|rollout_data_dir)|transfer_queue\..*"
        r"|.*\.(\w*micro_batch_size_per_gpu|gpu_memory_utilization|tensor_model_parallel_size|\w*_offload|attn_implementation"
        r"|enable_gradient_checkpointing|use_torch_compile|enforce_eager|free_cache_engine|max_model_len)"
    )
    FREEZE = "actor_rollout_ref.actor.freeze_vision_tower"
    COUNTS = ("trainer.n_gpus_per_node", "trainer.nnodes", "data.train_batch_size", "actor_rollout_ref.rollout.n")
    machines, rank = 1, 0  # verl is started on one machine, and finds the others

    def __init__(self, words: list[str], folder: Path):
        self.folder = folder
        reward = self._reward_key()
        spelling = re.compile(r"^([+~]*)(reward\.)?custom_reward_function\b")
        self.overrides = [spelling.sub(rf"\1{reward}", self._as_text(word)) for word in words]
        values = self.values()
        for name in ("data.train_files", "data.val_files"):
            if not isinstance(values[name], str):
                raise ValueError(f"{name}={values[name]}: expected one file")
        if values.get(self.FREEZE) and not self._reads(self.FREEZE.rpartition(".")[2]):
            raise ValueError(f"{self.FREEZE}: the verl in {folder} would train the vision tower all the same")
        for name in self.COUNTS:
            if not isinstance(value := values.get(name, 1), int) or value < 1:
                raise ValueError(f"{name}={value}: expected a whole number of at least 1")
        self.model = values["actor_rollout_ref.model.path"]
        self.output_dir = Path(values["trainer.default_local_dir"])
        self.dataset, self.validation = Path(values["data.train_files"]), Path(values["data.val_files"])
        # Without a path verl calls its own function, into which scripts/install_reward.sh puts the project's.
        self.reward = Path(values.get(f"{reward}.path") or folder / "utils" / "reward_score" / "cus_reward.py")
        prefix = f"{reward}.reward_kwargs"
        self.reward_settings = dict(values.get(prefix) or {})
        self.reward_settings |= {key[len(prefix) + 1 :]: values[key] for key in values if key.startswith(f"{prefix}.")}
        if self.reward_settings and not values.get(f"{reward}.path"):
            raise ValueError(f"{prefix}: has no effect without {reward}.path: verl calls its own function without them")
        self.read = {"data": self.dataset, "validation": self.validation, "reward": self.reward}
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

    def _reward_key(self) -> str:
        """Where the installed verl reads its custom reward; 0.7.1 moved it.

        The other key is composed there all the same, and 0.9 ignores it: another reward would be trained on.
        """
        path = self.folder / "trainer" / "ppo" / "reward.py"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            text = ""
        read = set(re.findall(r"""config\.(reward\.)?get\(["']custom_reward_function["']\)""", text))
        if len(read) != 1:
            raise ValueError(f"{path}: expected verl 0.4 to 0.9, found no place that reads custom_reward_function")
        return f"{read.pop()}custom_reward_function"

    def _reads(self, option: str) -> bool:
        """Whether a worker of verl looks at the actor's option; 0.8 and 0.9 have some in their configuration alone."""
        return any(option in path.read_text(encoding="utf-8") for path in self.folder.glob("workers/*.py"))

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
        self.overrides[:0] = [*self._model_type(), *self._context()]

    def _context(self) -> list[str]:
        """The override that gives vLLM room for a prompt and a response, and no more.

        verl 0.6 does so itself; 0.9 takes all that the model can (128,000 tokens for 7B), and as prompts are not cut, a
        batch of as many: vLLM tries its largest batch when it starts, and keeps memory for one sequence of that length.
        """
        values = self.values()
        lengths = [values.get(name) for name in self.LENGTHS]
        known = all(isinstance(length, int) for length in lengths)
        return [f"++{self.CONTEXT}={sum(lengths)}"] if known and self.CONTEXT not in values else []

    def _model_type(self) -> list[str]:
        """The override that makes verl take the model for what it is, where transformers names it otherwise.

        verl chooses its forward pass by the configuration's model_type. transformers 4.57.0 and 4.57.1 answer with the
        nested text model's, if the file has one: Qwen2.5-VL becomes qwen2_5_vl_text, which verl runs as a model of text
        alone, without the images and without a word. Later ones of 4.57 set the same value again.

        Raises:
            CheckpointRefused: for a config.json that is no JSON object.
        """
        path = Path(self.model) / "config.json"
        config = read_json(path) if path.is_file() else {}
        named, nested = config.get("model_type"), (config.get("text_config") or {}).get("model_type")
        if named and nested and nested != named and version("transformers").startswith("4.57."):
            return [f"++{self.MODEL_TYPE}={named}"]
        return []

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
        """Delete the responses of later steps, which are sampled anew; verl goes on by itself.

        Until it has come there again, the training curves would show those of the run that ended as steps of this one.
        """
        if rollouts := self.values().get("trainer.rollout_data_dir"):
            for path in Path(rollouts).glob("*.jsonl"):
                if path.stem.isdecimal() and int(path.stem) > step_of(folder):
                    path.unlink()

    def settings(self) -> dict[str, Any]:
        """Everything that decides what is learned, beside model, data and reward."""
        return {name: value for name, value in self.values().items() if not self.ASIDE.fullmatch(name)}

    def check_logger(self) -> None:
        """wandb without a key would end the training after everything has been loaded.

        Raises:
            ValueError: when a run cannot be logged.
        """
        if "wandb" in (self.values().get("trainer.logger") or ()) and (problem := why_not()):
            raise ValueError(f"{problem}; without wandb: logger='[\"console\"]'")

    def prepare_data(self) -> None:
        """Raises BadData: see ``train.data``."""
        from train.data import check_parquet

        values = self.values()
        keys = (values.get("data.image_key", "images"), values.get("data.prompt_key", "prompt"))
        prompts, validation = (check_parquet(path, *keys) for path in (self.dataset, self.validation))
        self.rows, self.shared = len(prompts.images), validation.sharing(prompts)
        # verl drops the last, smaller batch of an epoch.
        batch = values["data.train_batch_size"]
        self.steps = values["trainer.total_training_steps"] or self.rows // batch * values["trainer.total_epochs"]
        if self.steps < 1:
            raise ValueError(f"{self.rows} prompts in {self.dataset} are less than one batch of batch_size={batch}.")

    def reward_line(self) -> str:
        """Which reward it is, and whether it pays for errors on purpose.

        Raises:
            ValueError: for a setting that the project's reward does not have.
        """
        if self.reward.read_bytes() != REWARD.read_bytes():
            return (
                f"reward {self.reward}, another one than {REWARD}: not known here whether it pays for deliberate errors"
            )
        unknown = sorted(set(self.reward_settings) - set(REWARD_SETTINGS))
        if unknown:
            raise ValueError(f"reward_kwargs.{unknown[0]}: expected one of {', '.join(REWARD_SETTINGS)}")
        below = deliberate_error_threshold(**self.reward_settings)
        settings = ", ".join(f"{name} {value}" for name, value in ({"rule": "log"} | self.reward_settings).items())
        if not below:
            return f"reward: {settings}; it never pays to answer wrong on purpose"
        pays = f"deliberate errors earn more than honesty where p(right) < {below:.3f} (train/README.md)"
        return f"reward: {settings}; {pays}"

    def plan(self, resumed: Path | None) -> list[str]:
        """What is about to run, one line each."""
        value, save_freq = self.values(), self.values()["trainer.save_freq"]
        saved = self.steps // save_freq if save_freq > 0 else 0
        lines = [
            f"{self.rows} prompts of {self.dataset}",
            f"{value['trainer.n_gpus_per_node']} device(s) × {value['trainer.nnodes']} machine(s); "
            f"{value['data.train_batch_size']} prompts × {value['actor_rollout_ref.rollout.n']} responses per step, "
            f"learning rate {value['actor_rollout_ref.actor.optim.lr']:g}, attention {value[self.ATTENTION]}",
            self.reward_line(),
            f"{self.steps} steps (fewer if prompts are over {value['data.max_prompt_length']} tokens), "
            f"validation every {value['trainer.test_freq']}",
            f"checkpoints in {self.output_dir}, {saved} of them: every {save_freq} steps; and the last step's",
        ]
        if self.shared:
            lines.append(f"CHECK: {self.shared} prompts of {self.validation} show images that are trained on")
        return [*lines, f"resuming from step {step_of(resumed)}"] if resumed else lines

    def command(self) -> list[str]:
        script = ["bash", str(REPOSITORY / "scripts" / "python_for_ray.sh"), sys.executable]
        python = subprocess.run(script, check=True, capture_output=True, text=True).stdout.removesuffix("\n")
        words = self.overrides
        if importlib.util.find_spec("vllm"):
            from inference.engines.vllm_cpu import installed_version

            if installed_version().release >= (0, 11):
                words = [word.replace(self.CACHE_OFF, self.CACHE_SIZE) for word in words]
        return [python, "-m", *self.COMMAND, *words]

    def show(self) -> int:
        """Print what verl would run with, composed by verl."""
        return subprocess.run([*self.command(), "--cfg", "job"], check=False).returncode
