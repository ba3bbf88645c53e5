"""Speed of train/cus_reward.py against the published procedure, as a ratio in one run.

    python -m scripts.maintenance.benchmark.reward

The published procedure searches each pair of tags with a lazy regular expression; it is written
down here from its specification, for comparison only. Both must give the same dict for every
response, which is checked first. Responses of several lengths, well-formed and cut off (the
longest of a run are those that reached the limit and lack their last tags).
"""

from __future__ import annotations

import math
import re
import string
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "train"))

from cus_reward import MALFORMED, STEPS, compute_score

from inference.common.terminal import plain_output
from scripts.maintenance.benchmark.measure import record

ROUNDS = 9


def published_procedure(solution_str: str, ground_truth: str) -> dict[str, float]:
    """The reward with one lazy regular expression a pair of tags."""
    found = {
        tag: re.search(rf"<{tag}>(.*?)</{tag}>", solution_str, re.DOTALL) for tag in ("think", "answer", "confidence")
    }
    if not all(found.values()):
        return dict(MALFORMED)
    thought = found["think"].group(1)
    if not all(re.search(rf"<{step}>(.*?)</{step}>", thought, re.DOTALL) for step in STEPS):
        return dict(MALFORMED)
    try:
        confidence = float(found["confidence"].group(1).strip())
    except ValueError:
        return dict(MALFORMED)
    if not 0 < confidence < 1:
        return dict(MALFORMED)
    answer = found["answer"].group(1).strip()
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


def response(n_characters: int, whole: bool) -> str:
    """A response of about so many characters; not whole: cut off before its last tags."""
    filler = "the light falls on a face < turned away, " * (n_characters // 200)
    thought = "".join(f"<{step}>{filler}</{step}>" for step in STEPS)
    text = f"<think>{thought}</think><answer>awe</answer><confidence>0.85</confidence>"
    return text if whole else text[: text.index("</think>")]


def seconds(function, text: str, repeats: int) -> float:
    """The fastest of several rounds, for one call."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(repeats):
            function(text, "awe")
        times.append(time.perf_counter() - start)
    return min(times) / repeats


def main() -> None:
    plain_output()
    ratios = []
    print(f"{'characters':>10} {'response':>9} {'published':>11} {'ours':>11} {'ratio':>7}")
    for n_characters in (400, 2_000, 8_000, 32_000):
        for whole in (True, False):
            text = response(n_characters, whole)
            ours, theirs = compute_score(text, "awe"), published_procedure(text, "awe")
            if ours != theirs:
                raise SystemExit(f"the two rewards differ on {text[:80]!r}…: {ours} and {theirs}")
            repeats = max(3, 200_000 // n_characters)
            before, after = seconds(published_procedure, text, repeats), seconds(compute_score, text, repeats)
            kind = "whole" if whole else "cut off"
            ratios.append(before / after)
            print(f"{len(text):>10} {kind:>9} {1e6 * before:>8.1f} µs {1e6 * after:>8.1f} µs {before / after:>6.1f}×")
    record(
        "reward",
        "a response of 400 to 32,000 characters, whole or cut off",
        f"{min(ratios):.1f} to {max(ratios):.1f} × the published procedure",
        "python -m scripts.maintenance.benchmark.reward",
    )


if __name__ == "__main__":
    main()
