"""What verl makes of a configuration and of data, in a process of its own, by the CPU adapter of its version.

Run as a program: python -m tests.helpers.verl_process validate < CONFIG, … adapters < CONFIG, or … rows CACHE
MAX_PROMPT_LENGTH PARQUET…
"""

import asyncio
import json
import os
import sys
import tempfile
from importlib import metadata

from omegaconf import OmegaConf
from packaging.version import Version

from tests.helpers.commands import TOY_CHECKPOINT
from tests.helpers.forked import run_forked

HAS_PLATFORMS = Version(metadata.version("verl")) >= Version("0.9")
ADAPTER = "scripts.toy_world.verl_cpu" if HAS_PLATFORMS else "scripts.toy_world.verl_cpu_0_6"


def verl(*arguments, **options):
    environment = {**os.environ, "VERL_USE_EXTERNAL_MODULES": ADAPTER}
    environment |= {"VERL_PLATFORM": "cpu", "VERL_ENGINE_DEVICE": "cuda"} if HAS_PLATFORMS else {}
    return run_forked("-m", "tests.helpers.verl_process", *arguments, env=environment, **options)


def validate(config):
    """Nothing for a composed configuration that verl's own validation accepts; fails the test otherwise."""
    verl("validate", input=OmegaConf.to_yaml(config))


def adapters_for_vllm(config):
    """Names of the adapters' tensors that verl's FSDP, as configured, collects for vLLM on one device."""
    lines = verl("adapters", input=OmegaConf.to_yaml(config)).stdout.splitlines()
    return [line.removeprefix("adapter ") for line in lines if line.startswith("adapter ")]


def read_rows(cache, *parquet, max_prompt_length=4096):
    """[data source, label, image size, image tokens] of each row that verl's data set yields of the toy model."""
    lines = verl("rows", cache, max_prompt_length, *parquet).stdout.splitlines()
    return [json.loads(line.removeprefix("row ")) for line in lines if line.startswith("row ")]


def collect_adapters(config):
    """What a worker of verl 0.9 does with the actor before each step, on one device."""
    import torch.distributed
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.config import HFModelConfig
    from verl.workers.engine import EngineRegistry

    with tempfile.TemporaryDirectory() as folder:
        store = torch.distributed.FileStore(f"{folder}/store", 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        actor = omega_conf_to_dataclass(config.actor)
        model = omega_conf_to_dataclass(config.model, dataclass_type=HFModelConfig)
        engine = EngineRegistry.new(
            model_type="language_model", backend=actor.engine.strategy, model_config=model, engine_config=actor.engine,
            optimizer_config=actor.optim, checkpoint_config=actor.checkpoint,
        )  # fmt: skip
        engine.initialize()
        adapters, _ = engine.get_per_tensor_param(layered_summon=config.rollout.layered_summon, base_sync_done=True)
        for name, _ in adapters:
            print("adapter", name)
        torch.distributed.destroy_process_group()


def main(what, *arguments):
    if what == "validate":
        from verl.trainer.ppo.utils import need_critic
        from verl.utils.config import validate_config

        config = OmegaConf.create(sys.stdin.read())
        assert not need_critic(config)
        validate_config(config, use_reference_policy=True, use_critic=False)
        return
    if what == "adapters":
        collect_adapters(OmegaConf.create(sys.stdin.read()).actor_rollout_ref)
        return
    from verl.utils import hf_processor, hf_tokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset

    cache, length, *paths = arguments
    config = OmegaConf.create(
        {
            "max_prompt_length": int(length), "filter_overlong_prompts": True, "truncation": "error",
            "filter_overlong_prompts_workers": 1, "cache_dir": cache,
        }
    )  # fmt: skip
    processor, tokenizer = hf_processor(str(TOY_CHECKPOINT)), hf_tokenizer(str(TOY_CHECKPOINT))
    for row in (row for path in paths for row in RLHFDataset(path, tokenizer, config, processor)):
        if "multi_modal_data" in row:  # before 0.9
            images, tokens = row["multi_modal_data"]["image"], row["input_ids"]
        else:  # as 0.9's agent loop does
            prompt, patch = row["raw_prompt"], processor.image_processor.patch_size
            images, _ = asyncio.run(RLHFDataset.process_vision_info(prompt, patch, config))
            text = processor.apply_chat_template(prompt, tokenize=False)
            tokens = processor(text=[text], images=images, return_tensors="pt")["input_ids"]
        (image,) = images
        count = int((tokens == processor.image_token_id).sum())
        print("row", json.dumps([row["data_source"], row["reward_model"]["ground_truth"], image.size, count]))


if __name__ == "__main__":
    main(*sys.argv[1:])
