"""The toy checkpoint with the language model's layers in eight bits, as compressed-tensors saves them."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.helpers.commands import TOY_CHECKPOINT

LARGEST = {"int": 127, "float": 448}  # of int8 and of float8_e4m3fn


def quantised(folder: Path, kind: str) -> Path:
    """Write it with one scale per output channel; ``kind`` is "int" or "float". Activations are quantised per token."""
    shutil.copytree(TOY_CHECKPOINT, folder)
    tensors = {}
    for name, values in load_file(folder / "model.safetensors").items():
        if "layers." not in name or not name.endswith("proj.weight"):
            tensors[name] = values
            continue
        scale = values.float().abs().amax(dim=1, keepdim=True) / LARGEST[kind]
        scaled = values.float() / scale
        tensors[name] = scaled.round().to(torch.int8) if kind == "int" else scaled.to(torch.float8_e4m3fn)
        tensors[name.removesuffix("weight") + "weight_scale"] = scale.to(torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    numbers = {"num_bits": 8, "type": kind, "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**numbers, "strategy": "channel", "dynamic": False},
        "input_activations": {**numbers, "strategy": "token", "dynamic": True},
    }
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors", "format": f"{kind}-quantized", "quantization_status": "compressed",
        "ignore": ["lm_head", "re:.*visual.*"], "config_groups": {"group_0": group},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder
