"""What a checkpoint is, before anything loads it: whole, of this transformers' kind, and data alone.

    python -m inference.engines.checkpoints output/EmoCaliber      # exit status 2 and one line, if it cannot be run
    python -m inference.engines.checkpoints FOLDER --allow_pickle --trust_remote_code

Weights that are cut off, a Git LFS pointer in their place, a shard that is missing, a folder of adapters or of
verl's shards: each is named with what to do, from the files' heads and sizes alone.
``inference.engines.checkpoint_config`` compares what the installed transformers reads with config.json.

Pickled weights and Python code of a checkpoint are refused unless asked for: a pickle can run any code while it is
read, and so does what ``auto_map`` names. The engines ask here before they load, the templates of training before
they start, and do not rely on the frameworks alone: vLLM before 0.14 followed ``auto_map`` without being asked
(CVE-2026-22807), transformers before 5.3 an attention kernel of the hub that a configuration names (CVE-2026-4372),
before 5.5 a configuration that trusts itself (CVE-2026-5241). Of a hub name the JSON files are fetched and looked at
first; that it has whole safetensors is left to the frameworks, which are made to read nothing else.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path
from typing import Any

from inference.common.terminal import plain_output
from inference.engines.checkpoint_config import AGAIN, CheckpointRefused, check_configuration, read_json, without_torch

OTHER_FILES = ("*.json", "*.txt", "*.jinja", "*.model", "*.py")  # what engines read beside the weights
CUSTOM_GENERATE = "custom_generate/generate.py"  # transformers up to 5.16 copies it before anybody is asked
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Files of a trainer: no engine reads them, and the optimizer is larger than the model.
NO_WEIGHTS = ("training_args", "trainer_state", "optimizer", "scheduler", "rng_state", "random_states", "scaler")
SAFETENSORS = "model.safetensors"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
VERL_SHARDS = "model_world_size_*_rank_*.pt"
# In the names of a quantised layer's tensors, as AWQ, GPTQ, FP8, compressed-tensors and bitsandbytes save them.
QUANTISED = ("scale", "qweight", "packed", "quant_state", "absmax", "SCB")
LFS_POINTER = b"version https://git-lfs"


def pickled_weights(folder: str | Path) -> list[Path]:
    """The folder's pickled weight files, when it has no others."""
    folder = Path(folder)
    if any(folder.glob("*.safetensors")):
        return []
    found = sorted(path for pattern in PICKLES for path in folder.glob(pattern))
    return [path for path in found if not path.name.startswith(NO_WEIGHTS)]


def model_files(folder: str | Path) -> list[Path]:
    """What an engine reads of the folder: weights, configuration, tokenizer, templates, code; sorted by name."""
    folder = Path(folder)
    weights = list(folder.glob("*.safetensors")) or pickled_weights(folder)
    others = [path for pattern in OTHER_FILES for path in folder.glob(pattern)]
    return sorted(path for path in weights + others if path.is_file() and not path.name.startswith((".", *NO_WEIGHTS)))


def _names_kernel(value: Any) -> bool:
    """Whether an attention implementation is one of the hub, a repository's name, for the model or a part of it."""
    return any(map(_names_kernel, value.values())) if isinstance(value, dict) else "/" in str(value)


def names_code(value: Any) -> bool:
    """Whether decoded JSON names code to run, at any depth: a nested configuration is loaded as well."""
    if isinstance(value, list):
        return any(map(names_code, value))
    if not isinstance(value, dict):
        return False
    return any(
        (key in ("auto_map", "trust_remote_code") and inner)
        or ("attn_implementation" in key and _names_kernel(inner))
        or names_code(inner)
        for key, inner in value.items()
    )


def remote_code(folder: str | Path) -> list[Path]:
    """The folder's JSON files that name Python code to run, and the code that transformers looks for unasked."""
    custom = Path(folder) / CUSTOM_GENERATE
    naming = [custom] if custom.exists() else []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # no framework can read it either
        if names_code(content):
            naming.append(path)
    return naming


def verl_shards(folder: Path) -> Path | None:
    """Where verl's shards of the policy lie: in a training's folder, one of its steps, or beside its configuration."""
    for pattern in ("", "actor/", "global_step_*/actor/"):
        if found := list(folder.glob(f"{pattern}{VERL_SHARDS}")):
            return max(found, key=lambda path: path.stat().st_mtime).parent
    unmerged = any(folder.parent.glob(VERL_SHARDS)) and not any(folder.glob("*.safetensors"))
    return folder.parent if unmerged else None


def check_known_folder(folder: Path) -> None:
    """Nothing for a model folder; for what is often taken for one, what to do with it.

    Raises:
        CheckpointRefused: naming the folder.
    """
    if (folder / "adapter_config.json").is_file():
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        raise CheckpointRefused(
            f"{folder}: adapters of {base}, not a model: give checkpoint={base} adapter={folder}, or merge them into a "
            f"folder of their own, swift export --adapters {folder} --merge_lora true --output_dir FOLDER"
        )
    if shards := verl_shards(folder):
        raise CheckpointRefused(
            f"{folder}: shards of verl, not a model: merge them, "
            f"python -m scripts.merge_checkpoint {shards} --output_dir FOLDER"
        )
    if not (folder / "config.json").is_file():
        inside = [path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/config.json")]
        newest = max(inside, key=lambda path: path.stat().st_mtime, default=None)
        advice = f"name a checkpoint in it, for instance {newest}" if newest else "expected a model folder"
        raise CheckpointRefused(f"{folder / 'config.json'}: no such file: {advice}")


def check_pointer(path: Path) -> None:
    """Nothing for a file that is itself there.

    Raises:
        CheckpointRefused: for Git LFS's pointer to it.
    """
    with open(path, "rb") as handle:
        start = handle.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise CheckpointRefused(f"{path}: a Git LFS pointer, not the file itself: run git lfs pull in {path.parent}")


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """name → shape of the tensors of a safetensors file, which is as long as its head says.

    Raises:
        CheckpointRefused: when it is not.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as weights:  # maps the file, reads its head
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        check_pointer(path)
        size = path.stat().st_size
        raise CheckpointRefused(f"{path}: not a whole safetensors file ({size} bytes; {error}): {AGAIN}") from None


def check_pickle(path: Path) -> None:
    """Nothing for a file of torch.save that has its end; nothing in it is read.

    Raises:
        CheckpointRefused: for one that was cut off.
    """
    with open(path, "rb") as handle:
        start = handle.read(2)
    if not start or (start == b"PK" and not zipfile.is_zipfile(path)):
        raise CheckpointRefused(f"{path}: cut off after {path.stat().st_size} bytes: {AGAIN}")


def check_weights(folder: Path) -> None:
    """Every weight file is there and whole, and holds the tensors that an index expects of it.

    Raises:
        CheckpointRefused: naming the file.
    """
    for path in model_files(folder):
        check_pointer(path)
    pickled = pickled_weights(folder)
    for path in pickled:
        check_pickle(path)
    tensors = {path.name: tensor_shapes(path).keys() for path in sorted(folder.glob("*.safetensors"))}
    for index in (folder / f"{SAFETENSORS}.index.json", folder / "pytorch_model.bin.index.json"):
        if not index.is_file() or (index.suffixes[0] == ".bin" and not pickled):
            continue
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
            raise CheckpointRefused(f"{index}: expected a weight_map of tensors' names to files: {AGAIN}")
        for shard in sorted(set(shards.values())):
            if not (folder / shard).is_file():
                raise CheckpointRefused(f"{folder / shard}: no such file, but {index.name} names it: {AGAIN}")
            expected = {name for name, file in shards.items() if file == shard}
            if shard.endswith(".safetensors") and (missing := expected - tensors[shard]):
                raise CheckpointRefused(
                    f"{folder / shard}: lacks {len(missing)} tensors that {index.name} expects in it, "
                    f"{min(missing)} among them: {AGAIN}"
                )
    whole = [name for name, inside in tensors.items() if inside]
    if not whole and not pickled:
        raise CheckpointRefused(f"{folder}: no weights: expected {SAFETENSORS}, or its shards and index")
    if whole and not any((folder / name).is_file() for name in (SAFETENSORS, f"{SAFETENSORS}.index.json")):
        raise CheckpointRefused(f"{folder / SAFETENSORS}.index.json: no such file beside {whole[0]}: {AGAIN}")
    check_quantised(folder, set().union(*tensors.values()))


def quantisation(folder: Path) -> str:
    """The method by which the folder's weights are quantised, as config.json names it; empty for none."""
    path = folder / "config.json"
    said = read_json(path).get("quantization_config") if path.is_file() else None
    return str(said.get("quant_method")) if isinstance(said, dict) else ""


def check_quantised(folder: Path, tensors: set[str]) -> None:
    """Nothing for weights that are as config.json has them: of quantised ones, scales are among the tensors.

    Without them vLLM would compute with whatever is in its memory, and transformers as if nothing were said.

    Raises:
        CheckpointRefused: naming the field.
    """
    method = quantisation(folder)
    if method and tensors and not any(mark in name for name in tensors for mark in QUANTISED):
        raise CheckpointRefused(
            f"{folder / 'config.json'}, field 'quantization_config': says {method}, but none of its {len(tensors)} "
            "tensors holds scales or packed weights: do config.json and weights belong together?"
        )


def check_processor(folder: Path) -> None:
    """Tokenizer, image processor and chat template are there, and what is JSON can be read.

    Raises:
        CheckpointRefused: naming the file.
    """
    base = "copy it from the model that this one was trained from"
    for names in (TOKENIZER_FILES, PROCESSOR_FILES):
        if not any((folder / name).is_file() for name in names):
            raise CheckpointRefused(f"{folder / names[0]}: no such file: {base}")
    for name in ("generation_config.json", "tokenizer_config.json", *TOKENIZER_FILES, *PROCESSOR_FILES):
        if name.endswith(".json") and (folder / name).is_file():
            read_json(folder / name)
    holders = [folder / name for name in ("tokenizer_config.json", *PROCESSOR_FILES)]
    named = any("chat_template" in read_json(path) for path in holders if path.is_file())
    if not named and not any((folder / name).is_file() for name in TEMPLATE_FILES):
        raise CheckpointRefused(f"{folder / TEMPLATE_FILES[0]}: no such file: {base}")


def hub_files(name: str) -> Path:
    """The folder of a hub model's JSON files, fetched if need be.

    Raises:
        CheckpointRefused: when there is no such model, or its files cannot be had.
    """
    from huggingface_hub import snapshot_download

    if Path(name).is_file():
        raise CheckpointRefused(f"{name}: a file: name the folder that it lies in")
    owner, _, model = name.partition("/")
    if not model or "/" in model or owner in (".", "..", "~") or Path(owner).is_dir():
        raise CheckpointRefused(f"{name}: no such folder: expected a model folder, or OWNER/MODEL of the hub")
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", CUSTOM_GENERATE]))
    except (OSError, ValueError) as error:  # all of the library's own errors are one of these
        reason = str(error).partition("\n")[0]
        raise CheckpointRefused(
            f"{name}: no such folder in {Path.cwd()}, nor to be had from the hub: {reason}"
        ) from None


def cached_hub_file(name: str, file: str) -> Path | None:
    """A hub model's file, where the local cache has it."""
    try:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(name, file)
    except (ImportError, ValueError):  # ValueError: not a hub name
        return None
    return Path(path) if isinstance(path, str) else None


def check_code(folder: str | Path, allow_pickle: bool = False, trust_remote_code: bool = False) -> None:
    """Nothing for a folder that is data alone.

    Raises:
        CheckpointRefused: naming the file and the option that would allow it.
    """
    if not allow_pickle and (found := pickled_weights(folder)):
        raise CheckpointRefused(
            f"{found[0]}: the weights are pickled, and a pickle can run any code when it is read: "
            "convert them to safetensors, or give --allow_pickle if you trust where they come from"
        )
    if not trust_remote_code and (found := remote_code(folder)):
        raise CheckpointRefused(
            f"{found[0]}: names Python code that comes with the checkpoint (auto_map or the like): "
            "give --trust_remote_code if you have read it"
        )


def check_checkpoint(checkpoint: str | Path, allow_pickle: bool = False, trust_remote_code: bool = False) -> None:
    """Nothing for a folder or hub model that can be run as it was saved.

    Raises:
        CheckpointRefused: in one line, naming the file and what to do.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        check_known_folder(folder)
        check_code(folder, allow_pickle, trust_remote_code)
        check_weights(folder)
        if not trust_remote_code:  # code of its own may read other files
            check_processor(folder)
    else:
        folder = hub_files(str(checkpoint))
        check_code(folder, allow_pickle=True, trust_remote_code=trust_remote_code)  # the engines read safetensors alone
    check_configuration(folder, trust_remote_code)


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--allow_pickle", action="store_true")
    parser.add_argument("--trust_remote_code", action="store_true")
    args = parser.parse_args()
    without_torch()
    try:
        check_checkpoint(args.checkpoint, args.allow_pickle, args.trust_remote_code)
    except CheckpointRefused as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
