"""The prediction table: each response read once, one row per sample, and its slices by task and group.

    table = prediction_table(results)
    for group, part in group_slices(table): ...
    confidence, correctness = with_confidence(part)

Every table, plot and report of an evaluation reads it. Beside the stated (verbalized) confidence it holds the other
ones of the same run, when the engine gave them: from the log-probabilities of the answer's tokens and of the whole
response, and with ``n_responses`` above 1 from the further answers to the same question.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from inference.data.doubts import label_doubt
from inference.data.reasoning_facts import Statement, read_facts, statements
from inference.data.replacement import SHOWN
from inference.data.response import UNKNOWN, Reading, normal_label, read_response
from inference.data.vecbench import GROUPS, TASKS, canonical_task, group_of, image_of

# pandas 3 would turn columns, groups and indexes of text into UTF-8, which a text with a lone surrogate is not.
pd.set_option("future.infer_string", False)

OVERALL = "Overall"
VERBALIZED = "verbalized"

# source of a confidence → (column of the prediction, column of the confidence). "agreement" is the share of the k
# answers that say what the first one says; "majority" judges the most frequent answer by its share.
SOURCES = {
    VERBALIZED: ("label", "confidence"),
    "answer probability": ("label", "answer_probability"),
    "token probability": ("label", "token_probability"),
    "self-consistency": ("label", "agreement"),
    "majority vote": ("majority_label", "agreement_of_majority"),
}

# Columns that are not text; NaN is a confidence that a row does not have.
TYPES = dict.fromkeys(("published_confidence", *(column for _, column in SOURCES.values())), float)
FLAGS = ("published_confidence_unreadable", "well_formed", "cut_off", "emobserver_named", "emobserver_right")
TYPES |= dict.fromkeys(FLAGS, bool)
COLUMNS = (
    "sample_id", "task", "group", "image", "truth", "published_truth", "label_doubt", "cut_off", *Reading._fields,
    "answer_probability", "token_probability", "agreement", "majority_label", "agreement_of_majority", "replaced",
    "emobserver_right", "statements",
)  # fmt: skip


def _probability(log_probability: Any) -> float:
    if isinstance(log_probability, bool) or not isinstance(log_probability, (int, float)):
        return math.nan
    try:
        return math.exp(min(log_probability, 0.0))
    except OverflowError:  # an integer beyond all floats
        return 0.0


def _votes(result: dict[str, Any], first: str) -> tuple[float, str, float]:
    """(share of answers equal to the first, most frequent answer, its share); NaN with one answer only.

    An answer that is none takes part in the shares' denominator but wins only when there is no
    other; of two equally frequent answers the one that came first wins (Wang et al., 2023:
    self-consistency).
    """
    others = result.get("other_responses")
    if not isinstance(others, list) or not others:
        return math.nan, first, math.nan
    labels = [first, *(read_response(str(text), result["candidates"]).label for text in others)]
    counts = Counter(label for label in labels if label != UNKNOWN)
    winner, votes = counts.most_common(1)[0] if counts else (UNKNOWN, len(labels))
    return labels.count(first) / len(labels), winner, votes / len(labels)


def _replaced(result: dict[str, Any]) -> str | None:
    """How the record's image was replaced, a key of ``SHOWN``; None where the model saw the image."""
    how = result.get("replace_images")
    return how if isinstance(how, str) and how in SHOWN else None


def _statements(result: dict[str, Any], label: str) -> tuple[Statement, ...] | None:
    """What the reasoning says about the record's facts; None without facts, or where the model saw another image."""
    facts = read_facts(result)
    return None if facts is None or _replaced(result) else tuple(statements(result["response"], label, facts))


def prediction_table(results: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Read each response once: one row per sample, in order.

    Columns: sample_id, task, group (None outside VECBench), image (None when it is not named), truth
    (of ``normal_label``) and published_truth (lower-cased), label_doubt, cut_off (by the limit of new
    tokens), the fields of ``Reading``, the columns of ``SOURCES``, replaced (how its image was, a key of
    ``SHOWN``; None where the model saw it), emobserver_right (whether ``emobserver_label`` is the truth, both as
    they are written), and statements (a tuple of ``Statement``; None where no facts are known of what the model
    saw). Confidences are floats in [0, 1] with NaN where there is none; the published one is clipped.
    ``answer_probability`` is the product of the answer tokens' probabilities, ``token_probability`` the geometric
    mean over the whole response (Malinin & Gales, 2021: length-normalised).
    """
    rows = []
    for result in results:
        candidates, truth, task = result["candidates"], result["ground_truth"], result["task"]
        reading = read_response(result["response"], candidates)
        rows.append((
            result.get("sample_id"), canonical_task(task), group_of(task), image_of(result),
            normal_label(truth), truth.lower(), label_doubt(truth, tuple(candidates)),
            result.get("finish_reason") == "length", *reading,
            _probability(result.get("answer_log_probability")), _probability(result.get("mean_log_probability")),
            *_votes(result, reading.label), _replaced(result),
            reading.emobserver_label == truth, _statements(result, reading.label),
        ))  # fmt: skip
    columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    # Typed: pandas would look at each value to find out what it is. np.array() would turn tuples into columns.
    named = zip(COLUMNS, columns, strict=True)
    table = pd.DataFrame({name: np.fromiter(values, TYPES.get(name, object), len(rows)) for name, values in named})
    table["published_confidence"] = table["published_confidence"].clip(0.0, 1.0)
    return table


def available_sources(table: pd.DataFrame) -> list[str]:
    """The confidences that this run has at least one value of; the verbalized one comes first, and always."""
    return [name for name, (_, column) in SOURCES.items() if name == VERBALIZED or table[column].notna().any()]


def by_value(table: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """value of a column → its samples in the table's order; samples without a value are left out."""
    return dict(tuple(table.groupby(column, sort=False)))


def task_slices(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(task, its samples) in the published table's order; tasks without a sample are left out."""
    by_task = by_value(table, "task")
    return ((name, by_task[name]) for name in TASKS if name in by_task)


def group_slices(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(group, its samples) for all three groups, empty ones included."""
    by_group = by_value(table, "group")
    return ((group, by_group.get(group, table.iloc[:0])) for group in GROUPS)


def correctness(part: pd.DataFrame) -> np.ndarray:
    """(n,) 1 where the corrected label is the truth, 0 where it is another one or unknown."""
    return (part["label"].to_numpy() == part["truth"].to_numpy()).astype(int)


def with_confidence(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(confidence, correctness) of the samples that state a valid confidence, under the corrected protocol."""
    stated = part["confidence"].notna().to_numpy()
    return part["confidence"].to_numpy(dtype=float)[stated], correctness(part)[stated]
