"""The prompts: what a record without a prompt of its own is asked, and how turns are rendered.

from inference.data.prompts import recognition_prompt
recognition_prompt(["positive", "negative"], with_confidence=True)
"""

from __future__ import annotations

from typing import Any

from inference.data.records import Record

SYSTEM_PROMPT = "You are a helpful assistant."


def recognition_prompt(candidates: list[str] | tuple[str, ...], with_confidence: bool = True) -> str:
    """The question of the released model; with a confidence it asks for one more tag."""
    labels = ", ".join(candidates)
    answer_format = "<think>{your reasoning}</think><answer>{your final answer}</answer>"
    if with_confidence:
        answer_format += "<confidence>{your confidence between 0 and 1}</confidence>"
    return (
        f"Which emotion might this image evoke? Choose the most likely one from [{labels}]. "
        f"Think step by step. Respond in the format: {answer_format}"
    )


def recognition_messages(candidates: list[str] | tuple[str, ...], n_images: int = 1) -> list[dict[str, Any]]:
    """``recognition_prompt`` as a conversation: the images, then the question."""
    images = [{"type": "image"} for _ in range(n_images)]
    return [{"role": "user", "content": [*images, {"type": "text", "text": recognition_prompt(candidates)}]}]


def chat_messages(record: Record) -> list[dict[str, Any]]:
    """The record's turns in the form that chat templates render: a list of items per turn.

    Each image is a ``{"type": "image"}`` placeholder, because the pixels travel beside the text. Trailing
    assistant turns (training data) are left out. A record without turns gets ``recognition_messages``.
    """
    if record.messages is None:
        return recognition_messages(record.candidates, len(record.images))
    turns = list(record.messages)
    while len(turns) > 1 and turns[-1]["role"] == "assistant":
        turns.pop()
    return turns
