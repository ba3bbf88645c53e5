"""The recipe for one 24 GB card: accepted by the frameworks' own parsers; LoRA trained and merged for real."""

import itertools
import os
import re
import sys

import pytest
from omegaconf import OmegaConf

from tests.helpers.commands import REPO, TOY_CHECKPOINT, run
from tests.helpers.verl_process import HAS_PLATFORMS, adapters_for_vllm, validate

SCRIPT = REPO / "train" / "one_gpu_example.sh"


def one_gpu(stage, **settings):
    environment = {**os.environ, "python": sys.executable, **{name: str(value) for name, value in settings.items()}}
    return run("bash", SCRIPT, stage, env=environment)


@pytest.mark.parametrize(("stage", "rate"), [("1", 1e-4), ("2", 4e-5)])
def test_ms_swift_takes_the_adapters_settings(stage, rate):
    from transformers import HfArgumentParser

    from tests.helpers.ms_swift import SftArguments

    words = one_gpu(stage, print="true", dataset=SCRIPT, model=TOY_CHECKPOINT).stdout.splitlines()
    launcher, options = words[: words.index("--")], words[words.index("--") + 1 :]
    assert launcher[launcher.index("--num_processes") + 1] == "1"
    assert not any("fsdp" in word for word in launcher)
    # Only taken apart: making the argument object would ask for a GPU.
    parsed, unknown = HfArgumentParser([SftArguments]).parse_known_args(options)
    assert unknown == []
    tuner = getattr(parsed, "tuner_type", None) or parsed.train_type
    assert (tuner, parsed.lora_rank, parsed.lora_alpha) == ("lora", 32, 64)
    assert (parsed.per_device_train_batch_size, parsed.gradient_accumulation_steps) == (1, 128)
    assert parsed.learning_rate == rate


def test_verl_takes_the_reduced_third_stage():
    config = OmegaConf.create(one_gpu("3", print="true", model="/m", dataset="/d", validation="/v").stdout)
    validate(config)
    assert (config.actor_rollout_ref.model.lora_rank, config.trainer.n_gpus_per_node) == (32, 1)
    assert (config.data.train_batch_size, config.actor_rollout_ref.rollout.n) == (16, 4)
    actor = config.actor_rollout_ref.actor
    assert actor.strategy == "fsdp2" and actor.fsdp_config.offload_policy
    assert config.actor_rollout_ref.rollout.free_cache_engine


@pytest.mark.skipif(not HAS_PLATFORMS, reason="of verl 0.9's engine; 0.6's is in its worker")
def test_verl_hands_vllm_every_adapter_of_the_third_stage_and_the_tower_has_none(tmp_path):
    """On one device, as verl's worker does before each step; vLLM would leave adapters of the tower out."""
    config = OmegaConf.create(one_gpu("3", print="true", model=TOY_CHECKPOINT, dataset="/d", validation="/v").stdout)
    adapters = adapters_for_vllm(config)
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    layer = re.compile(r"base_model\.model\.model\.language_model\.layers\.(\d)\.\w+\.(\w+)\.lora_(A|B)\.weight")
    found = [layer.fullmatch(name) for name in adapters]
    assert all(found), adapters
    expected = itertools.product("0123", linear, "AB")
    assert {match.groups() for match in found} == set(expected)


def test_without_a_stage_it_says_how_to_call_it():
    done = run("bash", SCRIPT, check=False)
    assert done.returncode == 2
    assert "bash train/one_gpu_example.sh 1" in done.stdout


def test_the_readmes_estimates_are_what_the_command_computes():
    from scripts.maintenance import budget

    readme = (REPO / "train" / "README.md").read_text(encoding="utf-8")
    for line in budget.lines():
        assert line in readme


def test_the_estimates_give_what_was_measured_and_a_slower_card_is_not_faster(monkeypatch):
    from scripts.maintenance import budget

    assert budget.adapter_seconds(1, budget.H100) == pytest.approx(0.85)
    assert budget.adapter_seconds(86_067, budget.SMALL) / 3600 > 20.3
    monkeypatch.setattr(budget, "PROMPT_TOKENS", budget.MEASURED_PROMPT_TOKENS)
    assert 8032 / budget.sampling_seconds(8032, budget.H100, 256) == pytest.approx(23.5)
    assert 1 / budget.sampling_seconds(1, budget.H100, 1) == pytest.approx(0.587, rel=0.03)


@pytest.mark.long
def test_adapters_are_trained_and_merged_into_a_model_folder_for_the_next_stage(tmp_path):
    from safetensors.torch import load_file

    data = tmp_path / "toy"
    run("-m", "scripts.toy_world.generate", "--output_dir", data, "--stage1", "16", "--processes", "1")
    one_gpu(
        "1", use_cpu="true", max_steps=2, accumulation=2, batch_size=2, save_steps=1, workers=0, split_dataset_ratio=0,
        MIN_PIXELS=3136, MAX_PIXELS=12544, dataset=data / "stage1.jsonl", model=TOY_CHECKPOINT, output=tmp_path / "out",
        lora_rank=4,
    )  # fmt: skip
    before = load_file(TOY_CHECKPOINT / "model.safetensors")
    after = load_file(tmp_path / "out" / "scaffold" / "model.safetensors")
    changed = [name for name in before if not before[name].equal(after[name].float())]
    assert changed
    assert not any("visual" in name for name in changed)  # tower and aligner are frozen, as published
