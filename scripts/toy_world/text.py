"""What is written about a toy-world scene: the structured chain of thought, and the question.

Wording varies, so that the model cannot lean on one sentence. The analysis names the label
before its evidence: the answer is then one choice, made from P(label | image).

    from scripts.toy_world.text import chain_of_thought, question
"""

from __future__ import annotations

import random

from inference.data.prompts import recognition_prompt
from inference.data.response import REASONING_STEPS
from inference.data.vecbench import TASKS
from scripts.toy_world.world import PROTOTYPES, emotions_behind, posterior

_MOUTH = {"smile": "a wide smile", "open": "an open mouth", "tight": "a tight mouth", "frown": "a deep frown"}
_CONTEXT = {
    "balloons": ("Balloons float above.", "There are balloons overhead."),
    "lightning": ("Lightning cuts the sky.", "There is lightning overhead."),
    "mountains": ("Mountains rise behind.", "There are mountains behind."),
    "flowers": ("Flowers grow around.", "There are flowers around."),
    "litter": ("Litter lies around.", "There is litter around."),
    "confetti": ("Confetti fills the air.", "There is confetti around."),
    "shadows": ("Shadows loom behind.", "There are shadows behind."),
    "rain": ("Rain falls from a cloud.", "There is rain overhead."),
}
_FIGURE = {
    "alone": ("The person is alone.", "Nobody stands near."),
    "friend": ("A friend stands near.", "A friend keeps the person company."),
    "rival": ("A rival stands near.", "A rival faces the person."),
}


def _evidence(task: str, label: str, cues: dict[str, str]) -> str:
    """All the cues that speak for the label: their number says how sure to be."""
    names = {
        "colour": f"{cues['colour']} tones",
        "scene": cues["scene"],
        "mouth": _MOUTH[cues["mouth"]].split(" ", 1)[1],
        "brows": f"{cues['brows']} brows",
        "figure": {"alone": "solitude", "friend": "friend", "rival": "rival"}[cues["figure"]],
    }
    emotions = emotions_behind(task)[label]
    speaking = [name for cue, name in names.items() if any(PROTOTYPES[e][cue] == cues[cue] for e in emotions)]
    if not speaking:
        return "the mood of the whole"
    return " and ".join(filter(None, (", ".join(speaking[:-1]), speaking[-1])))


def chain_of_thought(task: str, label: str, cues: dict[str, str], rng: random.Random) -> str:
    """The five steps, then the answer; no confidence."""
    steps = {
        "element": rng.choice(("Strong {} tones fill the image.", "The background is {}.")).format(cues["colour"]),
        "human": rng.choice(("A face shows {} and {} brows.", "The person has {} and {} brows.")).format(
            _MOUTH[cues["mouth"]], cues["brows"]
        ),
        "context": rng.choice(_CONTEXT[cues["scene"]]),
        "interaction": rng.choice(_FIGURE[cues["figure"]]),
        "analysis": rng.choice(("This suggests {}: {}.", "The image evokes {}: {}.")).format(
            label, _evidence(task, label, cues)
        ),
    }
    thought = "".join(f"<{step}>{steps[step]}</{step}>" for step in REASONING_STEPS)
    return f"<think>{thought}</think><answer>{label}</answer>"


def taught_confidence(task: str, label: str, cues: dict[str, str], rng: random.Random) -> float:
    """Stage 2's confidence: it knows the posterior, but is noisy and overconfident on purpose.

    Calibrating it is what stage 3 is for. In [0.05, 0.99], two decimals.
    """
    value = 0.5 * posterior(task, cues)[label] + 0.5 * 0.97 + rng.gauss(0, 0.04)
    return min(0.99, max(0.05, round(value * 20) / 20))


def question(task: str, with_confidence: bool, rng: random.Random) -> str:
    """The released model's wording most of the time, two shorter ones otherwise."""
    labels = TASKS[task].labels
    kind = rng.random()
    if kind < 0.6:
        return recognition_prompt(labels, with_confidence)
    wanted = ", your answer and your confidence" if with_confidence else " and your answer"
    opening = "Look at the image and name its emotion" if kind < 0.8 else "Which feeling might this image evoke"
    return f"{opening}, one of [{', '.join(labels)}]. Answer with your reasoning{wanted}."
