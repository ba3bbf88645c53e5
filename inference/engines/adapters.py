"""A LoRA adapter beside its base: what it is, and whether the two belong together, before anything loads them.

    check_adapter("output/one_gpu/stage1/checkpoint-666", "Qwen/Qwen2.5-VL-7B-Instruct", "vllm")

An adapter holds two small matrices for each linear layer that it changes, in the layout of peft, which ms-swift, verl
and LLaMA-Factory save. It names the base that it was trained on, by its path or hub name there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inference.common.json_lines import describe
from inference.engines.checkpoint_config import AGAIN, CheckpointRefused, read_json
from inference.engines.checkpoints import tensor_shapes

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
A, B = ".lora_A.weight", ".lora_B.weight"
# Libraries nest the model in different names; what follows these is the same in all of them.
WRAPPERS = ("base_model", "model", "language_model")
VISION = ("visual", "vision", "multi_modal_projector", "mlp1")
# Fields with which vLLM would compute something else, mostly in silence, and what they may be. A pattern gives some
# layers another rank or scaling; PiSSA, OLoRA and the like take from the base what the adapter then starts from.
PLAIN = {
    "use_dora": (), "modules_to_save": (), "bias": ("none",), "rank_pattern": (), "alpha_pattern": (),
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),
}  # fmt: skip
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # vLLM makes room for one of these


def adapter_config(folder: Path) -> dict[str, Any]:
    """The content of adapter_config.json.

    Raises:
        CheckpointRefused: when the folder holds no LoRA adapter.
    """
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        model = ": it holds a model: give it as checkpoint" if (folder / "config.json").is_file() else ""
        raise CheckpointRefused(f"{path}: no such file, expected the folder of a LoRA adapter{model}")
    config = read_json(path)
    if config.get("peft_type") != "LORA":
        raise CheckpointRefused(f"{path}, field 'peft_type': expected LORA, got {config.get('peft_type')!r}")
    rank = config.get("r")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise CheckpointRefused(f"{path}, field 'r': expected a number of at least 1, got {rank!r}")
    return config


def room_for_rank(folder: str | Path) -> int:
    """The smallest ``max_lora_rank`` of vLLM that the adapter fits into."""
    rank = adapter_config(Path(folder))["r"]
    ranks = [room for room in RANKS if room >= rank]
    if not ranks:
        raise CheckpointRefused(
            f"{Path(folder) / ADAPTER_CONFIG}, field 'r': vllm takes at most {RANKS[-1]}, got {rank}"
        )
    return ranks[0]


def layer_name(tensor: str) -> str:
    """A tensor's name without the names that the libraries nest the model in."""
    parts = tensor.split(".")
    while parts[0] in WRAPPERS and len(parts) > 1:
        parts.pop(0)
    return ".".join(parts)


def changed_layers(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name of a layer's weight, its shape) that the product of its two matrices has."""
    for name, shape in shapes.items():
        if name.endswith(A) and (other := shapes.get(name.removesuffix(A) + B)):
            yield layer_name(name.removesuffix(A)) + ".weight", (other[0], shape[1])


def check_base(path: Path, layers: dict[str, tuple[int, int]], checkpoint: Path, trained_on: Any) -> None:
    """Nothing when every layer that the adapter changes is in the checkpoint, of the same shape.

    Raises:
        CheckpointRefused: naming the first that isn't.
    """
    of_base = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        of_base |= {layer_name(name): shape for name, shape in tensor_shapes(file).items()}
    for name, shape in layers.items() if of_base else ():  # pickled weights are not looked into
        if of_base.get(name) != shape:
            found = f"of shape {list(of_base[name])}" if name in of_base else "not there"
            raise CheckpointRefused(
                f"{path}: an adapter of another base (of {trained_on}): it changes {name} of shape {list(shape)}, "
                f"which in {checkpoint} is {found}"
            )


def check_adapter(adapter: str | Path, checkpoint: str | Path, engine: str) -> None:
    """Nothing for a folder with a LoRA adapter that the engine can load beside the checkpoint.

    Args:
        checkpoint: of a folder, the layers are compared; of a hub name, the engine does that.
        engine: vllm adapts the language model alone, and linear layers by plain LoRA; transformers all that peft saves.

    Raises:
        CheckpointRefused: in one line, naming file, field or layer, and what to do.
    """
    folder, base = Path(adapter), Path(checkpoint)
    config, path = adapter_config(folder), folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise CheckpointRefused(f"{path}: no such file: {AGAIN}")
    shapes = tensor_shapes(path)
    layers = dict(changed_layers(shapes))
    if not layers:
        raise CheckpointRefused(f"{path}: expected pairs of tensors *{A} and *{B}, found none in {len(shapes)} tensors")
    if base.is_dir():
        check_base(path, layers, base, config.get("base_model_name_or_path"))
    if engine != "vllm":
        return
    merge = "merge it into its base, or take engine=transformers"
    more = len(shapes) - 2 * len(layers)
    if fields := [name for name, plain in PLAIN.items() if config.get(name) and config[name] not in plain]:
        raise CheckpointRefused(
            f"{folder / ADAPTER_CONFIG}, field {fields[0]!r}: vllm takes plain LoRA of linear layers alone, "
            f"got {describe(config[fields[0]])}: {merge}"
        )
    if more:
        raise CheckpointRefused(
            f"{path}: vllm takes plain LoRA of linear layers alone, and {more} of {len(shapes)} tensors are no such: "
            f"{merge}"
        )
    if vision := [name for name in layers if name.startswith(VISION)]:
        raise CheckpointRefused(
            f"{path}: changes {len(vision)} layers of the vision tower, {vision[0]} among them, which vllm would leave "
            f"as they are: {merge}"
        )
    room_for_rank(folder)


def base_doubt(adapter: str | Path, checkpoint: str) -> str | None:
    """A line when the adapter says that it was trained on a base of another name."""
    trained_on = str(adapter_config(Path(adapter)).get("base_model_name_or_path"))
    if Path(trained_on).name == Path(checkpoint).resolve().name or Path(trained_on).name == Path(checkpoint).name:
        return None
    return f"{adapter}: says that it was trained on {trained_on}, and is loaded beside {checkpoint}"
