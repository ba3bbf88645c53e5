"""Which image goes to which stage: the published rows by source, quotas, and the assignment.

    from scripts.build_vec_cot.stages import assign_stages, quotas
    quotas("EmoSet-8", 1000)    # [601, 299, 100]

A source is a task of VECBench (``EmoSet-8``); tasks made from one dataset share its images. So
images are assigned, not rows, and a source's rows follow their images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

STAGES = (1, 2, 3)

# VEC-CoT's rows in stages 1, 2 and 3 by source, as the paper gives them.
PUBLISHED_ROWS = {
    "EmoSet-8": (30_022, 14_921, 4_996),
    "WebEmo-25": (12_371, 6_095, 2_052),
    "WebEmo-7": (15_552, 7_806, 2_707),
    "FI-8": (3_516, 1_761, 544),
    "WebEmo-2": (21_298, 10_587, 3_485),
    "FI-2": (3_308, 1_773, 562),
}
# The paper's totals. Its sources add up to 42,943 in stage 2: 90 rows less than it says.
PUBLISHED_TOTAL = (86_067, 43_033, 14_346)


def in_proportion(weights: Sequence[int], count: int) -> list[int]:
    """``count`` shared out in whole numbers; the largest remainders get one more, of equal ones the first."""
    total = sum(weights)
    shares = [count * n // total for n in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: count * weights[i] % total, reverse=True)
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    return shares


def quotas(source: str, count: int) -> list[int]:
    """How many of ``count`` rows each stage gets: as the source's published rows, or, without any, those of all."""
    return in_proportion(PUBLISHED_ROWS.get(source, PUBLISHED_TOTAL), count)


def assign_stages(groups: Mapping[str, Counter[str]]) -> dict[str, int]:
    """A stage for each group of like images, so that every source comes as near its quotas as groups allow.

    The groups come in order: those with most rows first, then by name. Each goes to the stage that
    is furthest from its quotas in the sources that the group has rows of. A source whose images
    have one row each meets its quotas exactly. Where one image has rows in several sources (WebEmo's
    and FI's do), these move together, and a source may miss a quota by about as much as the
    sources' proportions differ, which is less than one in a hundred of its rows.

    Args:
        groups: name of a group → its rows by source.

    Returns:
        name of a group → 1, 2 or 3.
    """
    in_all: Counter[str] = Counter()
    for rows in groups.values():
        in_all.update(rows)
    quota = {source: quotas(source, count) for source, count in in_all.items()}
    left = {source: list(counts) for source, counts in quota.items()}
    assigned = {}
    for name in sorted(groups, key=lambda name: (-groups[name].total(), name)):
        rows = groups[name]

        def need(stage: int, rows: Counter[str] = rows) -> float:
            return sum(
                n * left[source][stage - 1] / max(1, quota[source][stage - 1]) for source, n in sorted(rows.items())
            )

        stage = max(STAGES, key=need)
        for source, n in rows.items():
            left[source][stage - 1] -= n
        assigned[name] = stage
    return assigned
