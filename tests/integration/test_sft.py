"""Stages 1 and 2 by real ms-swift: a few steps through the templates, from random weights."""

import json
import math
import os
import shutil
import sys

import pytest

from tests.helpers.commands import REPO, read_jsonl, run
from tests.helpers.forked import run_forked

ENCODE = """
import json, os, sys
if sys.argv[2] == "fixed":
    sys.path.insert(0, "train")
    import swift_plugins
from tests.helpers.ms_swift import training_template
template = training_template(sys.argv[1])
row = json.loads(open(sys.argv[3]).readline())
encoded = template.encode({"messages": row["messages"], "images": row["images"]})
image_token = template.tokenizer.convert_tokens_to_ids("<|image_pad|>")
print("tokens", encoded["input_ids"].count(image_token), int(encoded["image_grid_thw"].prod()) // 4)
"""


def test_both_stages_run_their_steps_and_print_their_plan_first(short_training):
    work, _ = short_training
    for stage, folder in ((1, "scaffold"), (2, "cold_start")):
        log = (work / "logs" / f"stage{stage}.log").read_text()
        assert f"Stage {stage}: 64 rows" in log
        assert "batch 16" in log and "4 steps" in log and "2 of them: every 2 steps" in log
        run_folder = work / "runs" / folder
        assert (run_folder / "checkpoint-4" / "model.safetensors").exists()
        losses = [row["loss"] for row in read_jsonl(run_folder / "logging.jsonl") if "loss" in row]
        assert len(losses) == 4
        assert all(math.isfinite(loss) for loss in losses)
        assert losses[-1] < losses[0]


def test_training_moves_vision_tower_aligner_and_language_model(short_training):
    from safetensors.torch import load_file

    work, _ = short_training
    before = load_file(work / "models" / "base" / "model.safetensors")
    after = load_file(work / "runs" / "scaffold" / "checkpoint-4" / "model.safetensors")
    for part in ("visual.blocks", "visual.merger", "layers.0"):
        names = [name for name in before if part in name and name.endswith("weight") and before[name].dim() > 1]
        assert names, part
        assert any(not before[name].equal(after[name]) for name in names), part


@pytest.mark.faults
def test_a_killed_stage_resumes_from_its_last_checkpoint_and_ends_with_the_same_weights(short_training, tmp_path):
    """The state that a kill after step 3 leaves: checkpoint-2 and nothing after it."""
    from safetensors.torch import load_file

    work, _ = short_training
    whole = work / "runs" / "scaffold"
    interrupted = tmp_path / "scaffold"
    shutil.copytree(whole / "checkpoint-2", interrupted / "checkpoint-2")
    shutil.copy(whole / "run.json", interrupted)
    settings = {
        "python": sys.executable, "model": work / "models" / "base", "dataset": work / "data" / "stage1.jsonl",
        "output_dir": interrupted, "learning_rate": "2e-3", "use_cpu": "true", "batch_size": 16, "accumulation": 1,
        "freeze_vit": "false", "freeze_aligner": "false", "workers": 0, "split_dataset_ratio": 0, "save_steps": 2,
        "logging_steps": 1, "swift_args": "--seed 3", "MIN_PIXELS": 3136, "MAX_PIXELS": 12544, "OMP_NUM_THREADS": 1,
    }  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    done = run("bash", REPO / "train" / "step1_example.sh", env=environment)
    assert f"resuming from {interrupted}/checkpoint-2" in done.stdout
    resumed = load_file(interrupted / "checkpoint-4" / "model.safetensors")
    expected = load_file(whole / "checkpoint-4" / "model.safetensors")
    assert all(resumed[name].equal(expected[name]) for name in expected)


def test_the_image_token_fix_expands_every_image_and_is_needed(short_training):
    """Without it ms-swift leaves one image token where there should be nine, and says nothing."""
    work, _ = short_training
    data = work / "data" / "stage1.jsonl"
    counts = {}
    for mode in ("fixed", "unfixed"):
        environment = {**os.environ, "MIN_PIXELS": "3136", "MAX_PIXELS": "12544", "USE_HF": "1"}
        done = run_forked("-c", ENCODE, work / "models" / "base", mode, data, env=environment)
        line = next(line for line in done.stdout.splitlines() if line.startswith("tokens"))
        counts[mode] = tuple(map(int, line.split()[1:]))
    assert counts["fixed"] == (9, 9)
    assert counts["unfixed"] != (9, 9)


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        (1, {"dataset": "/nowhere.jsonl"}, "stage 1: no file at dataset=/nowhere.jsonl. Set dataset"),
        (2, {"model": "/nowhere"}, "stage 2: no folder at model=/nowhere. Set model"),
        (1, {"swift_path": "/nowhere"}, "no swift/cli/sft.py in swift_path=/nowhere"),
        (2, {"python": "/usr/bin/python3", "model": "some/model"}, "has no ms-swift"),
    ],
)
def test_a_template_names_what_is_missing_before_anything_starts(tmp_path, stage, settings, message):
    dataset = tmp_path / "data.jsonl"
    dataset.write_text(json.dumps({"messages": []}) + "\n")
    environment = {**os.environ, "python": sys.executable, "dataset": str(dataset), "model": str(tmp_path), **settings}
    done = run("bash", REPO / "train" / f"step{stage}_example.sh", env=environment, check=False)
    assert done.returncode == 2
    assert message in done.stderr


PARSE = """
import sys
from swift.utils import parse_args
from tests.helpers.ms_swift import SftArguments
arguments, unknown = parse_args(SftArguments, sys.argv[1:])
assert not unknown, unknown
print("value", "train_type", repr(getattr(arguments, "tuner_type", None) or arguments.train_type))
for name in ("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs",
             "max_length", "warmup_ratio", "logging_steps", "eval_steps", "save_steps", "save_total_limit",
             "dataloader_num_workers", "freeze_vit", "freeze_aligner", "system",
             "gradient_checkpointing", "gradient_checkpointing_kwargs", "attn_impl"):
    print("value", name, repr(getattr(arguments, name)))
"""


@pytest.mark.parametrize(("stage", "learning_rate"), [(1, 1e-5), pytest.param(2, 4e-6, marks=pytest.mark.long)])
def test_ms_swifts_own_arguments_take_every_option_of_the_gpu_template(short_training, tmp_path, stage, learning_rate):
    """As for 8 GPUs, but for the model (the toy one) and bfloat16, which asks for a device."""
    from accelerate.commands.config.config_args import load_config_from_file

    work, _ = short_training
    environment = {
        **os.environ, "python": sys.executable, "print_command": "true", "output_dir": str(tmp_path / "out"),
        "model": str(work / "models" / "base"), "dataset": str(work / "data" / "stage1.jsonl"),
    }  # fmt: skip
    printed = run("bash", REPO / "train" / f"step{stage}_example.sh", env=environment).stdout.splitlines()
    split = printed.index("--")
    launcher, options = printed[:split], printed[split + 1 :]
    assert not (tmp_path / "out").exists()

    config = load_config_from_file(launcher[launcher.index("--config_file") + 1])
    assert (config.distributed_type.value, config.num_processes) == ("FSDP", 8)
    assert config.fsdp_config["fsdp_offload_params"] is True

    done = run(sys.executable, "-c", PARSE, *options, "--use_cpu", "true", env={**environment, "HF_HUB_OFFLINE": "1"})
    values = dict(line.split(" ", 2)[1:] for line in done.stdout.splitlines() if line.startswith("value "))
    assert float(values.pop("learning_rate")) == learning_rate
    assert values == {
        "per_device_train_batch_size": "8", "gradient_accumulation_steps": "2", "num_train_epochs": "1.0",
        "max_length": "2048", "warmup_ratio": "0.05", "logging_steps": "5", "eval_steps": "100.0",
        "save_steps": "1000.0", "save_total_limit": "2", "dataloader_num_workers": "8", "train_type": "'full'",
        "freeze_vit": "True", "freeze_aligner": "True", "system": "'You are a helpful assistant.'",
        "gradient_checkpointing": "True", "gradient_checkpointing_kwargs": repr('{"use_reentrant": false}'),
        "attn_impl": "'sdpa'",  # flash-attn is not installed here
    }  # fmt: skip
