"""Qwen2.5-VL in the sizes that benchmarks run: each number of the configuration once, and what follows from them.

    SHAPES["7b"].parameters                        # 8,292,166,656
    SHAPES["7b"].operations(prompt=563, image=471, output=250)     # of one request, counted as below

Operations count multiplications and additions of matrix products (2 per weight and token) and of attention
(4 per pair of positions and channel: scores and weighted values), in a forward pass that caches nothing across
requests:

    language model     2 × weights of all layers × (prompt + output − 1): the last token is never an input
                       4 × heads × head size × layers × (pairs of positions, each with itself and those before it)
    output layer       2 × hidden size × vocabulary × output: only sampled positions get there
    vision tower       2 × weights of all blocks and the patch embedding × patches, 4 patches per image token
                       4 × width × patches × (all patches in blocks with full attention, 64, a window, in the others)
    merger             2 × its weights × image tokens

Embedding look-ups, norms, activations and sampling are left out, as is usual. Standard library only.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from inference.common.paths import TOY_CHECKPOINT

PATCHES_PER_TOKEN = 4  # the merger joins 2 × 2
PATCH_VALUES = 3 * 2 * 14 * 14  # colours, two frames (an image is doubled), pixels
SPECIAL_TOKENS = {  # of Qwen2.5's vocabulary, behind its 151,643 ranks
    "bos_token_id": 151643,
    "pad_token_id": 151643,
    "eos_token_id": 151645,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "image_token_id": 151655,
    "video_token_id": 151656,
}


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    """A matrix and its bias."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


@dataclass(frozen=True)
class Shape:
    """One size of Qwen2.5-VL."""

    hidden_size: int
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    intermediate_size: int
    vocabulary: int
    tied: bool
    vision_depth: int
    vision_size: int
    vision_heads: int
    vision_intermediate_size: int
    full_attention_blocks: tuple[int, ...]
    rope_sections: tuple[int, int, int]
    rope_theta: float
    max_positions: int
    norm_epsilon: float
    window_patches: int = 64  # 112 × 112 pixels

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.n_heads

    @property
    def _layer_weights(self) -> int:
        """Of the matrices of one layer of the language model."""
        keys_values = 2 * self.n_key_value_heads * self.head_size
        attention = self.hidden_size * (2 * self.hidden_size + keys_values)  # queries and output, keys and values
        return attention + 3 * self.hidden_size * self.intermediate_size

    @property
    def _block_weights(self) -> int:
        """Of the matrices of one block of the vision tower."""
        return 4 * self.vision_size**2 + 3 * self.vision_size * self.vision_intermediate_size

    @property
    def _merger_weights(self) -> int:
        merged = PATCHES_PER_TOKEN * self.vision_size
        return merged * (merged + self.hidden_size)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of every tensor, as the released checkpoints spell them."""
        width, merged, inner = self.vision_size, PATCHES_PER_TOKEN * self.vision_size, self.vision_intermediate_size
        size, keys = self.hidden_size, self.n_key_value_heads * self.head_size
        block = {
            "norm1.weight": (width,),
            "norm2.weight": (width,),
            **_linear("attn.qkv", 3 * width, width),
            **_linear("attn.proj", width, width),
            **_linear("mlp.gate_proj", inner, width),
            **_linear("mlp.up_proj", inner, width),
            **_linear("mlp.down_proj", width, inner),
        }
        layer = {
            "input_layernorm.weight": (size,),
            "post_attention_layernorm.weight": (size,),
            **_linear("self_attn.q_proj", size, size),
            **_linear("self_attn.k_proj", keys, size),
            **_linear("self_attn.v_proj", keys, size),
            "self_attn.o_proj.weight": (size, size),
            "mlp.gate_proj.weight": (self.intermediate_size, size),
            "mlp.up_proj.weight": (self.intermediate_size, size),
            "mlp.down_proj.weight": (size, self.intermediate_size),
        }
        return {
            "visual.patch_embed.proj.weight": (width, 3, 2, 14, 14),
            **{f"visual.blocks.{i}.{name}": shape for i in range(self.vision_depth) for name, shape in block.items()},
            "visual.merger.ln_q.weight": (width,),
            **_linear("visual.merger.mlp.0", merged, merged),
            **_linear("visual.merger.mlp.2", size, merged),
            "model.embed_tokens.weight": (self.vocabulary, size),
            **{f"model.layers.{i}.{name}": shape for i in range(self.n_layers) for name, shape in layer.items()},
            "model.norm.weight": (size,),
            **({} if self.tied else {"lm_head.weight": (self.vocabulary, size)}),
        }

    @property
    def parameters(self) -> int:
        """How many numbers all tensors hold."""
        return sum(map(math.prod, self.tensors().values()))

    def operations(self, prompt: int, image: int, output: int) -> int:
        """Floating-point operations of one request; ``image`` of its ``prompt`` tokens are an image's."""
        positions = prompt + output - 1
        pairs = positions * (positions + 1) // 2
        language = 2 * self.n_layers * self._layer_weights * positions + 4 * self.n_layers * self.hidden_size * pairs
        output_layer = 2 * self.hidden_size * self.vocabulary * output
        patches = PATCHES_PER_TOKEN * image
        n_full = len(self.full_attention_blocks)
        seen = n_full * patches + (self.vision_depth - n_full) * min(self.window_patches, patches)
        weights = self.vision_depth * self._block_weights + PATCH_VALUES * self.vision_size
        vision = 2 * weights * patches + 4 * self.vision_size * patches * seen
        return language + output_layer + vision + 2 * self._merger_weights * image

    def config(self, tokens: dict[str, int]) -> dict[str, Any]:
        """config.json that transformers 4.57 and 5, and vLLM since 0.10, read alike.

        Args:
            tokens: ids of the special tokens, under the configuration's names.
        """
        text_tokens = {
            name: tokens[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if name in tokens
        }
        text = {
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],  # transformers 4.57 looks here for it
            "model_type": "qwen2_5_vl_text",
            "dtype": "bfloat16",
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "layer_types": ["full_attention"] * self.n_layers,
            "max_position_embeddings": self.max_positions,
            "max_window_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_hidden_layers": self.n_layers,
            "num_key_value_heads": self.n_key_value_heads,
            "rms_norm_eps": self.norm_epsilon,
            "rope_scaling": {"mrope_section": list(self.rope_sections), "rope_type": "default", "type": "default"},
            "rope_theta": self.rope_theta,
            "sliding_window": None,
            "tie_word_embeddings": self.tied,
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": self.vocabulary,
            **text_tokens,
        }
        vision = {
            "model_type": "qwen2_5_vl",
            "dtype": "bfloat16",
            "depth": self.vision_depth,
            "fullatt_block_indexes": list(self.full_attention_blocks),
            "hidden_act": "silu",
            "hidden_size": self.vision_size,
            "in_channels": 3,
            "initializer_range": 0.02,
            "intermediate_size": self.vision_intermediate_size,
            "num_heads": self.vision_heads,
            "out_hidden_size": self.hidden_size,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
        }
        return {
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            "model_type": "qwen2_5_vl",
            "dtype": "bfloat16",
            "transformers_version": "4.57.0",  # whose spelling this is; without it 5 doubts the tokenizer
            "tie_word_embeddings": self.tied,
            "text_config": text,
            "vision_config": vision,
            **tokens,
        }


# The published configurations of Qwen2.5-VL-7B and -3B.
QWEN_VISION = {
    "vision_depth": 32,
    "vision_size": 1280,
    "vision_heads": 16,
    "vision_intermediate_size": 3420,
    "full_attention_blocks": (7, 15, 23, 31),
    "rope_sections": (16, 24, 24),
    "rope_theta": 1_000_000.0,
    "max_positions": 128_000,
    "norm_epsilon": 1e-6,
}
SHAPES = {
    "7b": Shape(3584, 28, 28, 4, 18944, 152_064, tied=False, **QWEN_VISION),
    "3b": Shape(2048, 36, 16, 2, 11008, 151_936, tied=True, **QWEN_VISION),
}


def toy_shape() -> Shape:
    """That of the toy model in this repository, from its own configuration."""
    config = json.loads((TOY_CHECKPOINT / "config.json").read_bytes())
    text, vision = config["text_config"], config["vision_config"]
    return Shape(
        text["hidden_size"],
        text["num_hidden_layers"],
        text["num_attention_heads"],
        text["num_key_value_heads"],
        text["intermediate_size"],
        text["vocab_size"],
        text["tie_word_embeddings"],
        vision["depth"],
        vision["hidden_size"],
        vision["num_heads"],
        vision["intermediate_size"],
        tuple(vision["fullatt_block_indexes"]),
        tuple(text["rope_scaling"]["mrope_section"]),
        text["rope_theta"],
        text["max_position_embeddings"],
        text["rms_norm_eps"],
    )


SHAPES["toy"] = toy_shape()
