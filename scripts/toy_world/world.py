"""The toy world: emotions, the cues they cause, and P(label | image) in closed form.

An image of the toy world shows five cues. Given the emotion behind it the cues are drawn
independently: each takes the emotion's own value with the probability KEEP[cue], otherwise
one of the others, all alike. So the posterior, the best reachable accuracy and the right
confidence of every answer are known exactly (naive Bayes with the true parameters).

    from scripts.toy_world.world import best_possible_accuracy
    best_possible_accuracy("EmoSet-8")
"""

from __future__ import annotations

import itertools
import math
import random
from functools import cache

from inference.data.images import PixelBudget
from inference.data.vecbench import TASKS, WEBEMO_7_CHILDREN

NOTICE = "toy world: generated scenes, not VECBench; numbers say nothing about real emotion recognition"
PIXEL_BUDGET = PixelBudget(56 * 56, 112 * 112)  # of the toy model: 4 to 16 image tokens

CUES = {
    "colour": ("yellow", "red", "violet", "green", "brown", "orange", "dark", "blue"),
    "scene": ("balloons", "lightning", "mountains", "flowers", "litter", "confetti", "shadows", "rain"),
    "mouth": ("smile", "open", "tight", "frown"),
    "brows": ("raised", "relaxed", "lowered", "slanted"),
    "figure": ("alone", "friend", "rival"),
}
KEEP = {"colour": 0.65, "scene": 0.65, "mouth": 0.75, "brows": 0.72, "figure": 0.70}

# emotion: its own value of each cue, in the order of CUES
PROTOTYPES = {
    emotion: dict(zip(CUES, values.split(), strict=True))
    for emotion, values in {
        "amusement": "yellow balloons smile raised friend",
        "anger": "red lightning tight lowered rival",
        "awe": "violet mountains open raised alone",
        "contentment": "green flowers smile relaxed alone",
        "disgust": "brown litter tight lowered alone",
        "excitement": "orange confetti open raised friend",
        "fear": "dark shadows open slanted rival",
        "sadness": "blue rain frown slanted alone",
        "affection": "red flowers smile relaxed friend",
        "gratitude": "green balloons smile slanted friend",
        "lust": "red shadows smile lowered friend",
        "cheerfullness": "yellow confetti smile raised friend",
        "enthrallment": "violet confetti open relaxed alone",
        "optimism": "yellow mountains smile raised alone",
        "pride": "orange mountains tight raised alone",
        "relief": "green rain smile relaxed friend",
        "zest": "orange balloons open raised friend",
        "disappointment": "brown rain frown relaxed alone",
        "neglect": "dark litter frown slanted alone",
        "shame": "violet rain tight slanted rival",
        "suffering": "dark rain open lowered alone",
        "sympathy": "blue flowers frown slanted friend",
        "envy": "green lightning tight lowered rival",
        "exasperation": "orange litter open lowered alone",
        "irritabilty": "brown lightning frown lowered rival",
        "rage": "red lightning open lowered rival",
        "horror": "dark shadows open slanted rival",
        "nervousness": "violet shadows tight slanted alone",
        "confusion": "blue shadows tight raised alone",
        "surprise": "yellow lightning open raised alone",
    }.items()
}

_POSITIVE_WEBEMO_7 = ("joy", "love", "surprise")


def _children(parents: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(child for parent in parents for child in WEBEMO_7_CHILDREN[parent])


# Labels that stand for several emotions; every other label is an emotion of its own.
_COARSE = {
    "FI-2": {
        "positive": ("amusement", "awe", "contentment", "excitement"),
        "negative": ("anger", "disgust", "fear", "sadness"),
    },
    "WebEmo-2": {
        "positive": _children(_POSITIVE_WEBEMO_7),
        "negative": _children(tuple(p for p in WEBEMO_7_CHILDREN if p not in _POSITIVE_WEBEMO_7)),
    },
    "WebEmo-7": WEBEMO_7_CHILDREN,
    "UnbiasedEmo-6": WEBEMO_7_CHILDREN,
}


def emotions_behind(task: str) -> dict[str, tuple[str, ...]]:
    """label → the emotions that it stands for in this task, labels in the task's order."""
    coarse = _COARSE.get(task, {})
    return {label: coarse.get(label, (label,)) for label in TASKS[task].labels}


def _likelihood(cues: dict[str, str], emotion: str) -> float:
    """P(cues | emotion)."""
    own = PROTOTYPES[emotion]
    return math.prod(
        KEEP[cue] if own[cue] == value else (1 - KEEP[cue]) / (len(CUES[cue]) - 1) for cue, value in cues.items()
    )


def posterior(task: str, cues: dict[str, str]) -> dict[str, float]:
    """P(label | cues) under the task's prior: labels alike, then the emotions behind one alike."""
    joint = {
        label: sum(_likelihood(cues, emotion) for emotion in emotions) / len(emotions)
        for label, emotions in emotions_behind(task).items()
    }
    total = sum(joint.values())
    return {label: value / total for label, value in joint.items()}


@cache
def best_possible_accuracy(task: str) -> float:
    """The accuracy of always answering the most probable label (the Bayes rate), over all cue combinations."""
    labels = emotions_behind(task)
    total = 0.0
    for values in itertools.product(*CUES.values()):
        cues = dict(zip(CUES, values, strict=True))
        total += max(sum(_likelihood(cues, e) for e in emotions) / len(emotions) for emotions in labels.values())
    return total / len(labels)


def sample(task: str, rng: random.Random) -> tuple[str, dict[str, str]]:
    """Draw (label, cues) for one image of the task."""
    label, emotions = rng.choice(list(emotions_behind(task).items()))
    own = PROTOTYPES[rng.choice(emotions)]
    cues = {}
    for cue, values in CUES.items():
        others = [value for value in values if value != own[cue]]
        cues[cue] = own[cue] if rng.random() < KEEP[cue] else rng.choice(others)
    return label, cues
