"""Put the newest benchmark results into scripts/maintenance/README.md, between its two marks.

    python -m scripts.maintenance.benchmark.table

Reads output/benchmark/results.jsonl; of several figures for one thing the last one counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from inference.common.terminal import plain_output
from inference.runs.shards import atomic_write
from scripts.maintenance.benchmark.measure import REPOSITORY, RESULTS

START, END = "<!-- benchmark: written by scripts.maintenance.benchmark.table -->", "<!-- end of benchmark -->"


def table(rows: list[dict]) -> str:
    """Markdown of the last figure for each thing, with the machine."""
    last = {(row["part"], row["what"]): row for row in rows}
    machines = sorted({row["machine"] for row in last.values()})
    lines = [f"Measured on: {'; '.join(machines)}.", "", "| what | result | command |", "| --- | --- | --- |"]
    for (part, what), row in last.items():
        lines.append(f"| {part}: {what} | {row['result']} | `{row['command']}` |")
    return "\n".join(lines)


def replaced(readme: str, text: str) -> str:
    """The text of a README with what stands between its marks replaced.

    Raises:
        ValueError: when the marks are not there once each, in order.
    """
    if readme.count(START) != 1 or readme.count(END) != 1 or readme.index(START) > readme.index(END):
        raise ValueError(f"expected {START} and {END} once each in the README of maintenance")
    head, rest = readme.split(START)
    return f"{head}{START}\n{text}\n{END}{rest.split(END)[1]}"


def main() -> None:
    plain_output()
    if not RESULTS.is_file():
        sys.exit(f"{RESULTS}: no such file. Run bash scripts/maintenance/benchmark/run.sh")
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    path: Path = REPOSITORY / "scripts" / "maintenance" / "README.md"
    text = replaced(path.read_text(encoding="utf-8"), table(rows))
    with atomic_write(path) as handle:
        handle.write(text)
    print(f"{path}: {len({(row['part'], row['what']) for row in rows})} figures")


if __name__ == "__main__":
    main()
