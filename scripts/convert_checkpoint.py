"""Write a checkpoint's folder anew so that transformers 4 and 5 read the same model in it, and what builds on them.

    python -m scripts.convert_checkpoint output/scaffold/checkpoint-666 --output_dir output/Scaffold

The generations spell the same values differently. 5 reads what 4 wrote, but looks for tied embeddings at another
place; 4 reads neither positions nor special tokens nor the image processor of what 5 wrote. Here each value is in both
spellings. Weights have the same names in both and are copied as they are; a trainer's state is left behind. The
folder appears under its name only when the installed transformers reads in it what it says.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from tqdm import tqdm

from inference.common.storage import atomic_folder, explain
from inference.common.terminal import plain_output
from inference.engines.checkpoint_config import TIE, CheckpointRefused, read_json, without_torch
from inference.engines.checkpoints import check_checkpoint, check_known_folder, model_files

# A processor's parts in 5's one file, and 4's file of each.
PARTS = {"image_processor": "preprocessor_config.json", "video_processor": "video_preprocessor_config.json"}


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def spell_positions(level: dict[str, Any]) -> None:
    """Rotary positions: ``rope_parameters`` is 5's, ``rope_theta`` and ``rope_scaling`` are 4's.

    Raises:
        ValueError: for settings per type of layer, which 4 has no words for.
    """
    if parameters := level.get("rope_parameters"):
        if any(isinstance(value, dict) for value in parameters.values()):
            raise ValueError("rope_parameters differ between types of layers, which transformers 4 cannot spell")
        scaling = {name: value for name, value in parameters.items() if name != "rope_theta"}
        level["rope_scaling"] = scaling if scaling.keys() - {"rope_type"} else None
        if "rope_theta" in parameters:
            level["rope_theta"] = parameters["rope_theta"]
    elif "rope_theta" in level:
        scaling = level.get("rope_scaling") or {}
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        kind = "default" if kind == "mrope" else kind  # the sections say it
        level["rope_parameters"] = {**scaling, "rope_type": kind, "rope_theta": level["rope_theta"]}


def spell_config(config: dict[str, Any]) -> None:
    """config.json, in place; settings of the text model lie at the top or in ``text_config``."""
    text = config.get("text_config", config)
    by_5 = int(str(config.get("transformers_version", "4")).partition(".")[0]) >= 5
    spell_positions(text)
    if "architectures" in config:  # 4's Qwen2.5-VL looks up there what its text model has, too
        text.setdefault("architectures", config["architectures"])
    said = [level[TIE] for level in ((config, text) if by_5 else (text, config)) if TIE in level]
    if said:  # the writer's own place first
        config[TIE] = text[TIE] = said[0]
    if not by_5:
        text.setdefault("bos_token_id", None)  # 4 leaves out None; to 5 it means the class's own


def spell_processor(folder: Path) -> None:
    """5 has one file for all parts of a processor, 4 one each, and its fast image processors are called so."""
    path = folder / "processor_config.json"
    whole = read_json(path) if path.is_file() else {}
    for part, name in PARTS.items():
        if not isinstance(values := whole.get(part), dict):
            continue
        values = {**values, "processor_class": whole.get("processor_class")}
        if kind := values.get("image_processor_type"):
            values["image_processor_type"] = kind.removesuffix("Pil") if kind.endswith("Pil") else f"{kind}Fast"
        if {"shortest_edge", "longest_edge"} == (values.get("size") or {}).keys():  # areas, to Qwen's
            values["min_pixels"] = values["size"]["shortest_edge"]
            values["max_pixels"] = values["size"]["longest_edge"]
        write_json(folder / name, values)


def spell_tokenizer(folder: Path) -> None:
    """Special tokens are a list of 4's name; 5's general class is 4's fast one under another name."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return
    config = read_json(path)
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json(path, config)


def spell_for_both(folder: Path) -> None:
    """Rewrite a folder's configuration, processor and tokenizer files in the words of both generations.

    Raises:
        ValueError: for positions that 4 has no words for.
        CheckpointRefused: for a file that is not JSON.
    """
    config = read_json(folder / "config.json")
    spell_config(config)
    write_json(folder / "config.json", config)
    spell_processor(folder)
    spell_tokenizer(folder)


def convert(checkpoint: Path, output_dir: Path) -> None:
    """Write ``output_dir`` anew from a model's folder.

    Raises:
        ValueError, OSError: naming the file that cannot be read, spelled or written.
    """
    check_known_folder(checkpoint)
    with atomic_folder(output_dir) as temporary:
        temporary.mkdir()
        for path in tqdm(model_files(checkpoint), desc="copying", unit="file", delay=2.0):
            shutil.copyfile(path, temporary / path.name)
        spell_for_both(temporary)
        try:
            check_checkpoint(temporary)
        except CheckpointRefused as error:
            raise ValueError(str(error).replace(str(temporary), str(output_dir))) from None


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a model's folder, for instance checkpoint-<n> of stages 1 and 2")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    without_torch()
    try:
        if args.output_dir.resolve() == args.checkpoint.resolve():
            raise ValueError(f"--output_dir {args.output_dir}: expected another folder than the checkpoint's")
        convert(args.checkpoint, args.output_dir)
    except (ValueError, OSError) as error:
        parser.exit(2, f"converting failed: {explain(error, args.output_dir)}\n")
    print(f"{args.output_dir}: {args.checkpoint} for transformers 4 and 5")


if __name__ == "__main__":
    main()
