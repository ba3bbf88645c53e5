"""Evaluation against the published procedure's three passes: whole processes, start-up included.

    python -m scripts.benchmark.evaluation --rows 8032 80000 800000
    python -m scripts.benchmark.evaluation --rows 1000000 --alone       # only ours, everything it does

Made-up results (``made_up``). Ours is timed twice: for the published tables alone
(``--n_resamples 0 --no_plots``, though it also computes every corrected figure), and with 1,000
resamples and all figures. Both sides must print the same published tables, which is checked.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from scripts.benchmark.made_up import write_results
from scripts.benchmark.measure import in_turns, record, run

COMMAND = "python -m scripts.benchmark.evaluation"


def check_same_tables(theirs: Path, ours: Path) -> None:
    """Stop when the two sides do not print the same published tables."""
    for name, log in (("metric.txt", "metric.log"), ("metric_conf.txt", "metric_conf.log")):
        if (theirs / name).read_bytes() not in (ours / log).read_bytes():
            sys.exit(f"the published procedure's {name} does not stand in {log}")
    if (theirs / "thresholds.tsv").read_bytes() != (ours / "thresholds.tsv").read_bytes():
        sys.exit("the two sides' thresholds.tsv differ")


def measure_rows(rows: int, rounds: int, folder: Path) -> None:
    """Time both sides on so many results and record the ratios."""
    source = folder / "results.jsonl"
    write_results(source, rows)
    peaks: dict[str, int] = {}

    def side(name: str, *command: str):
        def once() -> float:
            seconds, peak = run([sys.executable, "-m", *command])
            peaks[name] = max(peaks.get(name, 0), peak)
            return seconds

        return once

    def ours(*options: str) -> tuple[str, ...]:
        read = ("--input_file", str(source), "--output_dir", str(folder / "ours"))
        return ("inference.evaluate", *read, "--quiet", *options)

    times = in_turns(
        {
            "published": side(
                "published", "scripts.benchmark.published_evaluation", str(source), str(folder / "theirs")
            ),
            "tables": side("tables", *ours("--n_resamples", "0", "--no_plots")),
            "all": side("all", *ours()),
        },
        rounds,
    )
    check_same_tables(folder / "theirs", folder / "ours")
    for name, what in (("tables", "published and corrected tables"), ("all", "with 1,000 resamples and all figures")):
        record(
            "evaluation",
            f"{rows:,} results, {what}",
            f"{times['published'] / times[name]:.1f} × the published procedure ({times[name]:.1f} s, "
            f"{peaks[name] / 2**20:,.0f} MiB; published {times['published']:.1f} s, "
            f"{peaks['published'] / 2**20:,.0f} MiB)",
            f"{COMMAND} --rows {rows}",
        )


def measure_alone(rows: int, folder: Path) -> None:
    """Time ours with everything it does, and record it."""
    source = folder / "results.jsonl"
    write_results(source, rows)
    read = ("--input_file", str(source), "--output_dir", str(folder / "ours"))
    seconds, peak = run([sys.executable, "-m", "inference.evaluate", *read, "--quiet"])
    what = f"{rows:,} results, with 1,000 resamples and all figures"
    record("evaluation", what, f"{seconds:.1f} s, {peak / 2**20:,.0f} MiB", f"{COMMAND} --rows {rows} --alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[8032, 80_000, 800_000])
    parser.add_argument("--rounds", type=int, default=3, help="at 8,032 rows; one round beyond 100,000")
    parser.add_argument("--alone", action="store_true", help="ours only, without the published procedure")
    args = parser.parse_args()
    for rows in args.rows:
        folder = Path(tempfile.mkdtemp(prefix="evaluation_benchmark_"))
        try:
            if args.alone:
                measure_alone(rows, folder)
            else:
                measure_rows(rows, args.rounds if rows <= 100_000 else 1, folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
