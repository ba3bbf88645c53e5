"""The recipe for one 24 GB card: accepted by the frameworks' own parsers; LoRA trained and merged for real."""

import itertools
import json
import os
import re
import shutil
import sys

import pytest
from omegaconf import OmegaConf

from tests.helpers.commands import REPO, TOY_CHECKPOINT, run
from tests.helpers.forked import run_forked
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


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A step of stage 3 as verl saves it of adapters on one device; the adapters' rank is 4, their alpha 8."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(TOY_CHECKPOINT, dtype=torch.bfloat16)
    linear = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", exclude_modules=".*visual.*")
    model = get_peft_model(model, linear).to(torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02, generator=generator)
    actor = tmp_path_factory.mktemp("adapted") / "global_step_3" / "actor"
    shutil.copytree(TOY_CHECKPOINT, actor / "huggingface", ignore=shutil.ignore_patterns("*.safetensors"))
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))
    torch.save(model.state_dict(), actor / "model_world_size_1_rank_0.pt")
    return actor


def test_merging_adds_the_adapters_to_the_weights(adapted):
    import torch
    from safetensors.torch import load_file

    (adapted / "lora_train_meta.json").write_text('{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"}')
    run_forked("-m", "scripts.merge_checkpoint", adapted.parent)
    folder = adapted.parents[1] / "merged_3"
    assert not [path for path in folder.iterdir() if path.is_dir()]
    shard = torch.load(adapted / "model_world_size_1_rank_0.pt")
    factors = {
        name.removeprefix("base_model.model.model.language_model."): value.float() for name, value in shard.items()
    }
    before, after = load_file(TOY_CHECKPOINT / "model.safetensors"), load_file(folder / "model.safetensors")
    assert set(after) == set(before)
    n_changed = 0
    for name, weight in before.items():
        module = name.removeprefix("model.").removesuffix(".weight")
        expected = weight.to(torch.bfloat16).float()
        if f"{module}.lora_B.default.weight" in factors:
            low, high = (factors[f"{module}.lora_{letter}.default.weight"] for letter in "AB")
            expected += 8 / 4 * high @ low
            n_changed += not after[name].equal(weight.to(torch.bfloat16))
        assert after[name].equal(expected.to(torch.bfloat16)), name
    assert n_changed == 4 * 7


def test_adapters_whose_alpha_is_not_known_are_not_merged(adapted, tmp_path):
    step = shutil.copytree(adapted.parent, tmp_path / "global_step_3")
    (step / "actor" / "lora_train_meta.json").unlink(missing_ok=True)
    done = run_forked("-m", "scripts.merge_checkpoint", step, check=False)
    assert done.returncode == 2
    assert "lora_train_meta.json: expected the adapters' lora_alpha" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["global_step_3"]


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
