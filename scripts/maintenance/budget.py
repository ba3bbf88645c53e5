"""What each stage costs on 8 × H100 and on one 24 GB card: estimates beside what was measured on one H100.

    python -m scripts.maintenance.budget            # the table of train/README.md

Operations come from the model's published dimensions (two per parameter and token forward, four
backward, two more for recomputed activations), times from the cards' data sheets and a share of the
peak. The measured numbers set what arithmetic does not give: the time per row that adapters cost beside
it, the share of the peak that prefill reaches, and the share of the bandwidth that decoding reaches.
Full parameters (FSDP), stage 3 and the 24 GB card have not been measured. Change a number at the top
and the table follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.common.terminal import plain_output
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

# Measured on one H100 80 GB at the 7B shape: LoRA (ms-swift 3.12.6, sdpa, micro-batch 1, about 900 tokens per row),
# and vLLM 0.20.2 on prompts of 563 tokens on average, 250 tokens answered.
MEASURED_ROW_SECONDS = 0.85
MEASURED_RESERVED_GIB, MEASURED_CARD_GB = 18.9, 20.7  # by torch; by nvidia-smi
MEASURED_REQUESTS, MEASURED_SINGLE_REQUESTS = 23.5, 0.587  # per second: all in one call; one per call
MEASURED_PROMPT_TOKENS = 563
ENGINE_START = 66  # seconds

LORA_RANK = 32
LORA = LAYERS * LORA_RANK * (4 * HIDDEN + 2 * (HIDDEN + KEY_VALUE) + 3 * (HIDDEN + INTERMEDIATE))
GIB = 2**30


@dataclass(frozen=True)
class Card:
    """A GPU: bf16 operations and bytes per second from its data sheet, and the share that training reaches."""

    name: str
    operations: float
    bandwidth: float
    training_share: float


H100 = Card("8 × H100", 989e12, 3.35e12, 0.30)
SMALL = Card("one 24 GB card (RTX 4090)", 165e12, 1.0e12, 0.40)

# one_gpu_example.sh keeps the weights in main memory: they cross PCI Express 4.0 (25 of its 32 GB/s) in four passes
# (two forward alone, forward and backward of the update) over 16 micro-batches of 4 responses.
STREAMING = 16 * 4 * 2 * ALL / 25e9


def rows_of(stage: int) -> int:
    """Rows of a stage (1 to 3), the sum of the published sources."""
    return sum(counts[stage - 1] for counts in PUBLISHED_ROWS.values())


def arithmetic_seconds(samples: float, card: Card, cards: int, passes: int) -> float:
    """``passes``: 8 for all parameters with recomputed activations, 6 for adapters (no gradients of weights)."""
    operations = samples * (passes * COMPUTING * TOKENS + 2 * VISION * PATCHES)
    return operations / (cards * card.operations * card.training_share)


# What the measured row takes beside its arithmetic: at micro-batch 1 the card waits for thousands of small kernels.
# Taken to be the same on every card, and to add up: on a slower card it may hide behind the arithmetic.
ROW_OVERHEAD = MEASURED_ROW_SECONDS - arithmetic_seconds(1, H100, 1, 6)


def adapter_seconds(samples: float, card: Card, passes: int = 6) -> float:
    """LoRA at micro-batch 1 on one card; ``passes`` 2 is a forward pass alone."""
    return arithmetic_seconds(samples, card, 1, passes) + samples * ROW_OVERHEAD * passes / 6


# Decoding reads all weights once per token, prefill is arithmetic; each reaches the share that was measured.
DECODING_SHARE = 2 * COMPUTING / H100.bandwidth * ANSWER_TOKENS * MEASURED_SINGLE_REQUESTS
PREFILL_SHARE = (
    2 * COMPUTING * MEASURED_PROMPT_TOKENS / H100.operations
    / (1 / MEASURED_REQUESTS - ANSWER_TOKENS * 2 * COMPUTING / H100.bandwidth / DECODING_SHARE / 256)
)  # fmt: skip


def sampling_seconds(responses: float, card: Card, batch: int) -> float:
    """One card: prefill by arithmetic, decoding by reading all weights once per step of ``batch`` responses."""
    prefill = responses * 2 * COMPUTING * PROMPT_TOKENS / (card.operations * PREFILL_SHARE)
    waves = responses / min(batch, responses)
    return prefill + waves * ANSWER_TOKENS * 2 * COMPUTING / card.bandwidth / DECODING_SHARE


def stage3_step_seconds(prompts: int, rollouts: int, card: Card, cards: int, adapters: bool, overhead: float) -> float:
    """Sampling, log-probabilities under actor and reference (a forward pass each), update, weights moved."""
    responses = prompts * rollouts / cards
    if adapters:
        trained = 2 * adapter_seconds(responses, card, 2) + adapter_seconds(responses, card)
    else:
        trained = 2 * arithmetic_seconds(responses, card, 1, 2) + arithmetic_seconds(responses, card, 1, 8)
    return sampling_seconds(responses, card, 256) + trained + overhead


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
    table = [
        f"| | {H100.name}, the paper's settings: estimated | {SMALL.name}, `one_gpu_example.sh`: estimated "
        "| one H100: measured | how it is estimated |",
        "| --- | --- | --- | --- | --- |",
    ]
    for stage in (1, 2):
        big = arithmetic_seconds(rows_of(stage), H100, 8, 8)
        small = adapter_seconds(rows_of(stage), SMALL)
        measured = hours(rows_of(stage) * MEASURED_ROW_SECONDS)
        table.append(
            f"| stage {stage}, {rows_of(stage):,} rows | {hours(big)} | {hours(small)} "
            f"| {measured}, LoRA at {MEASURED_ROW_SECONDS} s per row | 8 operations per parameter and token at "
            f"{H100.training_share:.0%} of the peak; adapters: 6, at {SMALL.training_share:.0%}, and "
            f"{ROW_OVERHEAD:.2f} s per row, as measured beside the arithmetic |"
        )
    steps = rows_of(3) // 64
    big, small = (
        stage3_step_seconds(64, 8, H100, 8, False, 10),
        stage3_step_seconds(16, 4, SMALL, 1, True, 20 + STREAMING),
    )
    table.append(
        f"| stage 3 | {hours(steps * big)} ({steps} steps of 512 responses, {big:.0f} s each) "
        f"| {hours(200 * small)} (200 steps of 64 responses, {small:.0f} s each) | – | sampling, 2 forward passes, "
        f"update, and 10 ({20 + STREAMING:.0f}) s for moving weights, for 64 responses per card and step |"
    )
    many = ENGINE_START + sampling_seconds(8032 / 8, H100, 256)
    single = ENGINE_START + 8032 / 8 * sampling_seconds(1, H100, 1)
    table.append(
        f"| VECBench, 8,032 samples | {hours(many)} (one request per call: {hours(single)}) "
        f"| {hours(ENGINE_START + sampling_seconds(8032, SMALL, 64))} "
        f"| {8032 / MEASURED_REQUESTS / 60:.1f} min + {ENGINE_START} s start: {MEASURED_REQUESTS} requests/s "
        f"(one request per call: {hours(8032 / MEASURED_SINGLE_REQUESTS)}, {MEASURED_SINGLE_REQUESTS}/s) "
        f"| prefill by arithmetic at {PREFILL_SHARE:.0%} of the peak, decoding by reading the weights once per token "
        f"at {DECODING_SHARE:.0%} of the bandwidth, {ENGINE_START} s start |"
    )
    table.append(
        f"| memory of stages 1, 2 | {training_memory(8, False) / GIB:.0f} GiB per card before offload "
        f"| {training_memory(1, True) / GIB:.0f} GiB "
        f"| {MEASURED_RESERVED_GIB} GiB reserved, {MEASURED_CARD_GB} GB in nvidia-smi (LoRA) "
        f"| bf16 weights, gradients, fp32 Adam states "
        f"(sharded over 8; adapters of rank {LORA_RANK}: {LORA / 1e6:.0f} M), activations, logits |"
    )
    return table


def main() -> None:
    plain_output()
    print(
        f"{COMPUTING / 1e9:.2f} B parameters that compute, {VISION / 1e9:.2f} B of the vision tower; "
        f"{IMAGE_TOKENS} image tokens,\n{QUESTION_TOKENS} of the question, {ANSWER_TOKENS} of the answer. "
        "Measured on one H100 80 GB; all else is estimated.\n"
    )
    print("\n".join(lines()))


if __name__ == "__main__":
    main()
