"""Tiny models of random weights, of families that people evaluate: what the engines have to run, whatever they answer.

    build("qwen3_vl", folder)

Each is a few hundred thousand parameters with a tokenizer of its own and the family's own processor.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

WORDS = [
    "Which emotion might this image evoke? Choose the most likely one from [amusement, anger, awe]. user assistant"
]
ENDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # padding, begin and end of a turn
GRID = [[56, 56], [56, 112], [112, 56], [112, 112]]
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "image_size": 56, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip

TURNS = """\
{%- for message in messages -%}
{{ 'START' + message['role'] + '\\n' }}
{%- if message['content'] is string -%}{{ message['content'] }}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] in ('image', 'image_url') -%}IMAGE{%- else -%}{{ item['text'] }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ 'END\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'STARTassistant\\n' }}{%- endif -%}
"""


def tokenizer(image: str, others: list[str], ends: list[str] = ENDS, kind: Any = None, **named: str) -> Any:
    """A byte-level tokenizer whose chat template writes ``image`` for an image; ``named`` special tokens besides."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    padding, start, end = ends
    made = (kind or transformers.Qwen2TokenizerFast)(
        tokenizer_object=raw, unk_token=None, bos_token=None, eos_token=end, pad_token=padding,
        additional_special_tokens=[*ends, *others], model_max_length=4096,
        **({"extra_special_tokens": named} if named else {}),
    )  # fmt: skip
    made.chat_template = TURNS.replace("START", start).replace("END", end).replace("IMAGE", image)
    return made


def begins_texts(words: Any, token: str) -> None:
    """Have the tokenizer put ``token`` before every text, and the chat template write it as well."""
    words.add_special_tokens({"bos_token": token})
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A $B", special_tokens=[(token, words.bos_token_id)]
    )
    words.chat_template = "{{ bos_token }}" + words.chat_template


def text_config(words: Any, **more: Any) -> dict[str, Any]:
    """A language model of two layers; ``initializer_range`` is large, so that greedy tokens differ."""
    return {
        "vocab_size": len(words), "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "tie_word_embeddings": False, "initializer_range": 0.2,
        "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id, **more,
    }  # fmt: skip


def qwen_tokenizer() -> tuple[Any, dict[str, int]]:
    """(tokenizer, ids of its marks as a configuration names them)."""
    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words = tokenizer("<|vision_start|><|image_pad|><|vision_end|>", marks)
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return words, dict(zip(names, words.convert_tokens_to_ids(marks), strict=True))


def qwen2_vl() -> tuple[Any, Any, Any]:
    words, ids = qwen_tokenizer()
    vision = {"depth": 2, "embed_dim": 128, "hidden_size": 128, "num_heads": 4, "mlp_ratio": 2}
    rope = {"rope_scaling": {"type": "mrope", "mrope_section": [8, 4, 4]}}
    config = transformers.Qwen2VLConfig(text_config=text_config(words, **rope), vision_config=vision, **ids)
    images, videos = transformers.Qwen2VLImageProcessor(), transformers.Qwen2VLVideoProcessor()
    processor = transformers.Qwen2VLProcessor(images, words, videos, chat_template=words.chat_template)
    return transformers.Qwen2VLForConditionalGeneration, config, processor


def qwen3_vl() -> tuple[Any, Any, Any]:
    words, ids = qwen_tokenizer()
    vision = {
        "depth": 2, "hidden_size": 128, "out_hidden_size": 128, "num_heads": 4, "intermediate_size": 256,
        "patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    rope = {"rope_scaling": {"rope_type": "default", "mrope_section": [8, 4, 4], "mrope_interleaved": True}}
    text = text_config(words, head_dim=32, **rope)
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
    images, videos = transformers.Qwen2VLImageProcessor(patch_size=16), transformers.Qwen3VLVideoProcessor()
    processor = transformers.Qwen3VLProcessor(images, words, videos, chat_template=words.chat_template)
    return transformers.Qwen3VLForConditionalGeneration, config, processor


def llava_onevision() -> tuple[Any, Any, Any]:
    words = tokenizer("<image>", ["<image>", "<video>"])
    image, video = words.convert_tokens_to_ids(["<image>", "<video>"])
    config = transformers.LlavaOnevisionConfig(
        vision_config=SIGLIP, text_config={"model_type": "qwen2", **text_config(words)}, image_token_index=image,
        video_token_index=video, vision_feature_layer=-1, vision_feature_select_strategy="full",
        image_grid_pinpoints=GRID,
    )  # fmt: skip
    size = {"size": {"height": 56, "width": 56}}
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(image_grid_pinpoints=GRID, **size), words,
        transformers.LlavaOnevisionVideoProcessor(**size), num_image_tokens=16, vision_feature_select_strategy="full",
        chat_template=words.chat_template,
    )  # fmt: skip
    return transformers.LlavaOnevisionForConditionalGeneration, config, processor


def gemma3() -> tuple[Any, Any, Any]:
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    ends = ["<pad>", "<start_of_turn>", "<end_of_turn>"]
    kind = transformers.PreTrainedTokenizerFast
    words = tokenizer("<start_of_image>", list(named.values()), ends, kind, **named)
    words.add_tokens([AddedToken("\n" * count, normalized=False) for count in range(1, 5)])  # vLLM looks for them
    begins_texts(words, "<bos>")
    begin, end, image = words.convert_tokens_to_ids(list(named.values()))
    config = transformers.Gemma3Config(
        text_config=text_config(words, head_dim=32, query_pre_attn_scalar=32, sliding_window=512), vision_config=SIGLIP,
        mm_tokens_per_image=4, image_token_index=image, boi_token_index=begin, eoi_token_index=end,
    )  # fmt: skip
    images = transformers.Gemma3ImageProcessor(size={"height": 56, "width": 56})
    processor = transformers.Gemma3Processor(images, words, image_seq_length=4, chat_template=words.chat_template)
    return transformers.Gemma3ForConditionalGeneration, config, processor


def idefics3() -> tuple[Any, Any, Any]:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    ends = ["<|endoftext|>", "<|im_start|>", "<end_of_utterance>"]
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", *tiles]
    words = tokenizer("<image>", marks, ends, transformers.PreTrainedTokenizerFast)
    begins_texts(words, "<|begin_of_text|>")
    vision = {**SIGLIP, "model_type": "idefics3_vision"}
    del vision["vision_use_head"]
    config = transformers.Idefics3Config(
        vision_config=vision, text_config={"model_type": "llama", **text_config(words)}, scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"), pad_token_id=words.pad_token_id,
    )  # fmt: skip
    size = {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}
    images = transformers.Idefics3ImageProcessor(**size)
    processor = transformers.Idefics3Processor(images, words, image_seq_len=4, chat_template=words.chat_template)
    return transformers.Idefics3ForConditionalGeneration, config, processor


def internvl() -> tuple[Any, Any, Any]:
    named = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    words = tokenizer("<IMG_CONTEXT>", list(named.values()), **named)
    vision = {key: value for key, value in SIGLIP.items() if key not in ("model_type", "vision_use_head")}
    config = transformers.InternVLConfig(
        vision_config={**vision, "image_size": [56, 56], "patch_size": [14, 14]},
        text_config={"model_type": "qwen2", **text_config(words)}, image_seq_length=4, downsample_ratio=0.5,
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )  # fmt: skip
    size = {"height": 56, "width": 56}
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=4), words,
        transformers.InternVLVideoProcessor(), image_seq_length=4, chat_template=words.chat_template,
    )  # fmt: skip
    return transformers.InternVLForConditionalGeneration, config, processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    made.__name__: made for made in (qwen2_vl, qwen3_vl, llava_onevision, gemma3, idefics3, internvl)
}


def build(family: str, folder: Path) -> Path:
    """Write a model of the family into the folder, its tensors named as in the hub's checkpoints."""
    torch.manual_seed(0)
    kind, config, processor = FAMILIES[family]()
    config.dtype = "float32"
    model = kind(config).float()
    if family == "gemma3":  # begins with images that add nothing, and with layers too weak beside the embedding
        for name, values in model.named_parameters():
            if "language_model" in name and "post_" in name:
                torch.nn.init.constant_(values, 9.0)
            elif "mm_input_projection" in name:
                torch.nn.init.normal_(values, std=0.2)
    words = processor.tokenizer
    ends = {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    model.generation_config = transformers.GenerationConfig(**ends)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if family in ("llava_onevision", "gemma3"):  # transformers 5 leaves one level out, which vLLM looks for
        path = folder / "model.safetensors"
        tensors = {
            name.replace("vision_tower.", "vision_tower.vision_model."): values
            for name, values in load_file(path).items()
        }
        save_file(tensors, path, metadata={"format": "pt"})
    return folder
