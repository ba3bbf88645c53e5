"""Size of report.html and the time to make it, with and without the small copies at hand.

    python -m scripts.maintenance.benchmark.report --rows 8032

Made-up results over 2,000 photographs of 640 × 480.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from inference.common.terminal import plain_output
from inference.data.vecbench import read_lines
from inference.runs.shards import atomic_write, to_line
from scripts.maintenance.benchmark.made_up import PHOTOGRAPHS, draw_photographs, write_results
from scripts.maintenance.benchmark.measure import record, run


def write_run(folder: Path, rows: int) -> None:
    """An evaluated run of so many rows whose images exist."""
    draw_photographs(folder / "images")
    write_results(folder / "all.jsonl", rows)
    with atomic_write(folder / "results.jsonl") as handle:
        for _, row, _ in read_lines(folder / "all.jsonl"):
            row["conversations"][0]["content"][0]["image"] = f"images/{row['position'] % PHOTOGRAPHS}.jpg"
            handle.write(to_line(row) + "\n")
    source = ["--input_file", str(folder / "results.jsonl"), "--output_dir", str(folder / "run")]
    run([sys.executable, "-m", "inference.evaluate", *source, "--quiet"])


def main() -> None:
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8032)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="report_benchmark_"))
    try:
        write_run(folder, args.rows)
        where = ["--output_path", str(folder / "run"), "--data_path", str(folder / "results.jsonl")]
        command = [sys.executable, "-m", "inference.report", *where]
        (first, peak), (second, _) = run(command), run(command)
        size = (folder / "run" / "report.html").stat().st_size / 2**20
        record(
            "report",
            f"report.html of {args.rows:,} samples, {PHOTOGRAPHS:,} photographs",
            f"{size:.0f} MiB in {first:.1f} s, again in {second:.1f} s ({peak / 2**20:,.0f} MiB)",
            f"python -m scripts.maintenance.benchmark.report --rows {args.rows}",
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
