"""Stage 3's reward: form of the reasoning, correctness of the answer, calibration of the confidence.

One file, standard library only. It works in place, named by verl's custom reward path,

    custom_reward_function.path=train/cus_reward.py custom_reward_function.name=compute_score

and copied into verl by ``bash scripts/install_reward.sh VERL_PATH``.

A well-formed response scores 1 + 2 (i ln c + (1 − i) ln(1 − c)) + i, where c is the stated
confidence and i is 1 for a right answer, else 0. A malformed response scores −5.

The middle term is the logarithmic score, a proper scoring rule: *for a given answer* its expectation is
highest when c is the probability p that the answer is right. It is not so for answer and confidence
together. An honest answer earns 1 + p − 2 H(p) on average, with H(p) = −p ln p − (1 − p) ln(1 − p); an
answer that is wrong on purpose, any word, with c near 0 earns 1. The second is more wherever p < 2 H(p),
which is below p = 0.849. ``rule="rlcr"`` and ``rule="brier"`` do not pay for that: with i − (c − i)² (RLCR,
arXiv 2507.16806) honesty earns p − p (1 − p) = p² more than the error, for every p. What other settings
do, ``deliberate_error_threshold`` says.

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
# The weight of the scoring rule beside a right answer's 1. Brier's is the largest that never pays for an error.
WEIGHTS = {"log": 2.0, "brier": 1.0, "rlcr": 1.0}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _between(text, tag):
    """The text of the first <tag>…</tag>, newlines included, or None; linear in the text's length."""
    opening = text.find(f"<{tag}>")
    start = opening + len(tag) + 2
    end = text.find(f"</{tag}>", start) if opening >= 0 else -1
    return text[start:end] if end >= 0 else None


def answer_word(text):
    """An answer as it is compared with the label: lower case, no punctuation; empty unless it is one word."""
    words = text.translate(_NO_PUNCTUATION).lower().split(maxsplit=1)  # two are enough to see that it is not one
    return words[0] if len(words) == 1 else ""


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


def _check(rule, clip, weight, correctness_weight):
    """The scoring rule's weight; ValueError for a setting that is none."""
    if rule not in WEIGHTS:
        raise ValueError(f"rule: expected one of {', '.join(WEIGHTS)}, got {rule!r}")
    weight = WEIGHTS[rule] if weight is None else weight
    limits = (("clip", clip, 0.5), ("weight", weight, math.inf), ("correctness_weight", correctness_weight, math.inf))
    for name, value, limit in limits:
        if type(value) not in (int, float) or not 0 <= value < limit:
            raise ValueError(f"{name}: expected a number of at least 0 and below {limit}, got {value!r}")
    return float(weight)


def _calibration(rule, confidence, correct, clip):
    """The scoring rule before its weight, at most 0: ln of what the outcome was given, or −(c − i)²."""
    scored = min(max(confidence, clip), 1.0 - clip)
    if rule == "log":
        return math.log(scored) if correct else math.log1p(-scored)
    return -((scored - correct) ** 2)


def compute_score(
    solution_str,
    ground_truth,
    data_source=None,
    extra_info=None,
    rule="log",
    clip=0.0,
    weight=None,
    correctness_weight=1.0,
    **kwargs,
):
    """The reward of one response, for verl.

    Args:
        solution_str: what the model wrote; what is not a string counts as malformed.
        ground_truth: the label; what is not a string is never answered correctly.
        data_source, extra_info, kwargs: handed over by verl, not used.
        rule: "log" (the paper's); "brier": −(c − i)² in its place; "rlcr": the same, and a malformed
            response scores −1, what the formula gives for no form, a wrong answer and full confidence,
            instead of −5, so that the reward is bounded by −1 and 2.
        clip: the confidence is moved into [clip, 1 − clip] before it is scored; 0 (the
            paper's) leaves it. ``confidence`` and ``brier_score`` report the stated one.
        weight: of the scoring rule; None: 2 for "log" (the paper's), 1 for the others.
        correctness_weight: of a right answer; 1 is the paper's.

    Returns:
        A dict of finite floats with the same keys for every input: score, format_score,
        confidence_score, correctness, brier_score = −(c − i)², confidence = c.

    Raises:
        ValueError: for another rule, a clip outside [0, 0.5) or a negative weight: a setting, not a response.
    """
    weight = _check(rule, clip, weight, correctness_weight)
    read = _read(solution_str) if isinstance(solution_str, str) else None
    if read is None:
        return {**MALFORMED, "score": -weight, "confidence_score": -weight} if rule == "rlcr" else dict(MALFORMED)
    answer, confidence = read
    word = answer_word(answer)
    correct = word != "" and isinstance(ground_truth, str) and word == ground_truth.lower()
    confidence_score = weight * _calibration(rule, confidence, correct, clip)
    return {
        "score": 1.0 + confidence_score + correctness_weight * correct,
        "format_score": 1.0,
        "confidence_score": confidence_score,
        "correctness": float(correct),
        "brier_score": -((confidence - correct) ** 2),
        "confidence": confidence,
    }


def expected_score(probability, rule="log", clip=0.0, weight=None, correctness_weight=1.0):
    """What a well-formed response earns on average that states the probability of being right as its confidence.

    Args:
        probability: of being right, in [0, 1]; 0 is a deliberate error with a confidence near 0.
        rule, clip, weight, correctness_weight: as for ``compute_score``.

    Raises:
        ValueError: as ``compute_score`` does.
    """
    weight = _check(rule, clip, weight, correctness_weight)
    right = probability * _calibration(rule, probability, True, clip) if probability > 0.0 else 0.0
    wrong = (1.0 - probability) * _calibration(rule, probability, False, clip) if probability < 1.0 else 0.0
    return 1.0 + correctness_weight * probability + weight * (right + wrong)


def deliberate_error_threshold(rule="log", clip=0.0, weight=None, correctness_weight=1.0):
    """Below which probability of being right a deliberate error, with a confidence near 0, earns more than honesty.

    Honesty's expectation is a convex function of the probability that meets the error's at 0: it is lower from there
    up to one point, or nowhere. Args as for ``compute_score``.

    Returns:
        The point, in [0, 1], to 1e-6; 0.0 where honesty never earns less.

    Raises:
        ValueError: as ``compute_score`` does.
    """
    settings = {"rule": rule, "clip": clip, "weight": weight, "correctness_weight": correctness_weight}
    error = expected_score(0.0, **settings)

    def pays(probability):
        return expected_score(probability, **settings) < error - 1e-12

    low, high = 1e-6, 1.0
    if not pays(low):
        return 0.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if pays(middle) else (low, middle)
    return low
