"""What each stage costs on 8 × H100 and on one 24 GB card: estimates, each with its arithmetic.

    python -m scripts.budget            # the table of the README

Nothing here was measured on a GPU. Operations come from the model's published dimensions (two a
parameter and token forward, four backward, two more for recomputed activations), times from the
cards' data sheets and a share of the peak that such training reaches. Change an assumption at the
top and the table follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.terminal import plain_output
from scripts.build_vec_cot.stages import PUBLISHED_ROWS

# Qwen2.5-VL-7B, from its published configuration.
HIDDEN, LAYERS, INTERMEDIATE, KEY_VALUE, VOCABULARY = 3584, 28, 18944, 512, 152_064
LAYER = 2 * HIDDEN**2 + 2 * HIDDEN * KEY_VALUE + 3 * HIDDEN * INTERMEDIATE
HEAD = HIDDEN * VOCABULARY
COMPUTING = LAYERS * LAYER + HEAD  # parameters that every token passes through; the input embedding is a look-up
VISION = 676_000_000
ALL = COMPUTING + HEAD + VISION

# Assumptions about the data: web photographs fill the pixel budget, the question names its labels.
IMAGE_TOKENS, QUESTION_TOKENS, ANSWER_TOKENS = 550, 110, 250
PROMPT_TOKENS = IMAGE_TOKENS + QUESTION_TOKENS
TOKENS = PROMPT_TOKENS + ANSWER_TOKENS
PATCHES = 4 * IMAGE_TOKENS

LORA_RANK = 32
LORA = LAYERS * LORA_RANK * (4 * HIDDEN + 2 * (HIDDEN + KEY_VALUE) + 3 * (HIDDEN + INTERMEDIATE))
GIB = 2**30


@dataclass(frozen=True)
class Card:
    """A GPU: bf16 operations and bytes a second from its data sheet, and the share that training reaches."""

    name: str
    operations: float
    bandwidth: float
    training_share: float
    prefill_share: float = 0.5


H100 = Card("8 × H100", 989e12, 3.35e12, 0.30)
SMALL = Card("one 24 GB card (RTX 4090)", 165e12, 1.0e12, 0.40)


def rows_of(stage: int) -> int:
    """Rows of a stage (1 to 3), the sum of the published sources."""
    return sum(counts[stage - 1] for counts in PUBLISHED_ROWS.values())


def training_seconds(samples: float, card: Card, cards: int, passes: int) -> float:
    """``passes``: 8 for all parameters with recomputed activations, 6 for adapters (no gradients of weights)."""
    operations = samples * (passes * COMPUTING * TOKENS + 2 * VISION * PATCHES)
    return operations / (cards * card.operations * card.training_share)


def sampling_seconds(responses: float, card: Card, batch: int) -> float:
    """One card: prefill by arithmetic, decoding by reading all weights once a step, twice that in practice."""
    prefill = responses * 2 * COMPUTING * PROMPT_TOKENS / (card.operations * card.prefill_share)
    waves = responses / min(batch, responses)
    return prefill + waves * ANSWER_TOKENS * 2 * (2 * COMPUTING / card.bandwidth)


def stage3_step_seconds(prompts: int, rollouts: int, card: Card, cards: int, passes: int, overhead: float) -> float:
    """Sampling, log-probabilities under actor and reference (a forward pass each), update, weights moved."""
    responses = prompts * rollouts / cards
    forward = 2 * training_seconds(responses, card, 1, 2)
    return sampling_seconds(responses, card, 256) + forward + training_seconds(responses, card, 1, passes) + overhead


def training_memory(cards: int, lora: bool) -> float:
    """Bytes on a card without offload: bf16 weights and gradients, fp32 master and two moments; logits; checkpoints."""
    trained = LORA if lora else ALL
    states = 2 * ALL / (1 if lora else cards) + trained * (2 + 12) / cards
    batch = 1 if lora else 8
    return states + batch * TOKENS * (LAYERS * HIDDEN * 2 + VOCABULARY * 10)


def hours(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def lines() -> list[str]:
    """The table's rows in Markdown."""
    reasons = {
        "sft": "8 operations a parameter and token (6 for adapters), {share:.0%} of the peak",
        "rl": "sampling + 2 forward passes + update + {overhead} s for moving weights, a step of {responses} responses",
    }
    table = [
        f"| | {H100.name}, the paper's settings | {SMALL.name}, `one_gpu_example.sh` | how |",
        "| --- | --- | --- | --- |",
    ]
    for stage in (1, 2):
        big = training_seconds(rows_of(stage), H100, 8, 8)
        small = training_seconds(rows_of(stage), SMALL, 1, 6)
        how = reasons["sft"].format(share=H100.training_share) + f" ({SMALL.training_share:.0%} on the small card)"
        table.append(f"| stage {stage}, {rows_of(stage):,} rows | {hours(big)} | {hours(small)} | {how} |")
    steps = rows_of(3) // 64
    big, small = (
        stage3_step_seconds(64, 8, H100, 8, 8, 10),
        stage3_step_seconds(16, 4, SMALL, 1, 6, 20),
    )
    table.append(
        f"| stage 3 | {hours(steps * big)} ({steps} steps of 512 responses, {big:.0f} s each) "
        f"| {hours(200 * small)} (200 steps of 64 responses, {small:.0f} s each) "
        f"| {reasons['rl'].format(overhead='10 (20)', responses='64 a card')} |"
    )
    engine_start = 90
    many = engine_start + sampling_seconds(8032 / 8, H100, 256)
    single = engine_start + 8032 / 8 * sampling_seconds(1, H100, 1)
    table.append(
        f"| VECBench, 8,032 samples | {hours(many)} (one request at a time: {hours(single)}) "
        f"| {hours(engine_start + sampling_seconds(8032, SMALL, 64))} | prefill by arithmetic, decoding by reading "
        f"the weights once a token at half the bandwidth, {engine_start} s start-up |"
    )
    table.append(
        f"| memory of stages 1, 2 | {training_memory(8, False) / GIB:.0f} GiB a card before offload "
        f"| {training_memory(1, True) / GIB:.0f} GiB | bf16 weights, gradients, fp32 Adam states "
        f"(sharded over 8; adapters of rank {LORA_RANK}: {LORA / 1e6:.0f} M), activations, logits |"
    )
    return table


def main() -> None:
    plain_output()
    print(
        f"Estimates: {COMPUTING / 1e9:.2f} B parameters that compute, {VISION / 1e9:.2f} B of the vision tower;\n"
        f"{IMAGE_TOKENS} image tokens, {QUESTION_TOKENS} of the question, {ANSWER_TOKENS} of the answer. "
        "Nothing was measured on a GPU.\n"
    )
    print("\n".join(lines()))


if __name__ == "__main__":
    main()
