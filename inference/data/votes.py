"""What people said about an image, where a record has it: one share per candidate, from votes or as a distribution.

vote_shares({"label_votes": {"awe": 15, "fear": 5}}, ["awe", "fear", "joy"], fail)
# {"awe": 0.75, "fear": 0.25, "joy": 0.0}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from inference.common.json_lines import describe
from inference.data.response import normal_label

VOTES, DISTRIBUTION = "label_votes", "label_distribution"
DECIMALS_OFF = 0.005  # how far a share with two decimals may be from the one meant


def amount(value: Any) -> float | None:
    """A number of 0 or more, finite, as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond all floats
        return None
    return number + 0.0 if 0 <= number < math.inf else None  # −0 is 0


def _amounts(field: str, raw: Any, labels: Sequence[str], fail: Callable[[str, str], NoReturn]) -> dict[str, float]:
    """label → amount of each of ``labels``; 0 for one that the field does not name.

    A null names none: tables of several tasks, as parquet files hold, have a column for each label of all of them.
    """
    if not isinstance(raw, dict):
        fail(field, f"an object of candidates and numbers, got {describe(raw)}")
    amounts = dict.fromkeys(labels, 0.0)
    for name, value in raw.items():
        if value is None:
            continue
        label, number = normal_label(name), amount(value)
        if label not in amounts:
            fail(field, f"labels among the candidates, got {describe(name)}")
        if number is None:
            fail(field, f"numbers of 0 or more, got {describe(value)} for {describe(name)}")
        amounts[label] += number
    return amounts


def vote_shares(
    raw: dict[str, Any], candidates: Sequence[str], fail: Callable[[str, str], NoReturn]
) -> dict[str, float] | None:
    """The people's distribution over a record's candidates: label (of ``normal_label``) → share; None without any.

    ``label_votes`` maps candidates to votes, which need not be whole numbers; ``label_distribution`` to
    probabilities, whose sum may be off by what two decimals per probability are, and is made 1. A candidate that is
    not named has no vote. Names are compared as the corrected protocol compares labels. ``fail(field, expected)``
    must raise; it is called for both fields when they disagree by more than two decimals.
    """
    labels = [normal_label(label) for label in candidates]
    votes = distribution = None
    if raw.get(VOTES) is not None:
        votes = _amounts(VOTES, raw[VOTES], labels, fail)
        total = sum(votes.values())
        if not 0 < total < math.inf:
            fail(VOTES, f"at least one vote, got {describe(raw[VOTES])}" if not total else "a finite number of votes")
        votes = {label: count / total for label, count in votes.items()}
    if raw.get(DISTRIBUTION) is not None:
        distribution = _amounts(DISTRIBUTION, raw[DISTRIBUTION], labels, fail)
        total = sum(distribution.values())
        if not abs(total - 1) <= DECIMALS_OFF * len(distribution) + 1e-9:  # zeros are rounded, too
            fail(DISTRIBUTION, f"probabilities that add up to 1, got {total:.6g}")
        distribution = {label: share / total for label, share in distribution.items()}
    if votes and distribution:
        label = max(labels, key=lambda label: abs(votes[label] - distribution[label]))
        if abs(votes[label] - distribution[label]) > DECIMALS_OFF + 1e-9:
            both = f"{distribution[label]:.4g}, not {votes[label]:.4g}, for {describe(label)}"
            fail(DISTRIBUTION, f"the shares of {VOTES}, got {both}")
    return votes or distribution
