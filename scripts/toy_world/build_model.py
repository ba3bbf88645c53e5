"""Build the toy checkpoint's starting point: a Qwen2.5-VL of about 2 M parameters, random weights.

    python -m scripts.toy_world.build_model --corpus input_data/toy_world/stage1.jsonl \\
        input_data/toy_world/stage2.jsonl --output_dir output/toy_world/base

The class, the processor and the chat format are the released model's; the byte-level
tokenizer is trained on the corpus, so any text can be written. The architecture is small
where it can be: a head size of 32 is the least that vLLM's CPU attention takes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from inference.common.terminal import plain_output
from inference.data.prompts import SYSTEM_PROMPT
from inference.data.response import REASONING_STEPS
from scripts.merge_checkpoint import tidy
from scripts.toy_world.world import PIXEL_BUDGET

HIDDEN = 128
HEADS = 4

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [
    f"<|{name}|>" for name in ("vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")
]
TAG_TOKENS = [f"<{slash}{tag}>" for tag in ("think", *REASONING_STEPS, "answer", "confidence") for slash in ("", "/")]
# Qwen2's way of cutting text before byte-pair merges: contractions, words with their space, single digits, punctuation.
# Exactly Qwen2's: transformers 5 uses that pattern for a tokenizer of its class, whatever the file contains.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# The loop over message['content'] is written out, not in a macro: vLLM's server reads the
# template's syntax tree to learn that a content may be a list, and would join its items otherwise.
CHAT_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%}{{ '<|im_start|>system\\nSYSTEM_PROMPT<|im_end|>\\n' }}{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['content'] is string -%}{{ message['content'] }}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] in ('image', 'image_url') -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{ item['text'] }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
""".replace("SYSTEM_PROMPT", SYSTEM_PROMPT)


def build_tokenizer(texts: list[str], vocabulary: int) -> Qwen2TokenizerFast:
    """A byte-level BPE tokenizer over ``texts`` with Qwen2's special tokens and one token per tag."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(WORD_PATTERN), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    fast = Qwen2TokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL_TOKENS,
        model_max_length=4096,
    )
    fast.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAG_TOKENS])
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_config(tokenizer: Qwen2TokenizerFast) -> Qwen2_5_VLConfig:
    """The small configuration. The vocabulary is exactly the tokenizer's: no token without a text."""
    token = tokenizer.convert_tokens_to_ids
    ends = {"bos_token_id": None, "eos_token_id": token("<|im_end|>"), "pad_token_id": token("<|endoftext|>")}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": HIDDEN,
            "intermediate_size": 3 * HIDDEN,
            "num_hidden_layers": 4,
            "num_attention_heads": HEADS,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_theta": 10000.0,
            "rope_scaling": {"type": "mrope", "mrope_section": [8, 4, 4]},
            "tie_word_embeddings": True,
            "initializer_range": 0.06,
            **ends,
        },
        vision_config={
            "depth": 2,
            "hidden_size": HIDDEN,
            "num_heads": HEADS,
            "intermediate_size": 2 * HIDDEN,
            "out_hidden_size": HIDDEN,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [0, 1],
            "hidden_act": "silu",
            "in_channels": 3,
            "initializer_range": 0.06,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        **ends,
    )
    config.torch_dtype = "float32"
    return config


def build(corpus: list[Path], output_dir: Path, vocabulary: int = 900, seed: int = 0) -> int:
    """Write model, tokenizer and processor to ``output_dir``; returns the number of parameters."""
    texts = [SYSTEM_PROMPT, "system\nuser\nassistant\n"]
    for path in corpus:
        with open(path, encoding="utf-8") as lines:
            texts += [message["content"] for line in lines for message in json.loads(line)["messages"]]
    tokenizer = build_tokenizer(texts, vocabulary)
    config = build_config(tokenizer)
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config).float()
    token = tokenizer.convert_tokens_to_ids
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        eos_token_id=[token("<|im_end|>"), token("<|endoftext|>")],
        pad_token_id=token("<|endoftext|>"),
    )
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(min_pixels=PIXEL_BUDGET.min_pixels, max_pixels=PIXEL_BUDGET.max_pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    model.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    tidy(output_dir, type(model).__name__)
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--corpus", type=Path, nargs="+", required=True, help="training files whose texts it must write"
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=900, help="byte-pair vocabulary, special tokens not counted")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    count = build(args.corpus, args.output_dir, args.vocabulary, args.seed)
    print(f"{args.output_dir}: toy Qwen2.5-VL with {count:,} parameters, random weights")


if __name__ == "__main__":
    main()
