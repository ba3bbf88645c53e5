"""The toy checkpoint with the language model's layers quantised: in eight bits, as compressed-tensors saves them, or in
four as GPTQ does.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.helpers.commands import TOY_CHECKPOINT

LARGEST = {"int": 127, "float": 448}  # of int8 and of float8_e4m3fn


def copied(folder: Path) -> dict[str, torch.Tensor]:
    """Copy the toy checkpoint to ``folder``; returns its tensors."""
    shutil.copytree(TOY_CHECKPOINT, folder)
    return load_file(folder / "model.safetensors")


def is_layer(name: str) -> bool:
    """Whether a tensor is one of the language model's matrices, which are quantised."""
    return "layers." in name and name.endswith("proj.weight")


def quantised(folder: Path, kind: str) -> Path:
    """Write it with one scale per output channel; ``kind`` is "int" or "float". Activations are quantised per token."""
    tensors = copied(folder)
    for name in [name for name in tensors if is_layer(name)]:
        values = tensors.pop(name)
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


def _packed(numbers: torch.Tensor) -> torch.Tensor:
    """Whole numbers of 4 bits, [8 n, m] → int32, [n, m]: eight along the first axis, the first in the lowest bits."""
    parts = numbers.to(torch.int64).reshape(-1, 8, numbers.shape[1])
    packed = sum(parts[:, i] << (4 * i) for i in range(8))
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def quantised_by_gptq(folder: Path, group_size: int = 32) -> Path:
    """Write it with 4 bits per weight: symmetric, one scale per output and ``group_size`` inputs, to the nearest."""
    tensors = copied(folder)
    for name in [name for name in tensors if is_layer(name)]:
        values = tensors.pop(name)
        weights = values.float().T.contiguous()  # [inputs, outputs]
        n_inputs, n_outputs = weights.shape
        groups = weights.reshape(-1, group_size, n_outputs)
        scales = groups.abs().amax(dim=1) / 7
        numbers = (groups / scales[:, None]).round().clamp(-8, 7) + 8
        zeros = torch.full((n_outputs, len(scales)), 8 - 1)  # GPTQ's files hold one less
        base = name.removesuffix("weight")
        tensors[base + "qweight"] = _packed(numbers.reshape(n_inputs, n_outputs))
        tensors[base + "qzeros"] = _packed(zeros).T.contiguous()
        tensors[base + "scales"] = scales.to(torch.float16)
        tensors[base + "g_idx"] = torch.arange(n_inputs, dtype=torch.int32) // group_size
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "gptq", "bits": 4, "group_size": group_size, "desc_act": False, "sym": True, "lm_head": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder
