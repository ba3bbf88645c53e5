"""The prediction table: each response read once, one row per sample, and its slices by task and group.

    table = prediction_table(results)
    for group, part in group_slices(table): ...
    confidence, correctness = with_confidence(part)

Every table, plot and report of an evaluation reads it. Beside the stated (verbalized) confidence it holds the other
ones of the same run, when the engine gave them: from the log-probabilities of the answer's tokens and of the whole
response, from the probability of each candidate as the answer, and with ``n_responses`` above 1 from the further
answers to the same question. Where people voted on the image it holds their shares.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from inference.common.json_lines import refuse
from inference.data.doubts import label_doubt
from inference.data.layouts import image_of
from inference.data.reasoning_facts import Statement, read_facts, statements
from inference.data.replacement import SHOWN
from inference.data.response import FIRST_MENTION, UNKNOWN, Reading, normal_label, read_response
from inference.data.vecbench import GROUPS, TASKS, canonical_task, group_of
from inference.data.votes import DISTRIBUTION, vote_shares

# pandas 3 would turn columns, groups and indexes of text into UTF-8, which a text with a lone surrogate is not.
pd.set_option("future.infer_string", False)

OVERALL = "Overall"
VERBALIZED = "verbalized"

# source of a confidence → (column of the prediction, column of the confidence). "agreement" is the share of the k
# answers that say what the first one says; "majority" judges the most frequent answer by its share, and
# "confidence-weighted" the one with the largest sum of stated confidences by its share of their sum.
SOURCES = {
    VERBALIZED: ("label", "confidence"),
    "answer probability": ("label", "answer_probability"),
    "token probability": ("label", "token_probability"),
    "candidate probability": ("label", "candidate_probability"),
    "first-mention probability": ("label", "first_mention_probability"),
    "self-consistency": ("label", "agreement"),
    "majority vote": ("majority_label", "agreement_of_majority"),
    "confidence-weighted vote": ("weighted_label", "agreement_of_weighted"),
}

# Columns that are not text; NaN is a confidence that a row does not have.
TYPES = dict.fromkeys(("published_confidence", *(column for _, column in SOURCES.values())), float)
FLAGS = (
    "published_confidence_unreadable",
    "answered",
    "well_formed",
    "cut_off",
    "emobserver_named",
    "emobserver_right",
)
TYPES |= dict.fromkeys(FLAGS, bool)
COLUMNS = (
    "sample_id", "task", "group", "image", "truth", "published_truth", "label_doubt", "cut_off", *Reading._fields,
    "answer_probability", "token_probability", "candidate_probability", "first_mention_probability",
    "candidate_distribution", "agreement", "majority_label", "agreement_of_majority", "weighted_label",
    "agreement_of_weighted", "response_distribution", "votes", "replaced", "emobserver_right", "statements",
)  # fmt: skip


def _probability(log_probability: Any) -> float:
    if isinstance(log_probability, bool) or not isinstance(log_probability, (int, float)):
        return math.nan
    if log_probability > 1e-3:  # more than rounding: another tool's probability, for instance
        return math.nan
    try:
        return math.exp(min(log_probability, 0.0))
    except OverflowError:  # an integer beyond all floats
        return 0.0


def _candidate_distribution(result: dict[str, Any]) -> dict[str, float] | None:
    """label → probability as the answer, where the engine gave a probability for each candidate."""
    stated = result.get("candidate_probabilities")
    try:
        return None if stated is None else vote_shares({DISTRIBUTION: stated}, result["candidates"], refuse)
    except ValueError:  # of another tool, perhaps: as missing as any other confidence that is none
        return None


def _of_candidate(result: dict[str, Any], distribution: dict[str, float] | None, label: str) -> tuple[float, float]:
    """The label's probability (in the answer, at its first mention): one of the two, or none, is known."""
    value = (distribution or {}).get(label, math.nan)
    return (math.nan, value) if result.get("candidate_place") == FIRST_MENTION else (value, math.nan)


def _weighted_vote(answers: list[Reading]) -> tuple[str | None, float]:
    """(the label with the largest sum of stated confidences, its share of the sum over all answers).

    Confidence-informed self-consistency (Taubenfeld et al., 2025), with the stated confidences themselves for weights,
    not a softmax of them; an answer without one weighs nothing. As in the majority vote, an answer that is none takes
    part in the denominator but does not win, and of two equal labels the one that came first does. None and NaN without
    any weight.
    """
    sums: dict[str, float] = {}
    for answer in answers:
        sums[answer.label] = sums.get(answer.label, 0.0) + (answer.confidence or 0.0)
    total = sum(sums.values())
    sums.pop(UNKNOWN, None)
    winner = max(sums, key=lambda label: round(sums[label], 9), default=None)  # 0.1 + 0.2 is 0.3
    return (winner, sums[winner] / total) if winner is not None and sums[winner] > 0 else (None, math.nan)


def _votes(result: dict[str, Any], first: Reading) -> tuple[float, str, float, str, float, dict[str, float] | None]:
    """What the k responses to one question say together; NaN and None with one response only.

    Returns:
        The share of answers equal to the first, the most frequent answer, its share, the answer of the
        ``_weighted_vote`` (the most frequent one where there is no weight), its share, and label → share of the
        answers.

    An answer that is none takes part in the shares' denominator but wins only when there is no other, and
    then has no share; of two equally frequent answers the one that came first wins (Wang et al., 2023:
    self-consistency).
    """
    others = result.get("other_responses")
    if not isinstance(others, list) or not others:
        return math.nan, first.label, math.nan, first.label, math.nan, None
    answers = [first, *(read_response(str(text), result["candidates"]) for text in others)]
    labels = [answer.label for answer in answers]
    counts = Counter(label for label in labels if label != UNKNOWN)
    winner, votes = counts.most_common(1)[0] if counts else (UNKNOWN, math.nan)
    weighted, weight = _weighted_vote(answers)
    shares = {label: count / len(labels) for label, count in Counter(labels).items()}
    return shares[first.label], winner, votes / len(labels), weighted or winner, weight, shares


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
    tokens), the fields of ``Reading``, the columns of ``SOURCES``, candidate_distribution and response_distribution
    (label → probability as the answer, label → share of the responses; None where not known), votes
    (``data.votes.vote_shares``), replaced (how its image was, a key of ``SHOWN``; None where the model saw it),
    emobserver_right (whether ``emobserver_label`` is the truth, both as they are written), and statements (a tuple of
    ``Statement``; None where no facts are known of what the model saw). Confidences are floats in [0, 1] with NaN where
    there is none; the published one is clipped. ``answer_probability`` is the product of the answer tokens'
    probabilities, ``token_probability`` the geometric mean over the whole response (Malinin & Gales, 2021:
    length-normalised), ``candidate_probability`` that of the answer in candidate_distribution, and
    ``first_mention_probability`` the same where the candidates were scored at the first mention of the answer.

    Raises:
        ValueError: for votes that ``vote_shares`` refuses.
    """
    rows = []
    for result in results:
        candidates, truth, task = result["candidates"], result["ground_truth"], result["task"]
        reading = read_response(result["response"], candidates)
        distribution = _candidate_distribution(result)
        rows.append((
            result.get("sample_id"), canonical_task(task), group_of(task), image_of(result),
            normal_label(truth), truth.lower(), label_doubt(truth, tuple(candidates)),
            result.get("finish_reason") == "length", *reading,
            _probability(result.get("answer_log_probability")), _probability(result.get("mean_log_probability")),
            *_of_candidate(result, distribution, reading.label), distribution,
            *_votes(result, reading), vote_shares(result, candidates, refuse), _replaced(result),
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
