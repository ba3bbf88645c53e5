"""What the turns of a record come to: medians, ratios, shares of the matrix rate, and the table of them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from scripts.maintenance.benchmark.variants import BARE, OURS, SINGLE, Variant


def joined(results: list[dict[str, Any]]) -> dict[str, Any]:
    """One turn of several engines that worked at the same time."""
    seconds = max(one["end"] for one in results) - min(one["start"] for one in results)
    counts = ("requests", "prompt_tokens", "image_tokens", "output_tokens", "of_other_length", "operations")
    total = {name: sum(one[name] for one in results) for name in counts}
    memory = [one["memory_mib"] for one in results if one["memory_mib"] is not None]
    return {
        "seconds": seconds,
        **total,
        "requests_per_second": total["requests"] / seconds,
        "output_tokens_per_second": total["output_tokens"] / seconds,
        "operations_per_second": total["operations"] / seconds,
        "adding_ms_per_request": 1000 * sum(one["adding_seconds"] for one in results) / total["requests"],
        "memory_mib": max(memory, default=None),
    }


def summaries(record: dict[str, Any], variants: list[Variant]) -> list[dict[str, Any]]:
    """One row per variant that was measured; the medians over its rounds."""
    rows, work = [], {variant.name: variant.work for variant in variants}
    single = [turn for engine in record["engines"] for turn in engine["turns"] if turn["side"] == SINGLE]
    for engine in record["engines"]:
        by_side, bare_of = defaultdict(list), defaultdict(list)
        for turn in engine["turns"]:
            by_side[turn["variant"], turn["side"]].append(turn)
            if turn["side"] == BARE:
                bare_of[work[turn["variant"]]].append(turn)
        for name in dict.fromkeys(variant for variant, side in by_side if side == OURS):
            ours, bare = by_side[name, OURS], bare_of[work[name]]
            row = {
                "variant": name,
                "requests_per_second": _median(ours, "requests_per_second"),
                "output_tokens_per_second": _median(ours, "output_tokens_per_second"),
                "bare_requests_per_second": _median(bare, "requests_per_second"),
                "single_requests_per_second": _median(single, "requests_per_second"),
                "share_of_matrix_rate": None,
                "bare_share_of_matrix_rate": None,
                "memory_mib": engine["memory_mib"],
                "start_seconds": sum(engine["start_seconds"]),
            }
            # Requests that share an image need fewer operations than counted here.
            if record["matrix_rate"] and work[name][0] == 1:
                for side, turns in (("", ours), ("bare_", bare)):
                    reached = _median(turns, "operations_per_second")
                    row[f"{side}share_of_matrix_rate"] = reached and reached / record["matrix_rate"]
            rows.append(row)
    return rows


def _median(turns: list[dict[str, Any]], name: str) -> float | None:
    return statistics.median(turn[name] for turn in turns) if turns else None


def table(record: dict[str, Any]) -> str:
    """The Markdown table of scripts/maintenance/README.md."""

    def shown(value: float | None, form: str, scale: float = 1) -> str:
        return "–" if value is None else format(value * scale, form)

    def ratio(above: float, below: float | None, form: str) -> str:
        return "–" if not below else f"{format(above / below, form)} ×"

    lines = [
        "| variant | requests/s | output tokens/s | bare engine, requests/s | ours / bare | ours / single "
        "| share of matrix rate, ours and bare | GPU memory | engine start |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["summary"]:
        ours, bare, single = (row[f"{side}requests_per_second"] for side in ("", "bare_", "single_"))
        shares = [shown(row[f"{side}share_of_matrix_rate"], ".1f", 100) for side in ("", "bare_")]
        cells = [
            row["variant"],
            shown(ours, ".2f"),
            shown(row["output_tokens_per_second"], ",.0f"),
            shown(bare, ".2f"),
            ratio(ours, bare, ".3f"),
            ratio(ours, single, ".1f"),
            f"{shares[0]} and {shares[1]} %" if shares[0] != "–" else "–",
            f"{row['memory_mib'] / 1024:.1f} GiB" if row["memory_mib"] else "–",
            f"{row['start_seconds']:.0f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def heading(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version)
    rate = record["matrix_rate"]
    measured = f"matrix product {rate / 1e12:.4g} TFLOP/s; " if rate else ""
    card = ", driver ".join(filter(None, (record["card"]["name"], record["card"].get("driver"))))
    return f"{record['what']}; {card}; {measured}{versions}"
