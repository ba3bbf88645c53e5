"""What a checkpoint folder would run: pickled weights and Python code of its own are refused unless asked for.

    python -m inference.checkpoint_files output/EmoCaliber                     # exit status 2 and one line, if it would
    python -m inference.checkpoint_files FOLDER --allow_pickle --trust_remote_code

A pickle can run any code while it is read, and so does what ``auto_map`` names. The engines ask here before
they load, the templates of training before they start, and do not rely on the frameworks alone: vLLM before
0.14 followed ``auto_map`` without being asked (CVE-2026-22807), transformers before 5.3 an attention kernel of
the hub that a configuration names (CVE-2026-4372), before 5.5 a configuration that trusts itself
(CVE-2026-5241). Of a hub name the JSON files are fetched and looked at first; that it has safetensors is left
to the frameworks, which are told to read nothing else. Standard library, but for the hub.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from inference.terminal import plain_output

OTHER_FILES = ("*.json", "*.txt", "*.jinja", "*.model", "*.py")  # what engines read beside the weights
CUSTOM_GENERATE = "custom_generate/generate.py"  # transformers up to 5.16 copies it before anybody is asked
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Files of a trainer: no engine reads them, and the optimizer is larger than the model.
NO_WEIGHTS = ("training_args", "trainer_state", "optimizer", "scheduler", "rng_state", "random_states", "scaler")


class CheckpointRefused(ValueError):
    """A checkpoint that would run code of its own; the message says what to do."""


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
    for key, inner in value.items():
        if key in ("auto_map", "trust_remote_code") and inner:
            return True
        if "attn_implementation" in key and _names_kernel(inner):
            return True
    return any(map(names_code, value.values()))


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


def hub_files(name: str) -> Path:
    """The folder of a hub model's JSON files, fetched if need be.

    Raises:
        CheckpointRefused: when they cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", CUSTOM_GENERATE]))
    except (OSError, ValueError) as error:  # all of the library's own errors are one of these
        reason = str(error).partition("\n")[0]
        raise CheckpointRefused(f"{name}: no folder, and its files cannot be had from the hub: {reason}") from None


def check_checkpoint(checkpoint: str | Path, allow_pickle: bool = False, trust_remote_code: bool = False) -> None:
    """Nothing for a folder or hub model that is data alone.

    Raises:
        CheckpointRefused: naming the file and the option that would allow it.
    """
    if not Path(checkpoint).is_dir():
        if trust_remote_code:
            return
        checkpoint = hub_files(str(checkpoint))
        allow_pickle = True  # only its JSON files are there; the engines read safetensors alone
    if not allow_pickle and (found := pickled_weights(checkpoint)):
        raise CheckpointRefused(
            f"{found[0]}: the weights are pickled, and a pickle can run any code when it is read: "
            "convert them to safetensors, or give --allow_pickle if you trust where they come from"
        )
    if not trust_remote_code and (found := remote_code(checkpoint)):
        raise CheckpointRefused(
            f"{found[0]}: names Python code that comes with the checkpoint (auto_map or the like): "
            "give --trust_remote_code if you have read it"
        )


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--allow_pickle", action="store_true")
    parser.add_argument("--trust_remote_code", action="store_true")
    args = parser.parse_args()
    try:
        check_checkpoint(args.checkpoint, args.allow_pickle, args.trust_remote_code)
    except CheckpointRefused as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
