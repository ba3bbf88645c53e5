"""The published procedure's reward, written down from its specification: the oracle of train/cus_reward.py."""

from __future__ import annotations

import math
import re
import string

from train.cus_reward import MALFORMED, STEPS


def published_procedure(solution_str: str, ground_truth: str) -> dict[str, float]:
    """The reward with one lazy regular expression per pair of tags."""
    matches = {
        tag: re.search(rf"<{tag}>(.*?)</{tag}>", solution_str, re.DOTALL) for tag in ("think", "answer", "confidence")
    }
    if not all(matches.values()):
        return dict(MALFORMED)
    thought = matches["think"].group(1)
    if not all(re.search(rf"<{step}>(.*?)</{step}>", thought, re.DOTALL) for step in STEPS):
        return dict(MALFORMED)
    try:
        confidence = float(matches["confidence"].group(1).strip())
    except ValueError:
        return dict(MALFORMED)
    if not 0 < confidence < 1:
        return dict(MALFORMED)
    answer = matches["answer"].group(1).strip()
    words = answer.translate(str.maketrans("", "", string.punctuation)).lower().split()
    correct = int(len(words) == 1 and words[0] == ground_truth.lower())
    confidence_score = 2 * (correct * math.log(confidence) + (1 - correct) * math.log1p(-confidence))
    return {
        "score": 1 + confidence_score + correct,
        "format_score": 1.0,
        "confidence_score": confidence_score,
        "correctness": float(correct),
        "brier_score": -((confidence - correct) ** 2),
        "confidence": confidence,
    }
