"""A checkpoint of a named shape with random weights, for measurements where the released weights are not at hand.

    python -m scripts.maintenance.benchmark.random_checkpoint --shape 7b --output_dir /dev/shm/random_7b
    python -m scripts.maintenance.benchmark.random_checkpoint --shape 3b --output_dir FOLDER --ranks qwen.tiktoken

The weights are drawn on the GPU where there is one (7B: well under a minute): bfloat16, matrices from a normal
distribution of standard deviation 0.02, norms 1, biases 0. Configuration, tensor names and files are spelled as in
the released checkpoints, which all versions of transformers and vLLM read. A folder that is there already is kept, if
its configuration is the same.

The sizes 3b and 7b get Qwen's own tokenizer, made from its rank file, qwen.tiktoken. Where --ranks names none,
pip downloads the package that brings the file, dashscope, from the package index. Nothing comes from a hub.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

from inference.common.paths import TOY_CHECKPOINT
from inference.common.storage import atomic_folder
from inference.common.terminal import plain_output
from scripts.convert_checkpoint import write_json
from scripts.maintenance.benchmark.shapes import SHAPES, SPECIAL_TOKENS, Shape

NOTICE = "random weights in the shape of Qwen2.5-VL, for measurements: its answers mean nothing"
RANKS_REQUIREMENT = (  # the wheel of dashscope 2.0.2
    "dashscope==2.0.2 --hash=sha256:0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258\n"
)
RANKS_FILE = "dashscope/resources/qwen.tiktoken"
RANKS_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"
SHARD_PARAMETERS = 2_000_000_000  # per file: 4 GB

# How Qwen2's tokenizer cuts text before it looks for ranks.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NAMED_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)


def download_ranks(folder: Path) -> Path:
    """qwen.tiktoken out of the wheel that pip downloads into ``folder``.

    Raises:
        OSError: when pip cannot.
    """
    requirement = folder / "requirement.txt"
    requirement.write_text(RANKS_REQUIREMENT)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-d", str(folder)]
    done = subprocess.run([*command, "-r", str(requirement)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(
            f"pip could not download dashscope, which brings qwen.tiktoken: {done.stderr.strip().splitlines()[-1:]}: "
            "give the file by --ranks"
        )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        (folder / "qwen.tiktoken").write_bytes(wheel.read(RANKS_FILE))
    return folder / "qwen.tiktoken"


def read_ranks(path: Path) -> dict[bytes, int]:
    """Token → rank.

    Raises:
        ValueError: for another file than Qwen's.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != RANKS_SHA256:
        raise ValueError(f"{path}: expected the file qwen.tiktoken of {RANKS_REQUIREMENT.split()[0]}, by its SHA-256")
    lines = (line.split() for line in content.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def merge_of(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts that byte-pair encoding joins last on its way to this token."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
        place = pairs.index(min(pairs))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


def byte_letters() -> dict[int, str]:
    """Byte → the printable letter that stands for it in tokenizer files (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def write_tokenizer(ranks_path: Path, vocabulary: int, folder: Path) -> None:
    """Qwen2's tokenizer, filled up with unused tokens to the model's ``vocabulary``: random weights produce any id."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ranks, letters = read_ranks(ranks_path), byte_letters()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    vocab = {spelled(token): rank for token, rank in ranks.items()}
    by_rank = sorted(ranks, key=ranks.__getitem__)
    merges = [tuple(map(spelled, merge_of(token, ranks))) for token in by_rank if len(token) > 1]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    unused = [f"<|unused_{i}|>" for i in range(vocabulary - len(ranks) - len(NAMED_TOKENS))]
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in [*NAMED_TOKENS, *unused]]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "vocab.json", vocab)
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "processor_class": "Qwen2_5_VLProcessor",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "bos_token": None,
            "unk_token": None,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 131_072,
        },
    )


def write_processor(shape_name: str, ranks: Path | None, folder: Path) -> None:
    """Tokenizer, chat template and image processor: the toy model's own files, or Qwen's numbers in them."""
    names = ["chat_template.jinja", "preprocessor_config.json", "video_preprocessor_config.json"]
    if shape_name == "toy":
        names = [path.name for path in TOY_CHECKPOINT.glob("*.j*") if path.name != "config.json"]
    for name in names:
        shutil.copy(TOY_CHECKPOINT / name, folder / name)
    (folder / "notice.txt").write_text(f"{NOTICE}\n")
    if shape_name == "toy":
        return
    images = json.loads((folder / "preprocessor_config.json").read_bytes())
    images.update(min_pixels=3136, max_pixels=12_845_056, size={"shortest_edge": 3136, "longest_edge": 12_845_056})
    write_json(folder / "preprocessor_config.json", images)
    ends = {"eos_token_id": [SPECIAL_TOKENS["eos_token_id"], SPECIAL_TOKENS["pad_token_id"]]}
    pad = {"pad_token_id": SPECIAL_TOKENS["pad_token_id"], "bos_token_id": SPECIAL_TOKENS["bos_token_id"]}
    write_json(folder / "generation_config.json", {"do_sample": True, "max_new_tokens": 2048, **ends, **pad})
    with tempfile.TemporaryDirectory() as downloads:
        write_tokenizer(ranks or download_ranks(Path(downloads)), SHAPES[shape_name].vocabulary, folder)


def write_weights(shape: Shape, folder: Path, seed: int = 0) -> None:
    """Random bfloat16 weights in safetensors files of up to 4 GB, and their index."""
    import torch
    from safetensors.torch import save_file

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator(device).manual_seed(seed)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    held = 0
    for name, size in shape.tensors().items():
        count = torch.Size(size).numel()
        if held + count > SHARD_PARAMETERS:
            shards.append({})
            held = 0
        shards[-1][name] = size
        held += count
    files = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]

    def draw(name: str, size: tuple[int, ...]) -> torch.Tensor:
        if name.endswith(".bias"):
            return torch.zeros(size, dtype=torch.bfloat16)
        if len(size) == 1:  # a norm
            return torch.ones(size, dtype=torch.bfloat16)
        weight = torch.empty(size, dtype=torch.bfloat16, device=device)
        return weight.normal_(std=0.02, generator=generator).cpu()

    with ThreadPoolExecutor(4) as pool:  # a file is written while the next one's weights are drawn
        writing = []
        for file, names in zip(files, shards, strict=True):
            tensors = {name: draw(name, size) for name, size in names.items()}
            writing.append(pool.submit(save_file, tensors, folder / file, metadata={"format": "pt"}))
        for future in writing:
            future.result()
    index = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    total = 2 * shape.parameters
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})


def build(shape_name: str, output_dir: Path, ranks: Path | None = None) -> bool:
    """Write the checkpoint, unless the folder holds it already; returns whether it was written.

    Raises:
        ValueError: when the folder holds something else.
        OSError: when it cannot be written, or the rank file cannot be had.
    """
    shape = SHAPES[shape_name]
    toy_tokens = json.loads((TOY_CHECKPOINT / "config.json").read_bytes())
    tokens = {name: toy_tokens[name] for name in SPECIAL_TOKENS if name in toy_tokens}
    config = shape.config(tokens if shape_name == "toy" else SPECIAL_TOKENS)
    if (output_dir / "config.json").is_file():
        if json.loads((output_dir / "config.json").read_bytes()) != config:
            raise ValueError(f"{output_dir}: holds another checkpoint: name another folder, or remove it")
        return False
    if output_dir.exists() and any(output_dir.iterdir()):
        raise ValueError(f"{output_dir}: holds other files: name another folder, or remove it")
    with atomic_folder(output_dir) as folder:
        folder.mkdir()
        write_json(folder / "config.json", config)
        # The tokenizer is Python's work for seconds: beside the weights, in a process that knows no CUDA.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            processor = pool.submit(write_processor, shape_name, ranks, folder)
            write_weights(shape, folder)
            processor.result()
    return True


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--ranks", type=Path, help="the file qwen.tiktoken; default: pip downloads it")
    args = parser.parse_args()
    start = time.monotonic()
    try:
        written = build(args.shape, args.output_dir, args.ranks)
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    done = f"written in {time.monotonic() - start:.1f} s" if written else "kept as it is"
    print(f"{args.output_dir}: {args.shape}, {SHAPES[args.shape].parameters:,} parameters, random: {done}", flush=True)


if __name__ == "__main__":
    main()
