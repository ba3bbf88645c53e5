"""What is written about a toy-world scene: the structured chain of thought, what in it is true, and the question.

Wording varies, so that the model cannot lean on one sentence. The analysis names the label
before its evidence: the answer is then one choice, made from P(label | image).

    from scripts.toy_world.text import chain_of_thought, question, reasoning_facts
"""

from __future__ import annotations

import random
from typing import Any

from inference.data.prompts import recognition_prompt
from inference.data.response import REASONING_STEPS
from inference.data.vecbench import TASKS
from scripts.toy_world.world import CUES, PROTOTYPES, emotions_behind, posterior

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
_ELEMENT = ("Strong {} tones fill the image.", "The background is {}.")
_HUMAN = ("A face shows {} and {} brows.", "The person has {} and {} brows.")
_ANALYSIS = ("This suggests {}: {}.", "The image evokes {}: {}.")

# cue → value → how the analysis names it
_EVIDENCE = {
    "colour": {value: f"{value} tones" for value in CUES["colour"]},
    "scene": {value: value for value in CUES["scene"]},
    "mouth": {value: text.split(" ", 1)[1] for value, text in _MOUTH.items()},
    "brows": {value: f"{value} brows" for value in CUES["brows"]},
    "figure": {"alone": "solitude", "friend": "friend", "rival": "rival"},
}
# Which cues each section states, and the words of its sentences that tell one value from the others.
_STATED = {
    "element": {"colour": {value: (value,) for value in CUES["colour"]}},
    "human": {
        "mouth": {value: (name,) for value, name in _EVIDENCE["mouth"].items()},
        "brows": {value: (name,) for value, name in _EVIDENCE["brows"].items()},
    },
    "context": {"scene": {value: (value,) for value in CUES["scene"]}},
    "interaction": {"figure": {"alone": ("alone", "nobody"), "friend": ("friend",), "rival": ("rival",)}},
    "analysis": {cue: {value: (name,) for value, name in names.items()} for cue, names in _EVIDENCE.items()},
}


def _speaks_for(task: str, label: str, cue: str, value: str) -> bool:
    """Whether one of the emotions behind the label has this value of the cue as its own."""
    return any(PROTOTYPES[emotion][cue] == value for emotion in emotions_behind(task)[label])


def reasoning_facts(task: str, cues: dict[str, str]) -> list[dict[str, Any]]:
    """What the five sections have to state about a scene, as ``inference.data.reasoning_facts`` reads it."""
    facts = []
    for section, stated in _STATED.items():
        for cue, names in stated.items():
            others = [name for value, words in names.items() if value != cues[cue] for name in words]
            facts.append({"section": section, "true": list(names[cues[cue]]), "false": others})
            if section == "analysis":
                labels = emotions_behind(task)
                facts[-1]["answers"] = [label for label in labels if _speaks_for(task, label, cue, cues[cue])]
    return facts


def _evidence(task: str, label: str, cues: dict[str, str]) -> str:
    """All the cues that speak for the label: their number says how sure to be."""
    names = _EVIDENCE.items()
    speaking = [name[cues[cue]] for cue, name in names if _speaks_for(task, label, cue, cues[cue])]
    if not speaking:
        return "the mood of the whole"
    return " and ".join(filter(None, (", ".join(speaking[:-1]), speaking[-1])))


def chain_of_thought(task: str, label: str, cues: dict[str, str], rng: random.Random) -> str:
    """The five steps, then the answer; no confidence."""
    steps = {
        "element": rng.choice(_ELEMENT).format(cues["colour"]),
        "human": rng.choice(_HUMAN).format(_MOUTH[cues["mouth"]], cues["brows"]),
        "context": rng.choice(_CONTEXT[cues["scene"]]),
        "interaction": rng.choice(_FIGURE[cues["figure"]]),
        "analysis": rng.choice(_ANALYSIS).format(label, _evidence(task, label, cues)),
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
