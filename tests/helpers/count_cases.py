"""Counts of the faults and of the bad input that the tests try, and what became of them, as the README's tables.

    python tests/count_cases.py

Faults are those of the last ``bash scripts/test.sh`` and ``bash scripts/test.sh -m faults``, which keep what they
tried in output/faults.jsonl. Every case of bad input is read here, through the project's own readers.
Executions of the fuzzers are taken from the logs of the last ``bash scripts/fuzz.sh``.
"""

import json
import re
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO), str(REPO / "tests")]

from bad_images import IMAGE_CASES, write_images  # noqa: E402
from bad_records import RECORD_CASES, write_cases  # noqa: E402
from bad_responses import LABELS, RESPONSE_CASES, a_response  # noqa: E402

from inference.images import ImageError, ImageSource  # noqa: E402
from inference.protocols import prediction_table  # noqa: E402
from inference.vecbench import Record, read_records  # noqa: E402


def records(folder: Path) -> tuple[int, int, int]:
    """(tried, usable, errors); the file begins with a good line that is no case."""
    items = list(read_records(write_cases(folder / "cases.jsonl")))[1:]
    usable = sum(isinstance(item, Record) for item in items)
    return len(RECORD_CASES), usable, len(items) - usable


def images(folder: Path) -> tuple[int, int, int]:
    source, ends = ImageSource([write_images(folder)]), Counter()
    for case in IMAGE_CASES:
        try:
            source.load(case.name)
            ends["usable"] += 1
        except ImageError:
            ends["errors"] += 1
    return len(IMAGE_CASES), ends["usable"], ends["errors"]


def responses() -> tuple[int, int, int]:
    """A response is never refused: it is well-formed, or counts as what it lacks."""
    base = {"task": "EmoSet-8", "candidates": LABELS, "ground_truth": "awe"}
    table = prediction_table({**base, "response": text} for text in RESPONSE_CASES.values())
    assert prediction_table([{**base, "response": a_response()}])["well_formed"].all()
    well_formed = int(table["well_formed"].sum())
    return len(RESPONSE_CASES), well_formed, len(table) - well_formed


def executions() -> dict[str, tuple[int, int]]:
    """target → (executions, inputs that broke it), of the last fuzzing's logs and of what it kept."""
    work, found = REPO / "output" / "fuzz", {}
    for log in sorted(work.glob("*.log")):
        broke = sum(not path.name.endswith(".log") for path in work.glob(f"{log.stem}-*-*"))
        done = re.search(r"^Done (\d+) runs", log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        found[log.stem] = (int(done[1]) if done else 0), broke
    return found


def faults() -> dict[str, tuple[int, int, bool]]:
    """kind → (tried, samples lost, whether samples were counted); the newest of each test counts."""
    path = REPO / "output" / "faults.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    found: dict[str, tuple[int, int, bool]] = {}
    for row in {(row["test"], row["kind"]): row for row in rows}.values():
        tried, lost, counted = found.get(row["kind"], (0, 0, False))
        found[row["kind"]] = tried + row["tried"], lost + (row["lost"] or 0), counted or row["lost"] is not None
    return found


def main() -> int:
    warnings.simplefilter("ignore")  # Pillow's, of broken EXIF blocks
    lost = 0
    print("| fault | tried | samples lost |\n| --- | --- | --- |")
    for name, (tried, of_samples, counted) in sorted(faults().items(), key=lambda item: -item[1][0]):
        lost += of_samples
        print(f"| {name} | {tried} | {of_samples if counted else '–'} |")
    print()
    print("| bad input | tried | usable | an error or malformed | lost |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "images").mkdir()
        counts = {
            "lines of a data file": records(Path(folder)),
            "image files": images(Path(folder) / "images"),
            "responses": responses(),
        }
    for name, (tried, usable, errors) in counts.items():
        lost += tried - usable - errors
        print(f"| {name} | {tried} | {usable} | {errors} | {tried - usable - errors} |")
    for name, (runs, broke) in executions().items():
        lost += broke
        print(f"| fuzzing: {name} | {runs:,} executions | | {broke} broke it | |")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
