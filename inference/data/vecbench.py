"""VECBench: its tasks, their groups and label sets.

Standard library only: imported by inference, evaluation, data preparation and the toy
world alike. A task is one row of ``TASKS``; adding a row is all it takes to add a task.
"""

from __future__ import annotations

from dataclasses import dataclass

MIKELS_8 = ("amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness")
SENTIMENT_2 = ("positive", "negative")
UNBIASEDEMO_6 = ("anger", "fear", "joy", "love", "sadness", "surprise")

# WebEmo's own hierarchy, with its own spelling of the labels.
WEBEMO_7_CHILDREN = {
    "anger": ("disgust", "envy", "exasperation", "irritabilty", "rage"),
    "confusion": ("confusion",),
    "fear": ("horror", "nervousness"),
    "joy": ("cheerfullness", "contentment", "enthrallment", "optimism", "pride", "relief", "zest"),
    "love": ("affection", "gratitude", "lust"),
    "sadness": ("disappointment", "neglect", "sadness", "shame", "suffering", "sympathy"),
    "surprise": ("surprise",),
}
WEBEMO_7 = tuple(WEBEMO_7_CHILDREN)
WEBEMO_25 = tuple(sorted(label for children in WEBEMO_7_CHILDREN.values() for label in children))

GROUPS = ("ID VSA", "ID VER", "OOD VER")


@dataclass(frozen=True)
class Task:
    """One VECBench task: its name in records, its group, its labels and its sample counts."""

    name: str
    group: str
    labels: tuple[str, ...]
    n_test: int
    n_train: int


# The order of the published table.
TASKS = {
    task.name: task
    for task in (
        Task("Abstract-8", "OOD VER", MIKELS_8, 229, 0),
        Task("Artphoto-8", "OOD VER", MIKELS_8, 806, 0),
        Task("EmoSet-8", "ID VER", MIKELS_8, 1000, 94_448),
        Task("FI-2", "ID VSA", SENTIMENT_2, 1000, 10_382),
        Task("FI-8", "ID VER", MIKELS_8, 1000, 10_378),
        Task("UnbiasedEmo-6", "OOD VER", UNBIASEDEMO_6, 1000, 0),
        Task("WebEmo-2", "ID VSA", SENTIMENT_2, 1000, 87_601),
        Task("WebEmo-7", "ID VER", WEBEMO_7, 1000, 82_878),
        Task("WebEmo-25", "ID VER", WEBEMO_25, 997, 74_717),
    )
}
TASK_ALIASES = {"UnbaisedEmo-6": "UnbiasedEmo-6"}


def canonical_task(name: str) -> str:
    """The table's spelling of a task name; names it does not know are returned as they are."""
    return TASK_ALIASES.get(name, name)


def group_of(task_name: str) -> str | None:
    """The group of a task, or None for a task that is not part of VECBench."""
    task = TASKS.get(canonical_task(task_name))
    return task.group if task else None
