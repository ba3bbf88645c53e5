"""Merge verl's sharded checkpoint into a Hugging Face folder that vLLM and transformers load.

    python -m scripts.merge_checkpoint output/emocaliber                      # the newest step
    python -m scripts.merge_checkpoint output/emocaliber/global_step_200 --output_dir output/EmoCaliber

The folder gets bfloat16 weights, configuration, generation settings, tokenizer, processor and chat template, in the
words of transformers 4 and 5. It appears under its name only when all of it is there and was read back. Every shard
is held in memory at once: about 30 GB for 7 B parameters in float32; no GPU. Adapters (LoRA) are added to the weights
that they were trained on.

verl's shards are pickles. They are read as tensors only; what asks for more is refused, unless you give
--allow_pickle, which runs whatever code is in them.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from inference.common.storage import atomic_folder, explain
from inference.common.terminal import plain_output
from inference.engines.checkpoint_config import check_configuration, read_json
from inference.engines.checkpoints import check_code, check_pickle
from scripts.convert_checkpoint import spell_for_both, write_json

LATEST = "latest_checkpointed_iteration.txt"  # verl writes the newest step's number into it
ADAPTERS = "lora_adapter"  # the folder of its merger
ADAPTER_SETTINGS = "lora_train_meta.json"  # a file of its checkpoints


def find_actor(checkpoint: Path) -> Path:
    """The folder with the policy's shards, of a step or of the newest step of a run.

    Raises:
        ValueError: naming what was expected where.
        CheckpointRefused: for a shard that was cut off.
    """
    if (checkpoint / LATEST).is_file():
        number = (checkpoint / LATEST).read_text(encoding="ascii").strip()
        checkpoint = checkpoint / f"global_step_{number}"
    actor = checkpoint / "actor" if (checkpoint / "actor").is_dir() else checkpoint
    if not (actor / "fsdp_config.json").is_file():
        raise ValueError(f"{checkpoint}: expected {LATEST}, or a folder global_step_<n> with actor/fsdp_config.json")
    world_size = json.loads((actor / "fsdp_config.json").read_text(encoding="utf-8"))["world_size"]
    names = [f"model_world_size_{world_size}_rank_{rank}.pt" for rank in range(world_size)]
    missing = [name for name in names if not (actor / name).is_file()]
    if missing:
        raise ValueError(f"{actor}: expected {world_size} shards of the model, missing {', '.join(missing)}")
    for name in names:
        check_pickle(actor / name)
    return actor


def add_adapters(folder: Path, settings: Path) -> None:
    """Add the adapters that verl puts beside the merged weights to these: W + alpha / rank · B A, in float32.

    Args:
        settings: the file of the checkpoint with their ``lora_alpha``.

    Raises:
        ValueError: without ``lora_alpha``, which the tensors do not show; verl's own merger then takes 0.
    """
    import torch
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import AutoModelForImageTextToText

    alpha = read_json(settings).get("lora_alpha") if settings.is_file() else None
    if not alpha:
        raise ValueError(
            f"{settings}: expected the adapters' lora_alpha, which verl saves from 0.9 on: "
            'write it there as {"lora_alpha": 64}, with the number of the training'
        )
    adapters = load_file(folder / ADAPTERS / "adapter_model.safetensors")
    modules = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in adapters}
    rank = next(len(tensor) for name, tensor in adapters.items() if ".lora_A." in name)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=sorted(modules)))
    if unknown := set_peft_model_state_dict(model, adapters).unexpected_keys:
        raise ValueError(f"{folder / ADAPTERS}: the model has no place for {unknown[0]}")
    model.merge_and_unload().to(torch.bfloat16).save_pretrained(folder)
    shutil.rmtree(folder / ADAPTERS)


def tidy(folder: Path, architecture: str) -> None:
    """What transformers leaves in a saved folder and should not, and the other way round.

    The training folder's path gets into the nested configuration, and the architecture, which vLLM and verl look for,
    is not always written. Weight files come out readable by their owner only. Both generations of transformers read it.
    """
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)
    config = read_json(folder / "config.json")
    config["architectures"] = [architecture]
    for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
        part.pop("_name_or_path", None)
    write_json(folder / "config.json", config)
    spell_for_both(folder)


def check_folder(folder: Path) -> int:
    """Read the folder back as a user would; returns the number of parameters in its weight files.

    Raises:
        ValueError: when the processor, its chat template or the weights are not all there.
    """
    from transformers import AutoConfig, AutoProcessor

    AutoConfig.from_pretrained(folder, trust_remote_code=False)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    if not hasattr(processor, "image_processor") or not processor.chat_template:
        raise ValueError(f"{folder}: expected a processor with an image processor and a chat template")
    parameters = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  not a dict
                size = 1
                for length in weights.get_slice(name).get_shape():
                    size *= length
                parameters += size
    if not parameters:
        raise ValueError(f"{folder}: expected weights in *.safetensors")
    return parameters


def merge(checkpoint: Path, output_dir: Path, allow_pickle: bool = False) -> int:
    """Write ``output_dir`` anew from verl's checkpoint; returns the number of parameters.

    Raises:
        ValueError: for a checkpoint that is not complete, or adapters without their ``lora_alpha``.
        CheckpointRefused: for one that was cut off, would run code of its own, or is read as another model.
    """
    actor = find_actor(checkpoint)
    check_code(actor / "huggingface")
    check_configuration(actor / "huggingface")
    if not allow_pickle:
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # verl itself would let the shards run code
    from verl.model_merger.base_model_merger import ModelMergerConfig
    from verl.model_merger.fsdp_model_merger import FSDPModelMerger

    try:
        with atomic_folder(output_dir) as temporary:
            merger = FSDPModelMerger(
                ModelMergerConfig(
                    operation="merge",
                    backend="fsdp",
                    local_dir=str(actor),
                    hf_model_config_path=str(actor / "huggingface"),
                    target_dir=str(temporary),
                )
            )
            architecture = merger.model_config.architectures[0]
            merger.merge_and_save()
            if (temporary / ADAPTERS).is_dir():
                add_adapters(temporary, actor / ADAPTER_SETTINGS)
            tidy(temporary, architecture)
            parameters = check_folder(temporary)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{actor}: a shard holds more than tensors ({reason}): give --allow_pickle if you trust where it comes from"
        ) from None
    return parameters


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a run's folder (its newest step), or a folder global_step_<n>")
    parser.add_argument("--output_dir", type=Path, help="default: merged_<step> in the run's folder")
    parser.add_argument("--allow_pickle", action="store_true", help="let code in the shards run")
    args = parser.parse_args()
    try:
        actor = find_actor(args.checkpoint)
        step = actor.parent if actor.name == "actor" else actor
        output_dir = args.output_dir or step.parent / step.name.replace("global_step", "merged")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{explain(error)}\n")
    try:
        parameters = merge(args.checkpoint, output_dir, args.allow_pickle)
    except (ValueError, OSError, SafetensorError) as error:
        parser.exit(2, f"merging failed: {explain(error, output_dir)}\n")
    print(f"{output_dir}: {parameters:,} parameters of {step}")


if __name__ == "__main__":
    main()
