"""Confidence and answers against the votes of people on the same image, who may disagree.

The truth of a sample is here not one label but a distribution over its candidates: the shares of the votes, which are
those of the people where each has one vote. A confidence is right when it is the share that the model's answer has, a
run's answers when they spread as the votes do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
import pandas as pd

from inference.metrics.calibration import Tally, brier_score, log_loss
from inference.metrics.classification import share, sums_by_code

Values = TypeVar("Values", np.ndarray, pd.Series)


def answer_shares(votes: Iterable[Mapping[str, float] | None], labels: Iterable[str]) -> np.ndarray:
    """(n,) the share of the votes that each answer has: 0 for an answer that is none, NaN without votes."""
    pairs = zip(votes, labels, strict=True)
    return np.array([math.nan if shares is None else shares.get(label, 0.0) for shares, label in pairs], dtype=float)


def confidence_distance(confidence: Values, shares: Values) -> Values:
    """|c − p| of each sample, p the share of the votes, or the probability, that its answer has.

    Args:
        confidence, shares: fractions, (n,) each; where either is NaN, so is the distance.
    """
    return abs(confidence - shares)


def entropy(shares: Mapping[str, float]) -> float:
    """−Σ p ln p, in nats (Shannon, 1948): 0 when all agree."""
    return -math.fsum(p * math.log(p) for p in shares.values() if p > 0) + 0.0


def jensen_shannon_distance(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Square root of the Jensen–Shannon divergence in bits (Lin, 1991; Endres & Schindelin, 2003), in [0, 1].

    A label that is in one of them only has the probability 0 in the other.
    """
    terms = []
    for label in first.keys() | second.keys():
        p, q = first.get(label, 0.0), second.get(label, 0.0)
        terms += [x / 2 * math.log2(2 * x / (p + q)) for x in (p, q) if x > 0]
    return math.sqrt(max(0.0, math.fsum(terms)))


def rank_correlation(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's ρ (1904) of two (n,), ties at their mean rank, per row of ``weights`` (k, n): (k,).

    A sample of weight w counts as w equal ones. NaN where one of the two does not vary.
    """
    n = weights.sum(axis=1, keepdims=True)
    ranks = []
    for values in (first, second):
        distinct, code = np.unique(values, return_inverse=True)
        count = sums_by_code(weights, code, len(distinct))
        middle = np.cumsum(count, axis=1) - (count + n) / 2  # from their mean, up to a constant
        ranks.append((middle, code, (count * middle**2).sum(axis=1)))
    (x, x_code, x_square), (y, y_code, y_square) = ranks
    products = np.einsum("kn,kn,kn->k", weights, x[:, x_code], y[:, y_code])
    size = np.sqrt(x_square * y_square)
    return np.divide(products, size, out=np.full(len(weights), np.nan), where=size > 1e-9 * np.maximum(n[:, 0], 1) ** 3)


def entropy_correlation(confidence: np.ndarray, entropies: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``rank_correlation`` of 1 − c with the votes' entropy, over the samples that state a confidence."""
    stated = np.isfinite(confidence)
    # −c has the ranks of 1 − c, without its rounding.
    return rank_correlation(-confidence[stated], entropies[stated].round(12), weights[:, stated])


def vote_columns(table: pd.DataFrame, label: str = "label", confidence: str = "confidence") -> pd.DataFrame:
    """What the metrics need of each sample with votes, with the index of ``prediction_table``'s rows.

    Columns: task, confidence, share (of the votes that the answer has), entropy (of the votes, nats), js_responses and
    js_candidates (distance of the run's own distribution from the votes; NaN where it has none).
    """
    part = table[table["votes"].notna()]

    def distances(column: str) -> np.ndarray:
        pairs = zip(part[column], part["votes"], strict=True)
        return np.array([math.nan if own is None else jensen_shannon_distance(own, votes) for own, votes in pairs])

    return pd.DataFrame(
        {
            "task": part["task"],
            "confidence": part[confidence].astype(float),
            "share": answer_shares(part["votes"], part[label]),
            "entropy": np.array([entropy(votes) for votes in part["votes"]], dtype=float),
            "js_responses": distances("response_distribution"),
            "js_candidates": distances("candidate_distribution"),
        },
        index=part.index,
    )


def vote_metrics(columns: pd.DataFrame, weights: np.ndarray, tally: Tally) -> dict[str, np.ndarray]:
    """Every metric of ``rows.VOTE_METRICS`` but the number of samples, per row of ``weights``.

    Those of the confidence are over the samples that have one.

    Args:
        columns: n rows of ``vote_columns``.
        weights: (k, n).
        tally: their confidences with the vote shares for correctness. Brier score and log loss of one label are linear
            in it, so that with shares they are the mean over the votes (cross-entropy: Peterson et al., 2019; Uma et
            al., 2021).
    """

    def mean(values: np.ndarray) -> np.ndarray:
        known = np.isfinite(values)
        return share(values[known], weights[:, known])

    confidence, entropies = columns["confidence"].to_numpy(), columns["entropy"].to_numpy()
    return {
        "vote_distance": mean(confidence_distance(confidence, columns["share"].to_numpy())),
        "vote_brier": brier_score(tally),
        "vote_log_loss": log_loss(tally),
        "vote_entropy_correlation": entropy_correlation(confidence, entropies, weights),
        "vote_js_responses": mean(columns["js_responses"].to_numpy()),
        "vote_js_candidates": mean(columns["js_candidates"].to_numpy()),
    }
