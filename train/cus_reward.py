"""Stage 3's reward: form of the reasoning, correctness of the answer, calibration of the confidence.

One file, standard library only. It works in place, named by verl's custom reward path,

    custom_reward_function.path=train/cus_reward.py custom_reward_function.name=compute_score

and copied into verl by ``bash scripts/install_reward.sh VERL_PATH``.

A well-formed response scores 1 + 2 (i ln c + (1 − i) ln(1 − c)) + i, where c is the stated
confidence and i is 1 for a right answer, else 0. The middle term is the logarithmic score, a
proper scoring rule: its expectation is highest when c is the probability of being right. A
malformed response scores −5.

Known edge, kept as published: a wrong answer with c above 1 − e⁻³ ≈ 0.9502 scores below a
malformed one, so being very sure and wrong costs more than breaking the format.
"""

import math
import string

STEPS = ("element", "human", "context", "interaction", "analysis")
MALFORMED = {
    "score": -5.0,
    "format_score": 0.0,
    "confidence_score": -5.0,
    "correctness": 0.0,
    "brier_score": -1.0,
    "confidence": 1.0,
}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _between(text, tag):
    """The text of the first <tag>…</tag>, newlines included, or None; linear in the text's length."""
    opening = text.find(f"<{tag}>")
    start = opening + len(tag) + 2
    end = text.find(f"</{tag}>", start) if opening >= 0 else -1
    return text[start:end] if end >= 0 else None


def _read(solution_str):
    """(answer, confidence) of a well-formed response, or None."""
    confidence = _between(solution_str, "confidence")
    answer = _between(solution_str, "answer")
    thought = _between(solution_str, "think")
    if confidence is None or answer is None or thought is None:
        return None
    if any(_between(thought, step) is None for step in STEPS):
        return None
    try:
        value = float(confidence.strip())
    except ValueError:
        return None
    return (answer, value) if 0.0 < value < 1.0 else None


def compute_score(solution_str, ground_truth, data_source=None, extra_info=None, rule="log", clip=0.0, **kwargs):
    """The reward of one response, for verl.

    Args:
        solution_str: what the model wrote; what is not a string counts as malformed.
        ground_truth: the label; what is not a string is never answered correctly.
        data_source, extra_info, kwargs: handed over by verl, not used.
        rule: "log" (the paper's) or "brier": −2 (c − i)² in place of the logarithmic score,
            bounded below by −2; for ablation.
        clip: the confidence is moved into [clip, 1 − clip] before it is scored; 0 (the
            paper's) leaves it. ``confidence`` and ``brier_score`` report the stated one.

    Returns:
        A dict of finite floats with the same keys for every input: score, format_score,
        confidence_score, correctness, brier_score = −(c − i)², confidence = c.

    Raises:
        ValueError: for another rule or a clip outside [0, 0.5): a setting, not a response.
    """
    if rule not in ("log", "brier") or not 0.0 <= clip < 0.5:
        raise ValueError(f"expected rule 'log' or 'brier' and 0 <= clip < 0.5, got {rule!r} and {clip!r}")
    read = _read(solution_str) if isinstance(solution_str, str) else None
    if read is None:
        return dict(MALFORMED)
    answer, confidence = read
    words = answer.translate(_NO_PUNCTUATION).lower().split(maxsplit=1)  # two are enough to see that it is not one
    correct = len(words) == 1 and isinstance(ground_truth, str) and words[0] == ground_truth.lower()
    scored = min(max(confidence, clip), 1.0 - clip)
    if rule == "brier":
        confidence_score = -2.0 * (scored - correct) ** 2
    else:
        confidence_score = 2.0 * (math.log(scored) if correct else math.log1p(-scored))
    return {
        "score": 1.0 + confidence_score + correct,
        "format_score": 1.0,
        "confidence_score": confidence_score,
        "correctness": float(correct),
        "brier_score": -((confidence - correct) ** 2),
        "confidence": confidence,
    }
