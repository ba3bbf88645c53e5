"""Make a shippable folder of a trained toy model: bfloat16 weights, processor, a notice.

    python -m scripts.toy_world.export_checkpoint --model output/toy_world/cold_start/checkpoint-200 \\
        --output_dir scripts/toy_world/checkpoint

The notice file makes inference say, beside every response, that this is the toy model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLForConditionalGeneration

from inference.common.storage import atomic_folder, explain
from inference.common.terminal import plain_output
from inference.engines.base import NOTICE_FILE
from scripts.merge_checkpoint import tidy

MODEL_NOTICE = "toy model: 2 M parameters, trained on the toy world only; on anything else its answers mean nothing"
MAX_NEW_TOKENS = 192  # a well-formed response has at most about 100; a malformed one may never end


def export(model_dir: Path, output_dir: Path) -> int:
    """Write the folder anew; returns the size of the weights file in bytes."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(model_dir, dtype=torch.bfloat16, use_safetensors=True)
    processor = AutoProcessor.from_pretrained(model_dir, use_fast=True, trust_remote_code=False)
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        do_sample=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    with atomic_folder(output_dir) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        tidy(temporary, type(model).__name__)
        (temporary / NOTICE_FILE).write_text(MODEL_NOTICE + "\n", encoding="utf-8")
    return (output_dir / "model.safetensors").stat().st_size


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint folder of ms-swift or verl's merger")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    try:
        size = export(args.model, args.output_dir)
    except (OSError, SafetensorError) as error:
        parser.exit(2, f"exporting failed: {explain(error, args.output_dir)}\n")
    print(f"{args.output_dir}: weights of {size / 1e6:.1f} MB. {MODEL_NOTICE}")


if __name__ == "__main__":
    main()
