"""Other confidences of the same run, to hold the verbalized one against.

A run keeps, when its engine tells them, the log-probabilities of the answer's tokens and of the
whole response, and with ``n_responses`` above 1 the further answers to the same question. Each
gives a confidence of its own, judged by the same figures as the verbalized one.

    for source, rows in source_rows(table).items(): ...
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from inference.data.response import UNKNOWN, read_response
from inference.metrics.calibration import N_BINS
from inference.metrics.estimates import Estimate, estimate

VERBALIZED = "verbalized"

# name → (column of the prediction, column of the confidence). "agreement" is the share of the k
# answers that say what the first one says; "majority" judges the most frequent answer by its share.
SOURCES = {
    VERBALIZED: ("label", "confidence"),
    "answer probability": ("label", "answer_probability"),
    "token probability": ("label", "token_probability"),
    "self-consistency": ("label", "agreement"),
    "majority vote": ("majority_label", "agreement_of_majority"),
}


def _probability(log_probability: Any) -> float:
    if isinstance(log_probability, bool) or not isinstance(log_probability, (int, float)):
        return math.nan
    try:
        return float(np.exp(float(min(log_probability, 0.0))))
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


def add_sources(table: pd.DataFrame, results: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """``prediction_table`` with a column for each other confidence, NaN where a run has none.

    ``answer_probability`` is the product of the answer tokens' probabilities, ``token_probability``
    the geometric mean over the whole response (Malinin & Gales, 2021: length-normalised).
    """
    results = list(results)
    columns: dict[str, Any] = {
        name: np.array([_probability(result.get(key)) for result in results], dtype=float)
        for name, key in (
            ("answer_probability", "answer_log_probability"),
            ("token_probability", "mean_log_probability"),
        )
    }
    votes = [_votes(result, label) for result, label in zip(results, table["label"], strict=True)]
    shares, winners, winners_shares = zip(*votes, strict=True) if votes else ((), (), ())
    columns["agreement"] = np.array(shares, dtype=float)
    columns["majority_label"] = np.array(winners, dtype=object)
    columns["agreement_of_majority"] = np.array(winners_shares, dtype=float)
    return table.assign(**columns)


def available_sources(table: pd.DataFrame) -> list[str]:
    """The confidences that this run has at least one value of, the verbalized one first."""
    return [name for name, (_, column) in SOURCES.items() if column in table and table[column].notna().any()]


def source_rows(
    table: pd.DataFrame, n_resamples: int = 0, n_bins: int = N_BINS, seed: int = 0
) -> dict[str, list[Estimate]]:
    """source → figures of tasks, groups and Overall, for every confidence but the verbalized one."""
    names = [name for name in available_sources(table) if name != VERBALIZED]
    return {name: estimate(table, n_resamples, seed, *SOURCES[name], n_bins) for name in names}
