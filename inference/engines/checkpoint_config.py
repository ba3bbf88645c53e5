"""What the installed transformers reads in a checkpoint's config.json, compared with what the file says.

    check_configuration("output/EmoCaliber")     # CheckpointRefused, when it would run another model than was saved

The two generations of transformers spell a configuration differently: 4 has ``rope_theta`` and ``rope_scaling``, 5
has ``rope_parameters``; tied embeddings are looked up in ``text_config`` by 4, at the top by 5. Neither refuses the
other's file. What it doesn't know becomes the class's default, and the model runs with wrong positions or an output
layer of random numbers. vLLM, ms-swift and verl all work with transformers' configuration objects.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TIE = "tie_word_embeddings"
ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_parameters")
# Names of classes, how it was saved, what commands set themselves; positions and ties are compared on their own.
NOT_COMPARED = {"model_type", "architectures", "transformers_version", "dtype", "torch_dtype", "use_cache"}

CONVERT = "python -m scripts.convert_checkpoint {folder} --output_dir FOLDER"
AGAIN = "copy or download it again"

Difference = tuple[str, Any, Any]  # field, what the file says, what was read


class CheckpointRefused(ValueError):
    """A checkpoint that cannot be run as it was saved, or would run code of its own; one line, with what to do."""


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file of a checkpoint holds.

    Raises:
        CheckpointRefused: when it holds none.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointRefused(f"{path}: not JSON ({error}): {AGAIN}") from None
    if not isinstance(content, dict):
        raise CheckpointRefused(f"{path}: expected a JSON object, got {type(content).__name__}: {AGAIN}")
    return content


def generation() -> int:
    """4 or 5: the installed transformers' first number."""
    import transformers

    return int(transformers.__version__.partition(".")[0])


def without_torch() -> None:
    """In a process that only looks: transformers' configurations need no torch, whose import takes seconds."""
    os.environ.setdefault("USE_TORCH", "0")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that there is none


def is_plain(value: Any) -> bool:
    """Whether it is a number, a truth value, a text, or a list of these."""
    return isinstance(value, (int, float, str)) or (isinstance(value, (list, tuple)) and all(map(is_plain, value)))


def _equal(written: Any, read: Any) -> bool:
    if isinstance(written, (list, tuple)) and isinstance(read, (list, tuple)):
        return len(written) == len(read) and all(map(_equal, written, read))
    return written == read


def rope_values(*parts: Any) -> dict[str, list[Any]]:
    """name → values of rotary position settings, in either generation's spelling, at any depth of ``parts``."""
    found = defaultdict(list)
    for part in parts:
        for name, value in part.items() if isinstance(part, dict) else ():
            if isinstance(value, dict):  # one set of settings for each type of layer
                for inner, values in rope_values(value).items():
                    found[inner] += values
            elif value is not None:
                # The sections say by themselves that positions are multi-dimensional.
                name = "rope_type" if name == "type" else name
                found[name].append("default" if value == "mrope" else value)
    return found


def rope_differences(written: dict[str, Any], read: Any) -> Iterator[Difference]:
    """Of one level of a configuration; a theta that the file leaves out is the class's own."""
    theta, scaling, parameters = (getattr(read, key, None) for key in ROPE_KEYS)
    in_use = rope_values({"rope_theta": theta}, scaling, parameters if generation() >= 5 else None)
    in_file = rope_values(
        {"rope_theta": written.get("rope_theta")}, written.get("rope_scaling"), written.get("rope_parameters")
    )
    for name, values in in_file.items():
        used = in_use.get(name) or ["default" if name == "rope_type" else getattr(read, name, None)]
        for value in values:
            if not any(_equal(value, one) for one in used):
                yield name, value, used[0]


def tie_difference(written: dict[str, Any], read: Any) -> Iterator[Difference]:
    """Whether the output layer shares the embedding's weights: said at either level, looked up at one of them."""
    text = read.get_text_config(decoder=True)
    nested = next(
        (value for key, value in written.items() if isinstance(value, dict) and getattr(read, key, 0) is text), {}
    )
    levels, used = ((written, nested), read) if generation() >= 5 else ((nested, written), text)
    said = next((level[TIE] for level in levels if TIE in level), None)
    tied = getattr(used, TIE, generation() < 5)
    if said is not None and said != tied:
        yield TIE, said, tied


def differences(written: dict[str, Any], read: Any) -> Iterator[Difference]:
    """Values that the file says and the configuration object doesn't hold, nested ones with their part's name.

    Args:
        written: config.json's content, or that of a nested configuration.
        read: the ``PretrainedConfig`` of it.
    """
    text = read.get_text_config()
    flat = text is not read and not any(getattr(read, key, None) is text for key in written)  # text settings at the top
    for key, value in written.items():
        # An underscore marks transformers' own notes, such as where the model was loaded from.
        if key.startswith("_") or key in (TIE, *ROPE_KEYS, *NOT_COMPARED):
            continue
        part = getattr(text if flat and hasattr(text, key) else read, key, None)
        if isinstance(value, dict) and hasattr(part, "get_text_config"):
            for name, said, used in differences(value, part):
                yield f"{key}.{name}", said, used
        elif is_plain(value) and part is not None and not _equal(value, part):
            yield key, value, part
    yield from rope_differences(written, text if flat else read)


def check_configuration(folder: Path, trust_remote_code: bool = False) -> None:
    """Nothing for a folder whose configuration and tokenizer this transformers reads as they were saved.

    Raises:
        CheckpointRefused: naming file, field, what the file says and what was read.
    """
    import transformers
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    path, installed = folder / "config.json", f"transformers {transformers.__version__}"
    written = read_json(path)
    if trust_remote_code and "auto_map" in written:
        return  # its own class knows what it reads
    try:
        read = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each class checks its values its own way
        reason = " ".join(str(error).partition("\n")[0].split()) or type(error).__name__
        raise CheckpointRefused(f"{path}: {installed} cannot read it: {reason}") from None
    found = [*differences(written, read), *tie_difference(written, read)]
    if found:
        shown = [f"{name} is {json.dumps(said)}, read as {json.dumps(used, default=str)}" for name, said, used in found]
        more = f", and {len(shown) - 3} fields more" if shown[3:] else ""
        writer = written.get("transformers_version", "another version")
        raise CheckpointRefused(
            f"{path}: {installed} reads other values than it says: {'; '.join(shown[:3])}{more} "
            f"(written by {writer}): install that version, or write it for this one, {CONVERT.format(folder=folder)}"
        )
    path = folder / "tokenizer_config.json"
    name = read_json(path).get("tokenizer_class") if path.is_file() else None
    known = (tokenizer_class_from_name(f"{name}{end}") for end in ("", "Fast"))
    if name and generation() < 5 and not trust_remote_code and not any(known):  # 5 takes its general class then
        raise CheckpointRefused(
            f"{path}: tokenizer_class is {name} there, which {installed} doesn't know: "
            f"install the generation that wrote it, or write it for this one, {CONVERT.format(folder=folder)}"
        )
