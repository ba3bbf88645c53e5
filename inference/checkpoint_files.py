"""What a checkpoint folder would run: pickled weights and Python code of its own are refused unless asked for.

    python -m inference.checkpoint_files output/EmoCaliber                     # exit status 2 and one line, if it would
    python -m inference.checkpoint_files FOLDER --allow_pickle --trust_remote_code

A pickle can run any code while it is read, and so does what ``auto_map`` names. The engines ask here before
they load, the templates of training before they start. A hub name is not looked at here: the engines tell
the frameworks the same. Standard library only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

OTHER_FILES = ("*.json", "*.txt", "*.jinja", "*.model", "*.py")  # what engines read beside the weights
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


def remote_code(folder: str | Path) -> list[Path]:
    """The folder's JSON files that name Python code to run."""
    naming = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # no framework can read it either
        if isinstance(content, dict) and content.get("auto_map"):
            naming.append(path)
    return naming


def check_checkpoint(checkpoint: str | Path, allow_pickle: bool = False, trust_remote_code: bool = False) -> None:
    """Nothing for a folder that is data alone, or a hub name.

    Raises:
        CheckpointRefused: naming the file and the option that would allow it.
    """
    if not allow_pickle and (found := pickled_weights(checkpoint)):
        raise CheckpointRefused(
            f"{found[0]}: the weights are pickled, and a pickle can run any code when it is read: "
            "convert them to safetensors, or give --allow_pickle if you trust where they come from"
        )
    if not trust_remote_code and (found := remote_code(checkpoint)):
        raise CheckpointRefused(
            f"{found[0]}: auto_map names Python code that comes with the checkpoint: "
            "give --trust_remote_code if you have read it"
        )


def main() -> None:
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
